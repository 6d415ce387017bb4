"""A small server that answers like a ComfyUI and paints its pictures instead of computing them.

The demo runs on it (no GPU is needed) and the tests use it as their ComfyUI. Routes, frames and
error bodies follow recordings of ComfyUI 0.27.0 and 0.3.64. Try it: `python -m comfy.standin`.
"""

import asyncio
import contextlib
import json
import struct
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import click
from aiohttp import WSMsgType, web

from comfy.standin_check import check_prompt
from comfy.standin_http import canonical, json_object, parsed, refusal, trouble, upload, view
from comfy.standin_info import object_info
from comfy.standin_store import Item, Place, job_details, jobs, milliseconds
from comfy.standin_worker import Pace, Preview, Text, Worker

__all__ = ["Pace", "StandIn"]

Json = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MODELS: Mapping[str, Sequence[str]] = {
    "checkpoints": ["dreamshaper_8.safetensors", "sd_xl_base_1.0.safetensors"],
    "loras": ["detail_tweaker_xl.safetensors", "watercolour.safetensors"],
    "vae": ["ae.safetensors", "sdxl_vae.safetensors"],
    "diffusion_models": ["flux1-dev.safetensors", "flux1-schnell.safetensors"],
    "text_encoders": ["clip_l.safetensors", "t5xxl_fp8_e4m3fn.safetensors"],
    "upscale_models": ["4x-UltraSharp.pth", "RealESRGAN_x4plus.pth"],
}
PACE = Pace()
MAX_UPLOAD = 100 * 2**20  # ComfyUI's default of --max-upload-size
JOB_STATUSES = ("pending", "in_progress", "completed", "failed", "cancelled")


@dataclass(slots=True)
class Socket:
    """One open /ws connection."""

    stream: web.WebSocketResponse
    transport: asyncio.Transport | None
    metadata: bool = False
    """Whether its first message asked for previews with metadata."""


class StandIn(Worker):
    """The server. Without *models* it accepts any model file name: nothing is loaded.

    A *version* below 0.27.0 answers as 0.3.64 does. With a *token* every request needs
    `Authorization: Bearer <token>`.
    """

    def __init__(
        self,
        *,
        pace: Pace = PACE,
        version: str = "0.27.0",
        models: Mapping[str, Sequence[str]] | None = None,
        token: str | None = None,
    ) -> None:
        numbers = tuple(int(number) for number in version.split("."))
        super().__init__(pace, modern=numbers >= (0, 27))
        self.version = version
        self.models = MODELS if models is None else dict.fromkeys(MODELS, ()) | dict(models)
        self.any_model = models is None
        self.token = token
        self.memory = 16 * 2**30
        self.requests: list[tuple[str, str]] = []
        self.sockets: dict[str, Socket] = {}
        self.number = 0
        self.url = ""
        self.app = web.Application(client_max_size=MAX_UPLOAD, middlewares=[self._receive])
        self._add_routes()
        self._runner: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._tasks = [asyncio.create_task(self.work()), asyncio.create_task(self._publish())]
        self._runner = web.AppRunner(self.app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        self.url = f"http://{host}:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for socket in list(self.sockets.values()):
            await socket.stream.close()
        if self._runner:
            await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _add_routes(self) -> None:
        routes: list[tuple[str, str, Handler]] = [
            ("GET", "/ws", self._ws),
            ("GET", "/system_stats", self._system_stats),
            ("GET", "/features", self._features),
            ("GET", "/prompt", self._get_prompt),
            ("POST", "/prompt", self._post_prompt),
            ("GET", "/queue", self._get_queue),
            ("POST", "/queue", self._post_queue),
            ("POST", "/interrupt", self._post_interrupt),
            ("GET", "/history", self._get_history),
            ("GET", "/history/{id}", self._get_history_entry),
            ("POST", "/history", self._post_history),
            ("POST", "/free", self._post_free),
            ("GET", "/object_info", self._object_info),
            ("GET", "/object_info/{name}", self._object_info),
            ("GET", "/models", self._models),
            ("GET", "/models/{folder}", self._models_in),
            ("GET", "/embeddings", self._embeddings),
            ("GET", "/view", self._view),
            ("POST", "/upload/image", self._upload),
        ]
        for method, path, handler in routes:
            add = self.app.router.add_get if method == "GET" else self.app.router.add_post
            for prefix in ("", "/api"):
                add(prefix + path, handler)
        if self.modern:
            self.app.router.add_get("/api/jobs", self._jobs)
            self.app.router.add_get("/api/jobs/{id}", self._job)
            self.app.router.add_post("/api/jobs/{id}/cancel", self._cancel_job)

    @web.middleware
    async def _receive(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.endswith("/ws"):
            self.requests.append((request.method, request.path))
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=401)
        try:
            return await self.answer(request, handler)
        except web.HTTPNotFound:  # an unknown route: recorded as an empty body (c2)
            return web.Response(status=404)

    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a request; everything passes here, /ws too."""
        return await handler(request)

    # The socket

    async def _ws(self, request: web.Request) -> web.WebSocketResponse:
        sid = request.query.get("clientId") or uuid.uuid4().hex
        stream = web.WebSocketResponse()
        await stream.prepare(request)
        socket = self.sockets[sid] = Socket(stream, request.transport)
        try:
            await self._greet(socket, sid)
            first = True
            async for message in stream:
                if first and message.type is WSMsgType.TEXT:
                    await self._negotiate(socket, message.data)
                first = False
        finally:
            # By id, not by socket, as a ComfyUI does it: when a client opens a second socket
            # before its first has closed, the second one is deaf from then on (recorded in h2).
            self.sockets.pop(sid, None)
        return stream

    async def _greet(self, socket: Socket, sid: str) -> None:
        info = {"exec_info": {"queue_remaining": self.queue.remaining()}}
        hello = {"type": "status", "data": {"status": info, "sid": sid}}
        await socket.stream.send_json(hello)
        if self.run and self.run.todo and self.run.item.client_id == sid:
            node = {"type": "executing", "data": {"node": self.run.todo[0]}}
            await socket.stream.send_json(node)

    async def _negotiate(self, socket: Socket, message: str) -> None:
        match parsed(message):
            case {"type": "feature_flags", "data": dict(flags)}:
                socket.metadata = bool(flags.get("supports_preview_metadata"))
                answer = {"type": "feature_flags", "data": self._feature_flags()}
                await socket.stream.send_json(answer)

    async def _publish(self) -> None:
        """Send what the worker tells, in order, to those it is for."""
        while True:
            frame = await self.outbox.get()
            for sid, socket in list(self.sockets.items()):
                if frame.to is None or frame.to == sid:
                    with contextlib.suppress(ConnectionError):
                        await self.deliver(socket, frame)

    async def deliver(self, socket: Socket, frame: Text | Preview) -> None:
        """Send one frame over one socket."""
        if isinstance(frame, Text):
            await socket.stream.send_json({"type": frame.type, "data": frame.data})
        elif frame.about is None:
            if frame.to is None or not socket.metadata:
                await socket.stream.send_bytes(struct.pack(">II", 1, 1) + frame.jpeg)
        elif socket.metadata:
            about = json.dumps(frame.about).encode()
            head = struct.pack(">II", 4, len(about))
            await socket.stream.send_bytes(head + about + frame.jpeg)

    # What the server is and has

    def _feature_flags(self) -> Json:
        flags: Json = {"supports_preview_metadata": True, "max_upload_size": MAX_UPLOAD}
        if self.modern:
            flags |= {"supports_model_type_tags": True, "node_replacements": True}
            flags |= {"extension": {"manager": {"supports_v4": True}}, "assets": False}
        return flags

    async def _features(self, _: web.Request) -> web.Response:
        return web.json_response(self._feature_flags())

    async def _system_stats(self, _: web.Request) -> web.Response:
        system = {
            "os": "linux" if self.modern else "posix",
            "ram_total": self.memory,
            "ram_free": self.memory // 2,
            "comfyui_version": self.version,
            "python_version": "3.11",
            "pytorch_version": "none: pictures are painted",
            "embedded_python": False,
            "argv": ["standin"],
        }
        device: Json = {"name": "stand-in", "type": "cpu", "index": None}
        device |= {"vram_total": self.memory, "vram_free": self.memory // 2}
        device |= {"torch_vram_total": self.memory, "torch_vram_free": self.memory // 2}
        return web.json_response({"system": system, "devices": [device]})

    def _info(self) -> Json:
        return object_info(self.models, self.files.pictures(), modern=self.modern)

    async def _object_info(self, request: web.Request) -> web.Response:
        info = self._info()
        if name := request.match_info.get("name"):
            info = {name: info[name]} if name in info else {}
        return web.json_response(info)

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response([*self.models, "embeddings"])

    async def _models_in(self, request: web.Request) -> web.Response:
        names = {**self.models, "embeddings": ()}.get(request.match_info["folder"])
        return web.Response(status=404) if names is None else web.json_response(list(names))

    async def _embeddings(self, _: web.Request) -> web.Response:
        return web.json_response([])

    # Prompts

    async def _get_prompt(self, _: web.Request) -> web.Response:
        return web.json_response({"exec_info": {"queue_remaining": self.queue.remaining()}})

    async def _post_prompt(self, request: web.Request) -> web.Response:
        body = parsed(await request.text())
        if body == []:  # recorded in c2: an array is an object without a prompt
            body = {}
        if not isinstance(body, dict):
            raise trouble()
        number = self._number(body)
        if "prompt" not in body:
            return refusal("no_prompt", "No prompt provided", "No prompt provided")
        prompt_id = body.get("prompt_id") if self.modern else str(body.get("prompt_id", ""))
        if prompt_id is None or "prompt_id" not in body:
            prompt_id = str(uuid.uuid4())
        elif self.modern and not canonical(prompt_id):
            details = "prompt_id must be a UUID string in canonical lowercase hyphenated form;"
            details += " omit it to let the server generate one"
            return refusal("invalid_prompt_id", "prompt_id must be a valid UUID", details)
        try:
            verdict = check_prompt(
                body["prompt"],
                self._info(),
                targets=body.get("partial_execution_targets"),
                any_model=self.any_model,
                modern=self.modern,
                is_picture=lambda name: Place.annotated(name) in self.files,
            )
            extra_data = dict(body.get("extra_data", {}))
        except (TypeError, AttributeError):
            raise trouble() from None
        if verdict.error:
            answer = {"error": verdict.error, "node_errors": verdict.node_errors}
            return web.json_response(answer, status=400)
        if "client_id" in body:
            extra_data["client_id"] = body["client_id"]
        if self.modern:
            extra_data["create_time"] = milliseconds()
        self.queue.put(Item(number, prompt_id, body["prompt"], extra_data, verdict.outputs))
        self.send_status()
        return web.json_response(
            {"prompt_id": prompt_id, "number": number, "node_errors": verdict.node_errors}
        )

    def _number(self, body: Json) -> float:
        """The place in the queue; the counter also grows for prompts that are refused."""
        if "number" in body:
            try:
                return float(body["number"])
            except (TypeError, ValueError):
                raise trouble() from None
        number = self.number
        self.number += 1
        return -number if body.get("front") else number

    async def _get_queue(self, _: web.Request) -> web.Response:
        running = [self.queue.running.row()] if self.queue.running else []
        pending = [item.row() for item in self.queue.pending()]
        return web.json_response({"queue_running": running, "queue_pending": pending})

    async def _post_queue(self, request: web.Request) -> web.Response:
        body = await json_object(request)
        if body.get("clear"):
            self.queue.clear()
            self.send_status()
        for prompt_id in body.get("delete", ()):
            if self.queue.delete(prompt_id):
                self.send_status()
        return web.Response()

    async def _post_interrupt(self, request: web.Request) -> web.Response:
        body = parsed(await request.text())
        if body is not None and not isinstance(body, dict):
            raise trouble()
        self.interrupt((body or {}).get("prompt_id"))
        return web.Response()

    async def _get_history(self, request: web.Request) -> web.Response:
        try:
            most = request.query.get("max_items")
            offset = int(request.query.get("offset", -1))
            return web.json_response(self.queue.page(None if most is None else int(most), offset))
        except ValueError:
            raise trouble() from None

    async def _get_history_entry(self, request: web.Request) -> web.Response:
        prompt_id = request.match_info["id"]
        entry = self.queue.history.get(prompt_id)
        return web.json_response({prompt_id: entry} if entry else {})

    async def _post_history(self, request: web.Request) -> web.Response:
        body = await json_object(request)
        if body.get("clear"):
            self.queue.history.clear()
        for prompt_id in body.get("delete", ()):
            self.queue.history.pop(prompt_id, None)
        return web.Response()

    async def _post_free(self, request: web.Request) -> web.Response:
        if (await json_object(request)).get("free_memory"):
            self.cache.clear()
        return web.Response()

    async def _jobs(self, request: web.Request) -> web.Response:
        wanted = request.query.get("status", ",".join(JOB_STATUSES)).split(",")
        if unknown := [status for status in wanted if status not in JOB_STATUSES]:
            told = f"Invalid status value(s): {', '.join(unknown)}. Valid values: "
            return web.json_response({"error": told + ", ".join(JOB_STATUSES)}, status=400)
        found = [job for job in jobs(self.queue) if job["status"] in wanted]
        offset, limit = int(request.query.get("offset", 0)), request.query.get("limit")
        if limit is not None and not (limit.isdigit() and int(limit)):
            return web.json_response({"error": "limit must be a positive integer"}, status=400)
        stop = len(found) if limit is None else offset + int(limit)
        paging = {"offset": offset, "limit": limit and int(limit), "total": len(found)}
        paging["has_more"] = stop < len(found)
        return web.json_response({"jobs": found[offset:stop], "pagination": paging})

    async def _job(self, request: web.Request) -> web.Response:
        for job in jobs(self.queue):
            if job["id"] == request.match_info["id"]:
                return web.json_response(job_details(job, self.queue))
        return web.json_response({"error": "Job not found"}, status=404)

    async def _cancel_job(self, request: web.Request) -> web.Response:
        prompt_id = request.match_info["id"]
        deleted = self.queue.delete(prompt_id)
        if deleted:
            self.send_status()
        return web.json_response({"cancelled": deleted or self.interrupt(prompt_id)})

    # Files

    async def _view(self, request: web.Request) -> web.Response:
        return await asyncio.to_thread(view, self.files, request)

    async def _upload(self, request: web.Request) -> web.Response:
        return await upload(self.files, request)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8188, show_default=True)
@click.option("--step", default=PACE.step, help="Seconds for a step of a sampler.")
@click.option("--node", default=PACE.node, help="Seconds for any other node.")
@click.option("--previews/--no-previews", default=True, help="Send pictures while sampling.")
@click.option("--version", default="0.27.0", show_default=True, help="The ComfyUI to answer as.")
@click.option("--token", help="Refuse requests without this bearer token.")
def main(
    host: str, port: int, step: float, node: float, previews: bool, version: str, token: str | None
) -> None:
    """Run a stand-in for ComfyUI until Ctrl-C."""
    standin = StandIn(pace=Pace(node, step, previews), version=version, token=token)

    async def run() -> None:
        await standin.start(host, port)
        click.echo(f"Stand-in for ComfyUI {version} at {standin.url}")
        try:
            await asyncio.Event().wait()
        finally:
            await standin.close()

    try:
        asyncio.run(run())
    except OSError as error:
        raise click.ClickException(f"{host}:{port}: {error.strerror}") from error
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
