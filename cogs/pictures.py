"""What begins with a picture: vary it, send it to another workflow, use any picture as input.

The question that is asked first shows the pictures, so the click that answers it needs nothing
else: not the first message, not the right to read the channel, no memory of ours.
"""

import logging
import re
from collections.abc import Sequence
from typing import Any, Self

import aiohttp
import discord
import yarl
from discord import ui
from discord.ext import commands

from bot.answers import defer
from bot.app import Comfycord, answered
from bot.cards import SPOILER, layout, pictures_in
from bot.delivery import is_adult
from bot.errors import UserError, explain
from bot.jobs import Job
from bot.languages import Language, language, language_of
from bot.requests import Author
from bot.wishes import Wish
from cogs.asking import ask
from cogs.controls import Item, Select, typed_in
from cogs.transformers import (
    Interaction,
    author,
    find_workflow,
    usable_workflows,
)
from comfy.parameters import Role
from comfy.phrases import say
from comfy.workflow import Workflow

log = logging.getLogger(__name__)

_STRENGTHS = {"weak": 0.35, "strong": 0.65}
_TYPES = ("image/png", "image/jpeg", "image/webp", "image/gif")
_MOST = 10  # pictures of one question, as of one message
_CHOICES = 25  # of one select
_GONE = say("I cannot get this picture any more.")
_NO_PICTURE = say("There is no picture in this message.")


async def vary(interaction: Interaction, job: Job, detail: str | None) -> None:
    """The picture as the beginning of a new one: with its own workflow if that takes pictures."""
    found = re.fullmatch(r"(weak|strong)(\d?)", detail or "")
    if found is None:
        await _ask_how_much(interaction, job)
        return
    number = int(found[2] or 0)
    if number >= len(_shown_in(interaction.message)):
        raise UserError(_GONE)  # before a deferral that everybody sees
    workflow = _varying(interaction, job)
    private = job.request.wish.private
    wish = Wish(
        workflow=workflow.name,
        prompt=job.request.text or None,
        values={Role.STRENGTH.value: _STRENGTHS[found[1]]},
        private=private,
        parent=job.id,
        relation="variation",
    )
    await _use(interaction, number, wish)


async def _ask_how_much(interaction: Interaction, job: Job) -> None:
    t, urls = language_of(interaction), _shown_in(interaction.message)
    labels = {"weak": t("A little"), "strong": t("A lot")}
    rows = []
    for number in range(len(urls)):
        row = ui.ActionRow[ui.LayoutView]()
        for name, label in labels.items():
            which = f"{number + 1}: {label}" if len(urls) > 1 else label
            end = name if number == 0 else f"{name}{number}"
            row.add_item(ui.Button(label=which, custom_id=f"job:{job.id}:vary:{end}"))
        rows.append(row)
    card = _question(t("How much may it change?"), urls, rows)
    await interaction.response.send_message(view=card, ephemeral=True)


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
            say(
                "No workflow here can vary a picture. A moderator adds one that takes an image "
                "and has a strength, such as img2img."
            )
        )
    return min(able, key=lambda each: (each.name != job.request.workflow, each.name != "img2img"))


async def send(interaction: Interaction, job: Job, _: str | None) -> None:
    t = language_of(interaction)
    card = choices_card(interaction, t("Where to?"), _shown_in(interaction.message), job.id)
    await interaction.response.send_message(view=card, ephemeral=True)


def choices_card(
    interaction: Interaction, text: str, urls: Sequence[str], job_id: str | None = None
) -> ui.LayoutView:
    """A select of workflows for each picture. *job_id*: the pictures are its result."""
    usable = usable_workflows(interaction.client, author(interaction))
    return choices_of(language_of(interaction), usable, text, urls, job_id)


def choices_of(
    t: Language,
    usable: Sequence[Workflow],
    text: str,
    urls: Sequence[str],
    job_id: str | None = None,
) -> ui.LayoutView:
    names = [each.name for each in usable if Role.IMAGE in each.parameters({})]
    if not names:
        raise UserError(say("No workflow here takes a picture. A moderator can add one."))
    rows = []
    for number in range(len(urls)):
        choice = WorkflowChoice(number, job_id)
        choice.item.options = [
            discord.SelectOption(label=name, value=name) for name in names[:_CHOICES]
        ]
        choice.item.placeholder = t("Picture {number}: use it in…", number=number + 1)
        rows.append(ui.ActionRow[ui.LayoutView](choice.item))
    return _question(text, urls, rows)


def _question(
    text: str, urls: Sequence[str], rows: Sequence[ui.ActionRow[ui.LayoutView]]
) -> ui.LayoutView:
    gallery = ui.MediaGallery[ui.LayoutView]()
    for each in urls:
        gallery.add_item(media=each.removeprefix(SPOILER), spoiler=each.startswith(SPOILER))
    return layout(ui.Container(ui.TextDisplay(text), gallery, *rows))


class WorkflowChoice(
    ui.DynamicItem[Select], template=r"use:(?P<number>\d)(?::(?P<job>[\w-]{36}))?"
):
    """The workflows that a picture can begin."""

    def __init__(self, number: int, job_id: str | None) -> None:
        end = f":{job_id}" if job_id else ""
        none = [discord.SelectOption(label="-", value="-")]
        super().__init__(ui.Select(custom_id=f"use:{number}{end}", options=none))
        self.number, self.job_id = number, job_id

    @classmethod
    async def from_custom_id(  # type: ignore[override]
        cls, interaction: Interaction, item: Item, match: re.Match[str], /
    ) -> Self:
        return cls(int(match["number"]), match["job"])

    async def callback(self, interaction: Interaction) -> None:  # type: ignore[override]
        await answered(interaction, self._chosen(interaction))

    async def _chosen(self, interaction: Interaction) -> None:
        workflow = find_workflow(interaction.client, self.item.values[0])
        takes_text = Role.TEXT in workflow.parameters({})
        if self.job_id is not None:
            job = await interaction.client.store.get(self.job_id)
            if job is None:
                raise UserError(say("This job is no longer known."))
            wish = Wish(
                workflow=workflow.name,
                prompt=(job.request.text or None) if takes_text else None,
                private=job.request.wish.private,
                parent=job.id,
                relation=workflow.name,
            )
            await _use(interaction, self.number, wish)
        elif takes_text:
            await interaction.response.send_modal(await self._words(interaction, workflow))
        else:
            await _use(interaction, self.number, Wish(workflow=workflow.name))

    async def _words(self, interaction: Interaction, workflow: Workflow) -> ui.Modal:
        modal = ui.Modal(title=workflow.title[:45], custom_id=f"use:{self.number}", timeout=None)
        # the field's id carries the workflow, so the answer is understood after a restart
        field = ui.TextInput[ui.Modal](
            custom_id=workflow.name,
            style=discord.TextStyle.paragraph,
            default=await _said_before(interaction),
            max_length=4000,
        )
        t = language_of(interaction)
        modal.add_item(ui.Label(text=t("What shall it become?"), component=field))
        modal.stop()
        return modal


async def _use(interaction: Interaction, number: int, wish: Wish) -> None:
    async with interaction.client.answers.promising(interaction):
        await defer(interaction, private=wish.private)
        await ask(interaction, wish, {Role.IMAGE: await _picture(interaction, number)})


async def _picture(interaction: Interaction, number: int) -> bytes:
    urls = _shown_in(interaction.message)
    try:
        return await interaction.client.http.get_from_cdn(urls[number].removeprefix(SPOILER))
    except (discord.HTTPException, aiohttp.ClientError, IndexError, OSError) as error:
        raise UserError(_GONE) from error


def _shown_in(message: discord.Message | None) -> list[str]:
    """Addresses; those of hidden pictures begin `SPOILER:`."""
    urls = pictures_in(message, marked=True) if message is not None else []
    if not urls:
        raise UserError(_NO_PICTURE)
    return urls[:_MOST]


def _pictures_of(bot: Comfycord, message: discord.Message) -> list[str]:
    """Addresses of the pictures that somebody attached, or that a gallery shows.

    Only Discord's own: another bot's gallery may show any address.
    """
    limit = bot.config.limits.upload_mb * 2**20
    attached = [
        f"{SPOILER}{each.url}" if each.is_spoiler() else each.url
        for each in message.attachments
        if (each.content_type or "").partition(";")[0] in _TYPES and each.size <= limit
    ]
    urls = dict.fromkeys([*attached, *pictures_in(message, marked=True)])
    ours = [url for url in urls if yarl.URL(url.removeprefix(SPOILER)).host in bot.cdn_hosts]
    return ours[:_MOST]


async def use_as_input(interaction: Interaction, message: discord.Message) -> None:
    urls = _pictures_of(interaction.client, message)
    if not urls:
        raise UserError(_NO_PICTURE)
    t = language_of(interaction)
    card = choices_card(interaction, t("What shall I do with it?"), urls)
    await interaction.response.send_message(view=card, ephemeral=True)


async def use_avatar(interaction: Interaction, user: discord.User | discord.Member) -> None:
    url = user.display_avatar.with_static_format("png").with_size(1024).url
    t = language_of(interaction)
    card = choices_card(interaction, t("What shall I do with it?"), [url])
    await interaction.response.send_message(view=card, ephemeral=True)


async def _said_before(interaction: Interaction) -> str | None:
    """What somebody wrote to the bot with the picture; such messages it may read."""
    reference = interaction.message.reference if interaction.message else None
    if reference is None or reference.message_id is None or interaction.client.user is None:
        return None
    channel = interaction.client.get_partial_messageable(reference.channel_id)
    try:
        asked = await channel.fetch_message(reference.message_id)
    except (discord.HTTPException, aiohttp.ClientError, OSError):
        return None
    return re.sub(rf"<@!?{interaction.client.user.id}>", "", asked.content).strip() or None


class Pictures(commands.Cog):
    """Answers modals by their `custom_id`, and messages that mention the bot with a picture."""

    def __init__(self, bot: Comfycord) -> None:
        self.bot = bot

    @commands.Cog.listener()
    async def on_interaction(self, interaction: Interaction) -> None:
        data: Any = interaction.data or {}
        found = re.fullmatch(r"use:(\d)", str(data.get("custom_id")))
        if found and interaction.type is discord.InteractionType.modal_submit:
            (workflow, prompt), *_ = typed_in(data)
            wish = Wish(workflow=workflow, prompt=prompt)
            await answered(interaction, _use(interaction, int(found[1]), wish))

    @commands.Cog.listener()
    async def on_message(self, message: discord.Message) -> None:
        """A reply to a picture, or a picture, that mentions the bot begins as a menu does."""
        me = self.bot.user
        if message.author.bot or me is None:
            return
        if not re.search(rf"<@!?{me.id}>", message.content):  # a reply mentions without a word
            return
        before = message.reference.resolved if message.reference else None
        urls = _pictures_of(self.bot, message)
        if not urls and isinstance(before, discord.Message):
            urls = _pictures_of(self.bot, before)
        if not urls:
            return
        t = language(str(message.guild.preferred_locale if message.guild else ""))
        usable = usable_workflows(self.bot, _author_of(message))
        try:
            card = choices_of(t, usable, t("What shall I do with it?"), urls)
            await message.reply(view=card, mention_author=False)
        except UserError as error:
            await message.reply(t.said(explain(error) or ""), mention_author=False)
        except discord.HTTPException as error:
            log.info("a message was not replied to: %s", error)


def _author_of(message: discord.Message) -> Author:
    return Author(
        interaction_id=message.id,
        user_id=message.author.id,
        channel_id=message.channel.id,
        guild_id=message.guild.id if message.guild else None,
        roles=frozenset(each.id for each in getattr(message.author, "roles", ())),
        parent_id=getattr(message.channel, "parent_id", None),
        adult=is_adult(message.channel),
    )


async def setup(bot: Comfycord) -> None:
    bot.add_dynamic_items(WorkflowChoice)
    await bot.add_cog(Pictures(bot))
