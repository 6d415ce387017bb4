"""Discord is not asked again what it refused."""

from typing import Any

import discord
import pytest

from bot.publisher import DeliveryDelayed, Undeliverable
from bot.restraint import Restraint

CHANNEL = 20


class Answer:
    """Of Discord, as discord.py keeps it."""

    reason = "Forbidden"

    def __init__(self, status: int, *, by_discord: bool = True) -> None:
        self.status = status
        self.headers = {"Via": "1.1 google"} if by_discord else {}


class Desk:
    def __init__(self) -> None:
        self.now = 0.0
        self.rejections = 0
        self.restraint = Restraint(lambda: self.now, self._rejected)

    def _rejected(self) -> None:
        self.rejections += 1

    def refused(self, status: int, code: int = 0, *, by_discord: bool = True) -> None:
        answer: Any = Answer(status, by_discord=by_discord)
        told = {"code": code, "message": "Missing Permissions"}
        with pytest.raises(discord.HTTPException), self.restraint.asking(CHANNEL):
            raise discord.HTTPException(answer, told)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_channel_that_refused_three_times_is_left_alone_for_ten_minutes(desk: Desk) -> None:
    for _ in range(3):
        desk.refused(403, 50013)

    with pytest.raises(Undeliverable, match="Missing Permissions"), desk.restraint.asking(CHANNEL):
        raise AssertionError("asked")
    with desk.restraint.asking(CHANNEL + 1):
        pass
    desk.now = 601
    with desk.restraint.asking(CHANNEL):
        pass


def test_a_success_in_between_begins_the_count_anew(desk: Desk) -> None:
    for _ in range(2):
        desk.refused(404, 10003)
    with desk.restraint.asking(CHANNEL):
        pass
    for _ in range(2):
        desk.refused(404, 10003)

    with desk.restraint.asking(CHANNEL):
        pass


def test_an_address_that_cloudflare_refuses_is_silent_for_ten_minutes(desk: Desk) -> None:
    desk.refused(429, by_discord=False)

    with pytest.raises(DeliveryDelayed), desk.restraint.asking(CHANNEL + 1):
        raise AssertionError("asked")
    desk.now = 601
    with desk.restraint.asking(CHANNEL):
        pass


@pytest.mark.parametrize("status", [429, 500, 404])
def test_what_passes_by_itself_changes_nothing(desk: Desk, status: int) -> None:
    for _ in range(5):
        desk.refused(status, 10008 if status == 404 else 0)

    with desk.restraint.asking(CHANNEL):
        pass
    assert desk.rejections == 0


def test_a_token_that_discord_no_longer_knows_ends_the_bot(desk: Desk) -> None:
    desk.refused(401)

    assert desk.rejections == 1
