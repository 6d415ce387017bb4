"""/server: the ComfyUI servers while the bot runs. /limits: what members may ask for."""

from datetime import timedelta

from discord import app_commands, ui
from discord.ext import commands
from discord.utils import utcnow

from bot.app import Comfycord
from bot.cards import fitting, layout
from bot.errors import UserError
from bot.jobs import JobState
from bot.languages import Language, language_of
from bot.servers import Server
from bot.texts import duration, neutral
from cogs.transformers import Choices, Interaction, choices, moderates
from comfy.errors import ServerError
from comfy.phrases import say

_MOST = 5  # members that are listed


@app_commands.guild_only()
@app_commands.default_permissions(manage_guild=True)
class Servers(commands.GroupCog, group_name="server"):
    """See and steer the ComfyUI servers."""

    def __init__(self, bot: Comfycord) -> None:
        self.bot = bot
        super().__init__()

    async def interaction_check(self, interaction: Interaction) -> bool:  # type: ignore[override]
        _check(interaction)
        return True

    @app_commands.command(name="list")
    async def show(self, interaction: Interaction) -> None:
        """Show the servers: what they hold, and how quick they are."""
        t = language_of(interaction)
        on_them = await self.bot.store.on_servers()
        lines = []
        for name, server in self.bot.servers.items():
            here = sum(job.server == name for job in on_them if job.state is not JobState.EXECUTED)
            lines.append(f"**{neutral(name, 40)}** · {self._state(server, here, t)}")
        text = "\n".join(fitting(lines)) or t("None is set. Add one to config.yaml.")
        card = layout(ui.Container(ui.TextDisplay(f"### {t('Servers')}\n{text}")))
        await interaction.response.send_message(view=card, ephemeral=True)

    def _state(self, server: Server, jobs: int, t: Language) -> str:
        facts = [t.many("{number} job on it", "{number} jobs on it", jobs)]
        if server.paused:
            facts.insert(0, t("paused"))
        if not server.up:
            facts.insert(0, t("away: {problem}", problem=t.said(server.problem or "")))
        pace = self.bot.estimates.pace(server.name)
        if pace != 1.0:
            facts.append(t("takes {factor} × the average time", factor=f"{pace:.1f}"))
        if server.loaded:
            loaded = ", ".join(sorted(server.loaded))
            facts.append(t("has loaded {models}", models=neutral(loaded, 120)))
        return " · ".join(facts)

    @app_commands.command()
    @app_commands.describe(server="It gets no new jobs; those on it end as usual")
    async def pause(self, interaction: Interaction, server: str) -> None:
        """Give a server no new jobs, until /server resume."""
        found = self._find(server)
        await self.bot.runner.pause(found, paused=True)
        jobs = len([j for j in await self.bot.store.on_servers() if j.server == found.name])
        text = language_of(interaction).many(
            "{server} gets no new jobs. {number} job on it still ends.",
            "{server} gets no new jobs. {number} jobs on it still end.",
            jobs,
            server=neutral(found.name, 40),
        )
        await interaction.response.send_message(text, ephemeral=True)

    @app_commands.command()
    @app_commands.describe(server="It gets jobs again")
    async def resume(self, interaction: Interaction, server: str) -> None:
        """Let a paused server work again."""
        found = self._find(server)
        await self.bot.runner.pause(found, paused=False)
        text = language_of(interaction)("{server} gets jobs again.", server=neutral(found.name, 40))
        await interaction.response.send_message(text, ephemeral=True)

    @app_commands.command()
    @app_commands.describe(server="Its models leave the memory of the GPU")
    async def free(self, interaction: Interaction, server: str) -> None:
        """Unload the models of a server."""
        found = self._find(server)
        await interaction.response.defer(ephemeral=True, thinking=True)
        try:
            await found.client.free()
        except ServerError as error:
            raise _unanswered(found, error) from error
        found.loaded = frozenset()
        text = language_of(interaction)(
            "{server} unloads its models as soon as nothing runs.", server=neutral(found.name, 40)
        )
        await interaction.edit_original_response(content=text)

    @app_commands.command()
    @app_commands.describe(server="What runs on it now is stopped")
    async def interrupt(self, interaction: Interaction, server: str) -> None:
        """Stop what runs on a server; a job of ours is then cancelled."""
        found, t = self._find(server), language_of(interaction)
        await interaction.response.defer(ephemeral=True, thinking=True)
        stopped = 0
        try:
            for prompt_id in (await found.client.queue()).running:
                ours = [j for j in await self.bot.store.on_servers() if j.prompt_id == prompt_id]
                if not (ours and await self.bot.runner.cancel(ours[0])):
                    await found.client.interrupt(prompt_id)
                stopped += 1
        except ServerError as error:
            raise _unanswered(found, error) from error
        name = neutral(found.name, 40)
        text = t("{server} is told to stop what runs.", server=name)
        if not stopped:
            text = t("Nothing runs on {server}.", server=name)
        await interaction.edit_original_response(content=text)

    def _find(self, name: str) -> Server:
        return find_server(self.bot, name)

    @pause.autocomplete("server")
    @resume.autocomplete("server")
    @free.autocomplete("server")
    @interrupt.autocomplete("server")
    async def complete_server(self, interaction: Interaction, value: str) -> Choices:
        return server_choices(self.bot, value)


class Limits(commands.Cog):
    def __init__(self, bot: Comfycord) -> None:
        self.bot = bot

    @app_commands.command()
    @app_commands.guild_only()
    @app_commands.default_permissions(manage_guild=True)
    @app_commands.checks.has_permissions(manage_guild=True)
    async def limits(self, interaction: Interaction) -> None:
        """Show what members may ask for, and who used the most."""
        assert interaction.guild_id is not None
        t, config = language_of(interaction), self.bot.config
        limits, fairness = config.limits, config.fairness
        waiting = await self.bot.store.waiting(interaction.user.id)
        none = t("no limit")

        def seconds(number: int | None) -> str:
            return none if number is None else t.said(duration(number))

        lines = [
            f"### {t('Limits')}",
            t("One person's open jobs: {number}", number=limits.jobs_per_user),
            t("One person's jobs in 24 hours: {number}", number=limits.jobs_per_day or none),
            t(
                "One person's GPU time in 24 hours: {time}",
                time=seconds(limits.gpu_seconds_per_day),
            ),
            t(
                "GPU time in 24 hours, after which one's jobs run last: {time}",
                time=seconds(fairness.fast_gpu_seconds_per_day),
            ),
            t("Jobs in line: {number} of {most}", number=waiting.everybody, most=limits.queue),
            t(
                "One job's pixels: {pixels} · one file: {size} MB",
                pixels=f"{limits.pixels:,}",
                size=limits.upload_mb,
            ),
            t("The owner changes them in config.yaml."),
        ]
        since = utcnow() - timedelta(days=1)
        most = await self.bot.store.most_used(interaction.guild_id, since, _MOST)
        if most:
            lines.append(f"### {t('Most GPU time in 24 hours')}")
            lines += [f"<@{user_id}> {t.said(duration(used))}" for user_id, used in most]
        card = layout(ui.Container(ui.TextDisplay("\n".join(fitting(lines)))))
        await interaction.response.send_message(view=card, ephemeral=True)


def find_server(bot: Comfycord, name: str) -> Server:
    if name not in bot.servers:
        raise UserError(
            say(
                "There is no server named {name}. There is: {names}.",
                name=neutral(name, 40),
                names=", ".join(bot.servers) or say("none"),
            )
        )
    return bot.servers[name]


def server_choices(bot: Comfycord, value: str) -> Choices:
    return choices((each, each) for each in bot.servers if value.casefold() in each.casefold())


def _check(interaction: Interaction) -> None:
    """At every execution: what Discord's settings page allows is only a hint."""
    if not interaction.permissions.manage_guild:
        raise app_commands.MissingPermissions(["manage_guild"])
    if not moderates(interaction):
        raise app_commands.CheckFailure from UserError(
            say(
                "The servers are shared by all Discord servers I am in, so the owner must say "
                "whose admins manage them: `discord.guilds` in config.yaml."
            )
        )


def _unanswered(server: Server, error: ServerError) -> UserError:
    return UserError(
        say(
            "{server} did not do it: {problem}.",
            server=neutral(server.name, 40),
            problem=error.args[0],
        )
    )


async def setup(bot: Comfycord) -> None:
    await bot.add_cog(Servers(bot))
    await bot.add_cog(Limits(bot))
