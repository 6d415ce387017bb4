"""The bot itself: opens, wires and closes everything, top to bottom."""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import discord
import yarl
from discord import app_commands
from discord.ext import commands

from bot.config import Config, Secrets
from bot.delivery import Delivery
from bot.errors import ConfigError, explain
from bot.runner import Runner
from bot.servers import Server, Servers
from bot.spool import Spool
from bot.store import Store
from comfy.client import ComfyClient
from comfy.library import Library

log = logging.getLogger(__name__)

COGS = ("cogs.generate", "cogs.workflows", "cogs.jobs", "cogs.admin", "cogs.controls")
# What slash commands and editing our own messages need; nothing privileged.
INTENTS = discord.Intents(guilds=True)
_SPOOL = Path("data/spool")


class Tree(app_commands.CommandTree["Comfycord"]):
    """Words every error of every command: one sentence for the person, the cause in the log."""

    async def on_error(
        self, interaction: "discord.Interaction[Comfycord]", error: app_commands.AppCommandError
    ) -> None:
        await answer_error(interaction, error.__cause__ or error)


async def answer_error(interaction: discord.Interaction, error: BaseException) -> None:
    match error:
        case app_commands.MissingPermissions():
            names = ", ".join(each.replace("_", " ").title() for each in error.missing_permissions)
            text: str | None = f"You need the permission {names} for this."
        case app_commands.NoPrivateMessage():
            text = "This works in a server only, not in direct messages."
        case _:
            text = explain(error)
    if text is None:
        log.error("a command failed", exc_info=error)
        text = "Something went wrong on our side. The log has the details."
    try:
        if interaction.response.is_done():
            await interaction.followup.send(text, ephemeral=True)
        else:
            await interaction.response.send_message(text, ephemeral=True)
    except discord.HTTPException as failure:
        log.info("an error could not be told: %s", failure)


class Comfycord(commands.Bot):
    """One Discord bot over any number of ComfyUI servers.

    The attributes below exist from `setup_hook` to `close`.
    """

    store: Store
    library: Library
    servers: Servers
    delivery: Delivery
    runner: Runner

    def __init__(self, config: Config, secrets: Secrets, *, ready_timeout: float = 2.0) -> None:
        super().__init__(
            command_prefix=commands.when_mentioned,
            help_command=None,
            intents=INTENTS,
            allowed_mentions=discord.AllowedMentions.none(),
            tree_cls=Tree,
            guild_ready_timeout=ready_timeout,
        )
        self.config = config
        self._secrets = secrets
        self._stack = AsyncExitStack()

    async def setup_hook(self) -> None:
        opened = self._stack.enter_async_context
        self.store = await opened(Store.open(self.config.database))
        session = await opened(aiohttp.ClientSession())
        spool = Spool(_SPOOL)
        await spool.clear()
        self.library = Library(Path(self.config.workflows))
        await self.library.refresh()
        if not self.library.workflows:
            log.warning("the folder %s holds no workflow yet", self.config.workflows)
        self.servers = Servers(
            Server(each.name, ComfyClient(each.url, session, self._secrets.access.get(each.name)))
            for each in self.config.servers
        )
        self.delivery = Delivery(self, asyncio.get_running_loop().time)
        self.runner = Runner(self.store, self.servers, self.delivery, spool)
        for server in self.servers.values():
            await self._own(server.run(self.runner.wake), f"server {server.name}")
        await self._own(self.library.watch(), "workflows folder")
        await self._own(self.runner.run(), "runner")
        for cog in COGS:
            await self.load_extension(cog)
        await self._sync()

    async def close(self) -> None:
        await super().close()
        await self._stack.aclose()

    async def _own(self, work: Coroutine[object, object, None], name: str) -> None:
        """Start a task that ends with the bot, before what it uses is closed."""
        task = asyncio.create_task(work, name=name)

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self._stack.push_async_callback(end)

    async def _sync(self) -> None:
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


async def run(config: Config, secrets: Secrets) -> None:
    """Until it is cancelled. `ConfigError` where Discord or the configuration do not let it."""
    if secrets.discord_token is None:
        raise ConfigError(
            "No Discord token. Put DISCORD_TOKEN=… into a file named .env "
            "(https://discord.com/developers/applications, your application, Bot, Reset Token)."
        )
    if secrets.discord_api:
        use_discord_api(secrets.discord_api)
    async with Comfycord(config, secrets) as bot:
        try:
            await bot.start(secrets.discord_token)
        except discord.LoginFailure as error:
            raise ConfigError(
                "Discord does not accept DISCORD_TOKEN. Copy it again: "
                "https://discord.com/developers/applications, your application, Bot, Reset Token."
            ) from error
        except aiohttp.ClientConnectionError as error:
            raise ConfigError(f"Discord cannot be reached: {error}.") from error


def use_discord_api(url: str) -> None:
    """Another root for Discord's API and gateway, such as a server of our own in tests."""
    root = url.rstrip("/")
    discord.http.Route.BASE = f"{root}/api/v10"
    discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(
        f"{root.replace('http', 'ws', 1)}/gateway"
    )
