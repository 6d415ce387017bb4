"""The audit log: who changed what, and how it was before. Pure."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from comfy.workflow import Sidecar


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """*before* and *after*: what differs, by key; empty where there is no such side."""

    at: datetime
    guild_id: int
    user_id: int
    workflow: str
    action: str
    before: dict[str, Any]
    after: dict[str, Any]


def difference(before: Sidecar, after: Sidecar) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keys of a sidecar that differ, as `parameters.cfg.max`, on both sides."""
    one, other = dict(_flat(before.model_dump())), dict(_flat(after.model_dump()))
    changed = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    return (
        {key: one[key] for key in changed if key in one},
        {key: other[key] for key in changed if key in other},
    )


def lines(change: Change) -> Iterator[str]:
    """`parameters.cfg.max: 30 → 12`, for people."""
    for key in {**change.before, **change.after}:
        old, new = (_shown(side.get(key)) for side in (change.before, change.after))
        yield f"{key}: {old} → {new}" if old and new else f"{key}: {new or f'{old} → none'}"


def _flat(data: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif value not in (None, "", []):
            yield f"{prefix}{key}", value


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)
