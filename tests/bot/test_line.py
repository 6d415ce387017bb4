"""When a job is ready, and how long jobs take: without a database."""

import pytest

from bot.estimates import Estimates, Run
from bot.placement import Hand, ready_in, starts_in, worth_it

IDLE = Hand(0.0, 1.0)
BUSY = Hand(10.0, 1.0)
SLOW = Hand(0.0, 2.0)


@pytest.mark.parametrize(
    ("ahead", "hands", "expected"),
    [
        (0.0, [IDLE], 0.0),
        (0.0, [BUSY], 10.0),
        (30.0, [IDLE], 30.0),
        (30.0, [BUSY], 40.0),
        (30.0, [IDLE, IDLE], 15.0),
        (5.0, [IDLE, BUSY], 5.0),
        (30.0, [IDLE, BUSY], 20.0),
        (30.0, [IDLE, SLOW], 20.0),
    ],
)
def test_what_is_ahead_fills_the_servers_like_vessels(
    ahead: float, hands: list[Hand], expected: float
) -> None:
    assert starts_in(ahead, hands) == pytest.approx(expected)


def test_a_job_is_ready_where_it_is_done_soonest() -> None:
    assert ready_in(0.0, 10.0, [SLOW, BUSY]) == 20.0
    assert ready_in(0.0, 20.0, [SLOW, BUSY]) == 30.0


@pytest.mark.parametrize(
    ("here", "others", "waiting", "worth"),
    [
        (SLOW, [], 10.0, True),
        (SLOW, [IDLE], 10.0, False),
        (SLOW, [BUSY], 10.0, True),
        (SLOW, [IDLE], 100.0, True),
        (Hand(20.0, 2.0), [BUSY], 10.0, False),
        (IDLE, [IDLE], 10.0, True),
    ],
    ids=[
        "it is the only one",
        "the quick one is free",
        "the quick one is busy for longer",
        "there is work for both",
        "its own slot is later than the quick one's",
        "both are alike",
    ],
)
def test_a_slow_server_takes_a_job_only_if_nobody_has_it_sooner(
    here: Hand, others: list[Hand], waiting: float, *, worth: bool
) -> None:
    assert worth_it(10.0, here, others, waiting) is worth


def runs(*seconds: float, work: float = 1.0, server: str = "a", workflow: str = "w") -> list[Run]:
    return [Run(workflow, work, server, each) for each in seconds]


def test_a_workflow_that_was_never_run_takes_nobody_knows_how_long() -> None:
    assert Estimates(runs(10.0)).seconds("other", 1.0) is None


def test_a_run_that_loaded_its_model_first_does_not_count() -> None:
    assert Estimates(runs(60.0, 10.0)).seconds("w", 1.0) == 10.0
    assert Estimates(runs(60.0, 10.0, 11.0)).seconds("w", 1.0) == 11.0


def test_a_size_that_was_never_run_is_reckoned_from_others() -> None:
    one = Estimates(runs(10.0))
    two = Estimates([*runs(12.0), *runs(22.0, work=2.0)])

    assert one.seconds("w", 4.0) == 40.0
    assert two.seconds("w", 4.0) == pytest.approx(42.0)
    assert two.seconds("w", 0.5) == pytest.approx(7.0)


def test_a_size_that_was_run_often_is_reckoned_from_itself() -> None:
    odd = Estimates([*runs(10.0, 10.0, 10.0), *runs(100.0, 100.0, work=2.0)])

    assert odd.seconds("w", 1.0) == 10.0


def test_larger_work_never_takes_less() -> None:
    odd = Estimates([*runs(20.0), *runs(10.0, work=2.0)])

    assert odd.seconds("w", 3.0) == odd.seconds("w", 1.0) == 15.0


def test_the_pace_of_servers_is_told_by_what_both_ran() -> None:
    both = Estimates([*runs(10.0, 10.0), *runs(20.0, 20.0, server="b"), *runs(500.0, work=9.0)])

    assert both.pace("a") == pytest.approx(2 / 3)
    assert both.pace("b") == pytest.approx(4 / 3)
    assert both.pace("c") == 1.0
    assert both.seconds("w", 1.0) == 15.0


def test_what_is_learned_changes_what_was_reckoned() -> None:
    estimates = Estimates(runs(10.0))
    before = estimates.pace("b")

    estimates.learn(Run("w", 1.0, "b", 30.0))

    assert before == 1.0
    assert estimates.pace("b") == 1.5
    assert estimates.seconds("w", 1.0) == 20.0
