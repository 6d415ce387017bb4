"""How far a prompt is: the fold over its events."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy.events import Cached, Event, Executing, Finished, Progress, Started, parse_text
from comfy.progress import RunProgress
from tests.fakes.recordings import graph_of, recorded

JOB = "0c9f0b3e-5a43-4c5c-8f7e-2f6f4d4f8a11"
GRAPH = {
    "1": {"class_type": "Loader", "inputs": {}},
    "2": {"class_type": "KSampler", "inputs": {"steps": 8}},
    "3": {"class_type": "SaveImage", "inputs": {}},
}


def fraction(*events: Event) -> float:
    progress = RunProgress.of(GRAPH)
    for event in events:
        progress = progress.after(event)
    return progress.fraction


@pytest.mark.parametrize(
    ("inputs", "weight"),
    [
        ({"steps": 8}, 8.0),
        ({"steps": 10**400}, 10_000.0),
        ({"steps": 0}, 1.0),
        ({"steps": ["4", 0]}, 1.0),
        ({"sigmas": ["4", 0], "guider": ["5", 0]}, 20.0),
        ({"text": "a cat"}, 1.0),
    ],
    ids=[
        "sampler",
        "steps without end",
        "no steps",
        "linked steps",
        "advanced sampler",
        "any other",
    ],
)
def test_a_node_weighs_as_many_steps_as_it_takes(inputs: dict[str, object], weight: float) -> None:
    assert RunProgress.of({"1": {"class_type": "X", "inputs": inputs}}).weights == {"1": weight}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], 0.0),
        ([Started(JOB)], 0.0),
        ([Cached(JOB, ("1",))], 0.1),
        ([Cached(JOB, ("1", "9"))], 0.1),
        ([Executing(JOB, "1")], 0.0),
        ([Executing(JOB, "1"), Executing(JOB, "2")], 0.1),
        ([Executing(JOB, "2"), Executing(JOB, "2")], 0.0),
        ([Progress(JOB, "2", 4, 8)], 0.4),
        ([Progress(JOB, "2", 9, 8)], 0.8),
        ([Progress(JOB, "2", 10**400, 1)], 0.8),
        ([Progress(JOB, "2", -1, 8)], 0.0),
        ([Progress(JOB, "2", 4, 0)], 0.0),
        ([Cached(JOB, ("2",)), Progress(JOB, "2", 4, 8)], 0.8),
        ([Progress(JOB, "2", 4, 8), Progress(JOB, "2", 1, 8)], 0.4),
        ([Progress(JOB, "2", 8, 8), Executing(JOB, "3")], 0.8),
        ([Progress(JOB, "2", 8, 8), Finished(JOB)], 0.8),
    ],
    ids=[
        "nothing happened",
        "started",
        "one node was cached",
        "a node of nobody's was cached",
        "a node runs",
        "the next node runs",
        "the same node is told again",
        "half of the steps",
        "more steps than there are",
        "steps without end",
        "steps below nothing",
        "no steps at all",
        "steps of a cached node",
        "steps that go back",
        "the sampler is done",
        "the end",
    ],
)
def test_the_fraction_follows_the_events(events: list[Event], expected: float) -> None:
    assert math.isclose(fraction(*events), expected)


def test_a_node_that_begins_starts_at_nothing() -> None:
    progress = RunProgress.of(GRAPH).after(Progress(JOB, "2", 4, 8)).after(Executing(JOB, "3"))

    assert (progress.node_id, progress.part) == ("3", 0.0)
    assert progress.done == {"2"}


def test_a_graph_of_nothing_is_never_further_than_its_start() -> None:
    assert RunProgress.of({}).after(Executing(JOB, "1")).fraction == 0.0


def test_a_recorded_job_comes_close_to_the_end_and_never_goes_back() -> None:
    progress = RunProgress.of(graph_of("a1_txt2img_success"))
    seen = [0.0]

    for step in recorded("a1_txt2img_success"):
        if step["kind"] == "ws" and step.get("frame") == "text":
            event = parse_text(json.dumps(step["json"]))
            progress = progress.after(event) if event else progress
            seen.append(progress.fraction)

    assert seen == sorted(seen)
    assert 0.8 < seen[-1] <= 1.0


NODE_IDS = st.sampled_from(["1", "2", "3", "9", ""])
NUMBERS = st.integers(-10, 10) | st.floats(-10, 10)
EVENTS = st.one_of(
    st.builds(Cached, st.just(JOB), st.lists(NODE_IDS).map(tuple)),
    st.builds(Executing, st.just(JOB), NODE_IDS),
    st.builds(Progress, st.just(JOB), NODE_IDS, NUMBERS, NUMBERS),
)


@given(st.lists(EVENTS))
def test_whatever_comes_the_fraction_stays_between_0_and_1_and_never_falls(
    events: list[Event],
) -> None:
    progress, seen = RunProgress.of(GRAPH), [0.0]

    for event in events:
        progress = progress.after(event)
        seen.append(progress.fraction)

    assert seen == sorted(seen)
    assert seen[-1] <= 1.0
