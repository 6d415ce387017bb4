"""What people should not type, number by number of the list of bad inputs: each is refused in one
sentence before ComfyUI hears of it."""

import io
import json
import logging
import pickle
import re
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
import simcord
from PIL import Image

from bot.jobs import Job, JobState
from bot.texts import neutral
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
from tests.simulated.lab import PICTURE, Lab, opened, words

pytestmark = pytest.mark.asyncio(loop_scope="module")

SMALL = {"width": 256, "height": 256, "steps": 1}  # painted in no time
INT = "takes a whole number"
FLOAT = "takes a number"
NO_JSON = "`overrides` is not valid JSON."
NO_IMAGE = "has no `image`."
NOT_OPEN = "is not open to be set here."
Refused = Callable[..., Awaitable[tuple[Any, str]]]
HALF = saved(Image.effect_noise((64, 64), 90).convert("RGB"), "JPEG")[:1500]
TAKING = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
    "2": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x", "images": ["1", 0]}},
}
WITH_REGEX = {
    **PICTURE,
    "9": {
        "class_type": "RegexMatch",
        "inputs": {"string": "a", "regex_pattern": "a", "mode": "Match"},
    },
}


def override(node: str, name: str, value: str) -> dict[str, str]:
    """As it is typed: *value* need not be JSON."""
    return {"overrides": f'{{"{node}": {{"inputs": {{"{name}": {value}}}}}}}'}


def picture_by(text: str) -> list[tuple[dict[str, str], str]]:
    """Both ways to name a picture in words, and why they are refused."""
    return [
        ({"workflow": "img2img", "settings": f'image="{text}"'}, NO_IMAGE),
        ({"workflow": "img2img", **override("2", "image", json.dumps(text))}, NOT_OPEN),
    ]


NUMBERS: dict[str, tuple[dict[str, Any], str]] = {
    "13 NaN": ({"settings": "cfg=NaN"}, FLOAT),
    "13 NaN in JSON": (override("5", "cfg", "NaN"), NO_JSON),
    "13 NaN in quotes": (override("5", "cfg", '"nan"'), FLOAT),
    "14 Infinity": ({"settings": "cfg=Infinity"}, FLOAT),
    "14 -Infinity": ({"settings": "cfg=-Infinity"}, FLOAT),
    "14 Infinity in JSON": (override("5", "cfg", "Infinity"), NO_JSON),
    "14 -Infinity in JSON": (override("5", "cfg", "-Infinity"), NO_JSON),
    "14 infinite steps": ({"settings": "steps=inf"}, INT),
    "15 1e999": ({"settings": "cfg=1e999"}, FLOAT),
    "15 1e999 steps": ({"settings": "steps=1e999"}, INT),
    "15 1e999 in JSON": (override("5", "cfg", "1e999"), FLOAT),
    "16 5000 digits": ({"settings": "steps=" + "9" * 5000}, INT),
    "16 5000 digits of a seed": ({"settings": "seed=" + "9" * 5000}, INT),
    "16 5000 digits in JSON": (override("5", "steps", "9" * 5000), NO_JSON),
    "16 4000 digits in JSON": (override("5", "steps", "9" * 4000), "takes a smaller number"),
    "17 seed -1": ({"seed": "-1"}, "must be between 0 and 18446744073709551615"),
    "17 seed 2^64": ({"seed": str(2**64)}, "not 18446744073709551616"),
    "17 seed -1 in JSON": (override("5", "seed", "-1"), "must be between 0"),
    "17 seed 2^64 in JSON": (override("5", "seed", str(2**64)), "must be between 0"),
    "18 true": ({"settings": "steps=true"}, INT),
    "18 true in JSON": (override("5", "steps", "true"), INT),
    "19 512px": ({"settings": "width=512px"}, INT),
    "19 512px in JSON": (override("4", "width", '"512px"'), INT),
    "20 width 16384": ({"width": 16384}, "`width` must be between 256 and 2048, not 16384."),
    "20 width 16384 in JSON": (override("4", "width", "16384"), "between 256 and 2048"),
    "22 batch 4096": ({"batch": 4096}, "`batch` must be between 1 and 4, not 4096."),
    "23 steps 10000": ({"steps": 10000}, "`steps` must be between 1 and 60, not 10000."),
    "24 cfg -1": ({"cfg": -1.0}, "`cfg` must be between 1 and 20, not -1.0."),
    "25 each legal, too many pixels": (
        {"width": 2048, "height": 2048, "batch": 4},
        "2048 x 2048 x 4 is too large: at most 4,194,304 pixels in all.",
    ),
    "26 arabic-indic digits": ({"settings": "steps=٢٠"}, INT),
    "26 arabic-indic seed": ({"seed": "٢٠"}, INT),
    "26 fullwidth digits": ({"settings": "cfg=７"}, FLOAT),
    "26 underscores": ({"settings": "steps=1_0"}, INT),
}
TEXTS: dict[str, tuple[dict[str, Any], str]] = {
    "27 spaces": ({"prompt": "   "}, "The prompt is empty."),
    "27 lines and tabs": ({"prompt": "\n\t \r\n\u2003"}, "The prompt is empty."),
    "29 nothing but NUL": ({"prompt": "\x00\x00"}, "The prompt is empty."),
    "30 lone surrogate": ({"prompt": "a \ud800 cat"}, "The prompt holds a broken character."),
    "30 of the negative": ({"negative": "a \udfff"}, "`negative` holds a broken character."),
    "30 in JSON": (override("2", "text", '"\\ud800"'), "holds a broken character."),
    "35 4000 newlines": ({"prompt": "\n" * 4000}, "The prompt is empty."),
}
STRINGS: dict[str, tuple[dict[str, Any], str]] = {
    f"{name} {way}": row
    for name, text in {
        "58 another host": "http://evil.example/x.png",
        "58 file": "file:///etc/passwd",
        "58 metadata": "http://169.254.169.254/latest/meta-data",
        "59 output": "ComfyUI_00001_.png [output]",
        "60 temp": "x.png [temp]",
        "61 another job": "comfycord/00000000-0000-4000-8000-000000000000/in.png",
        "62 drive": r"C:\x",
        "63 encoded": "..%2f..%2fetc",
        "64 hash": "blake3:" + "0" * 64,
    }.items()
    for way, row in zip(("setting", "override"), picture_by(text), strict=True)
}
PLACES: dict[str, tuple[dict[str, Any], str]] = {
    "65 prefix": (override("7", "filename_prefix", '"../../web/x"'), NOT_OPEN),
    "65 prefix as setting": (
        {"settings": "filename_prefix=../../web/x"},
        "has no `filename_prefix`",
    ),
    "66 date": (override("7", "filename_prefix", '"%date%/../.."'), NOT_OPEN),
    "67 model not there": ({"model": "nosuch.safetensors"}, "`model` cannot be"),
    "67 model elsewhere": ({"model": "../../etc/passwd"}, "`model` cannot be"),
    "67 model in JSON": (override("1", "ckpt_name", '"x.ckpt"'), "`model` cannot be"),
    "69 sampler not there": ({"settings": "sampler=euler_"}, "`sampler` cannot be"),
    "70 regex": (
        {"workflow": "regex", **override("9", "regex_pattern", '"(a+)+$"')},
        NOT_OPEN,
    ),
    "88 workflow": ({"workflow": "nosuch"}, "There is no workflow named nosuch."),
    "88 workflow by path": ({"workflow": "../txt2img"}, "There is no workflow named ../txt2img."),
    "88 workflow of 6000 letters": ({"workflow": "x" * 6000}, "There is no workflow named xxx"),
    "88 workflow that pings": ({"workflow": "@everyone"}, "There is no workflow named @\u200b"),
    "88 node": ({"node": "99"}, "Target node 99 is not a text input node"),
    "88 node of a link": ({"node": "5"}, "Target node 5 is not a text input node"),
    "88 node that pings": ({"node": "@everyone <@&1>"}, "is not a text input node"),
    "88 preset": ({"preset": "nosuch"}, "There is no preset"),
    "88 preset of 6000 letters": ({"preset": "x" * 6000}, "There is no preset"),
    "88 setting": ({"settings": "nosuch=1"}, "has no `nosuch`."),
    "88 setting without value": ({"settings": "steps"}, "`settings` looks like"),
    "88 setting never closed": ({"settings": 'sampler="euler'}, "never closed"),
}
BAD_FILES: dict[str, tuple[tuple[str, bytes], str]] = {
    "42 SVG as PNG": (("x.png", b'<svg xmlns="http://www.w3.org/2000/svg"/>'), SOMETHING_ELSE),
    "43 HTML": (("x.png", b"<!doctype html><script>alert(1)</script>"), SOMETHING_ELSE),
    "44 pickle": (("x.png", pickle.dumps({"a": 1})), SOMETHING_ELSE),
    "44 safetensors": (("x.png", struct.pack("<Q", 2) + b"{}" + bytes(64)), SOMETHING_ELSE),
    "44 zip": (("x.png", zipped()), SOMETHING_ELSE),
    "45 50 000 x 50 000": (("x.png", a_png((50_000, 50_000), 1, 0, FLAT)), DAMAGED),
    "46 text of 200 MB": (
        ("x.png", a_png((20, 10), 8, 0, zlib.compress(bytes(210)), swelling())),
        DAMAGED,
    ),
    "48 half a JPEG": (("x.jpg", HALF), DAMAGED),
    "49 nothing": (("x.png", b""), "The file for `image` is empty."),
    "50 101 MB": (
        ("x.png", bytes(101 * 2**20)),
        "The file is larger than 25 MB, which is the most for `image`.",
    ),
    "56 HTML that says JPEG": (("x.jpg", b"<html>"), SOMETHING_ELSE),
}
_PNG = saved(plain())
GOOD_FILES: dict[str, tuple[str, bytes]] = {
    "41 PNG as JPG": ("x.jpg", _PNG),
    "43 zip behind a PNG": ("x.png", _PNG + b"PK\3\4PLANTED"),
    "43 HTML behind a GIF": ("x.html", saved(plain(), "GIF") + b"<script>PLANTED</script>"),
    "47 500 frames of WebP": ("x.webp", frames("WEBP", 500)),
    "47 500 frames of APNG": ("x.png", frames("PNG", 500)),
    "47 500 frames of GIF": ("x.gif", frames("GIF", 500)),
    "51 EXIF": ("x.jpg", saved(plain(), "JPEG", exif=exif(), comment=b"PLANTED")),
    "52 ../../": ("../../PLANTED.png", _PNG),
    "53 CON": ("CON.png", _PNG),
    "53 dot": ("PLANTED.png.", _PNG),
    "53 stream": ("PLANTED.png:ads", _PNG),
    "54 300 letters": ("PLANTED" * 43 + ".png", _PNG),
    "54 emoji, newline, quote": ('PLANTED\U0001f600\n"\r\n.png', _PNG),
    "55 CMYK": ("x.jpg", saved(plain("CMYK", (0, 255, 255, 0)), "JPEG")),
    "55 16 bit": ("x.png", GREY_16),
    "55 profile": ("x.png", saved(plain(), icc_profile=SRGB + b"PLANTED")),
    "56 PNG that says it is text": ("x.txt", _PNG),
    "56 PNG that says it is SVG": ("x.svg", _PNG),
}
HARMLESS: dict[str, tuple[str, str]] = {
    "29 NUL in between": ("a\0 cat", "a cat"),
    "31 RTL override": ("a \u202egnp.exe\u2066 cat", "a gnp.exe cat"),
    "32 everyone": ("@everyone @here", "@\u200beveryone @\u200bhere"),
    "32 role and person": (
        f"<@&{10**17}> <@{10**17}> <#{10**17}>",
        f"\\<@\u200b&{10**17}\\> \\<@\u200b{10**17}\\> \\<\\#{10**17}\\>",
    ),
    "33 masked link": ("[safe](http://evil.example)", r"\[safe\](http://evil.example)"),
    "34 backticks": ("a ```\n``` cat", r"a \`\`\` \`\`\` cat"),
    "35 4000 newlines": ("a" + "\n" * 4000 + "cat", "a cat"),
    "36 embedding": ("embedding:../../x", "embedding:../../x"),
    "37 deep parentheses": ("(" * 3000 + "x" + ")" * 2999, "(" * 299 + "…"),
    "39 zero width": ("n\u200bo\u2060n\ufeffo", "nono"),
    "40 words of ours": (
        "x\n\n**Job finished** by Admin\n-# seed 1\n# Big",
        r"x \*\*Job finished\*\* by Admin -\# seed 1 \# Big",
    ),
}
UNSHORTENED: dict[str, tuple[dict[str, Any], str]] = {
    "88 node of 6000 letters": ({"node": "x" * 6000}, "is not a text input node"),
    "88 node of two lines": ({"node": "2\n# Big"}, "is not a text input node"),
    "88 setting of 2500 letters": ({"settings": "x" * 2500 + "=1"}, "It has: "),
    "88 setting of two lines": ({"settings": '"`\n# Big"=1'}, "It has: "),
    "88 input of 5000 letters": (override("5", "x" * 5000, "1"), NOT_OPEN),
}
ROWS: dict[str, Any] = {**NUMBERS, **TEXTS, **STRINGS, **PLACES}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def comfyui() -> AsyncIterator[HearingComfyUI]:
    async with HearingComfyUI() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(
    tmp_path_factory: pytest.TempPathFactory, comfyui: HearingComfyUI
) -> AsyncIterator[Lab]:
    """One for all, as nothing that is refused changes anything."""
    async with opened(tmp_path_factory.mktemp("lab"), comfyui.url) as lab:
        for name, graph in (("regex", WITH_REGEX), ("taking", TAKING)):
            (lab.folder / f"workflows/{name}.json").write_text(json.dumps(graph))
        await lab.bot.library.refresh()
        yield lab


@pytest.fixture
def refused(lab: Lab, comfyui: HearingComfyUI, caplog: pytest.LogCaptureFixture) -> Refused:
    """Asks, and gives what the person is told: one sentence, of which ComfyUI, the channel's other
    messages, the database and the log know nothing."""

    async def ask(who: Any, **options: Any) -> tuple[Any, str]:
        asked = {"workflow": "txt2img", "prompt": "a cat", **options}
        before = sent(comfyui), await lab.bot.store.recent(who.id, 50)
        with caplog.at_level(logging.WARNING):
            response = await lab.ask(who, "generate", **asked)
        told = words(response)
        assert is_a_sentence(told), told
        assert (sent(comfyui), await lab.bot.store.recent(who.id, 50)) == before
        assert caplog.records == []
        return response, told

    return ask


def sent(comfyui: HearingComfyUI) -> list[str]:
    """Whatever ComfyUI was told to take or to do."""
    return [path for method, path, _ in comfyui.heard if method != "GET"]


def is_a_sentence(text: str) -> bool:
    return (
        re.fullmatch(r"\S[^\n]{10,1990}", text) is not None
        and "went wrong on our side" not in text
        and "Traceback" not in text
        and "Error" not in text
    )


# What is refused


@pytest.mark.parametrize(("options", "expected"), ROWS.values(), ids=ROWS.keys())
async def test_a_bad_option_is_refused_in_a_sentence_before_comfyui_hears_of_it(
    lab: Lab, refused: Refused, options: dict[str, Any], expected: str
) -> None:
    for who in (lab.alice, lab.mod):  # who may set more with overrides
        seen = len(lab.channel.history())

        response, told = await refused(who, **options)

        assert expected in told.replace("\\", ""), told
        assert response.ephemeral
        assert len(lab.channel.history()) == seen


@pytest.mark.parametrize(("options", "expected"), UNSHORTENED.values(), ids=UNSHORTENED.keys())
async def test_a_refusal_repeats_what_was_typed_shortened_and_on_one_line(
    lab: Lab, refused: Refused, options: dict[str, Any], expected: str
) -> None:
    _, told = await refused(lab.alice, **options)

    assert expected in told


@pytest.mark.parametrize("option", ["prompt", "negative", "settings", "overrides"])
async def test_28_6001_letters_are_refused_by_discord_itself(
    lab: Lab, comfyui: HearingComfyUI, option: str
) -> None:
    before = sent(comfyui)

    with pytest.raises(simcord.SetupError, match="at most 6000 characters"):
        await lab.alice.slash(lab.channel, "generate", **{option: "x" * 6001})

    assert sent(comfyui) == before


@pytest.mark.parametrize(("given", "expected"), BAD_FILES.values(), ids=BAD_FILES.keys())
async def test_a_bad_file_is_refused_in_a_sentence_before_comfyui_hears_of_it(
    lab: Lab, refused: Refused, given: tuple[str, bytes], expected: str
) -> None:
    response, told = await refused(lab.alice, workflow="img2img", image=given, private=True)

    assert told == expected
    assert response.ephemeral
    assert list(lab.bot.config.uploads.glob("*")) == []


async def test_57_a_file_that_discord_no_longer_gives_is_asked_for_again(
    lab: Lab, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab.env.backend.cdn, "get", lambda _: None)

    _, told = await refused(lab.alice, workflow="img2img", image=("x.png", saved(plain())))

    assert told == "Discord did not give me the file. Send it again."


# What is made harmless


async def made(lab: Lab, comfyui: HearingComfyUI, **options: Any) -> tuple[Job, Any, list[str]]:
    """The job, the graph that ComfyUI got, and what the channel read before and after."""
    known = len(await lab.bot.store.recent(lab.alice.id, 50))
    waiting = words(await lab.ask(lab.alice, "generate", **options))
    job = (await lab.ended(lab.alice, known + 1))[0]
    assert job.state is JobState.POSTED, job.note
    (_, _, body) = [each for each in comfyui.heard if each[:2] == ("POST", "/prompt")][-1]
    return job, body["prompt"], [waiting, words(lab.message(job))]


@pytest.mark.parametrize(("prompt", "quoted"), HARMLESS.values(), ids=HARMLESS.keys())
async def test_odd_words_are_one_quoted_line_of_the_card_and_nothing_more(
    lab: Lab, comfyui: HearingComfyUI, prompt: str, quoted: str
) -> None:
    job, graph, cards = await made(lab, comfyui, workflow="txt2img", prompt=prompt, **SMALL)

    for card in cards:
        assert f"\n> {quoted}\n" in card, card
        assert len(card) < 1000
        assert sum(line.startswith(">") for line in card.splitlines()) == 1
    assert graph["2"]["inputs"]["text"] == prompt.replace("\0", "").strip()
    message = lab.message(job)
    assert not message.mention_everyone
    assert not message.role_mentions
    assert [each.id for each in message.mentions] in ([], [lab.alice.id])


async def test_38_zalgo_does_not_cover_the_lines_around_it() -> None:
    shown = neutral("cat".join("\u0300\u0316" * 40 for _ in range(3)))

    assert not re.search(r"[\u0300-\u036f]{5}", shown)


async def test_21_a_width_between_two_steps_is_moved_to_one(
    lab: Lab, comfyui: HearingComfyUI
) -> None:
    odd = {**SMALL, "width": 513}

    _, graph, _ = await made(lab, comfyui, workflow="txt2img", prompt="a cat", **odd)

    assert graph["4"]["inputs"]["width"] % 8 == 0


async def test_69_a_sampler_with_a_space_behind_is_the_sampler(
    lab: Lab, comfyui: HearingComfyUI
) -> None:
    options = {"workflow": "txt2img", "prompt": "a cat", **SMALL}

    _, graph, _ = await made(lab, comfyui, settings='sampler="euler "', **options)

    assert graph["5"]["inputs"]["sampler_name"] == "euler"


@pytest.mark.parametrize("given", GOOD_FILES.values(), ids=GOOD_FILES.keys())
async def test_an_odd_file_becomes_a_bare_png_with_a_name_of_ours(
    lab: Lab, comfyui: HearingComfyUI, given: tuple[str, bytes]
) -> None:
    job, graph, cards = await made(lab, comfyui, workflow="taking", image=given)

    name = graph["1"]["inputs"]["image"]
    assert re.fullmatch(rf"comfycord/{job.id}/[0-9a-f]{{32}}\.png", name)
    data = comfyui.files[Place.annotated(name)]
    assert kinds_of_chunks(data) == {b"IHDR", b"IDAT", b"IEND"}
    assert picture_of(data).size in ((20, 10), (10, 20))
    assert b"PLANTED" not in data
    assert "PLANTED" not in "".join(cards)
    for path in lab.bot.config.uploads.glob("*"):
        path.unlink()


async def test_51_a_picture_that_lies_on_its_side_is_upright(
    lab: Lab, comfyui: HearingComfyUI
) -> None:
    _, graph, _ = await made(lab, comfyui, workflow="taking", image=GOOD_FILES["51 EXIF"])

    data = comfyui.files[Place.annotated(graph["1"]["inputs"]["image"])]
    assert picture_of(data).size == (10, 20)
    assert not picture_of(data).getexif()
    for path in lab.bot.config.uploads.glob("*"):
        path.unlink()


def picture_of(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture
