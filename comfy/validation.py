"""What a server's validation would say of a graph, without asking it. Pure.

`POST /prompt` has no dry run: what it accepts it also queues. The rules here are those of
ComfyUI's `validate_prompt`, applied to `/object_info`; what only a node's own code can check
(whether an uploaded picture is there) is left to the server.
"""

from collections.abc import Iterator

from comfy.errors import NodeError
from comfy.graph import Graph, as_link, upstream
from comfy.nodes import InputType, NodeTypes, missing_nodes
from comfy.phrases import say

_ANY = "*"
_NUMBERS = {"INT": int, "FLOAT": float}


def output_nodes(graph: Graph, nodes: NodeTypes) -> list[str]:
    return [
        node_id
        for node_id, node in graph.items()
        if (kind := nodes.get(node["class_type"])) is not None and kind.output_node
    ]


def complaints(graph: Graph, nodes: NodeTypes) -> list[NodeError]:
    """Of every node that reaches an output, in the order of the file; kinds as ComfyUI's."""
    if lacking := missing_nodes(graph, nodes):
        return [
            NodeError(node_id, node["class_type"], "", "missing_node_type", node["class_type"])
            for node_id, node in graph.items()
            if node["class_type"] in lacking
        ]
    outputs = output_nodes(graph, nodes)
    if not outputs:
        return [NodeError("", "", "", "prompt_no_outputs", "")]
    reached = set().union(*(upstream(graph, each) for each in outputs))
    return [
        each for node_id in graph if node_id in reached for each in _node(graph, nodes, node_id)
    ]


def _node(graph: Graph, nodes: NodeTypes, node_id: str) -> Iterator[NodeError]:
    node = graph[node_id]
    kind = nodes[node["class_type"]]
    for name, declared in kind.inputs.items():
        if name not in node["inputs"]:
            # of a V3 input that grows or chooses, only its parts stand in the graph
            if declared.required and not declared.type.startswith("COMFY_"):
                yield NodeError(node_id, kind.class_type, name, "required_input_missing", "")
            continue
        value = node["inputs"][name]
        found = _link(graph, nodes, declared, value) if _is_list(value) else _value(declared, value)
        if found is not None:
            yield NodeError(node_id, kind.class_type, name, *found, declared.min, declared.max)


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _link(
    graph: Graph, nodes: NodeTypes, declared: InputType, value: object
) -> tuple[str, str] | None:
    link = as_link(value)
    if link is None:
        return "bad_linked_input", str(value)
    outputs = nodes[graph[link.node_id]["class_type"]].outputs
    if not 0 <= link.slot < len(outputs):
        details = say("node {node} has no output {output}", node=link.node_id, output=link.slot)
        return "bad_linked_input", details
    given, wanted = outputs[link.slot], declared.type
    plain = all(each.replace("_", "").replace(",", "").isalnum() for each in (given, wanted))
    special = {given, wanted} & {_ANY, "COMBO"} or "COMFY_" in given + wanted or "[" in given
    if plain and not special and not set(given.split(",")) & set(wanted.split(",")):
        details = say("{given} instead of {wanted}", given=given, wanted=wanted)
        return "return_type_mismatch", details
    return None


def _value(declared: InputType, value: object) -> tuple[str, str] | None:
    if declared.type == "COMBO":
        if declared.upload or not declared.choices or value in declared.choices:
            return None
        return "value_not_in_list", str(value)
    convert = _NUMBERS.get(declared.type)
    if convert is None:
        return None
    try:
        number = convert(value)
    except (TypeError, ValueError, OverflowError):
        return "invalid_input_type", str(value)
    if declared.min is not None and number < declared.min:
        return "value_smaller_than_min", str(value)
    if declared.max is not None and number > declared.max:
        return "value_bigger_than_max", str(value)
    return None
