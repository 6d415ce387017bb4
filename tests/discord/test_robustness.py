"""Worse days than those of `test_faults`: what once ended the runner or lost a result."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from aiohttp import web

from bot import execution, runner
from bot.config import ServerSettings
from bot.delivery import Delivery
from bot.errors import StoreError
from bot.jobs import Job, JobState
from bot.store import Store
from bot.tables import jobs
from comfy.standin import Pace
from tests.discord.conftest import World, text_of
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.discord import Fault, Interaction

GETS = ("GET", "/channels/*/messages")
POSTS = ("POST", "/channels/*/messages")
PATCHES = ("PATCH", "/channels/*/messages/*")
ANSWERS = ("POST", "/interactions/*")
EVER = 10**6
AUTOMOD = {"code": 200000, "message": "Message was blocked by automatic moderation"}
NO_DMS = {"code": 50007, "message": "Cannot send messages to this user"}
NO_ACCESS = {"code": 50001, "message": "Missing Access"}
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No progress is shown, so the first edit of a placeholder is its end."""
    monkeypatch.setattr(Delivery, "show_progress", lambda *_: None)


@contextmanager
def answering(world: World, wrong: Callable[[web.Request], int | None]) -> Iterator[None]:
    """ComfyUI answers with the status that *wrong* gives, and truly where that is None."""
    true = world.comfyui.answer

    async def answer(request: web.Request, handler: object) -> web.StreamResponse:
        status = wrong(request)
        return web.Response(status=status) if status else await true(request, handler)

    world.comfyui.answer = answer
    try:
        yield
    finally:
        world.comfyui.answer = true


async def newest(world: World) -> Job:
    """Alice's newest job, once nothing more is to be done for it."""
    await world.commands_end()
    async with asyncio.timeout(20):
        while True:
            (job,) = await world.bot.store.recent(world.alice.id, 1)
            if not job.open:
                return job
            await asyncio.gather(*world.bot.runner._following.values())


def prompts(comfyui: FakeComfyUI) -> int:
    """How many were sent."""
    return comfyui.requests.count(("POST", "/prompt"))


def shown(world: World) -> list[dict]:
    return world.discord.messages[world.channel.id]


def is_look(request: web.Request) -> bool:
    return request.method == "GET" and request.path.startswith(("/queue", "/history"))


def many_cards(world: World) -> None:
    path = world.folder / "workflows/postcard.yaml"
    path.write_text(path.read_text().replace("max: 4", "max: 30"))
    world.comfyui.picture = PNG


# Whether Discord has shown the answer


async def unclear_row(world: World) -> Interaction:
    """A row as a crash between Discord's answer and our note of it leaves it; no bot runs."""
    world.comfyui.stop_answering()
    await world.start(up=False)
    interaction = await world.generate()
    await world.pending()
    await world.bot.store._write(sa.update(jobs).values(message_id=None))
    await world.stop()
    world.comfyui.answer_again()
    return interaction


async def test_discord_resets_while_a_placeholder_is_looked_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_IDLE", 0.1)
    first = await unclear_row(world)
    world.discord.faults.append(Fault(*GETS, reset=True, times=EVER))
    await world.start()
    await world.discord.until(lambda: sum(r.method == "GET" for r in world.discord.requests) > 2)

    second = await world.generate(prompt="another")
    await world.posted(second)
    assert not world.files(first)
    world.discord.faults.clear()

    await world.posted(first)
    assert len(world.comfyui.executed) == len(shown(world)) == 2


async def test_discord_forbids_to_look_for_a_placeholder(world: World) -> None:
    first = await unclear_row(world)
    world.discord.faults.append(Fault(*GETS, status=403, json=NO_ACCESS))
    await world.start()

    await world.posted(await world.generate(prompt="another"))

    assert await world.bot.store.unacknowledged() == []
    assert not world.files(first)
    assert len(world.comfyui.executed) == 1


@pytest.mark.parametrize("kind", ["reset", "disconnect", "502"])
async def test_the_answer_to_a_command_arrives_and_its_receipt_does_not(
    world: World, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(runner, "_IDLE", 0.1)
    monkeypatch.setattr(runner, "_UNANSWERED", 0.3)
    if kind == "disconnect":
        monkeypatch.setattr("tests.fakes.discord_rest.cut", lambda r: r.transport.close())
    await world.start()
    world.discord.faults.append(Fault(*ANSWERS, status=502, reset=kind != "502", after_commit=True))

    interaction = await world.generate()

    await world.posted(interaction)
    assert (await newest(world)).state is JobState.POSTED
    assert len(world.comfyui.executed) == len(shown(world)) == 1


async def test_an_answer_that_never_arrives_leaves_no_job(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_IDLE", 0.1)
    monkeypatch.setattr(runner, "_UNANSWERED", 0.3)
    await world.start()
    world.discord.faults.append(Fault(*ANSWERS, reset=True))

    world.discord.slash(world.alice, world.channel, "generate", workflow="postcard", prompt="hi")

    await world.discord.until(
        lambda: any(r.method == "GET" and "messages" in r.path for r in world.discord.requests)
    )
    await world.posted(await world.generate())
    assert len(await world.bot.store.recent(world.alice.id, 5)) == 1
    assert len(world.comfyui.executed) == 1


# What ComfyUI answers


async def test_a_prompt_that_the_server_breaks_on_fails_after_three_attempts(world: World) -> None:
    await world.start()
    with answering(world, lambda r: 500 if r.path == "/prompt" else None):
        interaction = await world.generate()
        await world.told(interaction, "It did not work.")

    assert prompts(world.comfyui) == 3
    assert (await newest(world)).state is JobState.FAILED
    assert not world.bot.servers["local"].holding
    await world.posted(await world.generate())


async def test_looks_that_fail_are_no_reason_to_send_a_prompt_again(world: World) -> None:
    left, succeeded = 5, asyncio.Event()

    def wrong(request: web.Request) -> int | None:
        nonlocal left
        if not is_look(request):
            return None
        if left:
            left -= 1
            return 502
        succeeded.set()
        return None

    world.comfyui.lose_answer()
    world.comfyui.hold()
    await world.start()
    with answering(world, wrong):
        interaction = await world.generate()
        await asyncio.wait_for(succeeded.wait(), 20)
        world.comfyui.finish()
        await world.posted(interaction)

    await newest(world)
    assert prompts(world.comfyui) == len(world.comfyui.executed) == 1


async def test_a_job_is_cancelled_while_nobody_can_say_whether_its_prompt_arrived(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "_STOP_DELAYS", (0,))
    looked = asyncio.Event()

    def wrong(request: web.Request) -> int | None:
        if is_look(request):
            looked.set()
            return 502
        return None

    world.comfyui.lose_answer()
    world.comfyui.hold()
    await world.start()
    with answering(world, wrong):
        interaction = await world.generate()
        await asyncio.wait_for(looked.wait(), 20)
        await world.comfyui.close()
        (job,) = await world.bot.store.recent(world.alice.id, 1)

        world.discord.click(world.alice, interaction.message, f"job:{job.id}:cancel")

        await world.told(interaction, "Cancelled.")
        assert (await newest(world)).state is JobState.CANCELLED
    assert not world.bot.servers["local"].holding


async def test_a_waiting_prompt_that_somebody_deletes_runs_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "_SILENCE", 0.1)
    world.comfyui.hold()
    await world.start()
    first = await world.generate()
    await asyncio.wait_for(world.comfyui.held.wait(), 20)
    second = await world.generate(prompt="another")

    async def chatter() -> None:  # of other programs at the same ComfyUI
        while True:
            world.comfyui.send_status()
            await asyncio.sleep(0.02)

    chat = asyncio.create_task(chatter())
    await world.commands_end()
    async with asyncio.timeout(20):
        while not (waiting := world.comfyui.queue.pending()):
            await world.bot.store.pending(1)
    world.comfyui.queue.delete(waiting[0].prompt_id)
    world.comfyui.finish()

    await world.posted(first)
    await world.posted(second)
    chat.cancel()
    assert (await newest(world)).attempt == 2
    assert len(world.comfyui.executed) == 2


@pytest.mark.parametrize("state", ["submitting", "queued", "executed", "posted"])
async def test_a_database_error_delays_a_job_and_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    save, claim, left = Store.save, Store.claim, 2

    def work(on: str) -> None:
        nonlocal left
        if on == state and left:
            left -= 1
            raise StoreError("The database does not work now: disk is full.")

    async def saved(self: Store, before: Job, after: Job) -> bool:
        work(after.state)
        return await save(self, before, after)

    async def claimed(self: Store, *what: Any) -> Job | None:
        work("submitting")
        return await claim(self, *what)

    monkeypatch.setattr(Store, "save", saved)
    monkeypatch.setattr(Store, "claim", claimed)
    await world.start()

    interaction = await world.generate()

    await world.posted(interaction)
    assert (await newest(world)).state is JobState.POSTED
    assert not left
    assert prompts(world.comfyui) == len(world.comfyui.executed) == len(shown(world)) == 1


async def test_an_empty_picture_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.spool._PATIENCE", (0.01, 0.01))
    monkeypatch.setattr(world.comfyui, "paint", lambda *_: b"")
    await world.start()

    interaction = await world.generate()

    await world.told(interaction, "It did not work.")
    assert (await newest(world)).state is JobState.FAILED
    assert world.comfyui.requests.count(("GET", "/view")) == 3


async def test_one_lost_picture_of_twelve_costs_one(world: World) -> None:
    many_cards(world)
    views = 0

    def wrong(request: web.Request) -> int | None:
        nonlocal views
        views += request.path == "/view"
        return 404 if request.path == "/view" and views == 12 else None

    await world.start(limits={"pixels": 10**9})
    with answering(world, wrong):
        interaction = await world.generate(batch=12, width=256, height=256)
        job = await newest(world)

    assert job.state is JobState.POSTED
    first, second = shown(world)
    assert len(world.discord.files_of(first)) == 10
    assert len(world.discord.files_of(second)) == 1
    assert text_of(interaction.message).count("is no longer on the server") == 1
    sent = [len(r.files) for r in world.discord.requests if r.files]
    assert sent == [10, 1]
    assert "It did not work" not in text_of(first) + text_of(second)


# What Discord does not take


async def test_a_later_part_that_is_refused_leaves_the_first(world: World) -> None:
    many_cards(world)
    world.discord.faults.append(Fault(*POSTS, status=403, json=NO_ACCESS, times=EVER))
    await world.start(limits={"pixels": 10**9})

    interaction = await world.generate(batch=12, width=256, height=256)

    assert (await newest(world)).state is JobState.POSTED
    assert len(world.files(interaction)) == 10


@pytest.mark.usefixtures("quiet")
async def test_automod_dislikes_the_prompt(world: World) -> None:
    world.discord.faults.append(Fault(*PATCHES, status=400, json=AUTOMOD))
    await world.start()

    interaction = await world.generate()

    assert len(await world.posted(interaction)) == 1
    assert "a cat in the snow" not in text_of(interaction.message)
    assert (await newest(world)).state is JobState.POSTED


@pytest.mark.usefixtures("quiet")
async def test_a_result_that_discord_refuses_is_told_as_a_failure(world: World) -> None:
    world.discord.faults.append(Fault(*PATCHES, status=400, json=AUTOMOD, times=2))
    await world.start()

    interaction = await world.generate()

    assert "automatic moderation" in await world.told(interaction, "It did not work.")
    assert (await newest(world)).state is JobState.FAILED


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(("status", "why"), [(400, AUTOMOD), (403, NO_DMS)])
async def test_a_refused_end_ends_the_job_after_few_requests(
    world: World, status: int, why: dict
) -> None:
    world.discord.faults.append(Fault(*PATCHES, status=status, json=why, times=EVER))
    await world.start()

    await world.generate()

    assert (await newest(world)).state is JobState.FAILED
    assert sum(r.method == "PATCH" for r in world.discord.requests) <= 4
    assert not world.bot.runner._following


async def test_four_large_pictures_come_in_two_messages(world: World) -> None:
    world.comfyui.picture = PNG + bytes(7 * 2**20)
    await world.start()

    await world.generate(batch=4, width=256, height=256)

    assert (await newest(world)).state is JobState.POSTED
    assert [len(world.discord.files_of(each)) for each in shown(world)] == [3, 1]
    assert "too large" not in "".join(map(text_of, shown(world)))


# Several servers, several bots


async def test_jobs_go_where_their_model_is(world: World) -> None:
    async with FakeComfyUI(pace=Pace(0, 0), models={"checkpoints": ["other.safetensors"]}) as poor:
        rich = world.comfyui
        rich.hold()
        await world.start(
            servers=(
                ServerSettings(name="poor", url=poor.url),
                ServerSettings(name="rich", url=rich.url),
            ),
            limits={"jobs_per_user": 10},
        )
        asked = [await world.generate(workflow="txt2img") for _ in range(3)]
        chosen = await world.generate(workflow="txt2img", model="dreamshaper_8.safetensors")
        rich.finish()
        for each in (*asked, chosen):
            await world.posted(each)
        assert (len(rich.executed), prompts(poor)) == (4, 0)

        await world.posted(await world.generate(workflow="txt2img", model="other.safetensors"))
        assert (len(rich.executed), prompts(poor)) == (4, 1)
        await world.stop()


async def test_two_bots_on_one_database_run_each_job_once(world: World) -> None:
    world.comfyui.stop_answering()
    await world.start(up=False)
    asked = [await world.generate(prompt=f"cat {number}") for number in range(3)]
    await world.commands_end()
    await world.start(up=False)
    world.comfyui.answer_again()

    for each in asked:
        await world.posted(each)

    for bot, _ in world.bots:
        await asyncio.gather(*bot.runner._following.values())
    assert prompts(world.comfyui) == len(world.comfyui.executed) == len(shown(world)) == 3


async def test_a_job_that_another_bot_claims_first_is_left_to_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, lost = Store.claim, []

    async def faster(self: Store, job_id: str, *where: Any) -> Job | None:
        if not lost:
            lost.append(job_id)
            return None
        return await claim(self, job_id, *where)

    monkeypatch.setattr(runner, "_IDLE", 0.1)
    monkeypatch.setattr(Store, "claim", faster)
    await world.start()

    interaction = await world.generate()

    await world.posted(interaction)
    assert lost
    assert prompts(world.comfyui) == len(world.comfyui.executed) == 1


async def test_a_result_whose_server_is_no_longer_set_up_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patient:
        patient.setattr(runner, "_PATIENCE", (60, 60))
        patient.setattr(Delivery, "show_progress", lambda *_: None)
        world.discord.faults.append(Fault(*PATCHES, reset=True))
        await world.start()
        interaction = await world.generate()
        await world.discord.until(lambda: any(r.files for r in world.discord.requests))
        await world.stop()

    await world.start(servers=(ServerSettings(name="renamed", url=world.comfyui.url),))

    assert "no longer set up" in await world.told(interaction, "It did not work.")
    assert (await newest(world)).state is JobState.FAILED


# Long answers, and many at once


async def test_workflows_answers_however_many_files_are_broken(world: World) -> None:
    for number in range(40):
        name = f"an export of the editor that is not for the API {number:02}.json"
        (world.folder / "workflows" / name).write_text('{"nodes": [], "links": []}')
    await world.start()

    asked = await world.discord.slash(world.mod, world.channel, "workflows").answered()

    text = text_of(asked.message)
    assert "postcard" in text
    assert "is in the editor's format" in text
    assert "32 more" in text
    assert len(text) <= 4000


async def test_status_answers_however_long_failures_are(world: World) -> None:
    await world.start()
    await world.posted(await world.generate())
    job = await newest(world)
    for number in range(10):
        await world.bot.store.add(replace(job.request, id=str(uuid4()), interaction_id=number))
    failed = {
        "state": "failed",
        "note": json.dumps("It broke. " * 100),
        "message_id": 1,
        "told": True,
    }
    await world.bot.store._write(
        sa.update(jobs).where(jobs.c.message_id.is_(None)).values(**failed)
    )

    asked = await world.discord.slash(world.alice, world.channel, "status").answered()

    text = text_of(asked.message)
    assert "It broke." in text
    assert len(text) <= 4000


async def test_a_setting_with_an_endless_name_is_answered(world: World) -> None:
    await world.start()

    asked = await world.generate(settings="a" * 2500 + "=1")

    assert "has no" in text_of(asked.message)
    assert await world.bot.store.recent(world.alice.id, 1) == []


async def test_ten_commands_at_once_open_no_more_jobs_than_allowed(world: World) -> None:
    world.comfyui.hold()
    await world.start(limits={"jobs_per_user": 1})
    options = {"workflow": "postcard", "prompt": "a cat"}

    asked = [
        world.discord.slash(world.alice, world.channel, "generate", **options) for _ in range(10)
    ]
    for each in asked:
        await each.answered()

    await world.commands_end()
    usage = await world.bot.store.usage(world.alice.id, datetime.now(UTC))
    assert usage.mine == 1
    assert sum("1 is the most" in text_of(each.message) for each in asked) == 9


async def test_no_view_is_kept_for_what_was_answered(world: World) -> None:
    await world.start()
    await world.posted(await world.generate())
    world.comfyui.fail()
    await world.told(await world.generate(), "It did not work.")
    for command in ("workflows", "status"):
        await world.discord.slash(world.alice, world.channel, command).answered()

    await newest(world)
    await world.commands_end()
    kept = world.bot._connection._view_store
    assert kept._views == {}
    assert kept._synced_message_views == {}


@pytest.mark.usefixtures("quiet")
async def test_an_archived_thread_gets_one_new_message(world: World) -> None:
    archived = {"code": 50083, "message": "Thread is archived"}
    world.discord.faults.append(Fault(*PATCHES, status=400, json=archived, times=EVER))
    await world.start()

    await world.generate()

    assert (await newest(world)).state is JobState.POSTED
    assert [len(world.discord.files_of(each)) for each in shown(world)] == [0, 1]
