"""The HTTP face: what a member gets, for scripts. `openapi.yaml` tells of every route.

A request over HTTP is a job like any other: the same checks, limits and line. Nothing that comes
in is used as a path or an address.
"""

import asyncio
import contextlib
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web

from bot import http_shapes as shapes
from bot.acceptance import Acceptance
from bot.config import Config
from bot.errors import Busy, ConfigError, LimitReached, StoreError, UserError, explain
from bot.http_members import Member, member_of
from bot.http_shapes import Json
from bot.jobs import NOWHERE, Job, JobState
from bot.metrics import Latest, Metrics
from bot.requests import build, check_limits, may_use
from bot.runner import Runner
from bot.servers import Servers
from bot.shelf import Shelf
from bot.spool import Spool
from bot.store import Store
from bot.uploads import Uploads, check_size
from comfy.errors import ServerError
from comfy.files import opened
from comfy.library import Library
from comfy.workflow import Workflow

log = logging.getLogger(__name__)

MEMBER = web.RequestKey("member", Member)
OPENAPI = Path(__file__).with_name("openapi.yaml")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LOOK = 2.0  # seconds; another process may have the job, of which nothing is heard here
_WAIT_MAX = 60.0  # seconds that one request may wait
_BEAT = 15.0  # seconds, after which a silent stream says that it lives
_LISTED = 100  # jobs
_CHUNK = 2**18  # bytes
_SMALL = 2**20  # bytes of a body
_LARGE_AT_ONCE = 2  # larger ones, which are held in memory several times over
_STREAMS = 20  # that a member may have open at once, files among them
_SENDING = 600.0  # seconds for one file
_CLOSING = 1.0  # seconds that open requests get when the bot ends
_OPEN = ("/healthz", "/readyz", "/metrics", "/api/openapi.json")  # without a token
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True, kw_only=True)
class HttpFace:
    """*tokens*: by member; *is_ready*: whether Discord is connected."""

    tokens: Mapping[str, str] = field(repr=False)
    settings: Callable[[], Config]
    is_ready: Callable[[], bool]
    store: Store
    library: Library
    servers: Servers
    spool: Spool
    uploads: Uploads
    acceptance: Acceptance
    runner: Runner
    shelf: Shelf
    metrics: Metrics
    _large: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_LARGE_AT_ONCE))
    _jobs: Latest = field(init=False)
    _streams: Counter[str] = field(default_factory=Counter)  # open ones, by member

    def __post_init__(self) -> None:
        self._jobs = Latest(lambda: self.store.numbers())

    @asynccontextmanager
    async def serving(self, host: str, port: int) -> AsyncIterator[None]:
        """`ConfigError` if another program has the port."""
        runner = web.AppRunner(await self.app(), access_log=None, shutdown_timeout=_CLOSING)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, host, port).start()
            except OSError as error:
                raise ConfigError(
                    f"http: {host}:{port} cannot be listened on ({error.strerror}). "
                    "Choose another port."
                ) from error
            members = ", ".join(self.tokens) or "nobody"
            log.info("http://%s:%s answers monitors, and its /api %s", host, port, members)
            yield
        finally:
            await runner.cleanup()
            await self._jobs.close()

    async def app(self) -> web.Application:
        app = web.Application(middlewares=[_worded, self._identified])
        document = yaml.safe_load(await asyncio.to_thread(OPENAPI.read_text, "utf-8"))

        async def openapi(request: web.Request) -> web.Response:
            return _json(document)

        app.add_routes(
            [
                web.get("/healthz", self.healthz),
                web.get("/readyz", self.readyz),
                web.get("/metrics", self.show_metrics),
                web.get("/api/openapi.json", openapi),
                web.get("/api/test_comfy", self.test_comfy),
                web.get("/api/workflows", self.workflows),
                web.post("/api/workflow/{name}", self.run_workflow),
                web.get("/api/task_status/{id}", self.task_status),
                web.get("/api/task_status/{id}/events", self.events, allow_head=False),
                web.post("/api/cancel/{id}", self.cancel),
                web.get("/api/history", self.history),
                web.get("/api/history/{id}", self.history_of_one),
                web.get("/api/image/{id}", self.images),
                web.get("/api/image/{id}/{number}", self.image, allow_head=False),
                web.get("/api/status", self.status),
                web.get("/api/view_queue", self.view_queue),
            ]
        )
        return app

    @web.middleware
    async def _identified(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in _OPEN:
            member = member_of(request.headers.get("Authorization", ""), self.tokens)
            if member is None:
                raise web.HTTPUnauthorized(
                    text="Send `Authorization: Bearer TOKEN`, with the token of a member.",
                    headers={"WWW-Authenticate": "Bearer"},
                )
            request[MEMBER] = member
        return await handler(request)

    # For monitors

    async def healthz(self, request: web.Request) -> web.Response:
        """The process lives, and its event loop moves."""
        return _json({"status": "alive"})

    async def readyz(self, request: web.Request) -> web.Response:
        told = {"discord": self.is_ready(), "servers": self._servers_up()}
        ready = bool(told["discord"] and told["servers"])
        return _json({"ready": ready, **told}, status=200 if ready else 503)

    async def show_metrics(self, request: web.Request) -> web.Response:
        jobs = await self._jobs.get()
        page = self.metrics.page(jobs, self.servers.values(), discord_up=self.is_ready())
        return web.Response(body=page, headers={"Content-Type": Metrics.CONTENT_TYPE})

    def _servers_up(self) -> int:
        return sum(each.up for each in self.servers.values())

    # Workflows

    async def test_comfy(self, request: web.Request) -> web.Response:
        asked = request.query.get("server")
        if asked is not None and asked not in self.servers:
            raise web.HTTPNotFound(text="There is no such server.")
        named = [self.servers[asked]] if asked is not None else self.servers.values()
        if not named:
            raise web.HTTPServiceUnavailable(text="No ComfyUI server is set up.")
        server = next((each for each in named if each.up), next(iter(named)))
        stats = await server.client.raw_system_stats()
        return _json(
            {
                "status": "success",
                "comfyui_url": f"{server.client.url}/system_stats",
                "response": {"system_stats": stats},
            }
        )

    async def workflows(self, request: web.Request) -> web.Response:
        author = request[MEMBER].author()
        found = self.library.workflows
        usable = sorted(name for name, each in found.items() if may_use(each, author))
        return _json({"workflows": usable})

    async def run_workflow(self, request: web.Request) -> web.Response:
        name, member = request.match_info["name"], request[MEMBER]
        workflow = self.library.workflows.get(name)
        if workflow is None:
            raise web.HTTPNotFound(text="There is no such workflow. GET /api/workflows lists them.")
        limits, now = self.settings().limits, datetime.now(UTC)
        check_limits(limits, await self.store.usage(member.user_id, now))  # before files are kept
        small = request.content_length is not None and request.content_length < _SMALL
        async with contextlib.nullcontext() if small else self._large:
            raw = await _body(request, limits.upload_mb * 2**20 * 4 // 3 + _SMALL)  # base64
            body = await asyncio.to_thread(shapes.body_of, raw)
            wish, files = await asyncio.to_thread(shapes.wish_of, name, body)
            wish = replace(wish, files=await self._kept(workflow, files))
        asked = build(workflow, wish, member.author(), limits, self.servers.nodes, now)
        await self.acceptance.accept(asked, frozenset())
        await self.store.acknowledge(asked.id, NOWHERE)
        self.runner.wake()
        return _json(shapes.accepted(asked.id, member.name))

    async def _kept(self, workflow: Workflow, files: Mapping[str, bytes]) -> dict[str, str]:
        parameters, kept = workflow.parameters(self.servers.nodes), {}
        for name, data in files.items():
            if name not in parameters:
                raise UserError(f"*{workflow.title}* takes no `{name[:60]}`.")
            check_size(parameters[name].role, len(data), self.settings().limits.upload_mb)
            kept[name] = await self.uploads.keep(parameters[name].role, data)
        return kept

    # Jobs

    async def task_status(self, request: web.Request) -> web.Response:
        """With `wait` once it is over, or after so many seconds."""
        job = await self._job(request)
        if job is None:
            return _json(shapes.not_found(), status=404)
        clock = asyncio.get_running_loop().time
        end = clock() + _seconds(request.query.get("wait", "0"))
        while not job.state.final and (left := end - clock()) > 0:
            await self.shelf.change(job.id, min(left, _LOOK))
            job = await self.store.get(job.id) or job
        return _json(await self._status(job, request))

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: its status whenever that changes, until it is over."""
        job = await self._job(request)
        if job is None:
            return _json(shapes.not_found(), status=404)
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        stream = web.StreamResponse(headers=headers)
        async with self._streaming(stream, request):
            clock, told, told_at = asyncio.get_running_loop().time, None, 0.0
            while True:
                status = await self._status(job, request)
                if status != told:
                    told, told_at = status, clock()
                    await stream.write(
                        f"event: status\ndata: {shapes.to_json(status)}\n\n".encode()
                    )
                elif clock() - told_at > _BEAT:
                    told_at = clock()
                    await stream.write(b": still there\n\n")
                if job.state.final:
                    break
                await self.shelf.change(job.id, _LOOK)
                job = await self.store.get(job.id) or job
        return stream

    @asynccontextmanager
    async def _streaming(
        self, stream: web.StreamResponse, request: web.Request
    ) -> AsyncIterator[None]:
        """Once it has begun, an error cannot be answered any more: it is cut off."""
        member = request[MEMBER].name
        if self._streams[member] >= _STREAMS:
            raise web.HTTPTooManyRequests(text=f"At most {_STREAMS} streams and files at once.")
        self._streams[member] += 1
        try:
            await stream.prepare(request)
            yield
        except ConnectionResetError:
            pass  # whoever listened went away
        except Exception as error:
            log.warning("an answer of %s was cut off: %s", request.path[:80], error)
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._streams[member] -= 1

    async def cancel(self, request: web.Request) -> web.Response:
        job = await self._job(request)
        if job is None:
            return _json(shapes.not_found(), status=404)
        if not await self.runner.cancel(job):
            raise web.HTTPConflict(text="It is too late: the task has ended.")
        return _json({"status": "success", "prompt_id": job.id})

    async def history(self, request: web.Request) -> web.Response:
        jobs = await self.store.recent(request[MEMBER].user_id, _LISTED)
        return _json(shapes.history_of(jobs, _root(request)))

    async def history_of_one(self, request: web.Request) -> web.Response:
        """Empty for what nobody knows, as ComfyUI answers."""
        job = await self._job(request)
        return _json(shapes.history_of([job] if job else [], _root(request)))

    async def images(self, request: web.Request) -> web.Response:
        job = await self._done(request)
        images = shapes.images_of(job, _root(request))
        return _json({"status": "success", "images": images})

    async def image(self, request: web.Request) -> web.StreamResponse:
        """The bytes of one file, without the workflow that ComfyUI writes into it."""
        job, number = await self._done(request), request.match_info["number"]
        if not (number.isascii() and number.isdigit() and int(number[:9]) < len(job.outputs)):
            raise web.HTTPNotFound(text="The task made no file with this number.")
        one = replace(job, outputs=(job.outputs[int(number[:9])],))
        server = self.servers.get(job.server or "")
        if server is None:
            raise web.HTTPGone(text="The server that has it is no longer set up.")
        if not server.up:
            raise web.HTTPServiceUnavailable(text="The server that has it does not answer.")
        async with self.spool.fetched(one, server.client, until=datetime.now(UTC)) as (files, _):
            if not files:
                await server.client.queue()  # `ServerError`: it only does not answer
                raise web.HTTPGone(text="The file is no longer on the server.")
            stream = web.StreamResponse(headers=shapes.headers_of(files[0].name))
            stream.content_length = files[0].size
            async with (
                self._streaming(stream, request),
                asyncio.timeout(_SENDING),
                opened(files[0].path, "rb") as file,
            ):
                while chunk := await asyncio.to_thread(file.read, _CHUNK):
                    await stream.write(chunk)
            return stream

    async def _job(self, request: web.Request) -> Job | None:
        """The member's own."""
        job_id = request.match_info["id"]
        job = await self.store.get(job_id) if _ID.fullmatch(job_id) else None
        return job if job and job.request.user_id == request[MEMBER].user_id else None

    async def _done(self, request: web.Request) -> Job:
        job = await self._job(request)
        if job is None:
            raise web.HTTPNotFound(text="Task not found")
        if job.state is not JobState.POSTED:
            raise web.HTTPConflict(text=job.note or f"The task is not completed: {job.state.word}.")
        return job

    async def _status(self, job: Job, request: web.Request) -> Json:
        place = (await self.store.place(job)).number if job.state is JobState.PENDING else 0
        progress, server = self.shelf.progress_of(job.id), self.servers.get(job.server or "")
        return shapes.status_of(job, place, progress, server, _root(request))

    # The whole

    async def status(self, request: web.Request) -> web.Response:
        numbers = await self.store.numbers()
        waiting = numbers.pop(JobState.PENDING, 0)
        return _json(
            {
                "status": "success",
                "discord": self.is_ready(),
                "servers": shapes.servers_of(self.servers),
                "queue": {"running": sum(numbers.values()), "waiting": waiting},
            }
        )

    async def view_queue(self, request: web.Request) -> web.Response:
        running, waiting = await self.store.on_servers(), await self.store.pending(_LISTED)
        return _json(shapes.queue_of(running, waiting, request[MEMBER].user_id))


@web.middleware
async def _worded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error as `{"error", "status_code"}`."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        text, status, headers = error.text or error.reason, error.status, dict(error.headers)
        headers = {key: headers[key] for key in ("WWW-Authenticate", "Allow") if key in headers}
        return _json(shapes.error_of(text, status), status=status, headers=headers)
    except Exception as error:
        status = _status_for(error)
        if status == 500:
            log.exception("%s %s failed", request.method, request.rel_url.raw_path[:200])
        text = explain(error) or "Something went wrong on our side. The log has the details."
        return _json(shapes.error_of(text, status), status=status)


def _status_for(error: Exception) -> int:
    match error:
        case LimitReached():
            return 429
        case Busy() | StoreError() | ServerError():
            return 503
    return 500 if explain(error) is None else 400


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _WAIT_MAX:
        raise web.HTTPBadRequest(text=f"`wait` is a number of seconds from 0 to {_WAIT_MAX:.0f}.")
    return seconds


def _json(
    data: Json, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.json_response(data, status=status, headers=headers, dumps=shapes.to_json)


async def _body(request: web.Request, largest: int) -> bytes:
    """What arrives whole, unpacked."""
    raw = bytearray()
    try:
        async for chunk in request.content.iter_any():
            raw += chunk
            if len(raw) > largest:
                raise web.HTTPRequestEntityTooLarge(largest, len(raw))
    except (ConnectionResetError, aiohttp.ClientError, web.RequestPayloadError) as error:
        raise web.HTTPBadRequest(text="The body did not arrive whole.") from error
    return bytes(raw)


def _root(request: web.Request) -> str:
    """The address of this face as it was asked; a proxy in front tells whether it speaks HTTPS."""
    try:
        origin = request.url.origin()
    except ValueError as error:
        raise web.HTTPBadRequest(text="The header Host holds no address.") from error
    if request.headers.get("X-Forwarded-Proto") == "https":
        origin = origin.with_scheme("https")
    return str(origin)
