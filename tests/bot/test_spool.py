"""Copies on disk of ComfyUI's outputs, for as long as they are needed."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bot.spool import Spool
from comfy.client import ComfyClient
from comfy.errors import FileGone, ServerError, ServerUnavailable
from comfy.models import OutputFile

LARGE = bytes(range(256)) * 4096  # more than one chunk


async def view(request: web.Request) -> web.StreamResponse:
    """/view of a server on which every file has its own trouble."""
    match request.query["filename"]:
        case "large.png":
            return web.Response(body=LARGE)
        case "small.txt":
            return web.Response(body=b"a text")
        case "empty.png":
            return web.Response(body=b"")
        case "cut.png":
            response = web.StreamResponse(headers={"Content-Length": str(len(LARGE))})
            await response.prepare(request)
            await response.write(LARGE[:1000])
            assert request.transport
            request.transport.abort()
            return response
    raise web.HTTPNotFound


@pytest.fixture
async def client(session: aiohttp.ClientSession) -> AsyncIterator[ComfyClient]:
    app = web.Application()
    app.router.add_get("/view", view)
    async with TestServer(app) as server:
        yield ComfyClient(str(server.make_url("/")), session)


@pytest.fixture
async def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "data" / "spool")
    await spool.clear()
    return spool


def files(*names: str) -> list[OutputFile]:
    return [OutputFile("9", name) for name in names]


def left(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "data" / "spool").iterdir())


async def test_files_are_on_disk_in_order_and_then_gone(
    client: ComfyClient, spool: Spool, tmp_path: Path
) -> None:
    async with spool.fetched(client, files("large.png", "small.txt", "small.txt")) as copies:
        names = [each.name for each in copies]
        contents = [each.path.read_bytes() for each in copies]
        sizes = [each.size for each in copies]

    assert names == ["large.png", "small.txt", "small.txt"]
    assert contents == [LARGE, b"a text", b"a text"]
    assert sizes == [len(LARGE), 6, 6]
    assert left(tmp_path) == []


async def test_no_file_is_no_trouble(client: ComfyClient, spool: Spool) -> None:
    async with spool.fetched(client, []) as copies:
        assert copies == []


@pytest.mark.parametrize(
    ("name", "error"),
    [("empty.png", ServerError), ("gone.png", FileGone), ("cut.png", ServerUnavailable)],
)
async def test_a_file_that_does_not_come_leaves_nothing(
    client: ComfyClient, spool: Spool, tmp_path: Path, name: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        async with spool.fetched(client, files("large.png", name)):
            pytest.fail("not all files came")

    assert left(tmp_path) == []


async def test_an_error_while_the_files_are_used_leaves_nothing(
    client: ComfyClient, spool: Spool, tmp_path: Path
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with spool.fetched(client, files("small.txt")):
            raise ZeroDivisionError

    assert left(tmp_path) == []


async def test_names_from_a_server_are_no_paths(
    client: ComfyClient, spool: Spool, tmp_path: Path
) -> None:
    async with spool.fetched(client, files("small.txt")) as (copy,):
        assert copy.path.name == "0"
        assert copy.path.is_relative_to(tmp_path / "data" / "spool")


async def test_clearing_removes_what_a_crash_left(spool: Spool, tmp_path: Path) -> None:
    old = tmp_path / "data" / "spool" / "tmpx1y2"
    old.mkdir()
    (old / "0").write_bytes(b"half a file")

    await spool.clear()

    assert left(tmp_path) == []
