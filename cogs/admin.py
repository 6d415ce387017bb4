"""/test_comfy: is everything right? /ban and /unban: who may not ask."""

from datetime import UTC, datetime

from discord import Thread, User, app_commands, ui
from discord.ext import commands

from bot.app import Comfycord
from bot.audit import Change
from bot.cards import fitting, layout
from bot.delivery import missing_permissions
from bot.errors import UserError
from bot.health import Finding, Level, examine_server, library_findings
from bot.languages import Language, language_of
from bot.texts import neutral
from cogs.servers import find_server, server_choices
from cogs.transformers import Choices, Interaction
from comfy.phrases import say

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
        t = language_of(interaction)
        if server is not None:
            find_server(self.bot, server)
        await interaction.response.defer(ephemeral=True, thinking=True)
        library = self.bot.library
        report = {
            t("This channel"): [_permissions(interaction, t)],
            t("Workflows"): library_findings(library),
        }
        for name, each in self.bot.servers.items():
            if server in (None, name):
                title = t("Server {name}", name=name)
                report[title] = await examine_server(each.client, library.workflows)
        if not self.bot.servers:
            text = t("None is set. Add one to config.yaml.")
            report[t("Servers")] = [Finding(Level.FAILURE, text)]
        room = _TEXT_MAX // len(report)
        sections = [_section(title, each, room, t) for title, each in report.items()]
        await interaction.edit_original_response(view=layout(*sections))

    @app_commands.command()
    @app_commands.describe(user="Who may not ask me any more", reason="For the record")
    @app_commands.guild_only()
    @app_commands.default_permissions(manage_guild=True)
    @app_commands.checks.has_permissions(manage_guild=True)
    async def ban(
        self, interaction: Interaction, user: User, reason: app_commands.Range[str, 1, 300] = ""
    ) -> None:
        """Keep somebody from using me in this server, and stop their jobs."""
        assert interaction.guild_id is not None
        store, guild_id = self.bot.store, interaction.guild_id
        await store.ban(guild_id, user.id, reason)
        await self._record(interaction, "ban", {}, {"user": str(user.id), "reason": reason})
        stopped = [
            await self.bot.runner.cancel(job)
            for job in await store.open_of(user.id)
            if job.request.guild_id == guild_id
        ]
        text = language_of(interaction).many(
            "{user} may not use me here any more. {number} job is stopped.",
            "{user} may not use me here any more. {number} jobs are stopped.",
            sum(stopped),
            user=user.mention,
        )
        await interaction.response.send_message(text, ephemeral=True)

    @app_commands.command()
    @app_commands.describe(user="Who may ask me again")
    @app_commands.guild_only()
    @app_commands.default_permissions(manage_guild=True)
    @app_commands.checks.has_permissions(manage_guild=True)
    async def unban(self, interaction: Interaction, user: User) -> None:
        """Let somebody use me again."""
        assert interaction.guild_id is not None
        if not await self.bot.store.unban(interaction.guild_id, user.id):
            raise UserError(say("{user} is not banned here.", user=user.mention))
        await self._record(interaction, "unban", {"user": str(user.id)}, {})
        text = language_of(interaction)("{user} may use me here again.", user=user.mention)
        await interaction.response.send_message(text, ephemeral=True)

    async def _record(
        self, interaction: Interaction, action: str, before: dict[str, str], after: dict[str, str]
    ) -> None:
        change = Change(
            at=datetime.now(UTC),
            guild_id=interaction.guild_id or 0,
            user_id=interaction.user.id,
            workflow="",
            action=action,
            before=before,
            after=after,
        )
        await self.bot.store.record(change)

    @test_comfy.autocomplete("server")
    async def complete_server(self, interaction: Interaction, value: str) -> Choices:
        return server_choices(self.bot, value)


def _permissions(interaction: Interaction, t: Language) -> Finding:
    in_thread = isinstance(interaction.channel, Thread)
    missing = missing_permissions(interaction.app_permissions, thread=in_thread)
    if interaction.guild_id is not None and missing:
        names = ", ".join(map(t.said, missing))
        text = t("I lack {permissions}. Allow me that in the settings.", permissions=names)
        return Finding(Level.FAILURE, text)
    return Finding(Level.OK, t("I may post pictures here"))


def _section(
    title: str, findings: list[Finding], room: int, t: Language
) -> ui.Container[ui.LayoutView]:
    """Failures first, as there may be more lines than room."""
    order = [Level.FAILURE, Level.WARNING, Level.OK]
    ordered = sorted(findings, key=lambda each: order.index(each.level))
    lines = [f"{_MARKS[each.level]} {neutral(t.said(each.text), 400)}" for each in ordered]
    kept = fitting(lines, room - 150)
    if len(kept) < len(lines):
        more = len(lines) - len(kept)
        kept.append(t("and {number} more; `comfycord check` shows all", number=more))
    text = "\n".join(kept) or _MARKS[Level.OK] + " " + t("nothing to report")
    return ui.Container(ui.TextDisplay(f"**{neutral(title, 60)}**\n{text}"))


async def setup(bot: Comfycord) -> None:
    await bot.add_cog(Admin(bot))
