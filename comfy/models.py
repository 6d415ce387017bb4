"""What ComfyUI's routes answer, as small frozen types. Raw JSON stops here, at `from_json`."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from comfy.errors import NodeError


@dataclass(frozen=True, slots=True)
class PromptAccepted:
    prompt_id: str
    number: float
    node_errors: tuple[NodeError, ...] = ()

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        return cls(
            str(data["prompt_id"]),
            data.get("number", 0),
            parse_node_errors(data.get("node_errors")),
        )


@dataclass(frozen=True, slots=True)
class Queue:
    """Prompt ids; *pending* in the order in which they will run."""

    running: tuple[str, ...]
    pending: tuple[str, ...]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Items are lists `[number, prompt_id, …]`; the pending ones come as a heap, unsorted."""
        pending = sorted((item[0], str(item[1])) for item in data["queue_pending"])
        return cls(
            tuple(str(item[1]) for item in data["queue_running"]),
            tuple(prompt_id for _, prompt_id in pending),
        )

    def __contains__(self, prompt_id: str) -> bool:
        return prompt_id in self.running or prompt_id in self.pending


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file that `/view` serves. *type* is `output`, `temp` or `input`."""

    node_id: str
    filename: str
    subfolder: str = ""
    type: str = "output"

    @classmethod
    def from_json(cls, node_id: str, data: dict[str, Any]) -> Self:
        return cls(
            node_id,
            str(data["filename"]),
            str(data.get("subfolder") or ""),
            str(data.get("type") or "output"),
        )

    def to_json(self) -> dict[str, str]:
        return {
            "node_id": self.node_id,
            "filename": self.filename,
            "subfolder": self.subfolder,
            "type": self.type,
        }


class Ending(StrEnum):
    SUCCESS = "success"
    ERROR = "error"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run failed. The message may hold server paths: it is for the log only."""

    node_id: str
    class_type: str
    exception_type: str
    message: str

    @property
    def out_of_memory(self) -> bool:
        return "OutOfMemory" in self.exception_type or "out of memory" in self.message.lower()


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """How a prompt ended and what it left. *seconds* is its run time by the server's clock."""

    prompt_id: str
    ending: Ending
    files: tuple[OutputFile, ...] = ()
    texts: tuple[str, ...] = ()
    failure: Failure | None = None
    seconds: float | None = None

    @property
    def saved(self) -> tuple[OutputFile, ...]:
        """What was saved; previews only where nothing was."""
        return saved(self.files) or self.files

    @classmethod
    def from_json(cls, prompt_id: str, data: dict[str, Any]) -> Self:
        """Success is `status_str` *and* no error among the messages: both happen at once."""
        status = data.get("status") or {}
        messages: list[tuple[str, dict[str, Any]]] = [
            (str(event), about if isinstance(about, dict) else {})
            for event, about in status.get("messages") or ()
        ]
        ending, failure = Ending.SUCCESS, None
        if status.get("status_str") != "success":
            ending = Ending.ERROR
        for event, about in messages:
            if event == "execution_interrupted":
                ending = Ending.INTERRUPTED
            elif event == "execution_error":
                ending = Ending.ERROR
                failure = Failure(
                    str(about.get("node_id", "")),
                    str(about.get("node_type", "")),
                    str(about.get("exception_type", "")),
                    str(about.get("exception_message", "")).strip(),
                )
        files, texts = outputs_of(data.get("outputs") or {})
        return cls(prompt_id, ending, files, texts, failure, _seconds(messages))


def saved(files: tuple[OutputFile, ...]) -> tuple[OutputFile, ...]:
    """Those that outlive the server's process."""
    return tuple(each for each in files if each.type == "output")


def outputs_of(outputs: dict[str, Any]) -> tuple[tuple[OutputFile, ...], tuple[str, ...]]:
    """All files and texts, whatever the key: video too comes under `images`."""
    files: list[OutputFile] = []
    texts: list[str] = []
    for node_id, kinds in outputs.items():
        for kind, items in (kinds or {}).items():
            for item in items if isinstance(items, list | tuple) else ():
                if isinstance(item, dict) and "filename" in item:
                    files.append(OutputFile.from_json(node_id, item))
                elif isinstance(item, str) and kind in ("text", "string"):
                    texts.append(item)
    return tuple(files), tuple(texts)


def _seconds(messages: list[tuple[str, dict[str, Any]]]) -> float | None:
    times = [about["timestamp"] for _, about in messages if "timestamp" in about]
    return (max(times) - min(times)) / 1000 if len(times) > 1 else None


@dataclass(frozen=True, slots=True)
class Device:
    name: str
    vram_total: int
    vram_free: int


@dataclass(frozen=True, slots=True)
class SystemStats:
    version: str
    devices: tuple[Device, ...]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        return cls(
            str(data["system"].get("comfyui_version", "unknown")),
            tuple(
                Device(
                    str(each.get("name", "?")),
                    int(each.get("vram_total") or 0),
                    int(each.get("vram_free") or 0),
                )
                for each in data.get("devices") or ()
            ),
        )


def parse_node_errors(data: Any) -> tuple[NodeError, ...]:
    found: list[NodeError] = []
    for node_id, about in data.items() if isinstance(data, dict) else ():
        match about:
            case {"errors": [*errors]}:
                class_type = str(about.get("class_type", ""))
                found += [_node_error(str(node_id), class_type, each) for each in errors]
    return tuple(found)


def _node_error(node_id: str, class_type: str, data: Any) -> NodeError:
    match data:
        case {"type": kind}:
            info = data.get("extra_info")
            info = info if isinstance(info, dict) else {}
            name, details = str(info.get("input_name") or ""), str(data.get("details", ""))
            low, high = _range(info.get("input_config"))
            return NodeError(node_id, class_type, name, str(kind), details, low, high)
    return NodeError(node_id, class_type, "", "", "")


def _range(config: Any) -> tuple[float | None, float | None]:
    """Of an input as its node declares it: `["INT", {"min": 1, "max": 10000}]`."""
    match config:
        case [_, dict(options)]:
            low, high = options.get("min"), options.get("max")
            return (
                low if isinstance(low, int | float) else None,
                high if isinstance(high, int | float) else None,
            )
    return None, None
