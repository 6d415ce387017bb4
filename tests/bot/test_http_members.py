"""Who asks over HTTP."""

import pytest

from bot.http_members import Member, member_of

TOKENS = {"website": "a-token-of-some-length", "nightly": "another-token-of-a-length"}


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_a_member_is_known_by_the_token(scheme: str) -> None:
    assert member_of(f"{scheme} a-token-of-some-length", TOKENS) == Member.named("website")


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer a-token", "Basic a-token-of-some-length", "Bearer \udcff"],
)
def test_nobody_else_is(header: str) -> None:
    assert member_of(header, TOKENS) is None


def test_a_name_is_always_the_same_person_and_none_of_discords() -> None:
    first, again = Member.named("website"), Member.named("website")

    assert first == again
    assert Member.named("nightly").user_id != first.user_id
    assert -(2**63) < first.user_id < 0


def test_every_request_is_an_interaction_of_its_own() -> None:
    member = Member.named("website")

    assert len({member.author().interaction_id for _ in range(100)}) == 100
