"""/privacy: what is kept of a person, to take away and to delete."""

import asyncio
import io
import json
from typing import Any

from PIL import Image

from bot.jobs import JobState as S
from tests.fakes.comfyui import FakeComfyUI
from tests.simulated.lab import Lab, json_file, picture_file, txt2img, until, words


async def made(lab: Lab, who: Any, prompt: str, **options: Any) -> None:
    before = len(await lab.bot.store.recent(who.id, 50))
    await lab.ask(who, "generate", prompt=prompt, **{"workflow": "postcard", **options})
    await lab.ended(who, before + 1)


async def exported(lab: Lab, who: Any) -> Any:
    answer = await lab.ask(who, "privacy export")
    assert answer.ephemeral
    (file,) = answer.attachments
    return json.loads(await file.read())


async def deleted(lab: Lab, who: Any) -> str:
    question = await lab.ask(who, "privacy delete")
    assert question.ephemeral
    button = f"privacy:{who.id}:delete"
    await who.click(question, custom_id=button)
    await until(lambda: words(question).startswith("Deleted"))
    return words(question)


def kept_files(lab: Lab) -> set[str]:
    folder = lab.bot.config.uploads
    return {each.name for each in folder.iterdir()} if folder.exists() else set()


async def test_the_export_holds_ones_own_rows_and_nobody_elses(lab: Lab) -> None:
    await made(lab, lab.alice, "mine")
    await made(lab, lab.bob, "theirs")

    (row,) = await exported(lab, lab.alice)

    assert (row["user_id"], row["text"], row["state"]) == (lab.alice.id, "mine", "posted")
    assert "theirs" not in json.dumps(row)


async def test_who_made_nothing_gets_an_empty_export(lab: Lab) -> None:
    await made(lab, lab.bob, "theirs")

    assert await exported(lab, lab.alice) == []


async def test_the_export_hides_what_is_named_like_a_secret(lab: Lab) -> None:
    graph = txt2img()
    graph["1"]["inputs"]["api_key"] = "sk-planted"
    await lab.manage("add", file=json_file(graph, "secret.json"))
    await made(lab, lab.alice, "mine", workflow="secret")

    assert "sk-planted" not in json.dumps(await exported(lab, lab.alice))


async def test_deleting_removes_ones_own_rows_and_leaves_other_peoples(lab: Lab) -> None:
    await made(lab, lab.alice, "mine")
    await made(lab, lab.alice, "mine too")
    await made(lab, lab.bob, "theirs")

    told = await deleted(lab, lab.alice)

    assert told.startswith("Deleted: 2 requests.")
    assert await lab.bot.store.everything_of(lab.alice.id) == []
    assert len(await lab.bot.store.everything_of(lab.bob.id)) == 1


async def test_nothing_is_deleted_before_the_button(lab: Lab) -> None:
    await made(lab, lab.alice, "mine")

    await lab.ask(lab.alice, "privacy delete")

    assert len(await lab.bot.store.everything_of(lab.alice.id)) == 1


async def test_files_go_that_nobody_else_uses(lab: Lab) -> None:
    shared, own = picture_file(), ("mine.png", another_picture())
    await made(lab, lab.alice, "mine", workflow="img2img", image=shared)
    await made(lab, lab.alice, "mine", workflow="img2img", image=own)
    await made(lab, lab.bob, "theirs", workflow="img2img", image=shared)
    before = kept_files(lab)
    (job,) = await lab.ended(lab.bob)

    await deleted(lab, lab.alice)

    assert len(before) == 2
    assert kept_files(lab) == set(job.request.uploads.values())


def another_picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (9, 9), "red").save(file, "PNG")
    return file.getvalue()


async def test_what_waits_and_runs_is_cancelled(lab: Lab, comfyui: FakeComfyUI) -> None:
    comfyui.hold()
    asked = {"workflow": "postcard", "prompt": "mine"}
    answers = [await lab.ask(lab.alice, "generate", **asked) for _ in range(3)]
    await until(comfyui.held.is_set)
    await running(lab)

    await deleted(lab, lab.alice)

    await until(lambda: sum("Cancelled." in words(each) for each in answers) == 3)
    assert await lab.bot.store.everything_of(lab.alice.id) == []
    await until(lambda: not comfyui.held.is_set())


async def running(lab: Lab) -> None:
    """Until Alice's first job is known to run, and the others are on their way."""
    async with asyncio.timeout(20):
        while True:
            jobs = await lab.bot.store.recent(lab.alice.id, 3)
            if [each.state for each in jobs] == [S.PENDING, S.QUEUED, S.RUNNING]:
                return
            await asyncio.sleep(0.02)


async def test_drafts_go_too(lab: Lab) -> None:
    await made(lab, lab.alice, "mine", workflow="txt2img")
    (job,) = await lab.ended(lab.alice)
    modal = await lab.press(lab.alice, job, "edit")
    await lab.submit(lab.alice, modal, {"steps": "12"})
    assert await lab.bot.store.draft(job.id, lab.alice.id)

    await deleted(lab, lab.alice)

    assert await lab.bot.store.draft(job.id, lab.alice.id) is None


async def test_a_token_goes_when_its_answer_is_told(lab: Lab) -> None:
    await lab.alice.slash(
        lab.channel, "generate", workflow="postcard", prompt="a secret", private=True
    )
    (job,) = await lab.ended(lab.alice)

    await until(lambda: not lab.bot.runner._following)

    assert await lab.bot.store.token(job.id) is None


async def test_the_export_holds_what_a_moderator_did(lab: Lab) -> None:
    await lab.manage("disable", workflow="postcard")

    assert "disable" in json.dumps(await exported(lab, lab.mod))


async def test_the_button_deletes_the_rows_of_whoever_presses_it(lab: Lab) -> None:
    await made(lab, lab.alice, "mine")
    await made(lab, lab.bob, "theirs")
    question = await lab.ask(lab.bob, "privacy delete")
    stored = lab.env.backend.get_message(lab.channel.id, question.id)
    forged = json.dumps(stored.components).replace(str(lab.bob.id), str(lab.alice.id))
    stored.components = json.loads(forged)

    await lab.bob.click(question, custom_id=f"privacy:{lab.alice.id}:delete")
    await until(lambda: words(question).startswith("Deleted"))

    assert len(await lab.bot.store.everything_of(lab.alice.id)) == 1
    assert await lab.bot.store.everything_of(lab.bob.id) == []
