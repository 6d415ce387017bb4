"""What a monitor reads at /metrics, in the format of Prometheus."""

import asyncio
import importlib.metadata
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace

import aiohttp
import discord
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from bot.errors import StoreError
from bot.jobs import Job, JobState
from bot.servers import Server
from comfy.errors import ServerError

log = logging.getLogger(__name__)

_MOMENT = 0.005  # seconds
OPEN = [each for each in JobState if not each.final]
_ENDS = [each for each in JobState if each.final]
_LONG = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)  # seconds
_SHORT = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300)
_LAG = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
# Whose fault a warning or an error tells of: by its exception, or by its logger's name.
_KINDS = {
    "bot.servers": "comfyui",
    "bot.execution": "comfyui",
    "bot.spool": "comfyui",
    "comfy": "comfyui",
    "discord": "discord",
    "bot.delivery": "discord",
    "bot.answers": "discord",
    "bot.restraint": "discord",
    "bot.database": "database",
    "bot.sqlite": "database",
    "bot.postgres": "database",
    "bot.store": "database",
}
_CAUSES = {
    StoreError: "database",
    ServerError: "comfyui",
    discord.DiscordException: "discord",
    aiohttp.ClientError: "discord",  # those of ComfyUI are `ServerError`
    OSError: "internal",  # a full disk
}
KINDS = (*dict.fromkeys(_KINDS.values()), "internal")


# When each counter began: a second series that nobody reads.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    CONTENT_TYPE = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        here = self.registry
        self._jobs = Gauge(
            "comfycord_jobs", "Jobs that have not ended, by state", ["state"], registry=here
        )
        self._ended = Counter(
            "comfycord_jobs_ended", "Jobs that ended, by state", ["state"], registry=here
        )
        self._waiting = Histogram(
            "comfycord_waiting_seconds",
            "From the request until a server takes it",
            buckets=_LONG,
            registry=here,
        )
        self._run = Histogram(
            "comfycord_run_seconds", "On the server", buckets=_LONG, registry=here
        )
        self._delivery = Histogram(
            "comfycord_delivery_seconds",
            "From the end on the server until people see the result",
            buckets=_SHORT,
            registry=here,
        )
        self._up = Gauge(
            "comfycord_server_up", "1: this ComfyUI answers", ["server"], registry=here
        )
        self._holding = Gauge(
            "comfycord_server_jobs", "Jobs that this ComfyUI holds", ["server"], registry=here
        )
        self._paused = Gauge(
            "comfycord_server_paused", "1: it gets no new jobs", ["server"], registry=here
        )
        self._errors = Counter(
            "comfycord_errors", "Warnings and errors of the log, by kind", ["kind"], registry=here
        )
        self._requests = Counter(
            "comfycord_discord_requests",
            "Requests to Discord, by status; 429: refused as too many",
            ["status"],
            registry=here,
        )
        self._discord_up = Gauge(
            "comfycord_discord_up", "1: connected to Discord and ready", registry=here
        )
        self._lag = Histogram(
            "comfycord_event_loop_lag_seconds",
            "How late the event loop is",
            buckets=_LAG,
            registry=here,
        )
        Gauge("comfycord_build_info", "1, with the version", ["version"], registry=here).labels(
            importlib.metadata.version("comfycord")
        ).set(1)
        for state in _ENDS:
            self._ended.labels(state)
        for kind in KINDS:
            self._errors.labels(kind)

    def moved(self, before: Job, after: Job) -> None:
        """For `Store.on_move`."""
        asked, sent, ended = after.request.created_at, after.submitted_at, after.finished_at
        match after.state:
            case JobState.QUEUED if sent is not None and after.attempt == 1:
                self._waiting.observe(_between(asked, sent))
            case JobState.EXECUTED if after.seconds is not None:
                self._run.observe(after.seconds)
            case JobState.POSTED if ended is not None:
                self._delivery.observe(_between(ended, datetime.now(UTC)))
        if after.state in _ENDS:
            self._ended.labels(after.state).inc()

    @contextmanager
    def counting_errors(self) -> Iterator[None]:
        """What is logged while the block lasts."""
        handler = _Counting(self._errors)
        logging.getLogger().addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(handler)

    def late(self, seconds: float) -> None:
        """How late the event loop is, in seconds; the watchdog tells it."""
        self._lag.observe(seconds)

    async def answered(
        self,
        session: aiohttp.ClientSession,
        context: SimpleNamespace,
        answer: aiohttp.TraceRequestEndParams,
    ) -> None:
        """For the trace of the session with Discord."""
        self._requests.labels(str(answer.response.status)).inc()

    def page(
        self, jobs: Mapping[str, int] | None, servers: Collection[Server], *, discord_up: bool
    ) -> bytes:
        """*jobs*: how many are in which state now; None: nobody knows."""
        self._jobs.clear()
        if jobs is not None:
            for state in OPEN:
                self._jobs.labels(state).set(jobs.get(state, 0))
        for gauge in (self._up, self._holding, self._paused):
            gauge.clear()
        for each in servers:
            self._up.labels(each.name).set(each.up)
            self._holding.labels(each.name).set(len(each.holding))
            self._paused.labels(each.name).set(each.paused)
        self._discord_up.set(discord_up)
        return generate_latest(self.registry)


class Latest:
    """What the database counts, or counted last: a monitor waits for it a moment only."""

    def __init__(self, count: Callable[[], Awaitable[Mapping[str, int]]]) -> None:
        self._count = count
        self._counting: asyncio.Task[None] | None = None
        self._known: Mapping[str, int] | None = None

    async def get(self) -> Mapping[str, int] | None:
        """None: nobody knows."""
        if self._counting is None or self._counting.done():
            self._counting = asyncio.create_task(self._renew())
        await asyncio.wait([self._counting], timeout=_MOMENT)
        return self._known

    async def _renew(self) -> None:
        try:
            self._known = await self._count()
        except StoreError as error:  # which is what the page is to tell
            log.warning("the jobs are not counted: %s", error)
            self._known = None

    async def close(self) -> None:
        if self._counting is not None:
            self._counting.cancel()
            await asyncio.gather(self._counting, return_exceptions=True)


class _Counting(logging.Handler):
    def __init__(self, errors: Counter) -> None:
        super().__init__(logging.WARNING)
        self._errors = errors

    def emit(self, record: logging.LogRecord) -> None:
        self._errors.labels(_kind(record)).inc()


def _between(one: datetime, other: datetime) -> float:
    """Seconds. The machine's clock may be set back."""
    return max(0.0, (other - one).total_seconds())


def _kind(record: logging.LogRecord) -> str:
    """By the exception that it tells of, else by who tells."""
    told = [*(record.args or ()), (record.exc_info or (None, None))[1]]
    for error, kind in _CAUSES.items():
        if any(isinstance(each, error) for each in told):
            return kind
    for name, kind in _KINDS.items():
        if record.name == name or record.name.startswith(f"{name}."):
            return kind
    return "internal"
