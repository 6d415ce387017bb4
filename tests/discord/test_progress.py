"""How often messages are edited, and that the end is the last thing they say."""

import asyncio
import itertools
import json
from collections import defaultdict

import pytest

from bot import line
from bot.delivery import PROGRESS_EVERY
from comfy.standin import Pace
from tests.discord.conftest import World, text_of
from tests.fakes.discord import Interaction, Request


def edits(world: World) -> dict[str, list[Request]]:
    """Message id → its edits, in order."""
    found = defaultdict(list)
    for each in world.discord.requests:
        if each.method == "PATCH" and "/messages/" in each.path:
            found[each.path.rpartition("/")[2]].append(each)
    return found


def said(request: Request) -> str:
    return json.dumps(request.json, ensure_ascii=False)


@pytest.fixture
def told_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "_EVERY", 0.05)


async def twenty_jobs(world: World) -> list[Interaction]:
    world.comfyui.pace = Pace(node=0.01, step=0.02)
    await world.start(limits={"jobs_per_user": 50})
    asked = {"workflow": "txt2img", "steps": 10, "width": 256, "height": 256}
    interactions = [await world.generate(**asked) for _ in range(20)]
    for each in interactions:
        await world.discord.until(lambda each=each: world.files(each), timeout=40)
    await world.jobs_end()
    return interactions


async def test_twenty_jobs_in_a_channel_keep_to_one_edit_in_a_while_each(world: World) -> None:
    await twenty_jobs(world)

    assert len(edits(world)) == 20
    for *progress, _ in edits(world).values():
        starts = [each.at for each in progress]
        assert all(later - at >= PROGRESS_EVERY - 0.1 for at, later in itertools.pairwise(starts))


async def test_the_end_of_each_of_twenty_jobs_is_its_last_edit(
    world: World, told_often: None
) -> None:
    interactions = await twenty_jobs(world)

    told = [each for requests in edits(world).values() for each in requests[:-1]]
    assert any("in line" in said(each) for each in told)
    for *progress, last in edits(world).values():
        assert "attachment://" in said(last)
        assert all(each.done_at is not None and each.done_at <= last.at for each in progress)
    assert all("Cancel" not in text_of(each.message) for each in interactions)


async def asked_in_turn(world: World, number: int) -> list[Interaction]:
    """Two of them are on the server, which is held; the others know their places in the line."""
    world.comfyui.hold()
    await world.start()
    interactions = []
    for each in range(number):
        interactions.append(await world.generate(prompt=f"cat {each}"))
        await world.commands_end()
    await world.until(lambda: len(world.bot.servers["local"].holding) == 2)
    await looked(world, 2)
    return interactions


async def test_who_waits_is_told_when_the_line_moves(world: World, told_often: None) -> None:
    *_, last = await asked_in_turn(world, 5)
    before = text_of(last.message)
    (job,) = await world.bot.store.pending(1)

    await world.bot.runner.cancel(job)

    assert "3rd in line" in before
    assert "2nd in line" in await world.told(last, "2nd in line")


async def looked(world: World, times: int) -> None:
    """Until the line was looked at so many times."""
    looks, whole = asyncio.Queue[None](), world.bot.store.line

    async def counted(limit: int, offset: int = 0) -> list:
        found = await whole(limit, offset)
        if limit == line._TOLD:
            looks.put_nowait(None)
        return found

    world.bot.store.line = counted  # type: ignore[method-assign]
    for _ in range(times):
        await asyncio.wait_for(looks.get(), 20)
    world.bot.store.line = whole  # type: ignore[method-assign]


async def test_a_deleted_placeholder_does_not_keep_the_line_from_others(
    world: World, told_often: None
) -> None:
    interactions = await asked_in_turn(world, 5)
    first, *_ = await world.bot.store.pending(3)
    world.discord.delete_message(interactions[3].message)

    await world.bot.runner.cancel(first)

    await world.discord.until(lambda: "2nd in line" in text_of(interactions[4].message), timeout=4)


async def test_the_end_comes_after_an_edit_of_the_line_that_is_under_way(
    world: World, told_often: None
) -> None:
    interactions = await asked_in_turn(world, 4)
    first, second = await world.bot.store.pending(2)
    held = world.discord.hold("PATCH", f"/channels/*/messages/{second.message_id}")
    await world.bot.runner.cancel(first)
    await held.reached()  # the line's edit: "1st in line"

    cancelling = await world.bot.runner.cancel(await fresh(world, second.id))
    await world.told(interactions[2], "Cancelled.")
    held.release()
    text = await world.told(interactions[3], "Cancelled.")

    assert cancelling
    assert "in line" not in text
    requests = edits(world)[str(second.message_id)]
    assert "Cancelled." in said(requests[-1])
    assert requests[-2].done_at is not None
    assert requests[-2].done_at <= requests[-1].at


async def fresh(world: World, job_id: str):  # type: ignore[no-untyped-def]
    job = await world.bot.store.get(job_id)
    assert job is not None
    return job


async def ten_at_once(world: World, **config: object) -> list[Interaction]:
    """Ten people's answered commands, while no server answers."""
    away = {"name": "local", "url": "http://127.0.0.1:9"}
    await world.start(up=False, servers=[away], **config)
    users = [world.discord.add_user(f"user{number}") for number in range(10)]
    interactions = [
        world.discord.slash(each, world.channel, "generate", workflow="postcard", prompt="hi")
        for each in users
    ]
    for each in interactions:
        await each.answered()
    return interactions


async def test_ten_who_ask_at_once_are_told_ten_places(world: World) -> None:
    interactions = await ten_at_once(world)

    texts = "".join(text_of(each.message) for each in interactions)
    for place in ("1st", "2nd", "3rd", *(f"{number}th" for number in range(4, 11))):
        assert texts.count(f"Queued, {place} in line") == 1, place


async def test_ten_who_ask_at_once_do_not_overfill_the_queue(world: World) -> None:
    interactions = await ten_at_once(world, limits={"queue": 3})
    await world.commands_end()

    assert len(await world.bot.store.pending(50)) == 3
    assert sum("The queue is full" in text_of(each.message) for each in interactions) == 7
