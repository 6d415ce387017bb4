"""API-format graphs: node id → `{class_type, inputs}`. Pure: reads, follows links, makes copies."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from comfy.errors import WorkflowFileError

Graph = dict[str, dict[str, Any]]


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


def parse_graph(text: str | bytes) -> Graph:
    """The graph in a workflow file; `WorkflowFileError` says what is wrong with the file."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WorkflowFileError(
            "is not JSON. Export it again in ComfyUI with Workflow > Export (API)."
        ) from error
    return check_graph(data)


def check_graph(data: Any) -> Graph:
    """*data* itself, once it is known to have the shape that `POST /prompt` takes."""
    if isinstance(data, dict) and isinstance(data.get("nodes"), list):
        raise WorkflowFileError(
            "is in the editor's format. In ComfyUI use Workflow > Export (API) and save that file."
        )
    if isinstance(data, dict) and isinstance(data.get("prompt"), dict):
        data = data["prompt"]  # the body of a POST /prompt, as some people save it
    if not isinstance(data, dict) or not data:
        raise WorkflowFileError("holds no nodes. Export it with Workflow > Export (API).")
    for node_id, node in data.items():
        if not isinstance(node, dict) or not isinstance(node.get("class_type"), str):
            raise WorkflowFileError(
                f"has no class_type at node {node_id!r}. Export it with Workflow > Export (API)."
            )
        if not isinstance(node.get("inputs", {}), dict):
            raise WorkflowFileError(f"has inputs that are not an object at node {node_id!r}.")
    for node_id, node in data.items():
        node.setdefault("inputs", {})
        for name, value in node["inputs"].items():
            link = as_link(value)
            if link is not None and link.node_id not in data:
                raise WorkflowFileError(
                    f"links {node_id}.{name} to node {link.node_id!r}, which is not there."
                )
    return data


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


def with_output_folder(graph: Graph, job_id: str) -> Graph:
    """A copy whose savers write to `comfycord/<job>/<node>…`.

    It ends collisions and path tricks, keeps ComfyUI's cache from answering with an older
    file, and makes outputs findable after the server forgot its history.
    """
    return with_inputs(
        graph,
        {
            InputRef(node_id, "filename_prefix"): f"comfycord/{job_id}/{node_id.replace(':', '_')}"
            for node_id, node in graph.items()
            if "filename_prefix" in node["inputs"]
        },
    )
