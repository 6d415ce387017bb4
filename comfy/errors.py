"""Everything that can go wrong with ComfyUI, in one tree.

ComfyError
├── WorkflowFileError     a workflow file is not what ComfyUI can run; the text says what to do
│   └── ConversionError   an editor's file cannot become a graph; names the missing node classes
├── LibraryError          the workflows folder cannot be changed so; the text is for a moderator
├── ParameterError        a value that a person gave cannot be used; the text is for that person
└── ServerError           a ComfyUI server did not do what it was asked
    ├── ServerUnavailable nothing useful was answered: refused, reset, timed out, 5xx
    ├── AccessDenied      401 or 403
    ├── NotComfyUI        an answer that no ComfyUI gives, such as an HTML page
    ├── FileGone          /view has no such file (any more)
    └── PromptRefused     POST /prompt answered 400 or dropped an output; holds the node errors
"""

from collections.abc import Sequence
from dataclasses import dataclass


class ComfyError(Exception):
    """Base of this package's errors."""


class WorkflowFileError(ComfyError):
    """The file's owner must change it; the message is one sentence that says how."""


class ConversionError(WorkflowFileError):
    """*missing*: the node classes in use that the server does not have."""

    def __init__(self, message: str, missing: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.missing = tuple(missing)


class LibraryError(ComfyError):
    pass


class ParameterError(ComfyError):
    """The message names the parameter and what is allowed."""


class ServerError(ComfyError):
    """The message names the server's address, never a credential."""


class ServerUnavailable(ServerError):
    """After this the outcome of a POST is unknown: look before sending again."""


class AccessDenied(ServerError):
    pass


class NotComfyUI(ServerError):
    pass


class FileGone(ServerError):
    pass


@dataclass(frozen=True, slots=True)
class NodeError:
    """One complaint of ComfyUI's validation about one input (or node, then *input* is "").

    *min* and *max*: the input's range, where it is told.
    """

    node_id: str
    class_type: str
    input: str
    kind: str
    details: str
    min: float | None = None
    max: float | None = None


class PromptRefused(ServerError):
    """*kind* is ComfyUI's `error.type`. Its texts may hold server paths: they are for the log."""

    def __init__(self, message: str, kind: str, node_errors: tuple[NodeError, ...] = ()) -> None:
        super().__init__(message)
        self.kind = kind
        self.node_errors = node_errors
