"""The buttons under a result: again, details, spoiler, original, delete; others stand in files of
their own, `editing` and `pictures`.

Each carries its job's id in its `custom_id`, so it works after any restart. Whoever clicks asks
anew: permissions, limits and the workflow as it is now are checked as if it had been typed.
"""

import io
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Self

import discord
from discord import ui

from bot.app import Comfycord, answered
from bot.cards import SPOILER, layout, pictures_in, with_spoiler
from bot.errors import UserError
from bot.jobs import Job
from bot.texts import neutral
from bot.wishes import Wish
from cogs.asking import ask
from cogs.controls import Button, Item, may_manage
from cogs.editing import edit, run
from cogs.pictures import send, vary
from cogs.transformers import Interaction, find_workflow
from comfy.graph import without_secrets
from comfy.parameters import Parameter, Role
from comfy.phrases import say

_SMALLER = 0.75
_SIDE_STEP = 8  # pixels; a latent's grid


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
            raise UserError(say("This button is from another time. Use the commands."))
        job = await interaction.client.store.get(self.job_id)
        if job is None:
            raise UserError(say("This job is no longer known."))
        if interaction.client.clicked_twice(interaction):
            await interaction.response.defer()
            return
        await action(interaction, job, self.detail)


async def again(interaction: Interaction, job: Job, _: str | None) -> None:
    """The same with another seed."""
    parameters = find_workflow(interaction.client, job.request.workflow).parameters({})
    wish = _with_new_seed(job, parameters.get(Role.SEED))
    await ask(interaction, replace(wish, parent=job.id, relation="again"))


async def smaller(interaction: Interaction, job: Job, _: str | None) -> None:
    """The same with three quarters of the width and height, for a server that ran out of memory."""
    bot = interaction.client
    parameters = find_workflow(bot, job.request.workflow).parameters(bot.servers.nodes)
    wish = _with_new_seed(job, parameters.get(Role.SEED))
    for name in (Role.WIDTH, Role.HEIGHT):
        before = job.request.settings.get(name)
        if name in parameters and isinstance(before, int):
            side = int(before * _SMALLER) // _SIDE_STEP * _SIDE_STEP
            least = int(parameters[name].min or _SIDE_STEP)
            wish = wish.setting(parameters[name], max(side, least))
    await ask(interaction, replace(wish, parent=job.id, relation="75 %"))


def _with_new_seed(job: Job, seed: Parameter | None) -> Wish:
    wish = job.request.wish
    return wish if seed is None else wish.setting(seed, None)


async def collect(interaction: Interaction, job: Job, _: str | None) -> None:
    """The result of an answer that could no longer be changed."""
    if interaction.user.id != job.request.user_id:
        raise UserError(say("Only the person who asked for it can get it."))
    if job.told:
        raise UserError(say("You have it already. `/history` shows it again."))
    private = job.request.wish.private
    sent = await interaction.response.defer(ephemeral=private, thinking=True)
    message_id = sent.message_id if sent else None
    await interaction.client.answers.keep(job.id, interaction.token, message_id)


async def details(interaction: Interaction, job: Job, _: str | None) -> None:
    lines = [f"### {neutral(job.request.workflow, 100)} · `{job.short_id}`"]
    if job.request.text:
        lines.append(f"> {neutral(job.request.text, 1500)}")
    lines += [
        f"`{name}` {neutral(str(value), 200)}" for name, value in job.request.settings.items()
    ]
    text = ui.TextDisplay[ui.LayoutView]("\n".join(lines)[:3900])
    if not job.request.graph:  # forgotten by now
        await interaction.response.send_message(view=layout(ui.Container(text)), ephemeral=True)
        return
    shown = without_secrets(job.request.graph)
    graph = json.dumps(shown, ensure_ascii=False, indent=2).encode()
    name = f"{job.short_id}.json"
    file = discord.File(io.BytesIO(graph), name)
    card = layout(ui.Container(text, ui.File(f"attachment://{name}")))
    await interaction.response.send_message(view=card, file=file, ephemeral=True)


async def original(interaction: Interaction, job: Job, _: str | None) -> None:
    """The files that were too large for the channel."""
    await interaction.response.defer(ephemeral=True, thinking=True)
    await interaction.client.revival.send_originals(interaction, job)


async def spoiler(interaction: Interaction, job: Job, _: str | None) -> None:
    _check_owner(interaction, job)
    assert interaction.message is not None
    hide = not any(SPOILER in each for each in pictures_in(interaction.message, marked=True))
    await interaction.response.edit_message(view=with_spoiler(interaction.message, hide=hide))


async def delete(interaction: Interaction, job: Job, _: str | None) -> None:
    _check_owner(interaction, job)
    await interaction.response.defer()
    clicked = interaction.message
    if clicked is not None and clicked.id not in (job.message_id, *job.messages):
        await clicked.delete()  # a copy that /history showed
        return
    await interaction.client.delivery.delete(job)


def _check_owner(interaction: Interaction, job: Job) -> None:
    if not may_manage(interaction, job):
        raise UserError(say("Only the person who asked for it, or a moderator, can do that."))


_ACTIONS: dict[str, Callable[[Interaction, Job, str | None], Awaitable[None]]] = {
    "again": again,
    "edit": edit,
    "run": run,
    "vary": vary,
    "send": send,
    "collect": collect,
    "details": details,
    "smaller": smaller,
    "original": original,
    "spoiler": spoiler,
    "delete": delete,
}


async def setup(bot: Comfycord) -> None:
    bot.add_dynamic_items(ResultButton)
