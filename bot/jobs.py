"""What a job is: one accepted request, from the command to the posted result. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from bot.errors import InvalidTransition
from bot.wishes import Wish
from comfy.graph import Graph, InputRef
from comfy.models import OutputFile


class JobState(StrEnum):
    """Where a job is."""

    PENDING = "pending"  # in our queue
    SUBMITTING = "submitting"  # at the door of a server, outcome unknown
    QUEUED = "queued"  # in the server's queue
    RUNNING = "running"  # on the GPU
    EXECUTED = "executed"  # outputs known, not posted
    POSTED = "posted"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def final(self) -> bool:
        return not _NEXT[self]

    def can_become(self, state: "JobState") -> bool:
        return state in _NEXT[self]

    @property
    def word(self) -> str:
        """The word for people: pending, running, processing, completed, error, cancelled."""
        return _WORDS[self]


_S = JobState
_ENDS = {_S.FAILED, _S.CANCELLED, _S.EXPIRED}
_NEXT: dict[JobState, set[JobState]] = {
    _S.PENDING: {_S.SUBMITTING, *_ENDS},
    _S.SUBMITTING: {_S.PENDING, _S.QUEUED, *_ENDS},
    _S.QUEUED: {_S.PENDING, _S.RUNNING, _S.EXECUTED, *_ENDS},
    _S.RUNNING: {_S.PENDING, _S.EXECUTED, *_ENDS},
    _S.EXECUTED: {_S.POSTED, _S.FAILED},
    _S.POSTED: set(),
    _S.FAILED: set(),
    _S.CANCELLED: set(),
    _S.EXPIRED: set(),
}
NOWHERE = 0  # the id of a channel or a message where there is none: of a job asked over HTTP
ON_SERVER = (_S.SUBMITTING, _S.QUEUED, _S.RUNNING)  # these take a slot of their server
_WORDS = {
    _S.PENDING: "pending",
    _S.SUBMITTING: "pending",
    _S.QUEUED: "pending",
    _S.RUNNING: "running",
    _S.EXECUTED: "processing",
    _S.POSTED: "completed",
    _S.FAILED: "error",
    _S.CANCELLED: "cancelled",
    _S.EXPIRED: "error",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked, by whom and where: it never changes.

    *graph* is final: rendered when the request was made, so a later edit of the workflow does
    not change it. Only the workflow's own secrets are filled in when it is sent.
    *settings* are the values to show people, in their order.
    """

    id: str  # uuid4; its first eight letters are what people see
    interaction_id: int
    guild_id: int | None
    channel_id: int
    user_id: int
    workflow: str
    text: str
    settings: Mapping[str, Any]
    graph: Graph
    created_at: datetime
    wish: Wish
    uploads: Mapping[InputRef, str] = field(default_factory=dict)  # input → name of a kept file
    by_token: bool = False  # private, or where the bot is no member: see bot/answers.py
    keep_metadata: bool = False  # the workflow may stay in the files that are posted
    spoiler: bool = False  # pictures are posted hidden
    nsfw: bool = False  # only for channels that Discord restricts by age
    work: float = 1.0  # pixels x steps, as far as the graph tells: what its time grows with
    nth: int = 0  # of several that one interaction asked for
    locale: str = "en-US"  # Discord's code of the person's language

    @property
    def over_http(self) -> bool:
        """Discord's ids are positive: see bot/http_members.py."""
        return self.user_id < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A request and how far it is.

    *message_id* is the placeholder's; None until Discord has acknowledged the command.
    *told*: a person can see the end. *messages*: those of the result already posted, in order.
    *outputs* and *texts* grow while it runs. *deaths*: how often its server forgot it while it ran.
    *memory*: a server with no more VRAM than these bytes ran out of it.
    """

    request: Request
    state: JobState = JobState.PENDING
    message_id: int | None = None
    attempt: int = 0
    prompt_id: str | None = None
    server: str | None = None
    outputs: tuple[OutputFile, ...] = ()
    texts: tuple[str, ...] = ()
    note: str = ""  # why it failed, or what was left out: worded for people
    seconds: float | None = None  # run time on the server
    messages: tuple[int, ...] = ()
    told: bool = False
    deaths: int = 0
    memory: int | None = None
    submitted_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def id(self) -> str:
        return self.request.id

    @property
    def short_id(self) -> str:
        return short(self.request.id)

    @property
    def open(self) -> bool:
        """Something is still to be done: run it, post it or tell how it ended."""
        return not (self.state.final and self.told)

    def to(self, state: JobState, **changes: Any) -> "Job":
        if not self.state.can_become(state):
            raise InvalidTransition(f"{self.id}: {self.state} -> {state}")
        return replace(self, state=state, **changes)


def short(job_id: str) -> str:
    return job_id[:8]
