"""What people should not type: each is refused in one sentence before ComfyUI hears of it, or made
harmless. The answers stand in docs/bad-inputs.md."""

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import simcord

from bot.texts import neutral
from tests.fakes.hearing import HearingComfyUI
from tests.simulated.bad import NOT_OPEN, SMALL, made, override, sent
from tests.simulated.documented import answered, named
from tests.simulated.lab import Lab

pytestmark = pytest.mark.asyncio(loop_scope="module")

INT = "takes a whole number"
FLOAT = "takes a number"
NO_JSON = "`overrides` is not valid JSON."
ONE_VALUE = "takes one value, not a list or an object."
BLOCKED = "This holds a word that is not allowed here. Say it another way."
INPUTS_ONLY = "and nothing else."
Refused = Callable[..., Awaitable[tuple[Any, str]]]


def overrides(data: Any) -> dict[str, str]:
    return {"overrides": json.dumps(data)}


def many(number: int) -> dict[str, str]:
    """As short as JSON can say it, for Discord takes 6000 letters."""
    return {"overrides": "{" + ",".join(f'"{each}":0' for each in range(number)) + "}"}


OVERRIDES: dict[str, tuple[dict[str, Any], str]] = {
    "1 a node that the workflow does not have": (override("99", "text", '"x"'), "no node '99'"),
    "2 a whole new node": (
        overrides({"99": {"class_type": "SaveImage", "inputs": {}}}),
        "no node '99'",
    ),
    "3 another `class_type` for a node": (
        overrides({"5": {"class_type": "SaveImage", "inputs": {}}}),
        INPUTS_ONLY,
    ),
    "3 a title for a node (`_meta`)": (
        overrides({"5": {"inputs": {}, "_meta": {"title": "x"}}}),
        INPUTS_ONLY,
    ),
    '4 a link, `["4", 0]`, for a number': (override("5", "steps", '["4", 0]'), ONE_VALUE),
    "4 a link for a text": (override("2", "text", '["4", 0]'), ONE_VALUE),
    "4 another link for a link": (override("5", "model", '["4", 0]'), NOT_OPEN),
    '5 a wrapped link, `{"__value__": ["4", 0]}`': (
        override("5", "steps", '{"__value__": ["4", 0]}'),
        ONE_VALUE,
    ),
    "6 an object for a value": (override("5", "cfg", '{"a": {"b": 1}}'), ONE_VALUE),
    "6 `null` for a value": (override("5", "cfg", "null"), ONE_VALUE),
    "7 an input that the workflow does not let people set": (
        override("5", "nosuch", "1"),
        NOT_OPEN,
    ),
    "8 an input of another node": (override("2", "steps", "20"), NOT_OPEN),
    "9 a list for `inputs`": (overrides({"5": {"inputs": []}}), INPUTS_ONLY),
    "9 `null` for `inputs`": (overrides({"5": {"inputs": None}}), INPUTS_ONLY),
    "9 a text for `inputs`": (overrides({"5": {"inputs": "steps"}}), INPUTS_ONLY),
    "9 a value without `inputs` around it": (overrides({"5": {"steps": 20}}), INPUTS_ONLY),
    "10 a list around everything": (overrides([{"5": {"inputs": {}}}]), "looks like"),
    "10 a text in quotes": (overrides("steps"), "looks like"),
    "10 words that are no JSON": ({"overrides": "steps=20"}, NO_JSON),
    "11 a node named `__proto__`": (override("__proto__", "steps", "1"), "no node '\\_\\_proto"),
    "11 a node's number with a space behind": (override("5 ", "steps", "1"), "no node '5 '"),
    "11 a node's number without quotes": ({"overrides": '{5: {"inputs": {}}}'}, NO_JSON),
    "11 the same node twice": (
        {"overrides": '{"5": {"inputs": {}}, "5": {}}'},
        "names something twice",
    ),
    "12 as many nodes as fit": (many(700), "no node '0'"),
    "12 6,000 open brackets": ({"overrides": "[" * 6000}, NO_JSON),
}
NUMBERS: dict[str, tuple[dict[str, Any], str]] = {
    "13 `cfg=NaN`": ({"settings": "cfg=NaN"}, FLOAT),
    "13 `NaN` in `overrides`": (override("5", "cfg", "NaN"), NO_JSON),
    '13 `"nan"` in `overrides`': (override("5", "cfg", '"nan"'), FLOAT),
    "14 `cfg=Infinity`": ({"settings": "cfg=Infinity"}, FLOAT),
    "14 `cfg=-Infinity`": ({"settings": "cfg=-Infinity"}, FLOAT),
    "14 `Infinity` in `overrides`": (override("5", "cfg", "Infinity"), NO_JSON),
    "14 `-Infinity` in `overrides`": (override("5", "cfg", "-Infinity"), NO_JSON),
    "14 `steps=inf`": ({"settings": "steps=inf"}, INT),
    "15 `cfg=1e999`": ({"settings": "cfg=1e999"}, FLOAT),
    "15 `steps=1e999`": ({"settings": "steps=1e999"}, INT),
    "15 `1e999` in `overrides`": (override("5", "cfg", "1e999"), FLOAT),
    "16 5,000 digits for `steps`": ({"settings": "steps=" + "9" * 5000}, INT),
    "16 5,000 digits for the seed": ({"settings": "seed=" + "9" * 5000}, INT),
    "16 5,000 digits in `overrides`": (override("5", "steps", "9" * 5000), NO_JSON),
    "16 4,000 digits in `overrides`": (
        override("5", "steps", "9" * 4000),
        "takes a smaller number",
    ),
    "17 a seed of -1": ({"seed": "-1"}, "must be between 0 and 18446744073709551615"),
    "17 a seed of 2^64": ({"seed": str(2**64)}, "not 18446744073709551616"),
    "17 a seed of -1 in `overrides`": (override("5", "seed", "-1"), "must be between 0"),
    "17 a seed of 2^64 in `overrides`": (override("5", "seed", str(2**64)), "must be between 0"),
    "18 `steps=true`": ({"settings": "steps=true"}, INT),
    "18 `true` for a number in `overrides`": (override("5", "steps", "true"), INT),
    "19 `width=512px`": ({"settings": "width=512px"}, INT),
    '19 `"512px"` in `overrides`': (override("4", "width", '"512px"'), INT),
    "20 a width of 16384": (
        {"width": 16384},
        "`width` must be between 256 and 2048, not 16384.",
    ),
    "20 a width of 16384 in `overrides`": (
        override("4", "width", "16384"),
        "between 256 and 2048",
    ),
    "22 4096 pictures at once": ({"batch": 4096}, "`batch` must be between 1 and 4, not 4096."),
    "23 10,000 steps": ({"steps": 10000}, "`steps` must be between 1 and 60, not 10000."),
    "24 a negative `cfg`": ({"cfg": -1.0}, "`cfg` must be between 1 and 20, not -1.0."),
    "25 each number allowed, but too many pixels together": (
        {"width": 2048, "height": 2048, "batch": 4},
        "2048 x 2048 x 4 is too large: at most 4,194,304 pixels in all.",
    ),
    "26 `steps=٢٠` (Arabic digits)": ({"settings": "steps=٢٠"}, INT),
    "26 the seed in Arabic digits": ({"seed": "٢٠"}, INT),
    "26 `cfg=７` (a wide digit)": ({"settings": "cfg=７"}, FLOAT),
    "26 `steps=1_0`": ({"settings": "steps=1_0"}, INT),
}
TEXTS: dict[str, tuple[dict[str, Any], str]] = {
    "27 a prompt of spaces": ({"prompt": "   "}, "The prompt is empty."),
    "27 a prompt of tabs and empty lines": (
        {"prompt": "\n\t \r\n\u2003"},
        "The prompt is empty.",
    ),
    "29 a prompt of NUL bytes": ({"prompt": "\x00\x00"}, "The prompt is empty."),
    "30 half a letter (a lone surrogate) in the prompt": (
        {"prompt": "a \ud800 cat"},
        "The prompt holds a broken character.",
    ),
    "30 half a letter in the negative prompt": (
        {"negative": "a \udfff"},
        "`negative` holds a broken character.",
    ),
    "30 half a letter in `overrides`": (
        override("2", "text", '"\\ud800"'),
        "holds a broken character.",
    ),
    "39 a blocked word": ({"prompt": "a forbidden cat"}, BLOCKED),
    "39 a blocked word with invisible letters in it": (
        {"prompt": "a for\u200bbid\u2060den cat"},
        BLOCKED,
    ),
    "39 a blocked word in wide letters": ({"prompt": "a ｆｏｒｂｉｄｄｅｎ cat"}, BLOCKED),
    "39 a blocked word in capitals with accents": ({"prompt": "a FÖRBIDDÉN cat"}, BLOCKED),
    "39 a blocked word with dots and spaces between its letters": (
        {"prompt": "a f.o.r.b i d-d_e_n cat"},
        BLOCKED,
    ),
    "39 a blocked word, made by a choice in braces": ({"prompt": "a for{bidden|} cat"}, BLOCKED),
    "39 a blocked word in the negative prompt": ({"negative": "forbidden"}, BLOCKED),
    "39 a blocked word in `settings`": ({"settings": 'negative="a forbidden cat"'}, BLOCKED),
    "39 a blocked word in `overrides`": (override("3", "text", '"forbidden"'), BLOCKED),
    "35 4,000 empty lines": ({"prompt": "\n" * 4000}, "The prompt is empty."),
}
PLACES: dict[str, tuple[dict[str, Any], str]] = {
    "65 `../../web/x` as `filename_prefix` in `overrides`": (
        override("7", "filename_prefix", '"../../web/x"'),
        NOT_OPEN,
    ),
    "65 `filename_prefix=../../web/x`": (
        {"settings": "filename_prefix=../../web/x"},
        "has no `filename_prefix`",
    ),
    "66 `%date%/../..` as `filename_prefix`": (
        override("7", "filename_prefix", '"%date%/../.."'),
        NOT_OPEN,
    ),
    "67 a model that the server does not have": (
        {"model": "nosuch.safetensors"},
        "`model` cannot be",
    ),
    "67 `../../etc/passwd` as a model": ({"model": "../../etc/passwd"}, "`model` cannot be"),
    "67 an unknown model in `overrides`": (
        override("1", "ckpt_name", '"x.ckpt"'),
        "`model` cannot be",
    ),
    "68 a model of another Discord server (all share one list)": (
        {"model": "theirs/style.safetensors"},
        "`model` cannot be",
    ),
    "69 `sampler=euler_`": ({"settings": "sampler=euler_"}, "`sampler` cannot be"),
    "70 `(a+)+$` as a regular expression": (
        {"workflow": "regex", **override("9", "regex_pattern", '"(a+)+$"')},
        NOT_OPEN,
    ),
    "88 a workflow that nobody offered": (
        {"workflow": "nosuch"},
        "There is no workflow named nosuch.",
    ),
    "88 `../txt2img` as a workflow": (
        {"workflow": "../txt2img"},
        "There is no workflow named ../txt2img.",
    ),
    "88 a workflow's name of 6,000 letters": (
        {"workflow": "x" * 6000},
        "There is no workflow named xxx",
    ),
    "88 `@everyone` as a workflow": (
        {"workflow": "@everyone"},
        "There is no workflow named @\u200b",
    ),
    "88 a `node` that is not there": ({"node": "99"}, "Target node 99 is not a text input node"),
    "88 a `node` that takes no text": ({"node": "5"}, "Target node 5 is not a text input node"),
    "a node that pings": ({"node": "@everyone <@&1>"}, "is not a text input node"),
    "88 a preset that is not there": ({"preset": "nosuch"}, "There is no preset"),
    "a preset of 6000 letters": ({"preset": "x" * 6000}, "There is no preset"),
    "88 a setting that the workflow does not have": ({"settings": "nosuch=1"}, "has no `nosuch`."),
    "88 a setting without a value": ({"settings": "steps"}, "`settings` looks like"),
    "88 a quotation mark that is never closed": ({"settings": 'sampler="euler'}, "never closed"),
}
HARMLESS: dict[str, tuple[str, str]] = {
    "29 a NUL byte in the prompt": ("a\0 cat", "a cat"),
    "31 letters that turn the direction of writing": (
        "a \u202egnp.exe\u2066 cat",
        "a gnp.exe cat",
    ),
    "32 `@everyone @here`": ("@everyone @here", "@\u200beveryone @\u200bhere"),
    "32 a role, a member and a channel": (
        f"<@&{10**17}> <@{10**17}> <#{10**17}>",
        f"\\<@\u200b&{10**17}\\> \\<@\u200b{10**17}\\> \\<\\#{10**17}\\>",
    ),
    "33 `[safe](http://evil.example)`": (
        "[safe](http://evil.example)",
        r"\[safe\](http://evil.example)",
    ),
    "34 three backticks": ("a ```\n``` cat", r"a \`\`\` \`\`\` cat"),
    "35 4,000 empty lines between two words": ("a" + "\n" * 4000 + "cat", "a cat"),
    "36 `embedding:../../x` (ComfyUI looks in its own folder only)": (
        "embedding:../../x",
        "embedding:../../x",
    ),
    "37 3,000 parentheses, one in the other": ("(" * 3000 + "x" + ")" * 2999, "(" * 299 + "…"),
    "38 a letter under eighty accents": ("a" + "\u0300\u0316" * 40, "a" + "\u0300\u0316" * 2),
    "39 invisible letters in a word that is allowed": ("n\u200bo\u2060n\ufeffo", "nono"),
    "40 words that look like the bot's own": (
        "x\n\n**Job finished** by Admin\n-# seed 1\n# Big",
        r"x \*\*Job finished\*\* by Admin -\# seed 1 \# Big",
    ),
}
UNSHORTENED: dict[str, tuple[dict[str, Any], str]] = {
    "88 a `node` of 6,000 letters": ({"node": "x" * 6000}, "is not a text input node"),
    "a node of two lines": ({"node": "2\n# Big"}, "is not a text input node"),
    "88 a setting's name of 2,500 letters": ({"settings": "x" * 2500 + "=1"}, "It has: "),
    "a setting of two lines": ({"settings": '"`\n# Big"=1'}, "It has: "),
    "7 an input's name of 5,000 letters": (override("5", "x" * 5000, "1"), NOT_OPEN),
}


# What is refused


@pytest.mark.parametrize(
    ("name", "options", "expected"), named({**OVERRIDES, **NUMBERS, **TEXTS, **PLACES})
)
async def test_a_bad_option_is_refused_in_a_sentence_before_comfyui_hears_of_it(
    shared: Lab, refused: Refused, name: str, options: dict[str, Any], expected: str
) -> None:
    for who in (shared.mod, shared.alice):  # a moderator may set more with overrides
        seen = len(shared.channel.history())

        response, told = await refused(who, **options)

        assert expected.replace("\\", "") in told.replace("\\", ""), told
        assert response.ephemeral
        assert len(shared.channel.history()) == seen
    answered(name, told)


@pytest.mark.parametrize(("name", "options", "expected"), named(UNSHORTENED))
async def test_a_refusal_repeats_what_was_typed_shortened_and_on_one_line(
    shared: Lab, refused: Refused, name: str, options: dict[str, Any], expected: str
) -> None:
    _, told = await refused(shared.alice, **options)

    assert expected in told
    answered(name, told)


@pytest.mark.parametrize("option", ["prompt", "negative", "settings", "overrides"])
async def test_6001_letters_are_refused_by_discord_itself(
    shared: Lab, hearing: HearingComfyUI, option: str
) -> None:
    before = sent(hearing)

    with pytest.raises(simcord.SetupError, match="at most 6000 characters"):
        await shared.alice.slash(shared.channel, "generate", **{option: "x" * 6001})

    assert sent(hearing) == before
    answered("28 more than 6,000 letters", "Nothing: Discord does not let it be sent.")


# What is made harmless


@pytest.mark.parametrize(("name", "prompt", "quoted"), named(HARMLESS))
async def test_odd_words_are_one_quoted_line_of_the_card_and_nothing_more(
    shared: Lab, hearing: HearingComfyUI, name: str, prompt: str, quoted: str
) -> None:
    job, graph, cards = await made(shared, hearing, workflow="txt2img", prompt=prompt, **SMALL)

    for card in cards:
        assert f"\n> {quoted}\n" in card, card
        assert len(card) < 1000
        assert sum(line.startswith(">") for line in card.splitlines()) == 1
    assert graph["2"]["inputs"]["text"] == prompt.replace("\0", "").strip()
    message = shared.message(job)
    assert not message.mention_everyone
    assert not message.role_mentions
    assert [each.id for each in message.mentions] in ([], [shared.alice.id])
    (line,) = (line for line in cards[-1].splitlines() if line.startswith("> "))
    answered(name, f"The picture, with the words as plain text: {line[2:]}")


async def test_many_accents_do_not_cover_the_lines_around_them() -> None:
    shown = neutral("cat".join("\u0300\u0316" * 40 for _ in range(3)))

    assert not re.search(r"[\u0300-\u036f]{5}", shown)


async def test_a_width_between_two_steps_is_moved_to_one(
    shared: Lab, hearing: HearingComfyUI
) -> None:
    odd = {**SMALL, "width": 513}

    _, graph, _ = await made(shared, hearing, workflow="txt2img", prompt="a cat", **odd)

    width = graph["4"]["inputs"]["width"]
    assert width % 8 == 0
    answered("21 a width of 513, where only every eighth is one", f"A picture of {width} pixels.")


async def test_a_sampler_with_a_space_behind_is_the_sampler(
    shared: Lab, hearing: HearingComfyUI
) -> None:
    options = {"workflow": "txt2img", "prompt": "a cat", **SMALL}

    _, graph, _ = await made(shared, hearing, settings='sampler="euler "', **options)

    sampler = graph["5"]["inputs"]["sampler_name"]
    assert sampler == "euler"
    answered('69 `sampler="euler "` (a space behind)', f"A picture, with the sampler {sampler}.")
