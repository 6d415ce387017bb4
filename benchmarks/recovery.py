"""After a fault: how soon results flow again, and whether each arrives once.

    uv run python -m benchmarks.recovery

Each fault has a bot of its own, with the patience that it has in earnest, and twelve jobs of a
second for one server. Measured is the time from the fault, or from its end where it lasts, to the
first picture of a job that ended after it. The reference is a bot that nothing happens to.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple

from benchmarks.answers import picture
from benchmarks.channels import prompts_by_message
from benchmarks.lab import Lab, lab
from benchmarks.report import Goal, Report, main
from comfy.standin import Pace
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.discord import Fault
from tests.fakes.proxy import Proxy

JOBS, BEFORE = 12, 3
STEPS, STEP = 10, 0.1  # seconds
AWAY = 6.0  # seconds, where a fault lasts
PATIENCE = 70.0  # seconds, after which what is not posted is lost
GOAL = 30.0  # seconds


class World(NamedTuple):
    laboratory: Lab
    comfyui: "EndingComfyUI"
    proxy: Proxy


class EndingComfyUI(FakeComfyUI):
    """*ended*: when each prompt was done, as loop time."""

    def __init__(self) -> None:
        super().__init__(pace=Pace(node=0.0, step=STEP, previews=False))
        self.picture = picture(2**16)
        self.ended: dict[str, float] = {}

    async def execute(self, item: Any) -> dict[str, Any]:
        entry = await super().execute(item)
        self.ended[item.prompt_id] = asyncio.get_running_loop().time()
        return entry


async def nothing(_: World) -> None: ...


async def socket_drops(world: World) -> None:
    world.comfyui.drop()


async def half_open(world: World) -> None:
    """Connections stay, and nothing passes; new ones work."""
    world.proxy.freeze(new=False)


async def comfyui_restarts(world: World) -> None:
    world.proxy.refuse()
    world.comfyui.forget()
    await asyncio.sleep(AWAY)
    world.proxy.heal()


async def discord_fails(world: World) -> None:
    faults = [Fault(method, "*", times=10**6) for method in ("GET", "POST", "PATCH")]
    world.laboratory.discord.faults += faults
    await asyncio.sleep(AWAY)
    world.laboratory.discord.faults.clear()


FAULTS: tuple[tuple[str, Callable[[World], Awaitable[None]]], ...] = (
    ("nothing", nothing),
    ("the socket drops", socket_drops),
    ("all connections are half-open", half_open),
    (f"ComfyUI is away for {AWAY:.0f} s and has lost its queue", comfyui_restarts),
    (f"Discord answers 502 for {AWAY:.0f} s", discord_fails),
)


class Seen(NamedTuple):
    """*seconds*: until results flow again; *waited*: those of a picture after the end of its job,
    at most; *again*: how many runs were more than one of a job."""

    seconds: float
    waited: float
    lost: int
    twice: int
    again: int


async def seen(fault: Callable[[World], Awaitable[None]]) -> Seen:
    comfyui, clock = EndingComfyUI(), asyncio.get_running_loop().time
    async with lab([comfyui]) as laboratory, Proxy(comfyui.url) as proxy:
        comfyui.url = proxy.url
        discord, channel = laboratory.discord, laboratory.channel
        user = discord.add_user("alice")
        async with laboratory.running():
            options: dict[str, Any] = {"workflow": "txt2img", "prompt": "a cat", "steps": STEPS}
            asked = [await laboratory.ask(user, **options) for _ in range(JOBS)]
            await laboratory.posted(asked[BEFORE - 1])
            began = clock()
            await fault(World(laboratory, comfyui, proxy))
            over = clock()
            with suppress(TimeoutError):
                await discord.until(lambda: all(map(laboratory.is_posted, asked)), PATIENCE)
            prompts = prompts_by_message(laboratory)
        taken = [each for each in discord.requests if each.files and each.status == 200]
        ended = [comfyui.ended[prompts[each.path.rpartition("/")[2]]] for each in taken]
        waits = [(each.at, at) for each, at in zip(taken, ended, strict=True)]
        after = [arrived for arrived, at in waits if arrived > over and at > began]
        pictures = sum(bool(discord.files_of(each)) for each in discord.messages[channel.id])
        return Seen(
            min(after, default=clock()) - over,
            max(arrived - at for arrived, at in waits),
            sum(not laboratory.is_posted(each) for each in asked),
            pictures - sum(map(laboratory.is_posted, asked)),
            len(comfyui.executed) - JOBS,
        )


async def measure() -> Report:
    found = await asyncio.gather(*(seen(fault) for _, fault in FAULTS))
    names = [name for name, _ in FAULTS]
    return Report(
        "Recovery",
        f"{JOBS} jobs of a second for one server and, in their midst, a fault.",
        (
            "what happens",
            "results flow after s",
            "longest wait s",
            "lost",
            "posted twice",
            "ran again",
        ),
        [(name, *each) for name, each in zip(names, found, strict=True)],
        [
            Goal("longest until results flow, s", max(each.seconds for each in found), GOAL),
            Goal("longest wait of a picture, s", max(each.waited for each in found), GOAL),
            Goal("lost", sum(each.lost for each in found), 0),
            Goal("posted twice", sum(each.twice for each in found), 0),
        ],
    )


if __name__ == "__main__":
    main(measure)
