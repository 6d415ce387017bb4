"""`/ws` frames → small types. What we do not know, or do not need, is `None`."""

import json
import struct
from dataclasses import dataclass
from typing import Any

from comfy.models import OutputFile, outputs_of

# Every step repeats the state of all nodes in a `progress_state`, quadratic in the graph's size;
# `progress` says the same of the node that runs. So the big frame is dropped before parsing.
_SKIPPED = '{"type": "progress_state"'
PROGRESS = '{"type": "progress"'  # how a frame begins that every step sends


@dataclass(frozen=True, slots=True)
class Started:
    prompt_id: str


@dataclass(frozen=True, slots=True)
class Cached:
    prompt_id: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Executing:
    """A node begins. *node_id* is the node as it stands in the graph we sent."""

    prompt_id: str
    node_id: str


@dataclass(frozen=True, slots=True)
class Progress:
    prompt_id: str
    node_id: str
    value: float
    max: float


@dataclass(frozen=True, slots=True)
class Executed:
    """A node put something out, which stays even if the server forgets the prompt."""

    prompt_id: str
    node_id: str
    files: tuple[OutputFile, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """The prompt left the queue, well or badly; from now on `/history` knows how.

    Made of `executing` with a null node. `execution_success` comes earlier than the history
    entry, and `execution_error` is not always the end, so neither is used.
    """

    prompt_id: str


@dataclass(frozen=True, slots=True)
class Preview:
    """What a sampler has so far: *picture* is a JPEG or PNG of at most 512 pixels a side."""

    prompt_id: str
    picture: bytes


Event = Started | Cached | Executing | Progress | Executed | Finished | Preview


_PREVIEW_WITH_METADATA = 4  # the other kinds of frames do not tell whose they are
_PREVIEW_MAX = 2 * 2**20  # bytes
_METADATA_MAX = 64 * 2**10
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


def parse_binary(data: bytes) -> Preview | None:
    if not 8 < len(data) <= _PREVIEW_MAX:
        return None
    kind, length = struct.unpack_from(">II", data)
    if kind != _PREVIEW_WITH_METADATA or length > _METADATA_MAX:
        return None
    try:
        metadata = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError):
        return None
    match metadata:
        case {"prompt_id": str(prompt_id), "image_type": "image/jpeg" | "image/png"}:
            picture = data[8 + length :]
            return Preview(prompt_id, picture) if picture.startswith(_PICTURES) else None
    return None


def parse_text(text: str) -> Event | None:
    if text.startswith(_SKIPPED):
        return None
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    match message:
        case {"type": "execution_start", "data": {"prompt_id": str(prompt_id)}}:
            return Started(prompt_id)
        case {"type": "execution_cached", "data": {"prompt_id": str(prompt_id), "nodes": [*ids]}}:
            return Cached(prompt_id, tuple(str(each) for each in ids))
        case {"type": "executing", "data": {"prompt_id": str(prompt_id), "node": None}}:
            return Finished(prompt_id)
        case {"type": "executing", "data": {"prompt_id": str(prompt_id)} as data}:
            return Executing(prompt_id, str(data.get("display_node") or data.get("node")))
        case {"type": "progress", "data": {"prompt_id": str(prompt_id)} as data}:
            return _progress(prompt_id, data)
        case {"type": "executed", "data": {"prompt_id": str(prompt_id), "output": dict(output)}}:
            return _executed(prompt_id, str(message["data"].get("node")), output)
    return None


def _executed(prompt_id: str, node_id: str, output: dict[str, Any]) -> Executed | None:
    try:
        return Executed(prompt_id, node_id, *outputs_of({node_id: output}))
    except (LookupError, TypeError, AttributeError, ValueError):
        return None


def _progress(prompt_id: str, data: dict[str, Any]) -> Progress | None:
    match data:
        case {"value": int() | float() as value, "max": int() | float() as top}:
            # Ids of an expanded node look like `4.0.0.1`; the part before the dot is ours.
            return Progress(prompt_id, str(data.get("node", "")).split(".")[0], value, top)
    return None
