"""States, the moves between them, and what is derived from them."""

import pytest

from bot.errors import InvalidTransition
from bot.jobs import Job, JobState, short
from tests.bot.builders import a_job, a_request

S = JobState
ENDS = {S.FAILED, S.CANCELLED, S.EXPIRED}
ALLOWED = {
    S.PENDING: {S.SUBMITTING} | ENDS,
    S.SUBMITTING: {S.PENDING, S.QUEUED} | ENDS,
    S.QUEUED: {S.PENDING, S.RUNNING, S.EXECUTED} | ENDS,
    S.RUNNING: {S.PENDING, S.EXECUTED} | ENDS,
    S.EXECUTED: {S.POSTED, S.FAILED},
    S.POSTED: set(),
    S.FAILED: set(),
    S.CANCELLED: set(),
    S.EXPIRED: set(),
}
PAIRS = [(one, other) for one in S for other in S]
MOVES = [(one, other) for one, other in PAIRS if other in ALLOWED[one]]
NO_MOVES = [(one, other) for one, other in PAIRS if other not in ALLOWED[one]]


@pytest.mark.parametrize(("before", "after"), MOVES, ids="-".join)
def test_a_job_goes_where_the_table_lets_it(before: S, after: S) -> None:
    job = a_job(before, attempt=1)

    moved = job.to(after, attempt=2)

    assert before.can_become(after)
    assert (moved.state, moved.attempt) == (after, 2)
    assert (job.state, job.attempt) == (before, 1)


@pytest.mark.parametrize(("before", "after"), NO_MOVES, ids="-".join)
def test_a_job_goes_nowhere_else(before: S, after: S) -> None:
    job = a_job(before)

    assert not before.can_become(after)
    with pytest.raises(InvalidTransition, match=f"{job.id}: {before} -> {after}"):
        job.to(after)


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (S.PENDING, "pending"),
        (S.SUBMITTING, "pending"),
        (S.QUEUED, "pending"),
        (S.RUNNING, "running"),
        (S.EXECUTED, "processing"),
        (S.POSTED, "completed"),
        (S.FAILED, "error"),
        (S.CANCELLED, "cancelled"),
        (S.EXPIRED, "error"),
    ],
    ids=str,
)
def test_people_read_a_plain_word_for_every_state(state: S, word: str) -> None:
    assert state.word == word


@pytest.mark.parametrize("state", S, ids=str)
def test_final_is_a_state_without_a_way_out(state: S) -> None:
    assert state.final is (state in {S.POSTED, *ENDS})


@pytest.mark.parametrize(
    ("state", "told", "is_open"),
    [
        (S.PENDING, False, True),
        (S.EXECUTED, False, True),
        (S.FAILED, False, True),
        (S.FAILED, True, False),
        (S.POSTED, True, False),
    ],
    ids=["waits", "not posted", "failure not told", "failure told", "posted"],
)
def test_a_job_is_open_until_a_person_sees_its_end(state: S, told: bool, is_open: bool) -> None:
    assert a_job(state, told=told).open is is_open


def test_people_see_the_first_eight_letters_of_the_id() -> None:
    job = Job(request=a_request(id="0123456789abcdef"))

    assert (job.id, job.short_id) == ("0123456789abcdef", "01234567")
    assert short("0123456789") == "01234567"
