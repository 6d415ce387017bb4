"""Discord is away, in a storm, or wants no more requests; and a gateway that drops and repeats."""

import asyncio
from itertools import pairwise

import discord
import pytest

from bot.app import run
from bot.config import Secrets
from bot.delivery import Delivery
from bot.errors import ConfigError
from bot.jobs import JobState
from tests.discord.conftest import TOKEN, World
from tests.discord.test_robustness import many_cards
from tests.fakes.discord import Fault, Interaction

EVER = 10**6
EDITS = ("PATCH", "/channels/*/messages/*")
UNAUTHORIZED = {"message": "401: Unauthorized", "code": 0}


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No progress is shown, so the first edit of a placeholder is its end."""
    monkeypatch.setattr(Delivery, "show_progress", lambda *_: None)


async def _at_once(*_: object, **__: object) -> None:
    pass


@pytest.fixture
def reconnecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """discord.py comes back at once, where it would wait for up to half an hour."""
    monkeypatch.setattr(discord.client.ExponentialBackoff, "delay", lambda _: 0.05)
    monkeypatch.setattr(discord.Client, "before_identify_hook", _at_once)


async def finished(world: World, interaction: Interaction) -> None:
    """The placeholder became the result, which ran once and is shown once."""
    await world.posted(interaction)
    assert (await world.until_job(lambda job: not job.open)).state is JobState.POSTED
    assert len(world.comfyui.executed) == 1
    assert len(world.discord.messages[world.channel.id]) == 1


def times(world: World, method: str) -> list[float]:
    return [r.at for r in world.discord.requests if r.method == method]


# Too much for Discord


@pytest.mark.usefixtures("quiet")
async def test_a_storm_of_errors_is_waited_out(world: World) -> None:
    world.discord.faults.append(Fault(*EDITS, status=503, times=4))
    world.discord.faults.append(Fault(*EDITS, status=503, after_commit=True))
    await world.start()

    await finished(world, await world.generate())

    at = times(world, "PATCH")
    pauses = [later - sooner for sooner, later in pairwise(at)]
    assert len(at) == 6
    assert max(pauses) > 2 * pauses[0]


async def test_an_edit_that_discord_does_not_answer_holds_the_result_up_for_moments(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.delivery._EDIT_PATIENCE", 0.3)
    world.discord.faults.append(Fault(*EDITS, status=None, delay=2))
    interaction = await world.running_job()
    await world.discord.until(lambda: times(world, "PATCH"))

    world.comfyui.finish()
    await finished(world, interaction)

    unanswered, *others = [r for r in world.discord.requests if r.method == "PATCH"]
    assert unanswered.done_at is None
    assert len(others) == 1


async def test_a_later_part_of_a_private_result_comes_rather_twice_than_never(
    world: World,
) -> None:
    many_cards(world)
    world.discord.faults.append(Fault("POST", "/webhooks/*", reset=True, after_commit=True))
    await world.start(limits={"pixels": 10**9})

    interaction = await world.generate(batch=12, width=256, height=256, private=True)
    await world.until_job(lambda job: not job.open)

    first, *later = (interaction.message, *interaction.followups)
    files = [sorted(world.discord.files_of(each)) for each in later]
    assert len(world.discord.files_of(first)) == 10
    assert [len(each) for each in files] == [2, 2]  # nobody can look whether the first is there
    assert files[0] == files[1]


@pytest.mark.usefixtures("quiet")
async def test_a_limit_for_all_routes_makes_all_of_them_wait(world: World) -> None:
    told = {"message": "You are being rate limited.", "retry_after": 0.5, "global": True}
    limit = Fault("PATCH", "*", status=429, json=told, headers={"X-RateLimit-Global": "true"})
    world.comfyui.hold()
    await world.start()
    first, second = await world.generate(), await world.generate(prompt="another")
    world.discord.faults.append(limit)
    world.comfyui.finish()

    for each in (first, second):
        await world.posted(each)

    at = times(world, "PATCH")
    assert len(at) == 3
    assert at[1] - at[0] > 0.4


@pytest.mark.usefixtures("quiet")
async def test_a_ban_of_the_address_stops_all_requests_for_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.restraint._SILENCE", 0.8)
    page = "<html><title>Access denied | discord.com used Cloudflare</title></html>"
    world.discord.faults.append(
        Fault("PATCH", "*", status=429, html=page, headers={"Retry-After": "600"})
    )
    world.comfyui.hold()
    await world.start()
    first, second = await world.generate(), await world.generate(prompt="another")
    world.comfyui.finish()

    for each in (first, second):
        await world.posted(each)

    banned, *later = [r.at for r in world.discord.requests if r.path.startswith("/channels/")]
    assert min(later) - banned > 0.7


@pytest.mark.usefixtures("reconnecting")
@pytest.mark.parametrize("how", ["rest", "gateway"])
async def test_a_token_that_discord_takes_no_more_ends_the_bot_with_a_sentence(
    world: World, how: str
) -> None:
    world.comfyui.hold()
    bot = asyncio.create_task(
        run(world.config(), Secrets(discord_token=TOKEN, discord_api=world.discord.url))
    )
    await world.discord.ready()
    await world.generate()
    world.discord.token = "another"

    if how == "gateway":
        await world.discord.drop(code=4004)
    world.comfyui.finish()

    with pytest.raises(ConfigError, match="does not accept DISCORD_TOKEN"):
        await asyncio.wait_for(bot, 20)
    assert sum(r.status == 401 for r in world.discord.requests) <= 3


# The gateway


@pytest.mark.usefixtures("reconnecting")
async def test_while_the_gateway_is_away_results_are_posted_and_afterwards_commands_work(
    world: World,
) -> None:
    interaction = await world.running_job()
    world.discord.gateway.away = True
    await world.discord.drop(code=4000)

    world.comfyui.finish()
    await world.posted(interaction)
    world.discord.gateway.away = False
    await world.discord.until(lambda: world.discord.connected)

    await world.posted(await world.generate(prompt="another"))
    assert len(world.comfyui.executed) == 2


@pytest.mark.usefixtures("reconnecting")
async def test_a_command_that_comes_again_after_a_reconnect_is_one_job(world: World) -> None:
    world.discord.gateway.replay = 100
    interaction = await world.running_job()

    await world.discord.drop(code=4000)
    await world.discord.until(lambda: world.discord.gateway.resumes)
    world.comfyui.finish()

    await finished(world, interaction)
    await world.commands_end()
    assert len(await world.bot.store.recent(world.alice.id, 5)) == 1


@pytest.mark.usefixtures("reconnecting")
async def test_a_command_that_comes_too_late_is_no_job(world: World) -> None:
    await world.start()
    world.discord.gateway.away = True
    await world.discord.drop(code=4000)
    late = world.discord.slash(
        world.alice, world.channel, "generate", workflow="postcard", prompt="late"
    )
    late.too_old = True  # the person saw "The application did not respond"
    world.discord.gateway.away = False
    await world.discord.until(lambda: world.discord.gateway.resumes)

    await world.posted(await world.generate())

    await world.commands_end()
    (job,) = await world.bot.store.recent(world.alice.id, 5)
    assert job.request.text != "late"
    assert len(world.comfyui.executed) == 1


@pytest.mark.usefixtures("reconnecting")
async def test_a_session_that_discord_has_ended_is_begun_anew(world: World) -> None:
    interaction = await world.running_job()

    await world.discord.drop(op=9)
    await world.discord.ready()
    world.comfyui.finish()

    await finished(world, interaction)
