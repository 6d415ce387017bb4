"""What is read out of our own messages again: buttons, pictures, the job."""

import io
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import discord
import pytest
from discord import ui

from bot.app import use_discord_api
from bot.cards import (
    SPOILER,
    collect_card,
    failure_card,
    is_about,
    job_id_in,
    pictures_in,
    progress_card,
    result_card,
    waiting_card,
    with_spoiler,
)
from bot.errors import OUT_OF_MEMORY
from bot.jobs import Job, JobState
from bot.spool import SpooledFile
from bot.wishes import Wish
from comfy.progress import RunProgress
from tests.bot.builders import NOW, a_job, a_request
from tests.fakes.discord import FakeDiscord
from tests.graphs import TXT2IMG

TOKEN = "the.token.of-the-bot"
UNIX = int(NOW.timestamp())
EXECUTED = a_job(JobState.EXECUTED)
PRIVATE = a_job(JobState.EXECUTED, request=a_request(by_token=True))
OTHER = a_job(JobState.EXECUTED, request=a_request(id="7c9e6679-7425-40de-944b-e07fc1f90ae7"))


@pytest.fixture
async def channel() -> AsyncIterator[discord.PartialMessageable]:
    client = discord.Client(intents=discord.Intents(guilds=True))
    async with FakeDiscord(token=TOKEN) as fake, client as bot:
        use_discord_api(fake.url)
        art = fake.add_channel(fake.add_guild("Lab"), "art")
        await bot.login(TOKEN)
        yield bot.get_partial_messageable(art.id)


def spooled(*names: str) -> list[SpooledFile]:
    return [SpooledFile(Path("/nowhere") / name, name, 1) for name in names]


def files(names: Sequence[str]) -> list[discord.File]:
    return [discord.File(io.BytesIO(name.encode()), name) for name in names]


async def posted(
    channel: discord.PartialMessageable, card: ui.LayoutView, *names: str
) -> discord.Message:
    """The message as Discord tells it."""
    sent = await channel.send(view=card, files=files(names))
    return await channel.fetch_message(sent.id)


def result(*names: str, job: Job = EXECUTED, part: int = 0, parts: int = 1) -> ui.LayoutView:
    return result_card(job, part, parts, spooled(*names), [])


def buttons(card: ui.LayoutView) -> list[list[str]]:
    """What stands on the buttons, row by row."""
    rows = [each for each in card.walk_children() if isinstance(each, ui.ActionRow)]
    return [[str(getattr(each, "label", None)) for each in row.children] for row in rows]


def shown_by(card: ui.LayoutView) -> str:
    return str(card.to_components())  # type: ignore[no-untyped-call]


def custom_ids(card: ui.LayoutView) -> list[str]:
    return [each.custom_id or "" for each in card.walk_children() if isinstance(each, ui.Button)]


# Buttons

FIRST, OF_PICTURES = ["Again", "Edit", "Details"], ["Vary", "Send to…"]
SMALLER = "Again at 75 % size"


@pytest.mark.parametrize(
    ("job", "names", "expected"),
    [
        (EXECUTED, ["1.png"], [FIRST + OF_PICTURES, ["Spoiler", "Delete"]]),
        (EXECUTED, ["1.flac"], [FIRST, ["Delete"]]),
        (EXECUTED, [], [FIRST, ["Delete"]]),
        (PRIVATE, ["1.png"], [FIRST + OF_PICTURES]),
        (PRIVATE, [], [FIRST]),
    ],
    ids=["pictures", "a sound", "nothing", "private pictures", "private without pictures"],
)
def test_a_result_offers_what_can_be_done_with_it(
    job: Job, names: list[str], expected: list[list[str]]
) -> None:
    assert buttons(result(*names, job=job)) == expected


@pytest.mark.parametrize(
    ("job", "names", "expected"),
    [
        (EXECUTED, ["11.png"], [["Details", *OF_PICTURES], ["Spoiler"]]),
        (EXECUTED, ["11.flac"], [["Details"]]),
        (PRIVATE, ["11.png"], [["Details", *OF_PICTURES]]),
    ],
    ids=["pictures", "a sound", "private pictures"],
)
def test_later_parts_offer_what_concerns_their_own_pictures(
    job: Job, names: list[str], expected: list[list[str]]
) -> None:
    card = result(*names, job=job, part=1, parts=2)

    assert buttons(card) == expected
    assert custom_ids(card)[0] == f"job:{job.id}:details:1"


@pytest.mark.parametrize("part", [0, 1])
def test_what_was_too_large_can_be_had_from_the_message_that_says_so(part: int) -> None:
    assert not any("Original" in row for row in buttons(result("1.png", part=part, parts=2)))

    told = ["a.png is too large to be posted here."]
    left_out = result_card(EXECUTED, part, 2, [], told, whole=False)

    assert buttons(left_out)[1][0] == "Original"


@pytest.mark.parametrize(
    "card",
    [
        result("1.png"),
        result("11.png", part=1, parts=2),
        waiting_card(EXECUTED, 1, server_up=True),
        collect_card(EXECUTED),
        progress_card(EXECUTED, RunProgress.of(TXT2IMG)),
        failure_card(a_job(JobState.FAILED, note=OUT_OF_MEMORY)),
    ],
    ids=["result", "later part", "waiting", "collect", "progress", "failure"],
)
def test_every_button_knows_its_job_and_has_an_id_that_discord_takes(card: ui.LayoutView) -> None:
    found = custom_ids(card)

    assert found
    assert len(found) == len(set(found))
    assert all(each.startswith(f"job:{EXECUTED.id}:") and len(each) <= 100 for each in found)


@pytest.mark.parametrize(
    ("state", "note", "settings", "expected"),
    [
        (JobState.FAILED, "No luck.", {"width": 8, "height": 8}, [FIRST]),
        (JobState.EXPIRED, "No luck.", {}, [FIRST]),
        (JobState.FAILED, OUT_OF_MEMORY, {"width": 8}, [FIRST]),
        (JobState.FAILED, OUT_OF_MEMORY, {"width": 8, "height": 8}, [[SMALLER, *FIRST]]),
        (JobState.CANCELLED, "", {}, []),
    ],
    ids=["failed", "expired", "no memory and no size", "no memory", "cancelled"],
)
def test_a_failure_offers_to_try_it_otherwise(
    state: JobState, note: str, settings: dict[str, int], expected: list[list[str]]
) -> None:
    card = failure_card(a_job(state, note=note, request=a_request(settings=settings)))

    assert buttons(card) == expected


def test_an_answer_that_cannot_be_changed_soon_offers_its_result() -> None:
    card = collect_card(PRIVATE)

    assert buttons(card) == [["Get result"]]
    assert custom_ids(card) == [f"job:{PRIVATE.id}:collect"]
    assert "15 minutes" in shown_by(card)
    assert card.timeout is None


# The line


@pytest.mark.parametrize(
    ("begins", "up", "expected"),
    [
        (NOW, True, f"Queued, 2nd in line. Ready about <t:{UNIX}:R>."),
        (None, True, "Queued, 2nd in line."),
        (
            None,
            False,
            "Queued, 2nd in line. No ComfyUI server answers right now; "
            "it starts as soon as one does.",
        ),
    ],
    ids=["known", "unknown", "no server"],
)
def test_who_waits_reads_when_it_is_ready(begins: Any, up: bool, expected: str) -> None:
    card = waiting_card(EXECUTED, 2, server_up=up, begins=begins)

    texts = [each.content for each in card.walk_children() if isinstance(each, ui.TextDisplay)]
    assert texts[1] == expected


def test_a_job_tells_what_it_descends_from() -> None:
    wish = Wish(parent="abcdefgh-2fa1-4d2b-883f-0016d3cca427", relation="variation")
    card = waiting_card(a_job(request=a_request(wish=wish)), 1, server_up=True)

    assert "txt2img · variation of abcdefgh · seed 7" in shown_by(card)


# Read again


async def test_the_job_of_a_message_is_read_from_its_buttons(
    channel: discord.PartialMessageable,
) -> None:
    for card, names, part in (
        (result("1.png"), ["1.png"], 0),
        (result("11.png", part=1, parts=11), ["11.png"], 1),
        (result("101.png", part=10, parts=11), ["101.png"], 10),
        (waiting_card(EXECUTED, 1, server_up=True), [], 0),
        (collect_card(EXECUTED), [], 0),
        (failure_card(EXECUTED), [], 0),
    ):
        message = await posted(channel, card, *names)

        assert job_id_in(message) == EXECUTED.id
        assert [number for number in range(12) if is_about(message, EXECUTED, number)] == [part]
        assert not is_about(message, OTHER, part)


async def test_a_message_without_our_buttons_is_of_no_job(
    channel: discord.PartialMessageable,
) -> None:
    foreign: ui.LayoutView = ui.LayoutView()
    foreign.add_item(ui.ActionRow(ui.Button(label="x", custom_id="privacy:30:delete")))
    foreign.add_item(ui.ActionRow(ui.Button(label="x", custom_id="job:short:cancel")))

    assert job_id_in(await posted(channel, foreign)) is None
    assert job_id_in(await posted(channel, failure_card(a_job(JobState.CANCELLED)))) is None


async def test_the_pictures_of_a_message_are_those_of_its_gallery(
    channel: discord.PartialMessageable,
) -> None:
    message = await posted(
        channel, result("1.png", "2.flac", "3.webp"), "1.png", "2.flac", "3.webp"
    )

    found = pictures_in(message)

    assert [url.partition("?")[0].rpartition("/")[2] for url in found] == ["1.png", "3.webp"]
    assert pictures_in(message, marked=True) == found
    assert pictures_in(await posted(channel, result())) == []


async def test_pictures_are_hidden_and_shown_again_and_nothing_else_changes(
    channel: discord.PartialMessageable,
) -> None:
    names = ["1.png", "2.flac", "3.webp"]
    message = await posted(channel, result(*names), *names)
    before = without_addresses(message)

    hidden = await changed(message, with_spoiler(message, hide=True))
    shown = await changed(hidden, with_spoiler(hidden, hide=False))

    marked = pictures_in(hidden, marked=True)
    assert len(marked) == 2
    assert all(each.startswith(SPOILER) for each in marked)
    assert [each.removeprefix(SPOILER) for each in marked] == pictures_in(hidden)
    assert not any(each.startswith(SPOILER) for each in pictures_in(shown, marked=True))
    assert without_addresses(shown) == before
    assert job_id_in(hidden) == job_id_in(shown) == EXECUTED.id


async def changed(message: discord.Message, card: ui.LayoutView) -> discord.Message:
    await message.edit(view=card)
    return await message.channel.fetch_message(message.id)


def without_addresses(message: discord.Message) -> Any:
    """What a message shows, with the names of its files alone."""

    def plain(part: Any) -> Any:
        if isinstance(part, list):
            return [plain(each) for each in part]
        if isinstance(part, dict):
            return {
                name: each.partition("?")[0].rpartition("/")[2] if name == "url" else plain(each)
                for name, each in part.items()
                if name in ("type", "content", "label", "custom_id", "components", "items",
                            "media", "file", "url", "spoiler", "accent_color")
            }  # fmt: skip
        return part

    return plain([each.to_dict() for each in message.components])
