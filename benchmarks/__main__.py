"""All benchmarks, one after the other.

uv run python -m benchmarks [NAME]...
"""

import asyncio
import importlib
import sys
import time

from benchmarks.report import Report

NAMES: tuple[str, ...] = ("completion",)


def measured(name: str) -> Report:
    module = importlib.import_module(f"benchmarks.{name}")
    began = time.monotonic()
    report: Report = asyncio.run(module.measure())
    print(f"{report}\n\n({name}: {time.monotonic() - began:.0f} s)\n", flush=True)
    return report


if __name__ == "__main__":
    for each in sys.argv[1:] or NAMES:
        measured(each)
