"""What a moderator decides about one workflow: its new sidecar, or a sentence why not. Pure."""

import re
from dataclasses import replace
from typing import Any

from bot.errors import UserError
from comfy.graph import InputRef, as_link, is_secret
from comfy.nodes import NodeTypes
from comfy.parameters import FILES, Parameter, Role, typed
from comfy.phrases import say
from comfy.values import bound, coerce, is_denied
from comfy.workflow import Allowed, ParameterSettings, Sidecar, Workflow

_PARAMETER_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_NUMBERS = (Role.SEED, Role.STEPS, Role.CFG, Role.STRENGTH, Role.WIDTH, Role.HEIGHT, Role.BATCH)
_TITLE_MAX, _DESCRIPTION_MAX = 100, 300


def enabled(workflow: Workflow, *, on: bool) -> Sidecar:
    return workflow.sidecar.model_copy(update={"enabled": on})


def described(
    workflow: Workflow,
    title: str | None,
    description: str | None,
    parameter: str | None,
    spoiler: bool | None = None,
) -> Sidecar:
    """With *parameter* the description is that parameter's."""
    hidden = {} if spoiler is None else {"spoiler": spoiler}
    if title is None and description is None and spoiler is None:
        raise UserError(say("Give a `title`, a `description`, or both."))
    if title is not None and len(title) > _TITLE_MAX:
        raise UserError(say("A title has at most {number} characters.", number=_TITLE_MAX))
    if description is not None and len(description) > _DESCRIPTION_MAX:
        raise UserError(
            say("A description has at most {number} characters.", number=_DESCRIPTION_MAX)
        )
    if parameter is not None:
        if title is not None or description is None:
            raise UserError(say("A parameter takes a `description` and no `title`."))
        name = find_parameter(workflow, parameter).name
        return _with(workflow, name, description=description).model_copy(update=hidden)
    words = {"title": title, "description": description}
    given = {key: value.strip() for key, value in words.items() if value is not None}
    return workflow.sidecar.model_copy(update={**given, **hidden})


def exposed(workflow: Workflow, parameter: str, target: str | None) -> Sidecar:
    """Opens a hidden parameter, or makes one of an input of the graph (`node_id.input`)."""
    name = _own_name(parameter)
    if target is None:
        found = find_parameter(workflow, parameter)
        name = found.name
        if not found.hidden:
            raise UserError(
                say(
                    "`{parameter}` is open already. To open another input, give `target`.",
                    parameter=parameter,
                )
            )
        return _with(workflow, name, hidden=False)
    if not _PARAMETER_NAME.fullmatch(name) and name not in workflow.parameters({}):
        raise UserError(
            say("A parameter's name has small letters, digits and _, at most 32 of them.")
        )
    ref = _target(workflow, target)
    _check_fits(workflow, name, ref)
    for other, settings in workflow.sidecar.parameters.items():
        if other != name and tuple(ref) in settings.targets:
            raise UserError(
                say(
                    "{input} is set by `{parameter}` already. One input has one parameter.",
                    input=str(ref),
                    parameter=other,
                )
            )
    return _with(_moved(workflow, name, ref), name, targets=[tuple(ref)], hidden=False)


def _check_fits(workflow: Workflow, name: str, ref: InputRef) -> None:
    """Names that mean something to the bot keep their meaning."""
    value = workflow.graph[ref.node_id]["inputs"][ref.name]
    if name in (Role.TEXT, Role.NEGATIVE) and not isinstance(value, str):
        raise UserError(
            say(
                "`{parameter}` is a text, and {input} is not. Take another name.",
                parameter=shown_name(name),
                input=str(ref),
            )
        )
    if name in _NUMBERS and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise UserError(
            say(
                "`{parameter}` is a number, and {input} is not. Take another name.",
                parameter=name,
                input=str(ref),
            )
        )
    found = workflow.parameters({}).get(name)
    settings = workflow.sidecar.parameters.get(name)
    may_move = name in (Role.TEXT, Role.NEGATIVE) or (settings is not None and settings.targets)
    if found is not None and not may_move and ref not in found.targets:
        raise UserError(
            say(
                "`{parameter}` sets {others} already. Take another name for {input}.",
                parameter=name,
                others=", ".join(map(str, found.targets)),
                input=str(ref),
            )
        )


def _moved(workflow: Workflow, name: str, ref: InputRef) -> Workflow:
    """Limits that the input has under the name by which it was found go with it to its new one."""
    for other, found in workflow.parameters({}).items():
        settings = workflow.sidecar.parameters.get(other)
        if other != name and settings is not None and found.targets == (ref,):
            parameters = {k: v for k, v in workflow.sidecar.parameters.items() if k != other}
            sidecar = workflow.sidecar.model_copy(
                update={"parameters": {**parameters, name: settings}}
            )
            return replace(workflow, sidecar=sidecar)
    return workflow


def hidden(workflow: Workflow, parameter: str) -> Sidecar:
    found = find_parameter(workflow, parameter)
    if found.hidden:
        raise UserError(say("`{parameter}` is hidden already.", parameter=parameter))
    return _with(workflow, found.name, hidden=True)


def limited(
    workflow: Workflow,
    parameter: str,
    low: float | None,
    high: float | None,
    default: str | None,
    nodes: NodeTypes,
) -> Sidecar:
    """What is None stays as it is; without any value the limits and the default go."""
    found = find_parameter(workflow, parameter)
    if found.role in FILES:
        raise UserError(
            say(
                "`{parameter}` is a file: it has no range, and nobody names it by text.",
                parameter=parameter,
            )
        )
    if low is None and high is None and default is None:
        return _with(workflow, found.name, min=None, max=None, default=None)
    is_number = found.type in ("INT", "FLOAT")
    if not is_number and (low is not None or high is not None):
        raise UserError(
            say(
                "`{parameter}` is no number, so it has no range. It can have a `default`.",
                parameter=parameter,
            )
        )
    bounds = {"min": low, "max": high}
    given: dict[str, Any] = {
        key: _whole(value) for key, value in bounds.items() if value is not None
    }
    before = workflow.sidecar.parameters.get(found.name, ParameterSettings())
    lowest, highest = given.get("min", before.min), given.get("max", before.max)
    whole = typed(replace(found, min=None, max=None), workflow.graph, nodes)
    bottom = 0 if found.role is Role.SEED and whole.min is None else whole.min
    for value in given.values():
        if (bottom is not None and value < bottom) or (whole.max is not None and value > whole.max):
            raise UserError(
                say(
                    "ComfyUI takes {low} to {high} for `{parameter}`.",
                    low=bound(bottom),
                    high=bound(whole.max),
                    parameter=parameter,
                )
            )
    if lowest is not None and highest is not None and lowest > highest:
        raise UserError(
            say(
                "The smallest value ({low}) is above the largest ({high}).",
                low=lowest,
                high=highest,
            )
        )
    if default is not None:
        narrowed = Workflow.of(
            workflow.name, workflow.graph, _with(workflow, found.name, default=None, **given)
        )
        given["default"] = coerce(narrowed.parameters(nodes)[found.name], default)
    elif before.default is not None and given:
        given["default"] = None if _outside(before.default, lowest, highest) else before.default
    return _with(workflow, found.name, **given)


def allowed(
    workflow: Workflow,
    role_id: int | None,
    channel_id: int | None,
    age_restricted: bool | None = None,
) -> Sidecar:
    """Adds a role or a channel; without any of the three it is open to everybody, everywhere."""
    before = workflow.sidecar.allow
    roles = dict.fromkeys([*before.roles, role_id] if role_id else before.roles)
    channels = dict.fromkeys([*before.channels, channel_id] if channel_id else before.channels)
    after = Allowed(roles=list(roles), channels=list(channels))
    if age_restricted is not None:
        update = {"allow": after, "nsfw": age_restricted}
        return workflow.sidecar.model_copy(update=update)
    if role_id is None and channel_id is None:
        after = Allowed()
    return workflow.sidecar.model_copy(update={"allow": after})


def find_parameter(workflow: Workflow, name: str) -> Parameter:
    parameters = workflow.parameters({})
    found = parameters.get(name.strip()) or parameters.get(_own_name(name))
    if found is None:
        names = ", ".join(f"`{shown_name(each)}`" for each in parameters)
        raise UserError(
            say(
                "{workflow} has no parameter `{parameter}`. It has: {parameters}.",
                workflow=workflow.name,
                parameter=name,
                parameters=names or say("none"),
            )
        )
    return found


def shown_name(name: str) -> str:
    """As members type it: the text is the option `prompt`."""
    return "prompt" if name == Role.TEXT else name


def targets(workflow: Workflow) -> list[InputRef]:
    """Inputs that `expose` takes: values of their own that no person may misuse."""
    files = {
        ref
        for each in workflow.parameters({}).values()
        if each.role in FILES
        for ref in each.targets
    }
    return [
        ref
        for node_id, node in workflow.graph.items()
        for name, value in node["inputs"].items()
        if isinstance(value, str | int | float)
        and not is_denied(workflow.graph, ref := InputRef(node_id, name))
        and ref not in files
        and not is_secret(name, value)
    ]


def _own_name(name: str) -> str:
    name = name.strip().casefold()
    return str(Role.TEXT) if name == "prompt" else name


def _target(workflow: Workflow, text: str) -> InputRef:
    open_ones = {str(ref): ref for ref in targets(workflow)}
    if text in open_ones:
        return open_ones[text]
    for node_id, node in workflow.graph.items():
        for name, value in node["inputs"].items():
            if f"{node_id}.{name}" == text:
                if as_link(value):
                    raise UserError(
                        say(
                            "{input} is linked to another node, so it has no own value.",
                            input=text,
                        )
                    )
                raise UserError(
                    say(
                        "{input} may not be set from Discord: it reaches beyond pictures.",
                        input=text,
                    )
                )
    raise UserError(
        say(
            "{workflow} has no input {input}. It looks like `3.steps`.",
            workflow=workflow.name,
            input=text[:80],
        )
    )


def _with(workflow: Workflow, name: str, **update: Any) -> Sidecar:
    """The sidecar with these settings of one parameter; settings that say nothing are left out."""
    parameters = dict(workflow.sidecar.parameters)
    settings = parameters.get(name, ParameterSettings()).model_copy(update=update)
    parameters[name] = settings
    if settings == ParameterSettings():
        del parameters[name]
    return workflow.sidecar.model_copy(update={"parameters": parameters})


def _whole(value: float) -> int | float:
    return int(value) if value == int(value) else value


def _outside(value: Any, low: Any, high: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return (low is not None and value < low) or (high is not None and value > high)
