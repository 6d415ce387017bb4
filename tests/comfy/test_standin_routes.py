"""The answers of the stand-in's routes against recordings of ComfyUI 0.27.0 and 0.3.64."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from PIL import Image
from yarl import URL

from comfy.standin_info import object_info
from comfy.standin_nodes import NODES
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.recordings import (
    CHECKPOINT,
    CONTRACT,
    Client,
    graph_of,
    png,
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


@pytest.mark.parametrize(
    "step",
    [
        s
        for n in ("c1_validation_errors", "c2_malformed_bodies")
        for s in requests(n)
        if s["request"]["path"] in ("/prompt", "/nope") and "note" in s
    ],
    ids=lambda step: step["note"],
)
async def test_refusals_are_those_recorded(client: Client, step: dict[str, Any]) -> None:
    client.server.hold()  # type: ignore[attr-defined]
    request, expected = step["request"], step["response"]
    data = {"json": request["json"]} if "json" in request else {"data": request.get("body")}

    status, answer = await client.ask(request["method"], request["path"], **data)

    assert status == expected["status"]
    if "json" in expected:
        assert scrubbed(answer) == scrubbed(expected["json"])
    else:
        assert answer.decode() == expected.get("text", "")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "0123"),
        ("?max_items=2", "23"),
        ("?max_items=2&offset=0", "01"),
        ("?max_items=2&offset=1", "12"),
        ("?offset=2", "23"),
        ("?max_items=0", ""),
        ("?max_items=99", "0123"),
        ("?max_items=2&offset=99", ""),
        ("?max_items=-1", ""),
    ],
)
async def test_history_is_paged_as_recorded(client: Client, query: str, expected: str) -> None:
    ids = [await client.post(graph_of("a8_modelfree")) for _ in range(4)]
    await client.history(ids[-1])

    _, history = await client.ask("GET", f"/history{query}")

    assert list(history) == [ids[int(number)] for number in expected]


async def test_views_are_answered_as_recorded(client: Client) -> None:
    await client.upload("v953419833.png", png((48, 32)))
    await client.upload("t.txt", b"hello")

    for step in requests("j2_view"):
        request, expected = step["request"], step["response"]
        if request["method"] == "POST" or "headers" in request:
            continue
        url = URL(client.server.url + request["path"])
        async with client.session.request(request["method"], url) as response:
            assert response.status == expected["status"], request
            kind = expected["headers"].get("content-type", "application/octet-stream")
            assert response.content_type == kind.partition(";")[0], request
            if "binary" in expected and request["method"] == "GET":
                body = await response.read()
                assert response.headers["Content-Length"] == str(len(body))
                assert list(Image.open(io.BytesIO(body)).size) == expected["binary"]["size"]


async def test_uploads_are_answered_as_recorded(client: Client) -> None:
    for step in requests("j1_upload"):
        request, expected = step["request"], step["response"]
        if request["path"] != "/upload/image" or expected["status"] == 413:
            continue
        body = request.get("body") or {}
        if "json" in request:
            options: dict[str, Any] = {"json": request["json"]}
        elif fields := body.get("multipart") if body else None:
            form = aiohttp.FormData()
            letter = b"B" if "other bytes" in step.get("note", "") else b"A"
            for name, field in fields.items():
                if isinstance(field, dict):
                    data = letter * field["bytes"]
                    form.add_field(name, data, filename=field["filename"])
                else:
                    form.add_field(name, field)
            options = {"data": form}
        else:
            options = {}

        status, answer = await client.ask("POST", "/upload/image", **options)

        assert status == expected["status"], step["note"]
        if "json" in expected:
            assert answer == expected["json"], step["note"]


def test_classes_are_told_as_recorded() -> None:
    expected = json.loads((CONTRACT / "object_info.json").read_text())
    models = {"checkpoints": [CHECKPOINT], "loras": ["random_lora.safetensors"]}

    told = object_info(models, ["example.png"], modern=True)

    assert set(told) == set(expected) == set(NODES)
    for name, entry in expected.items():
        assert {key: told[name][key] for key in entry} == entry


async def test_one_class_and_no_class_can_be_asked_for(client: Client) -> None:
    _, one = await client.ask("GET", "/object_info/CheckpointLoaderSimple")
    none = await client.ask("GET", "/object_info/NoSuchNode")

    config = one["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"]
    assert config == [[CHECKPOINT], {}]
    assert none == (200, {})


@pytest.mark.parametrize("prefix", ["", "/api"])
@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/system_stats", "system"),
        ("/features", "max_upload_size"),
        ("/prompt", "exec_info"),
        ("/queue", "queue_pending"),
        ("/models", "checkpoints"),
        ("/models/checkpoints", CHECKPOINT),
        ("/object_info", "KSampler"),
    ],
)
async def test_routes_answer_with_and_without_prefix(
    client: Client, prefix: str, path: str, key: str
) -> None:
    status, answer = await client.ask("GET", prefix + path)

    assert status == 200
    assert key in answer
    assert ("GET", prefix + path) in client.server.requests


async def test_jobs_are_listed_and_cancelled(client: Client, comfyui: FakeComfyUI) -> None:
    done = await client.post(graph_of("a8_modelfree"))
    await client.history(done)
    comfyui.hold()
    running, pending = [await client.post(graph_of("a1_txt2img_success")) for _ in range(2)]
    await asyncio.wait_for(comfyui.held.wait(), 20)

    _, listed = await client.ask("GET", "/api/jobs")
    cancelled = [
        (await client.ask("POST", f"/api/jobs/{prompt_id}/cancel"))[1]["cancelled"]
        for prompt_id in (pending, running, done)
    ]

    statuses = {job["id"]: job["status"] for job in listed["jobs"]}
    assert statuses == {done: "completed", running: "in_progress", pending: "pending"}
    assert cancelled == [True, True, False]
    await client.history(running)
    _, job = await client.ask("GET", f"/api/jobs/{running}")
    assert (job["status"], job["outputs"]) == ("cancelled", {})
    assert (await client.ask("GET", f"/api/jobs/{pending}"))[0] == 404


async def test_bad_job_filters_are_refused(client: Client) -> None:
    assert (await client.ask("GET", "/api/jobs?status=bogus"))[0] == 400
    assert (await client.ask("GET", "/api/jobs?limit=0"))[0] == 400


async def test_an_old_version_answers_as_0_3_64(session: aiohttp.ClientSession) -> None:
    async with FakeComfyUI(version="0.3.64") as server:
        client = Client(server, session)
        graph = graph_of("a8_modelfree")

        assert await client.post(graph, prompt_id="my own id") == "my own id"
        graph["1"]["class_type"] = "NoSuchNode"
        _, answer = await client.ask("POST", "/prompt", json={"prompt": graph})

        assert answer["error"]["type"] == "invalid_prompt"
        assert answer["error"]["details"] == "Node ID '#1'"
        assert (await client.ask("GET", "/api/jobs"))[0] == 404


async def test_a_cycle_is_refused_without_reasons_by_an_old_version(
    session: aiohttp.ClientSession,
) -> None:
    graph = graph_of("a8_modelfree")
    graph["2"]["inputs"]["image"] = ["3", 0]
    async with FakeComfyUI(version="0.3.64") as server:
        status, answer = await Client(server, session).ask(
            "POST", "/prompt", json={"prompt": graph}
        )

    assert (status, answer["node_errors"], answer["error"]["details"]) == (400, {}, "")


async def test_everything_needs_the_token(session: aiohttp.ClientSession) -> None:
    async with FakeComfyUI(token="secret") as server:
        client = Client(server, session)
        right = {"Authorization": "Bearer secret"}

        assert (await client.ask("GET", "/queue"))[0] == 401
        assert (await client.ask("GET", "/queue", headers={"Authorization": "secret"}))[0] == 401
        assert (await client.ask("GET", "/queue", headers=right))[0] == 200
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await client.listen()
        await (await session.ws_connect(f"{server.url}/ws", headers=right)).close()


async def test_without_a_model_list_any_model_is_accepted(session: aiohttp.ClientSession) -> None:
    graph = graph_of("a1_txt2img_success")
    graph["4"]["inputs"]["ckpt_name"] = "a_model_nobody_has.safetensors"
    async with FakeComfyUI() as server:
        assert await Client(server, session).post(graph)


async def test_history_entries_can_be_removed(client: Client) -> None:
    ids = [await client.post(graph_of("a8_modelfree")) for _ in range(3)]
    await client.history(ids[-1])

    await client.ask("POST", "/history", json={"delete": [ids[0], "unknown"]})
    _, left = await client.ask("GET", "/history")
    await client.ask("POST", "/history", json={"clear": True})

    assert list(left) == ids[1:]
    assert (await client.ask("GET", "/history"))[1] == {}


@pytest.mark.parametrize(
    ("method", "path", "data", "status"),
    [
        ("POST", "/queue", "", 500),
        ("POST", "/queue", "{}", 200),
        ("POST", "/history", "", 500),
        ("POST", "/free", "", 500),
        ("POST", "/interrupt", "", 200),
        ("POST", "/interrupt", "{bad", 200),
        ("POST", "/interrupt", '["x"]', 500),
        ("GET", "/history?max_items=abc", "", 500),
        ("GET", "/models/nope", "", 404),
        ("GET", "/embeddings", "", 200),
        ("GET", "/jobs", "", 404),
        ("GET", "/ws", "", 400),
    ],
)
async def test_odd_requests_get_the_recorded_status(
    client: Client, method: str, path: str, data: str, status: int
) -> None:
    assert (await client.ask(method, path, data=data))[0] == status


@pytest.mark.parametrize("prompt_id", ["my-own-id", "8970891B-1A3C-4F5E-9F63-88E4CBC7261B", 12, ""])
async def test_a_prompt_id_must_be_a_canonical_uuid(client: Client, prompt_id: object) -> None:
    body = {"prompt": graph_of("a8_modelfree"), "prompt_id": prompt_id}

    status, answer = await client.ask("POST", "/prompt", json=body)

    assert (status, answer["error"]["type"]) == (400, "invalid_prompt_id")
