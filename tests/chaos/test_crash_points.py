"""The bot dies at one point of one job; after its next start people see one end, and it ran once.

The whole table: `python -m tests.chaos points`.
"""

import pytest

from tests.chaos.points import QUICK, STEPS, WAYS, NotReached, all_points, crash, passed

OTHERS = [each for each in all_points() if each not in QUICK]


@pytest.mark.parametrize(("kind", "point", "way"), QUICK, ids=map(" ".join, QUICK))
async def test_a_death_costs_nothing(kind: str, point: str, way: str) -> None:
    told = await crash(kind, point, way)

    assert told.executed <= 1


@pytest.mark.chaos
@pytest.mark.parametrize(("kind", "point", "way"), OTHERS, ids=map(" ".join, OTHERS))
async def test_a_death_anywhere_costs_nothing(kind: str, point: str, way: str) -> None:
    try:
        await crash(kind, point, way)
    except NotReached as error:  # on this way; the test below wants each step on some way
        pytest.skip(str(error))


@pytest.mark.chaos
async def test_every_step_of_the_table_is_taken_by_some_job() -> None:
    for kind, steps in STEPS.items():
        taken = {point for way in WAYS for point in await passed(kind, way)}
        assert {f"before {step}" for step in steps} <= taken
