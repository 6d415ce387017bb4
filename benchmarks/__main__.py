"""All benchmarks, and docs/benchmarks.md from what they told. About ten minutes.

    uv run python -m benchmarks [NAME]...

With names only these are run, and nothing is written. The longest one mostly waits, so it runs
beside the others; they run one after the other.
"""

import asyncio
import os
import platform
import sys
import time
from asyncio.subprocess import PIPE
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
BESIDE = "requests"
NAMES = (
    "completion", "frames", "memory", "answers", "waiting", "restart", "throughput", "scheduling",
    "sharing", "expected", "gap", "channels", "recovery", "watching", "scale",
    "story",
)  # fmt: skip
ABOUT = """# What it costs

Made by `uv run python -m benchmarks` on {day}: {machine}. Every table has something to
compare with that was measured in the same run: a limit, or another way of working. A *poller* is a
plain bot as most are: it asks for the history once a second and holds pictures whole in memory.
ComfyUI and Discord are stand-ins on loopback, on the same cores. A goal that was missed says so.

"""


async def told_by(name: str) -> str:
    """What the benchmark printed, with its command and how long it took."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"benchmarks.{name}", cwd=ROOT, stdout=PIPE
    )
    output, _ = await process.communicate()
    took = time.monotonic() - began
    told = f"{output.decode().strip()}\n\n`uv run python -m benchmarks.{name}` took {took:.0f} s.\n"
    print(told, flush=True)
    return told


async def all_of_them() -> list[str]:
    beside = asyncio.create_task(told_by(BESIDE))
    return [*[await told_by(name) for name in NAMES], await beside]


def machine() -> str:
    return f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}"


async def main(names: list[str]) -> None:
    if names:
        for name in names:
            await told_by(name)
        return
    began = time.monotonic()
    told = await all_of_them()
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    minutes = (time.monotonic() - began) / 60
    about = ABOUT.format(day=day, machine=machine())
    PAGE.write_text(
        f"{about}All of them took {minutes:.1f} minutes.\n\n" + "\n".join(told), "utf-8"
    )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
