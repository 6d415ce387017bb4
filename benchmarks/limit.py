"""The least that must happen between ComfyUI's end of a job and the post: the physical limit.

One websocket for each server tells the end of a job. Its picture is fetched at once and posted,
with nothing between: no look into the history, no record, no file on disk, and the workflow stays
in the picture. `streamed` posts while it fetches, which needs the size beforehand. A process of its
own: see given.py.
"""

import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp

from benchmarks.given import Job, serve

_FORM = (
    b'--b\r\nContent-Disposition: form-data; name="payload_json"\r\n'
    b"Content-Type: application/json\r\n\r\n{}\r\n"
    b'--b\r\nContent-Disposition: form-data; name="files[0]"; filename="x.png"\r\n'
    b"Content-Type: image/png\r\n\r\n"
)
_END = b"\r\n--b--\r\n"
_TYPE = {"Content-Type": "multipart/form-data; boundary=b"}


@dataclass(slots=True)
class Socket:
    """*saved*: the file of a prompt; *over*: what waits for its end."""

    client_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    saved: dict[str, dict[str, str]] = field(default_factory=dict)
    over: dict[str, "asyncio.Future[dict[str, str]]"] = field(default_factory=dict)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def listen(self, session: aiohttp.ClientSession, url: str) -> None:
        async with session.ws_connect(f"{url}/ws?clientId={self.client_id}") as frames:
            self.opened.set()
            async for message in frames:
                match message.type is aiohttp.WSMsgType.TEXT and json.loads(message.data):
                    case {"type": "executed", "data": {"prompt_id": str(prompt_id)} as data}:
                        (self.saved[prompt_id],) = data["output"]["images"]
                    case {"type": "executing", "data": {"node": None, "prompt_id": prompt_id}}:
                        self.ended(prompt_id).set_result(self.saved.pop(prompt_id))

    def ended(self, prompt_id: str) -> "asyncio.Future[dict[str, str]]":
        future: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        return self.over.setdefault(prompt_id, future)


sockets: dict[str, Socket] = {}
listening: set[asyncio.Task[None]] = set()


async def run(session: aiohttp.ClientSession, job: Job) -> None:
    if job.comfyui not in sockets:
        sockets[job.comfyui] = Socket()
        listening.add(asyncio.create_task(sockets[job.comfyui].listen(session, job.comfyui)))
    socket = sockets[job.comfyui]
    await socket.opened.wait()
    file = await socket.ended(await job.submitted(session, socket.client_id))
    async with session.get(f"{job.comfyui}/view", params=file) as response:
        if "streamed" in sys.argv:
            size = len(_FORM) + (response.content_length or 0) + len(_END)
            length = {"Content-Length": str(size)}
            await job.posted(session, form(response.content), _TYPE | length)
        else:
            await job.posted(session, _FORM + await response.read() + _END, _TYPE)


async def form(picture: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    yield _FORM
    async for part in picture.iter_any():
        yield part
    yield _END


if __name__ == "__main__":
    serve(run)
