"""The bot in a Discord-like page on loopback: the real bot and cogs, no token, no GPU.

The page is simcord's preview. Simcord is made for tests: its clock stands still and the page
waits until the bot has nothing to do. `lively` changes both, and that is the only place that
touches simcord's private parts, so its version is pinned exactly.
"""

import asyncio
import shutil
import tempfile
import time
import webbrowser
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import discord
import simcord
import simcord.interactions
import yarl
from simcord._settlement import _run_due_virtual_callbacks
from simcord.backend.cdn import CDN_BASE
from simcord.preview import _component_projection

from bot.app import Comfycord
from bot.config import SHIPPED, Config, DiscordSettings, Secrets, ServerSettings, Shards
from bot.errors import ConfigError
from comfy.standin import Pace, StandIn

_TICK = 0.1  # seconds between two steps of the page's clock
_PUBLISH_EVERY = 0.5  # a page with many pictures takes a while to build
_ACKNOWLEDGE = 3.0  # Discord's own limit for a first answer


async def run_demo(
    server: str | None, port: int | None, language: str, *, open_browser: bool
) -> None:
    """Until it is cancelled or the page's session is ended. *language*: of everybody there."""
    _let_all_speak(language)
    _show_pictures_of_other_messages()
    async with AsyncExitStack() as stack:
        if server is None:
            server = (
                await stack.enter_async_context(
                    StandIn(pace=Pace(node=0.1, step=0.2), version="0.28.0")
                )
            ).url
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="comfycord-demo-"))
        try:
            bot = Comfycord(demo_config(server, Path(folder)), Secrets())
        except ValueError as error:
            raise ConfigError(
                f"--server: {server!r} needs http:// or https:// in front."
            ) from error
        env = await stack.enter_async_context(lively(bot))
        guild = env.create_guild("Comfy Lab")
        channel = guild.create_text_channel("pictures")
        manage = discord.Permissions(manage_guild=True, manage_messages=True)
        moderators = guild.create_role("Moderators", permissions=manage)
        people = [
            guild.add_member(env.create_user("alice", global_name="Alice")),
            guild.add_member(env.create_user("ben", global_name="Ben")),
            guild.add_member(env.create_user("mia", global_name="Mia (mod)"), roles=[moderators]),
        ]
        view = env.preview(channel, viewers=people, layout="channel", port=port, locale=language)
        try:
            page = await stack.enter_async_context(view)
        except simcord.SetupError as error:
            raise ConfigError(f"Port {port} is taken. Choose another --port, or none.") from error
        publishing = asyncio.create_task(_publish_changes(env, page))
        try:
            await _say_if_down(bot, server)
            click.echo(f"The demo is at {page.url}")
            click.echo("Type first:  /generate  and choose prompt:  a lighthouse in a storm")
            click.echo("Ctrl-C ends it.")
            if open_browser:
                await asyncio.to_thread(webbrowser.open, page.url)
            await page.wait_closed()
        finally:
            publishing.cancel()


def _let_all_speak(language: str) -> None:
    """Simcord says of everybody that their language is English."""
    payload_of = simcord.interactions.base_payload

    def in_language(*args: Any, **options: Any) -> Any:
        record, payload = payload_of(*args, **options)
        return record, {**payload, "locale": language}

    simcord.interactions.base_payload = in_language


def _show_pictures_of_other_messages() -> None:
    """As Discord does: a gallery may show the address of another message's attachment."""
    asset_of = _component_projection._asset_meta

    def found(page: Any, url: Any, fallback: Any = None, message: Any = None) -> Any:
        others = page.preview.env.backend.messages.get(page.channel_id, {}).values()
        if fallback is None and str(url).startswith(CDN_BASE):
            for other in others:
                for each in other.attachments:
                    if each["url"] == url:
                        return asset_of(page, url, each, other)
        return asset_of(page, url, fallback, message)

    _component_projection._asset_meta = found


async def _say_if_down(bot: Comfycord, url: str) -> None:
    """Or the first picture would be waited for without a word."""
    (server,) = bot.servers.values()
    try:
        async with asyncio.timeout(_ACKNOWLEDGE):
            await server.wait_up()
    except TimeoutError:
        click.echo(f"No ComfyUI answers at {url} yet ({server.problem}).")


def demo_config(server: str, folder: Path) -> Config:
    """With a copy of the workflows that ship, so that moderators may change them."""
    shutil.copytree(SHIPPED / "workflows", folder / "workflows")
    return Config(
        discord=DiscordSettings(shards=Shards(0, 0, 1)),  # nobody is asked how many
        servers=(ServerSettings(name="local", url=server),),
        database=f"sqlite:///{folder.as_posix()}/demo.db",
        workflows=str(folder / "workflows"),
    )


@asynccontextmanager
async def lively(bot: Comfycord) -> AsyncIterator[simcord.Env]:
    """A simulated Discord around *bot* whose clock runs, and which waits for answers only."""
    env = simcord.Env(bot, check_errors=False)
    env.backend.clock._epoch = datetime.now(UTC)
    env.backend.bot_user.name = "Comfycord"
    bot.cdn_hosts.add(str(yarl.URL(CDN_BASE).host))
    abandoned: set[int] = set()

    async def until_acknowledged(**_: Any) -> None:
        deadline = time.perf_counter() + _ACKNOWLEDGE
        while True:
            _run_due_virtual_callbacks(env._settlement_state(), float("inf"))
            every = env.backend.interactions.values()
            waiting = {each.id for each in every if not each.responded} - abandoned
            if not waiting:
                return
            if time.perf_counter() > deadline:
                abandoned.update(waiting)
                return
            await asyncio.sleep(0.01)

    env._settle_internal = until_acknowledged  # type: ignore[method-assign]
    await env.start()
    clock = asyncio.create_task(_run_clock(env))
    try:
        yield env
    finally:
        await bot.close()
        clock.cancel()
        await asyncio.gather(clock, return_exceptions=True)
        await env.shutdown()


async def _run_clock(env: simcord.Env) -> None:
    before = time.perf_counter()
    while True:
        await asyncio.sleep(_TICK)
        now = time.perf_counter()
        await env._advance_to(env._virtual_time + now - before, float("inf"))
        before = now


async def _publish_changes(env: simcord.Env, page: simcord.Preview) -> None:
    seen = 0
    while True:
        await asyncio.sleep(_PUBLISH_EVERY)
        if (now := len(env.backend.transcript)) != seen:
            seen = now
            page._advance_presentation_time()
            for each in list(page._pages.values()):
                page._publish(each, reason="refresh")
