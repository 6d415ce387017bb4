"""The bot's way to ComfyUI with nothing around it: what is compared with a poller, like with like.

One socket for all jobs, whose frames are filtered as in the bot; the history once, at the end; the
picture spooled and stripped. It is posted as the poller does. No command, no record of its jobs,
no message that shows the progress.
"""

import asyncio
import shutil
import tempfile
import uuid
from pathlib import Path

import aiohttp

from benchmarks.given import Job, serve
from bot.servers import Server
from bot.spool import Copying
from comfy.client import ComfyClient

servers: dict[str, Server] = {}
running: set[asyncio.Task[None]] = set()
folder = Path(tempfile.mkdtemp(dir="."))


async def run(session: aiohttp.ClientSession, job: Job) -> None:
    if job.comfyui not in servers:
        servers[job.comfyui] = Server("s", ComfyClient(job.comfyui, session))
        running.add(asyncio.create_task(servers[job.comfyui].run(lambda: None)))
    server, graph, prompt_id = servers[job.comfyui], job.graph(), str(uuid.uuid4())
    await server.wait_up()
    assert server.client_id is not None
    with server.watching(prompt_id, graph) as watch:
        await server.client.queue_prompt(graph, prompt_id, server.client_id)
        while not watch.finished:
            await watch.changed.wait()
            watch.changed.clear()
        entry = await server.client.history(prompt_id)
    assert entry is not None
    form = aiohttp.FormData()
    form.add_field("payload_json", "{}", content_type="application/json")
    for number, output in enumerate(entry.saved):
        path = folder / prompt_id / f"{number}"
        copy = await Copying(server.client, output, path, keep_metadata=False).done()
        form.add_field(f"files[{number}]", copy.path.open("rb"), filename=copy.name)
    await job.posted(session, form)
    await asyncio.to_thread(shutil.rmtree, folder / prompt_id)


if __name__ == "__main__":
    serve(run)
