"""/workflow: moderators add the workflows and decide what members may set in them."""

import asyncio
import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial

import aiohttp
import discord
from discord import app_commands, ui
from discord.ext import commands

from bot import curation
from bot.app import Comfycord
from bot.audit import Change, lines
from bot.cards import layout, stamp
from bot.errors import UserError
from bot.languages import Language, language_of
from bot.moderation import Moderator, dry_run
from bot.texts import neutral
from cogs.reports import about, allowed, dry_run_lines, report_card, shortened
from cogs.transformers import AnyWorkflowOption, Choices, Interaction, choices, moderates
from cogs.workflows import parameter_line
from comfy.errors import WorkflowFileError
from comfy.graph import without_secrets
from comfy.phrases import say
from comfy.workflow import dump_sidecar

_UPLOAD_MAX = 25 * 2**20  # bytes; a picture carries its workflow and its pixels
_CHANGES = 8
_MOMENT = "%Y-%m-%d %H:%M:%S.%f"

_Name = app_commands.Range[str, 1, 200]
_Parameter = app_commands.Range[str, 1, 60]


@app_commands.guild_only()
@app_commands.default_permissions(manage_guild=True)
class Moderation(commands.GroupCog, group_name="workflow"):
    """Add and manage workflows."""

    def __init__(self, bot: Comfycord) -> None:
        self.bot = bot
        super().__init__()

    async def interaction_check(self, interaction: Interaction) -> bool:  # type: ignore[override]
        """At every execution: what Discord's settings page allows is only a hint."""
        if not interaction.permissions.manage_guild:
            raise app_commands.MissingPermissions(["manage_guild"])
        if not moderates(interaction):
            raise app_commands.CheckFailure from UserError(
                say(
                    "Workflows are shared by all Discord servers I am in, so the owner must say "
                    "whose moderators manage them: `discord.guilds` in config.yaml."
                )
            )
        return True

    def _moderator(self, interaction: Interaction) -> Moderator:
        bot = self.bot
        return Moderator(
            interaction.user.id, interaction.guild_id or 0, bot.library, bot.store, bot.servers
        )

    @app_commands.command()
    @app_commands.describe(
        file="What ComfyUI saved: a workflow in any format, or a picture that carries one",
        name="What members choose; left out, the file's name",
        replace="Take the place of the workflow of this name; /workflow restore undoes it",
    )
    async def add(
        self,
        interaction: Interaction,
        file: discord.Attachment,
        name: _Name | None = None,
        replace: bool = False,
    ) -> None:
        """Add a workflow and see what I found in it."""
        if file.size > _UPLOAD_MAX:
            raise UserError(say("The file is larger than {limit} MB.", limit=_UPLOAD_MAX // 2**20))
        t = language_of(interaction)
        await interaction.response.defer(ephemeral=True, thinking=True)
        try:
            data = await file.read()
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            raise UserError(say("Discord did not give me the file. Upload it again.")) from error
        moderator = self._moderator(interaction)
        try:
            report = await moderator.add(data, file.filename, name, replace=replace)
        except WorkflowFileError as error:
            complaint = neutral(t.said(error.args[0]), 600)
            raise UserError(
                say("{file} {complaint}", file=neutral(file.filename, 80), complaint=complaint)
            ) from error
        await interaction.edit_original_response(view=report_card(self.bot, report, t))

    @app_commands.command()
    async def show(self, interaction: Interaction, workflow: AnyWorkflowOption) -> None:
        """Show a workflow: its graph, what is open, who may use it, and who changed what."""
        t = language_of(interaction)
        changes = await self._moderator(interaction).log(workflow.name, _CHANGES)
        log = [
            f"{stamp(each.at)} {_who(each, t)} {each.action}"
            + "".join(f"\n-# {neutral(t.said(line), 150)}" for line in lines(each))
            for each in changes
        ]
        problems = await asyncio.to_thread(dry_run, workflow, self.bot.servers)
        head = about(self.bot, workflow, problems, t)
        parameters = workflow.parameters(self.bot.servers.nodes).values()
        controls = [parameter_line(each, t) for each in parameters]
        if log:
            log.insert(0, "**" + t("Changes") + "**")
        text = shortened([*head, *log, "**" + t("Controls") + "**", *controls], t)
        await interaction.response.send_message(
            view=layout(ui.Container(ui.TextDisplay(text))), ephemeral=True
        )

    @app_commands.command()
    @app_commands.describe(name="Its new name")
    async def rename(
        self, interaction: Interaction, workflow: AnyWorkflowOption, name: _Name
    ) -> None:
        """Give a workflow another name."""
        await self._moderator(interaction).rename(workflow.name, name)
        text = say("{workflow} is now {name}.", workflow=_code(workflow.name), name=_code(name))
        await _say(interaction, text)

    @app_commands.command()
    async def remove(self, interaction: Interaction, workflow: AnyWorkflowOption) -> None:
        """Remove a workflow; /workflow restore brings it back."""
        await self._moderator(interaction).remove(workflow.name)
        text = say(
            "{workflow} is gone. `/workflow restore` brings it back; jobs that wait still run.",
            workflow=_code(workflow.name),
        )
        await _say(interaction, text)

    @app_commands.command()
    @app_commands.describe(
        workflow="One that was replaced or removed", version="Left out: the version before this one"
    )
    async def restore(
        self, interaction: Interaction, workflow: _Name, version: str | None = None
    ) -> None:
        """Bring back a workflow as it was before it was replaced or removed."""
        restored = await self._moderator(interaction).restore(workflow, _moment(version))
        text = say(
            "{workflow} is again as it was {moment}.",
            workflow=_code(workflow),
            moment=stamp(restored),
        )
        await _say(interaction, text)

    @restore.autocomplete("workflow")
    async def complete_earlier(self, interaction: Interaction, value: str) -> Choices:
        if not moderates(interaction):
            return []
        names = self.bot.library.earlier
        return choices((each, each) for each in names if value.casefold() in each.casefold())

    @restore.autocomplete("version")
    async def complete_version(self, interaction: Interaction, value: str) -> Choices:
        if not moderates(interaction):
            return []
        t = language_of(interaction)
        moments = self.bot.library.earlier.get(str(interaction.namespace.workflow), ())
        return choices(
            (t("until {moment} UTC", moment=f"{each:%Y-%m-%d %H:%M}"), f"{each:{_MOMENT}}")
            for each in moments
        )

    @app_commands.command()
    async def export(self, interaction: Interaction, workflow: AnyWorkflowOption) -> None:
        """Get a workflow's files: API format, which ComfyUI opens too, and its settings."""
        graph = json.dumps(without_secrets(workflow.graph), ensure_ascii=False, indent=2).encode()
        files = [discord.File(io.BytesIO(graph), f"{workflow.name}.json")]
        if sidecar := dump_sidecar(workflow.sidecar):
            files.append(discord.File(io.BytesIO(sidecar.encode()), f"{workflow.name}.yaml"))
        await interaction.response.send_message(files=files, ephemeral=True)

    @app_commands.command()
    async def enable(self, interaction: Interaction, workflow: AnyWorkflowOption) -> None:
        """Switch a workflow on again."""
        change = partial(curation.enabled, on=True)
        await self._moderator(interaction).configure(workflow.name, "enable", change)
        await _say(interaction, say("{workflow} can be used.", workflow=_code(workflow.name)))

    @app_commands.command()
    async def disable(self, interaction: Interaction, workflow: AnyWorkflowOption) -> None:
        """Switch a workflow off; nothing is lost."""
        change = partial(curation.enabled, on=False)
        await self._moderator(interaction).configure(workflow.name, "disable", change)
        text = say("{workflow} is off. Jobs that wait still run.", workflow=_code(workflow.name))
        await _say(interaction, text)

    @app_commands.command()
    @app_commands.describe(
        workflow="Left out: no default of its own any more",
        channel="Only in this channel; left out, in the whole server",
    )
    async def default(
        self,
        interaction: Interaction,
        workflow: AnyWorkflowOption | None = None,
        channel: discord.abc.GuildChannel | discord.Thread | None = None,
    ) -> None:
        """Choose what /generate runs when nobody names a workflow."""
        name = workflow.name if workflow else None
        await self._moderator(interaction).set_default(name, channel.id if channel else None)
        place = channel.mention if channel else say("This server")
        if name:
            text = say(
                "{place} runs {workflow} when nobody names a workflow.",
                place=place,
                workflow=_code(name),
            )
        else:
            text = say(
                "{place} has no default of its own when nobody names a workflow.", place=place
            )
        await _say(interaction, text)

    @app_commands.command()
    @app_commands.describe(
        title="What the lists show",
        description="One sentence for members",
        parameter="Describe this parameter instead",
        spoiler="Whether its pictures are posted hidden",
    )
    async def describe(
        self,
        interaction: Interaction,
        workflow: AnyWorkflowOption,
        title: str | None = None,
        description: str | None = None,
        parameter: _Parameter | None = None,
        spoiler: bool | None = None,
    ) -> None:
        """Give a workflow a title and a description, or one of its parameters a description."""
        change = partial(
            curation.described,
            title=title,
            description=description,
            parameter=parameter,
            spoiler=spoiler,
        )
        await self._moderator(interaction).configure(workflow.name, "describe", change)
        await _say(interaction, say("{workflow} is described.", workflow=_code(workflow.name)))

    @app_commands.command()
    @app_commands.describe(
        parameter="A hidden parameter, or the name of a new one",
        target="For a new one: the input that it sets, as node.input",
    )
    async def expose(
        self,
        interaction: Interaction,
        workflow: AnyWorkflowOption,
        parameter: _Parameter,
        target: str | None = None,
    ) -> None:
        """Let members set a parameter."""
        change = partial(curation.exposed, parameter=parameter, target=target)
        await self._moderator(interaction).configure(workflow.name, "expose", change)
        text = say(
            "Members can set {parameter} of {workflow}.",
            parameter=_code(parameter),
            workflow=_code(workflow.name),
        )
        await _say(interaction, text)

    @app_commands.command()
    @app_commands.describe(parameter="What members may no longer set")
    async def hide(
        self, interaction: Interaction, workflow: AnyWorkflowOption, parameter: _Parameter
    ) -> None:
        """Keep members from setting a parameter."""
        change = partial(curation.hidden, parameter=parameter)
        await self._moderator(interaction).configure(workflow.name, "hide", change)
        text = say(
            "{parameter} of {workflow} is hidden.",
            parameter=_code(parameter),
            workflow=_code(workflow.name),
        )
        await _say(interaction, text)

    @app_commands.command()
    @app_commands.describe(
        parameter="Without any of the values below, its limits and its default go",
        min="The smallest value",
        max="The largest value",
        default="What it is when nobody sets it",
    )
    async def limit(
        self,
        interaction: Interaction,
        workflow: AnyWorkflowOption,
        parameter: _Parameter,
        min: float | None = None,
        max: float | None = None,
        default: app_commands.Range[str, 1, 6000] | None = None,
    ) -> None:
        """Set a parameter's range and its default."""
        change = partial(
            curation.limited,
            parameter=parameter,
            low=min,
            high=max,
            default=default,
            nodes=self.bot.servers.nodes,
        )
        after = await self._moderator(interaction).configure(workflow.name, "limit", change)
        found = curation.find_parameter(after, parameter)
        limited = after.parameters(self.bot.servers.nodes)[found.name]
        await _say(interaction, parameter_line(limited, language_of(interaction)))

    @app_commands.command()
    @app_commands.describe(
        role="Only for members with this role (and those allowed before)",
        channel="Only in this channel (and those allowed before)",
        age_restricted="Whether only in channels that Discord restricts by age",
    )
    async def allow(
        self,
        interaction: Interaction,
        workflow: AnyWorkflowOption,
        role: discord.Role | None = None,
        channel: discord.abc.GuildChannel | discord.Thread | None = None,
        age_restricted: bool | None = None,
    ) -> None:
        """Say who may use a workflow and where; without role and channel, everybody everywhere."""
        change = partial(
            curation.allowed,
            role_id=role.id if role else None,
            channel_id=channel.id if channel else None,
            age_restricted=age_restricted,
        )
        after = await self._moderator(interaction).configure(workflow.name, "allow", change)
        people = allowed(after)
        text = say("{workflow}: {people}.", workflow=_code(workflow.name), people=people)
        await _say(interaction, text)

    @app_commands.command()
    async def test(self, interaction: Interaction, workflow: AnyWorkflowOption) -> None:
        """Check on every ComfyUI server whether a workflow would run, without running it."""
        problems = await asyncio.to_thread(dry_run, workflow, self.bot.servers)
        t = language_of(interaction)
        head = "### " + t("Test of {workflow}", workflow=neutral(workflow.title, 100))
        text = shortened([head, *dry_run_lines(problems, t)], t)
        await interaction.response.send_message(
            view=layout(ui.Container(ui.TextDisplay(text))), ephemeral=True
        )

    @expose.autocomplete("parameter")
    @hide.autocomplete("parameter")
    @limit.autocomplete("parameter")
    @describe.autocomplete("parameter")
    async def complete_parameter(self, interaction: Interaction, value: str) -> Choices:
        if not moderates(interaction):
            return []
        workflow = self.bot.library.workflows.get(str(interaction.namespace.workflow))
        if workflow is None:
            return []
        command = interaction.command.name if interaction.command else ""
        names = [
            curation.shown_name(each.name)
            for each in workflow.parameters({}).values()
            if command not in ("hide", "expose") or each.hidden is (command == "expose")
        ]
        return choices((each, each) for each in names if value.casefold() in each.casefold())

    @expose.autocomplete("target")
    async def complete_target(self, interaction: Interaction, value: str) -> Choices:
        if not moderates(interaction):
            return []
        workflow = self.bot.library.workflows.get(str(interaction.namespace.workflow))
        refs = curation.targets(workflow) if workflow else []
        graph = workflow.graph if workflow else {}
        labels = (
            (f"{ref} = {graph[ref.node_id]['inputs'][ref.name]!r:.40} · {_class(graph, ref)}", ref)
            for ref in refs
        )
        return choices(
            (label, str(ref)) for label, ref in labels if value.casefold() in label.casefold()
        )


async def _say(interaction: Interaction, text: str) -> None:
    await interaction.response.send_message(language_of(interaction).said(text), ephemeral=True)


def _who(change: Change, t: Language) -> str:
    return f"<@{change.user_id}>" if change.user_id else t("somebody")  # who asked to be forgotten


def _code(name: str) -> str:
    return f"`{name.replace('`', '')[:100]}`"


def _class(graph: Mapping[str, Mapping[str, object]], ref: tuple[str, str]) -> object:
    return graph[ref[0]]["class_type"]


def _moment(version: str | None) -> datetime | None:
    if version is None:
        return None
    try:
        return datetime.strptime(version, _MOMENT).replace(tzinfo=UTC)
    except ValueError as error:
        raise UserError(say("Choose a `version` from the list, or leave it out.")) from error


async def setup(bot: Comfycord) -> None:
    await bot.add_cog(Moderation(bot))
