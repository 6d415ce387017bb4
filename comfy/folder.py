"""The files of the workflows folder: read, and changed whole or not at all. Slow: for a thread.

`NAME.json` is a graph, `NAME.yaml` beside it what people decided. What is replaced or removed goes
to `.earlier/NAME/MOMENT.json`, ten versions of each.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from comfy.errors import LibraryError, WorkflowFileError
from comfy.graph import Graph
from comfy.phrases import say
from comfy.workflow import Sidecar, Workflow, check_name, dump_sidecar, fitting, parse_sidecar
from comfy.workflow_file import JSON_MAX, read

_EARLIER = ".earlier"
_EARLIER_MAX = 10
_MOMENT = "%Y%m%dT%H%M%S.%fZ"


def read_workflow(path: Path, name: str = "") -> Workflow:
    """One file and its sidecar. `utf-8-sig` as some editors on Windows write a mark in front."""
    name = check_name(name or path.stem)
    file = read(path.read_bytes())
    if file.graph is None:
        raise WorkflowFileError(
            say(
                "is in the editor's format. Add it in Discord with /workflow add, or make API "
                "format of it with `comfycord convert`."
            )
        )
    beside = path.with_suffix(".yaml")
    return Workflow.of(name, file.graph, _read_sidecar(beside) if beside.exists() else None)


def _read_sidecar(path: Path) -> Sidecar:
    try:
        return parse_sidecar(path.read_text("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise WorkflowFileError(say("has a sidecar that is not UTF-8 text.")) from error


def read_earlier(folder: Path) -> dict[str, tuple[datetime, ...]]:
    """The moments at which versions were put away, newest first, by name."""
    found: dict[str, list[datetime]] = {}
    for path in sorted((folder / _EARLIER).glob("*/*.json"), reverse=True):
        with contextlib.suppress(ValueError):
            moment = datetime.strptime(path.stem, _MOMENT).replace(tzinfo=UTC)
            found.setdefault(path.parent.name, []).append(moment)
    return {name: tuple(moments) for name, moments in sorted(found.items())}


class Added(NamedTuple):
    """*before*: what was replaced, None if that was broken; *dropped*: the parameters whose
    settings the new graph does not take."""

    replaced: bool
    before: Workflow | None
    dropped: list[str]


class Folder:
    """Every change either succeeds, or raises and leaves every byte as it was.

    `LibraryError` and `WorkflowFileError` are worded for a moderator.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, name: str, graph: Graph, *, replace: bool) -> Added:
        check_name(name)
        self._refuse_twin(name)
        exists = self._file(name).exists()
        if exists and not replace:
            raise LibraryError(
                say("There is a workflow named {name} already. Set `replace`.", name=name)
            )
        before, sidecar, dropped = None, Sidecar(), list[str]()
        if exists:
            sidecar = self._kept_settings(name)
            with contextlib.suppress(WorkflowFileError):
                before = read_workflow(self._file(name))
            sidecar, dropped = fitting(graph, sidecar)
        else:
            self._refuse_lonely(name)
        Workflow.of(name, graph, sidecar)
        with _changes() as changes:
            if exists:
                self._keep(changes, name)
            self._write(changes, name, graph, sidecar)
        return Added(exists, before, dropped)

    def configure(
        self, name: str, change: Callable[[Workflow], Sidecar]
    ) -> tuple[Workflow, Workflow]:
        """Before and after *change*, which sees the workflow as it is on the disk now."""
        before = self.workflow(name)
        after = Workflow.of(name, before.graph, change(before))
        with _changes() as changes:
            self._write(changes, name, None, after.sidecar)
        return before, after

    def rename(self, name: str, new: str) -> None:
        check_name(new)
        self.workflow(name)
        if new == name:
            raise LibraryError(say("{name} is its name already.", name=name))
        other_case = new.casefold() == name.casefold()
        if not other_case:
            if self._file(new).exists():
                raise LibraryError(say("There is a workflow named {name} already.", name=new))
            self._refuse_twin(new)
            self._refuse_lonely(new)
            earlier = read_earlier(self.path)
            if new in earlier or _twin(new, earlier):
                raise LibraryError(
                    say("A removed workflow was named {name}. Take another name.", name=new)
                )
        with _changes() as changes:
            for suffix in ("yaml", "json"):  # the limits first: a graph is never without them
                if self._file(name, suffix).exists():
                    changes.put(self._file(new, suffix), self._file(name, suffix).read_bytes())
            for suffix in ("json", "yaml"):
                changes.drop(self._file(name, suffix), unless=self._file(new, suffix))
            for path in sorted(self._earlier(name).glob("*")):
                changes.put(self._earlier(new) / path.name, path.read_bytes())
                changes.drop(path, unless=self._earlier(new) / path.name)

    def remove(self, name: str) -> Workflow | None:
        """What it was; `restore` brings it back."""
        check_name(name)
        if not self._file(name).exists():
            raise LibraryError(say("There is no workflow named {name}.", name=name))
        before = None
        with contextlib.suppress(WorkflowFileError):
            before = read_workflow(self._file(name))
        with _changes() as changes:
            self._keep(changes, name)
            changes.drop(self._file(name))
            changes.drop(self._file(name, "yaml"))
        return before

    def restore(
        self, name: str, moment: datetime | None
    ) -> tuple[Workflow | None, Workflow, datetime]:
        """What was there, what is there now, and when that was put away. None: the newest."""
        moments = read_earlier(self.path).get(name, ())
        chosen = moment or next(iter(moments), None)
        if chosen is None or chosen not in moments:
            raise LibraryError(say("There is no such earlier version of {name}.", name=name))
        check_name(name)
        self._refuse_twin(name)
        path = self._earlier(name) / f"{chosen.strftime(_MOMENT)}.json"
        after, before = read_workflow(path, name), None
        with _changes() as changes:
            if self._file(name).exists():
                with contextlib.suppress(WorkflowFileError):
                    before = read_workflow(self._file(name))
                self._keep(changes, name, besides=path)
            self._write(changes, name, after.graph, after.sidecar)
            changes.drop(path)
            changes.drop(path.with_suffix(".yaml"))
        return before, after, chosen

    def workflow(self, name: str) -> Workflow:
        check_name(name)
        try:
            return read_workflow(self._file(name))
        except FileNotFoundError as error:
            raise LibraryError(say("There is no workflow named {name}.", name=name)) from error

    def _file(self, name: str, suffix: str = "json") -> Path:
        return self.path / f"{name}.{suffix}"

    def _earlier(self, name: str) -> Path:
        return self.path / _EARLIER / name

    def _refuse_twin(self, name: str) -> None:
        """Letters' case aside: some file systems know no other difference."""
        twin = _twin(name, (path.stem for path in self.path.glob("*.json")))
        if twin is not None:
            raise LibraryError(
                say("There is a workflow named {name}; only its case differs.", name=twin)
            )

    def _refuse_lonely(self, name: str) -> None:
        if self._file(name, "yaml").exists():
            raise LibraryError(
                say(
                    "{name}.yaml lies in the folder without a workflow, and would count for this "
                    "one. The owner must take it away first.",
                    name=name,
                )
            )

    def _kept_settings(self, name: str) -> Sidecar:
        """Of a workflow that is replaced: broken ones must not open it to everybody."""
        path = self._file(name, "yaml")
        try:
            return _read_sidecar(path) if path.exists() else Sidecar()
        except WorkflowFileError as error:
            raise LibraryError(
                say(
                    "{name} {problem} Its limits would be lost: mend {name}.yaml, or remove "
                    "{name}.",
                    name=name,
                    problem=error.args[0],
                )
            ) from error

    def _keep(self, changes: "_Changes", name: str, *, besides: Path | None = None) -> None:
        """Put the present version away; of more than ten the oldest go."""
        folder, moment = self._earlier(name), datetime.now(UTC).strftime(_MOMENT)
        for suffix in ("yaml", "json"):  # the graph last: without it there is no version
            if self._file(name, suffix).exists():
                changes.put(folder / f"{moment}.{suffix}", self._file(name, suffix).read_bytes())
        others = [path for path in sorted(folder.glob("*.json"), reverse=True) if path != besides]
        for old in others[_EARLIER_MAX - 1 :]:
            changes.drop(old)
            changes.drop(old.with_suffix(".yaml"))

    def _write(self, changes: "_Changes", name: str, graph: Graph | None, sidecar: Sidecar) -> None:
        """Limits come before the graph and go after it: at no moment is it open without them."""
        text = dump_sidecar(sidecar)
        if text:
            changes.put(self._file(name, "yaml"), text.encode())
        if graph is not None:
            changes.put(self._file(name), _encoded(graph))
        if not text:
            changes.drop(self._file(name, "yaml"))


def _encoded(graph: Graph) -> bytes:
    """Readable, if it then may still be read."""
    try:
        data = json.dumps(graph, ensure_ascii=False, indent=2).encode()
    except UnicodeEncodeError as error:
        raise WorkflowFileError(say("holds a broken letter.")) from error
    if len(data) <= JSON_MAX:
        return data
    return json.dumps(graph, ensure_ascii=False, separators=(",", ":")).encode()


def _twin(name: str, names: Iterator[str] | dict[str, tuple[datetime, ...]]) -> str | None:
    return next((n for n in names if n != name and n.casefold() == name.casefold()), None)


class _Changes:
    """Steps in order. New files are complete beside their places before any is taken."""

    def __init__(self) -> None:
        self._steps: list[tuple[Path, Path | None]] = []
        self._made: list[Path] = []

    def put(self, path: Path, data: bytes) -> None:
        for folder in (path.parent.parent, path.parent):
            if _EARLIER in folder.parts and not folder.exists():
                folder.mkdir()
                self._made.append(folder)
        new = path.with_name(f".{path.name}.new")
        self._steps.append((path, new))
        with new.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def drop(self, path: Path, *, unless: Path | None = None) -> None:
        """*unless*: the same file by another name, where case does not count."""
        same = unless is not None and path.name.casefold() == unless.name.casefold()
        if path.exists() and not (same and unless is not None and unless.exists()):
            self._steps.append((path, None))

    def commit(self) -> None:
        done: list[tuple[Path, bytes | None]] = []
        try:
            for path, new in self._steps:
                before = path.read_bytes() if path.exists() else None
                if new is None:
                    path.unlink()
                else:
                    new.replace(path)
                done.append((path, before))
        except OSError:  # such as a file that another program holds open, on Windows
            for path, before in reversed(done):
                if before is None:
                    path.unlink(missing_ok=True)
                else:
                    path.write_bytes(before)
            raise

    def undo(self) -> None:
        for _, new in self._steps:
            if new is not None:
                new.unlink(missing_ok=True)
        for folder in reversed(self._made):
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextmanager
def _changes() -> Iterator[_Changes]:
    changes = _Changes()
    try:
        yield changes
        changes.commit()
    except BaseException:
        changes.undo()
        raise
