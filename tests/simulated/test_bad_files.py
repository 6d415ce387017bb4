"""Files that are not what they seem, and names that lead elsewhere: each is refused in one sentence
before ComfyUI hears of it, or becomes a new picture. The answers stand in docs/bad-inputs.md."""

import io
import json
import pickle
import re
import struct
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from PIL import Image

from comfy.standin_store import Place
from tests.bot.test_uploads import (
    DAMAGED,
    FLAT,
    GREY_16,
    SOMETHING_ELSE,
    SRGB,
    a_png,
    exif,
    frames,
    kinds_of_chunks,
    plain,
    saved,
    swelling,
    zipped,
)
from tests.fakes.hearing import HearingComfyUI
from tests.simulated.bad import NOT_OPEN, made, override
from tests.simulated.documented import answered, named
from tests.simulated.lab import Lab

pytestmark = pytest.mark.asyncio(loop_scope="module")

NO_IMAGE = "`image` is a file"
Refused = Callable[..., Awaitable[tuple[Any, str]]]
HALF = saved(Image.effect_noise((64, 64), 90).convert("RGB"), "JPEG")[:1500]
BAD_FILES: dict[str, tuple[tuple[str, bytes], str]] = {
    "42 an SVG named `x.png`": (
        ("x.png", b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
        SOMETHING_ELSE,
    ),
    "43 a web page named `x.png`": (
        ("x.png", b"<!doctype html><script>alert(1)</script>"),
        SOMETHING_ELSE,
    ),
    "44 a pickle named `x.png`": (("x.png", pickle.dumps({"a": 1})), SOMETHING_ELSE),
    "44 a model (safetensors) named `x.png`": (
        ("x.png", struct.pack("<Q", 2) + b"{}" + bytes(64)),
        SOMETHING_ELSE,
    ),
    "44 a ZIP named `x.png`": (("x.png", zipped()), SOMETHING_ELSE),
    "45 a PNG of 50,000 x 50,000 pixels": (
        ("x.png", a_png((50_000, 50_000), 1, 0, FLAT)),
        "more than 40,000,000 pixels",
    ),
    "46 a PNG whose text unfolds to 200 MB": (
        ("x.png", a_png((20, 10), 8, 0, zlib.compress(bytes(210)), swelling())),
        DAMAGED,
    ),
    "48 half a JPEG": (("x.jpg", HALF), DAMAGED),
    "49 an empty file": (("x.png", b""), "The file for `image` is empty."),
    "50 a file of 101 MB": (
        ("x.png", bytes(101 * 2**20)),
        "The file is larger than 25 MB, which is the most for `image`.",
    ),
    "56 a web page that claims to be a JPEG": (("x.jpg", b"<html>"), SOMETHING_ELSE),
}
_PNG = saved(plain())
SIDEWAYS = "51 a photo on its side, with the place where it was taken"
GOOD_FILES: dict[str, tuple[tuple[str, bytes]]] = {
    "41 a PNG named `x.jpg`": (("x.jpg", _PNG),),
    "43 a PNG with a ZIP behind it": (("x.png", _PNG + b"PK\3\4PLANTED"),),
    "43 a GIF with a web page behind it": (
        ("x.html", saved(plain(), "GIF") + b"<script>PLANTED</script>"),
    ),
    "47 a WebP of 500 pictures": (("x.webp", frames("WEBP", 500)),),
    "47 an APNG of 500 pictures": (("x.png", frames("PNG", 500)),),
    "47 a GIF of 500 pictures": (("x.gif", frames("GIF", 500)),),
    SIDEWAYS: (("x.jpg", saved(plain(), "JPEG", exif=exif(), comment=b"PLANTED")),),
    "52 a PNG named `../../x.png`": (("../../PLANTED.png", _PNG),),
    "53 a PNG named `CON.png`": (("CON.png", _PNG),),
    "53 a PNG named `x.png.`": (("PLANTED.png.", _PNG),),
    "53 a PNG named `x.png:ads`": (("PLANTED.png:ads", _PNG),),
    "54 a PNG with a name of 300 letters": (("PLANTED" * 43 + ".png", _PNG),),
    "54 a PNG with an emoji, a quotation mark and a new line in its name": (
        ('PLANTED\U0001f600\n"\r\n.png', _PNG),
    ),
    "55 a JPEG in print colours (CMYK)": (
        ("x.jpg", saved(plain("CMYK", (0, 255, 255, 0)), "JPEG")),
    ),
    "55 a PNG of 16 bits": (("x.png", GREY_16),),
    "55 a PNG with a colour profile": (("x.png", saved(plain(), icc_profile=SRGB + b"PLANTED")),),
    "56 a PNG that claims to be text": (("x.txt", _PNG),),
    "56 a PNG that claims to be an SVG": (("x.svg", _PNG),),
}
PLACES = {
    "58 a picture on another site": "http://evil.example/x.png",
    "58 `file:///etc/passwd`": "file:///etc/passwd",
    "58 an address inside the network": "http://169.254.169.254/latest/meta-data",
    "59 a result of somebody else's (`ComfyUI_00001_.png [output]`)": "ComfyUI_00001_.png [output]",
    "60 a preview of somebody else's (`x.png [temp]`)": "x.png [temp]",
    "61 a file of another job": "comfycord/00000000-0000-4000-8000-000000000000/in.png",
    r"62 `C:\x`": r"C:\x",
    "63 `..%2f..%2fetc`": "..%2f..%2fetc",
    "64 a file by its hash (`blake3:…`)": "blake3:" + "0" * 64,
}


@pytest.mark.parametrize(("name", "given", "expected"), named(BAD_FILES))
async def test_a_bad_file_is_refused_in_a_sentence_before_comfyui_hears_of_it(
    shared: Lab, refused: Refused, name: str, given: tuple[str, bytes], expected: str
) -> None:
    response, told = await refused(shared.alice, workflow="img2img", image=given, private=True)

    assert expected in told
    assert response.ephemeral
    assert list(shared.bot.config.uploads.glob("*")) == []
    answered(name, told)


async def test_a_file_that_discord_no_longer_gives_is_asked_for_again(
    shared: Lab, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared.env.backend.cdn, "get", lambda _: None)

    _, told = await refused(shared.alice, workflow="img2img", image=("x.png", _PNG))

    assert told == "Discord did not give me the file. Send it again."
    answered("57 a file that Discord no longer keeps", told)


@pytest.mark.parametrize(("name", "text"), PLACES.items(), ids=PLACES)
async def test_nobody_names_a_picture_in_words(
    shared: Lab, refused: Refused, name: str, text: str
) -> None:
    for who in (shared.mod, shared.alice):
        as_override = override("2", "image", json.dumps(text))
        _, overriding = await refused(who, workflow="img2img", **as_override)
        _, setting = await refused(who, workflow="img2img", settings=f'image="{text}"')

    assert NO_IMAGE in setting
    assert NOT_OPEN in overriding
    answered(name, setting)


@pytest.mark.parametrize(("name", "given"), named(GOOD_FILES))
async def test_an_odd_file_becomes_a_bare_png_with_a_name_of_ours(
    shared: Lab, hearing: HearingComfyUI, name: str, given: tuple[str, bytes]
) -> None:
    job, graph, cards = await made(shared, hearing, workflow="taking", image=given)

    path = graph["1"]["inputs"]["image"]
    assert re.fullmatch(rf"comfycord/{job.id}/[0-9a-f]{{32}}\.png", path)
    data = hearing.files[Place.annotated(path)]
    assert kinds_of_chunks(data) == {b"IHDR", b"IDAT", b"IEND"}
    picture = picture_of(data)
    assert picture.size == ((10, 20) if name == SIDEWAYS else (20, 10))
    assert not picture.getexif()
    assert b"PLANTED" not in data
    assert "PLANTED" not in "".join(cards)
    for each in shared.bot.config.uploads.glob("*"):
        each.unlink()
    upright = ", upright" if name == SIDEWAYS else ""
    shown = "{} x {} pixels".format(*picture.size)
    answered(name, f"The picture, begun from a bare copy of {shown}{upright}, under another name.")


def picture_of(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture
