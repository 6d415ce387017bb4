"""One line of the log for every step of a job, which programs can read too."""

import logging
from datetime import UTC, datetime

from bot.jobs import Job, JobState

log = logging.getLogger(__name__)


def tell(before: Job, after: Job) -> None:
    """*seconds* are those since the request, or of the run itself once that is over."""
    request, now = after.request, datetime.now(UTC)
    seconds = after.seconds if after.state is JobState.EXECUTED else None
    if seconds is None:
        seconds = (now - request.created_at).total_seconds()
    server = after.server or before.server
    where = f" on {server}" if server else ""
    log.info(
        "job %s of member %s: %s%s, %.1f s",
        after.short_id,
        request.user_id,
        after.state,
        where,
        seconds,
        extra={
            "job": after.id,
            "member": str(request.user_id),
            "state": str(after.state),
            "server": server,
            "seconds": round(seconds, 3),
        },
    )
