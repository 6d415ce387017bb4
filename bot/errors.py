"""Errors of the application, and the one place that words an error for a person.

AppError
├── ConfigError        config.yaml or the environment; the message names the key and the remedy
├── StoreError         the database cannot be opened or is somebody else's; says what to do
├── InvalidTransition  a move that the table of states does not allow: a bug of ours
└── UserError          a request that cannot be done; the message is for the person who made it
"""

from comfy.errors import (
    LibraryError,
    NodeError,
    ParameterError,
    PromptRefused,
    ServerError,
    WorkflowFileError,
)
from comfy.graph import Graph, title
from comfy.models import Ending, HistoryEntry


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


def explain(error: BaseException) -> str | None:
    """A sentence for the person, or None where the fault is ours and belongs in the log."""
    match error:
        case UserError() | ParameterError() | LibraryError():
            return str(error)
        case WorkflowFileError():
            return f"The file {error}"
        case PromptRefused():
            return "ComfyUI refused this workflow. An admin finds the reason in the log."
        case ServerError():
            return "No ComfyUI server answers right now. Try again in a minute."
    return None


_COMPLAINTS = {
    "value_not_in_list": "is not available on the server",
    "required_input_missing": "is missing",
    "invalid_input_type": "has the wrong type",
    "value_smaller_than_min": "is too small",
    "value_bigger_than_max": "is too large",
    "custom_validation_failed": "is not accepted",
    "bad_linked_input": "is linked to an output that does not exist",
    "return_type_mismatch": "is linked to an output of another type",
}


def explain_refusal(error: PromptRefused, graph: Graph) -> str:
    """Which input of which node ComfyUI did not take. Its own texts hold server paths."""
    if error.kind in ("missing_node_type", "invalid_prompt"):
        return "The server lacks a custom node that this workflow needs. Ask a moderator."
    if error.kind == "too_old":
        return "The server's ComfyUI is too old for me. An admin must update it to 0.3.45 or later."
    if error.kind == "too_large":
        return "This request is too large for the server. Make it smaller."
    for each in error.node_errors:
        if each.kind in _COMPLAINTS:
            return f"{describe(each, graph)}. Ask a moderator to look at it."
    return "ComfyUI refused this workflow. A moderator can look at it in ComfyUI."


def describe(error: NodeError, graph: Graph) -> str:
    """One complaint of a validation, ComfyUI's or ours, without a full stop."""
    if error.kind == "prompt_no_outputs":
        return "no node saves or shows anything, so nothing would come out"
    what = _COMPLAINTS.get(error.kind, "is not accepted")
    value = graph.get(error.node_id, {}).get("inputs", {}).get(error.input)
    brief = " ".join(str(value).replace("`", "'").split())[:80]
    shown = f" (`{brief}`)" if isinstance(value, str | int | float) else ""
    return f"`{error.input}` of *{title(graph, error.node_id)}*{shown} {what}"


OUT_OF_MEMORY = "The server ran out of memory. Try a smaller size or fewer pictures."


def explain_failure(entry: HistoryEntry, graph: Graph) -> str:
    if entry.ending is Ending.INTERRUPTED:
        return "Somebody stopped this job on the server."
    if entry.failure is None:
        return "ComfyUI could not run this workflow."
    if entry.failure.out_of_memory:
        return OUT_OF_MEMORY
    where = title(graph, entry.failure.node_id)
    return f"The node *{where}* failed. A moderator finds the reason in the log."
