"""The folder of files that people gave, and how they come to a server."""

import asyncio
import hashlib
import io
import os
import time
from pathlib import Path

import aiohttp
import pytest
from PIL import Image

from bot.errors import UserError
from bot.jobs import Job
from bot.uploads import Uploads
from comfy.client import ComfyClient
from comfy.errors import PromptRefused
from comfy.graph import Graph, InputRef
from comfy.parameters import Role
from comfy.standin_store import Place
from tests.bot.builders import a_job, a_request
from tests.comfy.pictures import picture, png
from tests.fakes.comfyui import FakeComfyUI
from tests.graphs import a_graph

DAY = 24 * 3600


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "uploads"


@pytest.fixture
def uploads(folder: Path) -> Uploads:
    return Uploads(folder)


@pytest.fixture
def client(comfyui: FakeComfyUI, session: aiohttp.ClientSession) -> ComfyClient:
    return ComfyClient(comfyui.url, session)


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


async def test_the_same_picture_is_kept_once(uploads: Uploads, folder: Path) -> None:
    first = await uploads.keep(Role.IMAGE, picture())
    again = await uploads.keep(Role.MASK, png(prompt="with a text"))
    other = await uploads.keep(Role.VIDEO, b"\0\0\0\x18ftypmp42")

    assert first == again != other
    assert names(folder) == sorted([first, other])
    assert uploads.path(first).read_bytes().startswith(b"\x89PNG")


async def test_a_name_is_made_of_the_content(uploads: Uploads) -> None:
    name = await uploads.keep(Role.AUDIO, b"OggS\0\2")

    assert name == f"{hashlib.sha256(b'OggS' + bytes([0, 2])).hexdigest()[:32]}.ogg"


async def test_a_picture_that_many_give_at_once_is_kept_for_all(
    uploads: Uploads, folder: Path
) -> None:
    file = io.BytesIO()
    Image.effect_noise((256, 256), 80).save(file, "PNG")

    for _ in range(20):
        many = (uploads.keep(Role.IMAGE, file.getvalue()) for _ in range(8))
        found = await asyncio.gather(*many, return_exceptions=True)

        assert [each for each in found if isinstance(each, BaseException)] == []
        assert names(folder) == [found[0]]


async def test_a_refused_file_leaves_nothing(uploads: Uploads, folder: Path) -> None:
    with pytest.raises(UserError):
        await uploads.keep(Role.IMAGE, b"no picture")

    assert not folder.exists()


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd", "", ".", "a.png", "/etc/passwd", "0" * 32, "A" * 32 + ".png",
        "0" * 32 + ".png/..", "0" * 32 + ".png\n", "0" * 31 + "/.png", "0" * 32 + ".safetensors",
    ],
)  # fmt: skip
def test_names_that_are_not_ours_are_no_paths(uploads: Uploads, name: str) -> None:
    with pytest.raises(ValueError, match="no name of a kept file"):
        uploads.path(name)


# The end


async def test_removed_files_are_gone_and_those_that_were_gone_are_fine(
    uploads: Uploads, folder: Path
) -> None:
    one = await uploads.keep(Role.IMAGE, picture())
    other = await uploads.keep(Role.AUDIO, b"OggS")

    await uploads.remove({one})
    await uploads.remove({one})

    assert names(folder) == [other]


async def test_files_that_nobody_used_for_a_month_are_swept(uploads: Uploads, folder: Path) -> None:
    young = await uploads.keep(Role.IMAGE, picture())
    old = await uploads.keep(Role.AUDIO, b"OggS")
    half = folder / f".{young}.new"
    half.write_bytes(b"half a file")
    for path, days in ((uploads.path(young), 29), (uploads.path(old), 31), (half, 31)):
        aged(path, days)

    await uploads.sweep()

    assert names(folder) == [young]


def aged(path: Path, days: int) -> None:
    then = time.time() - days * DAY
    os.utime(path, (then, then))


async def test_sweeping_where_nothing_was_kept_is_fine(uploads: Uploads) -> None:
    await uploads.sweep()


async def test_a_file_that_is_given_again_stays_for_another_month(uploads: Uploads) -> None:
    name = await uploads.keep(Role.IMAGE, picture())
    aged(uploads.path(name), 31)

    await uploads.keep(Role.IMAGE, picture())
    await uploads.sweep()

    assert uploads.path(name).exists()


# To a server


def with_pictures() -> Graph:
    graph = a_graph()
    graph["10"] = {"class_type": "LoadImage", "inputs": {"image": "example.png"}}
    graph["11"] = {"class_type": "LoadImageMask", "inputs": {"image": "a.png", "channel": "red"}}
    return graph


def job_with(*refs: tuple[str, str, str]) -> Job:
    uploads = {InputRef(node, name): file for node, name, file in refs}
    return a_job(request=a_request(graph=with_pictures(), uploads=uploads))


async def test_a_file_that_a_job_uses_stays_for_another_month(
    uploads: Uploads, client: ComfyClient
) -> None:
    name = await uploads.keep(Role.IMAGE, picture())
    aged(uploads.path(name), 31)

    await uploads.sent(client, job_with(("10", "image", name)))
    await uploads.sweep()

    assert uploads.path(name).exists()


async def test_files_go_into_the_jobs_folder_and_only_their_inputs_change(
    uploads: Uploads, client: ComfyClient, comfyui: FakeComfyUI
) -> None:
    name = await uploads.keep(Role.IMAGE, picture())
    job = job_with(("10", "image", name), ("11", "image", name))

    graph = await uploads.sent(client, job)

    expected = with_pictures()
    expected["10"]["inputs"]["image"] = f"comfycord/{job.id}/{name}"
    expected["11"]["inputs"]["image"] = f"comfycord/{job.id}/{name}"
    assert graph == expected
    assert job.request.graph == with_pictures()
    place = Place(name, f"comfycord/{job.id}", "input")
    assert comfyui.files[place] == uploads.path(name).read_bytes()
    assert await uploads.sent(client, job) == graph  # after a restart: the same files again


async def test_the_name_that_the_server_chose_counts(
    uploads: Uploads, client: ComfyClient, comfyui: FakeComfyUI
) -> None:
    name = await uploads.keep(Role.IMAGE, picture())
    job = job_with(("10", "image", name))
    comfyui.files[Place(name, f"comfycord/{job.id}", "input")] = b"another file"

    graph = await uploads.sent(client, job)

    told = f"comfycord/{job.id}/{name.removesuffix('.png')} (1).png"
    assert graph["10"]["inputs"]["image"] == told


async def test_a_job_without_files_asks_nothing_of_the_server(uploads: Uploads) -> None:
    nowhere = ComfyClient("http://127.0.0.1:1", None)  # type: ignore[arg-type]
    job = a_job()

    assert await uploads.sent(nowhere, job) == job.request.graph


async def test_a_file_that_is_gone_is_told(uploads: Uploads, client: ComfyClient) -> None:
    with pytest.raises(FileNotFoundError):
        await uploads.sent(client, job_with(("10", "image", "0" * 32 + ".png")))


async def test_a_server_that_takes_no_file_of_this_size_refuses_the_job(
    uploads: Uploads, session: aiohttp.ClientSession
) -> None:
    name = await uploads.keep(Role.VIDEO, b"\0\0\0\x18ftyp" + bytes(2 * 2**20))
    async with FakeComfyUI() as small:
        small.app._client_max_size = 2**20
        with pytest.raises(PromptRefused) as caught:
            await uploads.sent(ComfyClient(small.url, session), job_with(("10", "image", name)))

    assert caught.value.kind == "too_large"
