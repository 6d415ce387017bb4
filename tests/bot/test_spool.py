"""Copies on disk of ComfyUI's outputs, for as long as they are needed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bot.jobs import Job, JobState
from bot.spool import Spool
from comfy.client import ComfyClient
from comfy.models import OutputFile
from tests.bot.builders import a_job, a_request
from tests.comfy.pictures import picture, png

LARGE = bytes(range(256)) * 10_000  # two chunks and a half
TOLD = png(prompt="a secret")


class Outputs:
    """/view of a server on which every file has its own trouble; *tries* counts them."""

    def __init__(self) -> None:
        self.tries: Counter[str] = Counter()

    async def view(self, request: web.Request) -> web.StreamResponse:
        name = request.query["filename"]
        self.tries[name] += 1
        match name, self.tries[name]:
            case "large.png", _:
                return web.Response(body=LARGE)
            case "told.png", _:
                return web.Response(body=TOLD)
            case "small.txt", _:
                return web.Response(body=b"a text")
            case ("empty.png", _) | ("empty twice.png", 1 | 2):
                return web.Response(body=b"")
            case ("cut.png", _) | ("cut once.png", 1):
                return await self.cut(request)
            case ("away.png", _) | ("away for long.png", 1 | 2 | 3 | 4 | 5):
                raise web.HTTPServiceUnavailable
            case "login.png", _:
                return web.Response(text="<html>Log in</html>", content_type="text/html")
            case "page.png", _:
                return web.Response(body=b" <HTML>Log in", content_type="application/octet-stream")
            case "gone.png", _:
                raise web.HTTPNotFound
        return web.Response(body=b"at last")

    async def cut(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(LARGE))})
        await response.prepare(request)
        await response.write(LARGE[: len(LARGE) * 3 // 5])  # of which a chunk is on the disk
        assert request.transport
        request.transport.abort()
        return response


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.spool._PATIENCE", (0.0, 0.0))


@pytest.fixture
def outputs() -> Outputs:
    return Outputs()


@pytest.fixture
async def client(outputs: Outputs, session: aiohttp.ClientSession) -> AsyncIterator[ComfyClient]:
    app = web.Application()
    app.router.add_get("/view", outputs.view)
    async with TestServer(app) as server:
        yield ComfyClient(str(server.make_url("/")), session)


@pytest.fixture
async def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "data" / "spool")
    await spool.clear()
    return spool


def files(*names: str, keep_metadata: bool = False) -> Job:
    """A job with these outputs."""
    outputs = tuple(OutputFile("9", name) for name in names)
    request = a_request(keep_metadata=keep_metadata)
    return a_job(JobState.EXECUTED, request=request, outputs=outputs)


def soon(seconds: float = 60) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def left(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "data" / "spool").iterdir())


async def test_files_are_on_disk_in_order_and_then_gone(
    client: ComfyClient, spool: Spool, tmp_path: Path
) -> None:
    wanted = files("large.png", "small.txt", "small.txt")
    async with spool.fetched(wanted, client, until=soon()) as (copies, lost):
        names = [each.name for each in copies]
        contents = [each.path.read_bytes() for each in copies]
        sizes = [each.size for each in copies]

    assert names == ["large.png", "small.txt", "small.txt"]
    assert contents == [LARGE, b"a text", b"a text"]
    assert sizes == [len(LARGE), 6, 6]
    assert lost == []
    assert left(tmp_path) == []


async def test_no_file_needs_no_server(spool: Spool) -> None:
    async with spool.fetched(files(), None, until=soon()) as (copies, lost):
        assert (copies, lost) == ([], [])


@pytest.mark.parametrize(
    ("name", "tries"),
    [("gone.png", 1), ("empty.png", 3), ("login.png", 3), ("page.png", 3)],
    ids=["gone", "empty", "a page", "a page in disguise"],
)
async def test_what_is_answered_wrongly_is_lost_and_the_others_come(
    client: ComfyClient, outputs: Outputs, spool: Spool, tmp_path: Path, name: str, tries: int
) -> None:
    wanted = files("large.png", name, "small.txt")

    async with spool.fetched(wanted, client, until=soon()) as (copies, lost):
        contents = [(each.name, each.path.read_bytes()) for each in copies]

    assert contents == [("large.png", LARGE), ("small.txt", b"a text")]
    assert lost == [name]
    assert outputs.tries[name] == tries
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "tries"),
    [("cut once.png", 2), ("empty twice.png", 3), ("away for long.png", 6)],
    ids=["cut", "empty", "away"],
)
async def test_a_file_that_comes_late_is_whole(
    client: ComfyClient, outputs: Outputs, spool: Spool, name: str, tries: int
) -> None:
    async with spool.fetched(files(name), client, until=soon()) as ((copy,), lost):
        content = copy.path.read_bytes()

    assert (content, copy.size) == (b"at last", len(b"at last"))
    assert lost == []
    assert outputs.tries[name] == tries


@pytest.mark.parametrize("name", ["away.png", "cut.png"])
async def test_a_server_that_does_not_answer_is_waited_for_no_longer_than_it_takes(
    client: ComfyClient,
    outputs: Outputs,
    spool: Spool,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    async with spool.fetched(files(name), client, until=soon(-1)) as (copies, lost):
        assert (copies, lost) == ([], [name])

    assert outputs.tries[name] == 1
    assert f"{name} is not fetched yet: {client.url} " in caplog.text


async def test_the_tries_become_rarer_up_to_a_limit(
    client: ComfyClient, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.spool._PATIENCE", (0.01, 0.03))
    clock = asyncio.get_running_loop().time
    began = clock()

    async with spool.fetched(files("away for long.png"), client, until=soon()):
        waited = clock() - began

    assert 0.01 + 0.02 + 3 * 0.03 <= waited < 10


async def test_an_error_while_the_files_are_used_leaves_nothing(
    client: ComfyClient, spool: Spool, tmp_path: Path
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with spool.fetched(files("small.txt"), client, until=soon()):
            raise ZeroDivisionError

    assert left(tmp_path) == []


async def test_names_from_a_server_are_no_paths(
    client: ComfyClient, spool: Spool, tmp_path: Path
) -> None:
    async with spool.fetched(files("small.txt"), client, until=soon()) as ((copy,), _):
        assert copy.path.name == "0"
        assert copy.path.is_relative_to(tmp_path / "data" / "spool")


async def test_what_comfyui_wrote_into_a_file_is_gone_and_the_size_is_that_of_the_rest(
    client: ComfyClient, spool: Spool
) -> None:
    async with spool.fetched(files("told.png"), client, until=soon()) as ((copy,), _):
        content = copy.path.read_bytes()

    assert (content, copy.size) == (picture(), len(picture()))
    assert b"a secret" in TOLD


async def test_a_workflow_that_keeps_metadata_leaves_its_files_as_they_are(
    client: ComfyClient, spool: Spool
) -> None:
    job = files("told.png", keep_metadata=True)

    async with spool.fetched(job, client, until=soon()) as ((copy,), _):
        assert (copy.path.read_bytes(), copy.size) == (TOLD, len(TOLD))


async def test_clearing_removes_what_a_crash_left(spool: Spool, tmp_path: Path) -> None:
    old = tmp_path / "data" / "spool" / "tmpx1y2"
    old.mkdir()
    (old / "0").write_bytes(b"half a file")

    await spool.clear()

    assert left(tmp_path) == []


async def test_what_was_begun_is_not_fetched_again(
    client: ComfyClient, outputs: Outputs, spool: Spool, tmp_path: Path
) -> None:
    wanted = files("large.png")
    spool.begin(wanted, client)

    async with spool.fetched(wanted, client, until=soon()) as (copies, lost):
        assert [each.path.read_bytes() for each in copies] == [LARGE]
        assert lost == []

    assert outputs.tries == {"large.png": 1}
    assert left(tmp_path) == []


@pytest.mark.parametrize("name", ["small.txt", "cut once.png"], ids=["others came", "it broke off"])
async def test_what_was_begun_and_is_not_all_is_fetched_anew(
    client: ComfyClient, spool: Spool, tmp_path: Path, name: str
) -> None:
    spool.begin(files(name), client)

    whole = files(name, "large.png")
    async with spool.fetched(whole, client, until=soon()) as (copies, lost):
        assert [each.name for each in copies] == [name, "large.png"]
        assert lost == []

    assert left(tmp_path) == []


async def test_what_was_begun_and_is_not_wanted_leaves_nothing(
    client: ComfyClient, spool: Spool, tmp_path: Path
) -> None:
    for name in ("large.png", "away for long.png"):
        wanted = files(name)
        spool.begin(wanted, client)
        await asyncio.sleep(0)
        await spool.drop(wanted.id)

    assert left(tmp_path) == []
