"""Logs for a terminal. One filter keeps every secret out of every line."""

import json
import logging
import re
from collections.abc import Iterable

# Interaction and webhook tokens stand in addresses, signatures of attachments in their queries.
_TOKENS = re.compile(
    r"((?<=/webhooks/)\d+/|(?<=/interactions/)\d+/)[\w.-]+|\b((?:ex|is|hm)=)[0-9a-f]{6,}"
)
_SECRET_INPUT = re.compile(r"key|token|secret|password", re.IGNORECASE)


class Redacting(logging.Formatter):
    """Works on the finished line, tracebacks included."""

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S")
        self._secrets = sorted((each for each in secrets if len(each) >= 4), key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return _TOKENS.sub(lambda found: f"{found[1] or found[2]}***", line)


def set_up(secrets: Iterable[str], *, debug: bool) -> None:
    """Debug speaks for our own packages only: discord.py's debug lines hold tokens."""
    handler = logging.StreamHandler()
    handler.setFormatter(Redacting(secrets))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("discord.client").setLevel(logging.ERROR)  # we need no voice libraries
    for name in ("bot", "cogs", "comfy"):
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.INFO)


def for_log(value: object) -> str:
    """A JSON value as people read it in a log, without what is named like a secret."""
    return json.dumps(without_secrets(value), ensure_ascii=False, indent=2)


def without_secrets(value: object) -> object:
    """A copy of a JSON value for the log; inputs that are named like a secret are hidden."""
    match value:
        case dict():
            return {
                name: "***" if _is_secret(name, each) else without_secrets(each)
                for name, each in value.items()
            }
        case list():
            return [without_secrets(each) for each in value]
    return value


def _is_secret(name: object, value: object) -> bool:
    return isinstance(value, str) and _SECRET_INPUT.search(str(name)) is not None
