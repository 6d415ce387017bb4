"""The database: what moderators changed, and the default workflows."""

import asyncio
from datetime import timedelta
from typing import Any

from bot.audit import Change
from bot.store import Store
from tests.bot.builders import NOW

LAB, OTHER = 10, 11


def a_change(**so: Any) -> Change:
    before = {
        "at": NOW,
        "guild_id": LAB,
        "user_id": 30,
        "workflow": "txt2img",
        "action": "limit",
        "before": {"parameters.cfg.max": 30},
        "after": {"parameters.cfg.max": 12.5},
    }
    return Change(**before | so)


# The audit log


async def test_a_change_comes_back_as_it_was_recorded(store: Store) -> None:
    change = a_change(
        user_id=2**63 - 1,
        before={"title": "Katze 🐈 'and' \"dog\"", "allow.roles": [1, 2]},
        after={"enabled": False, "parameters.cfg.min": 0},
    )

    await store.record(change)

    assert await store.changes("txt2img", 10) == [change]


async def test_changes_of_one_workflow_come_newest_first(store: Store) -> None:
    for number in range(5):
        at = NOW - timedelta(days=number)  # the order is that of the rows: clocks go wrong
        await store.record(a_change(user_id=number, at=at))
    await store.record(a_change(workflow="other"))

    found = await store.changes("txt2img", 3)

    assert [each.user_id for each in found] == [4, 3, 2]
    assert await store.changes("unknown", 3) == []


async def test_changes_at_the_same_moment_are_all_kept(store: Store) -> None:
    await asyncio.gather(*(store.record(a_change(user_id=number)) for number in range(20)))

    found = await store.changes("txt2img", 100)

    assert sorted(each.user_id for each in found) == list(range(20))


async def test_the_log_outlives_the_bot(url: str) -> None:
    async with Store.open(url) as store:
        await store.record(a_change())
        await store.set_default(LAB, None, "txt2img")

    async with Store.open(url) as store:
        assert await store.changes("txt2img", 10) == [a_change()]
        assert await store.default_workflow(LAB, None) == "txt2img"


# Default workflows


async def test_a_channel_and_a_server_have_defaults_of_their_own(store: Store) -> None:
    await store.set_default(LAB, None, "txt2img")
    await store.set_default(LAB, 20, "postcard")

    assert await store.default_workflow(LAB, None) == "txt2img"
    assert await store.default_workflow(LAB, 20) == "postcard"
    assert await store.default_workflow(LAB, 21) is None
    assert await store.default_workflow(OTHER, None) is None
    assert await store.default_workflow(OTHER, 20) is None


async def test_a_default_that_is_set_twice_is_the_second(store: Store) -> None:
    for name in ("txt2img", "postcard"):
        await store.set_default(LAB, None, name)
        await store.set_default(LAB, 20, name)

    assert await store.default_workflow(LAB, None) == "postcard"
    assert await store.default_workflow(LAB, 20) == "postcard"


async def test_a_default_that_is_cleared_is_none_and_others_stay(store: Store) -> None:
    for channel in (None, 20, 21):
        await store.set_default(LAB, channel, "txt2img")

    await store.set_default(LAB, 20, None)
    await store.set_default(LAB, 99, None)

    assert await store.default_workflow(LAB, 20) is None
    assert await store.default_workflow(LAB, 21) == "txt2img"
    await store.set_default(LAB, None, None)
    assert await store.default_workflow(LAB, None) is None
    assert await store.default_workflow(LAB, 21) == "txt2img"


async def test_two_moderators_who_choose_at_once_leave_one_default(store: Store) -> None:
    names = [f"flow{number}" for number in range(10)]

    await asyncio.gather(*(store.set_default(LAB, 20, name) for name in names))

    assert await store.default_workflow(LAB, 20) in names


async def test_a_renamed_workflow_stays_a_default_and_keeps_its_log(store: Store) -> None:
    await store.set_default(LAB, None, "txt2img")
    await store.set_default(OTHER, 20, "txt2img")
    await store.set_default(LAB, 21, "postcard")
    await store.record(a_change())

    await store.rename_workflow("txt2img", "pictures")

    assert await store.default_workflow(LAB, None) == "pictures"
    assert await store.default_workflow(OTHER, 20) == "pictures"
    assert await store.default_workflow(LAB, 21) == "postcard"
    assert await store.changes("txt2img", 10) == [a_change()]
