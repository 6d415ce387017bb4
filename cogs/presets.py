"""/preset: settings under a name, for `/generate preset:`; a code shares them."""

import re
import secrets

from discord import app_commands, ui
from discord.ext import commands

from bot.app import Comfycord
from bot.cards import fitting, layout
from bot.errors import UserError
from bot.languages import language_of
from bot.people import Preset
from bot.texts import neutral
from bot.wishes import Wish
from cogs.transformers import Choices, Interaction, choices, find_workflow
from comfy.phrases import say

_MOST = 50  # of one person
_NAME_MAX = 50
_CODE = re.compile(r"[a-z2-9]{10}")
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that looks like another


class Presets(commands.GroupCog, group_name="preset"):
    """Keep settings that you like, and share them."""

    def __init__(self, bot: Comfycord) -> None:
        self.bot = bot
        super().__init__()

    @app_commands.command()
    @app_commands.describe(
        name="What you call it", job="The id under a picture; left out, your last one"
    )
    async def save(
        self,
        interaction: Interaction,
        name: app_commands.Range[str, 1, _NAME_MAX],
        job: str | None = None,
    ) -> None:
        """Keep the settings of a picture of yours under a name."""
        t, store, user_id = language_of(interaction), self.bot.store, interaction.user.id
        found = await store.find(job.strip(), user_id) if job else None
        recent = [found] if job else await store.recent(user_id, 1)
        if not recent or recent[0] is None:
            raise UserError(say("You have no such picture. `/status` lists yours."))
        name = name.strip() or "-"
        mine = await store.presets(user_id)
        if len(mine) >= _MOST and name not in {each.name for each in mine}:
            raise UserError(say("You have {number} presets. Delete one first.", number=len(mine)))
        code = "".join(secrets.choice(_LETTERS) for _ in range(10))
        request = recent[0].request
        parameters = find_workflow(self.bot, request.workflow).parameters(self.bot.servers.nodes)
        wish = request.wish.as_preset(parameters.values(), request.settings)
        kept = await store.keep_preset(user_id, Preset(name, code, wish))
        text = t(
            "Kept as **{name}**: {settings}. Use it with `/generate preset:{name}`; "
            "others with the code `{code}`.",
            name=neutral(name, _NAME_MAX),
            settings=_settings(wish),
            code=kept.code,
        )
        await interaction.response.send_message(text, ephemeral=True)

    @app_commands.command()
    async def list(self, interaction: Interaction) -> None:
        """Show your presets and their codes."""
        t = language_of(interaction)
        lines = [
            f"**{neutral(each.name, _NAME_MAX)}** · `{each.code}` · {_settings(each.wish)}"
            for each in await self.bot.store.presets(interaction.user.id)
        ]
        text = "\n".join(fitting(lines)) or t("You have no presets yet. `/preset save` makes one.")
        card = layout(ui.Container(ui.TextDisplay(text)))
        await interaction.response.send_message(view=card, ephemeral=True)

    @app_commands.command()
    @app_commands.describe(name="Which one")
    async def delete(self, interaction: Interaction, name: str) -> None:
        """Delete a preset; its code stops working."""
        t = language_of(interaction)
        if not await self.bot.store.delete_preset(interaction.user.id, name.strip()):
            raise _unknown(name)
        text = t("**{name}** is deleted.", name=neutral(name, _NAME_MAX))
        await interaction.response.send_message(text, ephemeral=True)

    @delete.autocomplete("name")
    async def complete_name(self, interaction: Interaction, value: str) -> Choices:
        return await complete_preset(interaction, value)


async def complete_preset(interaction: Interaction, value: str) -> Choices:
    mine = await interaction.client.store.presets(interaction.user.id)
    names = (each.name for each in mine)
    return choices((each, each) for each in names if value.casefold() in each.casefold())


async def find_preset(interaction: Interaction, text: str) -> Wish:
    """By the name of one's own, or by anybody's code."""
    text, store = text.strip(), interaction.client.store
    mine = {each.name: each for each in await store.presets(interaction.user.id)}
    found = mine.get(text)
    if found is None and _CODE.fullmatch(text):
        found = await store.shared_preset(text)
    if found is None:
        raise _unknown(text)
    return found.wish


def _unknown(name: str) -> UserError:
    return UserError(
        say("There is no preset {name}. `/preset list` shows yours.", name=neutral(name, 40))
    )


def _settings(wish: Wish) -> str:
    values = [f"{name} {neutral(str(each), 60)}" for name, each in wish.values.items()]
    return ", ".join([neutral(wish.workflow, 60), *values])[:500]


async def setup(bot: Comfycord) -> None:
    await bot.add_cog(Presets(bot))
