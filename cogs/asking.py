"""From a wish to a job with its placeholder: what commands, buttons and menus have in common."""

import logging
import re
import uuid
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from itertools import islice
from typing import Self

import aiohttp
import discord
from discord import ui

from bot.answers import FOLLOWUPS, UNKNOWN, answer_late, defer, is_stranger
from bot.app import Comfycord, answered
from bot.cards import fitting, layout
from bot.delivery import missing_permissions
from bot.errors import UserError
from bot.jobs import Job, Request, short
from bot.languages import language_of
from bot.requests import SEVERAL_MAX, build, check_limits, several
from bot.texts import neutral
from bot.uploads import check_size
from bot.wishes import Wish
from cogs.transformers import (
    Interaction,
    author,
    default_workflow,
    find_workflow,
)
from comfy.parameters import Role
from comfy.phrases import say
from comfy.workflow import Workflow

log = logging.getLogger(__name__)

Files = Mapping[str, discord.Attachment | bytes | None]  # by parameter name
_LISTED = 8  # prompts of a question


async def ask(interaction: Interaction, wish: Wish, files: Files | None = None) -> None:
    """Everything is checked again, as if it was typed now and by this person."""
    workflow = await _workflow_for(interaction, wish)
    async with _promising(interaction, files):
        wish = await _with_files(interaction, workflow, wish, files, private=wish.private)
        await submit(interaction, _built(interaction, workflow, wish))


async def ask_for_each(interaction: Interaction, wish: Wish, files: Files | None = None) -> None:
    """The same for what may make several jobs: then their number is confirmed first."""
    workflow = await _workflow_for(interaction, wish)
    wishes = list(islice(several(workflow, wish), SEVERAL_MAX + 1))
    if len(wishes) == 1:
        await ask(interaction, wishes[0], files)
        return
    if len(wishes) > SEVERAL_MAX:
        raise UserError(say("This makes more than {most} jobs. Ask for fewer.", most=SEVERAL_MAX))
    if is_stranger(interaction) and len(wishes) > FOLLOWUPS:
        raise UserError(
            say("Where I am no member, one request makes at most {most} jobs.", most=FOLLOWUPS)
        )
    bot, user_id = interaction.client, interaction.user.id
    usage = await bot.store.usage(user_id, interaction.created_at)
    check_limits(bot.config.limits, usage, len(wishes))
    async with _promising(interaction, files):
        await _ask_whether(interaction, workflow, wish, wishes, files)


async def _ask_whether(
    interaction: Interaction,
    workflow: Workflow,
    wish: Wish,
    wishes: list[Wish],
    files: Files | None,
) -> None:
    """*wishes*: the jobs that *wish* makes."""
    bot, user_id = interaction.client, interaction.user.id
    wish = await _with_files(interaction, workflow, wish, files, private=True)
    for each in wishes:
        _built(interaction, workflow, replace(each, files=wish.files))
    draft_id = str(uuid.uuid4())
    await bot.store.keep_draft(draft_id, user_id, replace(wish, workflow=workflow.name))
    card = _question(interaction, draft_id, wishes)
    if interaction.response.is_done():
        await answer_late(interaction, card)
    else:
        await interaction.response.send_message(view=card, ephemeral=True)


def _promising(
    interaction: Interaction, files: Files | None
) -> AbstractAsyncContextManager[None, bool | None]:
    """Files take their time, so Discord is told to wait."""
    if any(each is not None for each in (files or {}).values()):
        return interaction.client.answers.promising(interaction)
    return nullcontext()


def _question(interaction: Interaction, draft_id: str, wishes: list[Wish]) -> ui.LayoutView:
    t, number = language_of(interaction), len(wishes)
    prompts = [each for each in dict.fromkeys(wish.prompt for wish in wishes) if each]
    lines = [t("This makes {number} jobs:", number=number)]
    lines += [f"> {neutral(each, 150)}" for each in prompts[:_LISTED]]
    if len(prompts) > _LISTED:
        lines.append(t("and {number} more", number=len(prompts) - _LISTED))
    button = ui.Button[ui.LayoutView](
        label=t("Run all {number}", number=number),
        style=discord.ButtonStyle.primary,
        custom_id=f"each:{draft_id}",
    )
    return layout(ui.Container(ui.TextDisplay("\n".join(fitting(lines))), ui.ActionRow(button)))


class RunEach(ui.DynamicItem[ui.Button[ui.LayoutView]], template=r"each:(?P<draft>[\w-]{36})"):
    """Runs what a question told of."""

    def __init__(self, draft_id: str) -> None:
        super().__init__(ui.Button(custom_id=f"each:{draft_id}"))
        self.draft_id = draft_id

    @classmethod
    async def from_custom_id(  # type: ignore[override]
        cls, interaction: Interaction, item: ui.Item[ui.LayoutView], match: re.Match[str], /
    ) -> Self:
        return cls(match["draft"])

    async def callback(self, interaction: Interaction) -> None:  # type: ignore[override]
        await answered(interaction, self._run(interaction))

    async def _run(self, interaction: Interaction) -> None:
        store, user_id = interaction.client.store, interaction.user.id
        wish = await store.draft(self.draft_id, user_id)
        if wish is None:
            raise UserError(say("These jobs were run already, or are no longer kept."))
        workflow = await _workflow_for(interaction, wish)
        wishes = list(islice(several(workflow, wish), SEVERAL_MAX))
        usage = await store.usage(user_id, interaction.created_at)
        check_limits(interaction.client.config.limits, usage, len(wishes))
        requests = [_built(interaction, workflow, each) for each in wishes]
        if await store.take_draft(self.draft_id, user_id) is None:
            await interaction.response.defer()  # of two clicks the first one runs them
            return
        for nth, each in enumerate(requests):
            await submit(interaction, replace(each, nth=nth))


async def _workflow_for(interaction: Interaction, wish: Wish) -> Workflow:
    if not wish.private:
        check_place(interaction)
    if wish.workflow:
        return find_workflow(interaction.client, wish.workflow)
    return await default_workflow(interaction)


async def _with_files(
    interaction: Interaction, workflow: Workflow, wish: Wish, files: Files | None, *, private: bool
) -> Wish:
    """The wish with what was given, checked and kept."""
    bot = interaction.client
    given = {name: each for name, each in (files or {}).items() if each is not None}
    parameters = workflow.parameters(bot.servers.nodes)
    for name, each in given.items():
        if name not in parameters:
            raise UserError(
                say("*{workflow}* takes no `{name}`.", workflow=workflow.title, name=name)
            )
        size = each.size if isinstance(each, discord.Attachment) else len(each)
        check_size(parameters[name].role, size, bot.config.limits.upload_mb)
    if given and not interaction.response.is_done():
        await defer(interaction, private=private)
    kept = {
        name: await _keep(interaction, parameters[name].role, each) for name, each in given.items()
    }
    return replace(wish, files={**wish.files, **kept})


async def _keep(interaction: Interaction, role: Role, file: discord.Attachment | bytes) -> str:
    try:
        data = file if isinstance(file, bytes) else await file.read()
    except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
        raise UserError(say("Discord did not give me the file. Send it again.")) from error
    return await interaction.client.uploads.keep(role, data)


def _built(interaction: Interaction, workflow: Workflow, wish: Wish) -> Request:
    bot = interaction.client
    return build(
        workflow,
        wish,
        author(interaction),
        bot.config.limits,
        bot.servers.nodes,
        interaction.created_at,
    )


def check_place(interaction: Interaction) -> None:
    """Whether the result could be posted here, before any GPU time is spent on it."""
    if interaction.guild_id is None or is_stranger(interaction):
        return
    in_thread = isinstance(interaction.channel, discord.Thread)
    if missing := missing_permissions(interaction.app_permissions, thread=in_thread):
        raise UserError(
            say(
                "I may not post pictures in this channel: an admin must allow me {permissions}.",
                permissions=", ".join(missing),
            )
        )


async def submit(interaction: Interaction, request: Request) -> None:
    """The row first, then the placeholder. Only what Discord has shown becomes a job."""
    bot = interaction.client
    place = await bot.acceptance.accept(request, author(interaction).roles)
    if place is None:
        return
    if request.by_token:  # a later one is a message of its own, of which nobody knows yet
        await bot.answers.keep(request.id, interaction.token, UNKNOWN if request.nth else None)
    card = bot.line.joined(Job(request=request), place)
    try:
        message_id = await _answer(interaction, card, request)
    except discord.NotFound:  # too late: the person saw the command fail
        await bot.store.discard(request.id)
    except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
        # Whether the answer is there decides; the runner looks for it.
        log.warning("the answer to job %s is unclear: %s", short(request.id), error)
        bot.answers.doubt(interaction)
    else:
        if message_id is not None:
            if request.by_token:
                await bot.answers.keep(request.id, interaction.token, message_id)
            await bot.store.acknowledge(request.id, message_id)
        bot.runner.wake()


async def _answer(interaction: Interaction, card: ui.LayoutView, request: Request) -> int | None:
    private = request.wish.private
    if request.nth:
        sent = await interaction.followup.send(view=card, ephemeral=private, wait=True)
        return sent.id
    if interaction.response.is_done():
        return await answer_late(interaction, card)
    shown = await interaction.response.send_message(view=card, ephemeral=private)
    return shown.message_id


async def setup(bot: Comfycord) -> None:
    bot.add_dynamic_items(RunEach)
