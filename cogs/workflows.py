"""/workflows: which there are, and what each one lets people set."""

from discord import app_commands, ui
from discord.ext import commands

from bot.app import Comfycord
from bot.cards import TEXT_LIMIT, fitting, layout
from bot.languages import Language, language_of
from bot.requests import check_allowed, may_use
from bot.texts import neutral
from cogs.transformers import Interaction, WorkflowOption, author
from comfy.parameters import FILES, Parameter, Role
from comfy.workflow import Workflow

_PER_PAGE = 8
_PROBLEMS = 8


class Workflows(commands.Cog):
    def __init__(self, bot: Comfycord) -> None:
        self.bot = bot

    @app_commands.command()
    @app_commands.describe(workflow="One workflow in detail; left out, all of them")
    async def workflows(
        self, interaction: Interaction, workflow: WorkflowOption | None = None
    ) -> None:
        """Show the workflows and what you can set in them."""
        if workflow is None:
            card = overview(interaction, 0)
        else:
            check_allowed(workflow, author(interaction))
            card = detail(self.bot, workflow, language_of(interaction))
        await interaction.response.send_message(view=card, ephemeral=True)


def overview(interaction: Interaction, page: int) -> ui.LayoutView:
    """What the person may use here; moderators also see what is wrong with files."""
    bot, asking, t = interaction.client, author(interaction), language_of(interaction)
    usable = {n: w for n, w in bot.library.workflows.items() if may_use(w, asking)}
    names = list(usable)
    pages = max(1, -(-len(names) // _PER_PAGE))
    page = min(page, pages - 1)
    texts = ["### " + t("Workflows")]
    if not names:
        texts.append(t("There are none for you here yet. A moderator adds one: `/workflow add`."))
    for name in names[page * _PER_PAGE : (page + 1) * _PER_PAGE]:
        workflow = usable[name]
        about = f"\n{neutral(workflow.sidecar.description, 150)}"
        title = f"**{neutral(workflow.title, 60)}** · `{name}` · {_readiness(bot, workflow, t)}"
        texts.append(title + about.rstrip())
    footer = "-# " + t("`/generate workflow:… prompt:…` runs one of them.")
    problems = bot.library.problems if asking.privileged else {}
    if page == pages - 1 and problems:
        lines = [
            "-# ⚠ " + t("{file} {complaint}", file=neutral(name, 110), complaint=text)
            for name, text in sorted(problems.items())
        ]
        kept = fitting(lines[:_PROBLEMS], TEXT_LIMIT - len(footer) - 30 - sum(map(len, texts)))
        if len(kept) < len(lines):
            kept.append("-# " + t("and {number} more", number=len(lines) - len(kept)))
        texts.append("\n".join(kept))
    container = ui.Container[ui.LayoutView]()
    for text in [*texts, footer]:
        container.add_item(ui.TextDisplay(text))
    if pages > 1:
        row = ui.ActionRow[ui.LayoutView]()
        for other in (page - 1, page + 1):
            if 0 <= other < pages:
                label = t("Page {number}", number=other + 1)
                row.add_item(ui.Button(label=label, custom_id=f"workflows:{other}"))
        container.add_item(row)
    return layout(container)


def detail(bot: Comfycord, workflow: Workflow, t: Language) -> ui.LayoutView:
    parameters = workflow.parameters(bot.servers.nodes)
    lines = [f"### {neutral(workflow.title, 100)}"]
    if workflow.sidecar.description:
        lines.append(neutral(workflow.sidecar.description))
    able = [s.name for s in bot.servers.values() if s.can_run(workflow)]
    servers = ", ".join(able) or _readiness(bot, workflow, t)
    lines.append(t("Runs on: {servers}", servers=servers))
    lines += [parameter_line(each, t) for each in parameters.values() if not each.hidden][:40]
    lines += [f"-# {neutral(t.said(note))}" for note in workflow.notes]
    text = "\n".join(lines)
    return layout(ui.Container(ui.TextDisplay(text if len(text) <= 3900 else text[:3899] + "…")))


def _readiness(bot: Comfycord, workflow: Workflow, t: Language) -> str:
    known = [server for server in bot.servers.values() if server.nodes]
    if not known:
        return t("no server has answered yet")
    if any(server.can_run(workflow) for server in known):
        return t("ready")
    return t("needs a model or node that no server has")


def parameter_line(parameter: Parameter, t: Language) -> str:
    option = parameter.name if parameter.name != Role.TEXT else "prompt"
    shown = neutral(str(parameter.default), 60) or t("empty")
    parts = [f"`{option}`", shown]
    if parameter.min is not None and parameter.max is not None and parameter.role is not Role.SEED:
        low, high = f"{parameter.min:g}", f"{parameter.max:g}"
        parts.append(t("{low} to {high}", low=low, high=high))
    if parameter.choices and parameter.role not in FILES:
        some = ", ".join(neutral(str(each), 40) for each in parameter.choices[:5])
        more = len(parameter.choices) - 5
        parts.append(t("{some} and {number} more", some=some, number=more) if more > 0 else some)
    if parameter.description:
        parts.append(neutral(parameter.description, 100))
    if parameter.hidden:
        parts.append(t("hidden"))
    return " · ".join(parts)


async def setup(bot: Comfycord) -> None:
    await bot.add_cog(Workflows(bot))
