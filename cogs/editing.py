"""Edit: a modal with what the workflow lets people set, filled with a job's values.

A modal holds five fields, so longer ones have pages; what is typed is kept as a draft between them.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import discord
from discord import ui
from discord.ext import commands

from bot.app import Comfycord, answered
from bot.cards import layout
from bot.errors import AppError, UserError
from bot.jobs import Job
from bot.languages import Language, language_of
from bot.requests import open_parameters
from bot.texts import neutral
from bot.wishes import Wish
from cogs.asking import ask
from cogs.controls import typed_in
from cogs.transformers import Interaction, find_workflow
from comfy.errors import ComfyError
from comfy.parameters import Parameter, Role
from comfy.phrases import say
from comfy.workflow import Workflow

_PER_PAGE = 5  # fields of a modal
_FIELD_MAX = 4000  # letters in one
_PAGES_MAX = 10
_LABEL_MAX = 45
_FIRST = ("text", "negative", "seed", "steps", "cfg", "width", "height")


async def edit(interaction: Interaction, job: Job, detail: str | None) -> None:
    """*detail*: the number of a page that is opened after another one."""
    workflow = find_workflow(interaction.client, job.request.workflow)
    fields = _fields(workflow, interaction.client)
    page = int(detail) if detail and re.fullmatch("[0-9]", detail) else 0
    shown = fields[page * _PER_PAGE : (page + 1) * _PER_PAGE]
    if not shown:
        name = neutral(workflow.title, 100)
        raise UserError(say("*{workflow}* lets nobody set anything.", workflow=name))
    store, draft = interaction.client.store, None
    if detail is None:
        await store.take_draft(job.id, interaction.user.id)  # begun anew
    else:
        draft = await store.draft(job.id, interaction.user.id)
    values = _values(draft or _wish_of(job, fields), fields)
    t = language_of(interaction)
    await interaction.response.send_modal(_modal(t, job, shown, values, page, len(fields)))


def _fields(workflow: Workflow, bot: Comfycord) -> list[Parameter]:
    parameters = open_parameters(workflow.parameters(bot.servers.nodes))
    order = {name: number for number, name in enumerate(_FIRST)}
    return sorted(parameters.values(), key=lambda each: order.get(each.name, len(order)))


def _wish_of(job: Job, fields: Iterable[Parameter]) -> Wish:
    """What would make the same picture again: everything that can be set, as it was."""
    wish = replace(job.request.wish, prompt=job.request.text or None)
    wish = replace(wish, parent=job.id, relation="edit")
    for each in fields:
        if each.name in job.request.settings:
            wish = wish.setting(each, job.request.settings[each.name])
    return wish


def _values(wish: Wish, fields: Iterable[Parameter]) -> dict[str, Any]:
    """What the modal shows, by field. A field that was emptied stays empty."""
    values = {each.name: wish.values.get(each.name, "") for each in fields}
    return {**values, Role.TEXT.value: wish.prompt or ""}


def _modal(
    t: Language, job: Job, fields: list[Parameter], values: dict[str, Any], page: int, total: int
) -> ui.Modal:
    """Every field carries its parameter's name, so the answer is understood after a restart."""
    pages = -(-total // _PER_PAGE)
    title = t("Edit")
    if pages > 1:
        title = t("Edit, page {page} of {pages}", page=page + 1, pages=pages)
    modal = ui.Modal(title=title, custom_id=f"edit:{job.id}:{page}", timeout=None)
    for each in fields:
        is_words = each.role in (Role.TEXT, Role.NEGATIVE)
        field = ui.TextInput[ui.Modal](
            custom_id=each.name[:100],
            style=discord.TextStyle.paragraph if is_words else discord.TextStyle.short,
            default=str(values[each.name])[:_FIELD_MAX],
            required=False,
            max_length=_FIELD_MAX,
        )
        modal.add_item(ui.Label(text=_label(t, each), component=field))
    modal.stop()  # else discord.py keeps it; `Editing` answers
    return modal


def _label(t: Language, parameter: Parameter) -> str:
    if parameter.role is Role.SEED and parameter.name == Role.SEED:
        return t("seed (empty: random)")[:_LABEL_MAX]
    name = "prompt" if parameter.name == Role.TEXT else parameter.name
    if parameter.min is None or parameter.max is None or parameter.role is Role.SEED:
        return name[:_LABEL_MAX]
    low, high = f"{parameter.min:g}", f"{parameter.max:g}"
    return t("{name} ({low} to {high})", name=name, low=low, high=high)[:_LABEL_MAX]


class Editing(commands.Cog):
    """Answers modals by their `custom_id`, as buttons are: a restart in between costs nothing."""

    def __init__(self, bot: Comfycord) -> None:
        self.bot = bot

    @commands.Cog.listener()
    async def on_interaction(self, interaction: Interaction) -> None:
        data: Any = interaction.data or {}
        found = re.fullmatch(r"edit:([\w-]{36}):(\d)", str(data.get("custom_id")))
        if found and interaction.type is discord.InteractionType.modal_submit:
            typed = dict(typed_in(data))
            await answered(interaction, _edited(interaction, found[1], int(found[2]), typed))


async def _edited(interaction: Interaction, job_id: str, page: int, typed: dict[str, str]) -> None:
    """What the modal shows is run, whatever the workflow's defaults are by now."""
    store = interaction.client.store
    job = await store.get(job_id)
    if job is None:
        raise UserError(say("This job is no longer known."))
    workflow = find_workflow(interaction.client, job.request.workflow)
    fields = _fields(workflow, interaction.client)
    draft = await store.draft(job_id, interaction.user.id)  # of the pages before this one
    wish = _typed_over(draft or _wish_of(job, fields), fields, typed)
    pages = -(-len(fields) // _PER_PAGE)
    if pages == 1:
        await ask(interaction, wish)
        return
    await store.keep_draft(job_id, interaction.user.id, wish)
    card = _draft_card(language_of(interaction), job_id, page, pages)
    await interaction.response.send_message(view=card, ephemeral=True)


def _typed_over(wish: Wish, fields: Iterable[Parameter], typed: dict[str, str]) -> Wish:
    shown = _values(wish, fields)
    for each in fields:
        text = typed.get(each.name)
        # a field holds less than the longest prompt, and trims the ends
        if text is None or text == str(shown[each.name])[:_FIELD_MAX].strip():
            continue
        if each.name == Role.TEXT:
            wish = replace(wish, prompt=text or wish.prompt)
        else:
            wish = wish.setting(each, text or None)
    return wish


def _draft_card(t: Language, job_id: str, page: int, pages: int) -> ui.LayoutView:
    run = ui.Button[ui.LayoutView](label=t("Run"), style=discord.ButtonStyle.primary)
    run.custom_id = f"job:{job_id}:run"
    buttons = [run]
    for other in range(min(pages, _PAGES_MAX)):
        if other != page:
            label = t("Page {number}", number=other + 1)
            buttons.append(ui.Button(label=label, custom_id=f"job:{job_id}:edit:{other}"))
    text = ui.TextDisplay[ui.LayoutView](t("Your changes are noted. Run it, or open another page."))
    rows = [ui.ActionRow(*buttons[n : n + 5]) for n in range(0, len(buttons), 5)]
    return layout(ui.Container(text, *rows))


async def run(interaction: Interaction, job: Job, _: str | None) -> None:
    """The changes of several pages."""
    store = interaction.client.store
    wish = await store.take_draft(job.id, interaction.user.id)
    if wish is None:
        raise UserError(
            say("These changes were run already, or are no longer kept. Press Edit again.")
        )
    try:
        await ask(interaction, wish)
    except (AppError, ComfyError):
        await store.keep_draft(job.id, interaction.user.id, wish)  # to be corrected
        raise


async def setup(bot: Comfycord) -> None:
    await bot.add_cog(Editing(bot))
