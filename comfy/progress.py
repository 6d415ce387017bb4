"""How far a prompt is: a fold over its events. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from comfy.events import Cached, Event, Executing, Preview, Progress
from comfy.graph import Graph

_PLAIN_NODE = 1.0  # a sampler counts its steps instead, as they are most of the time


@dataclass(frozen=True, slots=True)
class RunProgress:
    """*node_id* runs now. `fraction` goes from 0 to 1 and never back.

    *preview*: what the picture looks like so far, if the server shows it.
    """

    weights: Mapping[str, float]
    done: frozenset[str] = frozenset()
    node_id: str | None = None
    part: float = 0.0
    fraction: float = field(default=0.0)
    preview: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(cls, graph: Graph) -> Self:
        return cls({node_id: _weight(node["inputs"]) for node_id, node in graph.items()})

    def after(self, event: Event) -> Self:
        match event:
            case Cached(_, nodes):
                return self._with(done=self.done | set(nodes))
            case Executing(_, node_id) if node_id != self.node_id:
                ended = {self.node_id} if self.node_id is not None else set()
                return self._with(done=self.done | ended, node_id=node_id, part=0.0)
            case Progress(_, node_id, value, top) if top > 0:
                return self._with(
                    node_id=node_id, part=1.0 if value >= top else max(value / top, 0.0)
                )
            case Preview(_, picture):
                return replace(self, preview=picture)
        return self

    def _with(self, **changes: object) -> Self:
        moved = replace(self, **changes)  # type: ignore[arg-type]
        total = sum(moved.weights.values()) or 1.0
        passed = sum(moved.weights.get(each, 0.0) for each in moved.done)
        if moved.node_id is not None and moved.node_id not in moved.done:
            passed += moved.weights.get(moved.node_id, 0.0) * moved.part
        return replace(moved, fraction=max(self.fraction, min(passed / total, 1.0)))


def _weight(inputs: Mapping[str, object]) -> float:
    match inputs:
        case {"steps": int(steps)} if steps > 0:
            return float(min(steps, 10_000))
        case {"sigmas": _, "guider": _}:
            return 20.0  # its steps stand in another node
    return _PLAIN_NODE
