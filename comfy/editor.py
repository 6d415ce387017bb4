"""The editor's own save format, read: nodes, wires, subgraphs and old group nodes. Pure.

A file is a tree of scopes: the root, and one scope for every instance of a subgraph or a group
node. Both notations of links (arrays, objects) become `Wire`.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Self

from comfy.widgets import count

Json = dict[str, Any]

_SLOTS_MAX = 1000
NEVER, BYPASS = 2, 4  # node modes; 1 and 3 are ordinary for a run
INPUTS, OUTPUTS = "-10", "-20"  # what wires inside a subgraph call its own sockets


@dataclass(frozen=True, slots=True)
class Wire:
    id: Any
    origin: str
    origin_slot: int
    target: str
    target_slot: int
    type: Any = "*"

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """`[id, origin, slot, target, slot, type]`, or an object with these names."""
        if isinstance(data, dict):
            keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
            data = [data.get(key) for key in keys]
        number, origin, origin_slot, target, target_slot, *rest = data
        kind = rest[0] if rest else "*"
        return cls(
            number, str(origin), int(origin_slot or 0), str(target), int(target_slot or 0), kind
        )


@dataclass(eq=False, slots=True)
class Scope:
    """One graph of nodes by id. *prefix* stands before the ids of its nodes in the API graph.

    *definition* is that of the subgraph or group; *instance* its node in *parent*.
    """

    nodes: dict[str, Json]
    wires: dict[Any, Wire]
    prefix: str = ""
    definition: Json = field(default_factory=dict)
    is_group: bool = False
    parent: "Scope | None" = None
    instance: Json = field(default_factory=dict)
    outer_sockets: dict[tuple[str, str], Json] = field(default_factory=dict)  # of a group

    def api_id(self, node: Json) -> str:
        return f"{self.prefix}{node['id']}"


class Editor:
    """A whole file. *object_info* is needed for group nodes only: whose value is whose."""

    def __init__(self, workflow: Json, object_info: Json) -> None:
        self._info = object_info
        definitions = (workflow.get("definitions") or {}).get("subgraphs") or ()
        self._subgraphs = {each["id"]: each for each in definitions}
        self._groups = (workflow.get("extra") or {}).get("groupNodes") or {}
        self._scopes: dict[tuple[int, str], Scope] = {}
        self.root = Scope(*_contents(workflow))

    def is_instance(self, node: Json) -> bool:
        return node.get("type") in self._subgraphs or self._group_of(node) is not None

    def inside(self, scope: Scope, node: Json) -> Scope:
        """The scope that *node*, an instance, stands for."""
        key = (id(scope), str(node["id"]))
        if key not in self._scopes:
            group = self._group_of(node)
            prefix = f"{scope.api_id(node)}:"
            if group is None:
                definition = self._subgraphs[node["type"]]
                self._scopes[key] = Scope(
                    *_contents(definition), prefix, definition, False, scope, node
                )
            else:
                self._scopes[key] = self._group_scope(group, prefix, scope, node)
        return self._scopes[key]

    def _group_of(self, node: Json) -> Json | None:
        found = re.fullmatch(r"workflow[/>](.*)", str(node.get("type")), re.DOTALL)
        return self._groups.get(found[1]) if found else None

    def _group_scope(self, group: Json, prefix: str, parent: Scope, instance: Json) -> Scope:
        """Inner nodes count from 0; links are `[origin, slot, target, slot, type]`."""
        nodes: dict[str, Json] = {}
        for number, each in enumerate(group.get("nodes") or ()):
            index = each.get("index", number)
            sockets = [{**socket, "link": None} for socket in each.get("inputs") or ()]
            nodes[str(index)] = {**each, "id": index, "inputs": sockets}
        wires: dict[Any, Wire] = {}
        for number, (origin, slot, target, target_slot, *rest) in enumerate(
            group.get("links") or ()
        ):
            if str(origin) in nodes and str(target) in nodes:
                kind = rest[-1] if rest else "*"
                wires[number] = Wire.from_json([number, origin, slot, target, target_slot, kind])
                if not 0 <= int(target_slot) < _SLOTS_MAX:
                    raise ValueError("a link into a slot that no node has")
                sockets = nodes[str(target)]["inputs"]
                while len(sockets) <= int(target_slot):
                    sockets.append({"name": f"?{len(sockets)}", "type": "*"})
                sockets[int(target_slot)]["link"] = number
        scope = Scope(nodes, wires, prefix, group, True, parent, instance)
        self._share_values(scope)
        self._share_sockets(scope)
        return scope

    def _share_values(self, scope: Scope) -> None:
        """The group node holds the values of all inner nodes in a row."""
        rest = scope.instance.get("widgets_values")
        if not isinstance(rest, list):
            return
        for node in scope.nodes.values():
            own = len(node.get("widgets_values") or ())
            if definition := self._info.get(str(node.get("type"))):
                own = max(own, count(definition))
            if own and rest:
                node["widgets_values"] = rest[:own]
            rest = rest[own:]

    def _share_sockets(self, scope: Scope) -> None:
        """Which socket of the group node feeds which inner input: by name, or title and name."""
        outer = {each.get("name"): each for each in scope.instance.get("inputs") or ()}
        for index, node in scope.nodes.items():
            for socket in node["inputs"]:
                name, kind = socket.get("name"), node.get("type")
                names = (name, f"{node.get('title') or kind} {name}", f"{kind} {name}")
                if socket.get("link") is None:
                    taken = next((each for each in names if each in outer), None)
                    if taken is not None:
                        scope.outer_sockets[index, str(name)] = outer.pop(taken)


def _contents(data: Json) -> tuple[dict[str, Json], dict[Any, Wire]]:
    wires = [Wire.from_json(each) for each in data.get("links") or () if each]
    nodes = {str(each["id"]): each for each in data.get("nodes") or ()}
    return nodes, {each.id: each for each in wires}
