"""Discord's rate limits, as its answers tell them: so much of each route and place, so much in all.

Which limits there are is not published, and they change. These are what bots see today: five
messages, and five edits, in five seconds of a channel, five in two of an interaction's token.
https://docs.discord.com/developers/topics/rate-limits
"""

import re
import time
from dataclasses import dataclass

from tests.fakes.discord_messages import Json

_OF_A_PLACE = re.compile(r"/(channels|webhooks/\d+)/([^/]+)/messages(/[^/]+)?")
_OF_TOKENS = ("/interactions/", "/webhooks/")  # they do not count as the bot's own


@dataclass(slots=True)
class Bucket:
    """It is full again *seconds* after something was first taken out of it."""

    size: int
    seconds: float
    left: int = 0
    full_at: float = 0.0

    def take(self, now: float) -> bool:
        if now >= self.full_at:
            self.left, self.full_at = self.size, now + self.seconds
        self.left -= 1
        return self.left >= 0


class Limits:
    def __init__(self) -> None:
        self._buckets: dict[tuple[str, ...], Bucket] = {}
        self._all = Bucket(50, 1.0)

    def check(self, method: str, path: str, now: float) -> tuple[dict[str, str], Json | None]:
        """The headers of the answer and, if it is 429, its body."""
        if not path.startswith(_OF_TOKENS) and not self._all.take(now):
            return _refused(self._all.full_at - now, "global")
        if (found := _OF_A_PLACE.fullmatch(path)) is None:
            return {}, None
        route = (method, found[1], "one" if found[3] else "all")
        size = Bucket(5, 5.0 if found[1] == "channels" else 2.0)
        bucket = self._buckets.setdefault((*route, found[2]), size)
        taken, after = bucket.take(now), bucket.full_at - now
        headers = {
            "X-RateLimit-Bucket": "-".join(route).replace("/", "-"),
            "X-RateLimit-Limit": str(bucket.size),
            "X-RateLimit-Remaining": str(max(bucket.left, 0)),
            "X-RateLimit-Reset-After": f"{after:.3f}",
            "X-RateLimit-Reset": f"{time.time() + after:.3f}",
        }
        if taken:
            return headers, None
        told, body = _refused(after, "user")
        return headers | told, body


def _refused(after: float, scope: str) -> tuple[dict[str, str], Json]:
    about = {"X-RateLimit-Scope": scope, "Retry-After": f"{after:.0f}", "Via": "1.1 google"}
    everywhere = scope == "global"
    if everywhere:
        about["X-RateLimit-Global"] = "true"
    words = "You are being rate limited."
    return about, {"message": words, "retry_after": after, "global": everywhere}
