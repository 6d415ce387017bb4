"""The bot itself: opens, wires and closes everything, top to bottom."""

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import discord
import yarl
from discord import app_commands
from discord.ext import commands

from bot import journal, languages, watchdog
from bot.acceptance import Acceptance
from bot.alone import alone
from bot.answers import ANSWERED, Answers
from bot.config import CONFIG_FILE, Config, Secrets, ServerSettings, Shards
from bot.crew import Crew
from bot.delivery import NEEDED, Delivery
from bot.errors import ConfigError, UserError, explain
from bot.estimates import Estimates
from bot.http_api import HttpFace
from bot.line import Line
from bot.metrics import Metrics
from bot.pacing import Pacing
from bot.publisher import ByAsker
from bot.reloading import Reloading
from bot.restraint import Restraint
from bot.retention import keep_tidy
from bot.revival import Revival
from bot.runner import Runner
from bot.servers import Server, Servers
from bot.shelf import Shelf
from bot.spool import Spool
from bot.store import Store
from bot.uploads import Uploads
from comfy.client import ComfyClient
from comfy.library import Library
from comfy.phrases import say

log = logging.getLogger(__name__)

COGS = (
    "cogs.generate", "cogs.presets", "cogs.workflows", "cogs.moderation", "cogs.jobs",
    "cogs.privacy", "cogs.admin", "cogs.servers", "cogs.asking", "cogs.controls", "cogs.results",
    "cogs.editing", "cogs.pictures", "cogs.menus",
)  # fmt: skip
# What slash commands and editing our own messages need; nothing privileged.
_DOUBLE_CLICK = 1.0  # seconds
_UNKNOWN_TOKEN = 4004  # https://docs.discord.com/developers/topics/opcodes-and-status-codes
_CONTENT_MAX = 2000  # https://docs.discord.com/developers/resources/message
INTENTS = discord.Intents(guilds=True, messages=True)  # messages: replies that mention the bot
_WHERE = "https://discord.com/developers/applications, your application, Bot, Reset Token"


class Tree(app_commands.CommandTree["Comfycord"]):
    """Words every error of every command: one sentence for the person, the cause in the log."""

    async def interaction_check(self, interaction: "discord.Interaction[Comfycord]") -> bool:
        if interaction.client.is_closing:
            raise app_commands.CheckFailure from UserError(
                say("I am being restarted. Try again in a minute.")
            )
        return True

    async def on_error(
        self, interaction: "discord.Interaction[Comfycord]", error: app_commands.AppCommandError
    ) -> None:
        await answer_error(interaction, error.__cause__ or error)


async def answer_error(interaction: discord.Interaction, error: BaseException) -> None:
    """For the person alone, unless a deferral that everybody sees stands already."""
    t = languages.language_of(interaction)
    match error:
        case app_commands.MissingPermissions():
            names = ", ".join(each.replace("_", " ").title() for each in error.missing_permissions)
            names = names.replace("Guild", "Server")  # as Discord's settings call it
            text: str | None = say("You need the permission {names} for this.", names=names)
        case app_commands.NoPrivateMessage():
            text = say("This works in a server only, not in direct messages.")
        case discord.HTTPException(code=code) if code == ANSWERED:
            log.warning("an answer was confirmed late: %s", error)
            return
        case discord.DiscordServerError() | aiohttp.ClientError() | OSError():
            log.warning("an answer was not confirmed: %s", error)
            text = say("Discord did not take my answer. Try again.")
        case _:
            text = explain(error)
    if text is None:
        log.error("a command failed", exc_info=error)
        text = say("Something went wrong on our side. The log has the details.")
    text = t.said(text)[:_CONTENT_MAX]
    try:
        if interaction.response.is_done():  # after a public defer it is public too
            await interaction.followup.send(text, ephemeral=True)
            return
        try:
            await interaction.response.send_message(text, ephemeral=True)
        except discord.HTTPException as error_again:
            if error_again.code != ANSWERED:
                raise
            # An answer whose receipt got lost: this one, or that the bot thinks.
            await interaction.edit_original_response(content=text)
    except (discord.HTTPException, aiohttp.ClientError, OSError, RuntimeError) as failure:
        log.info("an error could not be told: %s", failure)  # RuntimeError: the bot is closed


async def answered(interaction: discord.Interaction, work: Awaitable[None]) -> None:
    """A click or a modal: its errors are worded as those of a command."""
    try:
        await work
    except Exception as error:
        await answer_error(interaction, error)


class Comfycord(commands.AutoShardedBot):
    """One Discord bot over any number of ComfyUI servers.

    The attributes below exist from `setup_hook` to `close`.
    """

    store: Store
    spool: Spool
    uploads: Uploads
    library: Library
    servers: Servers
    answers: Answers
    delivery: Delivery
    estimates: Estimates
    line: Line
    revival: Revival
    runner: Runner
    acceptance: Acceptance

    def __init__(
        self,
        config: Config,
        secrets: Secrets,
        *,
        config_file: Path | None = None,
        ready_timeout: float = 2.0,
    ) -> None:
        """*config_file*: read again when it changes."""
        self.metrics = Metrics()
        super().__init__(
            command_prefix=commands.when_mentioned,
            help_command=None,
            intents=INTENTS,
            allowed_mentions=discord.AllowedMentions.none(),
            tree_cls=Tree,
            max_messages=None,  # none is kept
            guild_ready_timeout=ready_timeout,
            http_trace=self._traced(),
            **_sharding(config.discord.shards),
        )
        self.config = config
        self._secrets = secrets
        self._config_file = config_file
        self.clock = time.monotonic
        self.cdn_hosts = {"cdn.discordapp.com", "media.discordapp.net"}
        if secrets.discord_api:
            self.cdn_hosts.add(str(yarl.URL(secrets.discord_api).host))
        self._clicks: dict[tuple[int, str], float] = {}
        self._stack = AsyncExitStack()
        self.failure: ConfigError | None = None
        self.is_closing = False
        self.stays = (
            False  # as long as the process: to look for garbage in it takes 0.1 s each time
        )
        self._closing: asyncio.Task[None] | None = None

    async def setup_hook(self) -> None:
        opened = self._stack.enter_async_context
        self.store = await opened(Store.open(self.config.database))
        crew = Crew(self.store.database, self.config.part) if self.store.database.shared else None
        if crew is not None:
            await crew.join()
            self._stack.push_async_callback(crew.leave)
        self.spool = Spool(self.config.spool)
        await self.spool.clear()
        self.uploads = Uploads(self.config.uploads)
        self.library = Library(Path(self.config.workflows))
        await self.library.refresh()
        if not self.library.workflows:
            log.warning("the folder %s holds no workflow yet", self.config.workflows)
        session = await opened(aiohttp.ClientSession())
        client_of = partial(_client_of, session)
        self.servers = Servers(
            Server(each.name, client_of(each, self._secrets)) for each in self.config.servers
        )
        if not self.servers:
            log.warning("no ComfyUI server is set: add one to config.yaml")
        self.answers = Answers(self, self.store)
        clock = asyncio.get_running_loop().time
        restraint = Restraint(clock, self._rejected)
        self.delivery = Delivery(self, self.answers, restraint, clock)
        shelf = Shelf()
        self.store.on_move += [journal.tell, self.metrics.moved, shelf.moved]
        self._stack.enter_context(self.metrics.counting_errors())
        self._stack.push_async_callback(self.delivery.close)
        self.estimates = Estimates(await self.store.runs())
        self.line = Line(self.store, self.servers, self.delivery, self.estimates)
        self.revival = Revival(self, self.servers, self.spool, self.delivery)
        self.runner = Runner(
            self.store, self.servers, ByAsker(self.delivery, shelf), self.spool, self.uploads,
            self.library, self.estimates,
        )  # fmt: skip
        self.acceptance = Acceptance(
            self.store, self.spool, self.servers, self.estimates, self.runner, self._settings
        )
        if crew is not None:
            for server in self.servers.values():
                server.own(ours=False)
        await self._own(self.servers.run(self.runner.wake), "servers")
        await self._own(self.library.watch(), "workflows folder")
        await self._own(self.uploads.keep_sweeping(), "uploads")
        await self._own(self.runner.run(), "runner")
        if crew is not None:
            await self._own(crew.keep(self.servers, self.runner), "crew")
            await self._own(self.store.database.listen(self._hear), "other processes")
        await self._own(self.answers.keep_reachable(self.delivery.offer), "private answers")
        if crew is None:  # else another process may post the result before a late edit of ours
            await self._own(self.line.keep_telling(), "line")
        await self._own(keep_tidy(self.store, self.uploads, self._retention), "tidying")
        if self._config_file is not None:
            reloading = Reloading(
                self._config_file, self.config, self._secrets, self.servers, self.store,
                client_of, self._use,
            )  # fmt: skip
            await self._own(reloading.keep_looking(), "config.yaml")
        await self._own(watchdog.watch(self.delivery.spare, self.metrics.late), "watchdog")
        await asyncio.to_thread(languages.load)
        await self.tree.set_translator(languages.Translator())
        for cog in COGS:
            await self.load_extension(cog)
        await self._sync()
        if (port := self.config.http.port) is not None:
            await opened(self._http(shelf).serving(self.config.http.host, port))
        if self.stays:
            gc.collect()
            gc.freeze()

    def clicked_twice(self, interaction: discord.Interaction) -> bool:
        """The same button by the same person within a second: a double click means one."""
        data: Any = interaction.data or {}
        key, now = (interaction.user.id, str(data.get("custom_id"))), self.clock()
        self._clicks = {k: at for k, at in self._clicks.items() if now - at < _DOUBLE_CLICK}
        twice = key in self._clicks
        self._clicks[key] = now
        return twice

    async def on_message(self, message: discord.Message, /) -> None:
        """No message is a command; `cogs/pictures.py` hears those that mention the bot."""

    def _traced(self) -> aiohttp.TraceConfig:
        trace = Pacing().trace
        trace.on_request_end.append(self.metrics.answered)
        return trace

    def _http(self, shelf: Shelf) -> HttpFace:
        return HttpFace(
            tokens=self._secrets.http_tokens,
            settings=self._settings,
            is_ready=self.is_ready,
            store=self.store,
            library=self.library,
            servers=self.servers,
            spool=self.spool,
            uploads=self.uploads,
            acceptance=self.acceptance,
            runner=self.runner,
            shelf=shelf,
            metrics=self.metrics,
        )

    def _settings(self) -> Config:
        return self.config

    def _use(self, config: Config) -> None:
        self.config = config

    def _retention(self) -> int:
        return self.config.retention_days

    def _hear(self, what: str) -> None:
        self.runner.hear(what)
        self.answers.hear(what)

    def _rejected(self) -> None:
        if self.failure is None:
            log.error("Discord no longer accepts the token: the bot stops")
            self.failure = _unaccepted()
            self._closing = asyncio.create_task(self.close())

    async def close(self) -> None:
        """The runner first: a result under way must not meet a closed session of Discord's."""
        self.is_closing = True
        await self._stack.aclose()
        await super().close()

    async def _own(self, work: Coroutine[object, object, None], name: str) -> None:
        """Start a task that ends with the bot, before what it uses is closed."""
        task = asyncio.create_task(work, name=name)

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self._stack.push_async_callback(end)

    async def _sync(self) -> None:
        """Of several processes the one with the first shard does it."""
        shards = self.config.discord.shards
        if shards is not None and shards.first > 0:
            return
        for guild_id in self.config.discord.guilds:
            guild = discord.Object(guild_id)
            self.tree.copy_global_to(guild=guild)
            try:
                await self.tree.sync(guild=guild)
            except discord.Forbidden as error:
                raise ConfigError(
                    f"discord.guilds: the bot is not in the server {guild_id}. "
                    "Invite it with the link of `comfycord invite`, or remove the id."
                ) from error
        if not self.config.discord.guilds:
            await self.tree.sync()


def _sharding(shards: Shards | None) -> dict[str, Any]:
    if shards is None:
        return {}
    ids = list(range(shards.first, shards.last + 1))
    return {"shard_ids": ids, "shard_count": shards.of}


@asynccontextmanager
async def clients(config: Config, secrets: Secrets) -> AsyncIterator[dict[str, ComfyClient]]:
    """A client for every server, by name, over one session."""
    async with aiohttp.ClientSession() as session:
        yield {each.name: _client_of(session, each, secrets) for each in config.servers}


def _client_of(
    session: aiohttp.ClientSession, server: ServerSettings, secrets: Secrets
) -> ComfyClient:
    return ComfyClient(server.url, session, secrets.access.get(server.name))


async def run(config: Config, secrets: Secrets) -> None:
    """Until it is cancelled. `ConfigError` where Discord or the configuration do not let it."""
    token = _token(secrets)
    with alone(config, secrets):
        async with Comfycord(config, secrets, config_file=Path(CONFIG_FILE)) as bot:
            bot.stays = True
            with _worded():
                await bot.start(token)
            if bot.failure is not None:
                raise bot.failure


async def invite_link(secrets: Secrets) -> str:
    """With exactly the permissions that the bot needs."""
    async with logged_in(secrets) as client:
        permissions = discord.Permissions(
            **dict.fromkeys([*NEEDED, "send_messages_in_threads"], True)
        )
        return discord.utils.oauth_url(
            (await client.application_info()).id,
            permissions=permissions,
            scopes=("bot", "applications.commands"),
        )


@asynccontextmanager
async def logged_in(secrets: Secrets) -> AsyncIterator[discord.Client]:
    """A client that can ask, without a gateway and without our commands."""
    token = _token(secrets)
    async with discord.Client(intents=INTENTS) as client:
        with _worded():
            await client.login(token)
            yield client


def _token(secrets: Secrets) -> str:
    if secrets.discord_token is None:
        raise ConfigError(
            f"No Discord token. Put DISCORD_TOKEN=… into a file named .env ({_WHERE})."
        )
    if secrets.discord_api:
        use_discord_api(secrets.discord_api)
    return secrets.discord_token


@contextmanager
def _worded() -> Iterator[None]:
    try:
        yield
    except discord.LoginFailure as error:
        raise _unaccepted() from error
    except discord.PrivilegedIntentsRequired as error:
        raise ConfigError(
            "Discord wants a privileged intent (4014), and I need none. Update the bot."
        ) from error
    except discord.ConnectionClosed as error:
        if error.code == _UNKNOWN_TOKEN:
            raise _unaccepted() from error
        raise ConfigError(f"Discord ended the connection ({error}). Try again later.") from error
    except (aiohttp.ClientConnectionError, discord.DiscordServerError) as error:
        raise ConfigError(f"Discord cannot be reached: {error}. Try again later.") from error
    except discord.HTTPException as error:
        raise ConfigError(f"Discord answered {error.status}. Try again later.") from error


def _unaccepted() -> ConfigError:
    return ConfigError(f"Discord does not accept DISCORD_TOKEN. Copy it again ({_WHERE}).")


def use_discord_api(url: str) -> None:
    """Another root for Discord's API and gateway, such as a server of our own in tests."""
    root = url.rstrip("/")
    discord.http.Route.BASE = f"{root}/api/v10"
    discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(
        f"{root.replace('http', 'ws', 1)}/gateway"
    )
