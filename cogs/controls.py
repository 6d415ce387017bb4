"""Buttons. Each carries what it is about in its `custom_id`, so it works after any restart."""

import re
from collections.abc import Iterator
from typing import Any, Self

import discord
from discord import ui

from bot.app import Comfycord, answered
from bot.cards import failure_card
from bot.errors import UserError
from bot.jobs import Job
from bot.languages import language_of
from cogs.transformers import Interaction
from cogs.workflows import overview
from comfy.phrases import say

Item = ui.Item[ui.LayoutView]
Button = ui.Button[ui.LayoutView]
Select = ui.Select[ui.LayoutView]


class CancelButton(ui.DynamicItem[Button], template=r"job:(?P<id>[\w-]{36}):cancel"):
    def __init__(self, job_id: str) -> None:
        super().__init__(ui.Button(custom_id=f"job:{job_id}:cancel"))
        self.job_id = job_id

    @classmethod
    async def from_custom_id(  # type: ignore[override]
        cls, interaction: Interaction, item: Item, match: re.Match[str], /
    ) -> Self:
        return cls(match["id"])

    async def callback(self, interaction: Interaction) -> None:  # type: ignore[override]
        await answered(interaction, cancel(interaction, self.job_id))


def may_manage(interaction: Interaction, job: Job) -> bool:
    """The owner, and moderators of the Discord server where it was asked for."""
    here = interaction.guild_id is not None and job.request.guild_id == interaction.guild_id
    moderates = here and interaction.permissions.manage_messages
    return interaction.user.id == job.request.user_id or moderates


def typed_in(data: Any) -> Iterator[tuple[str, str]]:
    """Field → what was typed, in a submitted modal."""
    for each in data.get("components", ()):
        inner = each.get("component")
        yield from typed_in({"components": [inner]} if inner else each)
        if "value" in each:
            yield str(each["custom_id"]), str(each["value"]).strip()


async def cancel(interaction: Interaction, job_id: str) -> None:
    bot = interaction.client
    job = await bot.store.get(job_id)
    if job is None:
        raise UserError(say("This job is no longer known."))
    if not may_manage(interaction, job):
        raise UserError(say("Only the person who asked for it, or a moderator, can cancel it."))
    clicked = interaction.type is discord.InteractionType.component
    stopped = await bot.runner.cancel(job)
    if clicked and job.request.by_token and (stopped or not job.told):
        if stopped:
            await _show_end(interaction, job)
        else:
            await interaction.response.defer()
        # Only an answered click has a token that lives; its end comes here now.
        await bot.answers.keep(job.id, interaction.token)
    elif not stopped:
        raise UserError(say("It is too late to cancel this job."))
    elif clicked:
        await _show_end(interaction, job)
    else:
        t = language_of(interaction)
        text = t("`{job}` is cancelled.", job=job.short_id)
        await interaction.response.send_message(text, ephemeral=True)


async def _show_end(interaction: Interaction, job: Job) -> None:
    ended = await interaction.client.store.get(job.id) or job
    await interaction.response.edit_message(view=failure_card(ended), attachments=[])


class PageButton(ui.DynamicItem[Button], template=r"workflows:(?P<page>\d{1,4})"):
    def __init__(self, page: int) -> None:
        super().__init__(ui.Button(custom_id=f"workflows:{page}"))
        self.page = page

    @classmethod
    async def from_custom_id(  # type: ignore[override]
        cls, interaction: Interaction, item: Item, match: re.Match[str], /
    ) -> Self:
        return cls(int(match["page"]))

    async def callback(self, interaction: Interaction) -> None:  # type: ignore[override]
        await interaction.response.edit_message(view=overview(interaction, self.page))


async def setup(bot: Comfycord) -> None:
    bot.add_dynamic_items(CancelButton, PageButton)
