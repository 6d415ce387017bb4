"""What a run must leave behind: each request with one end, in its place, with its own pictures."""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.chaos.lab import Lab, end_of, is_of, words_of
from tests.chaos.plan import COSTLY
from tests.fakes.discord import Interaction
from tests.fakes.discord_messages import EPHEMERAL, LOADING, Json

if TYPE_CHECKING:
    from tests.chaos.world import World

WRONGS = (
    "lost", "stuck", "doubled", "wrong place", "wrong picture", "executed too often", "fell",
)  # fmt: skip
_TRACEBACK = re.compile(r"^Traceback .*\n(?:[ \t].*\n|\n)+\S.*$", re.MULTILINE)


@dataclass(slots=True)
class Verdict:
    seed: int
    asked: int
    acknowledged: int
    seconds: float
    ends: Counter[str]
    troubles: Counter[str]
    extra: int  # executions beyond one for each job
    errors: Counter[str]  # that nobody foresaw, of the bot's log
    wrongs: Counter[str] = field(default_factory=Counter)
    facts: list[str] = field(default_factory=list)


def judged(world: "World", *, quiet: bool, seconds: float) -> Verdict:
    lab, plan = world.lab, world.plan
    ran = Counter(text for server in lab.comfyui.values() for text in server.ran)
    costly = sum(number for kind, number in world.done.items() if kind in COSTLY)
    verdict = Verdict(
        plan.seed,
        len(world.asked),
        sum(_acknowledged(lab, each) for each in world.asked.values()),
        seconds,
        Counter(),
        world.done,
        sum(number - 1 for number in ran.values()),
        Counter(_brief_error(each) for each in _TRACEBACK.findall(lab.log())),
    )
    for number, asked in world.asked.items():
        text = plan.text(number)
        wrong = _wrong(world, number, asked, verdict.ends)
        if wrong is None and ran[text] > 1 + costly:
            wrong = "executed too often"
        if wrong is not None:
            verdict.wrongs[wrong] += 1
            verdict.facts.append(_facts(world, number, wrong, ran[text]))
    if not quiet and not verdict.wrongs:
        verdict.wrongs["stuck"] += 1
        verdict.facts.append(f"open rows: {[_brief(each) for each in lab.open_rows()]}")
        verdict.facts.append(f"promises: {[dict(each) for each in lab.promises()]}")
        verdict.facts += [line for line in lab.log().splitlines() if " waits in " in line]
    for each in world.fell:
        verdict.wrongs["fell"] += 1
        verdict.facts.append(f"{each}\n{lab.log()[-3000:]}")
    for number in set(ran) - {plan.text(each) for each in world.asked}:
        verdict.facts.append(f"a prompt that nobody asked for: {number}")
        verdict.wrongs["doubled"] += 1
    return verdict


def _brief_error(traceback: str) -> str:
    """What it says at last, and where."""
    *frames, last = traceback.splitlines()
    place = next(each for each in reversed(frames) if each.startswith("  File "))
    return f"{last[:200]} at {place.strip()}"


def _acknowledged(lab: Lab, asked: Interaction) -> bool:
    """The person sees more than the beginning of an answer."""
    return asked.acked_at is not None


def _about(world: "World", number: int) -> list[Json]:
    text = world.plan.text(number)
    return [each for each in world.lab.messages if f"> {text}" in words_of(each)]


def _wrong(world: "World", number: int, asked: Interaction, ends: Counter[str]) -> str | None:
    lab, plan = world.lab, world.plan
    messages = _about(world, number)
    told = [(each, end) for each in messages if (end := end_of(lab, each))]
    row = world.row_of(number)
    if row is not None and (not row["told"] or row["message_id"] is None):
        return "stuck"
    if len(told) > 1:
        return "doubled"
    for message, end in told:
        ends[end] += 1
        if end == "result" and (wrong := _wrong_result(world, number, message)):
            return wrong
    if told:
        return None if len(messages) == 1 or _collected(world, number) else "stuck"
    if number in world.deleted:
        ends["deleted"] += 1
        return None
    begun = asked.message is not None
    if asked.message and asked.message["flags"] & LOADING and not asked.expired:
        return "stuck"
    if messages or row is not None:
        return "lost"
    ends["refused" if begun else "not acknowledged"] += 1
    return "lost" if plan.text(number) in _ran(world) else None


def _wrong_result(world: "World", number: int, message: Json) -> str | None:
    asked, lab = world.asked[number], world.lab
    plan = world.plan.asked[number]
    if int(message["channel_id"]) != asked.channel.id:
        return "wrong place"
    if plan.way == "private":
        mine = [each.message_id for each in (asked, *world.clicks.get(number, ()))]
        if message["id"] not in mine or not message["flags"] & EPHEMERAL:
            return "wrong place"
    files = list(lab.discord.files_of(message).values())
    if len(files) != plan.batch or not all(is_of(f, world.plan.text(number)) for f in files):
        return "wrong picture"
    return None


def _collected(world: "World", number: int) -> bool:
    """The result came by a click; the button that was clicked stands there still."""
    return bool(world.clicks.get(number))


def _ran(world: "World") -> set[str]:
    return {text for server in world.lab.comfyui.values() for text in server.ran}


def _brief(row: Any) -> dict[str, Any]:
    names = ("id", "state", "message_id", "attempt", "prompt_id", "server", "told", "note")
    return {name: row[name] for name in (*names, "messages", "by_token", "text")}


def _facts(world: "World", number: int, wrong: str, ran: int) -> str:
    """All that was said of a job: what Discord was asked, what the bot logged."""
    text, asked, row = world.plan.text(number), world.asked[number], world.row_of(number)
    lines = [f"{wrong.upper()}: {text} {world.plan.asked[number]} ran {ran} times"]
    lines.append(f"asked at {asked.sent_at:.2f}, acknowledged at {asked.acked_at}")
    lines += [f"deed: {each}" for each in world.plan.deeds if each.number == number]
    lines += [f"message {e['id']}: {words_of(e)!r}" for e in _about(world, number)]
    marks = [asked.token[:20], f"/interactions/{asked.id}/", text]
    if asked.message_id:
        marks.append(asked.message_id)
    if row is not None:
        lines.append(f"row: {_brief(row)}")
        kept = world.lab.rows(f"select * from tokens where job_id = '{row['id']}'")  # noqa: S608
        lines += [f"token: {dict(each)}" for each in kept]
        marks.append(row["id"])
    for request in world.lab.discord.requests:
        about = request.path + str(request.json)
        if any(mark in about for mark in marks):
            files = f" with {sorted(request.files)}" if request.files else ""
            lines.append(
                f"{request.at:.2f} {request.method} {request.path[:70]} -> {request.status}{files}"
            )
    if row is not None:
        lines += [line for line in world.lab.log().splitlines() if row["id"][:8] in line]
        lines += [f"click: {each.data} {each.callback}" for each in world.clicks.get(number, ())]
    return "\n  ".join(lines)
