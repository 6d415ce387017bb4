"""/generate: run a workflow and post the pictures here."""

import logging
from typing import Any

import aiohttp
import discord
from discord import app_commands
from discord.ext import commands

from bot.app import Comfycord
from bot.cards import waiting_card
from bot.delivery import missing_permissions
from bot.errors import UserError
from bot.jobs import Job, Request, short
from bot.requests import Wish, build, check_limits
from cogs.transformers import (
    Interaction,
    WorkflowOption,
    author,
    complete_model,
    complete_node,
    complete_settings,
    default_workflow,
)

log = logging.getLogger(__name__)

_LONG = app_commands.Range[str, 1, 6000]


class Generate(commands.Cog):
    def __init__(self, bot: Comfycord) -> None:
        self.bot = bot

    @app_commands.command()
    @app_commands.describe(
        workflow="What to run; /workflows shows them all",
        prompt="What the picture should show",
        negative="What it should not show",
        seed="The same seed and settings give the same picture; left out, it is random",
        steps="More steps take longer",
        cfg="How strictly the prompt is followed",
        width="Width in pixels",
        height="Height in pixels",
        batch="How many pictures",
        model="Another model of the same kind",
        node="The text node that gets the prompt, where a workflow has several",
        settings="Any other parameter: name=value name=value",
        overrides='Inputs by node: {"6": {"inputs": {"text": "a cat"}}}',
    )
    @app_commands.autocomplete(model=complete_model, node=complete_node, settings=complete_settings)
    async def generate(
        self,
        interaction: Interaction,
        workflow: WorkflowOption | None = None,
        prompt: _LONG | None = None,
        negative: _LONG | None = None,
        seed: app_commands.Range[str, 1, 20] | None = None,
        steps: int | None = None,
        cfg: float | None = None,
        width: int | None = None,
        height: int | None = None,
        batch: int | None = None,
        model: str | None = None,
        node: str | None = None,
        settings: _LONG | None = None,
        overrides: _LONG | None = None,
    ) -> None:
        """Run a workflow and post the pictures here."""
        check_place(interaction)
        values: dict[str, Any] = {
            "negative": negative,
            "seed": seed,
            "steps": steps,
            "cfg": cfg,
            "width": width,
            "height": height,
            "batch": batch,
            "model": model,
        }
        request = build(
            workflow or await default_workflow(interaction),
            Wish(prompt=prompt, node=node, values=values, settings=settings, overrides=overrides),
            author(interaction),
            self.bot.config.limits,
            self.bot.servers.nodes,
            interaction.created_at,
        )
        await submit(interaction, request)


def check_place(interaction: Interaction) -> None:
    """Whether the result could be posted here, before any GPU time is spent on it."""
    if interaction.guild_id is None:
        if interaction.context.private_channel:
            raise UserError("I cannot post into this conversation. Use a server or message me.")
        return
    if interaction.client.get_guild(interaction.guild_id) is None:
        raise UserError("I am not a member of this server, so I cannot post here.")
    in_thread = isinstance(interaction.channel, discord.Thread)
    if missing := missing_permissions(interaction.app_permissions, thread=in_thread):
        names = ", ".join(missing)
        raise UserError(f"I may not post pictures in this channel: an admin must allow me {names}.")


async def submit(interaction: Interaction, request: Request) -> None:
    """The row first, then the placeholder. Only what Discord has shown becomes a job."""
    bot = interaction.client
    if not bot.servers:
        raise UserError("No ComfyUI server is set up yet. An admin adds one to config.yaml.")
    async with bot.accepting:  # or ten commands at once would each see the limit unreached
        mine, pending = await bot.store.load(request.user_id)
        check_limits(bot.config.limits, mine=mine, pending=pending)
        if not await bot.store.add(request):
            log.info("interaction %s came twice", request.interaction_id)
            return
    server_up = any(server.up for server in bot.servers.values())
    card = waiting_card(Job(request=request), pending + 1, server_up=server_up)
    try:
        answer = await interaction.response.send_message(view=card)
    except discord.NotFound:  # too late: the person saw the command fail
        await bot.store.discard(request.id)
    except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
        # Whether the answer is there decides; the runner looks for it.
        log.warning("the answer to job %s is unclear: %s", short(request.id), error)
    else:
        if answer.message_id is not None:
            await bot.store.acknowledge(request.id, answer.message_id)
        bot.runner.wake()


async def setup(bot: Comfycord) -> None:
    await bot.add_cog(Generate(bot))
