"""How many requests a second begin, and what waits for the first answer."""

import asyncio
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace

import aiohttp
import discord
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bot.pacing import FirstAlone, Pacing

A_SECOND = 50  # requests that Discord takes


@pytest.fixture
async def server() -> AsyncIterator[TestServer]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with TestServer(app) as server:
        yield server


async def begun(server: TestServer, path: str, requests: int, stands_still: float) -> list[float]:
    """When each of so many requests at once began; the loop stands still after a while."""
    times: list[float] = []
    seen = aiohttp.TraceConfig()

    async def see(_: aiohttp.ClientSession, __: SimpleNamespace, ___: object) -> None:
        times.append(time.monotonic())

    seen.on_request_start.append(see)
    async with aiohttp.ClientSession(trace_configs=[Pacing().trace, seen]) as session:
        asking = asyncio.gather(*(session.get(server.make_url(path)) for _ in range(requests)))
        asyncio.get_running_loop().call_later(0.2, time.sleep, stands_still)
        await asking
    return times


async def test_no_second_has_more_requests_than_discord_takes_though_the_loop_stood_still(
    server: TestServer,
) -> None:
    times = await begun(server, "/channels/1/messages", 90, stands_still=0.5)

    seconds = [sum(at <= each < at + 1 for each in times) for at in times]
    assert max(seconds) <= A_SECOND
    assert times[-1] - times[0] < 2.7, "and not many less"


async def test_answers_to_interactions_do_not_wait(server: TestServer) -> None:
    times = await begun(server, "/interactions/1/token/callback", 90, stands_still=0)

    assert times[-1] - times[0] < 0.5


async def test_nobody_begins_before_the_first_was_answered_and_then_everybody() -> None:
    first, asking, answered = FirstAlone(), list[int](), asyncio.Event()

    async def ask(number: int) -> None:
        async with first.asking():
            asking.append(number)
            await answered.wait()

    tasks = [asyncio.create_task(ask(number)) for number in range(3)]
    await asyncio.sleep(0)
    assert asking == [0]
    answered.set()
    await asyncio.gather(*tasks)
    assert asking == [0, 1, 2]
    answered.clear()
    more = [asyncio.create_task(ask(number)) for number in range(3, 6)]
    await asyncio.sleep(0)
    assert asking == [0, 1, 2, 3, 4, 5]
    answered.set()
    await asyncio.gather(*more)


@pytest.mark.parametrize("status", [None, 429, 502])
async def test_after_a_first_one_that_taught_nothing_the_next_is_the_first(
    status: int | None,
) -> None:
    told = await in_order(OSError() if status is None else refused(status))

    assert told == ["0 asks", "0 ends", "1 asks", "1 ends", "2 asks", "2 ends"]


async def test_a_refusal_teaches_too() -> None:
    told = await in_order(refused(403))

    assert told == ["0 asks", "0 ends", "1 asks", "2 asks", "1 ends", "2 ends"]


async def in_order(error: Exception) -> list[str]:
    """What three do at once, of which the first one fails."""
    first, told = FirstAlone(), list[str]()

    async def ask(number: int) -> None:
        async with first.asking():
            told.append(f"{number} asks")
            for _ in range(3):
                await asyncio.sleep(0)
            told.append(f"{number} ends")
            if number == 0:
                raise error

    await asyncio.gather(*(ask(number) for number in range(3)), return_exceptions=True)
    return told


def refused(status: int) -> discord.HTTPException:
    response = SimpleNamespace(status=status, reason="")
    return discord.HTTPException(response, None)  # type: ignore[arg-type]


async def test_nobody_waits_for_ever_for_a_first_one_without_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bot.pacing._PATIENCE", 0.05)
    first, never = FirstAlone(), asyncio.Event()

    async def hang() -> None:
        async with first.asking():
            await never.wait()

    hanging = asyncio.create_task(hang())
    await asyncio.sleep(0)
    async with first.asking():
        pass
    monkeypatch.setattr("bot.pacing._PATIENCE", 60)
    async with asyncio.timeout(20), first.asking():
        pass

    assert not hanging.done()
    hanging.cancel()
