"""/status: how far jobs are."""

from discord import app_commands, ui
from discord.ext import commands

from bot.app import Comfycord
from bot.cards import fitting, layout, status_lines
from bot.errors import UserError
from bot.jobs import Job, JobState
from bot.texts import bar, neutral
from cogs.transformers import Choices, Interaction

_RECENT = 10


class Jobs(commands.Cog):
    def __init__(self, bot: Comfycord) -> None:
        self.bot = bot

    @app_commands.command()
    @app_commands.describe(job="The id under a picture; left out, your last ten")
    async def status(self, interaction: Interaction, job: str | None = None) -> None:
        """Show how far your jobs are."""
        jobs = [await self._mine(interaction, job)] if job else await self._recent(interaction)
        text = "\n".join(fitting([await self._lines(each) for each in jobs]))
        text = text if jobs else "You have no jobs yet. Try /generate."
        card = layout(ui.Container(ui.TextDisplay(text)))
        await interaction.response.send_message(view=card, ephemeral=True)

    @status.autocomplete("job")
    async def complete_job(self, interaction: Interaction, value: str) -> Choices:
        return [
            app_commands.Choice(name=_label(each), value=each.short_id)
            for each in await self._recent(interaction)
            if value.casefold() in _label(each).casefold()
        ]

    async def _recent(self, interaction: Interaction) -> list[Job]:
        return await self.bot.store.recent(interaction.user.id, _RECENT)

    async def _mine(self, interaction: Interaction, prefix: str) -> Job:
        job = await self.bot.store.find(prefix.strip().strip("`"), interaction.user.id)
        if job is None:
            raise UserError(f"You have no job {neutral(prefix, 40)}. `/status` lists yours.")
        return job

    async def _lines(self, job: Job) -> str:
        waits = job.state is JobState.PENDING
        lines = status_lines(job, await self.bot.store.place(job) if waits else None)
        progress = self.bot.delivery.progress_of(job.id)
        if progress is not None and job.state is JobState.RUNNING:
            lines = f"{bar(progress.fraction)} {progress.fraction:.0%} {lines}"
        return lines


def _label(job: Job) -> str:
    text = job.request.text or job.request.workflow
    return f"{job.short_id} · {job.state.word} · {text}"[:100]


async def setup(bot: Comfycord) -> None:
    await bot.add_cog(Jobs(bot))
