"""Several jobs of one request: their number is told first, and a click runs them."""

import json
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from bot.jobs import Job
from tests.fakes.comfyui import FakeComfyUI
from tests.simulated.lab import Lab, filled_in, opened, picture_file, until, words
from tests.simulated.test_results import pixels, taken

SMALL = {"width": 256, "height": 256}  # painted in no time
OVER = "These jobs were run already, or are no longer kept."


async def asked(
    lab: Lab, prompt: str, workflow: str = "postcard", *, who: Any = None, **options: Any
) -> Any:
    """What a /generate, of Alice's if nobody else is named, is answered with."""
    size = SMALL if workflow == "postcard" else {}
    options = {"workflow": workflow, "prompt": prompt, **size, **options}
    return await lab.ask(who or lab.alice, "generate", **options)


def without_comfyui(folder: Path) -> AbstractAsyncContextManager[Lab]:
    """Where one person may have many jobs."""
    return opened(folder, "http://127.0.0.1:9", up=False, limits={"jobs_per_user": 500})


def run_button(question: Any) -> str:
    (container,) = question.components
    (button,) = container["components"][-1]["components"]
    return str(button["custom_id"])


async def run(lab: Lab, question: Any, who: Any = None) -> Any:
    return await (who or lab.alice).click(question, custom_id=run_button(question))


async def ran(lab: Lab, question: Any, number: int) -> list[Job]:
    """The jobs that a click made, in the order in which they were asked for."""
    result = await run(lab, question)
    assert words(result.response), await lab.said(result)
    return (await lab.ended(lab.alice, number))[::-1]


def prompts(jobs: list[Job]) -> list[str]:
    return [each.request.text for each in jobs]


async def busy(lab: Lab, comfyui: FakeComfyUI, jobs: int) -> None:
    """So many other jobs of Alice's wait and run."""
    comfyui.hold()
    for _ in range(jobs):
        await asked(lab, "before")


async def test_choices_are_a_question_that_only_the_person_sees(lab: Lab) -> None:
    question = await asked(lab, "a {red|blue} *cat*")

    assert words(question) == "This makes 2 jobs:\n> a red \\*cat\\*\n> a blue \\*cat\\*\nRun all 2"
    assert question.ephemeral
    assert not await lab.bot.store.recent(lab.alice.id, 1)


async def test_a_batch_is_a_question_only_where_the_workflow_makes_one_picture(lab: Lab) -> None:
    question = await asked(lab, "a cat", "img2img", batch=3)
    made = await ran(lab, question, 3)
    several = await asked(lab, "a cat", batch=2)
    together, *_ = await lab.ended(lab.alice, 4)

    assert words(question) == "This makes 3 jobs:\n> a cat\nRun all 3"
    assert prompts(made) == ["a cat"] * 3
    assert len({each.request.settings["seed"] for each in made}) == 3
    assert "Queued" in words(several) or several.attachments
    assert len(lab.message(together).attachments) == 2


async def test_of_many_prompts_the_first_are_shown(tmp_path: Path) -> None:
    async with without_comfyui(tmp_path) as lab:
        question = await asked(lab, "{1|2|3|4|5|6|7|8|9|10}")

    shown = words(question).splitlines()
    assert shown[0] == "This makes 10 jobs:"
    assert shown[1:9] == [f"> {number}" for number in range(1, 9)]
    assert shown[9:] == ["and 2 more", "Run all 10"]


async def test_run_makes_the_jobs_in_order_each_with_a_message_of_its_own(
    lab: Lab, comfyui: FakeComfyUI
) -> None:
    comfyui.hold()
    question = await asked(lab, "{a|b} {1|2}")
    await run(lab, question)
    await until(lambda: len(lab.channel.history()) == 4)
    waiting = [words(each) for each in lab.channel.history()]
    comfyui.finish()
    made = (await lab.ended(lab.alice, 4))[::-1]

    assert [text.splitlines()[1] for text in waiting] == ["> a 1", "> a 2", "> b 1", "> b 2"]
    assert all("Cancel" in text for text in waiting)
    assert prompts(made) == ["a 1", "a 2", "b 1", "b 2"]
    assert [each.message_id for each in made] == [each.id for each in lab.channel.history()]
    assert all(len(lab.message(each).attachments) == 1 for each in made)
    assert len({each.request.settings["seed"] for each in made}) == 4


async def test_what_cannot_be_run_is_refused_before_the_question(lab: Lab) -> None:
    too_many = words(await asked(lab, "{1|2|3|4|5|6}"))
    empty = words(await asked(lab, "{a| }"))

    assert too_many == "This makes 6 jobs, and you may have 5 more waiting or running."
    assert empty == "The prompt is empty. Say what the picture should show."


async def test_limits_are_told_again_at_the_click_and_the_question_stays(
    lab: Lab, comfyui: FakeComfyUI
) -> None:
    question = await asked(lab, "{a|b|c}")
    await busy(lab, comfyui, 3)

    told = await lab.said(await run(lab, question))
    before = await lab.bot.store.recent(lab.alice.id, 9)
    comfyui.finish()
    await lab.ended(lab.alice, 3)
    made = await ran(lab, question, 6)

    assert told == "This makes 3 jobs, and you may have 2 more waiting or running."
    assert prompts(before) == ["before"] * 3
    assert prompts(made)[3:] == ["a", "b", "c"]


async def test_a_second_click_runs_nothing_and_a_seed_is_the_seed_of_each(lab: Lab) -> None:
    question = await asked(lab, "{a|b}", seed="5")
    made = await ran(lab, question, 2)

    result = await run(lab, question)

    assert [each.request.settings["seed"] for each in made] == [5, 5]
    assert await lab.said(result) == OVER
    assert result.response.ephemeral
    await lab.ended(lab.alice, 2)


async def test_a_stranger_cannot_run_them(lab: Lab) -> None:
    question = await asked(lab, "{a|b}")
    own = await asked(lab, "{x|y}", who=lab.bob)
    stored = lab.env.backend.get_message(lab.channel.id, own.id)
    forged = json.dumps(stored.components).replace(run_button(own), run_button(question))
    stored.components = json.loads(forged)

    result = await run(lab, own, lab.bob)

    assert await lab.said(result) == OVER
    assert not await lab.bot.store.recent(lab.bob.id, 1)
    assert prompts(await ran(lab, question, 2)) == ["a", "b"]


async def test_what_was_asked_for_privately_stays_private(lab: Lab) -> None:
    question = await asked(lab, "{a|b} secret", private=True)

    result = await run(lab, question)
    await lab.ended(lab.alice, 2)
    await until(lambda: all(each.attachments for each in (result.response, *result.followups)))

    answers = [result.response, *result.followups]
    assert [words(each).splitlines()[1] for each in answers] == ["> a secret", "> b secret"]
    assert all(each.ephemeral for each in answers)
    assert not lab.channel.history()


async def test_an_attached_picture_is_the_beginning_of_each(lab: Lab, comfyui: FakeComfyUI) -> None:
    name, data = picture_file()
    question = await asked(lab, "{a|b}", "img2img", image=(name, data))
    assert question.ephemeral

    made = await ran(lab, question, 2)

    assert prompts(made) == ["a", "b"]
    assert {pixels(taken(comfyui, each)) for each in made} == {pixels(data)}


async def test_braces_behind_backslashes_are_letters_of_one_job_and_of_its_edit(lab: Lab) -> None:
    told = words(await asked(lab, r"a \{red|blue\} cat"))
    (job,) = await lab.ended(lab.alice)
    modal = await lab.press(lab.alice, job, "edit")
    shown = filled_in(modal)["text"]
    await lab.submit(lab.alice, modal, {"seed": "5"})
    after, _ = await lab.ended(lab.alice, 2)

    assert "> a {red\\|blue} cat" in told
    assert shown == "a {red|blue} cat"
    assert (job.request.text, after.request.text) == ("a {red|blue} cat", "a {red|blue} cat")


async def test_braces_in_an_edit_are_letters(lab: Lab) -> None:
    job = await lab.generated("postcard", **SMALL)

    modal = await lab.press(lab.alice, job, "edit")
    await lab.submit(lab.alice, modal, {"text": "a {fox|owl}"})
    after, _ = await lab.ended(lab.alice, 2)

    assert after.request.text == "a {fox|owl}"


async def test_again_of_one_of_them_is_one_job_though_it_still_holds_braces(lab: Lab) -> None:
    *_, job = await ran(lab, await asked(lab, "{a|{b|c}}"), 2)

    told = await lab.pressed(lab.alice, job, "again")
    newest, *_ = await lab.ended(lab.alice, 3)

    assert f"again of {job.short_id}" in told
    assert newest.request.text == job.request.text == "{a|c}"


async def test_what_could_not_run_is_kept_for_another_click(lab: Lab) -> None:
    question = await asked(lab, "{a|b}")
    await lab.manage("disable", workflow="postcard")
    told = await lab.said(await run(lab, question))
    await lab.manage("enable", workflow="postcard")

    after = await lab.said(await run(lab, question))

    assert told == "postcard is switched off. A moderator can switch it on again."
    assert after.startswith("**postcard** for ")


async def test_more_jobs_than_any_request_may_make_are_refused(tmp_path: Path) -> None:
    numbers = "{1|2|3|4|5|6|7|8|9|10|11}"
    async with without_comfyui(tmp_path) as lab:
        answer = await asked(lab, numbers * 2)

    assert "100" in words(answer)
