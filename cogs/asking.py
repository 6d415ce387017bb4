"""From a wish to a job with its placeholder: what commands, buttons and menus have in common."""

import logging
from collections.abc import Mapping
from dataclasses import replace

import aiohttp
import discord

from bot.cards import waiting_card
from bot.delivery import missing_permissions
from bot.errors import UserError
from bot.jobs import Job, Request, short
from bot.line import begins_at
from bot.requests import build, check_limits
from bot.uploads import check_size
from bot.wishes import Wish
from cogs.transformers import (
    Interaction,
    author,
    default_workflow,
    find_workflow,
    is_stranger,
)
from comfy.parameters import Role

log = logging.getLogger(__name__)

Files = Mapping[str, discord.Attachment | bytes | None]  # by parameter name


async def ask(interaction: Interaction, wish: Wish, files: Files | None = None) -> None:
    """Everything is checked again, as if it was typed now and by this person."""
    bot = interaction.client
    if not wish.private:
        check_place(interaction)
    workflow = find_workflow(bot, wish.workflow) if wish.workflow else None
    workflow = workflow or await default_workflow(interaction)
    given = {name: each for name, each in (files or {}).items() if each is not None}
    parameters = workflow.parameters(bot.servers.nodes)
    kept = dict(wish.files)
    for name, each in given.items():
        if name not in parameters:
            raise UserError(f"*{workflow.title}* takes no `{name}`.")
        size = each.size if isinstance(each, discord.Attachment) else len(each)
        check_size(parameters[name].role, size, bot.config.limits.upload_mb)
    if given and not interaction.response.is_done():
        await interaction.response.defer(thinking=True, ephemeral=wish.private)
    for name, each in given.items():
        kept[name] = await _keep(interaction, parameters[name].role, each)
    request = build(
        workflow,
        replace(wish, files=kept),
        author(interaction),
        bot.config.limits,
        bot.servers.nodes,
        interaction.created_at,
    )
    await submit(interaction, request)


async def _keep(interaction: Interaction, role: Role, file: discord.Attachment | bytes) -> str:
    try:
        data = file if isinstance(file, bytes) else await file.read()
    except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
        raise UserError("Discord did not give me the file. Send it again.") from error
    return await interaction.client.uploads.keep(role, data)


def check_place(interaction: Interaction) -> None:
    """Whether the result could be posted here, before any GPU time is spent on it."""
    if interaction.guild_id is None or is_stranger(interaction):
        return
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
    if request.by_token:
        await bot.answers.keep(request.id, interaction.token)
    up = sum(server.up for server in bot.servers.values())
    place = pending + 1
    begins = begins_at(place, await bot.store.typical_seconds(), up)
    card = waiting_card(Job(request=request), place, begins=begins, server_up=up > 0)
    try:
        message_id = await _answer(interaction, card, private=request.wish.private)
    except discord.NotFound:  # too late: the person saw the command fail
        await bot.store.discard(request.id)
    except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
        # Whether the answer is there decides; the runner looks for it.
        log.warning("the answer to job %s is unclear: %s", short(request.id), error)
    else:
        if message_id is not None:
            if request.by_token:
                await bot.answers.keep(request.id, interaction.token, message_id)
            await bot.store.acknowledge(request.id, message_id)
        bot.runner.wake()


async def _answer(
    interaction: Interaction, card: discord.ui.LayoutView, *, private: bool
) -> int | None:
    if interaction.response.is_done():
        return (await interaction.edit_original_response(view=card)).id
    sent = await interaction.response.send_message(view=card, ephemeral=private)
    return sent.message_id
