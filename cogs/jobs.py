"""/status, /queue, /history and /cancel: what became of jobs."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple, Self

import aiohttp
import discord
from discord import app_commands, ui
from discord.ext import commands

from bot.app import Comfycord, answered
from bot.cards import WORDS, collect_row, fitting, layout, state_word, status_lines
from bot.delivery import is_adult
from bot.errors import StoreError, UserError
from bot.jobs import Job, JobState
from bot.languages import Language, language_of
from bot.store import Search
from bot.texts import bar, neutral
from cogs.controls import Item, Select, cancel, may_manage
from cogs.transformers import Choices, Interaction, choices
from comfy.phrases import say

log = logging.getLogger(__name__)

_LIVE_EVERY = 3.0  # seconds
_LIVE_FOR = 840.0  # seconds; then the token of the answer dies
_RECENT = 10
_PER_PAGE = 5
_SHOWN = 8  # of each list on the board


class Board(NamedTuple):
    """*moves*: it will soon say something else."""

    text: str
    rows: list[ui.ActionRow[ui.LayoutView]]
    moves: bool

    def card(self) -> ui.LayoutView:
        return layout(ui.Container(ui.TextDisplay(self.text), *self.rows))


class Jobs(commands.Cog):
    def __init__(self, bot: Comfycord) -> None:
        self.bot = bot
        self._live: set[asyncio.Task[None]] = set()

    @app_commands.command()
    @app_commands.describe(job="The id under a picture; left out, your last ten")
    async def status(self, interaction: Interaction, job: str | None = None) -> None:
        """Show how far your jobs are."""
        t = language_of(interaction)
        jobs = [await self._mine(interaction, job)] if job else await self._recent(interaction)
        ids = [each.id for each in jobs]

        async def board() -> Board:
            found = [each for each in [await self.bot.store.get(n) for n in ids] if each]
            text = "\n".join(fitting([await self._lines(each, t) for each in found]))
            # a private answer whose token died is reached by a click alone
            rows = [collect_row(each, t) for each in found if each.request.by_token and each.open]
            text = text or t("You have no jobs yet. Try /generate.")
            return Board(text, rows, any(each.open for each in found))

        await self._show(interaction, board)

    @app_commands.command()
    async def queue(self, interaction: Interaction) -> None:
        """Show what runs and waits, and your place."""
        t = language_of(interaction)
        await self._show(interaction, partial(self._board, interaction.user.id, t))

    async def _show(self, interaction: Interaction, board: Callable[[], Awaitable[Board]]) -> None:
        """For this person, and kept up to date while something moves."""
        first = await board()
        await interaction.response.send_message(view=first.card(), ephemeral=True)
        if first.moves:
            task = asyncio.create_task(_keep_live(interaction, board, first))
            self._live.add(task)
            task.add_done_callback(self._live.discard)

    async def cog_unload(self) -> None:
        for each in self._live:
            each.cancel()

    @app_commands.command()
    @app_commands.describe(
        job="The id under a picture: show it again, with its buttons",
        user="Somebody else's, in this server",
        workflow="Only of this workflow",
        text="Only with these words in the prompt",
    )
    async def history(
        self,
        interaction: Interaction,
        job: str | None = None,
        user: discord.User | None = None,
        workflow: str | None = None,
        text: str | None = None,
    ) -> None:
        """Find earlier results and show one again."""
        if job is not None:
            await show_again(interaction, await self._visible(interaction, job))
            return
        if user and user != interaction.user and interaction.guild_id is None:
            raise UserError(say("Other people's results can only be searched in a server."))
        search = Search(
            user_id=user.id if user else interaction.user.id,
            guild_id=interaction.guild_id if user and user != interaction.user else None,
            workflow=workflow,
            text=text,
        )
        found = await self.bot.store.search(search, _PER_PAGE * 5)
        found = [each for each in found if _may_see(interaction, each)]
        if not found:
            raise UserError(say("There is nothing like that. Leave out an option to find more."))
        t = language_of(interaction)
        shown = fitting(status_lines(each, t) for each in found[: _PER_PAGE * 2])
        container = ui.Container[ui.LayoutView](ui.TextDisplay("\n".join(shown)))
        container.add_item(ui.ActionRow(ShowAgain(found, t)))
        await interaction.response.send_message(view=layout(container), ephemeral=True)

    @app_commands.command()
    @app_commands.describe(job="The job to stop")
    async def cancel(self, interaction: Interaction, job: str) -> None:
        """Stop a job that waits or runs."""
        prefix = _prefix(job)
        found = await self.bot.store.find(prefix, interaction.user.id)
        if found is None and interaction.permissions.manage_messages:
            found = await self.bot.store.find(prefix, None)
        if found is None or not may_manage(interaction, found):
            raise _not_yours(job)
        await cancel(interaction, found.id)

    @status.autocomplete("job")
    @history.autocomplete("job")
    async def complete_job(self, interaction: Interaction, value: str) -> Choices:
        return self._choices(interaction, await self._recent(interaction), value)

    @cancel.autocomplete("job")
    async def complete_open(self, interaction: Interaction, value: str) -> Choices:
        jobs = await self._recent(interaction)
        running = [each for each in jobs if not each.state.final]
        return self._choices(interaction, running, value)

    @history.autocomplete("workflow")
    async def complete_workflow(self, interaction: Interaction, value: str) -> Choices:
        names = dict.fromkeys(each.request.workflow for each in await self._recent(interaction))
        return choices((each, each) for each in names if value.casefold() in each.casefold())

    def _choices(self, interaction: Interaction, jobs: list[Job], value: str) -> Choices:
        t = language_of(interaction)
        pairs = ((_label(each, t), each.short_id) for each in jobs)
        return choices(pair for pair in pairs if value.casefold() in pair[0].casefold())

    async def _recent(self, interaction: Interaction) -> list[Job]:
        return await self.bot.store.recent(interaction.user.id, _RECENT)

    async def _mine(self, interaction: Interaction, prefix: str) -> Job:
        job = await self.bot.store.find(_prefix(prefix), interaction.user.id)
        if job is None:
            raise _not_yours(prefix)
        return job

    async def _visible(self, interaction: Interaction, prefix: str) -> Job:
        """Mine, or one of this Discord server."""
        prefix = _prefix(prefix)
        job = await self.bot.store.find(prefix, interaction.user.id)
        job = job or await self.bot.store.find(prefix, None)
        if job is None or not _may_see(interaction, job):
            raise UserError(say("I know no job {job} here.", job=neutral(prefix, 40)))
        return job

    async def _lines(self, job: Job, t: Language) -> str:
        waits = job.state is JobState.PENDING
        place = (await self.bot.store.place(job)).number if waits else None
        lines = status_lines(job, t, place)
        progress = self.bot.delivery.progress_of(job.id)
        if progress is not None and job.state is JobState.RUNNING:
            lines = f"{bar(progress.fraction)} {progress.fraction:.0%} {lines}"
        return lines

    async def _board(self, user_id: int, t: Language) -> Board:
        """Servers with what is on them, then the line; other people's words stay theirs."""
        bot, lines = self.bot, [f"### {t('Queue')}"]
        flying = await bot.store.on_servers()
        for name, server in bot.servers.items():
            here = [each for each in flying if each.server == name]
            state = t("away") if not server.up else t("free") if not here else ""
            lines.append(" · ".join(each for each in (f"**{name}**", state) if each))
            for each in here[:_SHOWN]:
                progress = bot.delivery.progress_of(each.id)
                far = f" {progress.fraction:.0%}" if progress else ""
                whose = "HTTP" if each.request.over_http else f"<@{each.request.user_id}>"
                if each.request.user_id == user_id:
                    whose = f"**{t('yours')}**"
                lines.append(f"{whose} {state_word(each, t)}{far}")
        waiting = await bot.store.waiting(user_id)
        lines.append(
            t.many(
                "**{number} job in line**, {mine} of them yours",
                "**{number} jobs in line**, {mine} of them yours",
                waiting.everybody,
                mine=waiting.mine,
            )
        )
        if waiting.first_place:
            lines.append(t("Your next one is number {number}.", number=waiting.first_place))
        if waiting.everybody and not any(server.up for server in bot.servers.values()):
            lines.append(t("They wait as no ComfyUI server answers; they start when one does."))
        return Board("\n".join(fitting(lines)), [], bool(flying or waiting.everybody))


async def _keep_live(
    interaction: Interaction, board: Callable[[], Awaitable[Board]], shown: Board
) -> None:
    """Until nothing moves, the person closed it, or its token dies."""
    clock = asyncio.get_running_loop().time
    end = clock() + _LIVE_FOR
    try:
        while shown.moves and clock() < end:
            await asyncio.sleep(_LIVE_EVERY)
            now = await board()
            if now.text != shown.text:
                await interaction.edit_original_response(view=now.card())
            shown = now
    except (StoreError, discord.HTTPException, aiohttp.ClientError, OSError) as error:
        log.info("a board is no longer kept up to date: %s", error)


class ShowAgain(ui.DynamicItem[Select], template=r"history:show"):
    """A select of jobs whose result is posted anew, buttons and all."""

    def __init__(self, jobs: list[Job], t: Language) -> None:
        options = [discord.SelectOption(label=_label(each, t), value=each.id) for each in jobs[:25]]
        options = options or [discord.SelectOption(label="-", value="-")]
        shown = t("Show again here…")
        super().__init__(ui.Select(custom_id="history:show", options=options, placeholder=shown))

    @classmethod
    async def from_custom_id(  # type: ignore[override]
        cls, interaction: Interaction, item: Item, match: re.Match[str], /
    ) -> Self:
        return cls([], language_of(interaction))

    async def callback(self, interaction: Interaction) -> None:  # type: ignore[override]
        await answered(interaction, self._chosen(interaction))

    async def _chosen(self, interaction: Interaction) -> None:
        job = await interaction.client.store.get(self.item.values[0])
        if job is None:
            raise UserError(say("This job is no longer known."))
        if not _may_see(interaction, job):
            raise UserError(say("This job is not from here."))
        await show_again(interaction, job)


async def show_again(interaction: Interaction, job: Job) -> None:
    """The result as a new message with its files and buttons, wherever its first one is."""
    if job.state is not JobState.POSTED and not (job.state is JobState.FAILED and job.outputs):
        raise UserError(
            say(
                "`{job}` has no result: {state}. {note}",
                job=job.short_id,
                state=WORDS[job.state.word],
                note=job.note,
            )
        )
    private = job.request.wish.private
    workflow = interaction.client.library.workflows.get(job.request.workflow)
    adult = workflow is not None and workflow.sidecar.nsfw
    if adult and not private and not is_adult(interaction.channel):
        raise UserError(
            say("{name} works only in age-restricted channels.", name=job.request.workflow)
        )
    await interaction.response.defer(thinking=True, ephemeral=private)
    await interaction.client.revival.show(interaction, job)


def _may_see(interaction: Interaction, job: Job) -> bool:
    """One's own, and what was public in this Discord server."""
    if job.request.user_id == interaction.user.id:
        return True
    guild = interaction.guild
    if guild is None or job.request.guild_id != guild.id or job.request.by_token:
        return False
    channel = guild.get_channel_or_thread(job.request.channel_id)
    member = interaction.user
    return (
        channel is not None
        and isinstance(member, discord.Member)
        and channel.permissions_for(member).view_channel
    )


def _prefix(text: str) -> str:
    """The first eight letters of an id, or all of it."""
    found = re.fullmatch(r"[0-9a-f]{8}[0-9a-f-]{0,28}", text.strip().strip("`").casefold())
    if found is None:
        raise UserError(
            say("{text} is no job's id: eight letters, such as `3f9a01bc`.", text=neutral(text, 40))
        )
    return found[0]


def _not_yours(text: str) -> UserError:
    return UserError(say("You have no job {job}. `/status` lists yours.", job=neutral(text, 40)))


def _label(job: Job, t: Language) -> str:
    text = job.request.text or job.request.workflow
    return f"{job.short_id} · {state_word(job, t)} · {text}"[:100]


async def setup(bot: Comfycord) -> None:
    bot.add_dynamic_items(ShowAgain)
    await bot.add_cog(Jobs(bot))
