"""Where a workflow may be used, how its pictures are posted, and how much a day allows."""

from pathlib import Path
from typing import Any

from simcord.backend import serializers

from bot.jobs import Job, JobState
from tests.fakes.comfyui import FakeComfyUI
from tests.simulated.lab import Lab, opened, until, words
from tests.simulated.test_results import hidden_pictures

ONLY_THERE = "postcard works only in age-restricted channels."
SMALL = {"width": 256, "height": 256}  # painted in no time


def restrict(lab: Lab, channel: Any = None, *, nsfw: bool = True) -> None:
    """Simcord knows no age restriction, so the bot alone is told of it."""
    backend = lab.env.backend
    payload = serializers.channel_payload(backend, (channel or lab.channel)._channel)
    backend.emit("CHANNEL_UPDATE", {**payload, "nsfw": nsfw})


def thread(lab: Lab) -> Any:
    lab.env.backend.create_thread(lab.channel.id, "a thread", lab.alice.id)
    return lab.channel.threads[-1]


def sidecar(lab: Lab, lines: str) -> None:
    """Written by hand, beside the postcard."""
    path = lab.folder / "workflows/postcard.yaml"
    path.write_text(f"{path.read_text()}{lines}\n")


async def adult(lab: Lab) -> None:
    await lab.manage("allow", workflow="postcard", age_restricted=True)


async def asked(lab: Lab, *, at: Any = None, **options: Any) -> str:
    """What a /generate of Alice's is answered with."""
    options = {"workflow": "postcard", "prompt": "a cat", **SMALL, **options}
    return words(await lab.ask(lab.alice, "generate", at=at, **options))


async def generated(lab: Lab, **options: Any) -> Job:
    return await lab.generated("postcard", **SMALL, **options)


# Workflows for age-restricted channels


async def test_an_adult_workflow_works_only_where_discord_restricts_by_age(lab: Lab) -> None:
    told = await lab.manage("allow", workflow="postcard", age_restricted=True)

    refused = await asked(lab)
    in_thread = await asked(lab, at=thread(lab))
    private = await asked(lab, private=True)
    direct = await lab.alice.user.slash("generate", workflow="postcard", prompt="a cat")
    restrict(lab)
    allowed = await asked(lab), await asked(lab, at=lab.channel.threads[0])
    jobs = await lab.ended(lab.alice, 2)

    assert told == "`postcard`: for everybody, everywhere, if it is age-restricted."
    assert [refused, in_thread, private, await lab.said(direct)] == [ONLY_THERE] * 4
    assert all(each.startswith("**postcard** for") for each in allowed)
    assert {each.state for each in jobs} == {JobState.POSTED}


async def test_the_sidecar_says_it_too_and_a_moderator_opens_it_again(lab: Lab) -> None:
    sidecar(lab, "nsfw: true")
    await lab.bot.library.refresh()
    refused = await asked(lab)

    told = await lab.manage("allow", workflow="postcard", age_restricted=False)

    assert refused == ONLY_THERE
    assert told == "`postcard`: for everybody, everywhere."
    assert "Queued" in await asked(lab)
    await lab.ended(lab.alice)


async def test_an_adult_workflow_is_neither_offered_nor_shown_elsewhere(lab: Lab) -> None:
    await adult(lab)
    shown = await lab.told(lab.alice, "workflows")
    detail = await lab.told(lab.alice, "workflows", workflow="postcard")
    offered = await lab.completed(lab.alice, "generate", "workflow", "post", prompt="x")

    restrict(lab)
    offered_there = await lab.completed(lab.alice, "generate", "workflow", "post", prompt="x")

    assert "postcard" not in shown
    assert detail == ONLY_THERE
    assert (offered, offered_there) == ([], ["postcard"])


async def test_an_adult_default_of_the_server_is_passed_over_elsewhere(lab: Lab) -> None:
    await lab.manage("default", workflow="postcard")
    await adult(lab)

    told = await lab.told(lab.alice, "generate", prompt="a cat", **SMALL)

    assert told.startswith("**txt2img** for")
    await lab.ended(lab.alice)


async def test_a_channel_that_is_open_to_all_by_now_makes_no_more(lab: Lab) -> None:
    restrict(lab)
    await adult(lab)
    job = await generated(lab)
    restrict(lab, nsfw=False)

    again = await lab.press(lab.alice, job, "again")
    modal = await lab.press(lab.alice, job, "edit")
    edited = await lab.submit(lab.alice, modal, {"text": "a fox"})

    assert await lab.said(again) == await lab.said(edited) == ONLY_THERE
    await lab.ended(lab.alice)


async def test_vary_and_send_take_no_adult_workflow_where_it_may_not_be_used(lab: Lab) -> None:
    job = await generated(lab)
    question = await lab.press(lab.alice, job, "vary")
    sending = await lab.press(lab.alice, job, "send")
    await lab.manage("allow", workflow="img2img", age_restricted=True)

    varied = await lab.press(lab.alice, job, "vary:weak", on=question.response)
    chosen = await lab.alice.select(sending.response, ["img2img"], custom_id=f"use:0:{job.id}")

    assert (await lab.said(varied)).startswith("No workflow here can vary a picture.")
    assert await lab.said(chosen) == "img2img works only in age-restricted channels."
    await lab.ended(lab.alice)


async def test_an_adult_result_is_not_shown_again_elsewhere(lab: Lab) -> None:
    restrict(lab)
    await adult(lab)
    job = await generated(lab)
    elsewhere = lab.guild.create_text_channel("children")

    await lab.ask(lab.alice, "history", at=elsewhere, job=job.short_id)

    assert [each for each in elsewhere.history() if each.attachments] == []


# Pictures that are posted hidden


async def test_pictures_of_a_described_workflow_are_posted_and_shown_again_hidden(
    lab: Lab,
) -> None:
    told = await lab.manage("describe", workflow="postcard", spoiler=True)
    job = await generated(lab, batch=2)
    again = await lab.ask(lab.alice, "history", job=job.short_id)
    await until(lambda: again.attachments)

    assert told == "`postcard` is described."
    assert hidden_pictures(lab.message(job)) == [True, True]
    assert hidden_pictures(again.message) == [True, True]


async def test_the_owner_uncovers_a_hidden_picture_and_a_moderator_ends_the_hiding(
    lab: Lab,
) -> None:
    sidecar(lab, "spoiler: true")
    await lab.bot.library.refresh()
    hidden = await generated(lab)
    before = hidden_pictures(lab.message(hidden))

    await lab.press(lab.alice, hidden, "spoiler")
    await until(lambda: hidden_pictures(lab.message(hidden)) == [False])
    await lab.manage("describe", workflow="postcard", spoiler=False)
    shown = await generated(lab)

    assert before == [True]
    assert hidden_pictures(lab.message(shown)) == [False]


async def test_a_parameter_and_the_pictures_can_be_described_at_once(lab: Lab) -> None:
    await lab.manage(
        "describe", workflow="postcard", parameter="seed", description="x", spoiler=True
    )

    assert lab.bot.library.workflows["postcard"].sidecar.spoiler


# What a day allows


async def test_the_pictures_of_a_day_are_counted_and_what_is_left_is_told(
    tmp_path: Path, comfyui: FakeComfyUI
) -> None:
    async with opened(tmp_path, comfyui.url, limits={"jobs_per_day": 3}) as lab:
        job = await generated(lab)
        several = await asked(lab, prompt="{1|2|3}")
        question = await lab.ask(lab.alice, "generate", workflow="postcard", prompt="{1|2}")
        await asked(lab)
        await lab.ended(lab.alice, 2)
        (row,) = question.components[0]["components"][-1]["components"]
        at_click = await lab.said(await lab.alice.click(question, custom_id=row["custom_id"]))
        await asked(lab)
        await lab.ended(lab.alice, 3)
        over = await asked(lab)
        again = await lab.pressed(lab.alice, job, "again")
        of_others = await lab.told(lab.bob, "generate", workflow="postcard", **SMALL)
        await lab.ended(lab.bob)

    told = "You may ask for 3 pictures in 24 hours, and {} of them are left. Try again later."
    assert [several, at_click, over, again] == [told.format(left) for left in (2, 1, 0, 0)]
    assert "Queued" in of_others


async def test_what_failed_is_not_counted_and_gpu_time_runs_out(
    tmp_path: Path, comfyui: FakeComfyUI
) -> None:
    limits = {"jobs_per_day": 2, "gpu_seconds_per_day": 60}
    async with opened(tmp_path, comfyui.url, limits=limits) as lab:
        comfyui.fail()
        failed = await generated(lab)
        job = await generated(lab)
        long = Job(request=job.request, state=job.state, seconds=60.0, told=True)
        assert await lab.bot.store.save(job, long)

        told = await asked(lab)

    assert (failed.state, job.state) == (JobState.FAILED, JobState.POSTED)
    assert told == (
        "You may use 60 seconds of GPU time in 24 hours, and 0 of them are left. Try again later."
    )


async def test_a_channel_that_is_opened_to_all_ages_meanwhile_gets_no_adult_result(
    lab: Lab, comfyui: FakeComfyUI
) -> None:
    await adult(lab)
    restrict(lab)
    comfyui.hold()
    await asked(lab)
    await comfyui.held.wait()
    restrict(lab, nsfw=False)
    comfyui.finish()

    (job,) = await lab.ended(lab.alice)

    assert job.state is JobState.FAILED
    assert str(job.note) == f"{ONLY_THERE} `/history` shows the result."
    assert not lab.message(job).attachments
