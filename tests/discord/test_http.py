"""The HTTP face: the sequence of a script, from the list of workflows to the picture."""

import asyncio
import base64
import json
import logging
import re
from collections.abc import AsyncIterator

import pytest

from bot.errors import StoreError
from comfy.graph import Graph
from tests.discord.conftest import ROOT, World
from tests.discord.http_face import Face, facing, started

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
async def face(world: World) -> AsyncIterator[Face]:
    async with facing(await started(world)) as face:
        yield face


async def test_a_task_is_listed_run_followed_and_fetched(world: World, face: Face) -> None:
    assert "postcard" in (await face.get("/api/workflows"))[1]["workflows"]
    world.comfyui.hold()

    first = await face.run(prompt="a lighthouse in a storm")
    others = [await face.run() for _ in range(2)]
    await world.comfyui.held.wait()
    status = await _until(face, first, "running")
    waiting = (await face.get(f"/api/task_status/{others[-1]}"))[1]
    world.comfyui.finish()
    done = await face.over(first)

    assert status["message"] == "Task is currently running"
    assert status["execution_info"]["server"] == "local"
    assert waiting == {
        "status": "pending",
        "message": "Task is waiting in queue",
        "queue_position": 1,
    }
    assert done["status"] == "completed"
    assert done["message"] == "Image generation completed"
    assert done["execution_time"] > 0
    assert done["node_errors"] == {}
    (image,) = done["images"]
    assert image.keys() == {"url", "filename", "subfolder", "type"}
    assert (await face.get(f"/api/image/{first}"))[1] == {"status": "success", "images": [image]}
    async with face.session.get(image["url"], headers=face.headers) as answer:
        picture = await answer.read()
    assert answer.content_type == "image/png"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert picture.startswith(b"\x89PNG")
    assert b"lighthouse" not in picture, "the workflow is taken out, as it is on Discord"


async def test_the_answers_have_the_fields_that_scripts_know(world: World, face: Face) -> None:
    """Those of the HTTP service that this one continues."""
    listed = (await face.get("/api/workflows"))[1]
    tested = (await face.get("/api/test_comfy"))[1]
    ran = (await face.ask("POST", "/api/workflow/postcard", {"prompt": "a cat"}))[1]
    done = await face.over(ran["prompt_id"])
    image = (await face.get(f"/api/image/{ran['prompt_id']}"))[1]
    refused = (await face.ask("POST", "/api/workflow/nothing", {}))[1]

    assert listed.keys() == {"workflows"}
    assert tested.keys() == {"status", "comfyui_url", "response"}
    assert tested["response"].keys() == {"system_stats"}
    assert ran.keys() == {"status", "prompt_id", "client_id"}
    fields = {"status", "message", "images", "execution_time", "node_errors"}
    assert done.keys() == fields | {"texts"}
    assert image.keys() == {"status", "images"}
    assert image["images"][0].keys() == {"url", "filename", "subfolder", "type"}
    assert refused.keys() == {"error", "status_code"}


async def graph_of(world: World, task: str) -> Graph:
    job = await world.bot.store.get(task)
    assert job is not None
    return job.request.graph


async def _until(face: Face, task: str, status: str) -> dict:
    async with face.session.get(
        f"{face.root}/api/task_status/{task}/events", headers=face.headers
    ) as stream:
        async for line in stream.content:
            if line.startswith(b"data: ") and json.loads(line[6:])["status"] == status:
                return json.loads(line[6:])
    raise AssertionError(f"it was never {status}")


async def test_the_advanced_body_sets_inputs_by_node(world: World, face: Face) -> None:
    body = {
        "2": {"inputs": {"text": "a red kite"}},
        "3": {"inputs": {"text": "rain"}},
    }

    task = await face.run("txt2img", **body)
    await face.over(task)

    graph = await graph_of(world, task)
    assert graph["2"]["inputs"]["text"] == "a red kite"
    assert graph["3"]["inputs"]["text"] == "rain"


async def test_the_simple_body_takes_a_node_parameters_and_files(world: World, face: Face) -> None:
    picture = (ROOT / "docs/examples/kite.png").read_bytes()

    task = await face.run(
        "img2img",
        prompt="an oil painting",
        parameters={"seed": 7, "strength": 0.5},
        files={"image": base64.b64encode(picture).decode()},
    )
    assert (await face.over(task))["status"] == "completed"
    node = await face.run("txt2img", prompt="in the second", target_node="3")
    await face.over(node)

    entry = (await face.get(f"/api/history/{task}"))[1][task]
    assert entry["workflow"] == "img2img"
    assert entry["prompt"] == "an oil painting"
    assert entry["settings"]["seed"] == 7
    assert entry["status"] == {"status_str": "success", "completed": True, "messages": []}
    assert [each["images"][0]["type"] for each in entry["outputs"].values()] == ["output"]
    assert (await graph_of(world, node))["3"]["inputs"]["text"] == "in the second"


@pytest.mark.parametrize(
    ("workflow", "body", "status", "sentence"),
    [
        ("nothing", {"prompt": "a cat"}, 404, "There is no such workflow"),
        ("txt2img", {"prompt": "a cat", "target_node": "41"}, 400,
         "Target node 41 is not a text input node"),
        ("upscale", {"prompt": "a cat"}, 400, "No suitable text input node found in workflow"),
        ("txt2img", b"{", 400, "not valid JSON"),
        ("txt2img", b"[]", 400, "a JSON object"),
        ("txt2img", b'{"parameters": {"steps": NaN}}', 400, "not valid JSON"),
        ("txt2img", {"promt": "a cat"}, 400, "`promt` is unknown here"),
        ("txt2img", {"prompt": 5}, 400, "`prompt` is a text"),
        ("txt2img", {"prompt": " "}, 400, "The prompt is empty"),
        ("txt2img", {"parameters": {"steps": 0}}, 400, "steps"),
        ("txt2img", {"parameters": {"steps": [1]}}, 400, "`steps` is a text, a number"),
        ("txt2img", {"parameters": {"wings": 2}}, 400, "has no `wings`"),
        ("txt2img", {"parameters": []}, 400, "`parameters` is a JSON object"),
        ("img2img", {"files": {"image": "%"}}, 400, "`image` is a file in base64"),
        ("img2img", {"files": {"image": "aGVsbG8="}}, 400, "picture"),
        ("txt2img", {"files": {"image": "aGVsbG8="}}, 400, "takes no `image`"),
        ("txt2img", {"1": {"inputs": {"ckpt_name": "../../etc/passwd"}}}, 400, ""),
        ("txt2img", {"99": {"inputs": {"text": "a cat"}}}, 400, "99"),
    ],
)  # fmt: skip
async def test_a_mistake_is_answered_with_what_to_do(
    world: World, face: Face, workflow: str, body: object, status: int, sentence: str
) -> None:
    answered, told = await face.ask("POST", f"/api/workflow/{workflow}", body)

    assert answered == status
    assert told.keys() == {"error", "status_code"}
    assert told["status_code"] == status
    assert sentence in told["error"]
    assert ("POST", "/prompt") not in world.comfyui.requests


async def test_limits_and_fairness_are_those_of_a_member(world: World) -> None:
    async with facing(await started(world, limits={"jobs_per_user": 1})) as face:
        world.comfyui.hold()
        task = await face.run()

        status, told = await face.ask("POST", "/api/workflow/postcard", {"prompt": "another"})
        other = await face.as_("nightly").run()

        assert status == 429
        assert "1 is the most" in told["error"]
        assert (await world.bot.store.get(task)).request.user_id == face.user_id
        assert (await world.bot.store.get(other)).request.user_id != face.user_id
        world.comfyui.finish()
        await face.over(task)


async def test_what_is_another_members_is_unknown(world: World, face: Face) -> None:
    task = await face.run()
    await face.over(task)
    stranger = face.as_("nightly")

    for path in (f"/api/task_status/{task}", f"/api/task_status/{task}/events"):
        status, told = await stranger.get(path)
        assert (status, told["status"], told["status_code"]) == (404, "not_found", 404)
    assert (await stranger.get(f"/api/image/{task}"))[0] == 404
    assert (await stranger.get(f"/api/image/{task}/0"))[0] == 404
    assert (await stranger.ask("POST", f"/api/cancel/{task}"))[0] == 404
    assert await stranger.get("/api/history") == (200, {})
    assert await stranger.get(f"/api/history/{task}") == (200, {})


@pytest.mark.parametrize("task", [UNKNOWN, "12345", "..", "%00", "%2e%2e%2fetc"])
async def test_a_task_that_nobody_knows_is_not_found(face: Face, task: str) -> None:
    assert (await face.get(f"/api/task_status/{task}"))[0] == 404


async def test_a_failure_says_why(world: World, face: Face) -> None:
    world.comfyui.fail("Sizes of tensors must match", "RuntimeError")

    told = await face.over(await face.run())

    assert told["status"] == "error"
    assert told["error"] == told["message"]
    assert "failed" in told["error"]


async def test_a_task_is_cancelled(world: World, face: Face) -> None:
    world.comfyui.hold()
    task = await face.run()
    await world.comfyui.held.wait()

    answer = await face.ask("POST", f"/api/cancel/{task}")
    again = await face.ask("POST", f"/api/cancel/{task}")

    assert answer == (200, {"status": "success", "prompt_id": task})
    assert again[0] == 409
    assert (await face.over(task))["status"] == "cancelled"
    assert (await face.get(f"/api/image/{task}"))[0] == 409


async def test_a_task_whose_server_is_away_is_unknown_until_it_is_back(
    world: World, face: Face
) -> None:
    world.comfyui.hold()
    task = await face.run()
    await world.comfyui.held.wait()
    world.comfyui.refuse()
    world.comfyui.drop()
    await world.until(lambda: not world.bot.servers["local"].up)

    away = (await face.get(f"/api/task_status/{task}"))[1]
    world.comfyui.welcome()
    world.comfyui.finish()

    assert away["status"] == "unknown"
    assert (await face.over(task))["status"] == "completed"


async def test_every_change_is_an_event_and_the_end_is_the_last(world: World, face: Face) -> None:
    world.comfyui.hold()
    task = await face.run()
    seen = []
    async with face.session.get(
        f"{face.root}/api/task_status/{task}/events", headers=face.headers
    ) as stream:
        assert stream.content_type == "text/event-stream"
        async for line in stream.content:
            if line.startswith(b"data: "):
                seen.append(json.loads(line[6:])["status"])
                if seen[-1] == "running":
                    world.comfyui.finish()

    assert list(dict.fromkeys(seen)) in (
        ["pending", "running", "processing", "completed"],
        ["pending", "running", "completed"],
    )


async def test_a_long_poll_ends_after_its_time(world: World, face: Face) -> None:
    world.comfyui.hold()
    task = await face.run()

    assert (await face.get(f"/api/task_status/{task}?wait=0.1"))[1]["status"] != "completed"
    assert (await face.get(f"/api/task_status/{task}?wait=9999"))[0] == 400
    assert (await face.get(f"/api/task_status/{task}?wait=nan"))[0] == 400


async def test_servers_and_queue_are_told(world: World, face: Face) -> None:
    world.comfyui.hold()
    mine = [await face.run() for _ in range(3)]
    await face.as_("nightly").run()
    async with asyncio.timeout(20):
        while (status := (await face.get("/api/status"))[1])["queue"]["running"] < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    _, tested = await face.get("/api/test_comfy")
    _, queue = await face.get("/api/view_queue")

    assert tested["status"] == "success"
    assert tested["comfyui_url"] == f"{world.comfyui.url}/system_stats"
    assert tested["response"]["system_stats"].keys() >= {"system", "devices"}
    assert status["queue"] == {"running": 2, "waiting": 2}
    assert status["discord"] is True
    assert [each["up"] for each in status["servers"]] == [True]
    assert len(queue["queue_running"]) == 2
    shown = [each["prompt_id"] for each in [*queue["queue_running"], *queue["queue_pending"]]]
    assert sorted(each for each in shown if each) == sorted(mine)
    assert shown.count(None) == 1, "somebody else's"


async def test_comfyui_that_is_away_is_told_in_a_sentence(world: World, face: Face) -> None:
    world.comfyui.refuse()

    status, told = await face.get("/api/test_comfy")

    assert (status, told["status_code"]) == (503, 503)
    assert (await face.get("/api/test_comfy?server=nobody"))[0] == 404


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", "Basic the-token-of-the-website"])
async def test_without_a_members_token_nothing_is_told(face: Face, header: str) -> None:
    headers = {"Authorization": header} if header else {}
    async with face.session.get(f"{face.root}/api/workflows", headers=headers) as answer:
        told = await answer.json()

    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert told["status_code"] == 401


async def test_what_is_no_route_or_no_method_is_told_as_json(face: Face) -> None:
    assert (await face.get("/api/nothing"))[1]["status_code"] == 404
    assert (await face.ask("DELETE", "/api/workflows"))[1]["status_code"] == 405


async def test_a_body_that_is_too_large_is_refused(world: World) -> None:
    async with facing(await started(world, limits={"upload_mb": 1})) as face:
        status, told = await face.ask("POST", "/api/workflow/postcard", {"prompt": "a" * 3_000_000})

        assert (status, told["status_code"]) == (413, 413)


async def test_a_task_outlives_the_bot(world: World) -> None:
    async with facing(await started(world)) as face:
        world.comfyui.hold()
        task = await face.run()
        await world.comfyui.held.wait()
        await world.stop()
        world.comfyui.finish()

    async with facing(await started(world)) as face:
        assert (await face.over(task))["status"] == "completed"
        assert len(world.comfyui.executed) == 1


async def test_nothing_of_a_task_is_sent_to_discord(world: World, face: Face) -> None:
    before = len(world.discord.requests)

    await face.over(await face.run())

    assert len(world.discord.requests) == before


async def test_monitors_need_no_token(world: World, face: Face) -> None:
    await world.bot.wait_until_ready()
    async with face.session.get(f"{face.root}/readyz") as answer:
        assert await answer.json() == {"ready": True, "discord": True, "servers": 1}
    world.comfyui.refuse()
    world.comfyui.drop()
    await world.until(lambda: not world.bot.servers["local"].up)
    async with face.session.get(f"{face.root}/readyz") as answer:
        assert answer.status == 503
    async with face.session.get(f"{face.root}/healthz") as answer:
        assert await answer.json() == {"status": "alive"}


async def page(face: Face) -> str:
    async with face.session.get(f"{face.root}/metrics") as answer:
        return await answer.text()


async def test_metrics_count_what_happened(world: World, face: Face) -> None:
    await face.over(await face.run())
    world.comfyui.fail()
    await face.over(await face.run())
    logging.getLogger("bot.runner").error("it waits: %s", StoreError("the database is away"))
    text = await page(face)
    while "comfycord_jobs{" not in text:  # the database was asked a moment ago
        text = await page(face)

    def value(sample: str) -> float:
        (found,) = re.findall(rf"^{re.escape(sample)} (\S+)$", text, re.M)
        return float(found)

    assert value('comfycord_jobs_ended_total{state="posted"}') == 1
    assert value('comfycord_jobs_ended_total{state="failed"}') == 1
    assert value('comfycord_jobs{state="pending"}') == 0
    assert value("comfycord_waiting_seconds_count") == 2
    assert value("comfycord_run_seconds_count") == 1
    assert value("comfycord_delivery_seconds_count") == 1
    assert value('comfycord_server_up{server="local"}') == 1
    assert value('comfycord_errors_total{kind="comfyui"}') >= 1
    assert value('comfycord_errors_total{kind="database"}') == 1
    assert value('comfycord_discord_requests_total{status="200"}') > 0
    assert value("comfycord_discord_up") == 1
    assert "process_cpu_seconds_total" in text
