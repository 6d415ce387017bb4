"""What the stand-in keeps, all of it in memory: the files, the queue and the history."""

import asyncio
import heapq
import itertools
import posixpath
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

FOLDERS = ("input", "output", "temp")


def milliseconds() -> int:
    return time.time_ns() // 1_000_000


def inside(path: str) -> bool:
    """Whether a path from outside stays in the folder it is relative to."""
    normal = posixpath.normpath(path)
    return not (posixpath.isabs(normal) or normal.split("/")[0] == "..")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file is, as /view asks for it."""

    filename: str
    subfolder: str = ""
    type: str = "output"

    @classmethod
    def annotated(cls, name: str, folder: str = "input") -> "Place":
        """From `sub/name [output]`, the way a graph names a file."""
        if match := re.fullmatch(r"(.*) \[(input|output|temp)\]", name):
            name, folder = match[1], match[2]
        subfolder, _, filename = name.rpartition("/")
        return cls(filename, subfolder, folder)

    def json(self) -> Json:
        return {"filename": self.filename, "subfolder": self.subfolder, "type": self.type}


class Files:
    """The input, output and temp folders."""

    def __init__(self) -> None:
        self._data: dict[Place, bytes] = {}

    def __contains__(self, place: Place) -> bool:
        return place in self._data

    def __getitem__(self, place: Place) -> bytes:
        return self._data[place]

    def get(self, place: Place, default: bytes) -> bytes:
        return self._data.get(place, default)

    def __setitem__(self, place: Place, data: bytes) -> None:
        self._data[place] = data

    def pictures(self) -> list[str]:
        """The names LoadImage offers: files at the top of the input folder."""
        return [
            place.filename for place in self._data if place.type == "input" and not place.subfolder
        ]

    def upload(self, place: Place, data: bytes, *, overwrite: bool) -> Place:
        """Keep a file under its name, or under "name (1)" when other bytes have that name."""
        stem, extension = posixpath.splitext(place.filename)
        for number in itertools.count(1):
            if overwrite or place not in self._data or self._data[place] == data:
                break
            place = Place(f"{stem} ({number}){extension}", place.subfolder, place.type)
        self._data[place] = data
        return place

    def save(self, prefix: str, folder: str, data: bytes) -> Place:
        """Keep a picture as `prefix_00001_.png`, or the next number that is not taken."""
        subfolder, _, stem = posixpath.normpath(prefix).rpartition("/")
        pattern = re.compile(rf"{re.escape(stem)}_(\d+)_\.png")
        taken = [
            int(match[1])
            for place in self._data
            if (place.type, place.subfolder) == (folder, subfolder)
            and (match := pattern.fullmatch(place.filename))
        ]
        place = Place(f"{stem}_{max(taken, default=0) + 1:05}_.png", subfolder, folder)
        self._data[place] = data
        return place

    def wipe_temp(self) -> None:
        self._data = {place: data for place, data in self._data.items() if place.type != "temp"}


@dataclass(frozen=True, slots=True)
class Item:
    """A prompt in the queue."""

    number: float
    prompt_id: str
    graph: dict[str, Json]
    extra_data: Json
    outputs: list[str]

    @property
    def client_id(self) -> Any:
        return self.extra_data.get("client_id")

    def row(self) -> list[Any]:
        return [self.number, self.prompt_id, self.graph, self.extra_data, self.outputs]


@dataclass(slots=True)
class Queue:
    """Pending, running and finished prompts; the lowest number runs first."""

    running: Item | None = None
    history: dict[str, Json] = field(default_factory=dict)
    _heap: list[tuple[float, str, int, Item]] = field(default_factory=list)
    _serial: Iterator[int] = field(default_factory=itertools.count)
    _filled: asyncio.Event = field(default_factory=asyncio.Event)

    def pending(self) -> list[Item]:
        """In heap order, which is not sorted: a ComfyUI shows it that way too."""
        return [item for *_, item in self._heap]

    def remaining(self) -> int:
        return len(self._heap) + (self.running is not None)

    def put(self, item: Item) -> None:
        heapq.heappush(self._heap, (item.number, item.prompt_id, next(self._serial), item))
        self._filled.set()

    async def take(self) -> Item:
        """Wait for a pending prompt; it becomes the running one."""
        while not self._heap:
            self._filled.clear()
            await self._filled.wait()
        *_, self.running = heapq.heappop(self._heap)
        return self.running

    def finish(self, entry: Json) -> None:
        """The running prompt moves to history; a later one with its id overwrites the entry."""
        assert self.running is not None
        self.history.pop(self.running.prompt_id, None)
        self.history[self.running.prompt_id] = entry
        self.running = None

    def delete(self, prompt_id: str) -> bool:
        """Remove one pending prompt with this id, if there is one."""
        for position, (_, pending_id, *_) in enumerate(self._heap):
            if pending_id == prompt_id:
                del self._heap[position]
                heapq.heapify(self._heap)
                return True
        return False

    def clear(self) -> None:
        self._heap.clear()

    def page(self, max_items: int | None, offset: int) -> dict[str, Json]:
        """History, oldest first. As recorded: without an offset the newest *max_items*."""
        entries = list(self.history.items())
        if offset < 0 and max_items is not None:
            offset = max(0, len(entries) - max_items)
        start = max(0, offset)
        stop = None if max_items is None else start + max_items
        return dict(entries[start:stop])


def jobs(queue: Queue) -> list[Json]:
    """The queue and the history as /api/jobs lists them, newest first."""
    found = [_open_job(item, "pending") for item in queue.pending()]
    if queue.running:
        found.append(_open_job(queue.running, "in_progress"))
    found += [_closed_job(entry) for entry in queue.history.values()]
    return sorted(found, key=lambda job: job["create_time"], reverse=True)


def job_details(job: Json, queue: Queue) -> Json:
    """One job with what only /api/jobs/{id} tells."""
    if job["id"] not in queue.history or job["status"] in ("pending", "in_progress"):
        return job
    entry = queue.history[job["id"]]
    _, _, graph, extra_data, _ = entry["prompt"]
    return {
        **job,
        "outputs": entry["outputs"],
        "execution_status": entry["status"],
        "workflow": {"prompt": graph, "extra_data": extra_data},
    }


def _open_job(item: Item, status: str) -> Json:
    return _job(item.row(), status, 0)


def _closed_job(entry: Json) -> Json:
    messages = dict(entry["status"]["messages"])
    status = "completed"
    if entry["status"]["status_str"] == "error":
        status = "cancelled" if "execution_interrupted" in messages else "failed"
    files = [
        {**file, "nodeId": node_id, "mediaType": kind}
        for node_id, output in entry["outputs"].items()
        for kind, values in output.items()
        for file in values
        if isinstance(file, dict)
    ]
    job = _job(entry["prompt"], status, sum(map(len, _lists(entry["outputs"]))))
    times = [data["timestamp"] for data in messages.values()]
    job |= {"execution_start_time": times[0], "execution_end_time": times[-1]}
    if "execution_error" in messages:
        job["execution_error"] = messages["execution_error"]
    if files:
        job["preview_output"] = files[0]
    return job


def _lists(outputs: Json) -> list[list[Any]]:
    return [values for output in outputs.values() for values in output.values()]


def _job(row: list[Any], status: str, outputs_count: int) -> Json:
    number, prompt_id, _, extra_data, _ = row
    job = {
        "id": prompt_id,
        "status": status,
        "priority": number,
        "create_time": extra_data.get("create_time", 0),
        "outputs_count": outputs_count,
    }
    workflow = extra_data.get("extra_pnginfo", {}).get("workflow", {})
    return {**job, "workflow_id": workflow["id"]} if "id" in workflow else job
