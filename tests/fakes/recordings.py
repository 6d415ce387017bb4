"""Recordings of a real ComfyUI 0.27.0, and a client to compare an answer with them."""

import asyncio
import io
import json
import re
import struct
import uuid
from pathlib import Path
from typing import Any

import aiohttp
from PIL import Image
from yarl import URL

from comfy.standin import StandIn

CONTRACT = Path(__file__).parents[1] / "data" / "contract"
CHECKPOINT = "random_sd15_small.safetensors"
NOT_COMPARED = {"prompt_id", "timestamp", "create_time", "client_id", "sid", "traceback", "number"}


def recorded(name: str) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = json.loads((CONTRACT / f"v0.27.0/{name}.json").read_text())[
        "steps"
    ]
    return steps


def requests(name: str) -> list[dict[str, Any]]:
    return [step for step in recorded(name) if step["kind"] == "http" and "response" in step]


def graph_of(name: str) -> dict[str, Any]:
    graph: dict[str, Any] = requests(name)[0]["request"]["json"]["prompt"]
    return graph


def scrubbed(value: Any, key: str = "") -> Any:
    """A value without what differs from run to run: ids, times, file numbers, sets as lists."""
    if key in NOT_COMPARED:
        return "*"
    if isinstance(value, dict):
        return {k: scrubbed(v, k) for k, v in value.items() if k != "tooltip"}
    if key in ("executed", "current_outputs", "dependent_outputs"):
        return sorted(value)
    if isinstance(value, list):
        return [scrubbed(item) for item in value]
    if isinstance(value, str):
        value = re.sub(r"_\d{5}_\.png", "_00000_.png", value)
        return re.sub(r"ComfyUI_temp_\w{5}", "ComfyUI_temp_xxxxx", value)
    return value


def recorded_frames(name: str, conn: str = "A") -> list[Any]:
    """The frames of a recording from the first queue change on."""
    frames = []
    for step in recorded(name):
        if step["kind"] != "ws" or step["conn"] != conn or step["dir"] != "recv":
            continue
        if step["frame"] == "text" and step["json"]["type"] != "feature_flags":
            if "sid" not in step["json"]["data"]:
                frames.append(scrubbed(step["json"]))
        elif step["frame"] == "binary":
            frames.append(step["event_type"])
    return frames


class Client:
    """A client that writes down what it hears."""

    def __init__(self, server: StandIn, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session
        self.client_id = uuid.uuid4().hex
        self.binary: list[bytes] = []

    async def listen(self, *, metadata: bool = False) -> aiohttp.ClientWebSocketResponse:
        url = f"{self.server.url}/ws?clientId={self.client_id}"
        socket = await self.session.ws_connect(url)
        assert (await socket.receive_json(timeout=5))["data"]["sid"] == self.client_id
        if metadata:
            flags = {"supports_preview_metadata": True}
            await socket.send_json({"type": "feature_flags", "data": flags})
            assert (await socket.receive_json(timeout=5))["type"] == "feature_flags"
        return socket

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        url = URL(self.server.url + path, encoded=False)
        async with self.session.request(method, url, **options) as response:
            body: Any = await response.read()
            if response.content_type == "application/json":
                body = json.loads(body)
            return response.status, body

    async def post(self, graph: dict[str, Any], **more: Any) -> str:
        body = {"prompt": graph, "client_id": self.client_id, **more}
        status, answer = await self.ask("POST", "/prompt", json=body)
        assert status == 200, answer
        return str(answer["prompt_id"])

    async def frames(
        self, socket: aiohttp.ClientWebSocketResponse, until: str = "executing"
    ) -> list[Any]:
        """Scrubbed frames up to the end of a job: `executing` without a node."""
        frames: list[Any] = []
        while True:
            message = await socket.receive(timeout=10)
            if message.type is aiohttp.WSMsgType.BINARY:
                self.binary.append(message.data)
                frames.append(struct.unpack(">I", message.data[:4])[0])
                continue
            assert message.type is aiohttp.WSMsgType.TEXT, message
            frame = json.loads(message.data)
            frames.append(scrubbed(frame))
            if frame["type"] == until and frame["data"].get("node") is None:
                return frames

    async def history(self, prompt_id: str) -> Any:
        async with asyncio.timeout(20):
            while True:
                _, history = await self.ask("GET", f"/history/{prompt_id}")
                if history:
                    return history[prompt_id]
                await asyncio.sleep(0)

    async def upload(self, name: str, data: bytes, **fields: str) -> tuple[int, Any]:
        form = aiohttp.FormData(fields)
        form.add_field("image", data, filename=name, content_type="image/png")
        return await self.ask("POST", "/upload/image", data=form)


def png(size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "red").save(file, "PNG")
    return file.getvalue()
