"""Files on their way to a ComfyUI on loopback."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

import comfy.client
from comfy.client import Access, ComfyClient
from comfy.errors import (
    AccessDenied,
    NotComfyUI,
    PromptRefused,
    ServerError,
    ServerUnavailable,
)
from comfy.standin_store import Place
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.hearing import basic

NAME, FOLDER = "a" * 32 + ".png", "comfycord/a-job"
LARGE = 24 * 2**20


@pytest.fixture
async def comfyui() -> AsyncIterator[FakeComfyUI]:
    async with FakeComfyUI() as server:
        yield server


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / NAME
    path.write_bytes(b"a picture")
    return path


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[str]:
    """A server whose /upload/image is *answer*, at any path prefix."""
    app = web.Application(client_max_size=2**30)
    app.router.add_post("/{prefix:.*}upload/image", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


def saying(**response: Any) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.Response(**response)

    return answer


async def upload(url: str, session: aiohttp.ClientSession, file: Path, **access: Any) -> str:
    return await ComfyClient(url, session, Access(**access)).upload(file, NAME, FOLDER)


# What arrives


async def test_a_file_arrives_under_its_name_in_its_folder(
    comfyui: FakeComfyUI, session: aiohttp.ClientSession, file: Path
) -> None:
    value = await upload(comfyui.url, session, file)

    assert value == f"{FOLDER}/{NAME}"
    assert comfyui.files[Place(NAME, FOLDER, "input")] == b"a picture"


async def test_the_same_file_twice_is_one(
    comfyui: FakeComfyUI, session: aiohttp.ClientSession, file: Path
) -> None:
    values = [await upload(comfyui.url, session, file) for _ in range(2)]

    assert values == [f"{FOLDER}/{NAME}"] * 2


async def test_another_file_of_that_name_stays_and_the_new_name_counts(
    comfyui: FakeComfyUI, session: aiohttp.ClientSession, file: Path
) -> None:
    place = Place(NAME, FOLDER, "input")
    comfyui.files[place] = b"somebody else's"

    value = await upload(comfyui.url, session, file)

    assert value == f"{FOLDER}/{'a' * 32} (1).png"
    assert comfyui.files[place] == b"somebody else's"


@pytest.mark.parametrize(
    ("told", "value"),
    [
        ('{"name": "b.png", "subfolder": "", "type": "input"}', "b.png"),
        ('{"name": "b.png"}', "b.png"),
        ('{"name": "b.png", "subfolder": null}', "b.png"),
        ('{"name": "b.png", "subfolder": "x/y", "more": 1}', "x/y/b.png"),
    ],
    ids=["no folder", "only a name", "null", "folder"],
)
async def test_the_answer_says_how_the_file_is_found(
    session: aiohttp.ClientSession, file: Path, told: str, value: str
) -> None:
    async with answering(saying(text=told, content_type="application/json")) as url:
        assert await upload(url, session, file) == value


async def test_a_large_file_is_never_whole_in_memory(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    path = tmp_path / "large"
    with path.open("wb") as target:
        target.truncate(LARGE)
    arrived = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal arrived
        field = await (await request.multipart()).next()
        assert isinstance(field, aiohttp.BodyPartReader)
        assert (field.name, field.filename) == ("image", NAME)
        while data := await field.read_chunk():
            arrived += len(data)
        return web.json_response({"name": NAME})

    async with answering(answer) as url:
        tracemalloc.start()
        await upload(url, session, path)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert arrived == LARGE
    assert most < LARGE // 4


@pytest.mark.parametrize("prefix", ["", "gpu/1/"], ids=["bare", "behind a path"])
@pytest.mark.parametrize(
    ("access", "sent"),
    [
        ({}, None),
        ({"token": "secret"}, "Bearer secret"),
        ({"login": ("bot", "secret")}, basic("bot", "secret")),
    ],
    ids=["nothing", "token", "login"],
)
async def test_credentials_and_the_path_go_with_a_file(
    session: aiohttp.ClientSession, file: Path, prefix: str, access: Any, sent: str | None
) -> None:
    heard: dict[str, Any] = {}

    async def answer(request: web.Request) -> web.StreamResponse:
        form = await request.post()
        heard.update(path=request.path, sent=request.headers.get("Authorization"))
        heard.update((name, each) for name, each in form.items() if isinstance(each, str))
        return web.json_response({"name": NAME})

    async with answering(answer) as url:
        await upload(url + prefix, session, file, **access)

    fields = {"type": "input", "subfolder": FOLDER}
    assert heard == {"path": f"/{prefix}upload/image", "sent": sent, **fields}


# What goes wrong


@pytest.mark.parametrize(
    ("response", "error", "kind"),
    [
        ({"status": 413}, PromptRefused, "too_large"),
        ({"status": 400}, ServerUnavailable, None),
        ({"status": 401}, AccessDenied, None),
        ({"status": 403}, AccessDenied, None),
        ({"status": 404}, NotComfyUI, None),
        ({"status": 405}, NotComfyUI, None),
        ({"status": 302, "headers": {"Location": "/login"}}, NotComfyUI, None),
        ({"status": 500}, ServerUnavailable, None),
        ({"status": 502, "text": "<html>Bad gateway</html>"}, ServerUnavailable, None),
        ({"text": "<html>Log in</html>", "content_type": "text/html"}, NotComfyUI, None),
        ({"text": ""}, NotComfyUI, None),
        ({"text": "[]"}, NotComfyUI, None),
        ({"text": "null"}, NotComfyUI, None),
        ({"text": "{}"}, NotComfyUI, None),
        ({"body": b"\xff\xfe"}, NotComfyUI, None),
    ],
    ids=[
        "413", "400", "401", "403", "404", "405", "login", "500", "502", "page", "nothing", "list",
        "null", "no name", "no text",
    ],
)  # fmt: skip
async def test_an_answer_that_is_no_yes_is_told_as_what_it_is(
    session: aiohttp.ClientSession,
    file: Path,
    response: dict[str, Any],
    error: type[ServerError],
    kind: str | None,
) -> None:
    async with answering(saying(**response)) as url:
        with pytest.raises(ServerError) as caught:
            await upload(url, session, file, token="secret")

    assert type(caught.value) is error
    assert getattr(caught.value, "kind", None) == kind
    assert "secret" not in str(caught.value)


async def test_an_answer_that_is_too_deep_is_no_comfyui(
    session: aiohttp.ClientSession, file: Path
) -> None:
    async with answering(saying(text="[" * 100_000)) as url:
        with pytest.raises(NotComfyUI):
            await upload(url, session, file)


async def test_a_name_of_null_is_no_name(session: aiohttp.ClientSession, file: Path) -> None:
    async with answering(saying(text='{"name": null}')) as url:
        with pytest.raises(NotComfyUI):
            await upload(url, session, file)


async def test_a_file_that_the_proxy_refuses_for_its_size_is_told_apart(
    session: aiohttp.ClientSession, file: Path
) -> None:
    """As the real one: it answers and hangs up while the file is still being sent."""
    with file.open("wb") as target:
        target.truncate(LARGE)

    async def answer(request: web.Request) -> web.StreamResponse:
        raise web.HTTPRequestEntityTooLarge(max_size=1, actual_size=LARGE)

    async with answering(answer) as url:
        with pytest.raises((PromptRefused, ServerUnavailable)):
            await upload(url, session, file)


async def test_a_connection_that_is_cut_is_a_server_that_does_not_answer(
    session: aiohttp.ClientSession, file: Path
) -> None:
    with file.open("wb") as target:
        target.truncate(LARGE)

    async def answer(request: web.Request) -> web.StreamResponse:
        await request.content.read(1000)
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with answering(answer) as url:
        with pytest.raises(ServerUnavailable, match="does not answer: the connection broke"):
            await upload(url, session, file)


async def test_a_server_that_takes_a_file_and_says_nothing_times_out(
    session: aiohttp.ClientSession, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comfy.client, "_UPLOAD", 0.1)
    never = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    async with answering(answer) as url:
        with pytest.raises(ServerUnavailable, match="does not answer: it takes too long"):
            await upload(url, session, file)
        never.set()


async def test_where_nothing_listens_the_server_is_away(
    session: aiohttp.ClientSession, file: Path
) -> None:
    async with answering(saying()) as url:
        pass

    with pytest.raises(ServerUnavailable, match="nothing listens there"):
        await upload(url, session, file)


async def test_a_file_that_is_gone_is_no_fault_of_the_server(
    comfyui: FakeComfyUI, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        await upload(comfyui.url, session, tmp_path / "gone.png")
