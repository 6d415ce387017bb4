"""/test_comfy: is everything right?"""

from discord import Thread, app_commands, ui
from discord.ext import commands

from bot.app import Comfycord
from bot.cards import fitting, layout
from bot.delivery import missing_permissions
from bot.errors import UserError
from bot.health import Finding, Level, examine_server, library_findings
from bot.texts import neutral
from cogs.transformers import Choices, Interaction

_TEXT_MAX = 3900  # Discord: 4000 characters in all text of a message
_MARKS = {Level.OK: "✅", Level.WARNING: "⚠️", Level.FAILURE: "❌"}


class Admin(commands.Cog):
    def __init__(self, bot: Comfycord) -> None:
        self.bot = bot

    @app_commands.command()
    @app_commands.describe(server="One ComfyUI server; left out, all of them")
    @app_commands.default_permissions(manage_guild=True)
    @app_commands.checks.has_permissions(manage_guild=True)
    async def test_comfy(self, interaction: Interaction, server: str | None = None) -> None:
        """Check the ComfyUI servers, the workflows and my permissions here."""
        if server is not None and server not in self.bot.servers:
            names = ", ".join(self.bot.servers) or "none"
            raise UserError(f"There is no server named {neutral(server, 40)}. There is: {names}.")
        await interaction.response.defer(ephemeral=True, thinking=True)
        library = self.bot.library
        report = {
            "This channel": [_permissions(interaction)],
            "Workflows": library_findings(library),
        }
        for name, each in self.bot.servers.items():
            if server in (None, name):
                report[f"Server {name}"] = await examine_server(each.client, library.workflows)
        if not self.bot.servers:
            report["Servers"] = [Finding(Level.FAILURE, "None is set. Add one to config.yaml.")]
        room = _TEXT_MAX // len(report)
        sections = [_section(title, each, room) for title, each in report.items()]
        await interaction.edit_original_response(view=layout(*sections))

    @test_comfy.autocomplete("server")
    async def complete_server(self, interaction: Interaction, value: str) -> Choices:
        names = [each for each in self.bot.servers if value.casefold() in each.casefold()]
        return [app_commands.Choice(name=each, value=each) for each in names[:25]]


def _permissions(interaction: Interaction) -> Finding:
    in_thread = isinstance(interaction.channel, Thread)
    missing = missing_permissions(interaction.app_permissions, thread=in_thread)
    if interaction.guild_id is not None and missing:
        return Finding(
            Level.FAILURE, f"I lack {', '.join(missing)}. Allow me that in the settings."
        )
    return Finding(Level.OK, "I may post pictures here")


def _section(title: str, findings: list[Finding], room: int) -> ui.Container[ui.LayoutView]:
    """Failures first, as there may be more lines than room."""
    order = [Level.FAILURE, Level.WARNING, Level.OK]
    ordered = sorted(findings, key=lambda each: order.index(each.level))
    lines = [f"{_MARKS[each.level]} {neutral(each.text, 400)}" for each in ordered]
    kept = fitting(lines, room - 150)
    if len(kept) < len(lines):
        kept.append(f"and {len(lines) - len(kept)} more; `comfycord check` shows all")
    text = "\n".join(kept) or f"{_MARKS[Level.OK]} nothing to report"
    return ui.Container(ui.TextDisplay(f"**{neutral(title, 60)}**\n{text}"))


async def setup(bot: Comfycord) -> None:
    await bot.add_cog(Admin(bot))
