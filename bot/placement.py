"""Which waiting job a server takes next, and when one begins. Pure."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

CHOICES = 32  # of the first in line, among which a server looks for its model
_PATIENCE = 30.0  # seconds, for which the first in line may be overtaken
_LEAD = 240.0  # GPU seconds, by which the turn of who overtakes may be later
_TOLERANCE = 1.1  # estimates are not better than that


class Waiting(NamedTuple):
    """*models*: files that must be loaded; *passed*: since when others overtake it, if they do;
    *user_id*, *turn*: whose it is, and when, see `bot/fairness.py`."""

    models: frozenset[str]
    passed: float | None = None
    user_id: int = 0
    turn: float = 0.0


def choice(
    line: Sequence[Waiting],
    loaded: frozenset[str],
    loaded_elsewhere: Iterable[frozenset[str]],
    now: float,
) -> int | None:
    """Which of the line a server with *loaded* models takes next; None: it leaves them to others.

    The first one, unless another one needs no loading and the first has not waited long for that.
    Only its own member's jobs, or those whose turn comes soon too, go before it: however much one
    has queued, somebody else's picture is not behind all of it.
    *loaded_elsewhere*: on the other servers that would take the first one at once.
    """
    if not line:
        return None
    first = line[0]
    if not first.models or first.models <= loaded:
        return 0
    if first.passed is not None and now - first.passed > _PATIENCE:
        return 0
    others = _may_overtake(line)
    for place in others:
        if line[place].models and line[place].models <= loaded:
            return place
    if any(first.models <= each for each in loaded_elsewhere):
        return others[0] if others else None
    return 0


def _may_overtake(line: Sequence[Waiting]) -> list[int]:
    first, places, users = line[0], [], {line[0].user_id}
    for place, each in enumerate(line[1:], 1):
        if users == {each.user_id} or each.turn - first.turn <= _LEAD:
            places.append(place)
        users.add(each.user_id)
    return places


class Hand(NamedTuple):
    """A server. *busy*: seconds until it has done what it holds; *pace*: 2 if it takes twice as
    long as the average one."""

    busy: float
    pace: float


def starts_in(ahead: float, hands: Sequence[Hand]) -> float:
    """Seconds until all that is *ahead*, in seconds of an average server, has begun or is done.

    The servers fill up like vessels: each works from the moment on when it is free.
    """
    speed = done = begun = 0.0
    for hand in sorted(hands):
        if speed and begun <= hand.busy:
            break
        speed += 1 / hand.pace
        done += hand.busy / hand.pace
        begun = (ahead + done) / speed
    return begun


def ready_in(ahead: float, seconds: float, hands: Sequence[Hand]) -> float:
    """The same until a job behind it is done, which takes an average server *seconds*."""
    begins = starts_in(ahead, hands)
    return min(max(begins, each.busy) + seconds * each.pace for each in hands)


def worth_it(cost: float, here: Hand, others: Sequence[Hand], waiting: float) -> bool:
    """Whether a job is done here no later than the others would be with everything.

    *cost*: its seconds on an average server; *waiting*: those of the whole line, it included. At
    the end of the line a slow server that takes a job makes people wait for it.
    """
    if not others:
        return True
    soonest = min(each.busy + cost * each.pace for each in others)
    together = starts_in(waiting, others)
    return here.busy + cost * here.pace <= max(soonest, together) * _TOLERANCE
