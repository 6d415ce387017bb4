"""Random faults by fixed seeds: every request ends once. Many more: `python -m tests.chaos run`."""

import pytest

from tests.chaos.plan import drawn
from tests.chaos.world import run


async def broken(seed: int, jobs: int) -> str:
    """The facts of each promise that the run broke."""
    verdict = await run(drawn(seed, jobs))
    assert verdict.asked == jobs
    return "\n".join(verdict.facts)


@pytest.mark.parametrize("seed", [8])
async def test_a_few_jobs_survive_whatever_breaks(seed: int) -> None:
    assert await broken(seed, 15) == ""


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(100, 120))
async def test_many_jobs_survive_whatever_breaks(seed: int) -> None:
    assert await broken(seed, 50) == ""
