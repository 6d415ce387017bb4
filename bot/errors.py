"""Errors of the application, and the one place that words an error for a person.

AppError
├── ConfigError        config.yaml or the environment; the message names the key and the remedy
├── StoreError         the database cannot be opened or is somebody else's; says what to do
├── InvalidTransition  a move that the table of states does not allow: a bug of ours
└── UserError          a request that cannot be done; the message is for the person who made it
    ├── LimitReached   the same later is fine
    └── Busy           it is not the person's fault; the same later is fine
"""

from bot.texts import neutral
from comfy.errors import (
    LibraryError,
    NodeError,
    ParameterError,
    PromptRefused,
    ServerError,
    WorkflowFileError,
)
from comfy.graph import Graph, is_secret, title
from comfy.models import Ending, HistoryEntry
from comfy.nodes import MissingModel, NodeTypes, closest_model
from comfy.phrases import Phrase, say
from comfy.values import bound


class AppError(Exception):
    pass


class ConfigError(AppError):
    pass


class StoreError(AppError):
    pass


class InvalidTransition(AppError):
    pass


class UserError(AppError):
    pass


class LimitReached(UserError):
    pass


class Busy(UserError):
    pass


def explain(error: BaseException) -> str | None:
    """A sentence for the person, or None where the fault is ours and belongs in the log."""
    match error:
        case StoreError():
            return say("I am busy or being restarted. Try again in a minute.")
        case UserError() | ParameterError() | LibraryError():
            return _text(error)
        case WorkflowFileError():
            return say("The file {complaint}", complaint=_text(error))
        case PromptRefused():
            return say("ComfyUI refused this workflow. An admin finds the reason in the log.")
        case ServerError():
            return say("No ComfyUI server answers right now. Try again in a minute.")
    return None


def _text(error: BaseException) -> str:
    """As it was given: `str(error)` would make a plain text of a phrase."""
    match error.args:
        case (str(text), *_):
            return text
    return str(error)


_COMPLAINTS = {
    "value_not_in_list": say("is not available on the server"),
    "required_input_missing": say("is missing"),
    "invalid_input_type": say("has the wrong type"),
    "value_smaller_than_min": say("is too small"),
    "value_bigger_than_max": say("is too large"),
    "custom_validation_failed": say("is not accepted"),
    "bad_linked_input": say("is linked to an output that does not exist"),
    "return_type_mismatch": say("is linked to an output of another type"),
}
_BEYOND = ("value_smaller_than_min", "value_bigger_than_max")


def explain_refusal(error: PromptRefused, graph: Graph, nodes: NodeTypes) -> Phrase:
    """Which input of which node ComfyUI did not take. Its own texts hold server paths.

    *nodes*: the server's, for the nearest name of a model that it lacks.
    """
    if error.kind in ("missing_node_type", "invalid_prompt"):
        return say("The server lacks a custom node that this workflow needs. Ask a moderator.")
    if error.kind == "too_old":
        return say(
            "The server's ComfyUI is too old for me. An admin must update it to 0.3.45 or later."
        )
    if error.kind == "too_large":
        return say("This request is too large for the server. Make it smaller.")
    for each in error.node_errors:
        if each.kind in _COMPLAINTS:
            complaint = describe(each, graph)
            if closest := _closest(each, graph, nodes):
                return say(
                    "{complaint}. The closest is `{closest}`. Ask a moderator to look at it.",
                    complaint=complaint,
                    closest=closest,
                )
            return say("{complaint}. Ask a moderator to look at it.", complaint=complaint)
    return say("ComfyUI refused this workflow. A moderator can look at it in ComfyUI.")


def _closest(error: NodeError, graph: Graph, nodes: NodeTypes) -> str | None:
    node = graph.get(error.node_id, {})
    known = nodes.get(node.get("class_type", ""))
    if error.kind != "value_not_in_list" or known is None or error.input not in known.inputs:
        return None
    value = str(node["inputs"].get(error.input))
    return closest_model(MissingModel(error.node_id, error.input, value), graph, nodes)


def describe(error: NodeError, graph: Graph) -> Phrase:
    """One complaint of a validation, ComfyUI's or ours, without a full stop."""
    if error.kind == "prompt_no_outputs":
        return say("no node saves or shows anything, so nothing would come out")
    about = {"input": error.input, "node": neutral(title(graph, error.node_id), 60)}
    what = _complaint(error)
    value = graph.get(error.node_id, {}).get("inputs", {}).get(error.input)
    if not isinstance(value, str | int | float) or is_secret(error.input, value):
        return say("`{input}` of *{node}* {complaint}", **about, complaint=what)
    brief = " ".join(str(value).replace("`", "'").split())[:80]
    return say(
        "`{input}` of *{node}* (`{value}`) {complaint}", **about, value=brief, complaint=what
    )


def _complaint(error: NodeError) -> Phrase:
    """With the range of a number that is beyond it."""
    what = _COMPLAINTS.get(error.kind, _COMPLAINTS["custom_validation_failed"])
    if error.kind not in _BEYOND:
        return what
    low = None if error.min is None else bound(error.min)
    high = None if error.max is None else bound(error.max)
    if low and high:
        return say("{complaint}: {low} to {high}", complaint=what, low=low, high=high)
    if low:
        return say("{complaint}: at least {low}", complaint=what, low=low)
    if high:
        return say("{complaint}: at most {high}", complaint=what, high=high)
    return what


OUT_OF_MEMORY = say("The server ran out of memory. Try a smaller size or fewer pictures.")


def explain_failure(entry: HistoryEntry, graph: Graph) -> Phrase:
    if entry.ending is Ending.INTERRUPTED:
        return say("Somebody stopped this job on the server.")
    if entry.failure is None:
        return say("ComfyUI could not run this workflow.")
    if entry.failure.out_of_memory:
        return OUT_OF_MEMORY
    where = neutral(title(graph, entry.failure.node_id), 60)
    return say("The node *{node}* failed. A moderator finds the reason in the log.", node=where)
