"""The audit log: who changed what, and how it was before. Pure."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from comfy.phrases import read, say
from comfy.workflow import ParameterSettings, Sidecar


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
    names = {*before.parameters, *after.parameters}
    one, other = (dict(_flat(_filled(each, names))) for each in (before, after))
    changed = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    return (
        {key: one[key] for key in changed if key in one},
        {key: other[key] for key in changed if key in other},
    )


def lines(change: Change) -> Iterator[str]:
    """`parameters.cfg.max: 30 → 12`, for people."""
    for key in {**change.before, **change.after}:
        old, new = (_shown(side.get(key)) for side in (change.before, change.after))
        if old and new:
            yield say("{key}: {before} → {after}", key=key, before=old, after=new)
        elif new:
            yield say("{key}: {after}", key=key, after=new)
        else:
            yield say("{key}: {before} → none", key=key, before=old)


def _filled(sidecar: Sidecar, names: Iterable[str]) -> dict[str, Any]:
    """With every parameter that either side has, as what is not said is the default."""
    settings = {name: sidecar.parameters.get(name, ParameterSettings()) for name in names}
    return {
        **sidecar.model_dump(),
        "parameters": {name: each.model_dump() for name, each in sorted(settings.items())},
    }


def _flat(data: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif value not in (None, "", []):
            yield f"{prefix}{key}", value


def _shown(value: Any) -> str:
    value = read(value)
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)
