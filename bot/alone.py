"""One process for one database file and for one token: a second one is told so, and ends."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bot.config import Config, Secrets
from bot.errors import ConfigError


@contextmanager
def alone(config: Config, secrets: Secrets) -> Iterator[None]:
    """The system takes the locks away when the process ends, however it ends."""
    bot = f"{secrets.discord_api}{secrets.discord_token}{config.part}".encode()
    of_token = f"comfycord-{hashlib.sha256(bot).hexdigest()[:16]}.lock"
    with (
        _locked(config.lock, f"the database {config.database_shown}", "Give this one another one."),
        _locked(Path(tempfile.gettempdir()) / of_token, "this token", "Give this one another bot."),
    ):
        yield


@contextmanager
def _locked(path: Path, what: str, else_do: str) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=0)
        lock.acquire()
    except Timeout as error:
        raise ConfigError(
            f"Another Comfycord runs with {what} on this machine. Stop it first. {else_do}"
        ) from error
    except OSError as error:
        raise ConfigError(f"The file {path} cannot be written: {error.strerror}.") from error
    try:
        yield
    finally:
        lock.release()
