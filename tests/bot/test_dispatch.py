"""Which server gets which waiting job: on the real store, with servers that only pretend."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from bot import placement
from bot.dispatch import Dispatch
from bot.estimates import Estimates, Run
from bot.fairness import Share
from bot.servers import Server, Servers
from bot.store import Store
from comfy.graph import Graph
from tests.bot.rows import numbered
from tests.bot.test_servers import knowing

MODELS = ("a.pt", "b.pt", "c.pt")


def graph(model: str = "") -> Graph:
    inputs = {"ckpt_name": model} if model else {}
    return {"1": {"class_type": "K", "inputs": inputs}}


class Line:
    """Waiting jobs of one second each, and servers that know the node K."""

    def __init__(self, store: Store, *names: str, runs: Sequence[Run] = ()) -> None:
        self.store = store
        self.servers = Servers(knowing(each, "K", models=MODELS) for each in names)
        self.estimates = Estimates(runs)
        self.dispatch = Dispatch(store, self.servers, self.estimates)
        self.number = 0

    def __getitem__(self, name: str) -> Server:
        return self.servers[name]

    async def ask(self, *models: str, cost: float = 1.0, relaxed: bool = False) -> None:
        """Each by somebody else."""
        for model in models:
            self.number += 1
            request = numbered(self.number, user_id=self.number, graph=graph(model))
            assert await self.store.add(request, lambda *_: Share(cost, relaxed=relaxed))
            await self.store.acknowledge(request.id, self.number)

    async def placed(self) -> list[tuple[int, str]]:
        """Numbers of jobs with their servers, of one round."""
        found = []
        async for job, server in self.dispatch.claimed():
            assert server is not None
            assert job.server == server.name
            server.hold(job.id, 1.0)
            found.append((job.message_id or 0, server.name))
        return found

    def end_all(self) -> None:
        for server in self.servers.values():
            server.holding.clear()


def paces(slow: float) -> list[Run]:
    """Server "slow" takes *slow* times as long as "fast"."""
    return [Run("w", 1.0, "fast", 1.0), Run("w", 1.0, "slow", slow)]


async def test_the_line_fills_all_servers_in_turn(sqlite_store: Store) -> None:
    line = Line(sqlite_store, "one", "two")
    await line.ask("", "", "", "", "")

    placed = await line.placed()

    assert [number for number, _ in placed] == [1, 2, 3, 4]
    assert [name for _, name in placed] == ["one", "two", "one", "two"]


async def test_the_last_job_waits_for_the_server_that_has_it_done_sooner(
    sqlite_store: Store,
) -> None:
    line = Line(sqlite_store, "fast", "slow", runs=paces(9.0))
    await line.ask("", "", "")

    assert await line.placed() == [(1, "fast"), (2, "fast")]
    line.end_all()
    assert await line.placed() == [(3, "fast")]


async def test_a_slow_server_works_where_there_is_enough_for_all(sqlite_store: Store) -> None:
    line = Line(sqlite_store, "fast", "slow", runs=paces(2.0))
    await line.ask(*[""] * 12)

    assert sorted(name for _, name in await line.placed()) == ["fast", "fast", "slow", "slow"]


async def test_who_has_the_model_takes_the_job(sqlite_store: Store) -> None:
    line = Line(sqlite_store, "one", "two")
    line["one"].loaded, line["two"].loaded = frozenset({"b.pt"}), frozenset({"a.pt"})
    await line.ask("a.pt", "b.pt")

    assert sorted(await line.placed()) == [(1, "two"), (2, "one")]


async def test_a_job_is_left_to_nobody_who_would_leave_it_too(sqlite_store: Store) -> None:
    """The quick server has another model, and the slow one would take longer."""
    line = Line(sqlite_store, "fast", "slow", runs=paces(9.0))
    line["fast"].loaded, line["slow"].loaded = frozenset({"b.pt"}), frozenset({"a.pt"})
    await line.ask("a.pt")

    assert await line.placed() == [(1, "fast")]


async def test_nobody_is_overtaken_for_ever(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line(sqlite_store, "one")
    line["one"].loaded = frozenset({"a.pt"})
    await line.ask("b.pt", "a.pt", "a.pt", "a.pt", "a.pt")

    before = await line.placed()
    line.end_all()
    monkeypatch.setattr(placement, "_PATIENCE", 0.0)

    assert [number for number, _ in before] == [2, 3]
    assert (await line.placed())[0] == (1, "one")


async def test_a_loaded_model_lets_nobody_relaxed_overtake(sqlite_store: Store) -> None:
    line = Line(sqlite_store, "one")
    line["one"].loaded = frozenset({"a.pt"})
    await line.ask("a.pt", "a.pt", relaxed=True)
    await line.ask("b.pt")

    assert [number for number, _ in await line.placed()] == [3, 1]


async def test_a_paused_server_gets_nothing(sqlite_store: Store) -> None:
    line = Line(sqlite_store, "one", "two")
    line["one"].paused = True
    line["two"].leaving = True
    await line.ask("")

    assert await line.placed() == []


async def test_a_server_of_another_process_that_is_idle_is_left_its_job(
    sqlite_store: Store,
) -> None:
    line = Line(sqlite_store, "mine", "theirs")
    line["theirs"].own(ours=False)
    await line.ask("", "")

    assert await line.placed() == [(1, "mine")]

    for job in await sqlite_store.pending(1):
        now = datetime.now(UTC) + timedelta(seconds=1)
        assert await sqlite_store.claim(job.id, "theirs", "prompt", now)
    await line.ask("", "")
    assert [name for _, name in await line.placed()] == ["mine"]


async def test_jobs_far_behind_are_found_by_the_only_server_that_can_run_them(
    sqlite_store: Store,
) -> None:
    line = Line(sqlite_store, "one", "two")
    line["one"].hold("x", 1.0)
    line["one"].hold("y", 1.0)
    two = line.servers["two"]
    two.nodes = knowing("two", "X").nodes
    await line.ask(*["a.pt"] * 60)
    request = numbered(99, user_id=99, graph={"1": {"class_type": "X", "inputs": {}}})
    await sqlite_store.add(request)
    await sqlite_store.acknowledge(request.id, 99)

    assert await line.placed() == [(99, "two")]
