"""What `comfycord check` asks of this machine, of Discord and of the servers."""

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import discord
from discord import app_commands
from filelock import Timeout

from bot.alone import alone
from bot.app import clients, logged_in
from bot.config import CONFIG_FILE, Config, HttpSettings, Secrets
from bot.delivery import NEEDED, missing_permissions
from bot.errors import AppError, ConfigError, StoreError, UserError
from bot.health import (
    Finding,
    Level,
    examine_server,
    library_findings,
    open_secrets,
    unreadable,
)
from bot.spool import Spool
from bot.store import Store
from comfy.library import Library
from comfy.workflow import Workflow

_DISCORD = 60.0  # seconds for all that is asked of it
_GUILDS = 10  # that are looked into where the configuration names none
_NAMED = 3  # channels
_ELSEWHERE = "name another file under `database`."


async def examine(config: Config, secrets: Secrets, secrets_file: Path) -> list[Finding]:
    """Everything that can be known before the bot runs. No part hides what another one finds."""
    library = Library(Path(config.workflows))
    await library.refresh()
    of_discord, of_servers = await asyncio.gather(
        examine_discord(config, secrets), _examine_servers(config, secrets, library.workflows)
    )
    return [
        _config_file(),
        *_secrets(secrets_file),
        *await _examine_data(config, secrets),
        *library_findings(library),
        *of_discord,
        *of_servers,
    ]


def refused(error: AppError, remedy: str = "Correct it, and check again.") -> Finding:
    """What keeps the bot from starting; *remedy* where the error names none."""
    text = str(error)
    return Finding(Level.FAILURE, text if ". " in text else f"{text} {remedy}")


def _config_file() -> Finding:
    if Path(CONFIG_FILE).exists():
        return Finding(Level.OK, "config.yaml can be read")
    return Finding(Level.WARNING, "There is no config.yaml here. `comfycord init` writes one.")


def _secrets(path: Path) -> list[Finding]:
    if problem := unreadable(path):
        return [Finding(Level.FAILURE, problem)]
    return open_secrets(path)


# This machine


async def _examine_data(config: Config, secrets: Secrets) -> list[Finding]:
    """The folder of the database and what lies beside it, and whether nobody else has it."""
    if (unwritable := await asyncio.to_thread(_unwritable, config)) is not None:
        return [unwritable]
    findings, folder = [], config.uploads.parent
    try:
        await Spool(folder).check_room()
    except UserError:
        text = f"The disk of {folder} is full, so I would take no requests."
        findings.append(Finding(Level.FAILURE, f"{text} Free some room, or {_ELSEWHERE}"))
    try:
        with alone(config, secrets):
            findings += await asyncio.to_thread(_port, config.http)
            async with Store.open(config.database):
                findings.append(Finding(Level.OK, "the database can be opened"))
    except ConfigError as error:  # and its database is left alone: the other may be older
        if not isinstance(error.__cause__, Timeout):
            return [*findings, refused(error, "Give it to the bot's user.")]
        text, _, _ = str(error).partition(". ")
        findings.append(Finding(Level.WARNING, f"{text}. Stop it before you start this one."))
    except StoreError as error:
        remedy = f"Put a copy in its place, or {_ELSEWHERE}"
        if config.database.startswith("postgres"):
            remedy = "Does it run, and is DATABASE_URL right?"
        findings.append(refused(error, remedy))
    return findings


def _unwritable(config: Config) -> Finding | None:
    database = config.uploads.with_suffix("")  # beside which everything has its name and a suffix
    path = database.parent
    try:
        path.mkdir(parents=True, exist_ok=True)
        for path in (database.parent, config.spool, config.uploads):
            if path.exists():
                tempfile.TemporaryFile(dir=path).close()
        path = database
        if path.exists():
            path.open("ab").close()
    except OSError as error:
        text = f"{path} cannot be written: {error.strerror}."
        return Finding(
            Level.FAILURE, f"{text} Give {database.parent} to the bot's user, or {_ELSEWHERE}"
        )
    return None


def _port(http: HttpSettings) -> list[Finding]:
    if http.port is None:
        return []
    family = socket.AF_INET6 if ":" in http.host else socket.AF_INET
    try:
        socket.create_server((http.host, http.port), family=family).close()
    except OSError as error:
        text = f"http: I cannot listen at {http.host}:{http.port} ({error.strerror})."
        return [Finding(Level.FAILURE, f"{text} Name another host or port in config.yaml.")]
    return [Finding(Level.OK, f"http: I can listen at {http.host}:{http.port}")]


# Discord


async def examine_discord(config: Config, secrets: Secrets) -> list[Finding]:
    """The token, and whether the bot is and may what the configuration wants."""
    findings: list[Finding] = []
    try:
        async with asyncio.timeout(_DISCORD), logged_in(secrets) as client:
            async for each in _ask_discord(client, config):
                findings.append(each)
    except ConfigError as error:
        findings.append(Finding(Level.FAILURE, _application(error.__cause__) or str(error)))
    except TimeoutError:
        findings.append(Finding(Level.FAILURE, "Discord takes too long. Try again later."))
    return findings


def _application(error: BaseException | None) -> str | None:
    """A token that Discord knows, and whose application it does not tell."""
    if not isinstance(error, discord.HTTPException) or error.status >= 500:
        return None
    if not str(error.response.url).endswith("/applications/@me"):
        return None
    return (
        f"Discord does not tell the application of DISCORD_TOKEN (HTTP {error.status}). "
        "Use the token of a bot, which its application has on the page Bot."
    )


async def _ask_discord(client: discord.Client, config: Config) -> AsyncIterator[Finding]:
    assert client.user is not None
    assert client.application is not None
    yield Finding(Level.OK, f"Discord knows the token: I am {client.user.name}")
    if client.application.interactions_endpoint_url is not None:
        yield Finding(
            Level.FAILURE,
            "The application has an Interactions Endpoint URL, so commands do not reach me. "
            "Remove it at https://discord.com/developers/applications, General Information.",
        )
    guilds = {guild.id: guild async for guild in client.fetch_guilds(limit=None)}
    if not guilds:
        text = "I am in no Discord server yet. Open the link of `comfycord invite`."
        yield Finding(Level.WARNING, text)
    named = config.discord.guilds
    for guild_id in named:
        if guild_id not in guilds:
            text = f"discord.guilds: I am not in the server {guild_id}. Use `comfycord invite`."
            yield Finding(Level.FAILURE, text)
    ours = [guilds[each] for each in named or guilds if each in guilds]
    looked_into = ours if named else ours[:_GUILDS]
    tree = app_commands.CommandTree(client)
    for guild in looked_into:
        try:
            yield await _commands(tree, guild)
            async for each in _channels(client.user, await client.fetch_guild(guild.id)):
                yield each
        except (discord.HTTPException, discord.InvalidData) as error:
            text = f"I cannot look into the server {guild.name} ({error})"
            yield Finding(Level.WARNING, text, "Try again later.")
    if more := len(ours) - len(looked_into):
        text = f"Discord servers that I am in and did not look into: {more}"
        yield Finding(Level.OK, text, "Those in `discord.guilds` are all looked into.")


async def _commands(
    tree: app_commands.CommandTree[discord.Client], guild: discord.Guild
) -> Finding:
    try:
        await tree.fetch_commands(guild=guild)
    except discord.Forbidden:
        return Finding(
            Level.FAILURE,
            f"In the server {guild.name} I may have no slash commands",
            "Open the link of `comfycord invite` again: it has the scope applications.commands.",
        )
    return Finding(Level.OK, f"In the server {guild.name} I may have slash commands")


async def _channels(me: discord.ClientUser, guild: discord.Guild) -> AsyncIterator[Finding]:
    """What is lacking in the text channels, in a line for all that lack the same."""
    member = await guild.fetch_member(me.id)
    lacking: dict[tuple[str, ...], list[str]] = {}
    for each in await guild.fetch_channels():
        if isinstance(each, discord.TextChannel):
            missing = tuple(missing_permissions(each.permissions_for(member)))
            lacking.setdefault(missing, []).append(f"#{each.name}")
    fine = lacking.pop((), [])
    hidden = lacking.pop(tuple(NEEDED.values()), [])
    here = f"In the server {guild.name}"
    if fine:
        yield Finding(Level.OK, f"{here} I may post pictures in {_few(fine)}")
    for missing, channels in lacking.items():
        yield Finding(
            Level.WARNING if fine else Level.FAILURE,
            f"{here} I lack {', '.join(missing)} in {_few(channels)}",
            "Allow me that in the channel's settings.",
        )
    if hidden:  # as those of moderators should be, unless there is no other
        yield Finding(
            Level.OK if fine or lacking else Level.FAILURE,
            f"{here} I do not see {_few(hidden)}",
            "Where members are to use me, I need View Channel in the channel's settings.",
        )


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


# The servers


async def _examine_servers(
    config: Config, secrets: Secrets, workflows: Mapping[str, Workflow]
) -> list[Finding]:
    if not config.servers:
        return [Finding(Level.FAILURE, "No ComfyUI server is set. Add one to config.yaml.")]
    async with clients(config, secrets) as ours:
        found = await asyncio.gather(*(examine_server(each, workflows) for each in ours.values()))
    return [finding for findings in found for finding in findings]
