"""Answers by an interaction's token, against the Discord on loopback."""

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import discord
import pytest

from bot.answers import UNKNOWN, Answers
from bot.app import use_discord_api
from bot.cards import failure_card, waiting_card
from bot.jobs import Job, JobState
from bot.people import Token
from bot.publisher import Undeliverable
from bot.store import Store
from bot.wishes import Wish
from tests.bot.builders import a_job, a_request
from tests.fakes.discord import FakeDiscord, Interaction, User
from tests.fakes.discord_messages import EPHEMERAL

COMPONENTS_V2 = 1 << 15
TOKEN = "the.token.of-the-bot"
COMMAND = {"id": "1", "name": "ask", "type": 1, "description": "Ask.", "options": []}


@dataclass
class Clock:
    """The time of the answers; *looks* counts how often they asked."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    looks: int = 0
    looked: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self) -> datetime:
        self.looks += 1
        self.looked.set()
        return self.now

    def go_on(self, **time: float) -> None:
        self.now += timedelta(**time)

    async def looked_at(self, times: int) -> None:
        async with asyncio.timeout(20):
            while self.looks < times:
                self.looked.clear()
                await self.looked.wait()


@dataclass
class World:
    discord: FakeDiscord
    alice: User
    http: aiohttp.ClientSession
    answers: Answers
    clock: Clock
    job: Job

    def typed(self) -> Interaction:
        (channel,) = self.discord.channels.values()
        return self.discord.slash(self.alice, channel, "ask")

    async def asked(self, *, private: bool = True) -> Interaction:
        """An interaction that has its first answer."""
        interaction = self.typed()
        url = f"{self.discord.url}/api/v10/interactions/{interaction.id}/{interaction.token}"
        card: Any = waiting_card(self.job, 1, server_up=True)
        flags = COMPONENTS_V2 | (EPHEMERAL if private else 0)
        answer = {"type": 4, "data": {"components": card.to_components(), "flags": flags}}
        async with self.http.post(f"{url}/callback", json=answer) as response:
            assert response.status < 300
        return interaction


@pytest.fixture
async def world(store: Store, session: aiohttp.ClientSession) -> AsyncIterator[World]:
    async with (
        FakeDiscord(token=TOKEN) as fake,
        discord.Client(intents=discord.Intents.none()) as bot,
    ):
        use_discord_api(fake.url)
        fake.add_channel(fake.add_guild("Lab"), "art")
        alice = fake.add_user("alice")
        fake.commands[None] = [COMMAND]
        await bot.login(TOKEN)
        clock = Clock()
        request = a_request(by_token=True, wish=Wish(private=True), created_at=clock.now)
        job = a_job(JobState.FAILED, request=request, note="No luck.")
        yield World(fake, alice, session, Answers(bot, store, clock), clock, job)


def texts(message: Any) -> str:
    def collect(components: list[Any]) -> Iterator[str]:
        for each in components:
            yield each.get("content", "")
            yield from collect(each.get("components", []))

    return "\n".join(collect(message["components"]))


def a_file(name: str = "a.txt") -> discord.File:
    return discord.File(io.BytesIO(b"a file"), name)


# While the token lives


async def test_the_first_answer_is_changed_by_its_token_alone(world: World) -> None:
    interaction = await world.asked()
    await world.answers.keep(world.job.id, interaction.token)

    message_id = await world.answers.edit(world.job, failure_card(world.job), list)

    assert str(message_id) == interaction.message_id
    assert "No luck." in texts(interaction.message)
    assert interaction.ephemeral
    path = f"/webhooks/{world.discord.me['id']}/{interaction.token}/messages/@original"
    assert (world.discord.requests[-1].method, world.discord.requests[-1].path) == ("PATCH", path)


async def test_the_message_that_a_click_showed_is_the_one_that_is_changed(world: World) -> None:
    interaction = await world.asked()
    assert interaction.message is not None
    message_id = int(interaction.message["id"])
    await world.answers.keep(world.job.id, interaction.token, message_id)

    edited = await world.answers.edit(world.job, failure_card(world.job), list)

    assert edited == message_id
    assert world.discord.requests[-1].path.endswith(f"/messages/{message_id}")
    assert "No luck." in texts(interaction.message)


async def test_later_parts_are_messages_of_their_own_as_private_as_the_first(world: World) -> None:
    interaction = await world.asked()
    await world.answers.keep(world.job.id, interaction.token)

    card = failure_card(world.job)
    card.add_item(discord.ui.File("attachment://a.txt"))
    await world.answers.send(world.job, card, lambda: [a_file()])

    (message,) = interaction.followups
    assert message["flags"] & EPHEMERAL
    assert world.discord.files_of(message) == {"a.txt": b"a file"}
    assert "Queued" in texts(interaction.message)  # the first one stays as it was


async def test_what_is_not_private_is_sent_for_everybody(world: World) -> None:
    interaction = await world.asked(private=False)
    job = a_job(request=a_request(by_token=True, wish=Wish(), created_at=world.clock.now))
    await world.answers.keep(job.id, interaction.token)

    await world.answers.send(job, failure_card(job), list)

    (message,) = interaction.followups
    assert not message["flags"] & EPHEMERAL


async def test_nobody_is_pinged(world: World) -> None:
    interaction = await world.asked(private=False)
    await world.answers.keep(world.job.id, interaction.token)

    await world.answers.edit(world.job, failure_card(world.job), list)
    await world.answers.send(world.job, failure_card(world.job), list)

    assert interaction.message is not None
    assert [each["mentions"] for each in (interaction.message, *interaction.followups)] == [[], []]


# What people see


async def test_an_answer_that_is_there_is_found(world: World) -> None:
    interaction = await world.asked()
    assert interaction.message is not None
    await world.answers.keep(world.job.id, interaction.token)

    assert await world.answers.find(world.job) == int(interaction.message["id"])


async def test_an_answer_that_is_not_there_is_not_found(world: World) -> None:
    unanswered = world.typed()

    nothing_kept = await world.answers.find(world.job)
    await world.answers.keep(world.job.id, unanswered.token)

    assert nothing_kept is None
    assert await world.answers.find(world.job) is None


async def test_an_answer_that_was_deleted_is_not_found(world: World) -> None:
    interaction = await world.asked(private=False)
    await world.answers.keep(world.job.id, interaction.token)
    world.discord.delete_message(interaction.message)  # type: ignore[arg-type]

    assert await world.answers.find(world.job) is None


# When the token is dead


async def test_progress_for_a_dead_token_is_left_out(world: World) -> None:
    interaction = await world.asked()
    await world.answers.keep(world.job.id, interaction.token)
    world.clock.go_on(minutes=15)
    world.discord.expire_tokens()
    asked = len(world.discord.requests)

    for _ in range(3):
        await world.answers.try_edit(world.job, failure_card(world.job), list, offer=True)

    assert await world.answers.find(world.job) == UNKNOWN
    assert len(world.discord.requests) == asked + 1  # Discord is not asked twice


async def test_a_token_is_used_as_long_as_discord_takes_it(world: World) -> None:
    interaction = await world.asked()
    await world.answers.keep(world.job.id, interaction.token)
    world.clock.go_on(hours=1)

    await world.answers.try_edit(world.job, failure_card(world.job), list, offer=True)

    assert "No luck." in texts(interaction.message)


@pytest.mark.parametrize("first", [True, False], ids=["a dead token", "no token"])
async def test_a_result_waits_for_the_click_that_brings_a_new_token(
    world: World, first: bool
) -> None:
    if first:
        await world.answers.keep(world.job.id, (await world.asked()).token)
        world.clock.go_on(hours=2)
        world.discord.expire_tokens()
    looks = world.clock.looks
    editing = asyncio.create_task(world.answers.edit(world.job, failure_card(world.job), list))
    await world.clock.looked_at(looks + 1 + first)
    still_waits = not editing.done()
    clicked = await world.asked()

    await world.answers.keep(world.job.id, clicked.token)
    await asyncio.wait_for(editing, 20)

    assert still_waits
    assert "No luck." in texts(clicked.message)


async def test_two_that_wait_for_a_click_both_go_on(world: World) -> None:
    """The end of a job, and one more part of its result."""
    card = failure_card(world.job)
    editing = asyncio.create_task(world.answers.edit(world.job, card, list))
    sending = asyncio.create_task(world.answers.send(world.job, card, list))
    await world.clock.looked_at(2)
    clicked = await world.asked()

    await world.answers.keep(world.job.id, clicked.token)
    await asyncio.wait_for(asyncio.gather(editing, sending), 20)

    assert "No luck." in texts(clicked.message)
    assert len(clicked.followups) == 1


@pytest.mark.parametrize("finished", [True, False], ids=["after its end", "after the request"])
async def test_a_result_for_which_nobody_comes_is_given_up_after_a_day(
    world: World, finished: bool
) -> None:
    job = world.job
    if finished:
        job = a_job(JobState.EXECUTED, request=job.request, finished_at=world.clock.now)
        world.clock.go_on(hours=-5)
    world.clock.go_on(hours=24, minutes=1, seconds=0 if not finished else 5 * 3600)

    with pytest.raises(Undeliverable, match=r"^Nobody came for this private result in time\.$"):
        await world.answers.edit(job, failure_card(job), list)


async def test_a_token_that_discord_does_not_know_is_discords_error(world: World) -> None:
    await world.answers.keep(world.job.id, "unknown")

    with pytest.raises(discord.NotFound):
        await world.answers.edit(world.job, failure_card(world.job), list)


# Before it dies


@pytest.mark.parametrize(("minutes", "shown"), [(12.9, True), (13.1, False)])
async def test_progress_does_not_take_the_button_away(
    world: World, minutes: float, shown: bool
) -> None:
    interaction = await world.asked()
    await world.answers.keep(world.job.id, interaction.token)
    world.clock.go_on(minutes=minutes)

    await world.answers.try_edit(world.job, failure_card(world.job), list)

    assert ("No luck." in texts(interaction.message)) is shown


@pytest.mark.parametrize(
    ("minutes", "offered"), [(12.9, False), (13.1, True), (14.4, True), (16, True)]
)
async def test_before_a_token_dies_its_answer_becomes_a_button(
    world: World, store: Store, monkeypatch: pytest.MonkeyPatch, minutes: float, offered: bool
) -> None:
    monkeypatch.setattr("bot.answers._LOOK_EVERY", 0)
    interaction = await world.asked()
    assert await store.add(world.job.request)
    await world.answers.keep(world.job.id, interaction.token)
    world.clock.go_on(minutes=minutes)
    looks = world.clock.looks
    looking = asyncio.create_task(world.answers.keep_reachable(world.answers.offer))

    await world.clock.looked_at(looks + 8)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)

    edits = [each for each in world.discord.requests if each.method == "PATCH"]
    assert len(edits) == offered  # once, however often it is looked at
    assert ("15 minutes only" in texts(interaction.message)) is offered


# What an earlier process began


async def test_who_was_kept_waiting_by_a_process_that_died_is_told_to_ask_again(
    world: World, store: Store
) -> None:
    interaction = await world.asked()
    token = Token(interaction.token, None, world.clock.now, "de")
    await store.keep_token(str(interaction.id), token)

    await world.answers.excuse_all()

    assert "Ich wurde neu gestartet" in texts(interaction.message)
    assert await store.promises() == {}


@pytest.mark.parametrize("acknowledged", [True, False])
async def test_a_request_that_was_stored_is_the_runners(
    world: World, store: Store, acknowledged: bool
) -> None:
    interaction = await world.asked()
    request = replace(world.job.request, interaction_id=interaction.id)
    assert await store.add(request)
    if acknowledged:
        await store.acknowledge(request.id, 1)
    key = str(interaction.id)
    await store.keep_token(key, Token(interaction.token, None, world.clock.now))

    await world.answers.excuse_all()

    assert "Queued" in texts(interaction.message)
    assert (key in await store.promises()) is not acknowledged


async def test_a_token_of_a_job_that_is_gone_goes_too(world: World, store: Store) -> None:
    interaction = await world.asked()
    await world.answers.keep(world.job.id, interaction.token)

    await world.answers.excuse_all()

    assert await store.promises() == {}
    assert "Queued" in texts(interaction.message)
