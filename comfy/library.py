"""The workflows folder: `NAME.json` is a graph, `NAME.yaml` beside it says what people decided.

Changes on disk are picked up. A file that breaks keeps its last good version and says why.
"""

import asyncio
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pydantic
import yaml

from comfy.errors import ParameterError, WorkflowFileError
from comfy.graph import Graph, InputRef, as_link, parse_graph
from comfy.nodes import NodeTypes
from comfy.parameters import Parameter, Role, discover, type_of, typed
from comfy.values import coerce, coerce_guessed

log = logging.getLogger(__name__)

_NAME = re.compile(r"[^\W_][\w .()+-]{0,99}")
_POLL = 2.0
# The bot finds these by their names: for the prompt, a random seed, the largest picture.
_NEEDED = (Role.TEXT, Role.SEED, Role.WIDTH, Role.HEIGHT, Role.BATCH)


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)


class ParameterSettings(_Strict):
    """What a sidecar says of one parameter. Without *targets* it refines a discovered one."""

    targets: list[tuple[str, str]] = pydantic.Field(default_factory=list)
    default: str | int | float | bool | None = None
    min: int | float | None = None
    max: int | float | None = None
    description: str = ""


class Sidecar(_Strict):
    """`NAME.yaml`: everything is optional."""

    title: str = ""
    description: str = ""
    parameters: dict[str, ParameterSettings] = pydantic.Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Workflow:
    name: str
    graph: Graph
    sidecar: Sidecar = field(default_factory=Sidecar)
    notes: tuple[str, ...] = ()
    _parameters: Mapping[str, Parameter] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, graph: Graph, sidecar: Sidecar | None = None) -> "Workflow":
        """Discovers the parameters; an error where the sidecar names what is not there."""
        sidecar = sidecar or Sidecar()
        try:
            found = discover(graph)
        except RecursionError as error:
            raise WorkflowFileError("chains too many nodes to follow its links.") from error
        declared = {
            each: _declared(graph, each, settings)
            for each, settings in sidecar.parameters.items()
            if settings.targets
        }
        covered = {ref for each in declared.values() for ref in each.targets}

        def taken(parameter: Parameter) -> bool:
            """Or a limit of the sidecar could be passed under the discovered name."""
            return bool(covered & set(parameter.targets))

        left = {
            each: replace(parameter, targets=free)
            for each, parameter in found.parameters.items()
            if (free := tuple(ref for ref in parameter.targets if ref not in covered))
        }
        for role in _NEEDED:
            if role in found.parameters and role not in declared and taken(found.parameters[role]):
                raise WorkflowFileError(
                    f"has a sidecar that gives the {role} another name: call it '{role}'."
                )
        parameters = {
            **declared,
            **{k: v for k, v in left.items() if k not in declared},
        }
        if unknown := sidecar.parameters.keys() - parameters.keys():
            raise WorkflowFileError(
                f"has a sidecar that refines {min(unknown)!r}, which was not found: add targets."
            )
        for each, settings in sidecar.parameters.items():
            _check_settings(_limited(parameters[each], settings), settings)
        notes = () if Role.TEXT in declared else found.notes
        return cls(name, graph, sidecar, notes, parameters)

    @property
    def title(self) -> str:
        return self.sidecar.title or self.name

    def parameters(self, nodes: NodeTypes) -> dict[str, Parameter]:
        """By name, with the servers' types and ranges and the sidecar's narrower ones."""
        return {
            name: _limited(typed(each, self.graph, nodes), self.sidecar.parameters.get(name))
            for name, each in self._parameters.items()
        }


def _declared(graph: Graph, name: str, settings: ParameterSettings) -> Parameter:
    refs = [InputRef(*target) for target in settings.targets]
    for ref in refs:
        if ref.node_id not in graph or ref.name not in graph[ref.node_id]["inputs"]:
            raise WorkflowFileError(f"has a sidecar that sets {ref}, which is not in the graph.")
        if as_link(graph[ref.node_id]["inputs"][ref.name]):
            raise WorkflowFileError(f"has a sidecar that sets {ref}, which is linked to a node.")
    role = Role(name) if name in set(Role) else Role.OTHER
    value = graph[refs[0].node_id]["inputs"][refs[0].name]
    return Parameter(name, role, tuple(refs), type_of(value), value)


def _limited(parameter: Parameter, settings: ParameterSettings | None) -> Parameter:
    if settings is None:
        return parameter
    lows = [each for each in (parameter.min, settings.min) if each is not None]
    highs = [each for each in (parameter.max, settings.max) if each is not None]
    return replace(
        parameter,
        min=max(lows, default=None),
        max=min(highs, default=None),
        default=parameter.default if settings.default is None else settings.default,
        description=settings.description,
    )


def _check_settings(parameter: Parameter, settings: ParameterSettings) -> None:
    name, low, high = parameter.name, settings.min, settings.max
    if low is not None and high is not None and low > high:
        raise WorkflowFileError(f"has a sidecar with a min above the max of {name}.")
    if settings.default is not None:
        try:
            (coerce_guessed if settings.targets else coerce)(parameter, settings.default)
        except ParameterError as error:
            raise WorkflowFileError(f"has a sidecar with a wrong default: {error}") from error


def parse_sidecar(text: str) -> Sidecar:
    try:
        data: Any = yaml.safe_load(text)
        return Sidecar.model_validate({} if data is None else data, strict=False)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        if first["type"] == "extra_forbidden":
            raise WorkflowFileError(f"has a sidecar with an unknown key `{key}`.") from error
        raise WorkflowFileError(f"has a sidecar with a wrong {key}: {first['msg']}.") from error
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        # not only YAMLError: a date that does not exist, a tag whose value does not fit
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise WorkflowFileError(f"has a sidecar that is not YAML{where}.") from error


_Stamp = tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    """What the last look at one file gave. *workflow* may be older than the file."""

    stamp: _Stamp
    workflow: Workflow | None
    problem: str | None = None


class Library:
    """The workflows by name, in memory; reading happens in a thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._entries: dict[str, _Entry] = {}

    @property
    def workflows(self) -> dict[str, Workflow]:
        return {name: each.workflow for name, each in self._entries.items() if each.workflow}

    @property
    def problems(self) -> dict[str, str]:
        """File name → what its owner must do."""
        return {f"{name}.json": e.problem for name, e in self._entries.items() if e.problem}

    async def refresh(self) -> None:
        """Look at the folder once."""
        entries = await asyncio.to_thread(_read_folder, self.folder, self._entries)
        changed = {
            name
            for name in entries.keys() | self._entries
            if _differs(name, entries, self._entries)
        }
        for name in sorted(changed):
            entry = entries.get(name)
            if entry is None:
                log.info("workflow %s is gone", name)
            elif entry.problem:
                kept = " Its last good version stays." if entry.workflow else ""
                log.warning("workflow %s.json %s%s", name, entry.problem, kept)
            else:
                log.info("workflow %s loaded", name)
        self._entries = entries

    async def watch(self) -> None:
        """For ever: look every two seconds. A folder that cannot be read now may be later."""
        problem = ""
        while True:
            await asyncio.sleep(_POLL)
            try:
                await self.refresh()
                problem = ""
            except OSError as error:
                if str(error) != problem:
                    log.warning("the workflows folder cannot be read: %s", error)
                problem = str(error)
            except Exception:
                log.exception("the workflows folder could not be looked at")


def _differs(name: str, now: Mapping[str, _Entry], before: Mapping[str, _Entry]) -> bool:
    one, other = now.get(name), before.get(name)
    return one is None or other is None or one.stamp != other.stamp


def _read_folder(folder: Path, known: Mapping[str, _Entry]) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    if known and not os.access(folder, os.R_OK | os.X_OK):  # `glob` would find nothing in it
        raise OSError(f"{folder} is not there or not readable")
    for path in sorted(folder.glob("*.json")):
        stamp = (_stamp(path), _stamp(path.with_suffix(".yaml")))
        before = known.get(path.stem)
        entries[path.stem] = (
            before if before and before.stamp == stamp else _read(path, stamp, before)
        )
    return entries


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def _read(path: Path, stamp: _Stamp, before: _Entry | None) -> _Entry:
    try:
        return _Entry(stamp, read_workflow(path))
    except WorkflowFileError as error:
        return _Entry(stamp, before.workflow if before else None, str(error))
    except OSError as error:
        problem = f"cannot be read ({error.strerror})."
        return _Entry(stamp, before.workflow if before else None, problem)


def read_workflow(path: Path) -> Workflow:
    """One file and its sidecar. `utf-8-sig` as some editors on Windows write a mark in front."""
    if not _NAME.fullmatch(path.stem):
        raise WorkflowFileError("has a name that cannot be typed in Discord. Rename the file.")
    try:
        graph = parse_graph(path.read_text("utf-8-sig"))
        beside = path.with_suffix(".yaml")
        sidecar = parse_sidecar(beside.read_text("utf-8-sig")) if beside.exists() else None
    except UnicodeDecodeError as error:
        raise WorkflowFileError("is not UTF-8 text.") from error
    return Workflow.of(path.stem, graph, sidecar)
