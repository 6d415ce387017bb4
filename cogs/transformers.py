"""What people type → things of ours, each with its autocomplete. Everything is in memory."""

from collections.abc import Iterable

import discord
from discord import app_commands

from bot.app import Comfycord
from bot.errors import UserError
from bot.health import runs_on
from bot.requests import target_nodes
from bot.texts import neutral
from comfy.graph import title
from comfy.library import Workflow
from comfy.parameters import Role

_CHOICES = 25  # Discord: https://docs.discord.com/developers/interactions/application-commands
_CHOICE_LENGTH = 100

Interaction = discord.Interaction[Comfycord]
Choices = list[app_commands.Choice[str]]


def find_workflow(bot: Comfycord, name: str) -> Workflow:
    workflow = bot.library.workflows.get(name)
    if workflow is None:
        raise UserError(f"There is no workflow named {neutral(name, 60)}. See /workflows.")
    return workflow


def default_workflow(bot: Comfycord) -> Workflow:
    """`txt2img` if a server can run it, else the first by name that can, else the first."""
    workflows = bot.library.workflows
    if not workflows:
        raise UserError("There are no workflows yet. An admin puts files into the folder.")
    order = sorted(workflows, key=lambda name: (name != "txt2img", name))
    servers = bot.servers.values()
    able = (n for n in order if any(runs_on(workflows[n].graph, s.nodes) for s in servers))
    return workflows[next(able, order[0])]


class WorkflowTransformer(app_commands.Transformer):
    async def transform(self, interaction: Interaction, value: str, /) -> Workflow:  # type: ignore[override]
        return find_workflow(interaction.client, value)

    async def autocomplete(self, interaction: Interaction, value: str, /) -> Choices:  # type: ignore[override]
        workflows = interaction.client.library.workflows
        return _choices(
            ((f"{each.title} ({name})" if each.title != name else name), name)
            for name, each in sorted(workflows.items())
            if value.casefold() in f"{name} {each.title}".casefold()
        )


WorkflowOption = app_commands.Transform[Workflow, WorkflowTransformer]


def _chosen(interaction: Interaction) -> Workflow | None:
    """The workflow that is typed into the same command so far."""
    name = getattr(interaction.namespace, "workflow", None)
    if name:
        return interaction.client.library.workflows.get(str(name))
    try:
        return default_workflow(interaction.client)
    except UserError:
        return None


async def complete_model(interaction: Interaction, value: str) -> Choices:
    workflow = _chosen(interaction)
    parameters = workflow.parameters(interaction.client.servers.nodes) if workflow else {}
    model = parameters.get(Role.MODEL)
    names = [str(each) for each in model.choices] if model else []
    return _choices((each, each) for each in names if value.casefold() in each.casefold())


async def complete_node(interaction: Interaction, value: str) -> Choices:
    workflow = _chosen(interaction)
    if workflow is None:
        return []
    labels = [(f"{n}: {title(workflow.graph, n)}", n) for n in target_nodes(workflow)]
    return _choices(each for each in labels if value.casefold() in each[0].casefold())


def _choices(pairs: Iterable[tuple[str, str]]) -> Choices:
    found: Choices = []
    for label, value in pairs:
        if len(value) <= _CHOICE_LENGTH and len(found) < _CHOICES:
            found.append(app_commands.Choice(name=label[:_CHOICE_LENGTH], value=value))
    return found
