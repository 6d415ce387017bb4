"""Context menus on messages: use a picture as input, show a result's settings, run it again."""

import re
from typing import Any, Self

import aiohttp
import discord
from discord import app_commands, ui
from discord.ext import commands

from bot.app import Comfycord
from bot.cards import job_id_in, layout, pictures_in
from bot.errors import UserError
from bot.jobs import Job
from bot.wishes import Wish
from cogs.asking import ask
from cogs.results import Item, Select, again, answered, details, typed_in
from cogs.transformers import Interaction, author, find_workflow, usable_workflows
from comfy.parameters import Role

_PICTURE_TYPES = ("image/png", "image/jpeg", "image/webp", "image/gif")


class InputChoice(
    ui.DynamicItem[Select], template=r"use:(?P<channel>\d{1,20}):(?P<message>\d{1,20}):(?P<n>\d)"
):
    """The workflows that a picture of any message can begin."""

    def __init__(self, channel: int, message: int, n: int, names: list[str] | None = None) -> None:
        options = [discord.SelectOption(label=each[:100], value=each[:100]) for each in names or []]
        options = options or [discord.SelectOption(label="none", value="none")]
        custom_id = f"use:{channel}:{message}:{n}"
        placeholder = f"Picture {n + 1}: use it in…"
        super().__init__(ui.Select(custom_id=custom_id, options=options, placeholder=placeholder))

    @classmethod
    async def from_custom_id(  # type: ignore[override]
        cls, interaction: Interaction, item: Item, match: re.Match[str], /
    ) -> Self:
        return cls(int(match["channel"]), int(match["message"]), int(match["n"]))

    async def callback(self, interaction: Interaction) -> None:  # type: ignore[override]
        await answered(interaction, self._chosen(interaction))

    async def _chosen(self, interaction: Interaction) -> None:
        workflow = find_workflow(interaction.client, self.item.values[0])
        if Role.TEXT not in workflow.parameters({}):
            await _run(interaction, self.custom_id, workflow.name, None)
            return
        modal = ui.Modal(title=workflow.title[:45], custom_id=self.custom_id, timeout=None)
        # the field's id carries the workflow, so the answer is understood after a restart
        field = ui.TextInput[ui.Modal](
            custom_id=workflow.name, style=discord.TextStyle.paragraph, max_length=4000
        )
        modal.add_item(ui.Label(text="What shall it become?", component=field))
        modal.stop()
        await interaction.response.send_modal(modal)


async def _run(interaction: Interaction, place: str, workflow: str, prompt: str | None) -> None:
    _, channel_id, message_id, n = place.split(":")
    channel = interaction.client.get_partial_messageable(
        int(channel_id), guild_id=interaction.guild_id
    )
    await interaction.response.defer(thinking=True)
    try:
        message = await channel.fetch_message(int(message_id))
        picture = await interaction.client.http.get_from_cdn(_addresses(message)[int(n)])
    except (discord.HTTPException, aiohttp.ClientError, IndexError, OSError) as error:
        raise UserError("I cannot get this picture any more.") from error
    await ask(interaction, Wish(workflow=workflow, prompt=prompt), {Role.IMAGE: picture})


def _addresses(message: discord.Message) -> list[str]:
    """Pictures that somebody attached, or that a gallery shows."""
    attached = [
        each.url
        for each in message.attachments
        if (each.content_type or "").partition(";")[0] in _PICTURE_TYPES
    ]
    return list(dict.fromkeys([*attached, *pictures_in(message)]))


async def use_as_input(interaction: Interaction, message: discord.Message) -> None:
    count = min(len(_addresses(message)), 10)
    if not count:
        raise UserError("There is no picture in this message.")
    usable = usable_workflows(interaction.client, author(interaction))
    names = [each.name for each in usable if Role.IMAGE in each.parameters({})]
    if not names:
        raise UserError("No workflow here takes a picture. A moderator can add one.")
    container = ui.Container[ui.LayoutView](ui.TextDisplay("What shall I do with it?"))
    for n in range(count):
        choice = InputChoice(message.channel.id, message.id, n, names[:25])
        container.add_item(ui.ActionRow(choice))
    await interaction.response.send_message(view=layout(container), ephemeral=True)


async def show_settings(interaction: Interaction, message: discord.Message) -> None:
    await details(interaction, await _job_of(interaction, message), None)


async def run_again(interaction: Interaction, message: discord.Message) -> None:
    await again(interaction, await _job_of(interaction, message), None)


async def _job_of(interaction: Interaction, message: discord.Message) -> Job:
    job_id = job_id_in(message) if message.author == interaction.client.user else None
    job = await interaction.client.store.get(job_id) if job_id else None
    if job is None:
        raise UserError("This message is no result of mine that I still know.")
    return job


class Menus(commands.Cog):
    """The commands belong to the tree; `on_interaction` answers their modals after any restart."""

    def __init__(self, bot: Comfycord) -> None:
        self.bot = bot
        self._commands = [
            app_commands.ContextMenu(name="Use as input image", callback=use_as_input),
            app_commands.ContextMenu(name="Show settings", callback=show_settings),
            app_commands.ContextMenu(name="Run again", callback=run_again),
        ]

    async def cog_load(self) -> None:
        for each in self._commands:
            self.bot.tree.add_command(each)

    async def cog_unload(self) -> None:
        for each in self._commands:
            self.bot.tree.remove_command(each.name, type=each.type)

    @commands.Cog.listener()
    async def on_interaction(self, interaction: Interaction) -> None:
        data: Any = interaction.data or {}
        place = str(data.get("custom_id"))
        is_modal = interaction.type is discord.InteractionType.modal_submit
        if is_modal and re.fullmatch(r"use:\d{1,20}:\d{1,20}:\d", place):
            (workflow, prompt), *_ = typed_in(data)
            await answered(interaction, _run(interaction, place, workflow, prompt))


async def setup(bot: Comfycord) -> None:
    bot.add_dynamic_items(InputChoice)
    await bot.add_cog(Menus(bot))
