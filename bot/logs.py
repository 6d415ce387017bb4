"""Logs for a terminal. One filter keeps every secret out of every line."""

import json
import logging
import re
from collections.abc import Iterable

from comfy.graph import HIDDEN, Graph, secrets_in, without_secrets

# Interaction and webhook tokens stand in addresses, signatures of attachments in their queries.
_TOKENS = re.compile(
    r"((?<=/webhooks/)\d+/|(?<=/interactions/)\d+/)[\w.-]+|\b((?:ex|is|hm)=)[0-9a-f]{6,}"
)


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


def for_log_of(graph: Graph, text: str) -> str:
    """What a server told of a graph, without the secrets that stand in it."""
    for secret in secrets_in(graph):
        text = text.replace(secret, HIDDEN)
    return text


def for_log(value: object) -> str:
    """A JSON value as people read it in a log, without what is named like a secret."""
    return json.dumps(without_secrets(value), ensure_ascii=False, indent=2)
