"""What happens in a run, all of it drawn from the seed: who asks for what, and what breaks when."""

import random
from dataclasses import dataclass, field
from typing import NamedTuple

PER_JOB = 0.1  # seconds; trouble lasts as long as people ask, then everything heals

# How often, against each other.
WEIGHTS = {
    "kill": 6,
    "stop": 2,
    "comfyui restarts": 4,
    "comfyui restarts after a save": 4,
    "comfyui is away": 3,
    "socket drops": 5,
    "socket is deaf": 3,
    "answer to a prompt lost": 4,
    "half-open": 4,
    "late answers": 4,
    "truncated answers": 4,
    "refused connections": 4,
    "execution error": 3,
    "interrupted by a stranger": 3,
    "queue cleared by a stranger": 2,
    "history cleared": 3,
    "discord 500": 4,
    "discord 502 after it was done": 5,
    "discord resets": 4,
    "discord resets after it was done": 5,
    "discord 429s": 4,
    "gateway op 7": 4,
    "gateway op 9": 2,
    "gateway closes": 4,
    "interaction comes twice": 4,
}
# Where the database is one of several programs that share it.
OF_POSTGRESQL = {"database restarts": 4}
# These may cost an execution: what ran is lost, or nobody can know of it.
COSTLY = frozenset(
    {
        "comfyui restarts",
        "comfyui restarts after a save",
        "comfyui is away",
        "interrupted by a stranger",
        "queue cleared by a stranger",
        "history cleared",
        "half-open",  # a prompt that it held back may arrive when it was sent anew
    }
)


class Asked(NamedTuple):
    """A request: *at* seconds after the start."""

    at: float
    number: int
    member: int
    way: str
    batch: int
    upload: bool
    fails: bool


class Trouble(NamedTuple):
    at: float
    kind: str
    server: int
    size: float  # between 0 and 1: how much, how long, or which

    def one_of(self, number: int) -> int:
        return int(self.size * 1000) % number


class Deed(NamedTuple):
    """*kind*: a member cancels, a moderator cancels or deletes; *after* seconds after asking."""

    at: float
    number: int
    kind: str


@dataclass(frozen=True, slots=True)
class Plan:
    """*parts*: bots that share the *database*; each has the jobs of its own guilds."""

    seed: int
    asked: list[Asked]
    troubles: list[Trouble]
    deeds: list[Deed]
    tokens_die: bool
    database: str
    parts: int
    steps: list[Asked | Trouble | Deed] = field(init=False)

    def __post_init__(self) -> None:
        steps = sorted([*self.asked, *self.troubles, *self.deeds], key=lambda each: each.at)
        object.__setattr__(self, "steps", steps)

    def part(self, number: int) -> int:
        """To which a job is asked."""
        return number % self.parts

    def text(self, number: int) -> str:
        asked = self.asked[number]
        return f"job {number} of {self.seed}{', which fails' if asked.fails else ''}."


def drawn(seed: int, jobs: int, database: str = "sqlite", parts: int = 1) -> Plan:
    weights = WEIGHTS if database == "sqlite" else WEIGHTS | OF_POSTGRESQL
    weights = weights | {each: parts * weights[each] for each in ("kill", "stop")}
    dice, lasts = random.Random(seed), jobs * PER_JOB
    moments = sorted(dice.uniform(0, lasts) for _ in range(jobs))
    asked, deeds = [], []
    for number, at in enumerate(moments):
        way = dice.choices(("channel", "private", "stranger"), (6, 2, 2))[0]
        upload = dice.random() < 0.1
        batch = 1 if upload else dice.choices((1, 2, 3, 4), (7, 1, 1, 1))[0]
        asked.append(Asked(at, number, dice.randrange(3), way, batch, upload, dice.random() < 0.06))
        kinds = ("", "member cancels", "moderator cancels", "moderator deletes")
        kind = dice.choices(kinds, (86, 6, 4, 4))[0]
        if kind and not (way != "channel" and kind.startswith("moderator")):
            deeds.append(Deed(at + dice.expovariate(2.0), number, kind))
    troubles = [
        Trouble(dice.uniform(0.1, lasts), kind, dice.randrange(2), dice.random())
        for kind in dice.choices(list(weights), list(weights.values()), k=dice.randint(4, 14))
    ]
    tokens_die = dice.random() < 0.15
    return Plan(seed, asked, troubles, deeds, tokens_die, database, parts)
