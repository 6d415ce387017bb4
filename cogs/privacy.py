"""/privacy: what the bot keeps of a person, to take away or to delete."""

import io
import json
import re
from typing import Self

import discord
from discord import app_commands, ui
from discord.ext import commands

from bot.app import Comfycord, answered
from bot.cards import layout
from bot.languages import language_of
from cogs.controls import Button, Item
from cogs.transformers import Interaction
from comfy.graph import without_secrets
from comfy.phrases import say, say_count

_KEPT = say(
    "For each of your requests: your id, where it was made, the prompt and settings, when and how "
    "it ended, and for a month the files that you gave. Your presets. Posted pictures are "
    "Discord's."
)


class Privacy(commands.GroupCog, group_name="privacy"):
    """What I keep of you."""

    def __init__(self, bot: Comfycord) -> None:
        self.bot = bot
        super().__init__()

    @app_commands.command()
    async def export(self, interaction: Interaction) -> None:
        """Get everything that I keep of you, as a file."""
        rows = await self.bot.store.everything_of(interaction.user.id)
        for row in rows:
            row["graph"] = without_secrets(json.loads(row["graph"]))
        others = await self.bot.store.other_rows_of(interaction.user.id)
        more = [{"kind": kind, **row} for kind, found in others.items() for row in found]
        data = json.dumps([*rows, *more], ensure_ascii=False, indent=2, default=str).encode()
        file = discord.File(io.BytesIO(data), "comfycord-my-data.json")
        t = language_of(interaction)
        number = t.many("{number} request.", "{number} requests.", len(rows))
        await interaction.response.send_message(
            f"{number} {t.said(_KEPT)}", file=file, ephemeral=True
        )

    @app_commands.command()
    async def delete(self, interaction: Interaction) -> None:
        """Delete everything that I keep of you."""
        t = language_of(interaction)
        row = ui.ActionRow[ui.LayoutView](
            ui.Button(
                label=t("Delete it all"),
                style=discord.ButtonStyle.danger,
                custom_id=f"privacy:{interaction.user.id}:delete",
            )
        )
        then = t("Jobs that wait or run are cancelled, and buttons under your pictures stop.")
        text = ui.TextDisplay[ui.LayoutView](f"{t.said(_KEPT)}\n{then}")
        card = layout(ui.Container(text, row))
        await interaction.response.send_message(view=card, ephemeral=True)


class DeleteButton(ui.DynamicItem[Button], template=r"privacy:(?P<user>\d{1,20}):delete"):
    def __init__(self, user_id: int) -> None:
        super().__init__(ui.Button(custom_id=f"privacy:{user_id}:delete"))

    @classmethod
    async def from_custom_id(  # type: ignore[override]
        cls, interaction: Interaction, item: Item, match: re.Match[str], /
    ) -> Self:
        return cls(int(match["user"]))

    async def callback(self, interaction: Interaction) -> None:  # type: ignore[override]
        await answered(interaction, self._delete(interaction))

    async def _delete(self, interaction: Interaction) -> None:
        bot, user_id = interaction.client, interaction.user.id  # whoever clicks: their own
        await interaction.response.defer()
        for job in await bot.store.open_of(user_id):
            await bot.runner.cancel(job)
        files, number = await bot.store.forget(user_id)
        await bot.uploads.remove(files)
        requests = say_count("{number} request", "{number} requests", number)
        text = language_of(interaction)(
            "Deleted: {requests}. Jobs that just end go a moment later.", requests=requests
        )
        await interaction.edit_original_response(view=layout(ui.Container(ui.TextDisplay(text))))


async def setup(bot: Comfycord) -> None:
    bot.add_dynamic_items(DeleteButton)
    await bot.add_cog(Privacy(bot))
