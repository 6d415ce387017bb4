"""What ComfyUI writes into its files is gone, and everything else is as it was."""

import io
import itertools
import os
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms, ImageSequence, PngImagePlugin

from bot.metadata import strip
from tests.bot.stripping import PROMPT, SECRET, stripped

FILES = Path(__file__).parents[3] / "shared" / "workflow-conversion" / "files"
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "0"


def saved(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def noise(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.effect_noise(size, 90).convert(mode)


def pictures(data: bytes) -> list[tuple[bytes, int | None]]:
    """The pixels of every picture, and how long it is shown."""
    with Image.open(io.BytesIO(data)) as file:
        return [
            (each.convert("RGBA").tobytes(), each.info.get("duration"))
            for each in ImageSequence.Iterator(file)
        ]


def exif() -> Image.Exif:
    """As ComfyUI writes it into a WebP."""
    told = Image.Exif()
    told[0x0110] = f"prompt:{PROMPT}"
    told[0x010F] = f"workflow:{PROMPT}"
    return told


# PNG


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at < len(png):
        size, kind = struct.unpack_from(">I4s", png, at)
        found.append((kind, png[at : at + size + 12]))
        at += size + 12
    return found


def with_chunk(png: bytes, kind: bytes, body: bytes, *, before: bytes = b"IDAT") -> bytes:
    at = png.index(before) - 4
    return png[:at] + chunk(kind, body) + png[at:]


def texts(how: str) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    for name in ("prompt", "workflow", "parameters"):
        if how == "iTXt":
            info.add_itxt(name, PROMPT, zip=True)
        elif how == "comf":  # of SaveAnimatedPNG
            info.add(b"comf", name.encode() + b"\0" + PROMPT.encode(), after_idat=True)
        else:
            info.add_text(name, PROMPT, zip=how == "zTXt")
    return info


@pytest.mark.parametrize("how", ["tEXt", "zTXt", "iTXt", pytest.param("comf")])
@pytest.mark.parametrize("many", [1, 3], ids=["still", "animated"])
def test_the_texts_of_a_png_are_gone_and_its_pictures_are_the_same(
    path: Path, how: str, many: int
) -> None:
    rest = [noise() for _ in range(many - 1)]
    more: Any = {"save_all": True, "append_images": rest, "duration": 120} if rest else {}
    data = saved(noise(), pnginfo=texts(how), **more)

    clean = stripped(path, data)

    assert {how.encode()} <= {kind for kind, _ in chunks(data)}
    assert chunks(clean) == [each for each in chunks(data) if each[0] != how.encode()]
    assert pictures(clean) == pictures(data)
    assert len(pictures(clean)) == many
    assert SECRET not in clean


def test_the_camera_and_the_moment_of_a_png_are_gone(path: Path) -> None:
    bare = saved(noise())
    data = with_chunk(bare, b"eXIf", exif().tobytes()[6:])
    data = with_chunk(data, b"tIME", bytes(7), before=b"IEND")

    assert stripped(path, data) == bare


def test_every_other_chunk_of_a_png_stays(path: Path) -> None:
    bare = saved(noise("RGB"), icc_profile=SRGB, dpi=(300, 300), transparency=(1, 2, 3))
    bare = with_chunk(bare, b"gAMA", struct.pack(">I", 45455))
    bare = with_chunk(bare, b"cHRM", bytes(32))
    data = with_chunk(bare, b"tEXt", b"prompt\0" + PROMPT.encode())
    kinds = {kind for kind, _ in chunks(bare)}

    assert stripped(path, data) == bare
    assert kinds == {b"IHDR", b"iCCP", b"tRNS", b"pHYs", b"gAMA", b"cHRM", b"IDAT", b"IEND"}


def test_what_stands_behind_the_end_of_a_png_is_gone(path: Path) -> None:
    bare = saved(noise())

    assert stripped(path, bare + b"PK\3\4" + PROMPT.encode()) == bare


def test_a_file_that_tells_nothing_stays_as_it_is(path: Path) -> None:
    for data in (saved(noise()), saved(noise(), "JPEG"), saved(noise(), "WEBP")):
        assert stripped(path, data) == data


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_file_that_tells_nothing_is_not_written(path: Path, kind: str) -> None:
    path.write_bytes(saved(noise(), kind))
    os.utime(path, ns=(0, 0))

    strip(path)

    assert path.stat().st_mtime_ns == 0


def test_the_pieces_of_a_large_png_move_together(path: Path) -> None:
    bare = saved(noise(size=(1024, 1024)), compress_level=0)
    data = bare
    for kind, before in ((b"tEXt", b"IDAT"), (b"iTXt", b"IEND"), (b"zTXt", b"IEND")):
        data = with_chunk(data, kind, b"prompt\0" + PROMPT.encode(), before=before)
    data = data[:-12] + chunk(b"teSt", bytes(300_000)) + chunk(b"comf", b"x") + data[-12:]

    clean = stripped(path, data)

    assert len(bare) > 2**20
    assert clean == bare[:-12] + chunk(b"teSt", bytes(300_000)) + bare[-12:]


def test_a_large_picture_takes_no_time(path: Path) -> None:
    flat = Image.new("RGB", (2048, 2048), "red")
    flat.paste(noise(size=(1024, 2048)), (0, 0))
    data = saved(flat, pnginfo=texts("tEXt"), compress_level=1)

    def once() -> float:
        path.write_bytes(data)
        began = time.perf_counter()
        strip(path)
        return time.perf_counter() - began

    assert len(data) > 2**20
    assert min(once() for _ in range(10)) < 0.06


# WebP


@pytest.mark.parametrize("many", [1, 3], ids=["still", "animated"])
@pytest.mark.parametrize("lossless", [True, False], ids=["lossless", "lossy"])
@pytest.mark.parametrize("told", ["exif", "xmp", "both"])
def test_the_texts_of_a_webp_are_gone_and_its_pictures_are_the_same(
    path: Path, many: int, lossless: bool, told: str
) -> None:
    more: Any = {"lossless": lossless, "icc_profile": SRGB}
    if many > 1:
        rest = [noise() for _ in range(many - 1)]
        more |= {"save_all": True, "append_images": rest, "duration": 120}
    if told != "xmp":
        more["exif"] = exif()
    if told != "exif":
        more["xmp"] = f"<x>{PROMPT}</x>".encode()
    data = saved(noise("RGBA"), "WEBP", **more)

    clean = stripped(path, data)

    assert SECRET in data
    assert SECRET not in clean
    assert pictures(clean) == pictures(data)
    assert len(pictures(clean)) == many
    with Image.open(io.BytesIO(clean)) as picture:
        assert not picture.getexif()
        assert "xmp" not in picture.info
        assert picture.info["icc_profile"] == SRGB
    assert struct.unpack("<I", clean[4:8])[0] == len(clean) - 8
    flags, before = clean[20], data[20]
    assert (flags & 0b1100, flags | before) == (0, before)


# JPEG


def test_the_texts_of_a_jpeg_are_gone_and_its_picture_is_the_same(path: Path) -> None:
    bare = saved(noise(), "JPEG", icc_profile=SRGB, progressive=True)
    xmp = b"http://ns.adobe.com/xap/1.0/\0" + PROMPT.encode()
    data = saved(
        noise(), "JPEG", icc_profile=SRGB, progressive=True, exif=exif(),
        comment=PROMPT.encode(), xmp=xmp,
    )  # fmt: skip
    data = data[: data.index(b"\xff\xdb")] + bare[bare.index(b"\xff\xdb") :]

    clean = stripped(path, data)

    assert data.count(SECRET) >= 3
    assert SECRET not in clean
    assert pictures(clean) == pictures(bare)
    with Image.open(io.BytesIO(clean)) as picture:
        assert not picture.getexif()
        assert picture.info["icc_profile"] == SRGB


# Videos and sounds


def box(kind: bytes, *inside: bytes) -> bytes:
    body = b"".join(inside)
    return struct.pack(">I", len(body) + 8) + kind + body


FTYP = box(b"ftyp", b"isom\0\0\2\0isommp41")


@pytest.mark.parametrize("kind", [b"udta", b"meta"])
def test_the_texts_of_an_mp4_become_nought_and_nothing_moves(path: Path, kind: bytes) -> None:
    told = box(kind, PROMPT.encode())
    media = box(b"mdat", b"udta and meta are frames here" + bytes(range(256)))
    data = FTYP + box(b"moov", box(b"mvhd", bytes(100)), box(b"trak", b"x"), told) + media

    clean = stripped(path, data)

    assert clean == data.replace(told, box(b"free", bytes(len(PROMPT))))
    assert SECRET not in clean


def test_an_mp4_with_its_table_at_the_end_is_clean_too(path: Path) -> None:
    data = FTYP + box(b"mdat", bytes(999)) + box(b"moov", box(b"udta", PROMPT.encode()))

    assert SECRET not in stripped(path, data)


def test_the_texts_of_an_mp4_whose_boxes_have_long_lengths_are_gone(path: Path) -> None:
    def long(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I4sQ", 1, kind, len(body) + 16) + body

    def film(told: bytes) -> bytes:
        return FTYP + long(b"moov", box(b"mvhd", bytes(100)) + told) + box(b"mdat", bytes(999))

    clean = stripped(path, film(long(b"udta", PROMPT.encode())))

    assert clean == film(long(b"free", bytes(len(PROMPT))))


def flac(*blocks: tuple[int, bytes], frames: bytes = b"\xff\xf8" + bytes(range(256))) -> bytes:
    data = b"fLaC"
    for number, (kind, body) in enumerate(blocks, 1):
        last = 0x80 if number == len(blocks) else 0
        data += bytes([last | kind]) + len(body).to_bytes(3, "big") + body
    return data + frames


@pytest.mark.parametrize("last", [True, False], ids=["as the last block", "in the middle"])
def test_the_comments_of_a_flac_become_padding_and_nothing_moves(path: Path, last: bool) -> None:
    told, info = (4, PROMPT.encode()), (0, bytes(range(34)))
    blocks = [info, told] if last else [info, told, (3, bytes(18))]

    clean = stripped(path, flac(*blocks))

    empty = (1, bytes(len(PROMPT)))
    assert clean == flac(*(empty if each is told else each for each in blocks))


ID3 = b"TXXX" + len(PROMPT).to_bytes(4, "big") + b"\0\0\3prompt\0" + PROMPT.encode()
MP3 = b"ID3\4\0\0" + bytes([0, 0, len(ID3) >> 7, len(ID3) & 0x7F]) + ID3 + b"\xff\xfb\x90\x64"


def test_an_mp3_loses_the_tag_in_front_of_it(path: Path) -> None:
    clean = stripped(path, MP3)

    assert SECRET not in clean
    assert clean == MP3[-4:]


@pytest.mark.skipif(not FILES.exists(), reason="the files are not here")
@pytest.mark.parametrize(
    "name",
    ["still.png", "prompt_only.png", "anim.webp", "clip.mp4", "sound_flac.flac", "plain.png"],
)
def test_what_comfyui_saved_holds_no_node_any_more(path: Path, name: str) -> None:
    data = (FILES / name).read_bytes()

    clean = stripped(path, data)

    assert b"class_type" in data or name == "plain.png"
    for word in (b"class_type", b"filename_prefix", b"last_node_id"):
        assert word not in clean
    if name.endswith(("png", "webp")):
        assert pictures(clean) == pictures(data)
    else:
        assert len(clean) == len(data)


# What is damaged

BOXES = box(b"moov", box(b"mvhd", bytes(20)), box(b"udta", PROMPT.encode()))
WHOLE: dict[str, Callable[[], bytes]] = {
    "png": lambda: saved(noise(size=(9, 9)), pnginfo=texts("tEXt")),
    "webp": lambda: saved(noise(size=(9, 9)), "WEBP", exif=exif()),
    "jpeg": lambda: saved(noise(size=(9, 9)), "JPEG", exif=exif()),
    "mp4": lambda: FTYP + BOXES,
    "flac": lambda: flac((0, bytes(34)), (4, PROMPT.encode()), (1, bytes(99))),
    "mp3": lambda: MP3,
}
MEDIA = {"jpeg": b"\xff\xda", "flac": b"\xff\xf8", "mp3": b"\xff\xfb"}  # begins with that


@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_that_ends_in_the_middle_stays_as_it_is(path: Path, kind: str) -> None:
    whole = WHOLE[kind]()
    end = whole.index(MEDIA[kind]) if kind in MEDIA else len(whole)
    changed = [cut for cut in range(end) if stripped(path, whole[:cut]) != whole[:cut]]

    assert changed == []


def lying(kind: str) -> list[bytes]:
    """The file with each of its four bytes in a row saying that much is to come, or nothing."""
    whole = WHOLE[kind]()
    return [
        whole[:at] + size + whole[at + 4 :]
        for at, size in itertools.product(
            range(4, min(len(whole), 120)),
            (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\1", b"\1\0\0\0", b"\x7f\xff\xff\xff"),
        )
    ]


@pytest.mark.parametrize("kind", WHOLE)
def test_a_lying_length_neither_fails_nor_makes_a_file_larger(path: Path, kind: str) -> None:
    worse: list[object] = []
    for data in lying(kind):
        try:
            larger = len(stripped(path, data)) - len(data)
        except Exception as error:
            worse.append(error)
        else:
            worse += [larger] if larger > 0 else []

    assert worse == []


def test_a_png_whose_chunk_is_longer_than_the_file_stays_as_it_is(path: Path) -> None:
    data = with_chunk(saved(noise()), b"tEXt", b"prompt\0" + PROMPT.encode())
    at = data.index(b"tEXt") - 4
    data = data[:at] + b"\x7f\xff\xff\xff" + data[at + 4 :]

    assert stripped(path, data) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8",
        b"\xff\xd8\xff",
        b"RIFF\4\0\0\0WAVE",
        b"RIFF",
        b"fLaC",
        b"fLaC\x84",
        b"\0\0\0\x08ftyp",
        b"a text",
        b"GIF89a" + bytes(64),
        bytes(4096),
        b"\x89PNG\r\n\x1a\n" + b"\xff" * 64,
        b"\xff\xd8" + b"\xff\xe1\0\2" * 40,
        pytest.param(
            b"\xff\xd8\xff\xe1\0\0garbage",
        ),
        pytest.param(
            b"RIFF\xff\xff\xff\xffWEBP",
        ),
        pytest.param(b"\0\0\0\1ftypisom"),
    ],
)
def test_garbage_stays_as_it_is(path: Path, data: bytes) -> None:
    assert stripped(path, data) == data
