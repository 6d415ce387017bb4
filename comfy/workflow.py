"""A workflow: a named graph, what people may set in it, and what moderators decided. Pure."""

import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import pydantic
import yaml

from comfy.discovery import Discovery, discover
from comfy.errors import ParameterError, WorkflowFileError
from comfy.graph import Graph, InputRef, as_link
from comfy.nodes import NodeTypes, Number
from comfy.parameters import FILES, Parameter, Role, type_of, typed
from comfy.phrases import say
from comfy.tracing import Output
from comfy.values import coerce, coerce_guessed

NAME_MAX = 100  # Discord's limit for what an autocomplete answers
_NAME = re.compile(rf"[^\W_][\w .()+-]{{0,{NAME_MAX - 1}}}")
_RESERVED = re.compile(r"(con|prn|aux|nul|(com|lpt)[\d¹²³])(\..*)?", re.IGNORECASE)  # by Windows
_SIDECAR_MAX = 64 * 2**10  # bytes
# The bot finds these by their names: for the prompt, a random seed, the largest picture.
_NEEDED = (Role.TEXT, Role.SEED, Role.WIDTH, Role.HEIGHT, Role.BATCH)


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)


def _is_number(value: object) -> object:
    if isinstance(value, bool):  # YAML's `no`, which pydantic takes for 0
        raise ValueError("takes a number")
    return value


_Limit = Annotated[int | pydantic.FiniteFloat | None, pydantic.BeforeValidator(_is_number)]


class ParameterSettings(_Strict):
    """What a sidecar says of one parameter. Without *targets* it refines a discovered one."""

    targets: list[tuple[str, str]] = pydantic.Field(default_factory=list)
    default: str | int | float | bool | None = None
    min: _Limit = None
    max: _Limit = None
    description: str = ""
    hidden: bool = False


class Allowed(_Strict):
    """Ids of Discord's; an empty list is everybody, or everywhere."""

    roles: list[int] = pydantic.Field(default_factory=list)
    channels: list[int] = pydantic.Field(default_factory=list)


class Sidecar(_Strict):
    """`NAME.yaml`: everything is optional."""

    title: str = ""
    description: str = ""
    enabled: bool = True
    keep_metadata: bool = False
    nsfw: bool = False
    spoiler: bool = False
    allow: Allowed = Allowed()
    parameters: dict[str, ParameterSettings] = pydantic.Field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Workflow:
    """*notes*: what discovery could not know."""

    name: str
    graph: Graph
    sidecar: Sidecar = field(default_factory=Sidecar)
    notes: tuple[str, ...] = ()
    outputs: tuple[Output, ...] = ()
    _parameters: Mapping[str, Parameter] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        name: str,
        graph: Graph,
        sidecar: Sidecar | None = None,
        found: Discovery | None = None,
    ) -> "Workflow":
        """An error where the sidecar names what is not there. *found*: if it was discovered."""
        sidecar = sidecar or Sidecar()
        found = found or discover(graph)
        declared = {
            each: _declared(graph, each, settings)
            for each, settings in sidecar.parameters.items()
            if settings.targets
        }
        _refuse_shared(declared)
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
                    say(
                        "has a sidecar that gives the {role} another name: call it '{role}'.",
                        role=str(role),
                    )
                )
        parameters = {
            **declared,
            **{k: v for k, v in left.items() if k not in declared},
        }
        if unknown := sidecar.parameters.keys() - parameters.keys():
            raise WorkflowFileError(
                say(
                    "has a sidecar that refines {name}, which was not found: add targets.",
                    name=repr(min(unknown)),
                )
            )
        for each, settings in sidecar.parameters.items():
            _check_settings(_refined(parameters[each], settings), settings)
        notes = () if Role.TEXT in declared else found.notes
        return cls(name, graph, sidecar, notes, found.outputs, parameters)

    @property
    def title(self) -> str:
        return self.sidecar.title or self.name

    def parameters(self, nodes: NodeTypes) -> dict[str, Parameter]:
        """By name, with the servers' types and ranges and the sidecar's narrower ones."""
        return {
            name: _refined(typed(each, self.graph, nodes), self.sidecar.parameters.get(name))
            for name, each in self._parameters.items()
        }


def fitting(graph: Graph, sidecar: Sidecar) -> tuple[Sidecar, list[str]]:
    """*sidecar* without the parameters that another graph no longer takes, and their names."""
    kept: dict[str, ParameterSettings] = {}
    dropped, found = [], discover(graph)
    for name, settings in sidecar.parameters.items():
        candidate = sidecar.model_copy(update={"parameters": {**kept, name: settings}})
        try:
            Workflow.of("", graph, candidate, found)
        except WorkflowFileError:
            dropped.append(name)
        else:
            kept[name] = settings
    return sidecar.model_copy(update={"parameters": kept}), dropped


def check_name(name: str) -> str:
    """*name*, if it can be a file's on every system and be typed in Discord."""
    if not name.strip():
        raise WorkflowFileError(say("needs a name."))
    if len(name) <= NAME_MAX < len(name.encode()) / 2:
        raise WorkflowFileError(say("has a name that is too long for a file. Shorten it."))
    if len(name) > NAME_MAX:
        raise WorkflowFileError(
            say(
                "has a name of {number} characters, and {limit} is the most.",
                number=len(name),
                limit=NAME_MAX,
            )
        )
    if not _NAME.fullmatch(name) or name != name.strip(" ."):
        raise WorkflowFileError(
            say(
                "has a name that cannot be used. Take letters, digits, spaces and . - _ ( ) +, "
                "with a letter or digit in front and no dot or space at the end."
            )
        )
    if _RESERVED.fullmatch(name):
        raise WorkflowFileError(say("cannot be named {name}, which Windows reserves.", name=name))
    return name


def name_of(filename: str) -> str:
    """The nearest name that can be used, from a file's name; maybe empty."""
    stem = filename.rsplit("/")[-1].rsplit("\\")[-1].rsplit(".", 1)[0]
    letters = re.sub(r"[^\w .()+-]+|\.\.+", " ", unicodedata.normalize("NFC", stem))
    name = " ".join(letters.split()).lstrip("_ .()+-")[:NAME_MAX].rstrip(" .")
    return "" if _RESERVED.fullmatch(name) else name


def _declared(graph: Graph, name: str, settings: ParameterSettings) -> Parameter:
    refs = [InputRef(*target) for target in settings.targets]
    for ref in refs:
        if ref.node_id not in graph or ref.name not in graph[ref.node_id]["inputs"]:
            raise WorkflowFileError(
                say("has a sidecar that sets {input}, which is not in the graph.", input=str(ref))
            )
        if as_link(graph[ref.node_id]["inputs"][ref.name]):
            raise WorkflowFileError(
                say("has a sidecar that sets {input}, which is linked to a node.", input=str(ref))
            )
    kind = re.sub(r"_\d+$", "", name)  # `image_2` is an image too
    is_role = kind in set(Role) and (kind == name or Role(kind) in (*FILES, Role.LORA))
    role = Role(kind) if is_role else Role.OTHER
    value = graph[refs[0].node_id]["inputs"][refs[0].name]
    return Parameter(name, role, tuple(refs), type_of(value), value)


def _refuse_shared(declared: Mapping[str, Parameter]) -> None:
    owner: dict[InputRef, str] = {}
    for name, parameter in declared.items():
        for ref in parameter.targets:
            if owner.setdefault(ref, name) != name:
                raise WorkflowFileError(
                    say(
                        "has a sidecar in which {one} and {other} both set {input}.",
                        one=repr(owner[ref]),
                        other=repr(name),
                        input=str(ref),
                    )
                )


def limited(value: Any, kind: str, settings: ParameterSettings) -> Any:
    """A number within a moderator's limits; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    low, high = _whole(kind, settings)
    if low is not None:
        value = max(value, low)
    return value if high is None else min(value, high)


def _whole(kind: str, settings: ParameterSettings) -> tuple[Number | None, Number | None]:
    """The limits, without a fraction for whole numbers."""
    low, high = settings.min, settings.max
    if kind == "INT":
        low, high = (
            (None if low is None else math.ceil(low)),
            (None if high is None else math.floor(high)),
        )
    return low, high


def _refined(parameter: Parameter, settings: ParameterSettings | None) -> Parameter:
    if settings is None:
        return parameter
    default = settings.default
    if default is None:  # the graph's own value obeys a moderator's limits too
        default = limited(parameter.default, parameter.type, settings)
    low, high = _whole(parameter.type, settings)
    lows = [each for each in (parameter.min, low) if each is not None]
    highs = [each for each in (parameter.max, high) if each is not None]
    return replace(
        parameter,
        min=max(lows, default=None),
        max=min(highs, default=None),
        default=default,
        description=settings.description,
        hidden=settings.hidden,
    )


def _check_settings(parameter: Parameter, settings: ParameterSettings) -> None:
    name, low, high = parameter.name, settings.min, settings.max
    if low is not None and high is not None and low > high:
        raise WorkflowFileError(say("has a sidecar with a min above the max of {name}.", name=name))
    if settings.default is not None:
        try:
            (coerce_guessed if settings.targets else coerce)(parameter, settings.default)
        except ParameterError as error:
            raise WorkflowFileError(
                say("has a sidecar with a wrong default: {problem}", problem=error.args[0])
            ) from error


class _Loader(yaml.SafeLoader):
    """Without aliases, nine lines of which unfold into gigabytes, and without twin keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) != len(keys):
            raise yaml.constructor.ConstructorError(None, None, "a key twice", node.start_mark)
        return super().construct_mapping(node, deep)


def parse_sidecar(text: str) -> Sidecar:
    if len(text.encode()) > _SIDECAR_MAX:
        raise WorkflowFileError(
            say("has a sidecar larger than {number} KB.", number=_SIDECAR_MAX // 1024)
        )
    try:
        data: Any = yaml.load(text, _Loader)  # noqa: S506
        return Sidecar.model_validate({} if data is None else data, strict=False)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or say("the file")
        if first["type"] == "extra_forbidden":
            raise WorkflowFileError(
                say("has a sidecar with an unknown key `{key}`.", key=key)
            ) from error
        raise WorkflowFileError(
            say("has a sidecar with a wrong {key}: {reason}.", key=key, reason=first["msg"])
        ) from error
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        # not only YAMLError: a date that does not exist, a tag whose value does not fit
        mark = getattr(error, "problem_mark", None)
        raise WorkflowFileError(
            say("has a sidecar that is not plain YAML at line {line}.", line=mark.line + 1)
            if mark
            else say("has a sidecar that is not plain YAML.")
        ) from error


def dump_sidecar(sidecar: Sidecar) -> str:
    """Only what differs from a sidecar that says nothing."""
    data = sidecar.model_dump(exclude_defaults=True, mode="json")
    text = str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True)) if data else ""
    if len(text.encode()) > _SIDECAR_MAX:
        raise WorkflowFileError(
            say("has settings larger than {number} KB.", number=_SIDECAR_MAX // 1024)
        )
    return text
