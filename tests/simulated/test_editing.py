"""Edit: a modal with the values that were used, over one page and over several."""

from typing import Any

import pytest

from bot.jobs import Job
from tests.simulated.lab import Lab, filled_in, json_file, picture_file, txt2img, until, words

NOTED = "Your changes are noted. Run it, or open another page."


async def edited(lab: Lab, job: Job, values: dict[str, str]) -> Any:
    modal = await lab.press(lab.alice, job, "edit")
    return await lab.submit(lab.alice, modal, values)


async def newest(lab: Lab, number: int = 2) -> Job:
    return (await lab.ended(lab.alice, number))[0]


async def test_one_page_holds_the_values_that_were_used_and_runs_at_once(lab: Lab) -> None:
    job = await lab.generated("postcard", seed="5", width=512)

    modal = await lab.press(lab.alice, job, "edit")
    fields = filled_in(modal)
    result = await lab.submit(lab.alice, modal, {"text": "a dog", "height": "512"})
    after = await newest(lab)

    assert modal.modal["title"] == "Edit"
    assert fields == {"text": "a cat", "seed": "5", "width": "512", "height": "704", "batch": "1"}
    assert f"edit of {job.short_id}" in await lab.said(result)
    assert after.request.text == "a dog"
    assert after.request.settings == {**job.request.settings, "height": 512}


async def test_an_emptied_seed_is_random_and_an_untouched_one_stays(lab: Lab) -> None:
    job = await lab.generated("postcard", seed="5")

    await edited(lab, job, {})
    kept = await newest(lab)
    lab.bot.clock = lambda: 1e9  # a second later
    await edited(lab, job, {"seed": ""})
    random = await newest(lab, 3)

    assert kept.request.settings == job.request.settings
    assert random.request.settings["seed"] != 5
    assert random.request.settings | {"seed": 5} == job.request.settings


async def test_a_random_seed_is_shown_and_kept_too(lab: Lab) -> None:
    job = await lab.generated("postcard")

    await edited(lab, job, {"text": "a dog"})

    assert (await newest(lab)).request.settings["seed"] == job.request.settings["seed"]


async def test_an_emptied_prompt_keeps_the_one_before(lab: Lab) -> None:
    job = await lab.generated("postcard")

    await edited(lab, job, {"text": "", "width": "512"})

    assert (await newest(lab)).request.text == "a cat"


async def test_another_emptied_field_falls_back_to_the_workflows_value(lab: Lab) -> None:
    job = await lab.generated("postcard", width=512)

    await edited(lab, job, {"width": ""})

    assert (await newest(lab)).request.settings["width"] == 1024


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"width": "99999"}, "`width` must be between 256 and 2048, not 99999."),
        ({"batch": "many"}, "`batch`"),
        ({"seed": "-1"}, "`seed` must be between 0"),
        ({"width": "2048", "height": "2048", "batch": "4"}, "is too large"),
    ],
)
async def test_a_value_that_is_not_allowed_is_refused_in_a_sentence(
    lab: Lab, values: dict[str, str], sentence: str
) -> None:
    job = await lab.generated("postcard")

    result = await edited(lab, job, values)

    assert sentence in await lab.said(result)
    assert result.response.ephemeral
    assert len(await lab.ended(lab.alice)) == 1


async def page(lab: Lab, job: Job, number: int, *, on: Any) -> Any:
    return await lab.press(lab.alice, job, f"edit:{number}", on=on)


async def test_three_pages_gather_what_was_changed(lab: Lab) -> None:
    job = await lab.generated("txt2img", steps=9, negative="dogs", seed="5")

    first = await lab.press(lab.alice, job, "edit")
    card = await lab.submit(lab.alice, first, {"text": "a fox", "steps": "12"})
    said = await lab.said(card)
    second = await page(lab, job, 1, on=card.response)
    card = await lab.submit(lab.alice, second, {"width": "512"})
    await until(lambda: card.response)
    third = await page(lab, job, 2, on=card.response)
    card = await lab.submit(lab.alice, third, {})
    await until(lambda: card.response)
    await lab.press(lab.alice, job, "run", on=card.response)
    after = await newest(lab)

    assert [each.modal["title"] for each in (first, second, third)] == [
        f"Edit, page {number} of 3" for number in (1, 2, 3)
    ]
    assert filled_in(first) == {
        "text": "a cat", "negative": "dogs", "seed": "5", "steps": "9", "cfg": "7.0",
    }  # fmt: skip
    assert list(filled_in(second)) == ["width", "height", "sampler", "scheduler", "batch"]
    assert list(filled_in(third)) == ["model"]
    assert said == f"{NOTED}\nRun\nPage 2\nPage 3"
    assert card.response.ephemeral
    changed = {"steps": 12, "width": 512}
    assert after.request.text == "a fox"
    assert after.request.settings == {**job.request.settings, **changed}


async def test_nothing_runs_before_run_is_pressed_and_then_once(lab: Lab) -> None:
    job = await lab.generated("txt2img")
    card = await edited(lab, job, {"steps": "12"})
    await until(lambda: card.response)
    before = len(await lab.ended(lab.alice))
    moments = iter([100.0, 102.0])
    lab.bot.clock = lambda: next(moments)

    await lab.press(lab.alice, job, "run", on=card.response)
    again = await lab.press(lab.alice, job, "run", on=card.response)

    assert before == 1
    assert "were run already" in await lab.said(again)
    await lab.ended(lab.alice, 2)


async def test_edit_begins_anew_without_the_changes_of_an_earlier_edit(lab: Lab) -> None:
    job = await lab.generated("txt2img")
    await edited(lab, job, {"steps": "12"})
    lab.bot.clock = lambda: 1e9  # a second later

    card = await edited(lab, job, {"cfg": "3"})
    await until(lambda: card.response)
    await lab.press(lab.alice, job, "run", on=card.response)

    settings = (await newest(lab)).request.settings
    assert (settings["steps"], settings["cfg"]) == (25, 3)


async def test_two_people_who_edit_one_result_do_not_mix(lab: Lab) -> None:
    job = await lab.generated("txt2img")
    mine = await edited(lab, job, {"steps": "12"})
    modal = await lab.press(lab.bob, job, "edit")
    theirs = await lab.submit(lab.bob, modal, {"steps": "7"})
    await until(lambda: theirs.response and mine.response)

    await lab.press(lab.alice, job, "run", on=mine.response)
    await lab.press(lab.bob, job, "run", on=theirs.response)
    (own,) = await lab.ended(lab.bob)

    assert (await newest(lab)).request.settings["steps"] == 12
    assert own.request.settings["steps"] == 7


async def test_a_page_that_is_opened_again_holds_what_was_typed_there(lab: Lab) -> None:
    job = await lab.generated("txt2img")
    first = await lab.press(lab.alice, job, "edit")
    card = await lab.submit(lab.alice, first, {"text": "a fox", "steps": "12"})
    second = await page(lab, job, 1, on=card.response)
    card = await lab.submit(lab.alice, second, {})
    await until(lambda: card.response)

    fields = filled_in(await page(lab, job, 0, on=card.response))

    assert (fields["text"], fields["steps"]) == ("a fox", "12")


async def test_a_refused_run_leaves_the_changes_to_be_corrected(lab: Lab) -> None:
    job = await lab.generated("txt2img")
    card = await edited(lab, job, {"steps": "999", "text": "a fox"})
    await until(lambda: card.response)
    refused = await lab.said(await lab.press(lab.alice, job, "run", on=card.response))
    second = await page(lab, job, 1, on=card.response)
    card = await lab.submit(lab.alice, second, {"width": "512"})
    await until(lambda: card.response)

    assert refused == "`steps` must be between 1 and 60, not 999."
    draft = await lab.bot.store.draft(job.id, lab.alice.id)
    assert draft is not None
    assert draft.prompt == "a fox"


async def test_a_refused_run_makes_no_job(lab: Lab) -> None:
    job = await lab.generated("txt2img")
    card = await edited(lab, job, {"steps": "999"})
    await until(lambda: card.response)

    refused = await lab.said(await lab.press(lab.alice, job, "run", on=card.response))

    assert refused == "`steps` must be between 1 and 60, not 999."
    assert len(await lab.ended(lab.alice)) == 1


async def test_an_edit_counts_for_more_than_an_earlier_override(lab: Lab) -> None:
    overrides = '{"5": {"inputs": {"steps": 9}}}'
    job = await lab.generated("txt2img", overrides=overrides)

    card = await edited(lab, job, {"steps": "12"})
    await until(lambda: card.response)
    await lab.press(lab.alice, job, "run", on=card.response)

    assert (await newest(lab)).request.settings["steps"] == 12


async def test_what_the_modal_shows_is_run_though_a_default_changed_since(lab: Lab) -> None:
    job = await lab.generated("postcard")
    modal = await lab.press(lab.alice, job, "edit")
    await lab.manage("limit", workflow="postcard", parameter="width", default="512")

    await lab.submit(lab.alice, modal, {"text": "a dog"})

    assert filled_in(modal)["width"] == "1024"
    assert (await newest(lab)).request.settings["width"] == 1024


async def test_a_long_prompt_that_nobody_touched_stays_whole(lab: Lab) -> None:
    long = "cat " * 1250
    await lab.ask(lab.alice, "generate", workflow="postcard", prompt=long)
    (job,) = await lab.ended(lab.alice)

    await edited(lab, job, {"width": "512"})

    assert (await newest(lab)).request.text == long.strip()


async def test_a_workflow_with_very_many_parameters_can_be_edited(lab: Lab) -> None:
    graph = txt2img()
    for number in range(20):
        graph[f"{100 + number}"] = {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": number},
        }
    await lab.manage("add", file=json_file(graph, "many.json"))
    for number in range(20):
        target = f"{100 + number}.color"
        told = await lab.manage(
            "expose", workflow="many", parameter=f"colour{number}", target=target
        )
        assert "color" in told or "colour" in told
    job = await lab.generated("many")

    card = await edited(lab, job, {"steps": "12"})

    assert NOTED in await lab.said(card)


async def test_a_workflow_that_lets_nobody_set_anything_says_so(lab: Lab) -> None:
    await lab.ask(lab.alice, "generate", workflow="upscale", image=picture_file())
    (job,) = await lab.ended(lab.alice)

    told = await lab.pressed(lab.alice, job, "edit")

    assert told == "*Upscale* lets nobody set anything."
    assert "Edit" in words(await lab.ask(lab.alice, "history", job=job.short_id))
