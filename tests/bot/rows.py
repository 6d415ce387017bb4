"""Jobs in a database, told apart by their numbers."""

from typing import Any

from bot.jobs import Job, JobState, Request
from bot.store import Store
from tests.bot.builders import a_request

S = JobState


def numbered(number: int, **changes: Any) -> Request:
    """Requests that differ from each other in all that must differ."""
    job_id = f"{number:08}-0000-4000-8000-000000000000"
    return a_request(id=job_id, interaction_id=number, **changes)


async def kept(store: Store, number: int, state: S = S.PENDING, **so: Any) -> Job:
    """A job of that state in the database, acknowledged unless *message_id* is None.

    *so*: of the request or of the job.
    """
    asked = {name: so.pop(name) for name in Request.__slots__ if name in so}
    request = numbered(number, **asked)
    job = Job(request=request, **({"message_id": number} | so))
    assert await store.add(request)
    if job.message_id is not None:
        await store.acknowledge(job.id, job.message_id)
    after = Job(request=request, state=state, **({"message_id": number} | so))
    assert await store.save(Job(request=request), after)
    return after


def ids(jobs: list[Job]) -> list[int]:
    return [job.request.interaction_id for job in jobs]
