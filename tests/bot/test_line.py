"""When a job begins."""

from datetime import UTC, datetime, timedelta

import pytest

from bot.line import begins_at


@pytest.mark.parametrize(
    ("place", "seconds", "servers", "expected"),
    [(1, 10.0, 1, 10), (4, 10.0, 1, 40), (5, 10.0, 2, 30), (3, 7.5, 4, 11.25)],
    ids=["next", "fourth", "fifth of two servers", "third of four servers"],
)
def test_a_job_is_ready_when_those_before_it_and_itself_are_done(
    place: int, seconds: float, servers: int, expected: float
) -> None:
    before = datetime.now(UTC)

    found = begins_at(place, seconds, servers)

    after = datetime.now(UTC)
    assert found is not None
    assert before + timedelta(seconds=expected) <= found <= after + timedelta(seconds=expected)


@pytest.mark.parametrize(
    ("seconds", "servers"), [(None, 1), (10.0, 0), (None, 0)],
    ids=["nothing was made yet", "no server", "neither"],
)  # fmt: skip
def test_where_nobody_can_know_nothing_is_said(seconds: float | None, servers: int) -> None:
    assert begins_at(1, seconds, servers) is None
