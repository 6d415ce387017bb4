"""Processes on one PostgreSQL: whose server it is, and what becomes of the work of a dead one."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest
import sqlalchemy as sa

from bot import crew as crews
from bot.crew import Crew
from bot.errors import ConfigError, UserError
from bot.fairness import Share
from bot.jobs import JobState
from bot.people import Token
from bot.requests import Usage
from bot.store import Store
from bot.tables import processes
from bot.turns import Place
from tests.bot.builders import NOW
from tests.bot.rows import ids, kept, numbered
from tests.fakes.postgres import postgres

S = JobState
NAMES = ("a", "b", "c", "d")


@dataclass
class Process:
    store: Store
    crew: Crew
    owns: set[str] = field(default_factory=set)

    async def speak(self, *names: str) -> set[str]:
        """The servers that it has afterwards."""
        duty = await self.crew._speak(names or NAMES)
        await self.crew._release(duty.surplus)
        return set(duty.servers)

    async def dies(self) -> None:
        mine = processes.c.id == self.store.database.process
        await self.store.database.write(sa.update(processes).where(mine).values(until=1))


Start = Callable[..., "asyncio.Future[Process]"]


@pytest.fixture
async def start(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    url = postgres().ready_database()
    hosts = iter(f"host-{number}" for number in range(100))
    monkeypatch.setattr(crews.socket, "gethostname", lambda: next(hosts))
    monkeypatch.setattr(crews, "_EVERY", 0.05)
    async with AsyncExitStack() as stack:

        async def started(shards: str) -> Process:
            store = await stack.enter_async_context(Store.open(url))
            crew = Crew(store.database, shards)
            await crew.join()
            return Process(store, crew)

        yield started  # type: ignore[misc]


async def settled(members: Iterable[Process]) -> list[set[str]]:
    for _ in range(3):
        owned = [await each.speak() for each in members]
    return owned


async def test_one_process_has_all_servers(start: Start) -> None:
    one = await start("all")

    assert await one.speak() == set(NAMES)


async def test_processes_share_the_servers_equally(start: Start) -> None:
    members = [await start(f"{n}/3") for n in range(3)]

    owned = await settled(members)

    assert sorted(map(len, owned)) == [1, 1, 2] or sorted(map(len, owned)) == [0, 2, 2]
    assert set.union(*owned) == set(NAMES)
    assert sum(map(len, owned)) == len(NAMES)


async def test_who_comes_later_gets_a_part(start: Start) -> None:
    first = await start("0/2")
    before = await first.speak()
    second = await start("1/2")

    owned = await settled([first, second])

    assert before == set(NAMES)
    assert [len(each) for each in owned] == [2, 2]
    assert not owned[0] & owned[1]


async def test_the_servers_of_who_leaves_go_to_the_others(start: Start) -> None:
    first, second = await start("0/2"), await start("1/2")
    await settled([first, second])

    await second.crew.leave()

    assert await first.speak() == set(NAMES)


async def test_the_work_of_a_dead_process_goes_on(start: Start) -> None:
    first, second = await start("0/2"), await start("1/2")
    await settled([first, second])
    for number, state in enumerate([S.PENDING, S.RUNNING, S.EXECUTED, S.FAILED], 1):
        await kept(second.store, number, state)
    await second.store.add(numbered(5))
    await kept(second.store, 6, S.POSTED, told=True)
    await second.store.keep_token("77", Token("t", None, NOW))
    before = ids(await first.store.in_flight())

    await second.dies()
    await first.speak()

    assert before == []
    assert ids(await first.store.in_flight()) == [2, 3, 4]
    assert ids(await first.store.unacknowledged()) == [5]
    assert list(await first.store.promises()) == ["77"]


async def test_who_counted_as_dead_for_a_moment_buries_nobody_when_it_comes_back(
    start: Start,
) -> None:
    """The database was away: all of them come back, one after the other."""
    first, second = await start("0/2"), await start("1/2")
    owned = await settled([first, second])
    for each in (first, second):
        await each.dies()

    assert [await first.speak(), await second.speak()] == owned
    assert [await first.speak(), await second.speak()] == owned


async def test_a_job_is_followed_by_whose_server_it_is_on(start: Start) -> None:
    first = await start("0/2")
    await first.speak("gpu")
    job = await kept(first.store, 1, S.RUNNING, server="gpu")
    await first.crew._release({"gpu"})
    second = await start("1/2")

    await second.speak("gpu")

    assert await first.store.in_flight() == []
    assert await second.store.in_flight() == [job]


async def test_two_processes_do_not_serve_the_same_shards(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crews, "_LEASE", 0.3)
    first = await start("0/2")
    speaking = asyncio.create_task(keep_speaking(first))

    with pytest.raises(ConfigError, match=r"^Another Comfycord on host-0 serves the shards 0/2"):
        await start("0/2")

    speaking.cancel()


async def keep_speaking(process: Process) -> None:
    while True:
        await process.speak()
        await asyncio.sleep(0.05)


async def test_who_follows_a_dead_process_waits_for_its_end(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crews, "_LEASE", 0.3)
    await start("0/2")

    second = await start("0/2")

    assert await second.speak() == set(NAMES)


async def test_of_many_that_claim_a_job_one_gets_it(start: Start) -> None:
    members = [await start(f"{n}/3") for n in range(3)]
    for number in range(1, 61):
        await kept(members[0].store, number)

    async def claim_all(store: Store) -> list[str]:
        claimed: list[str] = []
        while line := await store.line(10):
            for each in line:
                if await store.claim(each.id, "gpu", "prompt", NOW):
                    claimed.append(each.id)
        return claimed

    claims = await asyncio.gather(*(claim_all(each.store) for each in members))

    times = Counter(job_id for some in claims for job_id in some)
    assert len(times) == times.total() == 60
    assert all(claims)


async def test_what_one_tells_all_hear(start: Start) -> None:
    first, second = await start("0/2"), await start("1/2")
    heard: asyncio.Queue[str] = asyncio.Queue()
    listening = asyncio.create_task(second.store.database.listen(heard.put_nowait))
    assert await asyncio.wait_for(heard.get(), 20) == ""

    job = await kept(first.store, 1)
    await first.store.tell(job.id)

    assert [await asyncio.wait_for(heard.get(), 20) for _ in range(2)] == ["", job.id]
    listening.cancel()


async def test_of_many_requests_at_once_in_two_processes_a_limit_takes_its_number(
    start: Start,
) -> None:
    stores = [(await start(shards)).store for shards in ("0/2", "1/2")]

    def five(banned: bool, usage: Usage) -> Share:
        if usage.mine >= 5:
            raise UserError("Five are the most.")
        return Share(1.0)

    asked = (stores[n % 2].add(numbered(n), five) for n in range(20))
    answers = await asyncio.gather(*asked, return_exceptions=True)

    assert sum(isinstance(each, Place) for each in answers) == 5
    assert sum(isinstance(each, UserError) for each in answers) == 15
