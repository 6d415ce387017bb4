"""Values that people give, checked against parameters. Pure; every refusal is worded for them."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from comfy.errors import ParameterError, WorkflowFileError
from comfy.graph import Graph, InputRef, as_link
from comfy.nodes import NodeTypes
from comfy.parameters import FILES, Parameter, Role, type_of
from comfy.phrases import say

SEED_MAX = 2**64 - 1  # ComfyUI refuses more

# Inputs that reach beyond the picture: files, folders, code, the graph itself. Nobody sets them
# from Discord. `image` and its kin take other people's uploads, `name [output]` and, on servers
# before 0.28.0, any path.
_DENIED = re.compile(
    r"filename_prefix|.*prefix|image|mask|audio|video|latent|model_file|file|.*folder.*|.*path.*"
    r"|.*director.*|.*url.*|.*regex.*|.*pattern.*|.*code.*|.*script.*|.*expression.*|.*command.*"
    r"|.*api_key.*|.*token",
    re.IGNORECASE,
)
# Classes that read folders, train, or fill the disk with models.
_DANGEROUS = re.compile(
    r".*DataSet.*|CheckpointSave|ModelSave|VAESave|CLIPSave|LoraSave|SaveLoRA|LossGraph.*"
    r"|.*(?<!cons)train.*",  # but not "constrain"
    re.IGNORECASE,
)
_PLACES = re.compile(
    r"image|mask|audio|video|latent|.*file.*|.*folder.*|.*path.*|.*director.*|.*url.*",
    re.IGNORECASE,
)
# A path that leaves the server's own folders, and an address.
_OUTSIDE = re.compile(r"(.*[\\/])?\.\.([\\/].*)?|[\\/~].*|[A-Za-z]:.*|[\w+.-]+://.*", re.DOTALL)
_NUMBER_MAX = 10**25
# A quantity in plain digits: `int` and `float` would take other scripts' digits, `1_0` and `nan`.
_NUMBER = re.compile(r"[+-]?\d{1,25}(\.\d{1,20})?([eE][+-]?\d{1,3})?", re.ASCII)


def coerce(parameter: Parameter, value: object) -> Any:
    """*value* as ComfyUI wants it; `ParameterError` names what is allowed."""
    if isinstance(value, int) and abs(value) > _NUMBER_MAX:  # Python cannot even print some
        raise ParameterError(say("`{name}` takes a smaller number.", name=parameter.name))
    if isinstance(value, list | dict) or value is None:
        raise ParameterError(
            say("`{name}` takes one value, not a list or an object.", name=parameter.name)
        )
    if parameter.choices and parameter.role not in FILES:
        return _choice(parameter, value)
    match parameter.type:
        case "INT" | "FLOAT":
            return _number(parameter, value)
        case "BOOLEAN":
            return _boolean(parameter, value)
    if not isinstance(value, str):
        raise ParameterError(say("`{name}` takes a text.", name=parameter.name))
    text = value.replace("\x00", "")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ParameterError(
            say("`{name}` holds a broken character. Type it again.", name=parameter.name)
        ) from error
    return text


def _choice(parameter: Parameter, value: object) -> Any:
    for choice in parameter.choices:
        if choice == value or str(choice).casefold() == str(value).strip().casefold():
            return choice
    told = {
        "name": parameter.name,
        "value": _shown(value),
        "choices": ", ".join(str(each) for each in parameter.choices[:8]),
    }
    if (number := len(parameter.choices) - 8) > 0:
        raise ParameterError(
            say(
                "`{name}` cannot be {value}. It can be: {choices} and {number} more.",
                number=number,
                **told,
            )
        )
    raise ParameterError(say("`{name}` cannot be {value}. It can be: {choices}.", **told))


def _number(parameter: Parameter, value: object) -> int | float:
    whole = parameter.type == "INT"
    number: int | float | None = None
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        text = value.strip()
        number = int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = value
    if isinstance(number, float) and not math.isfinite(number):
        number = None
    if number is None or (whole and number != int(number)):
        kind = say("a whole number") if whole else say("a number")
        raise ParameterError(
            say(
                "`{name}` takes {kind}, not {value}.",
                name=parameter.name,
                kind=kind,
                value=_shown(value),
            )
        )
    low, high = parameter.min, parameter.max
    if parameter.role is Role.SEED:
        low, high = max(low or 0, 0), min(SEED_MAX if high is None else high, SEED_MAX)
    if (low is not None and number < low) or (high is not None and number > high):
        raise ParameterError(
            say(
                "`{name}` must be between {low} and {high}, not {number}.",
                name=parameter.name,
                low=bound(low),
                high=bound(high),
                number=number,
            )
        )
    return _on_a_step(parameter, int(number)) if whole else float(number)


def _on_a_step(parameter: Parameter, number: int) -> int:
    """As ComfyUI's editor does it: 513 is no width where only every eighth one is."""
    step = parameter.step
    if parameter.role is Role.SEED or not isinstance(step, int) or step <= 1:
        return number
    shift = int(parameter.min or 0) % step
    return (number - shift) // step * step + shift


def _boolean(parameter: Parameter, value: object) -> bool:
    match str(value).strip().casefold():
        case "true" | "yes" | "on" | "1":
            return True
        case "false" | "no" | "off" | "0":
            return False
    raise ParameterError(say("`{name}` takes true or false.", name=parameter.name))


def _shown(value: object) -> str:
    text = str(value)
    return repr(text if len(text) <= 40 else text[:39] + "…")


def _brief(name: str) -> str:
    """What somebody typed for a name, on one line."""
    line = " ".join(name.split())
    return line if len(line) <= 60 else line[:59] + "…"


def bound(value: int | float | None) -> str:
    """A limit for people."""
    if value is None:
        return say("any")
    return f"{value:g}" if isinstance(value, float) else str(value)


def overrides(
    graph: Graph, parameters: Mapping[str, Parameter], data: object, *, privileged: bool
) -> dict[InputRef, Any]:
    """The advanced format, `{"node_id": {"inputs": {name: value}}}`, as checked values.

    Members reach declared parameters only. *privileged* people reach any input that holds a
    value of its own, except those on the deny list. Nobody rewires: links stay links.
    """
    if not isinstance(data, dict):
        raise ParameterError(
            say('`overrides` looks like {{"6": {{"inputs": {{"text": "a cat"}}}}}}.')
        )
    declared = {
        ref: each
        for each in parameters.values()
        for ref in each.targets
        if privileged or not each.hidden
    }
    values: dict[InputRef, Any] = {}
    for node_id, body in data.items():
        if node_id not in graph:
            raise ParameterError(
                say("`overrides`: this workflow has no node {node}.", node=_shown(node_id))
            )
        inputs = body.get("inputs") if isinstance(body, dict) else None
        if not isinstance(inputs, dict) or set(body) != {"inputs"}:
            raise ParameterError(
                say(
                    '`overrides`: node {node} takes {{"inputs": {{…}}}} and nothing else.',
                    node=_brief(node_id),
                )
            )
        for name, value in inputs.items():
            ref = InputRef(node_id, name)
            parameter = declared.get(ref) or (_undeclared(graph, ref) if privileged else None)
            if parameter is None or is_denied(graph, ref):
                raise ParameterError(
                    say(
                        "`overrides`: {input} cannot be set from Discord. "
                        "`/workflows` shows what can.",
                        input=_brief(str(ref)),
                    )
                )
            values[ref] = (
                coerce_guessed(parameter, value)
                if ref not in declared
                else coerce(parameter, value)
            )
    return values


def coerce_guessed(parameter: Parameter, value: object) -> Any:
    """The graph's `7` may be a FLOAT's; a whole number stays one, as a seed needs its digits."""
    if parameter.type == "INT":
        try:
            return coerce(parameter, value)
        except ParameterError:
            return coerce(replace(parameter, type="FLOAT"), value)
    return coerce(parameter, value)


def _undeclared(graph: Graph, ref: InputRef) -> Parameter | None:
    current = graph[ref.node_id]["inputs"].get(ref.name)
    if current is None or as_link(current) or isinstance(current, list | dict):
        return None
    return Parameter(str(ref), Role.OTHER, (ref,), type_of(current), current)


def is_denied(graph: Graph, ref: InputRef) -> bool:
    class_type = graph[ref.node_id]["class_type"]
    name = ref.name.rsplit(".")[-1]
    return bool(_DENIED.fullmatch(name) or _DANGEROUS.fullmatch(class_type))


def refuse_dangerous(graph: Graph, nodes: NodeTypes) -> None:
    """What nobody may bring in over Discord; the owner can, by putting the file into the folder."""
    for node_id, node in graph.items():
        for name, value in node["inputs"].items():
            is_place = _PLACES.fullmatch(name.rsplit(".")[-1])
            if is_place and any(map(_OUTSIDE.fullmatch, _texts(graph, value))):
                raise WorkflowFileError(
                    say(
                        "names a place outside ComfyUI's folders at {input}. Only the bot's owner "
                        "can add it, by putting the file into the workflows folder.",
                        input=str(InputRef(node_id, name)),
                    )
                )
    used = sorted({node["class_type"] for node in graph.values()})
    for what, classes in (
        (
            say("reads folders or writes models on the server"),
            filter(_DANGEROUS.fullmatch, used),
        ),
        (say("spends the owner's credits"), (n for n in used if n in nodes and nodes[n].api_node)),
    ):
        if found := list(classes):
            raise WorkflowFileError(
                say(
                    "uses {nodes}, which {what}. Only the bot's owner can add it, by putting the "
                    "file into the workflows folder.",
                    nodes=", ".join(found),
                    what=what,
                )
            )


def _texts(graph: Graph, value: object) -> Iterator[str]:
    """In a value, wrapped or not, or in the node that makes it."""
    match value:
        case str():
            yield value
        case dict():
            for each in value.values():
                yield from _texts({}, each)
        case list():
            if (link := as_link(value)) is not None and link.node_id in graph:
                yield from _texts({}, graph[link.node_id]["inputs"])
            else:
                for each in value:
                    yield from _texts({}, each)
