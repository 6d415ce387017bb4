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
from bot.languages import Language, language
from bot.spool import SpooledFile
from bot.texts import bar, duration, neutral, ordinal
from comfy.graph import title
from comfy.phrases import say
from comfy.progress import RunProgress

_PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".mp4", ".webm", ".mov"}
TEXT_LIMIT = 4000  # of all texts of one message: docs.discord.com, Text Display
_NOTE_LIMIT = 500
SPOILER = "SPOILER:"
_WARNING = "-# ⚠ "
RELATIONS = {"variation": say("variation"), "edit": say("edit"), "again": say("again")}
WORDS = {
    "pending": say("pending"),
    "running": say("running"),
    "processing": say("processing"),
    "completed": say("completed"),
    "error": say("error"),
    "cancelled": say("cancelled"),
}
Item = ui.Item[ui.LayoutView]
_GREY = discord.Colour(0x80848E)
_BLUE = discord.Colour(0x5865F2)
_GREEN = discord.Colour(0x3BA55D)
_RED = discord.Colour(0xED4245)


def waiting_card(
    job: Job, place: int, *, server_up: bool, begins: datetime | None = None
) -> ui.LayoutView:
    """*begins*: Discord counts down to it by itself."""
    t = language(job.request.locale)
    where = t("Queued, {place} in line.", place=ordinal(place), number=place)
    if begins is not None:
        where += " " + t("Ready about {moment}.", moment=stamp(begins))
    if not server_up:
        where += " " + t("No ComfyUI server answers right now; it starts as soon as one does.")
    return _card(job, _GREY, where, cancel=True)


def collect_card(job: Job) -> ui.LayoutView:
    """Of an answer that can soon not be changed any more."""
    t = language(job.request.locale)
    text = t("Still at work. Discord lets me change this message for 15 minutes only:")
    return _card(job, _GREY, text, {"collect": t("Get result")})


def collect_row(job: Job, t: Language) -> ui.ActionRow[ui.LayoutView]:
    return _row(job, {"collect": f"{t('Get result')} · {job.short_id}"})


def progress_card(job: Job, progress: RunProgress, preview: str | None = None) -> ui.LayoutView:
    """Discord counts the elapsed time by itself, without edits. *preview*: an attached file."""
    t = language(job.request.locale)
    if job.server is None:
        return _card(job, _GREY, t("Waiting for a server again."), cancel=True)
    began = ""
    if job.submitted_at:
        began = " · " + t("started {moment}", moment=stamp(job.submitted_at))
    if job.state is not JobState.RUNNING:
        next_on = t("Next on {server}", server=job.server)
        return _card(job, _GREY, f"{next_on}{began}", cancel=True)
    runs = f"{bar(progress.fraction)} {progress.fraction:.0%}"
    if progress.node_id is not None:
        runs += f" · {neutral(title(job.request.graph, progress.node_id), 60)}"
    text = f"{runs}\n-# {t('running on {server}', server=job.server)}{began}"
    return _card(job, _BLUE, text, cancel=True, preview=preview)


def result_card(
    job: Job,
    part: int,
    parts: int,
    files: Sequence[SpooledFile],
    left_out: Sequence[str],
    *,
    whole: bool = True,
) -> ui.LayoutView:
    """One message of a result: pictures and videos in a gallery, other files below it.

    *left_out*: what people should know of files that are not here. *whole*: none was too large.
    """
    t = language(job.request.locale)
    asked, facts = _asked(job), _facts(job)
    body: list[Item] = [ui.TextDisplay(asked)]
    pictures = [each for each in files if PurePosixPath(each.name).suffix.lower() in _PICTURES]
    if pictures:
        gallery = ui.MediaGallery[ui.LayoutView]()
        for each in pictures:
            gallery.add_item(media=f"attachment://{each.name}", spoiler=job.request.spoiler)
        body.append(gallery)
    body += [ui.File(f"attachment://{each.name}") for each in files if each not in pictures]
    if parts > 1:
        facts = f"{t('part {number} of {all}', number=part + 1, all=parts)} · {facts}"
    room = TEXT_LIMIT - len(asked) - len(facts) - 3
    told_of = [each.note for each in files if each.note]
    warnings = [*left_out, *told_of, *([job.note] if job.note else [])]
    notes = _warnings(t, warnings, room)
    room -= sum(len(each) + 1 for each in notes)
    if part == 0:
        told = [text for text in job.texts[:5] if text.strip() not in ("", job.request.text)]
        quoted = fitting((f"> {neutral(text, 500)}" for text in told), room)
        body += [ui.TextDisplay(text) for text in quoted]
    if notes:
        body.append(ui.TextDisplay("\n".join(notes)))
    body.append(ui.TextDisplay(f"-# {facts}"))
    body += _buttons(job, part, pictures=bool(pictures), original=not whole or bool(told_of))
    return layout(ui.Container(*body, accent_colour=_GREEN))


def _warnings(t: Language, told: Sequence[str], room: int) -> list[str]:
    lines = [f"{_WARNING}{t.said(each)}" for each in told]
    kept = fitting(lines, room)
    if len(kept) < len(lines):
        more = _WARNING + t("and {number} more", number=len(lines))  # at its longest
        kept = fitting(lines, room - len(more) - 1)
        kept.append(_WARNING + t("and {number} more", number=len(lines) - len(kept)))
    return kept


def warnings_in(message: discord.Message, job: Job) -> list[str]:
    """What a message of a result told of its files."""
    lines = [line for text in _texts(message.components) for line in text.splitlines()]
    found = [each.removeprefix(_WARNING) for each in lines if each.startswith(_WARNING)]
    return [each for each in found if each != language(job.request.locale).said(job.note)]


def _buttons(job: Job, part: int, *, pictures: bool, original: bool) -> list[Item]:
    """What can be done with a result; `cogs/results.py` answers the clicks.

    Every message has some, as they tell whose it is and which part.
    """
    t = language(job.request.locale)
    again = {"again": t("Again"), "edit": t("Edit")} if part == 0 else {}
    details = {f"details:{part}" if part else "details": t("Details")}
    with_pictures = {"vary": t("Vary"), "send": t("Send to…")} if pictures else {}
    public = not job.request.by_token
    second = {"spoiler": t("Spoiler")} if pictures and public else {}
    if original:
        second["original"] = t("Original")
    if part == 0 and public:
        second["delete"] = t("Delete")
    return [_row(job, row) for row in (again | details | with_pictures, second) if row]


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
    t = language(job.request.locale)
    if job.state is JobState.CANCELLED:
        return _card(job, _GREY, t("Cancelled."))
    labels = {"again": t("Again"), "edit": t("Edit"), "details": t("Details")}
    sized = "width" in job.request.settings and "height" in job.request.settings
    if job.note == OUT_OF_MEMORY and sized:
        labels = {"smaller": t("Again at 75 % size"), **labels}
    why = t.said(job.note)[:_NOTE_LIMIT]
    return _card(job, _RED, f"**{t('It did not work.')}** {why}", labels)


def status_lines(job: Job, t: Language, place: int | None = None) -> str:
    """One job in two lines, for /status."""
    word = state_word(job, t)
    if place is not None and job.state is JobState.PENDING:
        word = t("{state}, {place} in line", state=word, place=ordinal(place), number=place)
    if job.state is JobState.POSTED and job.seconds is not None:
        word = t("{state} in {duration}", state=word, duration=duration(job.seconds))
    link = ""
    if job.message_id:
        guild = job.request.guild_id or "@me"
        address = f"https://discord.com/channels/{guild}/{job.request.channel_id}/{job.message_id}"
        link = f" · [{t('go to it')}]({address})"
    note = f"\n-# {t.said(job.note)[:_NOTE_LIMIT]}" if job.note else ""
    asked = f"{neutral(job.request.text, 80)} · " if job.request.text else ""
    return f"**{word}** · {stamp(job.request.created_at)}{link}\n-# {asked}{_facts(job, t)}{note}"


def state_word(job: Job, t: Language) -> str:
    """pending, running, processing, completed, error, cancelled."""
    return t.said(WORDS[job.state.word])


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
    """Whether this message of ours shows that part of that job, in whatever language."""
    ends = (text.endswith(f"`{job.short_id}`") for text in _texts(message.components))
    if not any(ends):
        return False
    numbers = (re.search(r":details:(\d+)$", each) for each in _custom_ids(message.components))
    return part == next((int(found[1]) for found in numbers if found), 0)


def _texts(components: Sequence[object]) -> list[str]:
    found: list[str] = []
    for each in components:
        if isinstance(each, discord.TextDisplay):
            found.append(each.content)
        found += _texts(getattr(each, "children", ()))
    return found


def _card(
    job: Job,
    colour: discord.Colour,
    text: str,
    labels: Mapping[str, str] | None = None,
    *,
    cancel: bool = False,
    preview: str | None = None,
) -> ui.LayoutView:
    body: list[Item] = [ui.TextDisplay(_asked(job))]
    if preview is not None:
        gallery = ui.MediaGallery[ui.LayoutView]()
        gallery.add_item(media=f"attachment://{preview}", spoiler=job.request.spoiler)
        body.append(gallery)
    body += [ui.TextDisplay(text), ui.TextDisplay(f"-# {_facts(job)}")]
    labels = {"cancel": language(job.request.locale)("Cancel")} if cancel else labels
    if labels:
        body.append(_row(job, labels))
    return layout(ui.Container(*body, accent_colour=colour))


def _asked(job: Job) -> str:
    asked = f"\n> {neutral(job.request.text)}" if job.request.text else ""
    return (
        language(job.request.locale)(
            "**{workflow}** for {person}",
            workflow=neutral(job.request.workflow, 100),
            person=f"<@{job.request.user_id}>",
        )
        + asked
    )


def _facts(job: Job, t: Language | None = None) -> str:
    """Workflow, seed, size, duration, server, id: what people copy to do it again."""
    t = t or language(job.request.locale)
    shown, wish = job.request.settings, job.request.wish
    facts = [neutral(job.request.workflow, 100)]
    if wish.parent:
        what = RELATIONS.get(wish.relation, neutral(wish.relation, 40))
        facts.append(t("{relation} of {job}", relation=t.said(what), job=short(wish.parent)))
    if "seed" in shown:
        facts.append(t("seed {seed}", seed=shown["seed"]))
    if "width" in shown and "height" in shown:
        facts.append(f"{shown['width']} x {shown['height']}")
    if isinstance(steps := shown.get("steps"), int):
        facts.append(t.many("{number} step", "{number} steps", steps))
    if job.seconds is not None:
        facts.append(t.said(duration(job.seconds)))
    if job.server is not None:
        facts.append(job.server)
    facts.append(f"`{job.short_id}`")
    return " · ".join(facts)
