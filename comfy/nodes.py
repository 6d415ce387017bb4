"""`/object_info` → node and input types: every COMBO and V3 shape becomes one small type."""

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

from comfy.graph import Graph, as_link

Number = int | float
_MODEL_FILES = (
    ".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".sft", ".onnx", ".pkl", ".engine",
    ".torchscript",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class InputType:
    """What a node says about one of its inputs.

    *type* is ComfyUI's word (`INT`, `FLOAT`, `STRING`, `BOOLEAN`, `COMBO`, `MODEL`, …);
    *choices* are a COMBO's options, empty for other types.
    """

    name: str
    type: str
    required: bool = True
    default: Any = None
    min: Number | None = None
    max: Number | None = None
    step: Number | None = None
    choices: tuple[Any, ...] = ()
    upload: bool = False

    @classmethod
    def from_json(cls, name: str, declared: Any, *, required: bool) -> Self:
        """*declared* is `[TYPE, options]`, `[[choice, …], options]` or `["COMBO", {"options"}]`."""
        kind: Any = declared[0] if isinstance(declared, list) and declared else "*"
        options: Any = declared[1] if isinstance(declared, list) and len(declared) > 1 else {}
        if not isinstance(options, dict):
            options = {}
        choices: Any = ()
        if isinstance(kind, list):
            kind, choices = "COMBO", kind
        elif kind == "COMBO":
            choices = options.get("options") or ()
        elif kind == "COMFY_DYNAMICCOMBO_V3":
            kind = "COMBO"
            choices = [o.get("key") for o in options.get("options") or () if isinstance(o, dict)]
        return cls(
            name,
            str(kind),
            required,
            options.get("default"),
            _number(options.get("min")),
            _number(options.get("max")),
            _number(options.get("step")),
            tuple(choices) if isinstance(choices, list | tuple) else (),
            any(key.endswith("_upload") and options[key] for key in options),
        )


@dataclass(frozen=True, slots=True)
class NodeType:
    class_type: str
    display_name: str
    inputs: Mapping[str, InputType] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    output_node: bool = False
    api_node: bool = False

    @classmethod
    def from_json(cls, class_type: str, data: dict[str, Any]) -> Self:
        return cls(
            class_type,
            str(data.get("display_name") or class_type),
            {each.name: each for each in _inputs(data.get("input") or {})},
            tuple(str(each) for each in data.get("output") or ()),
            tuple(str(each) for each in data.get("output_name") or ()),
            bool(data.get("output_node")),
            bool(data.get("api_node")),
        )


NodeTypes = Mapping[str, NodeType]


def parse_object_info(data: dict[str, Any]) -> dict[str, NodeType]:
    """One broken custom node does not hide the others: what is not an object is left out."""
    nodes = {}
    for class_type, each in data.items():
        with contextlib.suppress(AttributeError, TypeError):
            nodes[class_type] = NodeType.from_json(class_type, each)
    return nodes


def missing_nodes(graph: Graph, nodes: NodeTypes) -> list[str]:
    return sorted({node["class_type"] for node in graph.values()} - nodes.keys())


class MissingModel(NamedTuple):
    """A file that a loader's list of choices does not hold."""

    node_id: str
    input: str
    value: str


def missing_models(graph: Graph, nodes: NodeTypes) -> list[MissingModel]:
    missing = []
    for node_id, node in graph.items():
        node_type = nodes.get(node["class_type"])
        for name, value in node["inputs"].items():
            declared = node_type.inputs.get(name) if node_type else None
            if declared is None or declared.type != "COMBO" or declared.upload or as_link(value):
                continue
            if _is_model(str(value)) and value not in declared.choices:
                missing.append(MissingModel(node_id, name, str(value)))
    return missing


def models_in(graph: Graph) -> frozenset[str]:
    """The files that its nodes load."""
    values = (value for node in graph.values() for value in node["inputs"].values())
    return frozenset(each for each in values if isinstance(each, str) and _is_model(each))


def closest_model(missing: MissingModel, graph: Graph, nodes: NodeTypes) -> str | None:
    """The most similar name that the same loader offers."""
    declared = nodes[graph[missing.node_id]["class_type"]].inputs[missing.input]
    by_stem = {_stem(str(each)): str(each) for each in declared.choices}
    near = difflib.get_close_matches(_stem(missing.value), by_stem, 1, 0.6)
    return by_stem[near[0]] if near else None


def _is_model(value: str) -> bool:
    return value.lower().endswith(_MODEL_FILES)


def _stem(path: str) -> str:
    return re.split(r"[\\/]", path)[-1].rsplit(".", 1)[0].casefold()


def merged(servers: Iterable[NodeTypes]) -> dict[str, NodeType]:
    """What several servers offer together: all their nodes, and of a COMBO all choices."""
    result: dict[str, NodeType] = {}
    for nodes in servers:
        for class_type, node in nodes.items():
            known = result.get(class_type)
            result[class_type] = node if known is None else _joined(known, node)
    return result


def _joined(one: NodeType, other: NodeType) -> NodeType:
    inputs = dict(one.inputs)
    for name, declared in other.inputs.items():
        known = inputs.setdefault(name, declared)
        if known.type == declared.type == "COMBO" and known.choices != declared.choices:
            there = {str(each) for each in known.choices}
            extra = (each for each in declared.choices if str(each) not in there)
            inputs[name] = replace(known, choices=(*known.choices, *extra))
    return replace(one, inputs=inputs)


def _inputs(data: dict[str, Any]) -> Iterator[InputType]:
    for group in ("required", "optional"):
        for name, declared in (data.get(group) or {}).items():
            yield InputType.from_json(name, declared, required=group == "required")


def _number(value: object) -> Number | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else None  # type: ignore[return-value]
