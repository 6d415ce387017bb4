"""What a job looks like in a channel: Components V2 layouts made from a `Job`. Pure.

A card never changes what the person wrote elsewhere: words of people go through `neutral`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import PurePosixPath

import discord
from discord import ui

from bot.errors import OUT_OF_MEMORY
from bot.jobs import Job, JobState, short
from bot.spool import SpooledFile
from bot.texts import bar, duration, neutral, ordinal
from comfy.graph import title
from comfy.progress import RunProgress

_PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".mp4", ".webm", ".mov"}
TEXT_LIMIT = 4000  # of all texts of one message: docs.discord.com, Text Display
_NOTE_LIMIT = 500
SPOILER = "SPOILER:"
_GREY = discord.Colour(0x80848E)
_BLUE = discord.Colour(0x5865F2)
_GREEN = discord.Colour(0x3BA55D)
_RED = discord.Colour(0xED4245)


def waiting_card(
    job: Job, place: int, *, server_up: bool, begins: datetime | None = None
) -> ui.LayoutView:
    """*begins*: Discord counts down to it by itself."""
    where = f"Queued, {ordinal(place)} in line."
    if begins is not None:
        where += f" Ready about {stamp(begins)}."
    if not server_up:
        where += " No ComfyUI server answers right now; it starts as soon as one does."
    return _card(job, _GREY, where, cancel=True)


def collect_card(job: Job) -> ui.LayoutView:
    """Of an answer that can soon not be changed any more."""
    text = "Still at work. Discord lets me change this message for 15 minutes only:"
    card = _card(job, _GREY, text)
    button = ui.Button[ui.LayoutView](label="Get result", custom_id=f"job:{job.id}:collect")
    for each in card.children:
        if isinstance(each, ui.Container):
            each.add_item(ui.ActionRow(button))
    return card


def progress_card(job: Job, progress: RunProgress) -> ui.LayoutView:
    """Discord counts the elapsed time by itself, without edits."""
    began = f" · started {stamp(job.submitted_at)}" if job.submitted_at else ""
    if job.server is None:
        return _card(job, _GREY, "Waiting for a server again.", cancel=True)
    if job.state is not JobState.RUNNING:
        return _card(job, _GREY, f"Next on {job.server}{began}", cancel=True)
    percent = f"{bar(progress.fraction)} {progress.fraction:.0%}"
    runs = ""
    if progress.node_id is not None:
        runs = f" · {neutral(title(job.request.graph, progress.node_id), 60)}"
    return _card(job, _BLUE, f"{percent}{runs}\n-# running on {job.server}{began}", cancel=True)


def result_card(
    job: Job, part: int, parts: int, files: Sequence[SpooledFile], left_out: Sequence[str]
) -> ui.LayoutView:
    """One message of a result: pictures and videos in a gallery, other files below it."""
    body: list[ui.Item[ui.LayoutView]] = [ui.TextDisplay(_asked(job))]
    pictures = [each for each in files if PurePosixPath(each.name).suffix.lower() in _PICTURES]
    if pictures:
        gallery = ui.MediaGallery[ui.LayoutView]()
        for each in pictures:
            gallery.add_item(media=f"attachment://{each.name}")
        body.append(gallery)
    body += [ui.File(f"attachment://{each.name}") for each in files if each not in pictures]
    asked, facts = _asked(job), _facts(job)
    if parts > 1:
        facts = f"part {part + 1} of {parts} · {facts}"
    room = TEXT_LIMIT - len(asked) - len(facts) - 3
    warnings = [*left_out, *([job.note] if job.note else [])]
    notes = fitting((f"-# ⚠ {each}" for each in warnings), room)
    room -= sum(len(each) + 1 for each in notes)
    if part == 0:
        told = [text for text in job.texts[:5] if text.strip() not in ("", job.request.text)]
        quoted = fitting((f"> {neutral(text, 500)}" for text in told), room)
        body += [ui.TextDisplay(text) for text in quoted]
    if notes:
        body.append(ui.TextDisplay("\n".join(notes)))
    body.append(ui.TextDisplay(f"-# {facts}"))
    if part == 0:
        body += _buttons(job, pictures=bool(pictures))
    return layout(ui.Container(*body, accent_colour=_GREEN))


def _buttons(job: Job, *, pictures: bool) -> list[ui.Item[ui.LayoutView]]:
    """What can be done with a result; `cogs/results.py` answers the clicks."""
    first = {"again": "Again", "edit": "Edit", "details": "Details"}
    if pictures:
        first = {**first, "vary": "Vary", "send": "Send to…"}
    second = {"spoiler": "Spoiler"} if pictures else {}
    second = {} if job.request.by_token else {**second, "delete": "Delete"}
    return [_row(job, labels) for labels in (first, second) if labels]


def _row(job: Job, labels: Mapping[str, str]) -> ui.ActionRow[ui.LayoutView]:
    row = ui.ActionRow[ui.LayoutView]()
    for action, label in labels.items():
        row.add_item(ui.Button(label=label, custom_id=f"job:{job.id}:{action}"))
    return row


def pictures_in(message: discord.Message, *, marked: bool = False) -> list[str]:
    """Addresses of what the galleries of a message show. *marked*: hidden ones begin `SPOILER:`."""
    return [
        f"{SPOILER}{item.media.url}" if marked and item.spoiler else item.media.url
        for gallery in _galleries(message.components)
        for item in gallery.items
    ]


def job_id_in(message: discord.Message) -> str | None:
    """Of the job whose result or placeholder a message of ours shows, by its buttons."""
    for custom_id in _custom_ids(message.components):
        if found := re.match(r"job:([\w-]{36}):", custom_id):
            return found[1]
    return None


def _custom_ids(components: Sequence[object]) -> Iterator[str]:
    for each in components:
        if isinstance(each, discord.Button) and each.custom_id:
            yield each.custom_id
        yield from _custom_ids(getattr(each, "children", ()))


def with_spoiler(message: discord.Message, *, hide: bool) -> ui.LayoutView:
    """The same message with its pictures hidden, or shown again."""
    view = ui.LayoutView.from_message(message, timeout=None)
    for each in view.walk_children():
        if isinstance(each, ui.MediaGallery):
            names = [PurePosixPath(i.media.url.partition("?")[0]).name for i in each.items]
            each.items = [  # set as a whole: reading gives a copy
                discord.MediaGalleryItem(f"attachment://{name}", spoiler=hide) for name in names
            ]
        elif isinstance(each, ui.File):
            name = PurePosixPath(each.media.url.partition("?")[0]).name
            each.media = discord.UnfurledMediaItem(f"attachment://{name}")
    view.stop()
    return view


def _galleries(components: Sequence[object]) -> Iterator[discord.MediaGalleryComponent]:
    for each in components:
        if isinstance(each, discord.MediaGalleryComponent):
            yield each
        yield from _galleries(getattr(each, "children", ()))


def fitting(lines: Iterable[str], room: int = TEXT_LIMIT) -> list[str]:
    """The first lines that have room together, line ends included."""
    kept: list[str] = []
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    return kept


def failure_card(job: Job) -> ui.LayoutView:
    if job.state is JobState.CANCELLED:
        return _card(job, _GREY, "Cancelled.")
    card = _card(job, _RED, f"**It did not work.** {job.note[:_NOTE_LIMIT]}")
    labels = {"again": "Again", "edit": "Edit", "details": "Details"}
    sized = "width" in job.request.settings and "height" in job.request.settings
    if job.note == OUT_OF_MEMORY and sized:
        labels = {"smaller": "Again at 75 % size", **labels}
    for each in card.children:
        if isinstance(each, ui.Container):
            each.add_item(_row(job, labels))
    return card


def status_lines(job: Job, place: int | None = None) -> str:
    """One job in two lines, for /status."""
    word = job.state.word
    if place is not None and job.state is JobState.PENDING:
        word = f"{word}, {ordinal(place)} in line"
    if job.state is JobState.POSTED and job.seconds is not None:
        word = f"{word} in {duration(job.seconds)}"
    link = ""
    if job.message_id:
        guild = job.request.guild_id or "@me"
        link = f" · [go to it](https://discord.com/channels/{guild}/{job.request.channel_id}/{job.message_id})"
    note = f"\n-# {job.note[:_NOTE_LIMIT]}" if job.note else ""
    asked = f"{neutral(job.request.text, 80)} · " if job.request.text else ""
    return f"**{word}** · {stamp(job.request.created_at)}{link}\n-# {asked}{_facts(job)}{note}"


def layout(*containers: ui.Container[ui.LayoutView]) -> ui.LayoutView:
    """Never times out: its buttons are found by their ids."""
    view = ui.LayoutView(timeout=None)
    for container in containers:
        view.add_item(container)
    view.stop()  # else discord.py keeps it in memory to wait for clicks
    return view


def stamp(moment: datetime) -> str:
    return discord.utils.format_dt(moment, "R")


def is_about(message: discord.Message, job: Job, part: int) -> bool:
    """Whether this message of ours shows that part of that job, by the line with its facts."""
    for text in _texts(message.components):
        found = re.fullmatch(rf"-# (?:part (\d+) of \d+ · )?.*`{job.short_id}`", text)
        if found:
            return int(found[1] or 1) == part + 1
    return False


def _texts(components: Sequence[object]) -> list[str]:
    found: list[str] = []
    for each in components:
        if isinstance(each, discord.TextDisplay):
            found.append(each.content)
        found += _texts(getattr(each, "children", ()))
    return found


def _card(job: Job, colour: discord.Colour, text: str, *, cancel: bool = False) -> ui.LayoutView:
    container = ui.Container[ui.LayoutView](
        ui.TextDisplay(_asked(job)),
        ui.TextDisplay(text),
        ui.TextDisplay(f"-# {_facts(job)}"),
        accent_colour=colour,
    )
    if cancel:
        button = ui.Button[ui.LayoutView](label="Cancel", custom_id=f"job:{job.id}:cancel")
        container.add_item(ui.ActionRow(button))
    return layout(container)


def _asked(job: Job) -> str:
    asked = f"\n> {neutral(job.request.text)}" if job.request.text else ""
    return f"**{neutral(job.request.workflow, 100)}** for <@{job.request.user_id}>{asked}"


def _facts(job: Job) -> str:
    """Workflow, seed, size, duration, server, id: what people copy to do it again."""
    shown = job.request.settings
    wish = job.request.wish
    facts = [neutral(job.request.workflow, 100)]
    if wish.parent:
        facts.append(f"{neutral(wish.relation, 40)} of {short(wish.parent)}")
    if "seed" in shown:
        facts.append(f"seed {shown['seed']}")
    if "width" in shown and "height" in shown:
        facts.append(f"{shown['width']} x {shown['height']}")
    if isinstance(shown.get("steps"), int):
        facts.append(f"{shown['steps']} steps")
    if job.seconds is not None:
        facts.append(duration(job.seconds))
    if job.server is not None:
        facts.append(job.server)
    facts.append(f"`{job.short_id}`")
    return " · ".join(facts)
