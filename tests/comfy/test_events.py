"""Socket frames: recorded ones become small types, and whatever else comes is nothing at all."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy.events import (
    Cached,
    Event,
    Executed,
    Executing,
    Finished,
    Progress,
    Started,
    parse_text,
)
from comfy.models import OutputFile
from tests.fakes.recordings import recorded

JOB = "0c9f0b3e-5a43-4c5c-8f7e-2f6f4d4f8a11"


def frame(kind: Any, **data: Any) -> str:
    return json.dumps({"type": kind, "data": data})


def events(name: str) -> list[Event]:
    texts = [
        json.dumps(step["json"])
        for step in recorded(name)
        if step["kind"] == "ws" and step["dir"] == "recv" and step["frame"] == "text"
    ]
    return [event for text in texts if (event := parse_text(text)) is not None]


def test_a_recorded_job_reads_from_its_start_to_its_end() -> None:
    told = events("a1_txt2img_success")

    assert [type(event) for event in told[:2]] == [Started, Cached]
    assert {type(event) for event in told[2:-1]} == {Executing, Progress, Executed}
    assert told[-1] == Finished(told[0].prompt_id)
    assert len({event.prompt_id for event in told}) == 1


@pytest.mark.parametrize(
    ("text", "event"),
    [
        (frame("execution_start", prompt_id=JOB, timestamp=1), Started(JOB)),
        (frame("execution_cached", prompt_id=JOB, nodes=["4", 5]), Cached(JOB, ("4", "5"))),
        (frame("execution_cached", prompt_id=JOB, nodes=[]), Cached(JOB, ())),
        (frame("executing", prompt_id=JOB, node="3", display_node="3"), Executing(JOB, "3")),
        (frame("executing", prompt_id=JOB, node="4.0.0.1", display_node="4"), Executing(JOB, "4")),
        (frame("executing", prompt_id=JOB, node="3"), Executing(JOB, "3")),
        (frame("executing", prompt_id=JOB, node=None), Finished(JOB)),
        (frame("progress", prompt_id=JOB, node="3", value=1, max=8), Progress(JOB, "3", 1, 8)),
        (frame("progress", prompt_id=JOB, node="3", value=0.5, max=1), Progress(JOB, "3", 0.5, 1)),
        (
            frame("progress", prompt_id=JOB, node="4.0.0.1", value=1, max=2),
            Progress(JOB, "4", 1, 2),
        ),
        (
            frame("progress", prompt_id=JOB, node="12:5", value=1, max=2),
            Progress(JOB, "12:5", 1, 2),
        ),
        (frame("progress", prompt_id=JOB, value=1, max=2), Progress(JOB, "", 1, 2)),
        (
            frame("executed", prompt_id=JOB, node="9", output={"images": [{"filename": "a.png"}]}),
            Executed(JOB, "9", (OutputFile("9", "a.png"),), ()),
        ),
    ],
    ids=[
        "start",
        "cached",
        "nothing cached",
        "a node",
        "a node of a subgraph that grew at run time",
        "a node without display node",
        "the end",
        "a step",
        "half a step",
        "a step in a subgraph that grew at run time",
        "a step in a subgraph of the editor",
        "a step of no node",
        "what a node put out",
    ],
)
def test_what_is_needed_is_read(text: str, event: Event) -> None:
    assert parse_text(text) == event


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not JSON",
        '{"type": "executing", "data": {"node"',
        "null",
        "[]",
        "7",
        "{}",
        frame("status", status={"exec_info": {"queue_remaining": 0}}, sid="x"),
        frame("feature_flags", supports_preview_metadata=True),
        frame("executed", prompt_id=JOB, node="9", output=None),
        frame("execution_success", prompt_id=JOB, timestamp=1),
        frame("execution_error", prompt_id=JOB, node_id="9", exception_type="ExecutionBlocked"),
        frame("execution_interrupted", prompt_id=JOB, node_id="9"),
        frame("progress_state", prompt_id=JOB, nodes={}),
        json.dumps({"type": "progress_state", "data": {}}, separators=(",", ":")),
        frame("logs", entries=[]),
        frame("a custom node's own", value=1),
        frame(5, prompt_id=JOB),
        frame("execution_start"),
        frame("execution_start", prompt_id=7),
        frame("execution_start", prompt_id=None),
        frame("execution_cached", prompt_id=JOB, nodes=None),
        frame("executing", node="3"),
        frame("executing", node=None),
        frame("progress", prompt_id=JOB, node="3", value="1", max=8),
        frame("progress", prompt_id=JOB, node="3", value=1),
        frame("progress", node="3", value=1, max=8),
        json.dumps({"type": "executing", "data": None}),
        json.dumps({"type": "executing", "data": [JOB]}),
        json.dumps({"data": {"prompt_id": JOB}}),
        pytest.param("[" * 100_000, id="a hundred thousand levels"),
        pytest.param("9" * 5000, id="a number of 5000 digits"),
    ],
)
def test_what_is_unknown_or_broken_is_nothing(text: str) -> None:
    assert parse_text(text) is None


@given(st.text())
def test_any_text_is_survived(text: str) -> None:
    assert parse_text(text) is None


@given(
    st.sampled_from(["execution_start", "execution_cached", "executing", "progress"]),
    st.dictionaries(
        st.sampled_from(["prompt_id", "node", "display_node", "nodes", "value", "max"]),
        st.none() | st.text(max_size=3) | st.integers() | st.floats() | st.lists(st.integers()),
    ),
)
def test_any_data_in_a_known_frame_is_survived(kind: str, data: dict[str, Any]) -> None:
    event = parse_text(frame(kind, **data))

    assert event is None or event.prompt_id == data["prompt_id"]
