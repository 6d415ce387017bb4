"""What the HTTP face does with clients that are broken, rude or gone, and while others are."""

import asyncio
import base64
import contextlib
import json
import logging
import re
from collections.abc import AsyncIterator

import aiohttp
import pytest

from bot import http_api, reloading
from bot.errors import StoreError
from bot.jobs import JobState
from tests.discord.conftest import ROOT, World
from tests.discord.http_face import Face, facing, free_port, started
from tests.discord.test_reloading import write


@pytest.fixture
async def face(world: World) -> AsyncIterator[Face]:
    async with facing(await started(world)) as face:
        yield face


async def metrics(face: Face) -> dict[str, float]:
    async with face.session.get(f"{face.root}/metrics") as answer:
        assert answer.status == 200
        lines = (await answer.text()).splitlines()
    return {name: float(value) for name, value in (x.rsplit(" ", 1) for x in lines if x[0] != "#")}


async def raw(face: Face, *lines: str) -> str:
    """The answer to a request as it is written here."""
    host, port = face.root.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode())
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return answer.decode()


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b'{"0": {"inputs": {}}' + b', "1": {"inputs": {}}' * 200_000 + b"}", "too many values"),
        (b"[" * 100_000, "too many values"),
        (b'{"prompt": "' + b"\\u0041" * 200_000 + b'"}', "too many values"),
        (b'{"2": {"inputs": {}}, "2": {"inputs": {}}}', "names something twice"),
    ],
    ids=["values", "depth", "escapes", "twins"],
)
async def test_json_that_would_keep_the_bot_busy_is_not_read(
    face: Face, body: bytes, sentence: str
) -> None:
    status, told = await face.ask("POST", "/api/workflow/txt2img", body)

    assert status == 400
    assert sentence in told["error"]


async def test_a_stream_has_no_head(face: Face) -> None:
    task = await face.run()
    await face.over(task)

    for path in (f"/api/image/{task}/0", f"/api/task_status/{task}/events"):
        async with face.session.head(face.root + path, headers=face.headers) as answer:
            assert answer.status == 405
    assert (await face.get("/api/workflows"))[0] == 200, "the connection tells no rest of a file"


async def test_a_stream_that_breaks_off_holds_no_second_answer(
    world: World, face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.comfyui.hold()
    task = await face.run()
    await world.comfyui.held.wait()
    told = b""

    async def away(job_id: str) -> None:
        raise StoreError("The database is away.")

    with contextlib.suppress(aiohttp.ClientPayloadError):
        async with face.session.get(
            f"{face.root}/api/task_status/{task}/events", headers=face.headers
        ) as stream:
            told += await stream.content.readline()
            monkeypatch.setattr(world.bot.store, "get", away)
            world.comfyui.finish()
            async for line in stream.content:
                told += line
    monkeypatch.undo()

    assert told.startswith(b"event: status")
    assert b"HTTP/1.1" not in told


async def test_who_goes_away_is_no_error(
    world: World, face: Face, caplog: pytest.LogCaptureFixture
) -> None:
    world.comfyui.hold()
    task = await face.run()
    async with aiohttp.ClientSession(headers=face.headers) as gone:
        answer = await gone.get(f"{face.root}/api/task_status/{task}/events")
        await answer.content.readline()
    world.comfyui.finish()
    await face.over(task)
    host, port = face.root.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    lines = (
        "POST /api/workflow/postcard HTTP/1.1",
        f"Host: {host}",
        "Content-Length: 99",
        f"Authorization: {face.headers['Authorization']}",
        "",
        "half",
    )
    writer.write("\r\n".join(lines).encode())
    await writer.drain()
    writer.close()
    await face.over(await face.run())

    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


async def test_a_body_that_cannot_be_unpacked_is_refused(face: Face) -> None:
    headers = face.headers | {"Content-Encoding": "gzip"}
    url = f"{face.root}/api/workflow/postcard"
    async with face.session.post(url, data=b"hello", headers=headers) as answer:
        assert answer.status == 400


@pytest.mark.parametrize("host", ["", "[", "x:abc", "x:99999"])
async def test_a_host_that_is_none_is_refused(face: Face, host: str) -> None:
    task = await face.run()
    await face.over(task)

    answer = await raw(
        face,
        f"GET /api/image/{task} HTTP/1.1",
        f"Host: {host}",
        f"Authorization: {face.headers['Authorization']}",
    )

    assert answer.startswith("HTTP/1.1 400")


async def test_behind_a_proxy_with_https_addresses_have_it_too(face: Face) -> None:
    task = await face.run()
    await face.over(task)
    headers = face.headers | {"X-Forwarded-Proto": "https"}

    async with face.session.get(f"{face.root}/api/image/{task}", headers=headers) as answer:
        (image,) = (await answer.json())["images"]

    assert image["url"].startswith("https://")


async def test_streams_are_counted(
    world: World, face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_api, "_STREAMS", 2)
    world.comfyui.hold()
    task = await face.run()
    path = f"/api/task_status/{task}/events"
    open_ones = [await face.session.get(face.root + path, headers=face.headers) for _ in range(2)]

    assert (await face.get(path))[0] == 429
    other = await face.as_("nightly").run()
    assert (await face.as_("nightly").get(f"/api/task_status/{other}"))[0] == 200
    world.comfyui.finish()
    for each in open_ones:
        await each.read()
    async with face.session.get(face.root + path, headers=face.headers) as again:
        assert again.status == 200


async def test_a_file_is_gone_only_if_comfyui_says_so(world: World, face: Face) -> None:
    task = await face.run()
    await face.over(task)
    server = world.bot.servers["local"]
    world.comfyui.refuse()

    away = await face.get(f"/api/image/{task}/0")
    world.comfyui.welcome()
    await asyncio.wait_for(server.wait_up(), 20)
    world.comfyui.files._data.clear()
    gone = await face.get(f"/api/image/{task}/0")

    assert away[0] == 503
    assert gone[0] == 410


async def test_what_is_not_the_scripts_fault_may_be_tried_again(world: World) -> None:
    async with facing(await started(world, up=False, servers=())) as face:
        status, told = await face.ask("POST", "/api/workflow/postcard", {})

        assert (status, told["status_code"]) == (503, 503)
        assert "No ComfyUI server is set up" in told["error"]


async def test_no_file_is_kept_for_what_is_refused(world: World) -> None:
    picture = base64.b64encode((ROOT / "docs/examples/kite.png").read_bytes()).decode()
    async with facing(await started(world, limits={"jobs_per_user": 1})) as face:
        world.comfyui.hold()
        task = await face.run()

        body = {"files": {"image": picture}}
        assert (await face.ask("POST", "/api/workflow/img2img", body))[0] == 429
        uploads = world.bot.config.uploads
        assert not uploads.exists() or not [*uploads.iterdir()]
        world.comfyui.finish()
        await face.over(task)


async def test_what_is_no_number_is_told_as_nothing(
    world: World, face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stats() -> dict[str, object]:
        return {"devices": [{"vram_free": float("nan")}]}

    monkeypatch.setattr(world.bot.servers["local"].client, "raw_system_stats", stats)
    async with face.session.get(f"{face.root}/api/test_comfy", headers=face.headers) as answer:
        told = json.loads(await answer.text(), parse_constant=pytest.fail)

    assert told["response"]["system_stats"] == {"devices": [{"vram_free": None}]}


# What monitors see of it


async def test_a_failure_is_counted_once(world: World, face: Face) -> None:
    world.comfyui.fail()

    await face.over(await face.run())

    seen = await metrics(face)
    assert seen['comfycord_errors_total{kind="comfyui"}'] == 1
    assert seen['comfycord_errors_total{kind="internal"}'] == 0


async def test_a_job_that_is_run_again_has_waited_once(world: World, face: Face) -> None:
    world.comfyui.hold()
    task = await face.run()
    await world.comfyui.held.wait()
    world.comfyui.forget()
    world.comfyui.drop()
    world.comfyui.finish()
    await face.over(task)

    job = await world.bot.store.get(task)
    assert job is not None
    assert (job.state, job.attempt) == (JobState.POSTED, 2)
    assert (await metrics(face))["comfycord_waiting_seconds_count"] == 1


async def test_a_database_that_is_away_is_seen(
    world: World, face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> None:
        raise StoreError("The database is away.")

    monkeypatch.setattr(world.bot.store, "numbers", away)

    seen = await metrics(face)
    again = await metrics(face)

    assert not [name for name in seen if name.startswith("comfycord_jobs{")]
    assert again['comfycord_errors_total{kind="database"}'] >= 1


async def test_a_monitor_does_not_wait_for_the_database(
    world: World, face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = asyncio.Event()

    async def numbers() -> dict[str, int]:
        await locked.wait()
        return {"pending": 7}

    monkeypatch.setattr(world.bot.store, "numbers", numbers)

    before = await metrics(face)
    locked.set()
    after = await metrics(face)

    assert 'comfycord_jobs{state="pending"}' not in before
    assert after['comfycord_jobs{state="pending"}'] == 7


async def test_a_new_member_keeps_no_other_change_from_counting(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bot.reloading")
    monkeypatch.setattr(reloading, "_EVERY", 0.05)
    write(world)
    await started(world)

    http = {"port": free_port(), "members": ["website", "nightly", "third"]}
    write(world, http=http, limits={"jobs_per_user": 1})

    await world.until(lambda: "changed: limits" in caplog.text)
    assert world.bot.config.limits.jobs_per_user == 1
    assert re.search(r"`http` counts? from the next start on", caplog.text)
