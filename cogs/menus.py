"""Context menus: use a picture as input, show a result's settings, run it again."""

import discord
from discord import app_commands
from discord.ext import commands

from bot.app import Comfycord
from bot.cards import job_id_in
from bot.errors import UserError
from bot.jobs import Job
from cogs.pictures import use_as_input, use_avatar
from cogs.results import again, details
from cogs.transformers import Interaction
from comfy.phrases import say


async def show_settings(interaction: Interaction, message: discord.Message) -> None:
    await details(interaction, await _job_of(interaction, message), None)


async def run_again(interaction: Interaction, message: discord.Message) -> None:
    await again(interaction, await _job_of(interaction, message), None)


async def _job_of(interaction: Interaction, message: discord.Message) -> Job:
    job_id = job_id_in(message) if message.author == interaction.client.user else None
    job = await interaction.client.store.get(job_id) if job_id else None
    if job is None:
        raise UserError(say("This message is no result of mine that I still know."))
    return job


class Menus(commands.Cog):
    """The commands belong to the tree, as decorators cannot make menus inside of a cog."""

    def __init__(self, bot: Comfycord) -> None:
        self.bot = bot
        self._commands = [
            app_commands.ContextMenu(name="Use as input image", callback=use_as_input),
            app_commands.ContextMenu(name="Use avatar as input", callback=use_avatar),
            app_commands.ContextMenu(name="Show settings", callback=show_settings),
            app_commands.ContextMenu(name="Run again", callback=run_again),
        ]

    async def cog_load(self) -> None:
        for each in self._commands:
            self.bot.tree.add_command(each)

    async def cog_unload(self) -> None:
        for each in self._commands:
            self.bot.tree.remove_command(each.name, type=each.type)


async def setup(bot: Comfycord) -> None:
    await bot.add_cog(Menus(bot))
