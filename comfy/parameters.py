"""Parameters: what people may set in a graph. Pure.

What a graph alone tells of them is found by `comfy.discovery`; `/object_info`, where a server has
answered, adds types, ranges and choices.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from comfy.graph import Graph, InputRef
from comfy.nodes import InputType, NodeTypes, Number


class Role(StrEnum):
    TEXT = "text"
    NEGATIVE = "negative"
    SEED = "seed"
    STEPS = "steps"
    CFG = "cfg"
    SAMPLER = "sampler"
    SCHEDULER = "scheduler"
    STRENGTH = "strength"
    WIDTH = "width"
    HEIGHT = "height"
    BATCH = "batch"
    MODEL = "model"
    LORA = "lora"
    IMAGE = "image"
    MASK = "mask"
    VIDEO = "video"
    AUDIO = "audio"
    OTHER = "other"


FILES = (Role.IMAGE, Role.MASK, Role.VIDEO, Role.AUDIO)  # a person's own, never named by text


@dataclass(frozen=True, slots=True)
class Parameter:
    """One thing that people may set; it may drive several inputs (every unlinked seed).

    *type* is ComfyUI's word; *default* is what the graph holds. *min*, *max* and *choices* are
    None or empty while no server has told them.
    """

    name: str
    role: Role
    targets: tuple[InputRef, ...]
    type: str
    default: Any
    min: Number | None = None
    max: Number | None = None
    step: Number | None = None
    choices: tuple[Any, ...] = ()
    description: str = ""
    hidden: bool = False


_TEXT_INPUTS = (
    "value", "text", "prompt", "positive_prompt", "text_prompt", "text_g", "text_l", "clip_l",
    "t5xxl", "clip_g", "string", "text_positive", "user_prompt", "caption", "tags", "lyrics",
)  # fmt: skip


def typed(parameter: Parameter, graph: Graph, nodes: NodeTypes) -> Parameter:
    """*parameter* with what the server says of its inputs: the narrowest of all targets."""
    for ref in parameter.targets:
        node = nodes.get(graph[ref.node_id]["class_type"])
        declared = node.inputs.get(ref.name) if node else None
        if declared is not None:
            parameter = _narrowed(parameter, declared)
    return parameter


def _narrowed(parameter: Parameter, declared: InputType) -> Parameter:
    lows = [each for each in (parameter.min, declared.min) if each is not None]
    highs = [each for each in (parameter.max, declared.max) if each is not None]
    return replace(
        parameter,
        type=declared.type,
        min=max(lows, default=None),
        max=min(highs, default=None),
        step=parameter.step or declared.step,
        choices=parameter.choices or declared.choices,
    )


def text_inputs(graph: Graph) -> Iterator[InputRef]:
    """Every input that holds a text of its own, in the order of the file."""
    for node_id, node in graph.items():
        for name in _TEXT_INPUTS:
            is_text = isinstance(node["inputs"].get(name), str)
            if is_text and (name != "value" or "String" in node["class_type"]):
                yield InputRef(node_id, name)


def first_text_input(graph: Graph, but: Collection[InputRef] = ()) -> InputRef | None:
    """The last resort for a prompt: the first node that encodes or holds a text."""
    for ref in text_inputs(graph):
        class_type = graph[ref.node_id]["class_type"]
        if (
            class_type in ("CLIPTextEncode", "Text Multiline")
            and ref.name == "text"
            and ref not in but
        ):
            return ref
    return None


def type_of(value: object) -> str:
    """ComfyUI's word for a value, where no server has told the input's type."""
    match value:
        case bool():
            return "BOOLEAN"
        case int():
            return "INT"
        case float():
            return "FLOAT"
    return "STRING"
