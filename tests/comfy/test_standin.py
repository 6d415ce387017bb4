"""Jobs on the stand-in: frames, history, queue and cache against recordings of ComfyUI 0.27.0."""

import asyncio
import io
import json
import struct
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from PIL import Image

from comfy.standin import Pace, StandIn
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.recordings import (
    CHECKPOINT,
    Client,
    graph_of,
    png,
    recorded_frames,
    requests,
    scrubbed,
)


@pytest.fixture
async def comfyui() -> AsyncIterator[FakeComfyUI]:
    async with FakeComfyUI(models={"checkpoints": [CHECKPOINT]}) as server:
        yield server


@pytest.fixture
def client(comfyui: FakeComfyUI, session: aiohttp.ClientSession) -> Client:
    return Client(comfyui, session)


TEXTS = {"6": {"text": "before"}, "7": {"text": "before"}, "3": {"seed": 1}}


@pytest.mark.parametrize(
    ("name", "before", "metadata"),
    [
        ("a1_txt2img_success", TEXTS, False),
        ("a2_txt2img_feature_flags", {"3": {"seed": 1}}, True),
        ("a4_batch4", {"5": {"batch_size": 1}, "3": {"seed": 1}}, True),
        ("a8_modelfree", None, False),
    ],
)
async def test_frames_of_a_job_are_those_recorded(
    client: Client, name: str, before: dict[str, Any] | None, metadata: bool
) -> None:
    graph = graph_of(name)
    if before is not None:  # the recorded server had run a similar graph, some nodes are cached
        similar = {k: {**v, "inputs": v["inputs"] | before.get(k, {})} for k, v in graph.items()}
        await client.history(await client.post(similar))
    socket = await client.listen(metadata=metadata)

    await client.post(graph)

    assert await client.frames(socket) == recorded_frames(name)


async def test_history_of_a_job_is_as_recorded(client: Client) -> None:
    request, answer = requests("a8_modelfree")[:2]

    entry = await client.history(await client.post(request["request"]["json"]["prompt"]))

    (expected,) = answer["response"]["json"].values()
    assert scrubbed(entry) | {"prompt": 0} == scrubbed(expected) | {"prompt": 0}
    assert [scrubbed(part) for part in entry["prompt"][2:]] == scrubbed(expected["prompt"][2:])


async def test_a_job_without_client_id_is_heard_by_everybody_in_part(client: Client) -> None:
    request = requests("a15_no_client_id")[0]["request"]["json"]
    socket = await client.listen()

    await client.ask("POST", "/prompt", json=request)

    expected = recorded_frames("a15_no_client_id", "bystander")
    frames = [await socket.receive(timeout=5) for _ in expected]
    heard = [json.loads(f.data)["type"] if isinstance(f.data, str) else 1 for f in frames]
    assert heard == [frame if isinstance(frame, int) else frame["type"] for frame in expected]


async def test_an_identical_job_is_cached_and_points_to_the_old_file(client: Client) -> None:
    first, _, second, _, third, _ = requests("b1_cached_resubmit")
    socket = await client.listen()
    frames = []

    for step in (first, second, third):
        await client.post(step["request"]["json"]["prompt"])
        frames += await client.frames(socket)

    assert frames == recorded_frames("b1_cached_resubmit")
    _, history = await client.ask("GET", "/history")
    files = [entry["outputs"]["9"]["images"][0]["filename"] for entry in history.values()]
    assert files == ["t2i_00001_.png", "t2i_00001_.png", "other_00001_.png"]


async def test_without_client_id_a_cached_job_has_no_outputs(client: Client) -> None:
    graph = graph_of("a8_modelfree")
    await client.history(await client.post(graph))

    _, answer = await client.ask("POST", "/prompt", json={"prompt": graph})

    assert (await client.history(answer["prompt_id"]))["outputs"] == {}


async def test_free_memory_makes_the_same_graph_run_again(client: Client) -> None:
    graph = graph_of("a8_modelfree")
    await client.history(await client.post(graph))

    await client.ask("POST", "/free", json={"free_memory": True})

    entry = await client.history(await client.post(graph))
    assert entry["outputs"]["4"]["images"][0]["filename"] == "mf_00002_.png"


async def test_values_are_coerced_in_place(client: Client) -> None:
    graph = graph_of("a1_txt2img_success")
    graph["3"]["inputs"] |= {"seed": 1.9, "steps": "3", "cfg": "6.5"}

    entry = await client.history(await client.post(graph))

    inputs = entry["prompt"][2]["3"]["inputs"]
    assert (inputs["seed"], inputs["steps"], inputs["cfg"]) == (1, 3, 6.5)


async def test_a_failing_node_is_told_as_recorded(client: Client) -> None:
    upload, post, _ = requests("d1_runtime_error")
    name = upload["request"]["body"]["multipart"]["image"]["filename"]
    await client.upload(name, b"not a picture at all")
    socket = await client.listen()

    prompt_id = await client.post(post["request"]["json"]["prompt"])

    assert await client.frames(socket) == recorded_frames("d1_runtime_error")
    assert (await client.history(prompt_id))["status"]["status_str"] == "error"


async def test_an_interrupt_ends_the_running_job_as_recorded(
    client: Client, comfyui: FakeComfyUI
) -> None:
    socket = await client.listen()
    comfyui.hold()
    prompt_id = await client.post(graph_of("e1_interrupt_global"))
    await asyncio.wait_for(comfyui.held.wait(), 20)

    await client.ask("POST", "/interrupt", json={"prompt_id": str(uuid.uuid4())})
    await client.ask("POST", "/interrupt", json={"prompt_id": prompt_id})

    frames = await client.frames(socket)
    assert frames[-3:] == recorded_frames("e1_interrupt_global")[-3:]
    status = (await client.history(prompt_id))["status"]
    assert (status["status_str"], status["completed"]) == ("error", False)
    assert [event for event, _ in status["messages"]][-1] == "execution_interrupted"


async def test_only_pending_jobs_can_be_deleted(client: Client, comfyui: FakeComfyUI) -> None:
    comfyui.hold()
    running, pending, last = [await client.post(graph_of("a8_modelfree")) for _ in range(3)]
    await asyncio.wait_for(comfyui.held.wait(), 20)

    for prompt_id in (pending, running, "unknown"):
        assert await client.ask("POST", "/queue", json={"delete": [prompt_id]}) == (200, b"")

    _, queue = await client.ask("GET", "/queue")
    assert [row[1] for row in queue["queue_running"]] == [running]
    assert [row[1] for row in queue["queue_pending"]] == [last]
    assert (await client.ask("GET", f"/history/{pending}"))[1] == {}
    comfyui.finish()
    await client.history(last)
    assert comfyui.executed == [running, last]


async def test_the_queue_is_a_heap_by_number_and_the_same_id_runs_twice(
    client: Client, comfyui: FakeComfyUI
) -> None:
    comfyui.hold()
    graph = graph_of("a8_modelfree")
    running = await client.post(graph)
    await asyncio.wait_for(comfyui.held.wait(), 20)

    twice = str(uuid.uuid4())
    await client.post(graph, prompt_id=twice)
    front = await client.post(graph, front=True)
    middle = await client.post(graph, number=-0.5)
    await client.post(graph, prompt_id=twice)

    _, queue = await client.ask("GET", "/queue")
    assert [row[0] for row in queue["queue_pending"]] == [-2, 1, -0.5, 3]
    comfyui.finish()
    await client.history(twice)
    assert comfyui.executed[:4] == [running, front, middle, twice]


async def test_an_uploaded_picture_can_be_loaded(client: Client) -> None:
    await client.upload("mine.png", png((60, 40)), subfolder="bot")
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "bot/mine.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    }

    entry = await client.history(await client.post(graph))

    _, picture = await client.ask("GET", "/view?filename=x_00001_.png")
    assert entry["status"]["completed"]
    assert Image.open(io.BytesIO(picture)).size == (60, 40)


async def test_a_preview_frame_carries_a_jpeg_of_512_pixels(client: Client) -> None:
    socket = await client.listen()
    await client.post(graph_of("a1_txt2img_success"))

    await client.frames(socket)

    picture = Image.open(io.BytesIO(client.binary[0][8:]))
    assert client.binary[0][:8] == struct.pack(">II", 1, 1)
    assert (picture.format, picture.size) == ("JPEG", (512, 512))


async def test_a_preview_frame_with_metadata_names_its_job(client: Client) -> None:
    socket = await client.listen(metadata=True)
    prompt_id = await client.post(graph_of("a1_txt2img_success"))

    await client.frames(socket)

    kind, length = struct.unpack(">II", client.binary[0][:8])
    about = json.loads(client.binary[0][8 : 8 + length])
    assert (kind, about["prompt_id"], about["node_id"]) == (4, prompt_id, "3")
    assert Image.open(io.BytesIO(client.binary[0][8 + length :])).format == "JPEG"


async def test_a_reconnected_client_is_told_the_running_node(
    client: Client, comfyui: FakeComfyUI
) -> None:
    comfyui.hold()
    await client.post(graph_of("a1_txt2img_success"))
    await asyncio.wait_for(comfyui.held.wait(), 20)

    socket = await client.listen()

    assert await socket.receive_json(timeout=5) == {"type": "executing", "data": {"node": "3"}}


async def test_only_the_clients_own_jobs_are_heard(
    client: Client, comfyui: FakeComfyUI, session: aiohttp.ClientSession
) -> None:
    bystander = Client(comfyui, session)
    socket = await bystander.listen()

    await client.history(await client.post(graph_of("a1_txt2img_success")))

    kinds = {(await socket.receive_json(timeout=5))["type"] for _ in range(3)}
    assert kinds == {"status"}


async def test_pictures_go_on_in_number_and_keep_their_subfolder(client: Client) -> None:
    graph = graph_of("a4_batch4")
    graph["9"]["inputs"]["filename_prefix"] = "comfycord/job/9"
    await client.history(await client.post(graph))
    graph["3"]["inputs"]["seed"] += 1

    entry = await client.history(await client.post(graph))

    images = entry["outputs"]["9"]["images"]
    assert [image["filename"] for image in images] == [f"9_{n:05}_.png" for n in range(5, 9)]
    assert {image["subfolder"] for image in images} == {"comfycord/job"}
    assert {image["type"] for image in images} == {"output"}


async def test_a_prefix_that_leaves_the_folder_fails_the_job(client: Client) -> None:
    graph = graph_of("a8_modelfree")
    graph["4"]["inputs"]["filename_prefix"] = "../../escape/x"

    entry = await client.history(await client.post(graph))

    event, data = entry["status"]["messages"][-1]
    assert (event, data["node_type"], data["exception_type"]) == (
        "execution_error",
        "SaveImage",
        "Exception",
    )


async def test_a_literal_where_a_link_is_needed_fails_the_job(client: Client) -> None:
    graph = graph_of("a1_txt2img_success")
    graph["3"]["inputs"]["model"] = "a string"

    entry = await client.history(await client.post(graph))

    assert entry["status"]["messages"][-1][1]["exception_type"] == "AttributeError"


async def test_only_the_targets_run(client: Client) -> None:
    graph = graph_of("a8_modelfree")
    graph["9"] = {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}}

    entry = await client.history(await client.post(graph, partial_execution_targets=["9"]))

    assert list(entry["outputs"]) == ["9"]
    assert entry["outputs"]["9"]["images"][0]["type"] == "temp"


async def test_texts_flow_over_links(client: Client) -> None:
    graph = {
        "1": {"class_type": "PrimitiveString", "inputs": {"value": "a red"}},
        "2": {
            "class_type": "StringConcatenate",
            "inputs": {"string_a": ["1", 0], "string_b": "fox é世", "delimiter": " "},
        },
        "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}},
    }

    entry = await client.history(await client.post(graph))

    assert entry["outputs"] == {"3": {"text": ["a red fox é世"]}}


async def test_the_stand_in_takes_its_time(session: aiohttp.ClientSession) -> None:
    async with StandIn(pace=Pace(node=0.001, step=0.001, previews=False)) as server:
        client = Client(server, session)
        socket = await client.listen()

        await client.post(graph_of("a1_txt2img_success"))

        assert 1 not in await client.frames(socket)


async def test_clearing_the_queue_leaves_the_running_job(
    client: Client, comfyui: FakeComfyUI
) -> None:
    comfyui.hold()
    for _ in range(3):
        await client.post(graph_of("a8_modelfree"))
    await asyncio.wait_for(comfyui.held.wait(), 20)

    await client.ask("POST", "/queue", json={"clear": True})

    assert (await client.ask("GET", "/prompt"))[1] == {"exec_info": {"queue_remaining": 1}}
