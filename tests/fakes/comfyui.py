"""The ComfyUI of the tests: the stand-in, made quick, with a switch for each thing that breaks."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aiohttp import web

from comfy.standin import Pace, StandIn
from comfy.standin_nodes import SAMPLERS
from comfy.standin_store import Place, Queue
from comfy.standin_worker import NodeFailed, Preview, Run, Text

QUICK = Pace(node=0.0, step=0.0)


class FakeComfyUI(StandIn):
    """A real HTTP server on loopback: `async with FakeComfyUI() as comfyui: comfyui.url`."""

    def __init__(self, *, pace: Pace = QUICK, **options: Any) -> None:
        super().__init__(pace=pace, **options)
        self.picture: bytes | None = None
        """When set, these are the bytes of every output picture."""
        self.suffix = ".png"
        """How the name of every output file ends."""
        self.outputs: Sequence[tuple[str, bytes | None]] = ()
        """When set, what every saving node puts out: how the name ends, and the bytes. None: the
        file is told of, and is no longer there."""
        self.held = asyncio.Event()
        """Set while a job waits because of `hold`."""
        self._gate = asyncio.Event()
        self._gate.set()
        self._failure: NodeFailed | None = None
        self._failing = asyncio.Event()
        self._passed: Run | None = None
        self._deaf: list[web.WebSocketResponse] = []
        self._answering = asyncio.Event()
        self._answering.set()
        self._lose_answer = False
        self._refusing = False
        self._after_outputs = asyncio.Event()
        self._after_outputs.set()

    def hold(self) -> None:
        """Let jobs wait from now on: before their sampler, or before their first node."""
        self._gate.clear()

    def finish(self) -> None:
        """Let the held job go on, and all after it."""
        self._gate.set()

    def hold_after_outputs(self) -> None:
        """Let jobs wait when all of their files are written, before history knows it."""
        self._after_outputs.clear()

    def stop_working(self) -> None:
        """The worker dies, as of a broken custom node: prompts are taken, and none runs."""
        self._tasks[0].cancel()

    def refuse(self) -> None:
        """Cut every connection instead of answering."""
        self._refusing = True

    def welcome(self) -> None:
        self._refusing = False

    def fail(
        self,
        message: str = "CUDA out of memory",
        exception_type: str = "torch.OutOfMemoryError",
    ) -> None:
        """The running job, held or not, ends in an execution_error; if none runs, the next one."""
        self._failure = NodeFailed(exception_type, message)
        self._failing.set()

    def forget(self) -> None:
        """Lose queue, history, cache and temp files, as a restart does.

        The running job is gone without a word. Sockets stay open: see `drop`.
        """
        self._tasks[0].cancel()
        self.queue = Queue()
        self.cache.clear()
        self.files.wipe_temp()
        self.number = 0
        self.run = None
        self.held.clear()
        self._after_outputs.set()
        self._tasks[0] = asyncio.create_task(self.work())

    def drop(self) -> None:
        """Close all sockets without a closing handshake."""
        for socket in self.sockets.values():
            if socket.transport:
                socket.transport.abort()

    def deafen(self) -> None:
        """The sockets open now stay open, but get no frame any more; new ones do."""
        self._deaf += [socket.stream for socket in self.sockets.values()]

    def stop_answering(self) -> None:
        """Accept requests, and answer none of them."""
        self._answering.clear()

    def answer_again(self) -> None:
        """Answer everything, also what was asked meanwhile."""
        self._answering.set()

    def lose_answer(self) -> None:
        """The next prompt is queued, but its connection is cut instead of answered."""
        self._lose_answer = True

    async def close(self) -> None:
        self._answering.set()
        await super().close()

    def paint(self, graph: dict[str, Any], node_id: str, index: int) -> bytes:
        if self.outputs:
            return self.outputs[index][1] or b""
        return self.picture or super().paint(graph, node_id, index)

    async def _save(self, run: Run, node_id: str, count: int) -> dict[str, Any]:
        made = await super()._save(run, node_id, len(self.outputs) or count)
        for number, each in enumerate(made["images"]):
            before = Place(each["filename"], each["subfolder"], each["type"])
            made_here = (self.suffix, self.files[before])
            suffix, data = self.outputs[number] if self.outputs else made_here
            each["filename"] = each["filename"].removesuffix(".png") + suffix
            if data is not None:
                self.files[replace(before, filename=each["filename"])] = data
        return made

    async def wait(self, *events: asyncio.Event, seconds: float | None = None) -> None:
        await super().wait(self._failing, *events, seconds=seconds)
        if self._failure:
            failure, self._failure = self._failure, None
            self._failing.clear()
            raise failure

    async def _next_node(self, run: Run) -> None:
        await super()._next_node(run)
        if not run.todo and not self._after_outputs.is_set():
            await self.wait(self._after_outputs)

    async def run_node(self, run: Run, node_id: str) -> dict[str, Any] | None:
        ahead = [node for node in run.todo if run.class_type(node) in SAMPLERS]
        if self._passed is not run and node_id == (ahead or run.todo)[0]:
            self._passed = run
            if not self._gate.is_set():
                self.held.set()
                try:
                    await self.wait(self._gate)
                finally:
                    self.held.clear()
        return await super().run_node(run, node_id)

    async def deliver(self, socket: Any, frame: Text | Preview) -> None:
        if socket.stream not in self._deaf:
            await super().deliver(socket, frame)

    async def answer(self, request: web.Request, handler: Any) -> web.StreamResponse:
        await self._answering.wait()
        if self._refusing and request.transport:
            request.transport.abort()
            return web.Response()
        response = await super().answer(request, handler)
        accepted = request.method == "POST" and request.path.endswith("/prompt")
        if self._lose_answer and accepted and response.status == 200:
            self._lose_answer = False
            if request.transport:
                request.transport.abort()
        return response
