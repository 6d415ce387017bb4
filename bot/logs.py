"""Logs for a terminal or for programs. No secret stands in any line."""

import json
import logging
import re
from collections.abc import Iterable
from datetime import UTC, datetime

from comfy.graph import HIDDEN, Graph, secrets_in, without_secrets

# Interaction and webhook tokens stand in addresses, signatures of attachments in their queries.
_TOKENS = re.compile(
    r"((?<=/webhooks/)\d+/|(?<=/interactions/)\d+/)[\w.-]+|\b((?:ex|is|hm)=)[0-9a-f]{6,}"
)


# What a record may tell besides its message: see bot/journal.py.
_FIELDS = ("job", "member", "state", "server", "seconds")


class Redacting(logging.Formatter):
    """Works on the finished line, tracebacks included."""

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S")
        self._secrets = sorted((each for each in secrets if len(each) >= 4), key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        return self.redacted(super().format(record))

    def redacted(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return _TOKENS.sub(lambda found: f"{found[1] or found[2]}***", text)


class JsonLines(Redacting):
    """An object a line: `time` (ISO 8601, UTC), `level`, `logger`, `message`, the fields that the
    record has, and `traceback`."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        told |= {key: record.__dict__[key] for key in _FIELDS if key in record.__dict__}
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        if record.stack_info:
            told["stack"] = record.stack_info
        # Before it becomes JSON, where a quote in a secret would be written otherwise.
        safe = {
            k: self.redacted(each) if isinstance(each, str) else each for k, each in told.items()
        }
        return json.dumps(safe, ensure_ascii=False)


def set_up(secrets: Iterable[str], *, debug: bool, as_json: bool = False) -> None:
    """Debug speaks for our own packages only: discord.py's debug lines hold tokens."""
    handler = logging.StreamHandler()
    handler.setFormatter((JsonLines if as_json else Redacting)(secrets))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("discord.client").setLevel(logging.ERROR)  # we need no voice libraries
    # What is no HTTP is answered, and no fault of ours; our own handlers log theirs.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    for name in ("bot", "cogs", "comfy"):
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.INFO)


def for_log_of(graph: Graph, text: str) -> str:
    """What a server told of a graph, without the secrets that stand in it."""
    for secret in secrets_in(graph):
        text = text.replace(secret, HIDDEN)
    return text


def for_log(value: object) -> str:
    """A JSON value as people read it in a log, without what is named like a secret."""
    return json.dumps(without_secrets(value), ensure_ascii=False, indent=2)
