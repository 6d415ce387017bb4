"""Small files in the editor's format, built from nodes that name where each input comes from."""

import copy
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from comfy.convert import convert
from tests.fakes.recordings import CONTRACT

Json = dict[str, Any]

RECORDED: Json = json.loads((CONTRACT / "object_info.json").read_text())
INVENTED: Json = {
    "ControlNetLoader": {"input": {"required": {"control_net_name": [["a.pth"], {}]}}},
    "ConditioningAverage": {"input": {"required": {"strength": ["FLOAT", {"default": 1.0}]}}},
    "SVD_img2vid_Conditioning": {"input": {"required": {"frames": ["INT", {"default": 14}]}}},
    "Group of any": {"input": {}},
    "Points": {"input": {"required": {"points": ["CURVE", {}]}}},
    "Two": {"input": {"required": {"left": ["INT", {}], "right": ["INT", {}]}}},
    "Named": {
        "input": {"required": {"value": ["INT", {"default": 0}]}},
        "output": ["INT"],
        "display_name": "A Name",
    },
}
INFO: Json = {**RECORDED, **INVENTED}

MUTED, BYPASSED = 2, 4
OUTSIDE = -10  # what a subgraph's own inputs are called inside it
_PLAIN = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


class From(NamedTuple):
    """The output that an input is linked to; *type* where the class does not say the input's."""

    node: int | str
    slot: int = 0
    type: str = "*"


def node(
    number: int,
    kind: str,
    values: Sequence[Any] | Json | None = None,
    mode: int = 0,
    *,
    gives: Sequence[str] | None = None,
    title: str | None = None,
    properties: Json | None = None,
    **inputs: From | None,
) -> Json:
    """Inputs with None have a socket without a link."""
    definition = INFO.get(kind, {})
    declared = definition.get("input", {})
    specs = {**declared.get("required", {}), **declared.get("optional", {})}
    sockets = []
    for name, origin in inputs.items():
        spec = specs.get(name, [origin.type if origin else "*"])
        is_list = isinstance(spec[0], list)
        socket = {"name": name, "type": "COMBO" if is_list else spec[0], "link": origin}
        if is_list or spec[0] in _PLAIN:
            socket["widget"] = {"name": name}
        sockets.append(socket)
    outputs = definition.get("output", ["*"]) if gives is None else gives
    return {
        "id": number,
        "type": kind,
        "mode": mode,
        "inputs": sockets,
        "outputs": [{"name": each, "type": each} for each in outputs],
        "properties": properties or {},
        **({} if values is None else {"widgets_values": values}),
        **({} if title is None else {"title": title}),
    }


def _wired(nodes: Sequence[Json]) -> tuple[list[Json], list[list[Any]]]:
    """The nodes with link ids as their inputs, and the links as arrays."""
    nodes, links = copy.deepcopy(list(nodes)), []
    for each in nodes:
        for slot, socket in enumerate(each.get("inputs") or ()):
            if isinstance(origin := socket["link"], From):
                socket["link"] = len(links) + 1
                links.append(
                    [len(links) + 1, origin.node, origin.slot, each["id"], slot, socket["type"]]
                )
    return nodes, links


def as_objects(links: Sequence[Sequence[Any]]) -> list[Json]:
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    return [dict(zip(keys, link, strict=True)) for link in links]


def subgraph(
    name: str, *nodes: Json, inputs: Sequence[str] = (), outputs: Sequence[From] = ()
) -> Json:
    inner, links = _wired(nodes)
    for slot, origin in enumerate(outputs):
        links.append([len(links) + 1, origin.node, origin.slot, -20, slot, origin.type])
    return {
        "id": name,
        "nodes": inner,
        "links": as_objects(links),
        "inputs": [
            {"name": each, "linkIds": [w[0] for w in links if w[1] == OUTSIDE and w[2] == slot]}
            for slot, each in enumerate(inputs)
        ],
        "outputs": [{"name": each.type, "type": each.type} for each in outputs],
    }


def group(
    *nodes: Json, links: Sequence[Sequence[Any]] = (), external: Any = (), config: Any = None
) -> Json:
    """An old group node; its nodes count from 0, its *links* lead from there to there."""
    inner = [{key: each[key] for key in each if key != "id"} for each in _wired(nodes)[0]]
    return {
        "nodes": inner,
        "links": [list(each) for each in links],
        "external": [list(each) for each in external],
        "config": config or {},
    }


def file(*nodes: Json, subgraphs: Sequence[Json] = (), groups: Json | None = None) -> Json:
    wired, links = _wired(nodes)
    return {
        "nodes": wired,
        "links": links,
        "definitions": {"subgraphs": list(subgraphs)},
        "extra": {"groupNodes": groups or {}},
        "version": 0.4,
    }


def inputs_of(workflow: Json, info: Json | None = None) -> Json:
    """The converted graph, as node id → inputs."""
    graph = convert(workflow, INFO if info is None else info)
    return {node_id: each["inputs"] for node_id, each in graph.items()}


def converted(
    *nodes: Json, subgraphs: Sequence[Json] = (), groups: Json | None = None, info: Any = None
) -> Json:
    return inputs_of(file(*nodes, subgraphs=subgraphs, groups=groups), info)
