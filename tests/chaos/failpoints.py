"""Places where the bot can be killed: right before and after each step that lasts or is seen.

A point is named `before store.add` or, for its second time, `before store.add #2`.
"""

import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from discord.http import HTTPClient
from discord.webhook.async_ import AsyncWebhookAdapter

from bot.jobs import Job
from bot.spool import Copying
from bot.store import Store
from bot.uploads import Uploads
from comfy.client import ComfyClient

Name = Callable[..., str | None]  # of a step, from the arguments of its call; None: no point

_REQUESTS = {
    ("POST", "/interactions/{webhook_id}/{webhook_token}/callback"): "answer",
    ("PATCH", "/channels/{channel_id}/messages/{message_id}"): "edit",
    ("POST", "/channels/{channel_id}/messages"): "post",
    ("GET", "/channels/{channel_id}/messages"): "scan",
    ("PATCH", "/webhooks/{webhook_id}/{webhook_token}/messages/{message_id}"): "edit by token",
    ("PATCH", "/webhooks/{webhook_id}/{webhook_token}/messages/@original"): "edit by token",
    ("GET", "/webhooks/{webhook_id}/{webhook_token}/messages/{message_id}"): "look by token",
    ("POST", "/webhooks/{webhook_id}/{webhook_token}"): "post by token",
}

_ENDS = ("It did not work.", "Cancelled.")


def arm(failpoint: str | None, trace: Path) -> None:
    """From now on the process dies at *failpoint*; every point that it comes to is noted."""
    notes = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    times = Counter[str]()

    def reached(point: str) -> None:
        times[point] += 1
        full = point if times[point] == 1 else f"{point} #{times[point]}"
        os.write(notes, f"{full}\n".encode())
        if full == failpoint:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(owner: type, method: str, name: str | Name) -> None:
        true = getattr(owner, method)

        async def passed(self: Any, *args: Any, **kwargs: Any) -> Any:
            told = name if isinstance(name, str) else name(*args, **kwargs)
            if told is None:
                return await true(self, *args, **kwargs)
            reached(f"before {told}")
            result = await true(self, *args, **kwargs)
            reached(f"after {told}")
            return result

        setattr(owner, method, passed)

    def around_stream(owner: type, method: str, name: str) -> None:
        true = getattr(owner, method)

        @asynccontextmanager
        async def passed(self: Any, *args: Any) -> AsyncIterator[Any]:
            reached(f"before {name}")
            async with true(self, *args) as stream:
                yield stream
            reached(f"after {name}")

        setattr(owner, method, passed)

    for method in ("add", "acknowledge", "discard", "keep_token"):
        around(Store, method, f"store.{method}")
    around(Store, "save", _saved)
    around(Store, "claim", "store pending>submitting")
    around(Store, "settle", "store.settle")
    for method in ("queue_prompt", "upload", "delete_queued", "interrupt"):
        around(ComfyClient, method, f"comfy.{method}")
    around_stream(ComfyClient, "view", "comfy.view")
    around(Uploads, "keep", "uploads.keep")
    around(Copying, "done", "spool.fetch")
    around(HTTPClient, "request", _requested)
    around(AsyncWebhookAdapter, "request", _requested)


def _saved(before: Job, after: Job) -> str:
    if before.state is not after.state:
        return f"store {before.state}>{after.state}"
    fields = ("told", "messages", "outputs")
    new = (each for each in fields if getattr(before, each) != getattr(after, each))
    return f"store {after.state} {next(new, 'again')}"


def _requested(route: Any, *_: Any, **given: Any) -> str | None:
    name = _REQUESTS.get((route.method, route.path))
    body = str([given.get(each) for each in ("json", "form", "payload", "multipart")])
    if name and any(words in body for words in _ENDS):
        return f"{name} of the end"
    if name and given.get("files"):
        return f"{name} with preview" if "preview.jpg" in body else f"{name} with files"
    return name
