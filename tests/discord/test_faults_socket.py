"""What comes, or does not come, over the socket of a ComfyUI."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator

import aiohttp
import pytest

from bot import execution
from bot.config import ServerSettings
from bot.jobs import JobState
from tests.discord.conftest import World
from tests.fakes.discord import Interaction
from tests.fakes.proxy import Proxy
from tests.fakes.spoiled import says, spoil

JPEG = b"\xff\xd8\xff"
MEBIBYTE = 2**20


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent socket is trusted for longer than a test lasts: what ends is heard to end."""
    monkeypatch.setattr(execution, "_SILENCE", 60.0)


@pytest.fixture
async def proxy(world: World) -> AsyncIterator[Proxy]:
    async with Proxy(world.comfyui.url) as proxy:
        yield proxy
        await world.stop()


async def running(world: World) -> tuple[Interaction, str]:
    """A job that ComfyUI holds, and its prompt's id, once its start was heard."""
    interaction = await world.running_job()
    job = await world.until_job(lambda job: job.state is JobState.RUNNING)
    assert job.prompt_id
    return interaction, job.prompt_id


async def finished(world: World, interaction: Interaction) -> None:
    """The result is there, and nothing ran or was shown twice."""
    world.comfyui.finish()
    await world.posted(interaction)
    assert (await world.until_job(lambda job: not job.open)).state is JobState.POSTED
    assert len(world.comfyui.executed) == 1
    assert len(world.discord.messages[world.channel.id]) == 1


async def send(world: World, *frames: str | bytes) -> None:
    """To every socket."""
    for socket in list(world.comfyui.sockets.values()):
        for frame in frames:
            if isinstance(frame, str):
                await socket.stream.send_str(frame)
            else:
                await socket.stream.send_bytes(frame)


def event(kind: str, **data: object) -> str:
    return json.dumps({"type": kind, "data": data})


def preview(prompt_id: str, picture: bytes) -> bytes:
    about = json.dumps({"prompt_id": prompt_id, "image_type": "image/jpeg"}).encode()
    return struct.pack(">II", 4, len(about)) + about + picture


# Frames


@pytest.mark.usefixtures("heard")
async def test_a_frame_of_five_mebibytes_does_not_end_the_socket(world: World) -> None:
    interaction, prompt_id = await running(world)
    socket = world.bot.servers["local"].client_id

    await send(
        world,
        preview(prompt_id, JPEG + bytes(5 * MEBIBYTE)),
        event("executed", node="9", output={"text": ["x" * 5 * MEBIBYTE]}, prompt_id="another"),
    )

    await finished(world, interaction)
    assert world.bot.servers["local"].client_id == socket


@pytest.mark.usefixtures("heard")
async def test_frames_that_nobody_understands_are_passed_over(world: World) -> None:
    interaction, prompt_id = await running(world)
    socket = world.bot.servers["local"].client_id

    await send(
        world,
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        event("a new kind", prompt_id=prompt_id),
        event("progress", prompt_id=prompt_id, value="many", max=None),
        event("executing", prompt_id=["?"], node={}),
        event("executed", prompt_id=prompt_id, node=None, output=7),
        b"",
        b"\x00",
        struct.pack(">I", 99) + b"a kind of another time",
        struct.pack(">II", 4, 2**31) + b"too short for its length",
        struct.pack(">II", 4, 3) + b"\xff\xff\xff" + JPEG,
        bytes(range(256)),
    )

    await finished(world, interaction)
    assert world.bot.servers["local"].client_id == socket


@pytest.mark.usefixtures("heard")
async def test_five_hundred_frames_at_once_delay_no_command_and_make_few_edits(
    world: World,
) -> None:
    interaction, prompt_id = await running(world)
    nodes = {str(n): {"value": 1.0, "max": 1.0, "state": "finished"} for n in range(30)}
    states = event("progress_state", prompt_id=prompt_id, nodes=nodes)
    edits = len(world.discord.requests)

    for step in range(250):
        step_event = event("progress", prompt_id=prompt_id, value=step, max=250, node="5")
        await send(world, states, step_event)
    asked = world.discord.slash(world.alice, world.channel, "status")
    await asked.answered()

    assert asked.acked_at is not None
    assert asked.acked_at - asked.sent_at < 3  # seconds that Discord waits
    patches = [r for r in world.discord.requests[edits:] if "/channels/" in r.path]
    assert len(patches) <= 2
    await finished(world, interaction)


# Sockets that tell nothing


async def test_a_half_open_connection_is_given_up_and_a_new_one_brings_the_result(
    world: World, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comfy.client._HEARTBEAT", 0.2)
    monkeypatch.setattr("comfy.client._ANSWER", 0.5)
    monkeypatch.setattr("comfy.client._HANDSHAKE", 0.5)
    world.comfyui.hold()
    await world.start(servers=(ServerSettings(name="local", url=proxy.url),))
    interaction = await world.generate()
    await asyncio.wait_for(world.comfyui.held.wait(), 20)
    socket = world.bot.servers["local"].client_id

    proxy.freeze(new=False)

    await finished(world, interaction)
    await world.until(lambda: world.bot.servers["local"].client_id != socket)


async def test_somebody_who_connects_with_our_client_id_costs_no_result(world: World) -> None:
    first, _ = await running(world)
    query = {"clientId": world.bot.servers["local"].client_id or ""}

    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{world.comfyui.url}/ws", params=query) as thief,
    ):
        await thief.receive()
    await world.until(lambda: not world.comfyui.sockets)

    await finished(world, first)
    await world.posted(await world.generate(prompt="another"))
    assert len(world.comfyui.executed) == 2


# A history that lags, or is gone


async def test_a_history_that_comes_late_is_waited_for(world: World) -> None:
    await world.start()
    spoil(world.comfyui, "/history", says(body=b"{}", content_type="application/json"), times=2)

    await finished(world, await world.generate())

    assert sum(path.startswith("/history/") for _, path in world.comfyui.requests) == 3


async def test_a_history_that_somebody_clears_costs_no_second_run(world: World) -> None:
    await world.start()
    spoil(world.comfyui, "/history", says(body=b"{}", content_type="application/json"))

    await finished(world, await world.generate())


async def test_a_history_that_is_cleared_while_nobody_listens_costs_no_second_run(
    world: World,
) -> None:
    interaction, prompt_id = await running(world)
    await world.stop()
    world.comfyui.finish()
    await world.until(lambda: prompt_id in world.comfyui.queue.history)
    world.comfyui.queue.history.clear()

    await world.start()

    await finished(world, interaction)
