"""What an editor's file keeps of a node's widgets: values by position, in the class's order. Pure.

The order is that of the class's definition (required, then optional). Behind a seed stands one
more value, of what to do with it after a run; an upload button's value stands at the end.
Facts recorded from ComfyUI's own frontend.
"""

import random
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Json = dict[str, Any]
Spec = list[Any]  # as in /object_info: [TYPE, options] or [[choice, …], options]

_PLAIN = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3", "INT:seed"}
_WITHOUT_SOCKET = {
    "COLOR", "COLORS", "BOUNDING_BOX", "BOUNDING_BOXES", "CURVE", "IMAGECOMPARE", "LOAD_3D",
    "WEBCAM",
}  # fmt: skip
_COMMENT = re.compile(r"/\*|//.*")
_DEPTH_MAX = 50  # of braces in braces; deeper ones are no choices but an accident
_EMPTY = {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}


class Widget(NamedTuple):
    """*name* of an input inside a dynamic combo is `combo.input`."""

    name: str
    spec: Spec
    value: Any


def specs(definition: Json) -> Iterator[tuple[str, Spec]]:
    declared = definition.get("input") or {}
    for group in ("required", "optional"):
        yield from (declared.get(group) or {}).items()


def options(spec: Spec) -> Json:
    return spec[1] if len(spec) > 1 and isinstance(spec[1], dict) else {}


def widgets(definition: Json, saved: object) -> list[Widget]:
    """Every widget with its value; what the file lacks has the class's default."""
    declared = list(specs(definition))
    if isinstance(saved, dict):  # some packs save values by name
        return [
            Widget(name, spec, saved.get(name, default(spec)))
            for name, spec in declared
            if _is_widget(spec)
        ]
    values = list(saved) if isinstance(saved, list) else []
    forced = [spec for _, spec in declared if options(spec).get("forceInput") and _is_plain(spec)]
    with_forced = bool(forced) and len(values) == count(definition) + len(forced)
    found: list[Widget] = []
    position = 0

    def take(name: str, spec: Spec) -> None:
        nonlocal position
        if not _is_widget(spec):
            position += with_forced and bool(options(spec).get("forceInput")) and _is_plain(spec)
            return
        value = values[position] if position < len(values) else default(spec)
        found.append(Widget(name, spec, value))
        position += 1 + has_control(name, spec)
        for inner, inner_spec in _chosen_inputs(spec, value):
            take(f"{name}.{inner}", inner_spec)

    for name, spec in declared:
        take(name, spec)
    return found


def count(definition: Json) -> int:
    """How many values a node of this class saves, dynamic combos not counted in."""
    return sum(1 + has_control(name, spec) for name, spec in specs(definition) if _is_widget(spec))


def has_control(name: str, spec: Spec) -> bool:
    """Whether one more value (`fixed`, `randomize`, …) follows."""
    declared = options(spec).get("control_after_generate")
    is_seed = spec[0] in ("INT", "INT:seed") and name in ("seed", "noise_seed")
    return bool(declared) or (is_seed and declared is not False)


def default(spec: Spec) -> Any:
    declared = options(spec)
    if "default" in declared:
        return declared["default"]
    match spec[0]:
        case [*choices]:
            return choices[0] if choices else None
        case "COMBO" | "COMFY_DYNAMICCOMBO_V3":
            first = next(iter(declared.get("options") or ()), None)
            return first.get("key") if isinstance(first, dict) else first
    return _EMPTY.get(spec[0])


def served(class_type: str, name: str, spec: Spec, value: Any) -> Any:
    """*value* as the frontend sends it."""
    if isinstance(value, str) and options(spec).get("dynamicPrompts"):
        return dynamic_prompt(value)
    if class_type == "KSampler" and name == "sampler_name" and isinstance(value, str):
        return value.removeprefix("sample_")  # as old files name them
    if isinstance(value, list):
        return {"__value__": value}  # a bare list would be a link
    return value


def dynamic_prompt(text: str) -> str:
    """Without comments (also what follows `https:`), one choice of each `{a|b}`, no escapes."""
    text = _without_comments(text)
    return _chosen(text) if _depth(text) <= _DEPTH_MAX else text


def _without_comments(text: str) -> str:
    """In one pass: a comment that is never closed is none, and is not looked for twice."""
    kept, position, last = [], 0, text.rfind("*/")
    while found := _COMMENT.search(text, position):
        start, end = found.span()
        if found[0] == "/*":
            if end > last:
                kept.append(text[position : start + 1])
                position = start + 1
                continue
            end = text.find("*/", end) + 2
        kept.append(text[position:start])
        position = end
    return "".join(kept) + text[position:]


def _depth(text: str) -> int:
    depth = deepest = 0
    for letter in text:
        depth += (letter == "{") - (letter == "}")
        deepest = max(deepest, depth)
    return deepest


def _chosen(text: str) -> str:
    result, position = "", 0
    while position < len(text):
        letter = text[position]
        if letter == "\\" and text[position + 1 : position + 2] in ("{", "}", "|"):
            result += text[position + 1]
            position += 2
        elif letter == "{":
            choices, position = _choices(text, position + 1)
            result += _chosen(random.choice(choices))
        else:
            result += letter
            position += 1
    return result


def _choices(text: str, position: int) -> tuple[list[str], int]:
    """The alternatives of a brace that opened before *position*, and where it ends."""
    choices, depth = [""], 1
    while position < len(text):
        letter = text[position]
        if letter == "\\":
            letter = text[position : position + 2]
        depth += (letter == "{") - (letter == "}")
        if depth == 0:
            return choices, position + 1
        if letter == "|" and depth == 1:
            choices.append("")
        else:
            choices[-1] += letter
        position += len(letter)
    return choices, position


def _is_plain(spec: Spec) -> bool:
    return isinstance(spec[0], list) or spec[0] in _PLAIN


def _is_widget(spec: Spec) -> bool:
    declared = options(spec)
    if declared.get("forceInput"):
        return False
    return _is_plain(spec) or spec[0] in _WITHOUT_SOCKET or bool(declared.get("widgetType"))


def _chosen_inputs(spec: Spec, value: Any) -> Iterator[tuple[str, Spec]]:
    """A dynamic combo brings the inputs of the option that is chosen."""
    if spec[0] == "COMFY_DYNAMICCOMBO_V3":
        for option in options(spec).get("options") or ():
            if isinstance(option, Mapping) and option.get("key") == value:
                yield from specs({"input": option.get("inputs")})
