"""A finished request becomes a row in the line, if its person may have one more."""

import asyncio
import logging
from collections.abc import Callable, Collection
from functools import partial

from bot import journal
from bot.config import Config
from bot.errors import Busy, UserError
from bot.estimates import UNKNOWN_SECONDS, Estimates
from bot.fairness import Share, share_of
from bot.jobs import Job, Request
from bot.requests import Usage, check_limits
from bot.runner import Runner
from bot.servers import Servers
from bot.spool import Spool
from bot.store import Store
from bot.turns import Place
from comfy.phrases import say

log = logging.getLogger(__name__)

_STORED_WITHIN = 2.0  # seconds; Discord waits three for the answer


class Acceptance:
    def __init__(
        self,
        store: Store,
        spool: Spool,
        servers: Servers,
        estimates: Estimates,
        runner: Runner,
        settings: Callable[[], Config],
    ) -> None:
        self._store = store
        self._spool = spool
        self._servers = servers
        self._estimates = estimates
        self._runner = runner
        self._settings = settings

    async def accept(self, request: Request, roles: Collection[int]) -> Place | None:
        """The place in line; None if this interaction is known already.

        Raises `UserError`. It is no job until it is acknowledged: see `Store.acknowledge`.
        """
        if not self._servers:
            raise Busy(say("No ComfyUI server is set up yet. An admin adds one to config.yaml."))
        await self._spool.check_room()
        try:
            async with asyncio.timeout(_STORED_WITHIN):
                return await self._stored(request, roles)
        except TimeoutError as error:
            raise Busy(say("I am busy or being restarted. Try again in a minute.")) from error

    async def _stored(self, request: Request, roles: Collection[int]) -> Place | None:
        self._runner.expect(request.id)
        place = await self._store.add(request, partial(self._decide, request, roles))
        if place is None:
            log.info("interaction %s came twice", request.interaction_id)
            return None
        job = Job(request=request)
        journal.tell(job, job)
        return place

    def _decide(
        self, request: Request, roles: Collection[int], banned: bool, usage: Usage
    ) -> Share:
        if banned:
            raise UserError(say("You may not use me here any more."))
        settings = self._settings()
        check_limits(settings.limits, usage)
        fairness = settings.fairness
        fast = fairness.fast_gpu_seconds_per_day
        return share_of(
            self._estimates.seconds(request.workflow, request.work) or UNKNOWN_SECONDS,
            roles,
            fairness.weights,
            fairness.relaxed_roles,
            used_up=fast is not None and usage.gpu_seconds >= fast,
        )
