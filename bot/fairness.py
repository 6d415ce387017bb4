"""Whose turn it is: start-time fair queueing over members, by GPU seconds. Pure.

A turn is a moment of a clock that all members share. A job's turn is where its member's last one
ends, or now where the member has none: so of fifty pictures only the first competes with the one
of somebody else. Goyal, Vin, Cheng: Start-time Fair Queueing, 1996.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple


class Share(NamedTuple):
    """What a job takes of its member's time.

    *cost*: seconds that it is expected to run on an average server; *weight*: 2 for who may have
    twice as much as others; *relaxed*: it runs only when no other waits.
    """

    cost: float
    weight: float = 1.0
    relaxed: bool = False


def share_of(
    cost: float,
    roles: Collection[int],
    weights: Mapping[int, float],
    relaxed_roles: Collection[int],
    *,
    used_up: bool,
) -> Share:
    """The best of the roles counts. *used_up*: the member's fast seconds of the day."""
    weight = max((weights[each] for each in roles if each in weights), default=1.0)
    return Share(cost, weight, used_up or any(each in relaxed_roles for each in roles))


def fair_turn(sent: float | None, waiting: float | None, mine: float | None) -> float:
    """*sent*: the turn of the job that was sent last; *waiting*: of the next one; *mine*: where the
    member's last job ends. None: there is none."""
    # What was sent out of order, as its model was loaded, does not move the clock on.
    now = min((each for each in (sent, waiting) if each is not None), default=0.0)
    return now if mine is None else max(now, mine)
