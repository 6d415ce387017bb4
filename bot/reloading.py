"""config.yaml while the bot runs: what changed takes effect, and a mistake changes nothing."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bot.config import Config, Secrets, ServerSettings, load
from bot.errors import ConfigError, StoreError
from bot.servers import Server, Servers
from bot.store import Store
from comfy.client import ComfyClient

log = logging.getLogger(__name__)

_EVERY = 2.0  # seconds between two looks at the file
# Keys that are read at the start and not again:
_AT_THE_START = ("discord", "database", "workflows", "http", "log")


class Reloading:
    """*client_of* makes a client for a server; *use* takes the settings that count from now on."""

    def __init__(
        self,
        path: Path,
        config: Config,
        secrets: Secrets,
        servers: Servers,
        store: Store,
        client_of: Callable[[ServerSettings, Secrets], ComfyClient],
        use: Callable[[Config], None],
    ) -> None:
        self._path = path
        self._config, self._secrets = config, secrets
        self._servers = servers
        self._store = store
        self._client_of = client_of
        self._use = use

    async def keep_looking(self) -> None:
        """For ever. An editor may write a file in several steps, so it must stand still first."""
        seen = read = await asyncio.to_thread(_content, self._path)
        while True:
            await asyncio.sleep(_EVERY)
            before, seen = seen, await asyncio.to_thread(_content, self._path)
            if seen != read and seen == before:
                read = seen
                await self.reload()
            await self._let_leave()

    async def reload(self) -> None:
        try:
            config, secrets = await asyncio.to_thread(partial(load, self._path, starting=False))
        except ConfigError as error:
            log.error("nothing was changed, as config.yaml holds a mistake: %s", error)
            return
        except Exception:
            log.exception("nothing was changed, as config.yaml cannot be read")
            return
        keys = [each for each in Config.model_fields if _differ(config, self._config, each)]
        if late := [each for each in keys if each in _AT_THE_START]:
            log.warning("config.yaml: `%s` counts from the next start on", "`, `".join(late))
        kept = {each: getattr(self._config, each) for each in _AT_THE_START}
        config = config.model_copy(update=kept)
        self._steer(config, secrets)
        self._config, self._secrets = config, secrets
        self._use(config)
        if now := [each for each in keys if each not in _AT_THE_START]:
            log.info("config.yaml was read again; changed: %s", ", ".join(now))

    def _steer(self, config: Config, secrets: Secrets) -> None:
        before = {each.name: each for each in self._config.servers}
        after = {each.name: each for each in config.servers}
        for name, settings in after.items():
            server = self._servers.get(name)
            if server is None:
                log.info("server %s is new", name)
                server = Server(name, self._client_of(settings, secrets))
                server.own(ours=not self._store.database.shared)
                self._servers.add(server)
                continue
            server.leaving = False
            access = self._secrets.access.get(name), secrets.access.get(name)
            if settings != before.get(name) or access[0] != access[1]:
                log.info("server %s has another address or login", name)
                server.move(self._client_of(settings, secrets))
        for name in before.keys() - after.keys():
            log.info("server %s gets no new jobs and goes when its last one is over", name)
            self._servers[name].leaving = True

    async def _let_leave(self) -> None:
        leaving = [each for each in self._servers.values() if each.leaving]
        if not leaving:
            return
        try:
            needed = {job.server for job in await self._store.on_servers()}
        except StoreError as error:
            log.warning("servers stay for now: %s", error)
            return
        for server in leaving:
            if server.name not in needed:
                log.info("server %s is gone", server.name)
                self._servers.remove(server)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:  # it is being replaced; without one the bot goes on as it is
        return None


def _differ(one: Config, other: Config, key: str) -> bool:
    return bool(getattr(one, key) != getattr(other, key))
