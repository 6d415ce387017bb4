"""Preview pictures in the placeholder of a running job: shown now and then, and gone at its end."""

import io
import itertools
import json
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from bot import delivery
from bot.jobs import JobState
from comfy.standin import Pace
from comfy.standin_worker import Preview, Text
from tests.discord.conftest import World, text_of
from tests.fakes.discord import Fault, Interaction, Request
from tests.fakes.discord_messages import walk
from tests.simulated.test_menus import coloured

EVERY = 0.3  # seconds between two previews, in these tests
ASKED = {"workflow": "txt2img", "width": 256, "height": 256}
FRAME = struct.Struct(">II")


@pytest.fixture(autouse=True)
def _shown_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "PROGRESS_EVERY", 0.02)
    monkeypatch.setattr(delivery, "CHANNEL_EVERY", 0.02)
    monkeypatch.setattr(delivery, "_PREVIEW_EVERY", EVERY)
    monkeypatch.setattr("comfy.client._PROGRESS_EVERY", 0.0)


class Sampling:
    """A job that runs, and what its server says of it."""

    def __init__(self, world: World, interaction: Interaction, prompt_id: str) -> None:
        self.world = world
        self.interaction = interaction
        self.prompt_id = prompt_id
        self.client_id = world.bot.servers["local"].client_id
        self.steps = itertools.count(5, 5)

    def send(self, picture: bytes, prompt_id: str | None = None) -> None:
        """A preview, of this job if no other is named."""
        about = {"prompt_id": prompt_id or self.prompt_id, "image_type": "image/jpeg"}
        self.world.comfyui.outbox.put_nowait(Preview(self.client_id, picture, about))

    def send_older_kind(self, picture: bytes) -> None:
        """A preview that does not tell whose it is."""
        self.world.comfyui.outbox.put_nowait(Preview(None, picture, None))

    async def send_raw(self, data: bytes) -> None:
        (socket,) = self.world.comfyui.sockets.values()
        await socket.stream.send_bytes(data)

    async def step(self, within: float = 4.0) -> None:
        """Some more of a hundred steps, until the message tells it: all before it was heard."""
        value = next(self.steps)
        data = {"prompt_id": self.prompt_id, "node": "5", "value": value, "max": 100}
        before = text_of(self.interaction.message)
        self.world.comfyui.outbox.put_nowait(Text(self.client_id, "progress", data))
        await self.world.discord.until(
            lambda: text_of(self.interaction.message) not in ("", before), within
        )

    @property
    def shown(self) -> bytes | None:
        """The preview in the message."""
        assert self.interaction.message
        return self.world.discord.files_of(self.interaction.message).get("preview.jpg")

    async def until_shown(self, picture: bytes) -> None:
        await self.world.discord.until(lambda: self.shown == picture, timeout=4)

    async def end(self) -> dict[str, bytes]:
        self.world.comfyui.finish()
        return await self.world.posted(self.interaction)


@pytest.fixture
async def sampling(world: World, request: pytest.FixtureRequest) -> Sampling:
    """Alice's job at its sampler, from where it says only what the test lets it say."""
    world.comfyui.pace = Pace(node=0, step=0, previews=False)
    world.comfyui.hold()
    await world.start()
    interaction = await world.generate(**ASKED, **getattr(request, "param", {}))
    job = await world.until_job(lambda job: job.state is JobState.RUNNING)
    assert job.prompt_id
    await world.discord.until(lambda: "%" in text_of(interaction.message))
    return Sampling(world, interaction, job.prompt_id)


def edits(world: World) -> list[Request]:
    return [each for each in world.discord.requests if each.method == "PATCH"]


def galleries(message: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """The pictures that a message shows."""
    assert message
    return (
        item for each in walk(message["components"]) if each["type"] == 12 for item in each["items"]
    )


async def test_what_the_server_sends_stands_in_the_message_until_the_result(world: World) -> None:
    world.comfyui.pace = Pace(node=0, step=0.04)
    await world.start()

    interaction = await world.generate(**ASKED, steps=30)
    first = await world.discord.until(
        lambda: (
            interaction.message and world.discord.files_of(interaction.message).get("preview.jpg")
        )
    )
    text = text_of(interaction.message)
    (name,) = await world.posted(interaction)

    with Image.open(io.BytesIO(first)) as picture:
        assert (picture.format, max(picture.size)) == ("JPEG", 512)
    assert "Cancel" in text
    assert list(world.discord.files_of(interaction.message)) == [name]
    (shown,) = galleries(interaction.message)
    assert name in shown["media"]["url"]
    sent = [each for each in edits(world) if "preview.jpg" in each.files]
    assert len({each.files["preview.jpg"] for each in sent}) > 1
    starts = [each.at for each in sent]
    assert all(later - at >= EVERY / 2 for at, later in itertools.pairwise(starts))
    told = [each for each in edits(world) if "attachment://preview.jpg" in json.dumps(each.json)]
    assert len(told) > len(sent)
    assert all(each.status == 200 for each in told)


async def test_a_new_preview_waits_for_its_time_and_the_old_one_stays(
    sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampling.send(coloured("red"))
    await sampling.until_shown(coloured("red"))
    monkeypatch.setattr(delivery, "_PREVIEW_EVERY", 1e9)
    sampling.send(coloured("blue"))
    await sampling.step()
    await sampling.step()
    meanwhile = sampling.shown
    monkeypatch.setattr(delivery, "_PREVIEW_EVERY", 0.0)
    await sampling.step()

    assert meanwhile == coloured("red")
    assert sampling.shown == coloured("blue")


async def test_a_preview_of_another_prompt_of_an_older_kind_or_damaged_is_not_shown(
    sampling: Sampling,
) -> None:
    head = json.dumps({"prompt_id": sampling.prompt_id, "image_type": "image/jpeg"}).encode()
    sampling.send(coloured("red"), "another prompt")
    sampling.send_older_kind(coloured("red"))
    for damaged in (
        b"",
        FRAME.pack(4, 2**31) + head + coloured("red"),
        FRAME.pack(4, 9) + head + coloured("red"),
        FRAME.pack(9, len(head)) + head + coloured("red"),
        b"\xff" * 70_000,
    ):
        await sampling.send_raw(damaged)
    await sampling.step()
    before = sampling.shown
    sampling.send(coloured("blue"))  # and the socket still works
    await sampling.until_shown(coloured("blue"))
    files = await sampling.end()

    assert before is None
    assert len(files) == 1
    assert not any(coloured("red") in each.files.values() for each in edits(sampling.world))


@pytest.mark.parametrize("sampling", [{"private": True}], indirect=True, ids=["private"])
async def test_a_private_preview_stays_private_and_goes_with_the_result(
    sampling: Sampling,
) -> None:
    sampling.send(coloured("red"))
    await sampling.until_shown(coloured("red"))
    await sampling.step()
    assert sampling.shown == coloured("red")
    assert sampling.interaction.ephemeral

    await sampling.end()

    assert sampling.shown is None
    assert sampling.world.discord.messages[sampling.world.channel.id] == []


@pytest.mark.parametrize("ending", ["a failure", "a cancel"])
async def test_a_preview_goes_with_what_ends_without_a_result(
    sampling: Sampling, ending: str
) -> None:
    world = sampling.world
    sampling.send(coloured("red"))
    await sampling.until_shown(coloured("red"))

    if ending == "a failure":
        world.comfyui.fail()
        await world.told(sampling.interaction, "It did not work.")
    else:
        await world.bot.runner.cancel(await world.until_job(lambda job: True))
        await world.told(sampling.interaction, "Cancelled.")

    assert world.discord.files_of(sampling.interaction.message) == {}
    assert list(galleries(sampling.interaction.message)) == []


async def test_a_preview_of_hidden_pictures_is_hidden(world: World) -> None:
    path = world.folder / "workflows/txt2img.yaml"
    path.write_text(f"{path.read_text()}spoiler: true\n")
    world.comfyui.pace = Pace(node=0, step=0.04)
    await world.start()

    interaction = await world.generate(**ASKED, steps=10)
    shown = await world.discord.until(
        lambda: interaction.message and list(galleries(interaction.message))
    )

    assert "preview.jpg" in shown[0]["media"]["url"]
    assert shown[0]["spoiler"] is True
    await world.posted(interaction)


async def test_progress_goes_on_after_a_preview_that_discord_did_not_take(
    sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_PREVIEW_EVERY", 1e9)
    refused = Fault("PATCH", "/channels/*/messages/*", status=400)
    sampling.world.discord.faults.append(refused)
    sampling.send(coloured("red"))
    await sampling.world.discord.until(lambda: edits(sampling.world)[-1].status == 400)

    await sampling.step(within=1.0)

    assert "%" in text_of(sampling.interaction.message)
