"""Whose turn it is: on the real store, with members who ask for much and for little."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from bot.fairness import Share, fair_turn, share_of
from bot.jobs import JobState
from bot.placement import Waiting, choice
from bot.store import Store
from tests.bot.rows import numbered

HEAVY, LIGHT = 1, 2


@pytest.mark.parametrize(
    ("sent", "waiting", "mine", "turn"),
    [
        (None, None, None, 0.0),
        (30.0, None, None, 30.0),
        (30.0, 60.0, None, 30.0),
        (900.0, 60.0, None, 60.0),
        (30.0, 60.0, 1500.0, 1500.0),
        (90.0, 100.0, 40.0, 90.0),
    ],
    ids=[
        "the first of all",
        "nobody waits",
        "before those who wait",
        "one was sent out of order",
        "behind one's own",
        "one's own are long over",
    ],
)
def test_a_turn_is_now_or_behind_ones_own(
    sent: float | None, waiting: float | None, mine: float | None, turn: float
) -> None:
    assert fair_turn(sent, waiting, mine) == turn


class Line:
    """Members who ask, and a server that takes one job after the other."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.number = 0

    async def ask(self, user_id: int, times: int = 1, cost: float = 10.0, **so: Any) -> None:
        """*so*: see `Share`."""
        for _ in range(times):
            self.number += 1
            request = numbered(self.number, user_id=user_id)
            assert await self.store.add(request, lambda *_: Share(cost, **so))
            await self.store.acknowledge(request.id, self.number)

    async def send(self) -> int:
        """Whose job it was."""
        (job,) = await self.store.pending(1)
        sent = job.to(JobState.SUBMITTING, submitted_at=datetime.now(UTC))
        assert await self.store.save(job, sent)
        return job.request.user_id

    async def cancel_all(self, user_id: int) -> None:
        for job in await self.store.pending(100):
            if job.request.user_id == user_id:
                assert await self.store.save(job, replace(job, state=JobState.CANCELLED))


@pytest.fixture
def line(store: Store) -> Line:
    return Line(store)


async def test_one_picture_is_next_whatever_somebody_else_has_queued(line: Line) -> None:
    await line.ask(HEAVY, 50)
    first = [await line.send(), await line.send()]

    await line.ask(LIGHT)

    assert first == [HEAVY, HEAVY]
    assert await line.send() == LIGHT
    assert await line.send() == HEAVY


async def test_members_take_turns_however_many_each_has_queued(line: Line) -> None:
    for user_id in range(1, 11):
        await line.ask(user_id, 3 * user_id)

    served = Counter[int]()
    for number in range(1, 31):
        served[await line.send()] += 1
        if number % 10 == 0:
            assert len(served) == 10
            assert max(served.values()) - min(served.values()) <= 1


async def test_seconds_count_and_not_pictures(line: Line) -> None:
    await line.ask(HEAVY, 20, cost=40.0)
    await line.ask(LIGHT, 40, cost=10.0)

    served = Counter([await line.send() for _ in range(25)])

    assert served == {HEAVY: 5, LIGHT: 20}


async def test_who_comes_back_does_not_catch_up(line: Line) -> None:
    await line.ask(LIGHT)
    await line.ask(HEAVY, 30)
    for _ in range(21):
        await line.send()

    await line.ask(LIGHT, 10)

    assert Counter([await line.send() for _ in range(10)])[LIGHT] in (5, 6)


async def test_what_was_cancelled_while_it_waited_costs_nothing(line: Line) -> None:
    await line.ask(HEAVY, 30)
    await line.ask(LIGHT, 3)
    await line.send()
    await line.cancel_all(HEAVY)

    await line.ask(HEAVY)

    assert HEAVY in [await line.send() for _ in range(3)]


async def test_the_place_in_line_is_that_of_the_turn(line: Line) -> None:
    await line.ask(HEAVY, 5)
    await line.send()
    await line.ask(LIGHT)

    waiting = await line.store.pending(10)

    assert [job.request.user_id for job in waiting] == [LIGHT, *[HEAVY] * 4]
    assert [(await line.store.place(job)).number for job in waiting] == [1, 2, 3, 4, 5]
    assert (await line.store.waiting(LIGHT)).first_place == 1
    assert (await line.store.waiting(HEAVY)).first_place == 2


# Among the first in line, a server looks for what it has loaded

A, B = frozenset({"a.safetensors"}), frozenset({"b.safetensors"})
NONE = frozenset[str]()


@pytest.mark.parametrize(
    ("line", "loaded", "elsewhere", "place"),
    [
        ([], A, [], None),
        ([B], A, [], 0),
        ([B, A], A, [], 1),
        ([A, B], A, [], 0),
        ([B, NONE, A], A, [], 2),
        ([NONE, A], A, [], 0),
        ([B], A, [B], None),
        ([B, NONE], A, [B], 1),
        ([B, A], A, [B], 1),
        ([A | B, A], A, [], 1),
    ],
    ids=[
        "nobody waits",
        "the only one",
        "one that needs no loading",
        "the first needs no loading",
        "what loads nothing saves nothing",
        "the first needs no model",
        "another server has its model",
        "another server has the model of the first",
        "each has one",
        "half of the models",
    ],
)
def test_a_server_takes_what_needs_no_loading(
    line: list[frozenset[str]],
    loaded: frozenset[str],
    elsewhere: list[frozenset[str]],
    place: int | None,
) -> None:
    assert choice([Waiting(each) for each in line], loaded, elsewhere, now=0.0) == place


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ([Waiting(B, turn=0.0), Waiting(A, user_id=HEAVY, turn=900.0)], 0),
        ([Waiting(B, turn=0.0), Waiting(A, user_id=HEAVY, turn=200.0)], 1),
        ([Waiting(B, turn=0.0), Waiting(A, turn=900.0)], 1),
        ([Waiting(B), Waiting(B, user_id=LIGHT, turn=9.0), Waiting(A, turn=900.0)], 0),
    ],
    ids=[
        "somebody's fiftieth is not before another's first",
        "somebody's next one is",
        "one's own fiftieth is before one's first",
        "but not before somebody else's between them",
    ],
)
def test_only_who_comes_soon_overtakes_others(line: list[Waiting], place: int) -> None:
    assert choice(line, A, [], now=0.0) == place


@pytest.mark.parametrize(("waited", "place"), [(29.0, 1), (31.0, 0)])
def test_the_first_in_line_is_not_overtaken_for_ever(waited: float, place: int) -> None:
    line = [Waiting(B, passed=100.0), Waiting(A)]

    assert choice(line, A, [], now=100.0 + waited) == place


# Weights, lanes, and what was expected wrongly


async def test_who_weighs_twice_as_much_runs_twice_as_often(line: Line) -> None:
    await line.ask(HEAVY, 20, weight=2.0)
    await line.ask(LIGHT, 20)

    sent = Counter([await line.send() for _ in range(12)])

    assert sent == {HEAVY: 8, LIGHT: 4}


async def test_the_relaxed_run_when_nobody_else_waits(line: Line) -> None:
    await line.ask(HEAVY, 2, relaxed=True)
    await line.ask(LIGHT, 2)
    sent = [await line.send(), await line.send()]
    await line.ask(LIGHT, 1)

    sent += [await line.send() for _ in range(3)]

    assert sent == [LIGHT, LIGHT, LIGHT, HEAVY, HEAVY]


async def test_the_relaxed_share_among_themselves(line: Line) -> None:
    await line.ask(HEAVY, 5, relaxed=True)
    await line.ask(LIGHT, 1, relaxed=True)

    assert [await line.send(), await line.send()] == [HEAVY, LIGHT]


async def test_a_place_and_what_is_ahead_know_the_lanes(line: Line) -> None:
    await line.ask(HEAVY, 2, cost=7.0, relaxed=True)
    await line.ask(LIGHT, 1, cost=5.0)

    places = [await line.store.place(job) for job in await line.store.pending(3)]

    assert places == [(1, 0.0), (2, 5.0), (3, 12.0)]


async def test_who_took_longer_than_expected_waits_longer(line: Line) -> None:
    await line.ask(HEAVY, 3, cost=10.0)
    await line.ask(LIGHT, 3, cost=10.0)
    (first,) = await line.store.pending(1)
    await line.send()

    await line.store.settle(replace(first, seconds=30.0))

    assert [await line.send() for _ in range(5)] == [LIGHT, LIGHT, LIGHT, HEAVY, HEAVY]


async def test_who_took_less_than_expected_is_next_sooner(line: Line) -> None:
    await line.ask(HEAVY, 2, cost=30.0)
    await line.ask(LIGHT, 4, cost=10.0)
    (first,) = await line.store.pending(1)
    await line.send()

    await line.store.settle(replace(first, seconds=5.0))

    assert [await line.send() for _ in range(3)] == [LIGHT, HEAVY, LIGHT]


async def test_what_was_learned_counts_for_what_is_asked_later(line: Line) -> None:
    await line.ask(HEAVY, 1, cost=10.0)
    await line.ask(LIGHT, 5, cost=10.0)
    (first,) = await line.store.pending(1)
    await line.send()
    await line.store.settle(replace(first, seconds=25.0))

    await line.ask(HEAVY, 1)

    assert [await line.send() for _ in range(4)] == [LIGHT, LIGHT, LIGHT, HEAVY]


@pytest.mark.parametrize(
    ("roles", "used_up", "share"),
    [
        ((), False, Share(5.0)),
        ((1,), False, Share(5.0, 2.0)),
        ((1, 2), False, Share(5.0, 3.0)),
        ((9,), False, Share(5.0, 1.0, relaxed=True)),
        ((1,), True, Share(5.0, 2.0, relaxed=True)),
    ],
    ids=["no role", "one that weighs", "the best one", "a relaxed one", "used up"],
)
def test_roles_make_the_share(roles: tuple[int, ...], used_up: bool, share: Share) -> None:
    assert share_of(5.0, roles, {1: 2.0, 2: 3.0}, (9,), used_up=used_up) == share
