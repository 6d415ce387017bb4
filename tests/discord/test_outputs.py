"""What a workflow puts out, of every number, size and kind: all of it reaches the person, whole.

A file that is too large for the channel comes as a smaller copy or as a note, and the button
*Original* gives the clicker every byte of it.
"""

import io
import itertools
import json
import math
import random
import re
import struct
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

from bot import metadata
from bot.jobs import Job
from bot.texts import neutral
from tests.discord.conftest import World, text_of
from tests.fakes.discord_messages import EPHEMERAL, walk

MB = 2**20
REQUEST = 25 * MB  # of all files together: Discord's limit
WHOLE = {0: 10 * MB, 2: 24 * MB}  # by boosts of the Discord server: what is posted as it is
SECRET = b"PLANTED-WORKFLOW"
PICTURE, FILE = 12, 13  # components

Output = tuple[str, bytes | None]


# The files


@cache
def noise(size: int) -> bytes:
    """That many bytes that nothing makes smaller."""
    return random.Random(size).randbytes(size)


@cache
def picture(megabytes: int) -> bytes:
    """Coarse noise, stored as it is: as large as a PNG can be, and soon made smaller."""
    side = math.ceil(math.sqrt(megabytes * MB / 3))
    coarse = Image.effect_noise((side // 16, side // 16), 90).convert("RGB")
    file = io.BytesIO()
    coarse.resize((side, side), Image.Resampling.NEAREST).save(file, "PNG", compress_level=0)
    return file.getvalue()


def small_png(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 100, 100)).save(file, "PNG")
    return file.getvalue()


@cache
def moving(kind: str, more: int = 0) -> bytes:
    """Three frames, and *more* bytes in a place where the format allows it."""
    shown = [Image.effect_noise((40, 40), 90) for _ in range(3)]
    exif = shown[0].getexif()
    exif[0x0110] = SECRET.decode()
    how = {"exif": exif} if kind == "WEBP" else {}
    file = io.BytesIO()
    shown[0].save(file, kind, save_all=True, append_images=shown[1:], duration=80, **how)
    if kind == "GIF":
        return file.getvalue() + noise(more)
    body = file.getvalue()[8:] + (b"more" + struct.pack("<I", more) + noise(more)) * bool(more)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, kind) + body


@cache
def film(size: int) -> bytes:
    told = box(b"moov", box(b"udta", SECRET))
    return box(b"ftyp", b"mp42\0\0\0\0mp42isom") + told + box(b"mdat", noise(size))


@cache
def sound(size: int) -> bytes:
    about, told = bytes(34), struct.pack("<I", len(SECRET)) + SECRET
    head = struct.pack(">I", len(about)) + about + struct.pack(">I", 1 << 31 | 4 << 24 | len(told))
    return b"fLaC" + head + told + noise(size)


@cache
def mesh(size: int) -> bytes:
    scene = {"asset": {"version": "2.0", "extras": {"prompt": SECRET.decode()}}}
    text = json.dumps(scene).encode()
    text = text.ljust(math.ceil(len(text) / 4) * 4)
    parts = struct.pack("<I4s", len(text), b"JSON") + text
    parts += struct.pack("<I4s", size, b"BIN\0") + noise(size)
    return struct.pack("<4sII", b"glTF", 2, len(parts) + 12) + parts


def of_all_kinds(size: int) -> dict[str, bytes]:
    """By how the name ends."""
    return {
        ".mp4": film(size),
        ".gif": moving("GIF", size),
        ".webp": moving("WEBP", size),
        ".flac": sound(size),
        ".txt": noise(size // 2).hex().encode(),
        ".glb": mesh(size),
    }


# What becomes of them


def whole_of(name: str) -> str:
    """`a.png` of its piece `a.png.001`, and of itself."""
    return re.sub(r"\.\d{3}$", "", name)


class Outputs:
    """The results of a bot in a server with these boosts."""

    def __init__(self, world: World, tier: int) -> None:
        self.world = world
        self.tier = tier
        self.discord = world.discord
        self.job: Job

    async def start(self) -> None:
        self.world.guild = self.discord.add_guild("Lab with boosts", tier=self.tier)
        self.world.channel = self.discord.add_channel(self.world.guild, "art")
        await self.world.start()

    async def made(self, *outputs: Output) -> list[dict]:
        """The messages of a job that put these out, in the order of the channel."""
        self.world.comfyui.outputs = outputs
        await self.world.generate()
        self.job = await self.world.until_job(lambda job: job.told)
        assert [int(each["id"]) for each in self.messages] == list(self.job.messages)
        return self.messages

    @property
    def messages(self) -> list[dict]:
        return self.discord.messages[self.world.channel.id]

    def files(self) -> dict[str, bytes]:
        """Those of all messages, in order."""
        shown = [self.discord.files_of(each) for each in self.messages]
        return {name: data for each in shown for name, data in each.items()}

    def text(self) -> str:
        return "\n".join(text_of(each) for each in self.messages)

    def name(self, number: int) -> str:
        """How ComfyUI calls what it put out, as people read it."""
        return neutral(self.job.outputs[number - 1].filename, 80)

    def has_original(self, message: dict) -> bool:
        ids = [each.get("custom_id") for each in walk(message["components"])]
        return f"job:{self.job.id}:original" in ids

    async def originals(self, message: dict, files: int = 1) -> dict[str, bytes]:
        """What somebody gets for a click on *Original*, put together as the answer says."""
        assert self.has_original(message)
        click = self.discord.click(self.world.mod, message, f"job:{self.job.id}:original")
        await click.answered()

        def answers() -> list[dict]:
            assert click.message
            return [click.message, *click.followups]

        def pieces() -> dict[str, bytes]:
            text = "\n".join(text_of(each) for each in answers())
            found = {n: d for each in answers() for n, d in self.discord.files_of(each).items()}
            numbers = [int(number) for number in re.findall(r"in (\d+) pieces", text)]
            numbers += [1 for name in found if whole_of(name) == name]
            assert numbers or not text, text
            return found if len(numbers) == files and len(found) == sum(numbers) else {}

        found = await self.discord.until(pieces, timeout=3)
        assert all(each["flags"] & EPHEMERAL for each in answers())  # for the clicker alone
        return {
            whole: b"".join(found[each] for each in parts)
            for whole, parts in itertools.groupby(sorted(found), whole_of)
        }

    def check_limits(self) -> None:
        """Discord's own, in all that was sent."""
        for each in self.discord.requests:
            sizes = [len(data) for data in each.files.values()]
            assert len(sizes) <= 10
            assert sum(sizes) < REQUEST
            assert max(sizes, default=0) <= min(WHOLE[self.tier], REQUEST)


@pytest.fixture
async def outputs(world: World, request: pytest.FixtureRequest) -> AsyncIterator[Outputs]:
    """With the boosts that the test names, or none."""
    found = Outputs(world, getattr(request, "param", 0))
    await found.start()
    yield found
    found.check_limits()


def stripped(data: bytes, folder: Path) -> bytes:
    path = folder / "stripped"
    path.write_bytes(data)
    metadata.strip(path)
    return path.read_bytes()


def frames(data: bytes) -> int:
    with Image.open(io.BytesIO(data)) as picture:
        return getattr(picture, "n_frames", 1)


# Number


@pytest.mark.parametrize("number", [1, 4, 10, 11, 25])
async def test_every_picture_comes_once_and_in_order(outputs: Outputs, number: int) -> None:
    pictures = [small_png(n) for n in range(number)]

    messages = await outputs.made(*((".png", each) for each in pictures))

    numbers = [len(outputs.discord.files_of(each)) for each in messages]
    assert numbers == [10] * (number // 10) + [number % 10] * (number % 10 > 0)
    short = outputs.job.short_id
    assert list(outputs.files()) == [f"{short}-{n}.png" for n in range(1, number + 1)]
    assert list(outputs.files().values()) == pictures
    assert not any(outputs.has_original(each) for each in messages)


async def test_pictures_of_nine_megabytes_come_in_order_two_to_a_message(outputs: Outputs) -> None:
    messages = await outputs.made(*[(".png", picture(9))] * 5)

    assert [len(outputs.discord.files_of(each)) for each in messages] == [2, 2, 1]
    short = outputs.job.short_id
    assert list(outputs.files()) == [f"{short}-{n}.png" for n in range(1, 6)]
    assert set(outputs.files().values()) == {picture(9)}


# Size


@pytest.mark.parametrize(
    ("outputs", "megabytes"),
    [(0, 1), (0, 9), (0, 12), (0, 30), (2, 12), (2, 30)],
    indirect=["outputs"],
)
async def test_a_picture_comes_whole_or_as_a_copy_whose_original_can_be_had(
    outputs: Outputs, megabytes: int
) -> None:
    original = picture(megabytes)

    (message,) = await outputs.made((".png", original))

    ((name, data),) = outputs.files().items()
    stem, most = f"{outputs.job.short_id}-1", WHOLE[outputs.tier]
    if len(original) <= most:
        assert (name, data) == (f"{stem}.png", original)
        assert not outputs.has_original(message)
        return
    assert name == f"{stem}.webp"
    assert len(data) <= most
    assert Image.open(io.BytesIO(data)).size == Image.open(io.BytesIO(original)).size
    assert f"{outputs.name(1)} (" in outputs.text()
    assert "too large here, so this is a smaller copy" in outputs.text()
    assert await outputs.originals(message) == {f"{stem}.png": original}


async def test_the_limit_is_met_to_the_byte(outputs: Outputs) -> None:
    most = noise(10 * MB)

    (message,) = await outputs.made((".txt", most), (".txt", most + b"!"))

    short = outputs.job.short_id
    assert outputs.files() == {f"{short}-1.txt": most}
    assert await outputs.originals(message) == {f"{short}-2.txt": most + b"!"}


async def test_a_file_of_120_megabytes_is_had_in_pieces(outputs: Outputs) -> None:
    data = noise(120_000_000)

    (message,) = await outputs.made((".bin", data))

    assert outputs.files() == {}
    assert f"{outputs.name(1)} (114.4 MB) is too large to be posted here." in outputs.text()
    assert await outputs.originals(message) == {f"{outputs.job.short_id}-1.bin": data}


# Kind


async def test_files_of_all_kinds_come_whole(outputs: Outputs, tmp_path: Path) -> None:
    kinds = of_all_kinds(1000)

    (message,) = await outputs.made(*kinds.items())

    short = outputs.job.short_id
    assert outputs.files() == {
        f"{short}-{n}{kind}": stripped(data, tmp_path)
        for n, (kind, data) in enumerate(kinds.items(), 1)
    }
    assert not any(SECRET in each for each in outputs.files().values())
    assert [frames(outputs.files()[f"{short}-{n}"]) for n in ("2.gif", "3.webp")] == [3, 3]
    parts = list(walk(message["components"]))
    (gallery,) = (each["items"] for each in parts if each["type"] == PICTURE)
    assert len(gallery) == 3
    assert sum(each["type"] == FILE for each in parts) == 3
    assert not outputs.has_original(message)


async def test_large_files_of_all_kinds_can_be_had_whole(outputs: Outputs, tmp_path: Path) -> None:
    kinds = of_all_kinds(12 * MB)

    (message,) = await outputs.made(*kinds.items())
    whole = await outputs.originals(message, files=6)

    short = outputs.job.short_id
    assert whole == {
        f"{short}-{n}{kind}": stripped(data, tmp_path)
        for n, (kind, data) in enumerate(kinds.items(), 1)
    }
    assert not any(SECRET in each for each in whole.values())
    copies = outputs.files()
    assert {name: frames(data) for name, data in copies.items()} == {
        f"{short}-2.webp": 3,
        f"{short}-3.webp": 3,
    }
    text = outputs.text()
    assert all(f"{outputs.name(n)} (12.0 MB) is too large" in text for n in range(1, 7))


# Everything at once


async def test_every_output_is_a_file_or_named_in_a_note(outputs: Outputs, tmp_path: Path) -> None:
    put_out: list[Output] = [
        (".png", small_png(1)),
        (".mp4", film(12 * MB)),
        (".flac", sound(1000)),
        ("gone.png", None),
        (".png", picture(9)),
        (".glb", mesh(12 * MB)),
        (".png", picture(9)),
        (".txt", b"words"),
        (".webp", moving("WEBP")),
        (".png", picture(9)),
        *((".png", small_png(n)) for n in range(2, 9)),
    ]

    await outputs.made(*put_out)

    text, posted = outputs.text(), list(outputs.files().values())
    for number, (_, data) in enumerate(put_out, 1):
        if data is None:
            assert f"{outputs.name(number)} is no longer on the server." in text
        elif len(data) > 10 * MB:
            assert f"{outputs.name(number)} (12.0 MB) is too large" in text
        else:
            assert posted.pop(0) == stripped(data, tmp_path)
    assert not posted
    numbers = [int(re.search(r"-(\d+)\.", each)[1]) for each in outputs.files()]
    assert numbers == sorted(set(numbers))


async def test_many_files_that_are_gone_are_all_told(outputs: Outputs) -> None:
    gone = [(f"{'long' * 10}{n:02}.png", None) for n in range(60)]

    await outputs.made((".png", small_png(1)), *gone)

    untold = [n for n in range(2, 62) if outputs.name(n) not in outputs.text()]
    assert not untold or f"{len(untold)} more" in outputs.text()


# Where something is not as it was


async def test_an_original_is_had_though_another_output_is_gone(outputs: Outputs) -> None:
    (message,) = await outputs.made((".bin", noise(12 * MB)), ("gone.png", None))

    whole = await outputs.originals(message)

    assert whole == {f"{outputs.job.short_id}-1.bin": noise(12 * MB)}


@pytest.mark.parametrize("outputs", [2], indirect=True)
async def test_an_original_is_had_of_what_discord_did_not_take(outputs: Outputs) -> None:
    limits = outputs.discord.store.limits
    boosted = limits.pop(outputs.world.channel.id)
    (message,) = await outputs.made((".bin", noise(12 * MB)))
    limits[outputs.world.channel.id] = boosted
    assert "-1.bin (12.0 MB) is too large to be posted here." in outputs.text()

    whole = await outputs.originals(message)

    assert whole == {f"{outputs.job.short_id}-1.bin": noise(12 * MB)}


async def test_an_original_whose_server_is_away_is_not_said_to_be_gone(outputs: Outputs) -> None:
    (message,) = await outputs.made((".bin", noise(12 * MB)))
    await outputs.world.comfyui.close()

    click = outputs.discord.click(outputs.world.mod, message, f"job:{outputs.job.id}:original")
    await click.answered()
    told = await outputs.discord.until(lambda: text_of(click.message))

    assert "gone" not in told


async def test_a_person_is_not_left_with_a_part_of_the_pieces(world: World) -> None:
    outputs = Outputs(world, 0)
    world.guild = world.discord.add_guild("Elsewhere", installed=False)
    world.channel = world.discord.add_channel(world.guild, "talk")
    await world.start()
    world.comfyui.outputs = [(".bin", noise(120_000_000) + bytes(6 * MB))]  # in 13 pieces
    asked = await world.generate()
    outputs.job = await world.until_job(lambda job: job.told)

    click = world.discord.click(world.alice, asked.message, f"job:{outputs.job.id}:original")
    await click.answered()
    told = await world.discord.until(lambda: text_of(click.message))
    await world.discord.until(lambda: len(click.followups) == 5 or "pieces" not in told)

    number = re.search(r"in (\d+) pieces", told)
    assert number is None or int(number[1]) <= 12  # six requests, two pieces in each


async def test_a_large_result_that_is_shown_again_still_gives_its_original(
    outputs: Outputs,
) -> None:
    await outputs.made((".mp4", film(12 * MB)))
    world, short = outputs.world, outputs.job.short_id

    shown = world.discord.slash(world.alice, world.channel, "history", job=short)
    await world.told(shown, short)

    assert shown.message
    assert outputs.has_original(shown.message)
