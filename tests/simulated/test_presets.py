"""/preset: settings under a name, used again by their name or by their code."""

import json
import re
from typing import Any

import pytest

from bot.jobs import Job
from bot.people import Preset
from bot.wishes import Wish
from tests.simulated.lab import Lab, words
from tests.simulated.test_privacy import deleted, exported

SMALL = {"width": 256, "height": 256}  # painted in no time


async def made(lab: Lab, who: Any = None, prompt: str = "a cat", **options: Any) -> Job:
    """A job that has ended, of Alice's if nobody else is named."""
    who = who or lab.alice
    before = await lab.bot.store.recent(who.id, 50)
    told = await lab.told(who, "generate", prompt=prompt, **options)
    assert "Queued" in told, told
    newest, *_ = await lab.ended(who, len(before) + 1)
    return newest


async def saved(lab: Lab, name: str, who: Any = None, **options: Any) -> str:
    """The code of a preset that was saved just now."""
    told = await lab.told(who or lab.alice, "preset save", name=name, **options)
    found = re.search(r"with the code `([a-z2-9]{10})`", told)
    assert found, told
    return found[1]


async def listed(lab: Lab, who: Any = None) -> str:
    return await lab.told(who or lab.alice, "preset list")


async def shown(lab: Lab, **options: Any) -> tuple[str, dict[str, Any]]:
    """Prompt and settings of a job that was made with a preset."""
    job = await made(lab, **options)
    return job.request.text, dict(job.request.settings)


def a_code(number: int) -> str:
    """A different one for each of a hundred presets."""
    return "somecode" + "".join("abcdefghjk"[each] for each in divmod(number, 10))


async def kept(lab: Lab, number: int, **wish: Any) -> None:
    """So many presets of Alice's, named by their numbers."""
    for each in range(number):
        preset = Preset(f"p{each}", a_code(each), Wish(workflow="postcard", **wish))
        await lab.bot.store.keep_preset(lab.alice.id, preset)


async def test_the_settings_of_the_last_picture_are_kept_listed_and_deleted(lab: Lab) -> None:
    await made(lab, workflow="postcard", seed="5", **SMALL)

    kept = await lab.ask(lab.alice, "preset save", name="  my *card* ")
    code = (await lab.bot.store.presets(lab.alice.id))[0].code
    line = await lab.ask(lab.alice, "preset list")
    gone = await lab.ask(lab.alice, "preset delete", name="my *card*")

    assert words(kept) == (
        "Kept as **my \\*card\\***: postcard, width 256, height 256. "
        f"Use it with `/generate preset:my \\*card\\*`; others with the code `{code}`."
    )
    assert words(line) == f"**my \\*card\\*** · `{code}` · postcard, width 256, height 256"
    assert words(gone) == "**my \\*card\\*** is deleted."
    assert await listed(lab) == "You have no presets yet. `/preset save` makes one."
    assert kept.ephemeral
    assert line.ephemeral
    assert gone.ephemeral


async def test_a_named_picture_is_kept_and_the_last_one_takes_its_place_under_its_code(
    lab: Lab,
) -> None:
    job = await made(lab, workflow="postcard", **SMALL)
    await made(lab, workflow="postcard", width=256, height=320)

    code = await saved(lab, "card", job=job.short_id)
    first = await listed(lab)
    again = await saved(lab, "card")

    assert again == code
    assert "height 256" in first
    assert (await listed(lab)).endswith("height 320")


async def test_only_ones_own_pictures_are_kept(lab: Lab) -> None:
    job = await made(lab, lab.bob, workflow="postcard", **SMALL)

    theirs = await lab.told(lab.alice, "preset save", name="card", job=job.short_id)
    none = await lab.told(lab.alice, "preset save", name="card")

    assert theirs == none == "You have no such picture. `/status` lists yours."


async def test_a_preset_is_used_by_its_name_with_another_prompt_and_another_seed(lab: Lab) -> None:
    await made(lab, workflow="txt2img", prompt="a secret", seed="5", steps=3, cfg=2.5, **SMALL)
    await saved(lab, "small")

    text, settings = await shown(lab, preset=" small ", prompt="a fox")

    assert text == "a fox"
    assert (settings["steps"], settings["cfg"], settings["width"]) == (3, 2.5, 256)
    assert settings["seed"] != 5


async def test_a_preset_is_used_by_anybody_with_its_code(lab: Lab) -> None:
    await kept(lab, 1, values=SMALL)

    job = await made(lab, lab.bob, preset=a_code(0), prompt="a fox")

    assert (job.request.workflow, job.request.text) == ("postcard", "a fox")
    assert job.request.settings["width"] == 256
    assert await listed(lab, lab.bob) == "You have no presets yet. `/preset save` makes one."


async def test_typed_options_win_over_the_preset(lab: Lab) -> None:
    await kept(lab, 1, values=SMALL)

    _, wide = await shown(lab, preset="p0", width=320, seed="7")
    other = await made(lab, preset="p0", workflow="txt2img", steps=2)

    assert (wide["width"], wide["height"], wide["seed"]) == (320, 256, 7)
    assert (other.request.workflow, other.request.settings["width"]) == ("txt2img", 256)


async def test_typed_settings_win_over_the_preset(lab: Lab) -> None:
    await kept(lab, 1, values=SMALL)

    _, settings = await shown(lab, preset="p0", settings="height=320")

    assert settings["height"] == 320


async def test_typed_options_win_over_the_overrides_of_the_preset(lab: Lab) -> None:
    overrides = json.dumps({"5": {"inputs": {"steps": 3}}})
    await made(lab, workflow="txt2img", overrides=overrides, **SMALL)
    await saved(lab, "small")

    _, settings = await shown(lab, preset="small", steps=2)

    assert settings["steps"] == 2


async def test_no_prompt_no_seed_and_no_file_are_inside(lab: Lab) -> None:
    await made(lab, workflow="postcard", prompt="a secret", seed="5", private=True, **SMALL)
    await saved(lab, "card")

    (preset,) = await lab.bot.store.presets(lab.alice.id)

    assert preset.wish == Wish(workflow="postcard", values=SMALL)


@pytest.mark.parametrize(
    "words_and_seed",
    [
        {"settings": 'text="a secret" seed=5'},
        {"overrides": '{"2": {"inputs": {"text": "a secret"}}, "5": {"inputs": {"seed": 5}}}'},
    ],
    ids=["settings", "overrides"],
)
async def test_no_prompt_is_inside_though_settings_or_overrides_named_it(
    lab: Lab, words_and_seed: dict[str, str]
) -> None:
    told = await lab.told(lab.alice, "generate", workflow="txt2img", **SMALL, **words_and_seed)
    assert "Queued" in told, told
    await lab.ended(lab.alice)
    await saved(lab, "card")

    (preset,) = await lab.bot.store.presets(lab.alice.id)

    assert "a secret" not in json.dumps(preset.wish.to_json())


async def test_names_are_offered_while_they_are_typed_and_nobody_elses(lab: Lab) -> None:
    await made(lab, workflow="postcard", **SMALL)
    for name in ("Portrait", "postcard", "winter"):
        await saved(lab, name)

    offered = await lab.completed(lab.alice, "generate", "preset", "PO", prompt="x")
    to_delete = await lab.completed(lab.alice, "preset delete", "name", "w")
    to_others = await lab.completed(lab.bob, "generate", "preset", "", prompt="x")

    assert offered == ["Portrait", "postcard"]
    assert (to_delete, to_others) == (["winter"], [])


async def test_fifty_are_the_most_and_each_of_them_can_be_saved_anew(lab: Lab) -> None:
    await made(lab, workflow="postcard", **SMALL)
    await kept(lab, 49, values={"negative": "*" * 3000, "model": "m" * 3000})
    await saved(lab, "the last")

    told = await lab.told(lab.alice, "preset save", name="one more")
    again = await lab.told(lab.alice, "preset save", name="p7")
    await lab.told(lab.alice, "preset delete", name="p8")
    after = await lab.told(lab.alice, "preset save", name="one more")

    assert 1000 < len(await listed(lab)) <= 4000
    assert told == "You have 50 presets. Delete one first."
    assert again.startswith("Kept as **p7**")
    assert after.startswith("Kept as **one more**")


async def test_what_is_unknown_deleted_or_somebody_elses_is_answered_in_a_sentence(
    lab: Lab,
) -> None:
    await kept(lab, 2)
    deleting = [
        await lab.told(who, "preset delete", name=name)
        for who, name in ((lab.bob, "p0"), (lab.alice, "p1"), (lab.alice, "p*"))
    ]

    using = [
        await lab.told(who, "generate", preset=name, prompt="a fox")
        for who, name in ((lab.bob, "p0"), (lab.alice, "p1"), (lab.bob, a_code(1)))
    ]
    await lab.manage("remove", workflow="postcard")
    without = await lab.told(lab.alice, "generate", preset="p0", prompt="a fox")

    unknown = "There is no preset {}. `/preset list` shows yours.".format
    assert deleting == [unknown("p0"), "**p1** is deleted.", unknown("p\\*")]
    assert using == [unknown("p0"), unknown("p1"), unknown(a_code(1))]
    assert without == "There is no workflow named postcard. See /workflows."
    assert not await lab.bot.store.recent(lab.alice.id, 1)


async def test_what_is_kept_of_a_person_holds_their_presets_until_it_is_deleted(lab: Lab) -> None:
    await kept(lab, 2, values={"steps": 3})
    bobs = Preset("theirs", "bobscode22", Wish(workflow="postcard"))
    await lab.bot.store.keep_preset(lab.bob.id, bobs)

    rows = await exported(lab, lab.alice)
    await deleted(lab, lab.alice)
    told = words(await lab.ask(lab.bob, "generate", preset=a_code(0), prompt="a fox"))

    assert [(row["kind"], row["name"], row["code"]) for row in rows] == [
        ("presets", "p0", a_code(0)),
        ("presets", "p1", a_code(1)),
    ]
    assert json.loads(rows[0]["wish"])["values"] == {"steps": 3}
    assert await lab.bot.store.presets(lab.alice.id) == []
    assert told.startswith(f"There is no preset {a_code(0)}.")
    assert await lab.bot.store.presets(lab.bob.id) == [bobs]
