"""The fault switches of the ComfyUI the other tests use."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.recordings import Client, graph_of


@pytest.fixture
async def comfyui() -> AsyncIterator[FakeComfyUI]:
    async with FakeComfyUI() as server:
        yield server


@pytest.fixture
def client(comfyui: FakeComfyUI, session: aiohttp.ClientSession) -> Client:
    return Client(comfyui, session)


async def test_a_held_job_waits_until_it_may_finish(client: Client, comfyui: FakeComfyUI) -> None:
    comfyui.hold()
    prompt_id = await client.post(graph_of("a1_txt2img_success"))
    await asyncio.wait_for(comfyui.held.wait(), 20)
    assert comfyui.queue.running is not None

    comfyui.finish()

    assert (await client.history(prompt_id))["status"]["completed"]


async def test_a_held_job_can_fail(client: Client, comfyui: FakeComfyUI) -> None:
    comfyui.hold()
    failed = await client.post(graph_of("a1_txt2img_success"))
    await asyncio.wait_for(comfyui.held.wait(), 20)

    comfyui.fail()

    event, data = (await client.history(failed))["status"]["messages"][-1]
    assert (event, data["node_id"]) == ("execution_error", "3")
    assert data["exception_message"] == "CUDA out of memory\n"
    assert data["exception_type"] == "torch.OutOfMemoryError"


async def test_only_the_next_job_fails(client: Client, comfyui: FakeComfyUI) -> None:
    comfyui.fail("no luck", "ValueError")

    ids = [await client.post(graph_of("a8_modelfree")) for _ in range(2)]

    entries = [await client.history(prompt_id) for prompt_id in ids]
    assert [entry["status"]["status_str"] for entry in entries] == ["error", "success"]


async def test_a_forgetful_server_knows_no_job_and_runs_new_ones(
    client: Client, comfyui: FakeComfyUI
) -> None:
    done = await client.post(graph_of("a8_modelfree"))
    await client.history(done)
    comfyui.hold()
    await client.post(graph_of("a1_txt2img_success"))
    await asyncio.wait_for(comfyui.held.wait(), 20)

    comfyui.forget()
    comfyui.finish()

    assert (await client.ask("GET", "/history"))[1] == {}
    assert (await client.ask("GET", "/prompt"))[1] == {"exec_info": {"queue_remaining": 0}}
    entry = await client.history(await client.post(graph_of("a8_modelfree")))
    assert entry["prompt"][0] == 0
    assert entry["outputs"]["4"]["images"][0]["filename"] == "mf_00002_.png"


async def test_dropped_sockets_are_closed(client: Client, comfyui: FakeComfyUI) -> None:
    socket = await client.listen()

    comfyui.drop()

    message = await socket.receive(timeout=5)
    assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
    assert socket.close_code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE


async def test_deaf_sockets_hear_nothing_and_new_ones_do(
    client: Client, comfyui: FakeComfyUI, session: aiohttp.ClientSession
) -> None:
    deaf = await client.listen()
    comfyui.deafen()
    hearing = Client(comfyui, session)
    socket = await hearing.listen()

    await hearing.post(graph_of("a8_modelfree"))

    assert await hearing.frames(socket)
    with pytest.raises(TimeoutError):
        await deaf.receive(timeout=0.01)
    assert not deaf.closed


async def test_a_silent_server_answers_again_when_it_may(
    client: Client, comfyui: FakeComfyUI
) -> None:
    comfyui.stop_answering()
    short = aiohttp.ClientTimeout(total=0.05)
    with pytest.raises(TimeoutError):
        await client.ask("GET", "/queue", timeout=short)

    comfyui.answer_again()

    assert (await client.ask("GET", "/queue"))[0] == 200


async def test_a_lost_answer_leaves_the_job_queued(client: Client, comfyui: FakeComfyUI) -> None:
    comfyui.lose_answer()
    prompt_id = str(uuid.uuid4())

    with pytest.raises(aiohttp.ClientConnectionError):
        await client.post(graph_of("a8_modelfree"), prompt_id=prompt_id)

    assert (await client.history(prompt_id))["status"]["completed"]
    assert comfyui.executed == [prompt_id]


async def test_a_fixed_picture_replaces_the_painted_ones(
    client: Client, comfyui: FakeComfyUI
) -> None:
    comfyui.picture = b"not even a picture"
    await client.history(await client.post(graph_of("a8_modelfree")))

    _, picture = await client.ask("GET", "/view?filename=mf_00001_.png&subfolder=contract")

    assert picture == b"not even a picture"
