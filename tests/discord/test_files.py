"""Files that people give, and files that are posted: whole ways, on the wire."""

import io
import json
import random
import shutil
import struct

import pytest
from PIL import Image, PngImagePlugin

from bot.jobs import JobState
from comfy.standin import Pace
from comfy.standin_store import Place
from tests.discord.conftest import World, text_of
from tests.discord.test_generate import graph_of
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.discord import Fault, Interaction
from tests.fakes.discord_messages import EPHEMERAL, walk
from tests.fakes.hearing import HearingComfyUI

UPLOAD = "/upload/image"


def photo(colour: str = "red", size: tuple[int, int] = (40, 30)) -> bytes:
    """A JPEG as a telephone makes it: turned, and telling the camera and the place."""
    picture = Image.new("RGB", size, colour)
    exif = picture.getexif()
    exif[0x010F] = "PLANTED-CAMERA"
    exif[0x0112] = 6  # turned
    exif.get_ifd(0x8825)[2] = (48.0, 51.0, 30.0)
    file = io.BytesIO()
    picture.save(file, "JPEG", exif=exif, comment=b"PLANTED-COMMENT")
    return file.getvalue() + b"PK\x03\x04PLANTED-TAIL"


def png(**texts: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    file = io.BytesIO()
    Image.new("RGB", (64, 32), "green").save(file, "PNG", pnginfo=info)
    return file.getvalue()


def pixels(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as picture:
        return picture.convert("RGBA").tobytes()


async def repainted(world: World, **options: object) -> Interaction:
    given = {"workflow": "img2img", "image": ("photo.jpg", photo())} | options
    return await world.generate(**given)


def input_of(world: World, comfyui: FakeComfyUI | None = None) -> tuple[str, bytes]:
    """The name that the newest graph's LoadImage holds, and the file behind it."""
    comfyui = comfyui or world.comfyui
    graph = list(comfyui.queue.history.values())[-1]["prompt"][2]
    name = graph["2"]["inputs"]["image"]
    return name, comfyui.files[Place.annotated(name)]


async def test_a_picture_reaches_the_server_without_what_it_disclosed(world: World) -> None:
    await world.start()

    await world.posted(await repainted(world))
    (job,) = await world.bot.store.recent(world.alice.id, 1)
    name, data = input_of(world)

    (kept,) = job.request.uploads.values()
    assert name == f"comfycord/{job.id}/{kept}"
    assert len(kept) == 32 + len(".png")
    assert b"PLANTED" not in data
    with Image.open(io.BytesIO(data)) as picture:
        assert (picture.format, picture.size) == ("PNG", (30, 40))  # upright
        assert dict(picture.getexif()) == {}
        assert not picture.info.get("comment")


async def test_strength_and_picture_go_together(world: World) -> None:
    await world.start()

    await world.posted(await repainted(world, strength=0.25))

    assert graph_of(world)["7"]["inputs"]["denoise"] == 0.25


async def test_the_same_picture_is_kept_once(world: World) -> None:
    await world.start()

    for _ in range(2):
        await world.posted(await repainted(world))

    assert len(list(world.bot.config.uploads.iterdir())) == 1


async def test_a_file_goes_to_the_server_that_runs_the_job(world: World) -> None:
    async with FakeComfyUI(pace=Pace(0, 0)) as other:
        world.comfyui.hold()
        other.hold()
        await world.start(
            servers=[
                {"name": "local", "url": world.comfyui.url},
                {"name": "other", "url": other.url},
            ]
        )
        asked = [await repainted(world, prompt=f"number {n}") for n in range(2)]
        await world.until(
            lambda: UPLOAD in str(world.comfyui.requests) and UPLOAD in str(other.requests)
        )
        for each in (world.comfyui, other):
            each.finish()
        for interaction in asked:
            await world.posted(interaction)

        for comfyui, name in ((world.comfyui, "local"), (other, "other")):
            (job,) = [
                each
                for each in await world.bot.store.recent(world.alice.id, 2)
                if each.server == name
            ]
            assert input_of(world, comfyui)[0].startswith(f"comfycord/{job.id}/")
            assert comfyui.requests.count(("POST", UPLOAD)) == 1


@pytest.mark.parametrize(
    ("workflow", "option", "file", "words"),
    [
        ("img2img", "image", ("a.png", b"MZ" * 50), "This file is something else."),
        ("img2img", "image", ("a.png", png()[:60]), "damaged or too large"),
        ("img2img", "image", ("a.png", b""), "The file for `image` is empty."),
        ("img2img", "image", ("a.png", bytes(26 * 2**20)), "larger than 25 MB"),
        ("img2img", "mask", ("a.png", png()), "takes no `mask`"),
        ("txt2img", "image", ("a.png", png()), "takes no `image`"),
        ("upscale", "video", ("a.mp4", b"\0\0\0\x18ftypmp42"), "takes no `video`"),
    ],
)
async def test_a_file_that_will_not_do_is_refused_in_a_sentence(
    world: World, workflow: str, option: str, file: tuple[str, bytes], words: str
) -> None:
    await world.start()

    asked = {"workflow": workflow, option: file}
    interaction = world.discord.slash(world.alice, world.channel, "generate", **asked)
    await interaction.answered()
    await world.commands_end()

    assert words in text_of(interaction.message)
    assert not await world.bot.store.recent(world.alice.id, 1)
    assert ("POST", UPLOAD) not in world.comfyui.requests


@pytest.mark.parametrize("fault", [{"status": 404}, {"status": 500}, {"reset": True}])
async def test_a_file_that_discord_does_not_give_is_asked_for_again(
    world: World, fault: dict
) -> None:
    world.discord.faults.append(Fault("GET", "/attachments/*", times=9, **fault))
    await world.start()

    interaction = await repainted(world)
    await world.commands_end()

    assert text_of(interaction.message) == "Discord did not give me the file. Send it again."
    assert not await world.bot.store.recent(world.alice.id, 1)


ANSWERS = ("PATCH", "/webhooks/*/messages/@original")


async def test_an_answer_after_a_file_that_does_not_arrive_is_given_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.answers._AGAIN", (0.0, 0.0))
    world.discord.faults.append(Fault(*ANSWERS, reset=True, times=2))
    await world.start()

    interaction = await repainted(world)

    await world.posted(interaction)
    assert len(world.comfyui.executed) == 1


async def test_who_was_to_wait_and_got_no_answer_is_told_afterwards(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.answers._AGAIN", (0.0, 0.0))
    monkeypatch.setattr("bot.answers._LOOK_EVERY", 0.05)
    for name in ("_IDLE", "_UNANSWERED"):
        monkeypatch.setattr(f"bot.runner.{name}", 0.05)
    world.discord.faults.append(Fault(*ANSWERS, reset=True, times=3))
    await world.start()

    interaction = await repainted(world)

    await world.told(interaction, "Ask again.")
    assert not await world.bot.store.recent(world.alice.id, 1)
    assert world.comfyui.executed == []


async def test_a_workflow_whose_file_no_server_has_needs_one(world: World) -> None:
    graph = json.loads((world.folder / "workflows/img2img.json").read_text())
    graph["2"]["inputs"]["image"] = "nobody has this.png"
    (world.folder / "workflows/needs.json").write_text(json.dumps(graph))
    await world.start()

    interaction = await world.generate(workflow="needs")

    assert text_of(interaction.message) == "*needs* needs a file: give `image`."


# The upload to ComfyUI fails


@pytest.fixture
async def hearing(world: World) -> HearingComfyUI:
    """A ComfyUI that can be made to answer oddly, in the place of the first one."""
    await world.comfyui.close()
    world.comfyui = await HearingComfyUI(pace=Pace(0, 0)).__aenter__()
    return world.comfyui


@pytest.mark.parametrize(
    "odd", [{"status": 500}, {"text": "garbage"}, {"status": 200, "text": "{}"}]
)
async def test_a_job_outlives_an_upload_that_is_answered_oddly(
    world: World, hearing: HearingComfyUI, odd: dict
) -> None:
    hearing.say(UPLOAD, **odd)
    await world.start()

    interaction = await repainted(world)
    await world.until(lambda: len(uploads(hearing)) >= 2)
    hearing._odd.clear()

    assert len(await world.posted(interaction)) == 1
    await hearing.close()


async def test_a_job_outlives_an_upload_that_breaks_off(
    world: World, hearing: HearingComfyUI
) -> None:
    hearing.cut(UPLOAD, text="{")
    await world.start()

    interaction = await repainted(world)
    await world.until(lambda: uploads(hearing))
    hearing._odd.clear()

    assert len(await world.posted(interaction)) == 1
    assert len(hearing.queue.history) == 1
    await hearing.close()


async def test_a_file_that_the_server_refuses_costs_one_job(
    world: World, hearing: HearingComfyUI
) -> None:
    hearing.say(UPLOAD, status=400)
    await world.start()

    refused = await repainted(world)

    text = await world.told(refused, "It did not work.")

    assert "The server lost this job several times." in text
    assert len(uploads(hearing)) == 3
    await hearing.close()


async def test_others_are_served_while_a_file_is_refused(
    world: World, hearing: HearingComfyUI
) -> None:
    hearing.say(UPLOAD, status=400)
    await world.start()
    await repainted(world)
    await world.until(lambda: uploads(hearing))

    other = await world.generate()

    assert len(await world.posted(other)) == 1
    await hearing.close()


def uploads(comfyui: HearingComfyUI) -> list[tuple]:
    return [each for each in comfyui.heard if each[1] == UPLOAD]


async def test_a_file_that_is_no_longer_kept_is_asked_for_again(world: World) -> None:
    world.comfyui.hold()
    await world.start()
    for _ in range(2):
        await world.generate()
    interaction = await repainted(world)
    await world.commands_end()
    shutil.rmtree(world.bot.config.uploads)
    world.comfyui.finish()

    text = await world.told(interaction, "It did not work.")

    assert "The file that it began with is no longer kept. Give it again." in text


# What is posted


async def test_twenty_five_pictures_come_in_order_in_three_messages(world: World) -> None:
    sidecar = world.folder / "workflows/postcard.yaml"
    sidecar.write_text(sidecar.read_text().replace("max: 4\n", "max: 25\n"))
    await world.start()

    await world.generate(batch=25, width=256, height=256, seed="1")
    messages = world.discord.messages[world.channel.id]
    await world.discord.until(
        lambda: sum(len(world.discord.files_of(each)) for each in messages) == 25
    )
    (job,) = await world.bot.store.recent(world.alice.id, 1)

    names = [list(world.discord.files_of(each)) for each in messages]
    assert [len(each) for each in names] == [10, 10, 5]
    assert [name for each in names for name in each] == [
        f"{job.short_id}-{n}.png" for n in range(1, 26)
    ]
    sent = [data for each in messages for data in world.discord.files_of(each).values()]
    made = [
        world.comfyui.files[Place(each.filename, each.subfolder, each.type)] for each in job.outputs
    ]
    assert [pixels(each) for each in sent] == [pixels(each) for each in made]
    assert len({pixels(each) for each in sent}) == 25
    assert all("part" in text_of(each) for each in messages)


async def test_a_picture_of_twelve_megabytes_comes_as_a_smaller_copy(world: World) -> None:
    noise = Image.effect_noise((2000, 2100), 120).convert("RGB")
    file = io.BytesIO()
    noise.save(file, "PNG", compress_level=0)
    assert len(file.getvalue()) > 12 * 2**20
    world.comfyui.picture = file.getvalue()
    await world.start()

    interaction = await world.generate()
    ((name, data),) = (await world.posted(interaction)).items()
    (job,) = await world.bot.store.recent(world.alice.id, 1)

    assert name == f"{job.short_id}-1.webp"
    assert len(data) <= 10 * 2**20
    with Image.open(io.BytesIO(data)) as copy:
        assert copy.format == "WEBP"
    text = text_of(interaction.message)
    assert "is too large here, so this is a smaller copy." in text
    assert "`Original` gives the whole." in text


async def large_video(world: World) -> tuple[Interaction, bytes]:
    """The answer to a command that made a video of thirty megabytes, once it says so."""
    data = b"mdat" + random.Random(1).randbytes(30 * 2**20)
    video = b"\0\0\0\x18ftypmp42" + bytes(12) + (len(data) + 4).to_bytes(4, "big") + data
    world.comfyui.picture, world.comfyui.suffix = video, ".mp4"
    await world.start()
    interaction = await world.generate()
    await world.told(interaction, "too large")
    return interaction, video


async def test_a_video_of_thirty_megabytes_is_said_to_be_too_large(world: World) -> None:
    interaction, _ = await large_video(world)

    text = text_of(interaction.message)
    assert "(30.0 MB) is too large to be posted here. `Original` gives it in pieces." in text
    assert world.files(interaction) == {}
    assert (await world.until_job(lambda job: job.told)).state is JobState.POSTED


async def test_what_was_too_large_is_given_in_pieces_to_whoever_asks(world: World) -> None:
    interaction, video = await large_video(world)
    job = await world.until_job(lambda job: job.told)

    click = world.discord.click(world.mod, interaction.message, f"job:{job.id}:original")
    await click.answered()

    def pieces_shown() -> list[dict[str, bytes]]:
        """Of each message."""
        return [world.discord.files_of(each) for each in shown_by(click)]

    await world.discord.until(lambda: sum(map(len, pieces_shown())) >= 4)
    pieces = {name: data for each in pieces_shown() for name, data in each.items()}
    assert list(pieces) == [f"{job.short_id}-1.mp4.00{number}" for number in (1, 2, 3, 4)]
    assert b"".join(pieces.values()) == video
    assert all(each["flags"] & EPHEMERAL for each in shown_by(click))
    name, (first, *_) = f"{job.short_id}-1.mp4", shown_by(click)
    assert f"{name} in 4 pieces." in text_of(first)
    assert f"`cat {name}.* > {name}`" in text_of(first)


def shown_by(interaction: Interaction) -> list[dict]:
    """Its messages, in order."""
    return [each for each in (interaction.message, *interaction.followups) if each]


@pytest.mark.parametrize("suffix", [".txt", ".glb", ".flac"])
async def test_what_is_no_picture_is_posted_as_a_file(world: World, suffix: str) -> None:
    world.comfyui.picture = b"fLaC\x80\0\0\0words" if suffix == ".flac" else b"glTF words"
    world.comfyui.suffix = suffix
    await world.start()

    interaction = await world.generate()
    ((name, data),) = (await world.posted(interaction)).items()
    kinds = [each["type"] for each in walk(interaction.message["components"])]

    assert name.endswith(f"-1{suffix}")
    assert b"words" in data
    assert 13 in kinds  # a file
    assert 12 not in kinds  # a gallery
    assert "Vary" not in text_of(interaction.message)
    assert "Again" in text_of(interaction.message)


async def test_a_posted_picture_holds_no_workflow(world: World) -> None:
    world.comfyui.picture = png(prompt='{"secret": 1}', workflow='{"secret": 2}')
    await world.start()

    (data,) = (await world.posted(await world.generate())).values()

    assert b"secret" not in data
    with Image.open(io.BytesIO(data)) as picture:
        assert not {"prompt", "workflow"} & picture.info.keys()
        assert picture.getpixel((0, 0)) == (0, 128, 0)


async def test_a_workflow_that_wants_it_keeps_itself_in_its_pictures(world: World) -> None:
    world.comfyui.picture = png(prompt='{"open": 1}')
    sidecar = world.folder / "workflows/postcard.yaml"
    sidecar.write_text(sidecar.read_text() + "\nkeep_metadata: true\n")
    await world.start()

    (data,) = (await world.posted(await world.generate())).values()

    with Image.open(io.BytesIO(data)) as picture:
        assert picture.info["prompt"] == '{"open": 1}'


async def test_a_webp_loses_the_workflow_too(world: World) -> None:
    picture, file = Image.new("RGB", (8, 8)), io.BytesIO()
    exif = picture.getexif()
    exif[0x0110] = 'prompt:{"secret": 1}'
    picture.save(file, "WEBP", exif=exif)
    assert b"secret" in file.getvalue()
    world.comfyui.picture = file.getvalue()
    await world.start()

    (data,) = (await world.posted(await world.generate())).values()

    assert b"secret" not in data
    assert struct.unpack("<I", data[4:8])[0] == len(data) - 8


async def test_a_lost_receipt_for_thinking_costs_no_request(world: World) -> None:
    world.discord.faults.append(Fault("POST", "/interactions/*", after_commit=True))
    await world.start()

    interaction = await world.generate(workflow="img2img", image=("a.png", photo()))

    assert await world.posted(interaction)
