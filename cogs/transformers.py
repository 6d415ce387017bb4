"""What people type → things of ours, each with its autocomplete. Everything is in memory."""

from collections.abc import Iterable

import discord
from discord import app_commands

from bot.answers import is_stranger
from bot.app import Comfycord
from bot.delivery import is_adult
from bot.errors import UserError
from bot.requests import Author, may_use, open_parameters, target_nodes
from bot.texts import neutral
from comfy.graph import title
from comfy.parameters import FILES, Parameter, Role
from comfy.phrases import say
from comfy.workflow import Workflow

_CHOICES = 25  # Discord: https://docs.discord.com/developers/interactions/application-commands
_CHOICE_LENGTH = 100

Interaction = discord.Interaction[Comfycord]
Choices = list[app_commands.Choice[str]]


def author(interaction: Interaction) -> Author:
    """Who asks, and where."""
    roles = getattr(interaction.user, "roles", ())
    return Author(
        interaction_id=interaction.id,
        user_id=interaction.user.id,
        channel_id=interaction.channel_id or 0,
        guild_id=interaction.guild_id,
        privileged=moderates(interaction),
        roles=frozenset(role.id for role in roles),
        parent_id=getattr(interaction.channel, "parent_id", None),
        by_token=is_stranger(interaction),
        adult=is_adult(interaction.channel),
        locale=str(interaction.locale),
    )


def moderates(interaction: Interaction) -> bool:
    """Of a Discord server that the owner named; of the only one, if he named none."""
    bot = interaction.client
    guilds = bot.config.discord.guilds or [guild.id for guild in bot.guilds]
    named = bool(bot.config.discord.guilds) or len(guilds) == 1
    return interaction.permissions.manage_guild and named and interaction.guild_id in guilds


def find_workflow(bot: Comfycord, name: str) -> Workflow:
    found = bot.library.workflows.get(bot.library.twin(name) or name)
    if found is None:
        raise UserError(
            say("There is no workflow named {name}. See /workflows.", name=neutral(name, 60))
        )
    return found


def usable_workflows(bot: Comfycord, asking: Author) -> list[Workflow]:
    return [each for each in bot.library.workflows.values() if may_use(each, asking)]


async def default_workflow(interaction: Interaction) -> Workflow:
    """The channel's, else the Discord server's, else `txt2img` or the first that can run."""
    bot, asking = interaction.client, author(interaction)
    usable = {each.name: each for each in usable_workflows(bot, asking)}
    if not usable:
        raise UserError(say("There are no workflows for you here yet. A moderator adds them."))
    if asking.guild_id is not None:
        for channel_id in (asking.channel_id, asking.parent_id, None):
            chosen = await bot.store.default_workflow(asking.guild_id, channel_id)
            if chosen in usable:
                return usable[chosen]
    order = sorted(usable, key=lambda name: (name != "txt2img", not _is_simple(usable[name]), name))
    servers = bot.servers.values()
    able = (name for name in order if any(each.can_run(usable[name]) for each in servers))
    return usable[next(able, order[0])]


def _is_simple(workflow: Workflow) -> bool:
    """It makes something of a prompt alone."""
    parameters = workflow.parameters({})
    return Role.TEXT in parameters and not any(p.role in FILES for p in parameters.values())


class WorkflowTransformer(app_commands.Transformer):
    """A workflow that the person may use here."""

    async def transform(self, interaction: Interaction, value: str, /) -> Workflow:  # type: ignore[override]
        return find_workflow(interaction.client, value)

    async def autocomplete(self, interaction: Interaction, value: str, /) -> Choices:  # type: ignore[override]
        asking = author(interaction)
        return choose_workflow(usable_workflows(interaction.client, asking), value)


class AnyWorkflowTransformer(WorkflowTransformer):
    """Any workflow, for moderators."""

    async def autocomplete(self, interaction: Interaction, value: str, /) -> Choices:  # type: ignore[override]
        if not moderates(interaction):
            return []
        return choose_workflow(interaction.client.library.workflows.values(), value)


WorkflowOption = app_commands.Transform[Workflow, WorkflowTransformer]
AnyWorkflowOption = app_commands.Transform[Workflow, AnyWorkflowTransformer]


def choose_workflow(workflows: Iterable[Workflow], typed: str) -> Choices:
    return choices(
        ((f"{each.title} ({each.name})" if each.title != each.name else each.name), each.name)
        for each in workflows
        if typed.casefold() in f"{each.name} {each.title}".casefold()
    )


async def chosen_workflow(interaction: Interaction) -> Workflow | None:
    """The workflow that is typed into the same command so far, else the default."""
    name = getattr(interaction.namespace, "workflow", None)
    if name:
        return interaction.client.library.workflows.get(str(name))
    try:
        return await default_workflow(interaction)
    except UserError:
        return None


async def _open_parameters(interaction: Interaction) -> dict[str, Parameter]:
    workflow = await chosen_workflow(interaction)
    nodes = interaction.client.servers.nodes
    return open_parameters(workflow.parameters(nodes)) if workflow else {}


async def complete_model(interaction: Interaction, value: str) -> Choices:
    model = (await _open_parameters(interaction)).get(Role.MODEL)
    names = [str(each) for each in model.choices] if model else []
    return choices((each, each) for each in names if value.casefold() in each.casefold())


async def complete_node(interaction: Interaction, value: str) -> Choices:
    workflow = await chosen_workflow(interaction)
    if workflow is None:
        return []
    labels = [(f"{n}: {title(workflow.graph, n)}", n) for n in target_nodes(workflow)]
    return choices(each for each in labels if value.casefold() in each[0].casefold())


async def complete_settings(interaction: Interaction, value: str) -> Choices:
    """The last word of `steps=20 sampler=eu` in every way it can go on."""
    before, _, word = value.rpartition(" ")
    name, equals, begun = word.partition("=")
    parameters = await _open_parameters(interaction)
    done = {each.partition("=")[0] for each in before.split()}
    if equals and name in parameters:
        values = parameters[name].choices or (parameters[name].default,)
        matching = [str(each) for each in values if begun.casefold() in str(each).casefold()]
        words = [(f'{name}="{each}"' if " " in each else f"{name}={each}") for each in matching]
    else:
        words = [
            f"{each}="
            for each in parameters
            if each not in done and each != Role.TEXT and name.casefold() in each
        ]
    lead = f"{before} " if before else ""
    return choices((f"{lead}{each}", f"{lead}{each}") for each in words)


def choices(pairs: Iterable[tuple[str, str]]) -> Choices:
    found: Choices = []
    for label, value in pairs:
        if len(found) == _CHOICES:
            break
        if len(value) <= _CHOICE_LENGTH:
            found.append(app_commands.Choice(name=label[:_CHOICE_LENGTH], value=value))
    return found
