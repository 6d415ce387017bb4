"""Whose turn it is: start-time fair queueing over members, by GPU seconds. Pure.

A turn is a moment of a clock that all members share. A job's turn is where its member's last one
ends, or now where the member has none: so of fifty pictures only the first competes with the one
of somebody else. Goyal, Vin, Cheng: Start-time Fair Queueing, 1996.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


def fair_turn(sent: float | None, waiting: float | None, mine: float | None) -> float:
    """*sent*: the turn of the job that was sent last; *waiting*: of the next one; *mine*: where the
    member's last job ends. None: there is none."""
    # What was sent out of order, as its model was loaded, does not move the clock on.
    now = min((each for each in (sent, waiting) if each is not None), default=0.0)
    return now if mine is None else max(now, mine)


CHOICES = 32  # of the first in line, among which a server looks for its model
_PATIENCE = 60.0  # seconds, for which the first in line may be overtaken


class Waiting(NamedTuple):
    """*models*: files that must be loaded; *passed*: since when others overtake it, if they do."""

    models: frozenset[str]
    passed: float | None = None


def choice(
    line: Sequence[Waiting],
    loaded: frozenset[str],
    loaded_elsewhere: Iterable[frozenset[str]],
    now: float,
) -> int | None:
    """Which of the line a server with *loaded* models takes next; None: it leaves them to others.

    The first one, unless another one needs no loading and the first has not waited long for that.
    *loaded_elsewhere*: on the other servers that have room.
    """
    if not line:
        return None
    first = line[0]
    if not first.models or first.models <= loaded:
        return 0
    if first.passed is not None and now - first.passed > _PATIENCE:
        return 0
    for place, each in enumerate(line):
        if each.models and each.models <= loaded:
            return place
    if any(first.models <= each for each in loaded_elsewhere):
        return 1 if len(line) > 1 else None
    return 0
