"""A plain poller, as most Discord bots for ComfyUI work: what the bot is compared with.

For each job it holds a websocket open and parses every frame, as if to show the progress, asks
`GET /history` once a second, reads the picture into memory and posts it. It shows no progress,
takes nothing out of the picture and keeps no record of its jobs.
"""

import asyncio
import io
import json
import uuid

import aiohttp

from benchmarks.given import Job, serve

EVERY = 1.0  # seconds


async def run(session: aiohttp.ClientSession, job: Job) -> None:
    client_id = uuid.uuid4().hex
    async with session.ws_connect(f"{job.comfyui}/ws?clientId={client_id}") as socket:
        listening = asyncio.create_task(listen(socket))
        prompt_id = await job.submitted(session, client_id)
        entry = None
        while not entry:
            await asyncio.sleep(EVERY)
            async with session.get(f"{job.comfyui}/history/{prompt_id}") as response:
                entry = (await response.json()).get(prompt_id)
        listening.cancel()
    form = aiohttp.FormData()
    form.add_field("payload_json", "{}", content_type="application/json")
    images = [image for output in entry["outputs"].values() for image in output["images"]]
    for number, image in enumerate(images):
        async with session.get(f"{job.comfyui}/view", params=image) as response:
            picture = io.BytesIO(await response.read())
        form.add_field(f"files[{number}]", picture, filename=image["filename"])
    await job.posted(session, form)


async def listen(socket: aiohttp.ClientWebSocketResponse) -> None:
    progress, preview = 0.0, b""
    async for message in socket:
        if message.type is aiohttp.WSMsgType.BINARY:
            preview = message.data[8:]
        elif message.type is aiohttp.WSMsgType.TEXT:
            frame = json.loads(message.data)
            if frame["type"] == "progress":
                progress = frame["data"]["value"] / frame["data"]["max"]
    del progress, preview


if __name__ == "__main__":
    serve(run)
