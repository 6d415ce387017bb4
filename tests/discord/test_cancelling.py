"""A job is cancelled wherever it is, on both generations of ComfyUI, and nothing else is.

The server is shared: somebody else's prompts run and wait on it, before ours and behind it.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from bot.jobs import Job, JobState
from comfy.standin import Pace
from tests.discord.conftest import World, text_of
from tests.fakes.discord import Interaction, User
from tests.fakes.hearing import HearingComfyUI

OLD, NEW = "0.3.64", "0.28.0"
PROMPT, QUEUE, INTERRUPT = ("POST", "/prompt"), ("POST", "/queue"), ("POST", "/interrupt")
HISTORY, VIEW = ("GET", "/history/*"), ("GET", "/view")
TOO_LATE = "It is too late to cancel this job."
NOT_YOURS = "Only the person who asked for it, or a moderator, can cancel it."


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class Barrier:
    """Requests wait here until it is opened: before they have their effect, or behind it."""

    method: str
    path: str
    behind: bool
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    def matches(self, asked: tuple[str, str], *, behind: bool) -> bool:
        same = self.method == asked[0] and fnmatchcase(asked[1], self.path)
        return same and self.behind == behind

    async def wait(self) -> None:
        self.reached.set()
        await self.opened.wait()

    async def hit(self) -> None:
        await asyncio.wait_for(self.reached.wait(), 20)


class SharedComfyUI(HearingComfyUI):
    """One that other people use too, whose answers can be held up."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.barriers: list[Barrier] = []
        self.deaf_to: list[tuple[str, str]] = []
        """The next requests that are answered with 200 and have no effect."""
        self.broken: list[tuple[str, str]] = []
        """The next requests that are answered with 500."""

    def bar(self, request: tuple[str, str], *, behind: bool = False) -> Barrier:
        self.barriers.append(Barrier(*request, behind))
        return self.barriers[-1]

    async def answer(self, request: web.Request, handler: Any) -> web.StreamResponse:
        asked = (request.method, request.path)
        await self._wait(asked, behind=False)
        for wrong, status in ((self.deaf_to, 200), (self.broken, 500)):
            if asked in wrong:
                wrong.remove(asked)
                return web.Response(status=status)
        response = await super().answer(request, handler)
        await self._wait(asked, behind=True)
        return response

    async def _wait(self, asked: tuple[str, str], *, behind: bool) -> None:
        for each in self.barriers:
            if each.matches(asked, behind=behind):
                await each.wait()

    async def somebodys(self, colour: int) -> str:
        """The id of a prompt that another program sent."""
        inputs = {"width": 8, "height": 8, "batch_size": 1, "color": colour}
        graph = {
            "1": {"class_type": "EmptyImage", "inputs": inputs},
            "2": {
                "class_type": "SaveImage",
                "inputs": {"images": ["1", 0], "filename_prefix": "theirs"},
            },
        }
        body = {"prompt": graph, "prompt_id": str(uuid.uuid4()), "client_id": "somebody"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.url}/api/prompt", json=body) as answer,
        ):
            return (await answer.json())["prompt_id"]

    def next_one(self) -> None:
        """Let the held prompt go on, and hold the one after it."""
        self.finish()
        self.hold()

    def knows(self, prompt_id: str | None) -> bool:
        """Whether it waits or runs."""
        running = self.queue.running
        waiting = [each.prompt_id for each in self.queue.pending()]
        return prompt_id in [*waiting, running and running.prompt_id]

    def runs(self, prompt_id: str | None) -> bool:
        running = self.queue.running
        return running is not None and running.prompt_id == prompt_id and self.held.is_set()


class Shared:
    """The bot at a ComfyUI that somebody else uses; `first` came before our job, `last` behind."""

    def __init__(self, world: World, comfyui: SharedComfyUI) -> None:
        self.world = world
        self.comfyui = comfyui
        self.bob = world.discord.add_user("bob")
        self.first = self.last = ""
        self.card: Interaction
        self.job: Job

    async def ask(self) -> None:
        self.card = await self.world.generate()
        await self.world.commands_end()

    async def becomes(self, state: JobState) -> None:
        self.job = await self.world.until_job(lambda job: job.state is state)

    def click(self, who: User) -> Interaction:
        assert self.card.message
        return self.world.discord.click(who, self.card.message, f"job:{self.job.id}:cancel")

    def command(self, who: User) -> Interaction:
        asked = {"job": self.job.short_id}
        return self.world.discord.slash(who, self.world.channel, "cancel", **asked)

    async def is_cancelled(self) -> None:
        """The person reads it, and it is so."""
        await self.world.told(self.card, "Cancelled.")
        job = await self.world.until_job(lambda job: job.told)
        assert (job.id, job.state) == (self.job.id, JobState.CANCELLED)
        assert not self.world.files(self.card)
        assert not self.comfyui.knows(self.job.prompt_id)

    async def gone(self, began: float | None = None) -> float:
        """The seconds until the server was asked to drop our prompt, and has done it."""
        began, ours = began or now(), self.job.prompt_id
        asked = ("POST", "/queue", {"delete": [ours]})
        await self.world.until(lambda: ours is None or asked in self.comfyui.heard)
        await self.world.until(lambda: not self.comfyui.knows(ours))
        return now() - began

    async def others_end(self) -> None:
        """Somebody else's prompts, in their order, once each and well; nothing touched them."""
        theirs = [self.first, self.last]
        self.comfyui.finish()
        await self.world.until(lambda: set(theirs) <= self.comfyui.queue.history.keys())
        entries = [self.comfyui.queue.history[each] for each in theirs]
        assert [each["status"]["status_str"] for each in entries] == ["success"] * 2
        assert [each for each in self.comfyui.executed if each in theirs] == theirs
        for _, path, body in self.comfyui.heard:
            if path == "/queue" and body:
                assert body == {"delete": [self.job.prompt_id]}
            if path == "/interrupt":
                assert body == {"prompt_id": self.job.prompt_id}


@pytest.fixture(params=[OLD, NEW])
async def shared(world: World, request: pytest.FixtureRequest) -> AsyncIterator[Shared]:
    await world.comfyui.close()
    async with SharedComfyUI(version=request.param, pace=Pace(0, 0)) as comfyui:
        world.comfyui = comfyui
        comfyui.hold()
        yield Shared(world, comfyui)
        while world.bots:
            await world.stop()


# Where the job is when it is cancelled. Each returns what lets go of what was held for it.

LetGo = Callable[[], None]


async def in_our_queue(shared: Shared) -> LetGo:
    """Bob's jobs have all the places at the server."""
    world = shared.world
    shared.first = await shared.comfyui.somebodys(1)
    await world.start()
    for number in range(2):
        asked = {"workflow": "postcard", "prompt": f"bob's {number}"}
        await world.discord.slash(shared.bob, world.channel, "generate", **asked).answered()
    await world.commands_end()
    await world.until(lambda: shared.comfyui.queue.remaining() == 3)
    shared.last = await shared.comfyui.somebodys(2)
    await shared.ask()
    await shared.becomes(JobState.PENDING)
    return lambda: None


async def at_the_door(shared: Shared, *, behind: bool = False) -> LetGo:
    """Its prompt is on the way, and nobody has answered yet."""
    shared.first = await shared.comfyui.somebodys(1)
    door = shared.comfyui.bar(PROMPT, behind=behind)
    await shared.world.start()
    await shared.ask()
    await door.hit()
    shared.last = await shared.comfyui.somebodys(2)
    await shared.becomes(JobState.SUBMITTING)
    return door.opened.set


async def behind_the_door(shared: Shared) -> LetGo:
    """Its prompt has arrived, and the answer has not."""
    return await at_the_door(shared, behind=True)


async def queued(shared: Shared) -> LetGo:
    shared.first = await shared.comfyui.somebodys(1)
    await shared.world.start()
    await shared.ask()
    await shared.becomes(JobState.QUEUED)
    shared.last = await shared.comfyui.somebodys(2)
    return lambda: None


async def running(shared: Shared) -> LetGo:
    await queued(shared)
    await asyncio.wait_for(shared.comfyui.held.wait(), 20)
    shared.comfyui.next_one()
    await shared.becomes(JobState.RUNNING)
    await shared.world.until(lambda: shared.comfyui.runs(shared.job.prompt_id))
    return lambda: None


async def just_over(shared: Shared) -> LetGo:
    """The server has done it, and the bot does not know yet."""
    await running(shared)
    end = shared.comfyui.bar(HISTORY)
    shared.comfyui.next_one()
    await end.hit()
    await shared.world.until(lambda: shared.comfyui.runs(shared.last))
    return end.opened.set


async def being_posted(shared: Shared) -> LetGo:
    """The bot has learned of it, and fetches the picture."""
    await running(shared)
    picture = shared.comfyui.bar(VIEW)
    shared.comfyui.next_one()
    await picture.hit()
    await shared.becomes(JobState.EXECUTED)
    await shared.world.until(lambda: shared.comfyui.runs(shared.last))
    return picture.opened.set


PLACES = [in_our_queue, at_the_door, behind_the_door, queued, running, just_over]
Place = Callable[[Shared], Awaitable[LetGo]]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
async def test_a_job_is_cancelled_and_nothing_else(shared: Shared, place: Place) -> None:
    let_go = await place(shared)
    stranger = await shared.click(shared.bob).answered()
    assert await shared.world.told(stranger, NOT_YOURS)
    assert stranger.ephemeral

    clicked_at = now()
    await shared.click(shared.world.alice).answered()
    let_go()
    assert await shared.gone(clicked_at) < 3  # seconds; one, if the machine is not busy
    await shared.is_cancelled()

    await shared.others_end()
    began = place in (running, just_over)
    assert shared.comfyui.executed.count(shared.job.prompt_id or "") == began


@pytest.mark.parametrize("place", [in_our_queue, queued, running], ids=lambda each: each.__name__)
@pytest.mark.parametrize("shared", [NEW], indirect=True)
async def test_a_command_cancels_for_its_owner_alone(shared: Shared, place: Place) -> None:
    await place(shared)
    stranger = await shared.command(shared.bob).answered()
    owner = await shared.command(shared.world.alice).answered()

    assert text_of(stranger.message).startswith(f"You have no job {shared.job.short_id}.")
    assert text_of(owner.message) == f"`{shared.job.short_id}` is cancelled."
    await shared.is_cancelled()
    await shared.others_end()


@pytest.mark.parametrize("shared", [NEW], indirect=True)
async def test_the_others_in_our_queue_go_on(shared: Shared) -> None:
    await in_our_queue(shared)

    await shared.click(shared.world.alice).answered()
    await shared.is_cancelled()

    await shared.others_end()
    await shared.world.until(lambda: len(shared.comfyui.queue.history) == 4)
    await shared.world.jobs_end()
    history = shared.comfyui.queue.history.values()
    assert all(each["status"]["completed"] for each in history)
    assert [each[:2] for each in shared.comfyui.heard].count(PROMPT) == 2  # Bob's


async def test_it_is_too_late_for_what_is_being_posted(shared: Shared) -> None:
    let_go = await being_posted(shared)

    stranger = await shared.click(shared.bob).answered()
    late = await shared.click(shared.world.alice).answered()
    assert await shared.world.told(stranger, NOT_YOURS)
    assert await shared.world.told(late, TOO_LATE)
    let_go()

    assert len(await shared.world.posted(shared.card)) == 1
    await shared.becomes(JobState.POSTED)
    later = await shared.command(shared.world.alice).answered()
    assert text_of(later.message) == TOO_LATE
    await shared.others_end()
    assert not {QUEUE, INTERRUPT} & {each[:2] for each in shared.comfyui.heard}


# What happens meanwhile


async def test_what_begins_while_it_is_deleted_is_interrupted(shared: Shared) -> None:
    await queued(shared)
    door = shared.comfyui.bar(QUEUE)
    shared.click(shared.world.alice)
    await door.hit()
    shared.comfyui.next_one()
    await shared.world.until(lambda: shared.comfyui.runs(shared.job.prompt_id))

    door.opened.set()

    assert await shared.gone() < 1
    await shared.is_cancelled()
    await shared.others_end()


async def test_what_ends_while_it_is_interrupted_costs_nobody_a_job(shared: Shared) -> None:
    await running(shared)
    door = shared.comfyui.bar(INTERRUPT)
    shared.click(shared.world.alice)
    await door.hit()
    shared.comfyui.next_one()
    await shared.world.until(lambda: shared.comfyui.runs(shared.last))

    door.opened.set()

    await shared.is_cancelled()
    assert shared.comfyui.runs(shared.last)
    await shared.others_end()


async def test_an_interrupt_that_is_lost_is_sent_again(shared: Shared) -> None:
    await running(shared)
    shared.comfyui.deaf_to = [INTERRUPT]

    shared.click(shared.world.alice)

    assert await shared.gone() < 2
    await shared.is_cancelled()
    await shared.others_end()


@pytest.mark.parametrize("shared", [NEW], indirect=True)
async def test_a_delete_that_fails_once_is_sent_again(shared: Shared) -> None:
    await queued(shared)
    shared.comfyui.broken = [QUEUE]

    shared.click(shared.world.alice)
    await shared.world.told(shared.card, "Cancelled.")

    await shared.world.until(lambda: not shared.comfyui.broken)
    await shared.others_end()
    assert shared.job.prompt_id not in shared.comfyui.executed


@pytest.mark.parametrize("shared", [NEW], indirect=True)
async def test_a_prompt_is_deleted_though_the_socket_is_just_away(shared: Shared) -> None:
    await queued(shared)
    shared.comfyui.say("/ws", status=503)
    shared.comfyui.drop()
    server = shared.world.bot.servers["local"]
    await shared.world.until(lambda: not server.up)

    shared.click(shared.world.alice)
    await shared.world.told(shared.card, "Cancelled.")
    shared.comfyui._odd.clear()
    await asyncio.wait_for(server.wait_up(), 20)

    assert await asyncio.wait_for(shared.gone(), 2) < 2


@pytest.mark.parametrize("shared", [NEW], indirect=True)
async def test_a_click_is_told_before_the_server_answers(shared: Shared) -> None:
    let_go = await at_the_door(shared)

    shared.click(shared.world.alice)
    try:
        await shared.world.discord.until(lambda: "Cancelled" in text_of(shared.card.message), 2)
    finally:
        let_go()
