"""The editor's format → the API graph that ComfyUI's own frontend would queue. Pure.

A link is followed to the node whose output really feeds it: through reroutes, bypassed nodes,
Set/Get pairs, into and out of subgraphs and group nodes. What the frontend does in each case was
recorded, and the recordings are the specification.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from comfy.editor import BYPASS, INPUTS, NEVER, OUTPUTS, Editor, Json, Scope, Wire
from comfy.errors import ConversionError
from comfy.graph import Graph, as_link
from comfy.phrases import say
from comfy.widgets import served, specs, widgets

_NODES_MAX = 10_000  # subgraphs in subgraphs multiply
_REROUTES = {"Reroute", "Reroute (rgthree)", "SetNode"}
_VIRTUAL = {
    *_REROUTES, "PrimitiveNode", "Note", "MarkdownNote", "GetNode",
    "Bookmark (rgthree)", "Fast Actions Button (rgthree)", "Fast Bypasser (rgthree)",
    "Fast Groups Bypasser (rgthree)", "Fast Groups Muter (rgthree)", "Fast Muter (rgthree)",
    "Label (rgthree)", "Mute / Bypass Relay (rgthree)", "Mute / Bypass Repeater (rgthree)",
    "Node Collector (rgthree)", "Random Unmuter (rgthree)",
}  # fmt: skip
_RENAMED = {
    "T2IAdapterLoader": "ControlNetLoader",
    "ConditioningAverage ": "ConditioningAverage",
    "SDV_img2vid_Conditioning": "SVD_img2vid_Conditioning",
}


@dataclass(frozen=True, slots=True)
class _Output:
    """A link ends at this node of the API graph."""

    node_id: str
    slot: int


@dataclass(frozen=True, slots=True)
class _Value:
    """A link ends at a value: of a primitive, or of a widget promoted out of a subgraph."""

    value: Any


@dataclass(frozen=True, slots=True)
class _Nothing:
    """A link leads nowhere. From a muted node it even takes away the saved value."""

    muted: bool = False


_Source = _Output | _Value | _Nothing


def convert(workflow: Json, object_info: Mapping[str, Json]) -> Graph:
    """*object_info*: the raw JSON of `GET /object_info`.

    Raises `ConversionError`, whose `missing` names the node classes that the server lacks.
    """
    try:
        return _Conversion(workflow, dict(object_info)).graph()
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ConversionError(
            say("is in the editor's format, but its parts do not fit.")
        ) from error
    except RecursionError as error:
        raise ConversionError(say("nests subgraphs or chains nodes without end.")) from error


class _Conversion:
    def __init__(self, workflow: Json, object_info: Json) -> None:
        self._info = object_info
        self._editor = Editor(workflow, object_info)
        self._visited = 0

    def graph(self) -> Graph:
        real = list(self._real_nodes(self._editor.root))
        classes = {_class_of(node) for _, node in real}
        if missing := sorted(classes - self._info.keys()):
            names = ", ".join(missing)
            raise ConversionError(
                say("needs nodes that the server does not have: {nodes}.", nodes=names), missing
            )
        graph: Graph = {
            scope.api_id(node): {
                "class_type": _class_of(node),
                "inputs": self._inputs(scope, node),
                "_meta": {"title": str(node.get("title") or self._display_name(node))},
            }
            for scope, node in real
        }
        for each in graph.values():
            for name, value in list(each["inputs"].items()):
                if (link := as_link(value)) is not None and link.node_id not in graph:
                    del each["inputs"][name]
        return graph

    def _real_nodes(self, scope: Scope) -> Iterator[tuple[Scope, Json]]:
        for node in scope.nodes.values():
            self._visited += 1
            if self._visited > _NODES_MAX:
                raise ConversionError(
                    say("unfolds into more than {number} nodes.", number=_NODES_MAX)
                )
            if node.get("mode") in (NEVER, BYPASS):
                continue
            if self._editor.is_instance(node):
                yield from self._real_nodes(self._editor.inside(scope, node))
            elif node.get("type") not in _VIRTUAL:
                yield scope, node

    def _display_name(self, node: Json) -> str:
        name = self._info[_class_of(node)].get("display_name")
        return str(name or _class_of(node))

    # Inputs of a node

    def _inputs(self, scope: Scope, node: Json) -> Json:
        class_type = _class_of(node)
        result = {}
        for name, spec, saved in widgets(self._info[class_type], node.get("widgets_values")):
            value = self._promoted(scope, node).get(name, saved)
            result[name] = self._served(class_type, name, spec, value)
        declared = dict(specs(self._info[class_type]))
        for socket in node.get("inputs") or ():
            name = socket["name"]
            match self._fed(scope, node, socket):
                case _Output(node_id, slot):
                    result[name] = [node_id, slot]
                case _Value(value) if name in declared or "." in name:
                    spec = declared.get(name) or ["*"]
                    result[name] = self._served(class_type, name, spec, value)
                case _Nothing(muted=True):
                    result.pop(name, None)
        return {name: value for name, value in result.items() if value is not None}

    def _served(self, class_type: str, name: str, spec: Any, value: Any) -> Any:
        if name == "filename_prefix" and isinstance(value, str):
            value = re.sub(r"%([^%.]+)\.([^%.]+)%", self._widget_text, value)
        return served(class_type, name, spec, value)

    def _widget_text(self, found: re.Match[str]) -> str:
        """`%Node.widget%` in a file name: that widget's value, fit for a file name."""
        nodes = list(self._editor.root.nodes.values())
        named = [n for n in nodes if (n.get("properties") or {}).get(_NAME_FOR_SEARCH) == found[1]]
        for node in named or [n for n in nodes if n.get("title") == found[1]]:
            definition = self._info.get(_class_of(node))
            for each in widgets(definition, node.get("widgets_values")) if definition else ():
                if each.name == found[2]:
                    return re.sub(r'[/?<>\\:*|"\x00-\x1F\x7F]', "_", str(each.value))
            break
        return found[0]

    def _fed(self, scope: Scope, node: Json, socket: Json) -> _Source | None:
        """What feeds an input; None for one that is not linked."""
        link = socket.get("link")
        if link is not None:
            if link not in scope.wires:  # then the wire itself knows better than the socket
                slot = node["inputs"].index(socket)
                at = (str(node["id"]), slot)
                wires = scope.wires.values()
                link = next((w.id for w in wires if (w.target, w.target_slot) == at), link)
            return self._source(scope, link, direct=True)
        outer = scope.outer_sockets.get((str(node["id"]), str(socket.get("name"))))
        if outer is not None and outer.get("link") is not None and scope.parent is not None:
            return self._source(scope.parent, outer["link"], direct=True)
        return None

    # Links

    def _source(self, scope: Scope, link: Any, *, direct: bool = False) -> _Source:
        """Where a wire comes from. *direct*: nothing stands between, so a primitive counts."""
        wire = scope.wires.get(link)
        if wire is None:
            return _Nothing()
        if wire.origin == INPUTS:
            return self._from_outside(scope, wire.origin_slot, direct=direct)
        node = scope.nodes.get(wire.origin)
        return _Nothing() if node is None else self._from(scope, node, wire, direct=direct)

    def _from(self, scope: Scope, node: Json, wire: Wire, *, direct: bool) -> _Source:
        kind, mode = node.get("type"), node.get("mode")
        values = node.get("widgets_values") or [None]
        if kind == "PrimitiveNode":  # even when it is muted or bypassed
            return _Value(values[0]) if direct and values[0] is not None else _Nothing()
        if mode == NEVER:
            return _Nothing(muted=True)
        if kind in _REROUTES:
            return self._through(scope, node, 0)
        if kind == "GetNode":
            return self._from_set(scope, values[0])
        if mode == BYPASS:
            return self._through(scope, node, _bypass(scope, node, wire))
        if self._editor.is_instance(node):
            inner = self._editor.inside(scope, node)
            if inner.is_group:
                return self._from_group(inner, wire)
            ends = (w.id for w in inner.wires.values() if w.target == OUTPUTS)
            link = next((w for w in ends if inner.wires[w].target_slot == wire.origin_slot), None)
            return self._source(inner, link)
        return _Output(scope.api_id(node), wire.origin_slot)

    def _through(self, scope: Scope, node: Json, slot: int | None) -> _Source:
        sockets = node.get("inputs") or ()
        if slot is None or slot >= len(sockets):
            return _Nothing()
        return self._source(scope, sockets[slot].get("link"))

    def _from_set(self, scope: Scope | None, name: Any) -> _Source:
        """What the SetNode of that name gets, here or further out."""
        while scope is not None:
            for node in scope.nodes.values():
                values = node.get("widgets_values") or [None]
                if node.get("type") == "SetNode" and values[0] == name:
                    muted = node.get("mode") == NEVER
                    return _Nothing(muted=True) if muted else self._through(scope, node, 0)
            scope = scope.parent
        return _Nothing()

    def _from_group(self, inner: Scope, wire: Wire) -> _Source:
        """Outputs of a group: those of its nodes in a row, without the ones used inside only."""
        used = {(each.origin, each.origin_slot) for each in inner.wires.values()}
        kept = {(str(each[0]), int(each[1])) for each in inner.definition.get("external") or ()}
        config = inner.definition.get("config") or {}
        visible: list[tuple[Json, int]] = []
        for index, node in inner.nodes.items():
            chosen = (config.get(index) or {}).get("output") or {}
            outputs = (self._info.get(_class_of(node)) or {}).get("output") or ()
            for slot in range(len(outputs)):
                shown = (chosen.get(str(slot)) or {}).get("visible")
                hidden = (index, slot) in used and (index, slot) not in kept and not shown
                if shown is not False and not hidden:
                    visible.append((node, slot))
        if wire.origin_slot >= len(visible):
            return _Nothing()
        node, slot = visible[wire.origin_slot]
        follow = Wire(wire.id, str(node["id"]), slot, wire.target, wire.target_slot, wire.type)
        return self._from(inner, node, follow, direct=False)

    # Subgraphs

    def _from_outside(self, scope: Scope, slot: int, *, direct: bool) -> _Source:
        """What feeds an input of a subgraph: a link of the instance, or a promoted widget."""
        declared = scope.definition.get("inputs") or []
        if slot >= len(declared) or scope.parent is None:
            return _Nothing()
        name, sockets = declared[slot].get("name"), scope.instance.get("inputs") or []
        socket = next((each for each in sockets if each.get("name") == name), None)
        if socket is None and len(sockets) == len(declared):
            socket = sockets[slot]
        if socket is not None and socket.get("link") is not None:
            return self._source(scope.parent, socket["link"], direct=direct)
        own = self._instance_values(scope)
        if (INSIDE_OUT, name) in own:
            return _Value(own[INSIDE_OUT, name])
        outer = self._promoted(scope.parent, scope.instance)
        if name in outer:
            return _Value(outer[name])
        return self._inner_value(scope, declared[slot])

    def _promoted(self, scope: Scope, node: Json) -> Json:
        """Values that the instance around *node* holds for its widgets."""
        if scope.is_group or scope.parent is None:
            return {}
        own = self._instance_values(scope)
        return {name: value for (inner, name), value in own.items() if inner == str(node["id"])}

    def _instance_values(self, scope: Scope) -> dict[tuple[str, str], Any]:
        """By (inner node, widget); the node is -1 for an input of the subgraph. Null is unset."""
        values = scope.instance.get("widgets_values")
        proxies = (scope.instance.get("properties") or {}).get("proxyWidgets")
        if proxies:
            names = [(str(inner), name) for inner, name, *_ in proxies]
        else:
            declared = scope.definition.get("inputs") or ()
            names = [(INSIDE_OUT, each.get("name")) for each in declared if any(_ends(scope, each))]
        given = zip(names, values if isinstance(values, list) else (), strict=False)
        return {name: value for name, value in given if value is not None}

    def _inner_value(self, scope: Scope, declared: Json) -> _Source:
        """A promoted widget that nobody set shows, and gives, the first inner widget's value."""
        for node, name in _ends(scope, declared):
            definition = self._info.get(_class_of(node))
            if definition is None or node.get("mode") in (NEVER, BYPASS):
                continue
            for each in widgets(definition, node.get("widgets_values")):
                if each.name == name:
                    return _Value(self._promoted(scope, node).get(name, each.value))
        return _Nothing()


INSIDE_OUT = "-1"
_NAME_FOR_SEARCH = "Node name for S&R"


def _class_of(node: Json) -> str:
    return _RENAMED.get(str(node.get("type")), str(node.get("type")))


def _ends(scope: Scope, declared: Json) -> Iterator[tuple[Json, str]]:
    """The inner widgets that an input of a subgraph leads to."""
    for link in declared.get("linkIds") or ():
        wire = scope.wires.get(link)
        node = scope.nodes.get(wire.target) if wire else None
        sockets = (node or {}).get("inputs") or ()
        if node and wire and wire.target_slot < len(sockets):
            socket = sockets[wire.target_slot]
            if socket.get("widget"):
                yield node, str(socket["name"])


def _bypass(scope: Scope, node: Json, wire: Wire) -> int | None:
    """Which input a bypassed node passes on: the one of the same number if its type fits, else
    the first of exactly the wanted type, else the first that fits."""
    inputs, outputs = node.get("inputs") or [], node.get("outputs") or []
    slot = wire.origin_slot
    given = outputs[slot].get("type") if slot < len(outputs) else wire.type
    sockets = (scope.nodes.get(wire.target) or {}).get("inputs") or []
    wanted = sockets[wire.target_slot].get("type") if wire.target_slot < len(sockets) else wire.type
    types = [each.get("type") for each in inputs]
    if wanted == "*":
        return slot if slot < len(types) else 0
    if slot < len(types) and _fits(types[slot], given) and _fits(types[slot], wanted):
        return slot
    exact = next((number for number, each in enumerate(types) if each == wanted), None)
    if exact is not None:
        return exact
    return next((number for number, each in enumerate(types) if _fits(each, wanted)), None)


def _fits(one: Any, other: Any) -> bool:
    """Types as LiteGraph compares them: `*` fits all, `A,B` fits either."""
    if one in ("*", "", None, 0) or other in ("*", "", None, 0):
        return True
    return bool(set(str(one).upper().split(",")) & set(str(other).upper().split(",")))
