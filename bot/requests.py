"""Who may ask for what: turns a member's words into a `Request`, or says why not. Pure."""

import json
import math
import secrets
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from bot.config import Limits
from bot.errors import LimitReached, UserError
from bot.jobs import Request
from bot.texts import neutral
from bot.wishes import Wish, parse_settings, permuted
from bot.words import holds_any
from comfy.graph import Graph, InputRef, with_inputs, with_output_folder, without_secrets
from comfy.nodes import NodeTypes
from comfy.parameters import FILES, Parameter, Role, first_text_input, text_inputs
from comfy.phrases import say
from comfy.values import SEED_MAX, coerce, overrides
from comfy.workflow import Workflow, limited

PROMPT_MAX = 6000  # Discord's own limit for a text option
SEVERAL_MAX = 100  # jobs that one request may ask for; limits are far below


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who asks and where. *privileged*: may manage workflows, so sets more with overrides."""

    interaction_id: int
    user_id: int
    channel_id: int
    guild_id: int | None
    privileged: bool = False
    roles: frozenset[int] = frozenset()
    parent_id: int | None = None  # of a thread: its channel
    by_token: bool = False  # the bot is no member there
    adult: bool = False  # Discord restricts the channel by age
    locale: str = "en-US"


def build(
    workflow: Workflow, wish: Wish, author: Author, limits: Limits, nodes: NodeTypes, now: datetime
) -> Request:
    """The finished graph with everything around it; `UserError` and `ParameterError` else."""
    check_allowed(workflow, author)
    parameters = workflow.parameters(nodes)
    given = {**parse_settings(wish.settings), **_typed(wish.values)}
    inputs = _defaults(workflow, parameters)
    for name, value in given.items():
        parameter = _open_parameter(parameters, name, workflow)
        inputs |= dict.fromkeys(parameter.targets, coerce(parameter, value))
    if wish.overrides:
        data = _overrides(wish.overrides)
        inputs |= overrides(workflow.graph, parameters, data, privileged=author.privileged)
    seed = parameters.get(Role.SEED)
    if seed is not None and not any(ref in inputs for ref in seed.targets):
        inputs |= dict.fromkeys(seed.targets, _random_seed(seed))
    text = ""
    if wish.prompt is not None:
        text = _checked_prompt(wish.prompt)
        targets = _prompt_targets(workflow, parameters, wish.node)
        inputs |= dict.fromkeys(targets, text)
    elif wish.node is not None:
        raise UserError(say("`node` says where the prompt goes, so it needs a `prompt` too."))
    if holds_any(limits.blocked_words, [each for each in inputs.values() if isinstance(each, str)]):
        raise UserError(say("This holds a word that is not allowed here. Say it another way."))
    uploads = _uploads(workflow, parameters, wish)
    template = without_secrets(workflow.graph)
    graph = with_inputs(template, inputs)
    _check_size(graph, parameters, limits)
    job_id = str(uuid.uuid4())
    return Request(
        id=job_id,
        interaction_id=author.interaction_id,
        guild_id=author.guild_id,
        channel_id=author.channel_id,
        user_id=author.user_id,
        workflow=workflow.name,
        text=text or _current_text(graph, parameters),
        settings=_shown(graph, parameters),
        graph=with_output_folder(graph, job_id),
        created_at=now,
        wish=replace(
            wish, workflow=workflow.name, prompt=text or None, values=given, settings=None
        ),
        uploads=uploads,
        by_token=wish.private or author.by_token,
        keep_metadata=workflow.sidecar.keep_metadata and template == workflow.graph,
        spoiler=workflow.sidecar.spoiler,
        nsfw=workflow.sidecar.nsfw,
        work=_work(graph, parameters),
        locale=author.locale,
    )


def several(workflow: Workflow, wish: Wish) -> Iterator[Wish]:
    """One wish for each choice of `{a|b}`, and for each picture where a workflow makes only one."""
    values = dict(wish.values)
    many = 1
    if Role.BATCH not in open_parameters(workflow.parameters({})):
        many = _batch(values.pop(Role.BATCH.value, 1))
    prompts = permuted(wish.prompt) if wish.prompt is not None else [None]
    for prompt in prompts:
        for _ in range(many):
            yield replace(wish, prompt=prompt, values=values)


def _batch(value: Any) -> int:
    if not isinstance(value, int) or not 1 <= value <= SEVERAL_MAX:
        raise UserError(say("`batch` must be between 1 and {most}.", most=SEVERAL_MAX))
    return value


def check_allowed(workflow: Workflow, author: Author) -> None:
    """`UserError` says who may use the workflow, and where."""
    allow, name = workflow.sidecar.allow, workflow.name
    if not workflow.sidecar.enabled:
        raise UserError(
            say("{name} is switched off. A moderator can switch it on again.", name=name)
        )
    if allow.roles and not author.roles & set(allow.roles):
        roles = ", ".join(f"<@&{each}>" for each in allow.roles)
        raise UserError(say("{name} is only for {roles}.", name=name, roles=roles))
    if allow.channels and not {author.channel_id, author.parent_id} & set(allow.channels):
        channels = ", ".join(f"<#{each}>" for each in allow.channels)
        raise UserError(say("{name} works only in {channels}.", name=name, channels=channels))
    if workflow.sidecar.nsfw and not author.adult:
        raise UserError(say("{name} works only in age-restricted channels.", name=name))


def may_use(workflow: Workflow, author: Author) -> bool:
    try:
        check_allowed(workflow, author)
    except UserError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Usage:
    """*mine*: this person's open jobs; *pending*: everybody's waiting ones.

    *today*, *gpu_seconds*: what this person asked for and used in the last 24 hours.
    """

    mine: int = 0
    pending: int = 0
    today: int = 0
    gpu_seconds: float = 0.0


def check_limits(limits: Limits, usage: Usage, asked: int = 1) -> None:
    """*asked*: how many jobs are wanted at once. Every refusal says what is left."""
    left = limits.jobs_per_user - usage.mine
    if left <= 0:
        raise LimitReached(
            say(
                "You have {number} jobs waiting or running, and {most} is the most. "
                "Try again when one of them is done.",
                number=usage.mine,
                most=limits.jobs_per_user,
            )
        )
    if asked > left:
        raise LimitReached(
            say(
                "This makes {number} jobs, and you may have {left} more waiting or running.",
                number=asked,
                left=left,
            )
        )
    if limits.jobs_per_day is not None and usage.today + asked > limits.jobs_per_day:
        raise LimitReached(
            say(
                "You may ask for {most} pictures in 24 hours, and {left} of them are left. "
                "Try again later.",
                most=limits.jobs_per_day,
                left=max(0, limits.jobs_per_day - usage.today),
            )
        )
    if limits.gpu_seconds_per_day is not None and usage.gpu_seconds >= limits.gpu_seconds_per_day:
        raise LimitReached(
            say(
                "You may use {most} seconds of GPU time in 24 hours, and 0 of them are left. "
                "Try again later.",
                most=limits.gpu_seconds_per_day,
            )
        )
    if usage.pending + asked > limits.queue:
        raise LimitReached(
            say(
                "The queue is full ({number} jobs wait). Try again in a few minutes.",
                number=usage.pending,
            )
        )


def target_nodes(workflow: Workflow) -> list[str]:
    """The nodes that `node` can name."""
    hidden = _hidden(workflow.parameters({}))
    refs = (ref for ref in text_inputs(workflow.graph) if ref not in hidden)
    return list(dict.fromkeys(ref.node_id for ref in refs))


def _hidden(parameters: Mapping[str, Parameter]) -> set[InputRef]:
    return {ref for each in parameters.values() if each.hidden for ref in each.targets}


def open_parameters(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Those that people set by typing."""
    return {
        name: each
        for name, each in parameters.items()
        if not each.hidden and each.role not in FILES
    }


def _typed(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _uploads(
    workflow: Workflow, parameters: Mapping[str, Parameter], wish: Wish
) -> dict[InputRef, str]:
    """Which input takes which kept file. A file that the servers have already may be left out."""
    files = {n: each for n, each in parameters.items() if each.role in FILES and not each.hidden}
    if unknown := wish.files.keys() - files.keys():
        names = ", ".join(f"`{each}`" for each in files) or say("no files")
        raise UserError(
            say(
                "*{workflow}* takes no `{name}`. It takes {names}.",
                workflow=workflow.title,
                name=min(unknown),
                names=names,
            )
        )
    for name, each in files.items():
        if name not in wish.files and each.choices and each.default not in each.choices:
            raise UserError(
                say("*{workflow}* needs a file: give `{name}`.", workflow=workflow.title, name=name)
            )
    return {ref: wish.files[name] for name in wish.files for ref in files[name].targets}


def _open_parameter(
    parameters: Mapping[str, Parameter], name: str, workflow: Workflow
) -> Parameter:
    known = open_parameters(parameters)
    if name in parameters and parameters[name].role in FILES and not parameters[name].hidden:
        raise UserError(say("`{name}` is a file, which cannot be typed. Attach one.", name=name))
    if name not in known:
        names = ", ".join(f"`{each}`" for each in known) or say("no parameters")
        raise UserError(
            say(
                "*{workflow}* has no `{name}`. It has: {names}.",
                workflow=workflow.title,
                name=" ".join(name.replace("`", "'").split())[:60],
                names=names,
            )
        )
    return known[name]


def _overrides(text: str) -> Any:
    def no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise UserError(say("`overrides` names something twice. Say it once."))
        return dict(pairs)

    def no_constant(name: str) -> None:
        raise ValueError(f"{name} is not a number")

    try:
        return json.loads(text, object_pairs_hook=no_twins, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise UserError(
            say(
                "`overrides` is not valid JSON. "
                'It looks like {{"6": {{"inputs": {{"text": "a cat"}}}}}}.'
            )
        ) from error


def _defaults(workflow: Workflow, parameters: Mapping[str, Parameter]) -> dict[InputRef, Any]:
    """What a moderator's defaults and limits make of values that nobody sets."""
    values: dict[InputRef, Any] = {}
    for name, settings in workflow.sidecar.parameters.items():
        parameter = parameters[name]
        for ref in parameter.targets:
            if settings.default is not None:
                values[ref] = parameter.default
            elif parameter.role is not Role.SEED:  # which is random within its limits
                values[ref] = limited(
                    workflow.graph[ref.node_id]["inputs"][ref.name], parameter.type, settings
                )
    return values


def _random_seed(parameter: Parameter) -> int:
    """At most 2**53: JavaScript, so ComfyUI's editor, loses digits of larger numbers."""
    top = min(int(parameter.max if parameter.max is not None else SEED_MAX), 2**53)
    low = max(int(parameter.min or 0), 0)
    top = max(top, low)
    return low + secrets.randbelow(top - low + 1)


def _checked_prompt(prompt: str) -> str:
    text = prompt.replace("\x00", "").strip()
    if not text:
        raise UserError(say("The prompt is empty. Say what the picture should show."))
    if len(text) > PROMPT_MAX:
        raise UserError(
            say(
                "The prompt has {number} characters, and {most} is the most.",
                number=len(text),
                most=PROMPT_MAX,
            )
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(say("The prompt holds a broken character. Type it again.")) from error
    return text


def _prompt_targets(
    workflow: Workflow, parameters: Mapping[str, Parameter], node: str | None
) -> tuple[InputRef, ...]:
    if node is not None:
        for each in parameters.values():
            own = tuple(ref for ref in each.targets if ref.node_id == node)
            if own and each.role in (Role.TEXT, Role.NEGATIVE) and not each.hidden:
                return own
        hidden = _hidden(parameters)
        refs = [ref for ref in text_inputs(workflow.graph) if ref.node_id == node]
        if not refs or hidden & set(refs):
            raise UserError(
                say("Target node {node} is not a text input node", node=neutral(node, 60))
            )
        return (refs[0],)
    if Role.TEXT in parameters:
        if parameters[Role.TEXT].hidden:
            raise UserError(
                say("*{workflow}* takes no prompt: its text is fixed.", workflow=workflow.title)
            )
        return parameters[Role.TEXT].targets
    negative = {r for p in parameters.values() if p.role is Role.NEGATIVE for r in p.targets}
    first = first_text_input(workflow.graph, negative)
    if first is None:
        raise UserError(say("No suitable text input node found in workflow"))
    return (first,)


def _check_size(graph: Graph, parameters: Mapping[str, Parameter], limits: Limits) -> None:
    width, height, batch = (
        _largest(graph, parameters, role) for role in (Role.WIDTH, Role.HEIGHT, Role.BATCH)
    )
    if width is not None and height is not None:
        many = 1 if batch is None else batch
        if width * height * many > limits.pixels:
            raise UserError(
                say(
                    "{width} x {height} x {many} is too large: at most {pixels} pixels in all. "
                    "Make it smaller.",
                    width=width,
                    height=height,
                    many=many,
                    pixels=f"{limits.pixels:,}",
                )
            )


def _work(graph: Graph, parameters: Mapping[str, Parameter]) -> float:
    factors = (Role.WIDTH, Role.HEIGHT, Role.BATCH, Role.STEPS)
    return float(math.prod(_largest(graph, parameters, each) or 1 for each in factors))


def _largest(graph: Graph, parameters: Mapping[str, Parameter], name: str) -> int | None:
    refs = parameters[name].targets if name in parameters else ()
    values = [graph[ref.node_id]["inputs"][ref.name] for ref in refs]
    return max((each for each in values if isinstance(each, int)), default=None)


def _shown(graph: Graph, parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    return {
        name: _value(graph, parameters, name)
        for name, each in parameters.items()
        if each.role not in FILES and name != Role.TEXT and not each.hidden
    }


def _current_text(graph: Graph, parameters: Mapping[str, Parameter]) -> str:
    value = _value(graph, parameters, Role.TEXT)
    return value if isinstance(value, str) else ""


def _value(graph: Graph, parameters: Mapping[str, Parameter], name: str) -> Any:
    if (parameter := parameters.get(name)) is None:
        return None
    ref = parameter.targets[0]
    return graph[ref.node_id]["inputs"][ref.name]
