"""What moderators read of a workflow: how it came, what it is, what a dry run says."""

from collections import Counter
from collections.abc import Mapping

from discord import ui

from bot.app import Comfycord
from bot.cards import TEXT_LIMIT, fitting, layout
from bot.languages import Language
from bot.moderation import Report
from bot.texts import neutral
from cogs.workflows import parameter_line
from comfy.phrases import Phrase, say
from comfy.workflow import Workflow

_FORMATS = {
    "api": say("API format"),
    "editor": say("the editor's format"),
    "picture": say("a picture"),
}
_KINDS = {
    "image": say("image"),
    "video": say("video"),
    "audio": say("audio"),
    "text": say("text"),
    "3d": say("3d"),
}


def report_card(bot: Comfycord, report: Report, t: Language) -> ui.LayoutView:
    workflow = report.workflow
    title = neutral(workflow.title, 100)
    if report.replaced:
        head = t("{workflow} is replaced; `/workflow restore` undoes it", workflow=title)
    else:
        head = t("{workflow} is added", workflow=title)
    form, summary = _FORMATS[report.format], _summary(workflow, t)
    came = t("It came as {format}: {summary}", format=form, summary=summary)
    parameters = workflow.parameters(bot.servers.nodes).values()
    number = t.many("Found {number} control", "Found {number} controls", len(parameters))
    found = [f"**{number}**", *(parameter_line(each, t) for each in parameters)]
    notes = [f"⚠️ {neutral(t.said(note), 400)}" for note in (*workflow.notes, *report.notes)]
    tail = "-# " + t("Try it: `/generate workflow:{workflow}`", workflow=workflow.name)
    lines = [f"### {head}", came, *dry_run_lines(report.problems, t), *notes, *found]
    text = shortened(lines, t, len(tail))
    return layout(ui.Container(ui.TextDisplay(f"{text}\n{tail}")))


def about(
    bot: Comfycord, workflow: Workflow, problems: Mapping[str, list[str]], t: Language
) -> list[str]:
    sidecar, people = workflow.sidecar, allowed(workflow)
    if sidecar.enabled:
        state = t("`{workflow}` is on, {people}.", workflow=workflow.name, people=people)
    else:
        state = t("`{workflow}` is **off**, {people}.", workflow=workflow.name, people=people)
    earlier = len(bot.library.earlier.get(workflow.name, ()))
    problem = bot.library.problems.get(f"{workflow.name}.json", "")
    runs = t(
        "The file {complaint} Its last good version runs.",
        complaint=neutral(t.said(problem), 300),
    )
    kept = t.many(
        "{number} earlier version for `/workflow restore`",
        "{number} earlier versions for `/workflow restore`",
        earlier,
    )
    return [
        f"### {neutral(workflow.title, 100)}",
        state,
        neutral(sidecar.description),
        f"⚠️ {runs}" if problem else "",
        _summary(workflow, t),
        *dry_run_lines(problems, t),
        *(f"⚠️ {neutral(t.said(note), 400)}" for note in workflow.notes),
        f"-# {kept}" if earlier else "",
    ]


def _summary(workflow: Workflow, t: Language) -> str:
    """12 nodes: 4 CLIPTextEncode, KSampler, …; makes image."""
    counted = Counter(node["class_type"] for node in workflow.graph.values())
    named = [f"{n} {name}" if n > 1 else name for name, n in counted.most_common(6)]
    more = ", …" if len(counted) > 6 else ""
    kinds = sorted({each.kind for each in workflow.outputs})
    return t.many(
        "{number} node ({nodes}); makes {kinds}.",
        "{number} nodes ({nodes}); makes {kinds}.",
        len(workflow.graph),
        nodes=neutral(", ".join(named), 200) + more,
        kinds=", ".join(t.said(_KINDS[each]) for each in kinds) or t("nothing"),
    )


def allowed(workflow: Workflow) -> Phrase:
    allow = workflow.sidecar.allow
    who = ", ".join(f"<@&{each}>" for each in allow.roles) or say("everybody")
    where = ", ".join(f"<#{each}>" for each in allow.channels)
    place = say("in {channels}", channels=where) if where else say("everywhere")
    if workflow.sidecar.nsfw:
        place = say("{place}, if it is age-restricted", place=place)
    return say("for {people}, {place}", people=who, place=place)


def dry_run_lines(problems: Mapping[str, list[str]], t: Language) -> list[str]:
    told = []
    for server, each in problems.items():
        if not each:
            told.append("✅ " + t("{server} can run it.", server=server))
        told += [f"❌ {server}: {neutral(t.said(problem), 300)}" for problem in each[:5]]
        if len(each) > 5:
            more = len(each) - 5
            told.append("-# " + t("and {number} more on {server}", number=more, server=server))
    return told or ["⚠️ " + t("No ComfyUI server is set up, so nothing could be checked.")]


def shortened(parts: list[str], t: Language, reserved: int = 0) -> str:
    parts = [each for each in parts if each]
    kept = fitting(parts, TEXT_LIMIT - 40 - reserved)
    if len(kept) < len(parts):
        more = len(parts) - len(kept)
        kept.append("-# " + t.many("and {number} more line", "and {number} more lines", more))
    return "\n".join(kept)
