"""Whose turn it is: on the real store, with members who ask for much and for little."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bot.fairness import Share, fair_turn
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

    async def ask(self, user_id: int, times: int = 1, cost: float = 10.0) -> None:
        for _ in range(times):
            self.number += 1
            request = numbered(self.number, user_id=user_id)
            assert await self.store.add(request, Share(cost))
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


@pytest.mark.parametrize(("waited", "place"), [(59.0, 1), (61.0, 0)])
def test_the_first_in_line_is_not_overtaken_for_ever(waited: float, place: int) -> None:
    line = [Waiting(B, passed=100.0), Waiting(A)]

    assert choice(line, A, [], now=100.0 + waited) == place
