"""API-format graphs: node id → `{class_type, inputs}`. Pure: reads, follows links, makes copies."""

import graphlib
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from comfy.errors import WorkflowFileError
from comfy.phrases import say

Graph = dict[str, dict[str, Any]]
HIDDEN = "***"
NODES_MAX = 2000
LINKS_MAX = 10_000
_SECRET = re.compile(r"(^|_|api)key$|(^|_)tokens?$|secret|password", re.IGNORECASE)


class InputRef(NamedTuple):
    """The address of one input."""

    node_id: str
    name: str

    def __str__(self) -> str:
        return f"{self.node_id}.{self.name}"


class Link(NamedTuple):
    """A value of an input that is another node's output: `["4", 0]` in the file."""

    node_id: str
    slot: int


def check_graph(data: Any) -> Graph:
    """*data* as `POST /prompt` takes it, without anything else that its nodes may hold.

    `WorkflowFileError` says what is wrong with the file.
    """
    if isinstance(data, dict) and isinstance(data.get("prompt"), dict):
        data = data["prompt"]  # the body of a POST /prompt, as some people save it
    if not isinstance(data, dict) or not data:
        raise WorkflowFileError(say("holds no nodes. Save it again in ComfyUI."))
    if isinstance(data.get("nodes"), list):
        raise WorkflowFileError(say("is in the editor's format, where API format belongs."))
    if len(data) > NODES_MAX:
        raise WorkflowFileError(
            say("has {number} nodes, and {limit} is the most.", number=len(data), limit=NODES_MAX)
        )
    graph = {node_id: _checked_node(node_id, node) for node_id, node in data.items()}
    for node_id, node in graph.items():
        for name, value in node["inputs"].items():
            link = as_link(value)
            if link is not None and link.node_id not in graph:
                raise WorkflowFileError(
                    say(
                        "links {input} to node {node}, which is not there.",
                        input=f"{node_id}.{name}",
                        node=repr(link.node_id),
                    )
                )
            if link is None and not _is_finite(value):
                raise WorkflowFileError(
                    say("holds {input}, which is not a finite number.", input=f"{node_id}.{name}")
                )
    if (number := sum(len(dict(links(graph, each))) for each in graph)) > LINKS_MAX:
        raise WorkflowFileError(
            say("has {number} links, and {limit} is the most.", number=number, limit=LINKS_MAX)
        )
    _refuse_circles(graph)
    return graph


def _checked_node(node_id: str, node: Any) -> dict[str, Any]:
    """Pictures hold `is_changed` too, with NaN in it, and some tools save more."""
    if not isinstance(node, dict) or not isinstance(node.get("class_type"), str):
        raise WorkflowFileError(
            say(
                "has no class_type at node {node}. Save it again in ComfyUI.",
                node=repr(node_id[:60]),
            )
        )
    if not isinstance(node.get("inputs", {}), dict):
        raise WorkflowFileError(
            say("has inputs that are not an object at node {node}.", node=repr(node_id[:60]))
        )
    kept = {name: node[name] for name in ("class_type", "_meta") if name in node}
    return {"inputs": node.get("inputs", {}), **kept}


def _is_finite(value: Any) -> bool:
    match value:
        case float():
            return math.isfinite(value)
        case list():
            return all(map(_is_finite, value))
        case dict():
            return all(map(_is_finite, value.values()))
    return True


def _refuse_circles(graph: Graph) -> None:
    """ComfyUI would not even start."""
    needs = {key: {link.node_id for _, link in links(graph, key)} for key in graph}
    try:
        graphlib.TopologicalSorter(needs).prepare()
    except graphlib.CycleError as error:
        circle = " → ".join(reversed(error.args[1][:8]))
        raise WorkflowFileError(
            say("links its nodes in a circle: {nodes}.", nodes=circle)
        ) from error


def as_link(value: object) -> Link | None:
    match value:
        case [str(node_id), int(slot)]:
            return Link(node_id, slot)
    return None


def links(graph: Graph, node_id: str) -> Iterator[tuple[str, Link]]:
    """The linked inputs of a node, by name."""
    for name, value in graph[node_id]["inputs"].items():
        if (link := as_link(value)) is not None and link.node_id in graph:
            yield name, link


def upstream(graph: Graph, node_id: str) -> set[str]:
    """All nodes that *node_id* depends on, itself included."""
    seen: set[str] = set()
    waiting = [node_id]
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting.extend(link.node_id for _, link in links(graph, current))
    return seen


def title(graph: Graph, node_id: str) -> str:
    """What the editor shows on the node; its class where nobody named it."""
    node = graph.get(node_id, {})
    meta = node.get("_meta")
    named = meta.get("title") if isinstance(meta, dict) else None
    return str(named or node.get("class_type", node_id))


def with_inputs(graph: Graph, values: Mapping[InputRef, Any]) -> Graph:
    """A copy of *graph* in which each addressed input has its new value."""
    result = {node_id: {**node, "inputs": {**node["inputs"]}} for node_id, node in graph.items()}
    for ref, value in values.items():
        result[ref.node_id]["inputs"][ref.name] = value
    return result


def without_secrets(value: Any) -> Any:
    """A copy of a graph or any JSON value; texts that are named like a secret are hidden."""
    match value:
        case dict():
            return {
                name: HIDDEN if is_secret(name, each) else without_secrets(each)
                for name, each in value.items()
            }
        case list():
            return [without_secrets(each) for each in value]
    return value


def with_secrets(graph: Graph, source: Graph) -> Graph:
    """A copy in which what `without_secrets` hid is again as in *source*, where that has it."""
    hidden = {
        InputRef(node_id, name): source[node_id]["inputs"].get(name, value)
        for node_id, node in graph.items()
        for name, value in node["inputs"].items()
        if value == HIDDEN and is_secret(name, value) and node_id in source
    }
    return with_inputs(graph, hidden) if hidden else graph


def secrets_in(graph: Graph) -> list[str]:
    return [
        value
        for node in graph.values()
        for name, value in node["inputs"].items()
        if value and is_secret(name, value)
    ]


def is_secret(name: object, value: object) -> bool:
    return isinstance(value, str) and _SECRET.search(str(name)) is not None


def with_output_folder(graph: Graph, job_id: str) -> Graph:
    """A copy whose savers write to `comfycord/<job>/<node>…`.

    It ends collisions and path tricks, keeps ComfyUI's cache from answering with an older
    file, and makes outputs findable after the server forgot its history.
    """
    return with_inputs(
        graph,
        {
            InputRef(node_id, "filename_prefix"): f"comfycord/{job_id}/{_file_name(node_id)}"
            for node_id in savers(graph)
        },
    )


def savers(graph: Graph) -> list[str]:
    """The nodes that write files which outlive the server's process."""
    return [node_id for node_id, node in graph.items() if "filename_prefix" in node["inputs"]]


def saved_picture(node_id: str, number: int) -> str:
    """What SaveImage makes of the prefix of `with_output_folder`; *number* is 1 for the first."""
    return f"{_file_name(node_id)}_{number:05}_.png"


def _file_name(node_id: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", node_id)
