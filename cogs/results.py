"""The buttons under a result: again, edit, vary, send to, details, spoiler, delete.

Each carries its job's id in its `custom_id`, so it works after any restart. Whoever clicks asks
anew: permissions, limits and the workflow as it is now are checked as if it had been typed.
"""

import io
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, Self

import aiohttp
import discord
from discord import ui
from discord.ext import commands

from bot.app import Comfycord, answer_error
from bot.cards import SPOILER, layout, pictures_in, with_spoiler
from bot.errors import AppError, UserError
from bot.jobs import Job
from bot.requests import open_parameters
from bot.texts import neutral
from bot.wishes import Wish
from cogs.asking import ask
from cogs.controls import may_manage
from cogs.transformers import Interaction, author, find_workflow, usable_workflows
from comfy.errors import ComfyError, ServerError
from comfy.graph import without_secrets
from comfy.parameters import Parameter, Role
from comfy.workflow import Workflow

Item = ui.Item[ui.LayoutView]
Button = ui.Button[ui.LayoutView]
Select = ui.Select[ui.LayoutView]

_PER_PAGE = 5  # fields of a modal
_FIELD_MAX = 4000  # letters in one
_STRENGTHS = {"weak": 0.35, "strong": 0.65}
_FIRST = ("text", "negative", "seed", "steps", "cfg", "width", "height")


class ResultButton(
    ui.DynamicItem[Button],
    template=r"job:(?P<id>[\w-]{36}):(?P<action>(?!cancel)[a-z]{3,8})(:(?P<detail>\w{1,8}))?",
):
    def __init__(self, job_id: str, action: str, detail: str | None) -> None:
        end = f":{detail}" if detail else ""
        super().__init__(ui.Button(custom_id=f"job:{job_id}:{action}{end}"))
        self.job_id, self.action, self.detail = job_id, action, detail

    @classmethod
    async def from_custom_id(  # type: ignore[override]
        cls, interaction: Interaction, item: Item, match: re.Match[str], /
    ) -> Self:
        return cls(match["id"], match["action"], match["detail"])

    async def callback(self, interaction: Interaction) -> None:  # type: ignore[override]
        await answered(interaction, self._act(interaction))

    async def _act(self, interaction: Interaction) -> None:
        action = _ACTIONS.get(self.action)
        if action is None:
            raise UserError("This button is from another time. Use the commands.")
        job = await interaction.client.store.get(self.job_id)
        if job is None:
            raise UserError("This job is no longer known.")
        if interaction.client.clicked_twice(interaction):
            await interaction.response.defer()
            return
        await action(interaction, job, self.detail)


class WorkflowChoice(ui.DynamicItem[Select], template=r"send:(?P<id>[\w-]{36}):(?P<picture>\d+)"):
    """The workflows that a picture of a result can be sent to."""

    def __init__(self, job_id: str, picture: int, names: list[str] | None = None) -> None:
        options = [discord.SelectOption(label=each[:100], value=each[:100]) for each in names or []]
        options = options or [discord.SelectOption(label="none", value="none")]
        placeholder = f"Picture {picture + 1}: send to…"
        super().__init__(
            ui.Select(
                custom_id=f"send:{job_id}:{picture}", options=options, placeholder=placeholder
            )
        )
        self.job_id, self.picture = job_id, picture

    @classmethod
    async def from_custom_id(  # type: ignore[override]
        cls, interaction: Interaction, item: Item, match: re.Match[str], /
    ) -> Self:
        return cls(match["id"], int(match["picture"]))

    async def callback(self, interaction: Interaction) -> None:  # type: ignore[override]
        await answered(interaction, self._send(interaction))

    async def _send(self, interaction: Interaction) -> None:
        job = await interaction.client.store.get(self.job_id)
        if job is None:
            raise UserError("This job is no longer known.")
        workflow = find_workflow(interaction.client, self.item.values[0])
        private = job.request.wish.private
        await interaction.response.defer(thinking=True, ephemeral=private)
        picture = await picture_of(interaction, job, self.picture)
        takes_text = Role.TEXT in workflow.parameters({})
        wish = Wish(
            workflow=workflow.name,
            prompt=job.request.text or None if takes_text else None,
            private=private,
            parent=job.id,
            relation=workflow.name,
        )
        await ask(interaction, wish, {Role.IMAGE: picture})


async def answered(interaction: Interaction, work: Awaitable[None]) -> None:
    """Errors of a click, worded as those of a command."""
    try:
        await work
    except (AppError, ComfyError, discord.HTTPException) as error:
        await answer_error(interaction, error)


async def again(interaction: Interaction, job: Job, _: str | None) -> None:
    """The same with another seed."""
    await ask(interaction, replace(again_of(job), parent=job.id, relation="again"))


async def smaller(interaction: Interaction, job: Job, _: str | None) -> None:
    """The same with three quarters of the width and height, for a server that ran out of memory."""
    wish = again_of(job)
    sizes = {
        name: max(64, int(job.request.settings[name] * 0.75) // 8 * 8)
        for name in (Role.WIDTH.value, Role.HEIGHT.value)
        if isinstance(job.request.settings.get(name), int)
    }
    values = {**wish.values, **sizes}
    await ask(interaction, replace(wish, values=values, parent=job.id, relation="75 %"))


def again_of(job: Job) -> Wish:
    wish = job.request.wish
    seeds = {name for name in wish.values if name == Role.SEED}
    values = {name: value for name, value in wish.values.items() if name not in seeds}
    return replace(wish, values=values)


async def edit(interaction: Interaction, job: Job, detail: str | None) -> None:
    """A modal with what the workflow lets people set, filled with this job's values."""
    workflow = find_workflow(interaction.client, job.request.workflow)
    fields = _fields(workflow, interaction.client)
    page = int(detail) if detail and re.fullmatch("[0-9]", detail) else 0
    shown = fields[page * _PER_PAGE : (page + 1) * _PER_PAGE]
    if not shown:
        raise UserError(f"*{neutral(workflow.title, 100)}* lets nobody set anything.")
    store = interaction.client.store
    if detail is None:
        await store.take_draft(job.id, interaction.user.id)  # begun anew
    elif draft := await store.draft(job.id, interaction.user.id):
        job = _with_draft(job, draft)
    await interaction.response.send_modal(edit_modal(job, shown, page, len(fields)))


def _with_draft(job: Job, wish: Wish) -> Job:
    """The job as the pages so far would have it."""
    settings = {**job.request.settings, **wish.values}
    text = wish.prompt or job.request.text
    return replace(job, request=replace(job.request, text=text, settings=settings))


def _fields(workflow: Workflow, bot: Comfycord) -> list[Parameter]:
    parameters = open_parameters(workflow.parameters(bot.servers.nodes))
    order = {name: number for number, name in enumerate(_FIRST)}
    return sorted(parameters.values(), key=lambda each: order.get(each.name, len(order)))


def edit_modal(job: Job, fields: list[Parameter], page: int, total: int) -> ui.Modal:
    """Every field carries its parameter's name, so the answer is understood after a restart."""
    pages = -(-total // _PER_PAGE)
    title = "Edit" if pages == 1 else f"Edit, page {page + 1} of {pages}"
    modal = ui.Modal(title=title, custom_id=f"edit:{job.id}:{page}", timeout=None)
    before = values_of(job)
    for each in fields:
        is_words = each.role in (Role.TEXT, Role.NEGATIVE)
        field = ui.TextInput[ui.Modal](
            custom_id=each.name[:100],
            style=discord.TextStyle.paragraph if is_words else discord.TextStyle.short,
            default=str(before.get(each.name, each.default))[:_FIELD_MAX],
            required=False,
            max_length=_FIELD_MAX,
        )
        modal.add_item(ui.Label(text=_label(each), component=field))
    modal.stop()  # else discord.py keeps it; `Results` answers
    return modal


class Results(commands.Cog):
    """Answers modals by their `custom_id`, as buttons are: a restart in between costs nothing."""

    def __init__(self, bot: Comfycord) -> None:
        self.bot = bot

    @commands.Cog.listener()
    async def on_interaction(self, interaction: Interaction) -> None:
        if interaction.type is not discord.InteractionType.modal_submit:
            return
        data: Any = interaction.data or {}
        found = re.fullmatch(r"edit:([\w-]{36}):(\d)", str(data.get("custom_id")))
        if found:
            typed = dict(typed_in(data))
            await answered(interaction, edited(interaction, found[1], int(found[2]), typed))


def typed_in(data: Any) -> Iterator[tuple[str, str]]:
    """Field → what was typed, in a submitted modal."""
    for each in data.get("components", ()):
        inner = each.get("component")
        yield from typed_in({"components": [inner]} if inner else each)
        if "value" in each:
            yield str(each["custom_id"]), str(each["value"]).strip()


async def edited(interaction: Interaction, job_id: str, page: int, typed: dict[str, str]) -> None:
    """The job's wish with what was changed in the modal; what was not keeps its value."""
    store = interaction.client.store
    job = await store.get(job_id)
    if job is None:
        raise UserError("This job is no longer known.")
    workflow = find_workflow(interaction.client, job.request.workflow)
    draft = await store.draft(job_id, interaction.user.id)  # of the pages before this one
    wish, before = draft or job.request.wish, values_of(job)
    values: dict[str, Any] = dict(wish.values)
    prompt = wish.prompt
    fields = _fields(workflow, interaction.client)
    for each in fields:
        if (text := typed.get(each.name)) is None:
            continue
        if each.name == Role.TEXT:
            # a field holds less than the longest prompt
            prompt = prompt if text == job.request.text[:_FIELD_MAX].strip() else text or prompt
        elif text != str(before.get(each.name, each.default)).strip():
            values.pop(each.name, None)
            if text:
                values[each.name] = text
        elif each.name == Role.SEED and each.name in before:
            values[each.name] = before[each.name]  # so that an edit shows what it does
    wish = replace(wish, prompt=prompt, values=values, parent=job.id, relation="edit")
    pages = -(-len(fields) // _PER_PAGE)
    if pages == 1:
        await ask(interaction, wish)
        return
    await store.keep_draft(job_id, interaction.user.id, wish)
    await interaction.response.send_message(view=_draft_card(job_id, page, pages), ephemeral=True)


def values_of(job: Job) -> dict[str, Any]:
    """By parameter name, as they were used."""
    return {Role.TEXT.value: job.request.text, **job.request.settings}


def _label(parameter: Parameter) -> str:
    name = "prompt" if parameter.name == Role.TEXT else parameter.name
    if parameter.min is not None and parameter.max is not None and parameter.role is not Role.SEED:
        return f"{name} ({parameter.min:g} to {parameter.max:g})"[:45]
    return ("seed (empty: random)" if parameter.name == Role.SEED else name)[:45]


def _draft_card(job_id: str, page: int, pages: int) -> ui.LayoutView:
    run = ui.Button[ui.LayoutView](label="Run", style=discord.ButtonStyle.primary)
    run.custom_id = f"job:{job_id}:run"
    buttons = [run]
    for other in range(min(pages, 10)):
        if other != page:
            custom_id = f"job:{job_id}:edit:{other}"
            buttons.append(ui.Button(label=f"Page {other + 1}", custom_id=custom_id))
    text = ui.TextDisplay[ui.LayoutView]("Your changes are noted. Run it, or open another page.")
    rows = [ui.ActionRow(*buttons[n : n + 5]) for n in range(0, len(buttons), 5)]
    return layout(ui.Container(text, *rows))


async def run(interaction: Interaction, job: Job, _: str | None) -> None:
    store = interaction.client.store
    wish = await store.take_draft(job.id, interaction.user.id)
    if wish is None:
        raise UserError("These changes were run already, or are no longer kept. Press Edit again.")
    try:
        await ask(interaction, wish)
    except (AppError, ComfyError):
        await store.keep_draft(job.id, interaction.user.id, wish)  # to be corrected
        raise


async def vary(interaction: Interaction, job: Job, detail: str | None) -> None:
    """The picture as the beginning of a new one: with its own workflow if that takes pictures."""
    if detail not in _STRENGTHS:
        row = ui.ActionRow[ui.LayoutView]()
        for name, label in (("weak", "A little"), ("strong", "A lot")):
            row.add_item(ui.Button(label=label, custom_id=f"job:{job.id}:vary:{name}"))
        card = layout(ui.Container(ui.TextDisplay("How much may it change?"), row))
        await interaction.response.send_message(view=card, ephemeral=True)
        return
    workflow = _varying(interaction, job)
    private = job.request.wish.private
    await interaction.response.defer(thinking=True, ephemeral=private)
    picture = await picture_of(interaction, job, 0)
    values = {Role.STRENGTH.value: _STRENGTHS[detail]}
    wish = Wish(
        workflow=workflow.name,
        prompt=job.request.text or None,
        values=values,
        private=private,
        parent=job.id,
        relation="variation",
    )
    await ask(interaction, wish, {Role.IMAGE: picture})


def _varying(interaction: Interaction, job: Job) -> Workflow:
    usable = usable_workflows(interaction.client, author(interaction))
    wanted = {Role.IMAGE, Role.STRENGTH, Role.TEXT}
    able = [
        each
        for each in usable
        if wanted <= {n for n, p in each.parameters({}).items() if not p.hidden}
        and any(server.can_run(each) for server in interaction.client.servers.values())
    ]
    if not able:
        raise UserError(
            "No workflow here can vary a picture. A moderator adds one that takes an image and has "
            "a strength, such as img2img."
        )
    return min(able, key=lambda each: (each.name != job.request.workflow, each.name != "img2img"))


async def send(interaction: Interaction, job: Job, _: str | None) -> None:
    usable = usable_workflows(interaction.client, author(interaction))
    names = [w.name for w in usable if Role.IMAGE in w.parameters({})]
    if not names:
        raise UserError("No workflow here takes a picture. A moderator can add one.")
    count = len(pictures_in(interaction.message)) if interaction.message else 0
    if not count:
        raise UserError("There is no picture in this message.")
    container = ui.Container[ui.LayoutView](ui.TextDisplay("Where to?"))
    for number in range(min(count, 10)):
        container.add_item(ui.ActionRow(WorkflowChoice(job.id, number, names[:25])))
    await interaction.response.send_message(view=layout(container), ephemeral=True)


async def collect(interaction: Interaction, job: Job, _: str | None) -> None:
    """The result of an answer that could no longer be changed."""
    if interaction.user.id != job.request.user_id:
        raise UserError("Only the person who asked for it can get it.")
    if job.told:
        raise UserError("You have it already. `/history` shows it again.")
    private = job.request.wish.private
    sent = await interaction.response.defer(ephemeral=private, thinking=True)
    message_id = sent.message_id if sent else None
    await interaction.client.answers.keep(job.id, interaction.token, message_id)


async def picture_of(interaction: Interaction, job: Job, number: int) -> bytes:
    """From the message of the result: Discord keeps it when the server's files are long gone.

    Nobody else can read a private one, so that comes from ComfyUI again.
    """
    bot = interaction.client
    if job.request.by_token:
        return await _from_server(bot, job, number)
    shown = pictures_in(interaction.message) if interaction.message else []
    if number < len(shown):  # a copy outlives its first message
        with suppress(discord.HTTPException, aiohttp.ClientError, OSError):
            return await bot.http.get_from_cdn(shown[number])
    if job.message_id is None:
        raise UserError("The picture of this job is gone.")
    channel = bot.get_partial_messageable(job.request.channel_id, guild_id=job.request.guild_id)
    try:
        message = await channel.fetch_message(job.message_id)
        url = pictures_in(message)[number]
        return await bot.http.get_from_cdn(url)
    except (discord.HTTPException, aiohttp.ClientError, IndexError, OSError) as error:
        raise UserError("The picture of this job is gone.") from error


async def _from_server(bot: Comfycord, job: Job, number: int) -> bytes:
    server = bot.servers.get(job.server or "")
    try:
        if server is None:
            raise IndexError
        async with server.client.view(job.outputs[number]) as stream:
            return b"".join([chunk async for chunk in stream.iter_any()])
    except (ServerError, aiohttp.ClientError, IndexError) as error:
        raise UserError("The picture of this job is gone.") from error


async def details(interaction: Interaction, job: Job, _: str | None) -> None:
    lines = [f"### {neutral(job.request.workflow, 100)} · `{job.short_id}`"]
    if job.request.text:
        lines.append(f"> {neutral(job.request.text, 1500)}")
    lines += [
        f"`{name}` {neutral(str(value), 200)}" for name, value in job.request.settings.items()
    ]
    shown = without_secrets(job.request.graph)
    graph = json.dumps(shown, ensure_ascii=False, indent=2).encode()
    name = f"{job.short_id}.json"
    file = discord.File(io.BytesIO(graph), name)
    text = "\n".join(lines)[:3900]
    card = layout(ui.Container(ui.TextDisplay(text), ui.File(f"attachment://{name}")))
    await interaction.response.send_message(view=card, file=file, ephemeral=True)


async def spoiler(interaction: Interaction, job: Job, _: str | None) -> None:
    _check_owner(interaction, job)
    assert interaction.message is not None
    hide = not any(SPOILER in each for each in pictures_in(interaction.message, marked=True))
    await interaction.response.edit_message(view=with_spoiler(interaction.message, hide=hide))


async def delete(interaction: Interaction, job: Job, _: str | None) -> None:
    _check_owner(interaction, job)
    await interaction.response.defer()
    if interaction.message is not None and interaction.message.id != job.message_id:
        await interaction.message.delete()  # a copy that /history showed
        return
    await interaction.client.delivery.delete(job)


def _check_owner(interaction: Interaction, job: Job) -> None:
    if not may_manage(interaction, job):
        raise UserError("Only the person who asked for it, or a moderator, can do that.")


_ACTIONS: dict[str, Callable[[Interaction, Job, str | None], Awaitable[None]]] = {
    "again": again,
    "edit": edit,
    "run": run,
    "vary": vary,
    "send": send,
    "collect": collect,
    "details": details,
    "smaller": smaller,
    "spoiler": spoiler,
    "delete": delete,
}


async def setup(bot: Comfycord) -> None:
    bot.add_dynamic_items(ResultButton, WorkflowChoice)
    await bot.add_cog(Results(bot))
