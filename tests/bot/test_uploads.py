"""What people give: refused with a sentence, or clean."""

import io
import pickle
import resource
import struct
import time
import zipfile
import zlib
from typing import Any

import pytest
from PIL import Image, ImageCms, PngImagePlugin

from bot.errors import UserError
from bot.uploads import check_size, checked
from comfy.parameters import Role

SOMETHING_ELSE = "`image` takes a PNG, JPEG, WebP or GIF picture. This file is something else."
TOO_MANY = "The picture has more than 40,000,000 pixels. Make it smaller."
DAMAGED = "The picture is damaged or too large. Save it again."
RED, BLUE = (255, 0, 0), (0, 0, 255)


def saved(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def plain(mode: str = "RGB", colour: Any = RED, size: tuple[int, int] = (20, 10)) -> Image.Image:
    return Image.new(mode, size, colour)


def taken(data: bytes, role: Role = Role.IMAGE) -> Image.Image:
    """The picture that goes to a server."""
    clean, suffix = checked(role, data)
    assert suffix == "png"
    picture = Image.open(io.BytesIO(clean), formats=["PNG"])
    picture.load()
    return picture


def refusal(data: bytes, role: Role = Role.IMAGE) -> str:
    with pytest.raises(UserError) as caught:
        checked(role, data)
    return str(caught.value)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def a_png(
    size: tuple[int, int], depth: int, colour: int, packed: bytes, more: bytes = b""
) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0))
    body = chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + more + body


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.png", saved(plain()))
    return file.getvalue()


def frames(kind: str, many: int) -> bytes:
    rest = [plain(colour=(0, number % 256, 255)) for number in range(1, many)]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    return saved(plain(), kind, save_all=True, append_images=rest, duration=20, **lossless)


def exif() -> Image.Exif:
    """Lying on its side, and where it was taken."""
    told = Image.Exif()
    told[0x0112] = 6
    told[0x0110] = "a camera"
    told.get_ifd(0x8825)[1] = "N"
    told.get_ifd(0x8825)[2] = (52.0, 30.0, 0.0)
    return told


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
FLAT = zlib.compress(b"\0" * 1251 * 10_000, 9)  # 10,000 rows of 10,000 pixels of one bit


def swelling() -> bytes:
    """A chunk with a text of 200 MB."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(200)) + packer.flush()
    return chunk(b"zTXt", b"a\0\0" + packed)


# What is no picture


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 4096,
        b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        b"<!doctype html><img src=x onerror=alert(1)>",
        zipped(),
        pickle.dumps({"a": 1}),
        struct.pack("<Q", 2) + b"{}" + bytes(64),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"%PDF-1.7\n",
        saved(plain(), "TIFF"),
        saved(plain(), "BMP"),
        saved(plain(), "ICO"),
    ],
    ids=[
        "nothing", "noughts", "svg", "html", "zip", "pickle", "safetensors", "postscript", "pdf",
        "tiff", "bmp", "ico",
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused_with_what_is_taken(data: bytes) -> None:
    assert refusal(data) == SOMETHING_ELSE


def test_a_refusal_names_the_parameter() -> None:
    assert refusal(b"no picture", Role.MASK).startswith("`mask` takes a PNG, JPEG, WebP or GIF")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_picture_that_ends_in_the_middle_is_refused(kind: str) -> None:
    whole = saved(Image.effect_noise((64, 64), 90).convert("RGB"), kind)

    assert refusal(whole[: len(whole) // 2]) in (DAMAGED, SOMETHING_ELSE)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (a_png((50_000, 50_000), 1, 0, FLAT), DAMAGED),
        (
            a_png((10_000, 10_000), 1, 0, FLAT),
            "The picture has 10000 x 10000 pixels, and 40,000,000 is the most. Make it smaller.",
        ),
        (a_png((20, 10), 8, 0, zlib.compress(bytes(21 * 10)), swelling()), None),
        (b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\2L\1\0;", DAMAGED),
    ],
    ids=["a great square", "too many pixels", "a text that swells", "a frame larger than the GIF"],
)
def test_a_bomb_takes_neither_time_nor_memory(data: bytes, expected: str | None) -> None:
    told = None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()

    try:
        taken(data)
    except UserError as error:
        told = str(error)

    took = time.monotonic() - began
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most
    assert len(data) < 2**20
    assert told in (expected, TOO_MANY, DAMAGED)
    assert more < 64 * 2**10  # KiB
    assert took < 5


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (25 * 2**20, None),
        (25 * 2**20 + 1, "The file is larger than 25 MB, which is the most for `image`."),
        (0, "The file for `image` is empty. Choose another."),
    ],
    ids=["as large as may be", "larger", "empty"],
)
def test_the_size_is_known_before_the_download(size: int, expected: str | None) -> None:
    try:
        check_size(Role.IMAGE, size, 25)
    except UserError as error:
        assert str(error) == expected  # noqa: PT017
    else:
        assert expected is None


# What becomes of a picture


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_a_picture_is_taken_by_what_it_holds_and_becomes_a_png(kind: str) -> None:
    picture = taken(saved(plain(), kind))

    assert (picture.mode, picture.size) == ("RGB", (20, 10))
    assert all(abs(a - b) < 4 for a, b in zip(picture.getpixel((5, 5)), RED, strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "PNG"], ids=["webp", "gif", "apng"])
def test_of_an_animation_the_first_picture_is_taken(kind: str) -> None:
    began = time.monotonic()

    picture = taken(frames(kind, 500))

    assert getattr(picture, "n_frames", 1) == 1
    assert picture.convert("RGB").getpixel((5, 5)) == RED
    assert time.monotonic() - began < 10  # the making of it included


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_is_put_upright_and_tells_nothing_of_its_camera(kind: str) -> None:
    lying = plain(size=(40, 20))
    lying.paste(BLUE, (0, 0, 20, 20))

    clean, _ = checked(Role.IMAGE, saved(lying, kind, exif=exif()))
    picture = Image.open(io.BytesIO(clean))

    assert picture.size == (20, 40)
    left, right = picture.getpixel((10, 5)), picture.getpixel((10, 35))
    assert (left[2] > 200, right[0] > 200) == (True, True)  # type: ignore[index]
    assert not picture.getexif()
    assert b"a camera" not in clean
    assert kinds_of_chunks(clean) == {b"IHDR", b"IDAT", b"IEND"}


def kinds_of_chunks(png: bytes) -> set[bytes]:
    found, at = set(), 8
    while at < len(png):
        size, kind = struct.unpack_from(">I4s", png, at)
        found.add(kind)
        at += size + 12
    assert at == len(png)
    return found


def with_texts() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", "a secret")
    info.add_text("more", "a secret", zip=True)
    info.add_itxt("other", "a secret")
    return saved(plain(), pnginfo=info, dpi=(300, 300))


@pytest.mark.parametrize(
    "data",
    [
        with_texts(),
        saved(plain(), "JPEG", comment=b"a secret", dpi=(300, 300)),
        saved(plain(), "WEBP", xmp=b"<x>a secret</x>"),
        saved(plain(), "GIF", comment=b"a secret"),
        saved(plain()) + b"PK\3\4 a secret",
        pytest.param(
            saved(plain(), icc_profile=SRGB),
        ),
        pytest.param(
            saved(plain("CMYK", (0, 255, 255, 0)), "JPEG", icc_profile=SRGB + b"a secret"),
        ),
    ],
    ids=["texts", "comment", "xmp", "gif comment", "a second life", "profile", "CMYK profile"],
)
def test_nothing_but_pixels_survives(data: bytes) -> None:
    clean, _ = checked(Role.IMAGE, data)

    assert kinds_of_chunks(clean) == {b"IHDR", b"IDAT", b"IEND"}
    assert b"secret" not in clean
    assert taken(data).info == {}


def palette(transparency: Any) -> bytes:
    picture = plain("P", 1)
    picture.putpalette([*BLUE, *RED])
    return saved(picture, transparency=transparency)


RGB_16 = a_png((20, 10), 16, 2, zlib.compress((b"\0" + b"\x40\x00" * 60) * 10))
GREY_16 = a_png((20, 10), 16, 0, zlib.compress((b"\0" + b"\x40\x00" * 20) * 10))


@pytest.mark.parametrize(
    ("data", "mode", "pixel"),
    [
        (saved(plain("CMYK", (0, 255, 255, 0)), "JPEG"), "RGB", RED),
        (saved(plain("L", 7)), "RGB", (7, 7, 7)),
        (saved(plain("1", 1)), "RGB", (255, 255, 255)),
        (saved(plain("RGBA", (1, 2, 3, 4))), "RGBA", (1, 2, 3, 4)),
        (saved(plain("LA", (7, 8))), "RGBA", (7, 7, 7, 8)),
        (saved(plain("RGB", (7, 8, 9)), transparency=(7, 8, 9)), "RGBA", (7, 8, 9, 0)),
        (palette(b"\xff\x40"), "RGBA", (*RED, 0x40)),
        (palette(0), "RGBA", (*RED, 255)),
        (RGB_16, "RGB", (64, 64, 64)),
        pytest.param(
            GREY_16, "RGB", (64, 64, 64),
        ),
    ],
    ids=[
        "CMYK", "grey", "one bit", "alpha", "grey with alpha", "one clear colour",
        "palette with alpha", "palette with a clear colour", "16 bit", "grey of 16 bit",
    ],
)  # fmt: skip
def test_every_kind_of_pixel_comes_through(data: bytes, mode: str, pixel: tuple[int, ...]) -> None:
    picture = taken(data)

    assert picture.mode == mode
    found: Any = picture.getpixel((3, 3))
    assert all(abs(a - b) <= 2 for a, b in zip(found, pixel, strict=True))


def broken_exif(value_type: int) -> bytes:
    """A JPEG that lies on its side, with an entry that cannot be written again."""
    entries = struct.pack("<HHII", 0x0112, 3, 1, 6) + struct.pack("<HHII", 0x0110, value_type, 1, 0)
    body = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + entries + b"\0\0\0\0"
    jpeg = saved(plain(), "JPEG")
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


@pytest.mark.parametrize(
    "value_type",
    [pytest.param(each) for each in range(14)],
)
def test_an_odd_camera_does_not_make_a_picture_a_fault_of_ours(value_type: int) -> None:
    assert taken(broken_exif(value_type)).size == (10, 20)


ODD = [
    (kind, at, byte)
    for kind in ("JPEG", "WEBP")
    for at in range(20, 160)
    for byte in (0, 1, 7, 0xFF)
]


def test_a_damaged_picture_is_a_sentence_and_never_a_fault_of_ours() -> None:
    whole = {kind: saved(plain(), kind, exif=exif()) for kind in ("JPEG", "WEBP")}
    faults = set()

    for kind, at, byte in ODD:
        data = bytearray(whole[kind])
        data[at] = byte
        try:
            checked(Role.IMAGE, bytes(data))
        except UserError:
            pass
        except Exception as error:
            faults.add(repr(error))

    assert faults == set()


# Videos and sounds

WAV = b"RIFF\x24\0\0\0WAVEfmt "


@pytest.mark.parametrize(
    ("role", "data", "suffix"),
    [
        (Role.VIDEO, b"\0\0\0\x18ftypmp42", "mp4"),
        (Role.VIDEO, b"\x1aE\xdf\xa3\x9fB\x86\x81", "webm"),
        (Role.VIDEO, frames("GIF", 2), "gif"),
        (Role.AUDIO, WAV, "wav"),
        (Role.AUDIO, b"ID3\4\0", "mp3"),
        (Role.AUDIO, b"\xff\xfb\x90\x64", "mp3"),
        (Role.AUDIO, b"fLaC\0\0\0\x22", "flac"),
        (Role.AUDIO, b"OggS\0\2", "ogg"),
        (Role.AUDIO, b"\0\0\0\x18ftypM4A ", "m4a"),
    ],
    ids=["mp4", "webm", "gif", "wav", "mp3", "mp3 without a head", "flac", "ogg", "m4a"],
)
def test_videos_and_sounds_are_known_by_what_they_hold(
    role: Role, data: bytes, suffix: str
) -> None:
    assert checked(role, data) == (data, suffix)


@pytest.mark.parametrize(
    ("role", "data"),
    [
        (Role.VIDEO, saved(plain())),
        (Role.VIDEO, WAV),
        (Role.VIDEO, b"ftyp"),
        (Role.VIDEO, b""),
        (Role.AUDIO, saved(plain())),
        (Role.AUDIO, zipped()),
        (Role.AUDIO, b"\xff\xd8\xff\xe0"),
        pytest.param(
            Role.AUDIO, saved(plain(), "WEBP"),
        ),
    ],
    ids=["picture", "sound", "cut", "nothing", "picture for sound", "zip", "jpeg", "webp"],
)  # fmt: skip
def test_something_else_is_no_video_and_no_sound(role: Role, data: bytes) -> None:
    wanted = {Role.VIDEO: "an MP4, WebM or GIF video", Role.AUDIO: "a WAV, MP3, FLAC, OGG or M4A"}

    assert refusal(data, role).startswith(f"`{role}` takes {wanted[role]}")
