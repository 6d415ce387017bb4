"""What is forgotten after a while, and who may not ask."""

from datetime import timedelta
from typing import Any

import pytest

from bot.jobs import JobState as S
from bot.people import Token
from bot.store import Store
from comfy.graph import InputRef
from tests.bot.builders import NOW
from tests.bot.rows import kept

OLD = NOW - timedelta(days=31)
MONTH_AGO = NOW - timedelta(days=30)
ALICE, LAB, ELSEWHERE = 30, 10, 11


@pytest.mark.parametrize(
    ("state", "so"),
    [
        (S.FAILED, {}),
        (S.CANCELLED, {}),
        (S.EXPIRED, {}),
        (S.POSTED, {"by_token": True}),
        (S.POSTED, {"user_id": -30}),
    ],
    ids=["failed", "cancelled", "expired", "a private result", "a result for a script"],
)
async def test_what_came_to_nothing_or_was_private_is_deleted(
    store: Store, state: S, so: dict[str, Any]
) -> None:
    picture = {InputRef("1", "image"): "0" * 32 + ".png"}
    old = await kept(store, 1, state, told=True, created_at=OLD, uploads=picture, **so)
    young = await kept(store, 2, state, told=True, created_at=NOW, **so)
    await store.keep_token(old.id, Token("a token", None, NOW))

    files = await store.forget_before(MONTH_AGO)

    assert await store.get(old.id) is None
    assert await store.token(old.id) is None
    assert await store.get(young.id) == young
    assert files == {"0" * 32 + ".png"}


async def test_a_result_in_a_channel_keeps_what_its_buttons_need(store: Store) -> None:
    job = await kept(store, 1, S.POSTED, told=True, created_at=OLD, texts=("a poem",))

    assert await store.forget_before(MONTH_AGO) == set()

    left = await store.get(job.id)
    assert left is not None
    assert left.request.wish == job.request.wish
    assert (left.request.graph, left.texts) == ({}, ())


@pytest.mark.parametrize(
    ("state", "told"), [(S.PENDING, False), (S.RUNNING, False), (S.FAILED, False)]
)
async def test_what_is_not_over_is_never_forgotten(store: Store, state: S, told: bool) -> None:
    job = await kept(store, 1, state, told=told, created_at=OLD)

    await store.forget_before(MONTH_AGO)

    assert await store.get(job.id) == job


async def test_a_ban_holds_in_its_server_and_outside_of_servers(store: Store) -> None:
    await store.ban(LAB, ALICE, "spam")

    assert await store.banned(ALICE, LAB)
    assert await store.banned(ALICE, None)
    assert not await store.banned(ALICE, ELSEWHERE)
    assert not await store.banned(ALICE + 1, LAB)


async def test_a_ban_is_lifted_once(store: Store) -> None:
    await store.ban(LAB, ALICE, "spam")
    await store.ban(LAB, ALICE, "more spam")

    assert await store.unban(LAB, ALICE)
    assert not await store.unban(LAB, ALICE)
    assert not await store.banned(ALICE, None)
