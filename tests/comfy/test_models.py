"""What ComfyUI's routes answer, as types: recorded answers and trimmed ones."""

import json
from typing import Any

import pytest

from comfy.errors import NodeError
from comfy.models import (
    Device,
    Ending,
    Failure,
    HistoryEntry,
    OutputFile,
    PromptAccepted,
    Queue,
    SystemStats,
    parse_node_errors,
)
from tests.fakes.recordings import CONTRACT

JOB = "0c9f0b3e-5a43-4c5c-8f7e-2f6f4d4f8a11"


def histories(name: str) -> list[HistoryEntry]:
    """The history entries in a recording, `version/name`."""
    steps = json.loads((CONTRACT / f"{name}.json").read_text())["steps"]
    return [
        HistoryEntry.from_json(prompt_id, entry)
        for step in steps
        if step["kind"] == "http" and step["request"]["path"].startswith("/history/")
        for prompt_id, entry in step["response"]["json"].items()
    ]


def test_a_recorded_success_names_its_files() -> None:
    (entry,) = histories("v0.27.0/a1_txt2img_success")

    (file,) = entry.files
    assert entry.ending is Ending.SUCCESS
    assert (file.node_id, file.type) == ("9", "output")
    assert file.filename.endswith(".png")
    assert entry.failure is None
    assert entry.seconds is not None
    assert entry.seconds > 0


def test_a_batch_is_as_many_files() -> None:
    (entry,) = histories("v0.27.0/a4_batch4")

    assert len({file.filename for file in entry.files}) == 4


@pytest.mark.parametrize("version", ["v0.27.0", "v0.3.64"])
def test_a_recorded_error_names_the_node_and_keeps_the_message_for_the_log(version: str) -> None:
    entry = histories(f"{version}/d1_runtime_error")[0]

    assert entry.ending is Ending.ERROR
    assert entry.failure is not None
    assert entry.failure.node_id
    assert entry.failure.class_type
    assert entry.failure.exception_type
    assert entry.failure.message == entry.failure.message.strip() != ""


@pytest.mark.parametrize("version", ["v0.27.0", "v0.3.64"])
def test_a_recorded_interrupt_is_no_error(version: str) -> None:
    (entry,) = histories(f"{version}/e1_interrupt_global")

    assert entry.ending is Ending.INTERRUPTED
    assert entry.failure is None


SAVED, PREVIEW = OutputFile("9", "a.png"), OutputFile("8", "b.png", "", "temp")


@pytest.mark.parametrize(
    ("files", "saved"),
    [((PREVIEW, SAVED), (SAVED,)), ((SAVED,), (SAVED,)), ((PREVIEW,), (PREVIEW,)), ((), ())],
    ids=["both", "saved only", "previews only", "nothing"],
)
def test_previews_count_where_nothing_was_saved(
    files: tuple[OutputFile, ...], saved: tuple[OutputFile, ...]
) -> None:
    assert HistoryEntry(JOB, Ending.SUCCESS, files).saved == saved


def test_texts_are_read() -> None:
    (entry,) = histories("v0.27.0/a11_text_output")

    assert entry.files == ()
    assert entry.texts == ("hello 953419714 é世界",)


def test_animations_and_videos_are_files_too() -> None:
    (entry,) = histories("v0.27.0/a9_animated_video")

    ends = {file.filename.rpartition(".")[2] for file in entry.files}
    assert ends == {"webm", "webp", "png", "mp4"}
    assert len(entry.files) == 4


@pytest.mark.parametrize(
    ("outputs", "files", "texts"),
    [
        ({}, 0, 0),
        (None, 0, 0),
        ({"9": None}, 0, 0),
        ({"9": {"images": None}}, 0, 0),
        ({"9": {"images": "text"}}, 0, 0),
        ({"9": {"animated": [True]}}, 0, 0),
        ({"9": {"images": [{"type": "output"}, None, 5]}}, 0, 0),
        ({"9": {"audio": [{"filename": "a.flac"}]}}, 1, 0),
        ({"9": {"gifs": [{"filename": "a.mp4", "format": "video/h264"}]}}, 1, 0),
        ({"9": {"text": ["a", "b"], "string": ["c"]}}, 0, 3),
        ({"9": {"scores": ["a"]}}, 0, 0),
    ],
    ids=str,
)
def test_any_key_may_hold_files_and_unknown_things_are_left_out(
    outputs: Any, files: int, texts: int
) -> None:
    entry = HistoryEntry.from_json(JOB, {"outputs": outputs})

    assert (len(entry.files), len(entry.texts)) == (files, texts)


@pytest.mark.parametrize(
    ("status", "ending"),
    [
        (None, Ending.ERROR),
        ({}, Ending.ERROR),
        ({"status_str": "success"}, Ending.SUCCESS),
        ({"status_str": "success", "messages": None}, Ending.SUCCESS),
        ({"status_str": "success", "messages": [["execution_start", None]]}, Ending.SUCCESS),
        ({"status_str": "success", "messages": [["execution_error", None]]}, Ending.ERROR),
        ({"status_str": "error", "messages": []}, Ending.ERROR),
        ({"status_str": "error", "messages": [["execution_interrupted", {}]]}, Ending.INTERRUPTED),
        ({"status_str": "something new"}, Ending.ERROR),
    ],
    ids=str,
)
def test_an_ending_needs_the_status_and_no_error_among_the_messages(
    status: Any, ending: Ending
) -> None:
    assert HistoryEntry.from_json(JOB, {"status": status}).ending is ending


@pytest.mark.parametrize(
    ("messages", "seconds"),
    [
        ([], None),
        ([["execution_start", {"timestamp": 1000}]], None),
        (
            [["execution_start", {"timestamp": 1000}], ["execution_success", {"timestamp": 3500}]],
            2.5,
        ),
        ([["execution_start", {}], ["execution_success", {}]], None),
    ],
    ids=["nothing", "one time", "start and end", "no times"],
)
def test_the_run_time_is_that_of_the_servers_clock(
    messages: list[Any], seconds: float | None
) -> None:
    status = {"status_str": "success", "messages": messages}

    assert HistoryEntry.from_json(JOB, {"status": status}).seconds == seconds


@pytest.mark.parametrize(
    ("exception_type", "message", "expected"),
    [
        ("torch.OutOfMemoryError", "Allocation on device", True),
        ("torch.cuda.OutOfMemoryError", "", True),
        ("RuntimeError", "CUDA out of memory. Tried to allocate 2 GiB", True),
        ("RuntimeError", "shapes cannot be multiplied", False),
    ],
)
def test_a_lack_of_memory_is_recognized(exception_type: str, message: str, expected: bool) -> None:
    assert Failure("3", "KSampler", exception_type, message).out_of_memory is expected


@pytest.mark.parametrize(
    ("data", "file"),
    [
        ({"filename": "a.png"}, OutputFile("9", "a.png", "", "output")),
        (
            {"filename": "a.png", "subfolder": "x", "type": "temp", "new": 1},
            OutputFile("9", "a.png", "x", "temp"),
        ),
        ({"filename": "a.png", "subfolder": None, "type": None}, OutputFile("9", "a.png")),
    ],
    ids=["only a name", "everything and more", "nulls"],
)
def test_a_file_is_read_and_written(data: dict[str, Any], file: OutputFile) -> None:
    read = OutputFile.from_json("9", data)

    assert read == file
    assert OutputFile(**read.to_json()) == file


def test_node_errors_of_an_accepted_prompt_are_kept() -> None:
    answer = {
        "prompt_id": JOB,
        "number": 3,
        "node_errors": {
            "9": {
                "errors": [
                    {"type": "value_not_in_list", "details": "x", "extra_info": {"input_name": "a"}}
                ],
                "class_type": "SaveImage",
            }
        },
    }

    accepted = PromptAccepted.from_json(answer)

    assert accepted.node_errors == (NodeError("9", "SaveImage", "a", "value_not_in_list", "x"),)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, ()),
        ([], ()),
        ({}, ()),
        ({"9": None}, ()),
        ({"9": [1]}, ()),
        ({"9": {"errors": None}}, ()),
        ({"9": {"errors": 5}}, ()),
        ({"9": {"errors": [1]}}, (NodeError("9", "", "", "", ""),)),
        ({"9": {"errors": [{}]}}, (NodeError("9", "", "", "", ""),)),
        (
            {"9": {"errors": [{"type": "x", "extra_info": None}]}},
            (NodeError("9", "", "", "x", ""),),
        ),
        (
            {"9": {"errors": [{"type": "x", "extra_info": [1]}]}},
            (NodeError("9", "", "", "x", ""),),
        ),
    ],
    ids=str,
)
def test_node_errors_may_be_incomplete(data: Any, expected: tuple[NodeError, ...]) -> None:
    assert parse_node_errors(data) == expected


def test_recorded_validation_errors_are_read() -> None:
    steps = json.loads((CONTRACT / "v0.27.0/c1_validation_errors.json").read_text())["steps"]
    answers = [step["response"]["json"] for step in steps if "json" in step.get("response", {})]

    found = [error for answer in answers for error in parse_node_errors(answer.get("node_errors"))]

    kinds = {error.kind for error in found}
    assert {"value_not_in_list", "required_input_missing", "dependency_cycle"} <= kinds
    assert all(error.node_id and error.class_type for error in found)
    ranges = {(e.input, e.min, e.max) for e in found if e.kind == "value_smaller_than_min"}
    assert ranges == {("steps", 1, 10000), ("seed", 0, 2**64 - 1)}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (["FLOAT", {"min": 0.5, "max": 30}], (0.5, 30)),
        (["INT", {"min": 1}], (1, None)),
        (["INT", {"max": 8}], (None, 8)),
        (["INT", {"min": "1", "max": None}], (None, None)),
        (["INT", {}], (None, None)),
        (["INT"], (None, None)),
        ([["a", "b"], {"tooltip": "x"}], (None, None)),
        (["INT", [1, 2]], (None, None)),
        ("INT", (None, None)),
        (None, (None, None)),
    ],
    ids=str,
)
def test_the_range_of_an_input_is_told_with_its_error(
    config: Any, expected: tuple[float | None, float | None]
) -> None:
    about = {"type": "x", "extra_info": {"input_name": "a", "input_config": config}}

    (error,) = parse_node_errors({"9": {"errors": [about]}})

    assert (error.min, error.max) == expected


def test_pending_prompts_stand_in_the_order_in_which_they_run() -> None:
    heap = [[-132, "b"], [131, "a"], [-5.5, "c"], [131, "A"]]

    queue = Queue.from_json({"queue_running": [[1, "r", {}]], "queue_pending": heap})

    assert queue.pending == ("b", "c", "A", "a")
    assert queue.running == ("r",)
    assert "r" in queue
    assert "c" in queue
    assert "x" not in queue


def test_system_stats_name_the_version_and_the_devices() -> None:
    stats = SystemStats.from_json(
        {
            "system": {"comfyui_version": "0.27.0"},
            "devices": [{"name": "cuda:0", "vram_total": 8, "vram_free": 4}, {}],
        }
    )

    assert stats == SystemStats("0.27.0", (Device("cuda:0", 8, 4), Device("?", 0, 0)))


def test_system_stats_of_an_old_server_have_no_version() -> None:
    assert SystemStats.from_json({"system": {}, "devices": None}) == SystemStats("unknown", ())
