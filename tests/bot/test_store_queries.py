"""The database: what was made, who waits, what is known of a person, drafts and tokens."""

import asyncio
import contextlib
import json
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import bot.people
from bot.audit import Change
from bot.estimates import Run
from bot.jobs import Job, JobState
from bot.people import Token
from bot.store import Search, Store
from bot.turns import Waiting
from bot.wishes import Wish
from comfy.graph import InputRef
from tests.bot.builders import NOW, a_request
from tests.bot.rows import an_old_database, ids, kept, numbered

S = JobState
PICTURE, OTHER_PICTURE = "a" * 32 + ".png", "b" * 32 + ".png"
ALICE, BOB = 30, 31


def using(*names: str) -> dict[InputRef, str]:
    return {InputRef(f"12:{number}", "image"): name for number, name in enumerate(names)}


# What a request has brought


async def test_a_request_with_everything_comes_back_as_it_was(store: Store) -> None:
    request = a_request(
        wish=Wish(
            workflow="txt2img",
            prompt="a 🐈 'and' \"a\" dog",
            node="6",
            values={"steps": 20, "cfg": 1.5, "negative": "", "seed": "18446744073709551615"},
            overrides='{"3": {"inputs": {"denoise": 0.5}}}',
            files={"image": PICTURE},
            private=True,
            parent="1b4e28ba-2fa1-4d2b-883f-0016d3cca427",
            relation="variation",
        ),
        uploads=using(PICTURE, OTHER_PICTURE),
        by_token=True,
        keep_metadata=True,
    )

    await store.add(request)

    assert await store.get(request.id) == Job(request=request)


async def test_what_has_not_ended_is_counted_by_state(store: Store) -> None:
    for number, state in enumerate([S.PENDING, S.PENDING, S.RUNNING, S.EXECUTED, S.POSTED], 1):
        await kept(store, number, state, told=state is S.POSTED)
    await kept(store, 6, message_id=None)  # Discord does not show it yet
    await kept(store, 7, S.FAILED)  # it ended, and its person is about to be told

    assert await store.numbers() == {"pending": 2, "running": 1, "executed": 1}


# A database of before


BEFORE = ["0001", "0002", "0003"]


@pytest.mark.parametrize("revision", BEFORE)
async def test_a_database_of_before_is_upgraded_and_keeps_its_jobs(url: str, revision: str) -> None:
    note = '"12": {broken} \\n'
    change = Change(
        at=NOW, guild_id=10, user_id=BOB, workflow="txt2img", action="disable",
        before={"enabled": True}, after={"enabled": False},
    )  # fmt: skip
    tables = an_old_database(
        url,
        revision,
        {"message_id": 98},
        {"message_id": 97, "state": "failed", "note": note, "attempt": 1, "workflow": "my flow"},
        {"message_id": 96, "state": "failed", "note": "", "told": 1},
    )

    async with Store.open(url) as store:
        waits, failed, told = await store.everything_of(ALICE)
        (pending,) = await store.pending(9)
        (untold,) = await store.in_flight()
        await store.keep_draft(pending.id, ALICE, Wish())
        await store.record(change)
        await store.set_default(10, None, "txt2img")

    assert ("wish" in tables["jobs"], "audit" in tables) == (revision > "0002", revision > "0001")
    assert pending == Job(request=numbered(1, wish=Wish(workflow="txt2img")), message_id=98)
    request = numbered(2, workflow="my flow", wish=Wish(workflow="my flow"))
    assert untold == Job(request=request, state=S.FAILED, message_id=97, attempt=1, note=note)
    assert [each["state"] for each in (waits, failed, told)] == ["pending", "failed", "failed"]
    async with Store.open(url) as store:
        assert await store.changes("txt2img", 10) == [change]
        assert await store.default_workflow(10, None) == "txt2img"


@pytest.mark.parametrize("revision", BEFORE)
async def test_a_database_is_copied_before_it_is_upgraded_and_not_again(
    url: str, revision: str
) -> None:
    path = Path(url.removeprefix("sqlite:///"))
    an_old_database(url, revision, {"message_id": 98})

    for _ in range(2):
        async with Store.open(url):
            pass

    (copy,) = path.parent.glob("*before*")
    with contextlib.closing(sqlite3.connect(copy)) as kept:
        assert kept.execute("SELECT version_num FROM alembic_version").fetchall() == [(revision,)]
        assert kept.execute("SELECT message_id FROM jobs").fetchall() == [(98,)]


async def test_a_new_database_needs_no_copy(url: str) -> None:
    async with Store.open(url):
        pass

    assert not list(Path(url.removeprefix("sqlite:///")).parent.glob("*before*"))


@pytest.mark.parametrize("revision", BEFORE)
async def test_the_message_of_a_result_of_before_still_shows_it(url: str, revision: str) -> None:
    an_old_database(
        url,
        revision,
        {"message_id": 99, "state": "posted", "attempt": 1, "seconds": 4.5, "parts": 1, "told": 1},
    )

    async with Store.open(url) as store:
        found = await store.search(Search(user_id=ALICE, workflow="txt2img"), 10)

    assert found == [
        Job(
            request=numbered(1, wish=Wish(workflow="txt2img")),
            state=S.POSTED,
            message_id=99,
            attempt=1,
            seconds=4.5,
            messages=(99,),
            told=True,
        )
    ]


# What was made


async def searched(store: Store, limit: int = 10, **so: Any) -> list[int]:
    return ids(await store.search(Search(**{"user_id": ALICE} | so), limit))


async def test_own_results_are_found_newest_first(store: Store) -> None:
    for number, state in enumerate(S, 1):
        await kept(store, number, state)
    await kept(store, 20, S.POSTED)
    await kept(store, 21, S.POSTED, user_id=BOB)

    assert await searched(store) == [20, 1 + list(S).index(S.POSTED)]
    assert await searched(store, limit=1) == [20]
    assert await searched(store, user_id=BOB) == [21]


async def test_results_are_found_by_workflow_and_words(store: Store) -> None:
    await kept(store, 1, S.POSTED, text="A red Cat", workflow="one")
    await kept(store, 2, S.POSTED, text="a cat", workflow="two")
    await kept(store, 3, S.POSTED, text="a dog", workflow="two")

    assert await searched(store, workflow="two") == [3, 2]
    assert await searched(store, workflow="tw") == []
    assert await searched(store, text="CAT") == [2, 1]
    assert await searched(store, text="red c") == [1]
    assert await searched(store, text="cat", workflow="two") == [2]
    assert await searched(store, text="bird") == []


async def test_words_of_every_language_are_found_in_either_case(store: Store) -> None:
    await kept(store, 1, S.POSTED, text="Ein Ölbild, КОШКА")

    assert await searched(store, text="ölbild") == await searched(store, text="кошка") == [1]


@pytest.mark.parametrize("text", ["%", "_", "50%", "a_b", "\\", "/", "'", '"; DROP TABLE jobs'])
async def test_signs_of_patterns_are_letters(store: Store, text: str) -> None:
    await kept(store, 1, S.POSTED, text="a cat, 50 of 100, axb")
    await kept(store, 2, S.POSTED, text=f"it is {text} of it")

    assert await searched(store, text=text) == [2]


async def test_in_a_server_only_its_own_results_are_found_and_no_private_ones(
    store: Store,
) -> None:
    await kept(store, 1, S.POSTED, guild_id=10)
    await kept(store, 2, S.POSTED, guild_id=11)
    await kept(store, 3, S.POSTED, guild_id=None)
    await kept(store, 4, S.POSTED, guild_id=10, by_token=True)

    assert await searched(store, guild_id=10) == [1]
    assert await searched(store) == [4, 3, 2, 1]


# Who waits


async def test_the_place_is_that_of_the_first_of_ones_own(store: Store) -> None:
    await kept(store, 1, S.RUNNING)
    await kept(store, 2, user_id=BOB)
    await kept(store, 3, user_id=BOB)
    await kept(store, 4)
    await kept(store, 5, user_id=BOB)
    await kept(store, 6)
    await store.add(numbered(7))

    assert await store.waiting(ALICE) == Waiting(everybody=5, mine=2, first_place=3)
    assert await store.waiting(BOB) == Waiting(everybody=5, mine=3, first_place=1)
    assert await store.waiting(99) == Waiting(everybody=5, mine=0, first_place=0)


async def test_runs_are_the_latest_that_ended_well_the_oldest_first(store: Store) -> None:
    nothing = await store.runs()
    so: dict[str, Any] = {"server": "local", "workflow": "flux", "work": 2.0}
    await kept(store, 1, S.POSTED, seconds=10.0, **so)
    await kept(store, 2, S.EXECUTED, seconds=20.0, **so)
    await kept(store, 3, S.FAILED, seconds=5000.0, **so)
    await kept(store, 4, S.RUNNING, seconds=5000.0, **so)
    await kept(store, 5, S.POSTED, **so)

    assert nothing == []
    assert await store.runs() == [Run("flux", 2.0, "local", 10.0), Run("flux", 2.0, "local", 20.0)]


# What is known of a person


async def test_open_jobs_of_a_person_come_oldest_first(store: Store) -> None:
    for number, state in enumerate(S, 1):
        await kept(store, number, state)
    await kept(store, 20, user_id=BOB)
    await store.add(numbered(21))

    found = await store.open_of(ALICE)

    assert [job.state for job in found] == [s for s in S if not s.final] + [S.PENDING]
    assert ids(found) == [*range(1, len(found)), 21]


async def test_everything_of_a_person_is_theirs_alone_and_can_be_written_down(
    store: Store,
) -> None:
    await kept(store, 1, S.POSTED, text="a 🐈", uploads=using(PICTURE))
    await kept(store, 2, user_id=BOB, text="a secret")
    await kept(store, 3)

    rows = await store.everything_of(ALICE)

    assert [row["interaction_id"] for row in rows] == [1, 3]
    assert rows[0]["text"] == "a 🐈"
    assert PICTURE in rows[0]["uploads"]
    assert "a secret" not in json.dumps(rows)
    assert await store.everything_of(99) == []


async def test_what_ended_is_forgotten_and_others_keep_theirs(store: Store) -> None:
    for number, state in enumerate(S, 1):
        await kept(store, number, state)
        await kept(store, number + 20, state, user_id=BOB)
    await store.keep_draft("any", ALICE, Wish(prompt="a secret"))
    await store.keep_draft("any", BOB, Wish(prompt="mine"))

    files, many = await store.forget(ALICE)

    assert (files, many) == (set(), sum(state.final for state in S))
    assert {job.state for job in await store.recent(ALICE, 99)} == {s for s in S if not s.final}
    assert len(await store.recent(BOB, 99)) == len(S)
    assert await store.draft("any", ALICE) is None
    assert await store.draft("any", BOB) == Wish(prompt="mine")
    assert await store.forget(ALICE) == (set(), 0)


async def test_files_that_somebody_still_uses_are_not_forgotten(store: Store) -> None:
    alone, shared, open_too = (f"{letter * 32}.png" for letter in "abc")
    await kept(store, 1, S.POSTED, uploads=using(alone, shared))
    await kept(store, 2, S.FAILED, uploads=using(alone, open_too))
    await kept(store, 3, S.RUNNING, uploads=using(open_too))
    await kept(store, 4, S.POSTED, user_id=BOB, uploads=using(shared, "d" * 32 + ".png"))

    assert await store.forget(ALICE) == ({alone}, 2)
    assert (await store.forget(BOB))[0] == {shared, "d" * 32 + ".png"}


async def test_files_of_somebodys_draft_are_not_forgotten(store: Store) -> None:
    await kept(store, 1, S.POSTED, uploads=using(PICTURE))
    await store.keep_draft("any", BOB, Wish(files={"image": PICTURE}))

    assert await store.forget(ALICE) == (set(), 1)


async def test_tokens_of_forgotten_jobs_are_gone(store: Store) -> None:
    job = await kept(store, 1, S.POSTED, by_token=True, told=True)
    await store.keep_token(job.id, Token("secret", 5, NOW))

    await store.forget(ALICE)

    assert await store.token(job.id) is None


# Drafts


async def test_a_draft_is_one_persons_and_one_jobs_and_the_latest_counts(store: Store) -> None:
    first, second = Wish(prompt="a cat"), Wish(prompt="a dog", values={"steps": 3})
    await store.keep_draft("one", ALICE, first)
    await store.keep_draft("one", BOB, first)
    await store.keep_draft("two", ALICE, first)

    await store.keep_draft("one", ALICE, second)

    assert await store.draft("one", ALICE) == second
    assert await store.draft("one", BOB) == await store.draft("two", ALICE) == first
    assert await store.draft("two", BOB) is None


async def test_of_many_that_take_a_draft_one_gets_it(store: Store) -> None:
    wish = Wish(prompt="a cat", files={"image": PICTURE})
    await store.keep_draft("one", ALICE, wish)

    taken = await asyncio.gather(*(store.take_draft("one", ALICE) for _ in range(10)))

    assert [each for each in taken if each] == [wish]
    assert await store.draft("one", ALICE) is None
    assert await store.take_draft("one", ALICE) is None


async def test_drafts_of_yesterday_go(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.keep_draft("old", ALICE, Wish(prompt="a cat"))
    monkeypatch.setattr(bot.people, "_DAY", timedelta(0))

    await store.keep_draft("new", ALICE, Wish(prompt="a dog"))

    assert await store.draft("old", ALICE) is None
    assert await store.draft("new", ALICE) == Wish(prompt="a dog")


async def test_a_draft_kept_twice_at_once_is_one_of_the_two(store: Store) -> None:
    wishes = [Wish(prompt="a cat"), Wish(prompt="a dog")]

    await asyncio.gather(*(store.keep_draft("one", ALICE, each) for each in wishes))

    assert await store.draft("one", ALICE) in wishes


# Tokens


async def test_the_newest_token_counts(store: Store) -> None:
    first, second = Token("one", None, NOW), Token("two", 2**63 - 1, NOW + timedelta(minutes=9))

    nothing = await store.token("a job")
    await store.keep_token("a job", first)
    at_first = await store.token("a job")
    await store.keep_token("a job", second)

    assert nothing is None
    assert at_first == first
    assert await store.token("a job") == second
    assert await store.token("another") is None


async def test_dead_tokens_go(store: Store) -> None:
    await store.keep_token("old", Token("one", 1, NOW))
    await store.keep_token("young", Token("two", 2, NOW + timedelta(hours=12)))

    await store.keep_token("new", Token("three", 3, NOW + timedelta(hours=25)))

    assert await store.token("old") is None
    assert await store.token("young") is not None


async def test_a_token_kept_twice_at_once_is_one_of_the_two(store: Store) -> None:
    both = [Token("one", 1, NOW), Token("two", 2, NOW)]

    await asyncio.gather(*(store.keep_token("a job", each) for each in both))

    assert await store.token("a job") in both


async def test_what_a_token_has_to_reach_still_is_found_with_its_moment(store: Store) -> None:
    waits = await kept(store, 1, by_token=True)
    untold = await kept(store, 2, S.FAILED, by_token=True)
    told = await kept(store, 3, S.POSTED, by_token=True, told=True)
    ordinary = await kept(store, 4)
    await kept(store, 5, by_token=True)  # its token died
    for minutes, job in enumerate((waits, untold, told, ordinary)):
        await store.keep_token(job.id, Token("x", None, NOW + timedelta(minutes=minutes)))

    found = await store.open_by_token()

    assert found == [(waits, NOW), (untold, NOW + timedelta(minutes=1))]
