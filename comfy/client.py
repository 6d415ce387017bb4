"""One ComfyUI server over HTTP and WebSocket: one method per route, one door for errors."""

import asyncio
import base64
import contextlib
import json
import ssl
import uuid
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import yarl

from comfy.errors import (
    AccessDenied,
    FileGone,
    NotComfyUI,
    PromptRefused,
    ServerError,
    ServerUnavailable,
)
from comfy.events import PROGRESS, Event, parse_binary, parse_text
from comfy.files import opened
from comfy.graph import Graph
from comfy.models import (
    HistoryEntry,
    OutputFile,
    PromptAccepted,
    Queue,
    SystemStats,
    parse_node_errors,
)
from comfy.nodes import NodeType, parse_object_info
from comfy.phrases import say

T = TypeVar("T")

_CONNECT = 5.0
_FEATURES = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
_HANDSHAKE = 10.0
_ANSWER = 30.0  # /object_info takes 0.6 s on an idle server, more while a model loads
_DOWNLOAD_STALL = 30.0
_UPLOAD = 300.0
_HEARTBEAT = 20.0  # the server never pings; without ours a half-open socket stays open for ever
_PROGRESS_EVERY = 1.0  # seconds
_FRAME_LIMIT = 64 * 2**20  # aiohttp's default of 4 MiB closes the socket on a large preview


@dataclass(frozen=True, slots=True)
class Access:
    """What a server asks of its callers. `repr` never shows the secrets."""

    token: str | None = field(default=None, repr=False)
    login: tuple[str, str] | None = field(default=None, repr=False)
    ca_file: str | None = None

    def headers(self) -> dict[str, str]:
        if self.token:
            return {"Authorization": f"Bearer {self.token}"}
        if self.login:
            told = base64.b64encode(":".join(self.login).encode()).decode()
            return {"Authorization": f"Basic {told}"}
        return {}

    def ssl(self) -> ssl.SSLContext | bool:
        return ssl.create_default_context(cafile=self.ca_file) if self.ca_file else True


class ComfyClient:
    """*url* may have a path prefix and a trailing slash. The session stays the caller's."""

    def __init__(
        self, url: str, session: aiohttp.ClientSession, access: Access | None = None
    ) -> None:
        parsed = yarl.URL(url)
        access = access or Access()
        if parsed.user is not None:
            access = Access(access.token, (parsed.user, parsed.password or ""), access.ca_file)
        self._url = parsed.with_user(None).with_query(None).with_fragment(None)
        self._session = session
        self._headers = access.headers()
        self._ssl = access.ssl()

    @property
    def url(self) -> str:
        """Without credentials: fit for logs and people."""
        return str(self._url).rstrip("/")

    async def system_stats(self) -> SystemStats:
        return self._read_as(SystemStats.from_json, await self.raw_system_stats())

    async def raw_system_stats(self) -> dict[str, Any]:
        """As it comes."""
        return await self._json("GET", "system_stats")

    async def object_info(self) -> dict[str, NodeType]:
        return await asyncio.to_thread(parse_object_info, await self.raw_object_info())

    async def raw_object_info(self) -> dict[str, Any]:
        """As it comes, for conversion. Up to a megabyte of JSON, so it is parsed in a thread."""
        raw = await self._read("GET", "object_info")
        try:
            data = await asyncio.to_thread(json.loads, raw)
        except (ValueError, RecursionError) as error:
            raise self._not_comfyui() from error
        if not isinstance(data, dict):
            raise self._not_comfyui()
        return data

    async def queue_prompt(self, graph: Graph, prompt_id: str, client_id: str) -> PromptAccepted:
        """Raises `PromptRefused` for 400. A 200 with node errors runs without those outputs.

        `number` is never sent: two equal ones with one id kill the server's worker.
        """
        body = {"prompt": graph, "prompt_id": prompt_id, "client_id": client_id}
        raw = await self._read("POST", "prompt", body)
        try:
            accepted = PromptAccepted.from_json(json.loads(raw))
        except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise ServerUnavailable(
                say("{server} took the prompt and answered nonsense", server=self.url)
            ) from error
        if accepted.prompt_id != prompt_id:
            with contextlib.suppress(ServerError):
                await self.delete_queued(accepted.prompt_id)
            raise PromptRefused(f"{self.url} needs ComfyUI 0.3.45 or later", "too_old")
        return accepted

    async def queue(self) -> Queue:
        return self._read_as(Queue.from_json, await self._json("GET", "queue"))

    async def history(self, prompt_id: str) -> HistoryEntry | None:
        """None while the prompt waits or runs, and when the server does not know it."""
        data = await self._json("GET", f"history/{prompt_id}")
        entry = data.get(prompt_id)
        if not entry:
            return None
        return self._read_as(lambda each: HistoryEntry.from_json(prompt_id, each), entry)

    async def delete_queued(self, prompt_id: str) -> None:
        """No effect on a prompt that runs already; the answer is the same."""
        await self._read("POST", "queue", {"delete": [prompt_id]})

    async def interrupt(self, prompt_id: str) -> None:
        """Only ever by id: without one ComfyUI stops whatever runs, also somebody else's."""
        await self._read("POST", "interrupt", {"prompt_id": prompt_id})

    async def free(self) -> None:
        """Its models leave the GPU, as soon as nothing runs."""
        await self._read("POST", "free", {"unload_models": True, "free_memory": True})

    async def upload(self, path: Path, filename: str, subfolder: str) -> str:
        """The value by which a loader finds the file. The name in the answer counts: a server that
        has another file of this name takes it under a new one."""
        async with opened(path, "rb") as file:
            form = aiohttp.FormData()
            form.add_field("image", file, filename=filename)
            form.add_field("type", "input")
            form.add_field("subfolder", subfolder)
            timeout = aiohttp.ClientTimeout(sock_connect=_CONNECT, total=_UPLOAD)
            async with self._request("POST", "upload/image", data=form, timeout=timeout) as answer:
                await self._raise_for_status(answer)
                told = self._read_as(json.loads, await answer.read())
        return self._read_as(_uploaded_name, told)

    @asynccontextmanager
    async def view(self, file: OutputFile) -> AsyncIterator[aiohttp.StreamReader]:
        """The file's bytes as a stream. `type` is always sent: a temp file is 404 without it."""
        timeout = aiohttp.ClientTimeout(sock_connect=_CONNECT, sock_read=_DOWNLOAD_STALL)
        async with self._request("GET", "view", query=_query(file), timeout=timeout) as response:
            if response.status == 404:
                raise FileGone(f"{self.url} no longer has {file.filename}")
            await self._raise_for_status(response)
            if response.content_type == "text/html":
                raise self._not_comfyui()
            yield response.content

    async def last_bytes(self, file: OutputFile, number: int) -> bytes | None:
        """None if there is no such file; nothing if something in between gives no parts of it."""
        wanted = {"Range": f"bytes=-{number}"}
        async with self._request("GET", "view", query=_query(file), headers=wanted) as response:
            if response.status in (404, 416):
                return None
            if response.status == 206:
                return await response.read()
            await self._raise_for_status(response)
            return b""

    @asynccontextmanager
    async def connect(self) -> AsyncIterator["Socket"]:
        """A socket with a client id of its own.

        Each one gets a new id: a socket that takes over an id goes deaf as soon as the server
        notices the end of the former one.
        """
        client_id = uuid.uuid4().hex
        try:
            async with asyncio.timeout(_HANDSHAKE):
                connection = await self._session.ws_connect(
                    (self._url / "ws").with_query(clientId=client_id),
                    headers=self._headers,
                    ssl=self._ssl,
                    heartbeat=_HEARTBEAT,
                    max_msg_size=_FRAME_LIMIT,
                )
        except aiohttp.WSServerHandshakeError as error:
            raise self._refused(error.status) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unavailable(error) from error
        try:
            # Only as the very first message: previews then tell whose they are.
            await connection.send_json(_FEATURES)
            yield Socket(client_id, connection)
        finally:
            await connection.close()

    # The one door for errors

    async def _json(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        raw = await self._read(method, path, body)
        try:
            data = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise self._not_comfyui() from error
        if not isinstance(data, dict):
            raise self._not_comfyui()
        return data

    async def _read(self, method: str, path: str, body: Any = None) -> bytes:
        async with self._request(method, path, body) as response:
            await self._raise_for_status(response)
            if response.content_type == "text/html":
                raise self._not_comfyui()
            return await response.read()

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        data: aiohttp.FormData | None = None,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,  # noqa: ASYNC109
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with self._session.request(
                method,
                self._url / path,
                params=query,
                headers={**self._headers, **(headers or {})},
                ssl=self._ssl,
                allow_redirects=False,
                timeout=timeout or aiohttp.ClientTimeout(total=_ANSWER, sock_connect=_CONNECT),
                json=body,
                data=data,
            ) as response:
                yield response
        except (aiohttp.ClientError, TimeoutError) as error:  # an OSError is the caller's
            raise self._unavailable(error) from error

    async def _raise_for_status(self, response: aiohttp.ClientResponse) -> None:
        """Errors come as JSON (400), as text (500) or, from a proxy, as anything."""
        if response.status == 200:
            return
        if response.status == 400 and response.content_type == "application/json":
            try:
                data = await response.json()
            except (ValueError, RecursionError) as broken:
                raise self._unavailable(broken) from broken
            error = data.get("error") if isinstance(data, dict) else None
            about = error if isinstance(error, dict) else {"message": str(error)}
            raise PromptRefused(
                f"{self.url} refused: {about.get('message')} {about.get('details') or ''}".strip(),
                str(about.get("type", "")),
                parse_node_errors(data.get("node_errors") if isinstance(data, dict) else None),
            )
        if response.status == 413:
            raise PromptRefused(f"{self.url} takes no prompt of this size", "too_large")
        raise self._refused(response.status)

    def _refused(self, status: int) -> ServerError:
        told = {"server": self.url, "status": status}
        if status in (401, 403):
            return AccessDenied(say("{server} wants other credentials (HTTP {status})", **told))
        if status in (404, 405) or 300 <= status < 400:
            return NotComfyUI(say("{server} is not a ComfyUI server (HTTP {status})", **told))
        return ServerUnavailable(say("{server} answered HTTP {status}", **told))

    def _read_as(self, make: Callable[[Any], T], data: Any) -> T:
        try:
            return make(data)
        except (
            LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError
        ) as error:  # fmt: skip
            raise self._not_comfyui() from error

    def _not_comfyui(self) -> NotComfyUI:
        return NotComfyUI(say("{server} does not answer as a ComfyUI server does", server=self.url))

    def _unavailable(self, error: BaseException) -> ServerUnavailable:
        match error:
            case TimeoutError():
                cause = say("it takes too long")
            case aiohttp.ClientConnectorDNSError():
                cause = say("no such host")
            case aiohttp.ClientConnectorCertificateError():
                cause = say("its certificate is not trusted, set ca_file")
            case aiohttp.ClientConnectorSSLError():
                cause = say("it does not speak TLS, is it http://?")
            case aiohttp.ClientConnectorError():
                cause = say("nothing listens there")
            case _:
                cause = say("the connection broke")
        return ServerUnavailable(
            say("{server} does not answer: {cause}", server=self.url, cause=cause)
        )


def _query(file: OutputFile) -> dict[str, str]:
    return {"filename": file.filename, "subfolder": file.subfolder, "type": file.type}


def _uploaded_name(told: Any) -> str:
    subfolder, name = str(told.get("subfolder") or ""), told["name"]
    if not isinstance(name, str) or not name:
        raise TypeError("no name")
    return f"{subfolder}/{name}" if subfolder else name


class Socket:
    """An open `/ws`. Prompts queued with its *client_id* report here and nowhere else."""

    def __init__(self, client_id: str, connection: aiohttp.ClientWebSocketResponse) -> None:
        self.client_id = client_id
        self._connection = connection

    async def frames(self, prompts: Collection[str] | None = None) -> AsyncIterator[Event | None]:
        """Every frame until the socket ends, the unknown ones as None: they too are a sign of life.

        With *prompts*, of the progress only theirs, and that once a second: what nobody is shown
        is dropped unparsed. The caller must not wait for anything between frames: one client that
        does not read stops the frames of all others.
        """
        clock = asyncio.get_running_loop().time
        progress_at = float("-inf")
        async for message in self._connection:
            kind, data = message.type, message.data
            if kind is aiohttp.WSMsgType.TEXT:
                if prompts is not None and data.startswith(PROGRESS):
                    if (now := clock()) < progress_at or not _is_of(data, prompts):
                        continue
                    progress_at = now + _PROGRESS_EVERY
                yield parse_text(data)
            elif kind is aiohttp.WSMsgType.BINARY:
                yield parse_binary(data)
            elif kind is aiohttp.WSMsgType.ERROR:
                return
            else:
                yield None


def _is_of(text: str, prompts: Collection[str]) -> bool:
    for each in prompts:  # noqa: SIM110  `any` takes twice as long
        if each in text:
            return True
    return False
