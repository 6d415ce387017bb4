"""How the stand-in runs a prompt: node after node, with the frames a ComfyUI sends meanwhile."""

import asyncio
import hashlib
import io
import json
import random
import string
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from PIL import Image, UnidentifiedImageError

from comfy.standin_nodes import LITERAL_TYPES, NODES, SAMPLERS, SAVERS, sources
from comfy.standin_paint import Painter, example
from comfy.standin_store import Files, Item, Place, Queue, inside, milliseconds

Json = dict[str, Any]
Graph = dict[str, Json]

# A real server's errors carry such lines; they must not reach a chat.
TRACEBACK = ['  File "/comfyui/execution.py", line 543, in execute']

DATE_CODES = {
    "year": "%Y",
    "month": "%m",
    "day": "%d",
    "hour": "%H",
    "minute": "%M",
    "second": "%S",
}


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things take, in seconds."""

    node: float = 0.05
    """A node that is not a sampler."""
    step: float = 0.25
    """One step of a sampler."""
    previews: bool = True
    """Whether each step sends a preview picture."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text frame for the sockets of one client id; None is everybody."""

    to: Any
    type: str
    data: Json


@dataclass(frozen=True, slots=True)
class Preview:
    """A JPEG for the sockets of one client id; None is everybody.

    *about* is set for sockets that asked for metadata. They get the frame before the `progress`
    of the same step, the others after it (recorded in a1 and a2), so each step sends both kinds.
    """

    to: Any
    jpeg: bytes
    about: Json | None


class InterruptedPrompt(Exception):
    """Somebody asked the running prompt to stop."""


class NodeFailed(Exception):
    """A node raised: the way a ComfyUI names the error, and its message."""

    def __init__(self, exception_type: str, message: str) -> None:
        super().__init__(message)
        self.exception_type = exception_type


@dataclass(slots=True)
class Run:
    """The execution of one prompt."""

    item: Item
    signatures: dict[str, str]
    todo: list[str] = field(default_factory=list)
    """Nodes still to run, the current one first."""
    executed: list[str] = field(default_factory=list)
    outputs: Json = field(default_factory=dict)
    progress: Json = field(default_factory=dict)
    messages: list[tuple[str, Json]] = field(default_factory=list)

    def class_type(self, node_id: str) -> str:
        return str(self.item.graph[node_id]["class_type"])


class Worker:
    """Takes prompts from the queue and runs them one at a time."""

    def __init__(self, pace: Pace, *, modern: bool) -> None:
        self.pace = pace
        self.modern = modern
        self.files = Files()
        self.files[Place("example.png", type="input")] = example()
        self.queue = Queue()
        self.cache: dict[str, Json | None] = {}
        """What nodes of the last prompt put out, by signature (0.3.64 keeps no more than that)."""
        self.executed: list[str] = []
        """The prompt ids in the order their executions began, one entry for each."""
        self.run: Run | None = None
        self.outbox: asyncio.Queue[Text | Preview] = asyncio.Queue()
        self._interrupt = asyncio.Event()

    def paint(self, graph: Graph, node_id: str, index: int) -> bytes:
        """The PNG of one output picture. Runs in a thread."""
        return Painter(graph, self._open).png(node_id, index)

    def interrupt(self, prompt_id: str | None = None) -> bool:
        """Stop the running prompt, if it is this one; without an id any."""
        running = self.queue.running
        if running is None or prompt_id not in (None, running.prompt_id):
            return False
        self._interrupt.set()
        return True

    async def wait(self, *events: asyncio.Event, seconds: float | None = None) -> None:
        """Let time pass inside a node, until an event or the time is up; an interrupt ends it."""
        if seconds == 0:
            await asyncio.sleep(0)
        elif not self._interrupt.is_set():
            waiting = [asyncio.create_task(event.wait()) for event in (self._interrupt, *events)]
            try:
                await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waiting:
                    task.cancel()
        if self._interrupt.is_set():
            raise InterruptedPrompt

    def send_status(self) -> None:
        info = {"exec_info": {"queue_remaining": self.queue.remaining()}}
        self.outbox.put_nowait(Text(None, "status", {"status": info}))

    async def work(self) -> None:
        """Run prompts for ever."""
        while True:
            item = await self.queue.take()
            self.send_status()
            self.queue.finish(await self.execute(item))
            self.run = None
            self.send_status()
            if item.client_id is not None:
                data = {"node": None, "prompt_id": item.prompt_id}
                self.outbox.put_nowait(Text(item.client_id, "executing", data))

    async def execute(self, item: Item) -> Json:
        """Run one prompt and return its history entry."""
        self.executed.append(item.prompt_id)
        self._interrupt.clear()
        run = self.run = Run(item, self._signatures(item))
        self._tell(run, "execution_start")
        known = set(run.signatures.values())
        self.cache = {key: output for key, output in self.cache.items() if key in known}
        cached = [n for n in item.graph if run.signatures.get(n) in self.cache]
        self._tell(run, "execution_cached", nodes=cached)
        run.todo = execution_order(item.graph, item.outputs, cached)
        try:
            while run.todo:
                await self._next_node(run)
        except InterruptedPrompt:
            about = {"node_id": run.todo[0], "node_type": run.class_type(run.todo[0])}
            # Without a client id everybody hears of it (recorded in e3).
            self._tell(run, "execution_interrupted", True, **about, executed=run.executed)
        except Exception as error:
            self._tell(run, "execution_error", **_failure(run, error))
        else:
            self._tell(run, "execution_success")
            # As recorded: history has the entry only after this frame, up to 0.4 s later.
            await asyncio.sleep(self.pace.node)
        success = run.messages[-1][0] == "execution_success"
        return {
            "prompt": item.row(),
            "outputs": run.outputs,
            "status": {
                "status_str": "success" if success else "error",
                "completed": success,
                "messages": [list(message) for message in run.messages],
            },
            "meta": {
                node_id: {
                    "node_id": node_id,
                    "display_node": node_id,
                    "parent_node": None,
                    "real_node_id": node_id,
                }
                for node_id in run.outputs
            },
        }

    async def run_node(self, run: Run, node_id: str) -> Json | None:
        """Do what a node does; returns what an output node shows, e.g. `{"images": [...]}`."""
        class_type = run.class_type(node_id)
        if class_type in SAMPLERS:
            await self._sample(run, node_id)
            return None
        await self.wait(seconds=self.pace.node)
        painter = Painter(run.item.graph, self._open)
        if class_type in SAVERS:
            return await self._save(run, node_id, painter.count(node_id))
        if class_type == "PreviewAny":
            return {"text": [str(painter.value(node_id, "source"))]}
        if class_type == "LoadImage":
            await asyncio.to_thread(self._open, str(painter.value(node_id, "image")))
        return None

    async def _next_node(self, run: Run) -> None:
        node_id = run.todo[0]
        signature = run.signatures[node_id]
        if signature in self.cache:
            output = self.cache[signature]
            # Recorded in b2: without a client id 0.27.0 forgets the outputs of cached nodes.
            if not self.modern or run.item.client_id is not None:
                self._put_out(run, node_id, output)
            self._progress(run, node_id, 1, 1, "finished")
        else:
            self._progress(run, node_id, 0.0, 1.0, "running")
            self._send(run, "executing", node=node_id, display_node=node_id)
            _refuse_literals(run, node_id)
            output = await self.run_node(run, node_id)
            self._put_out(run, node_id, output)
            top = run.progress[node_id]["max"]
            self._progress(run, node_id, top, top, "finished")
            self.cache[signature] = output
            run.executed.append(node_id)
        run.todo.pop(0)

    async def _sample(self, run: Run, node_id: str) -> None:
        item = run.item
        painter = Painter(item.graph, self._open)
        steps = painter.steps(node_id)
        for step in range(1, steps + 1):
            await self.wait(seconds=self.pace.step)
            self._progress(run, node_id, step, steps, "running")
            if not self.pace.previews:
                self._send(run, "progress", True, value=step, max=steps, node=node_id)
                continue
            jpeg = await asyncio.to_thread(painter.preview, node_id, step / steps)
            about = {
                "node_id": node_id,
                "prompt_id": item.prompt_id,
                "display_node_id": node_id,
                "parent_node_id": None,
                "real_node_id": node_id,
                "image_type": "image/jpeg",
            }
            if item.client_id is not None:
                self.outbox.put_nowait(Preview(item.client_id, jpeg, about))
            self._send(run, "progress", True, value=step, max=steps, node=node_id)
            self.outbox.put_nowait(Preview(item.client_id, jpeg, None))

    async def _save(self, run: Run, node_id: str, count: int) -> Json:
        graph = run.item.graph
        folder = SAVERS[run.class_type(node_id)]
        prefix = f"ComfyUI_temp_{''.join(random.choices(string.ascii_lowercase, k=5))}"
        if folder == "output":
            painter = Painter(graph, self._open)
            prefix = dated(str(painter.value(node_id, "filename_prefix", "ComfyUI")))
        if not inside(prefix):
            message = "**** ERROR: Saving image outside the output folder is not allowed."
            raise NodeFailed("Exception", f"{message}\n output_dir: /comfyui/output")
        images = []
        for index in range(count):
            picture = await asyncio.to_thread(self.paint, graph, node_id, index)
            images.append(self.files.save(prefix, folder, picture).json())
        return {"images": images}

    def _open(self, name: str) -> Image.Image:
        try:
            picture = Image.open(io.BytesIO(self.files[Place.annotated(name)]))
            picture.load()
        except (UnidentifiedImageError, OSError) as error:
            message = f"cannot identify image file '/comfyui/input/{name}'"
            raise NodeFailed("PIL.UnidentifiedImageError", message) from error
        return picture

    def _signatures(self, item: Item) -> dict[str, str]:
        """What each needed node computes, as a hash over itself and all it depends on."""
        known: dict[str, str] = {}

        def signature(node_id: str) -> str:
            if node_id not in known:
                node = item.graph[node_id]
                inputs = dict(node["inputs"])
                for source in sources(item.graph, node_id):
                    signature(source)
                for name, value in inputs.items():
                    if isinstance(value, list) and value and value[0] in known:
                        inputs[name] = [known[value[0]], *value[1:]]
                place = Place.annotated(str(inputs.get("image")))
                data = self.files.get(place, b"")
                told = json.dumps([node["class_type"], inputs], sort_keys=True).encode()
                known[node_id] = hashlib.sha256(told + data).hexdigest()
            return known[node_id]

        for output in item.outputs:
            signature(output)
        return known

    def _put_out(self, run: Run, node_id: str, output: Json | None) -> None:
        if output is None:
            return
        run.outputs[node_id] = output
        self._send(run, "executed", node=node_id, display_node=node_id, output=output)

    def _progress(self, run: Run, node_id: str, value: float, top: float, state: str) -> None:
        run.progress[node_id] = {
            "value": value,
            "max": top,
            "state": state,
            "node_id": node_id,
            "prompt_id": run.item.prompt_id,
            "display_node_id": node_id,
            "parent_node_id": None,
            "real_node_id": node_id,
        }
        self._send(run, "progress_state", True, nodes=dict(run.progress))

    def _tell(self, run: Run, event: str, everybody: bool = False, /, **data: Any) -> None:
        """Send an event that history keeps."""
        data = {"prompt_id": run.item.prompt_id, **data, "timestamp": milliseconds()}
        run.messages.append((event, data))
        if run.item.client_id is not None or everybody:
            self.outbox.put_nowait(Text(run.item.client_id, event, data))

    def _send(self, run: Run, event: str, everybody: bool = False, /, **data: Any) -> None:
        """Send to the prompt's client; *everybody* hears it when the prompt names no client."""
        if run.item.client_id is not None or everybody:
            data["prompt_id"] = run.item.prompt_id
            self.outbox.put_nowait(Text(run.item.client_id, event, data))


def execution_order(graph: Graph, outputs: list[str], cached: Collection[str]) -> list[str]:
    """The needed nodes in the order a ComfyUI runs them: of those that are ready, first the
    ones that bring an output closest, so pictures are saved as early as possible.

    Of cached nodes only the outputs are listed: their pictures are shown again.
    """
    waiting: dict[str, set[str]] = {}
    for output in outputs:
        found = [output]
        while found:
            node_id = found.pop()
            if node_id in waiting:
                continue
            needed = [] if node_id in cached else sources(graph, node_id)
            needed = [source for source in needed if source not in cached]
            waiting[node_id] = set(needed)
            found += needed

    def followers(node_ids: Collection[str]) -> list[str]:
        return [n for n, needed in waiting.items() if not needed.isdisjoint(node_ids)]

    def distance(node_id: str) -> int:
        reached = [node_id]
        for steps in range(3):
            if any(NODES[graph[found]["class_type"]].is_output for found in reached):
                return steps
            reached = followers(reached)
        return 3

    order = []
    while waiting:
        node_id = min((n for n, needed in waiting.items() if not needed), key=distance)
        order.append(node_id)
        del waiting[node_id]
        for others in waiting.values():
            others.discard(node_id)
    return order


def dated(prefix: str) -> str:
    """A file name prefix with `%year%` and the like replaced."""
    for name, code in DATE_CODES.items():
        prefix = prefix.replace(f"%{name}%", time.strftime(code))
    return prefix


def _refuse_literals(run: Run, node_id: str) -> None:
    """As recorded in a18: a value where a link is needed fails only when the node runs."""
    node = run.item.graph[node_id]
    for name, (kind, _) in NODES[node["class_type"]].required.items():
        value = node["inputs"][name]
        if isinstance(kind, str) and kind not in LITERAL_TYPES and not isinstance(value, list):
            message = f"{type(value).__name__!r} object has no attribute 'shape'"
            raise NodeFailed("AttributeError", message)


def _failure(run: Run, error: Exception) -> Json:
    """What an execution_error tells besides prompt id and time (recorded in d1)."""
    node_id = run.todo[0]
    inputs = run.item.graph[node_id]["inputs"]
    kind = error.exception_type if isinstance(error, NodeFailed) else type(error).__name__
    return {
        "node_id": node_id,
        "node_type": run.class_type(node_id),
        "executed": run.executed,
        "exception_message": f"{error}\n",
        "exception_type": kind,
        "traceback": TRACEBACK,
        "current_inputs": {name: [value] for name, value in inputs.items()},
        "current_outputs": list(run.item.graph),
    }
