"""The dry run of ComfyUI's validation: every complaint, and what a real server said of hundreds."""

import gzip
import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from comfy.errors import NodeError
from comfy.graph import Graph, check_graph
from comfy.nodes import NodeTypes, missing_models, parse_object_info
from comfy.validation import complaints, output_nodes
from tests.fakes.recordings import CONTRACT, graph_of, recorded

NO_NODE_ERRORS = ("missing_node_type", "prompt_no_outputs")  # only an error for all
SHARED = Path(__file__).parents[3] / "shared" / "workflow-conversion"
CASES = sorted((SHARED / "cases").glob("*.json"))
RECORDED: NodeTypes = parse_object_info(json.loads((CONTRACT / "object_info.json").read_text()))

NODES: NodeTypes = parse_object_info(
    {
        "Make": {
            "input": {
                "required": {"size": ["INT", {"min": 1, "max": 64}]},
                "optional": {
                    "share": ["FLOAT", {"min": 0.0, "max": 1.0}],
                    "name": ["STRING", {}],
                    "flag": ["BOOLEAN", {}],
                    "old": [["a", "b", 3]],
                    "new": ["COMBO", {"options": ["a", "b"]}],
                    "none": [[]],
                    "photo": [["a.png"], {"image_upload": True}],
                    "how": ["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "a"}, {"key": "b"}]}],
                    "free": ["INT", {}],
                },
            },
            "output": ["IMAGE", "MASK"],
        },
        "Odd": {
            "input": {},
            "output": ["*", "COMBO", ["a", "b"], "IMAGE,MASK", "COMFY_MATCHTYPE_V3"],
        },
        "Save": {
            "input": {
                "required": {"images": ["IMAGE", {}]},
                "optional": {
                    "any": ["*", {}],
                    "either": ["LATENT,MASK", {}],
                    "old": [["a", "b"]],
                    "words": ["STRING", {}],
                },
            },
            "output_node": True,
        },
        "Grow": {
            "input": {
                "required": {
                    "images": ["COMFY_AUTOGROW_V3", {"template": {}}],
                    "size": ["INT", {}],
                }
            },
            "output_node": True,
        },
    }
)


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def making(**inputs: Any) -> Graph:
    """One node that makes a picture, and one that saves it."""
    return {"1": node("Make", **{"size": 8, **inputs}), "2": node("Save", images=["1", 0])}


def saving(**inputs: Any) -> Graph:
    return {
        "1": node("Make", size=8),
        "2": node("Odd"),
        "3": node("Save", **{"images": ["1", 0], **inputs}),
    }


def kinds(graph: Graph, nodes: NodeTypes = NODES) -> list[tuple[str, str, str]]:
    return [(each.node_id, each.input, each.kind) for each in complaints(graph, nodes)]


# The whole graph


def test_a_graph_that_fits_gets_no_complaint() -> None:
    assert complaints(making(share=0.5, name="x", flag=True, old="a", new="b"), NODES) == []


def test_recorded_graphs_that_ran_get_no_complaint() -> None:
    names = ["a1_txt2img_success", "a4_batch4", "a8_modelfree", "a11_text_output"]

    told = {name: complaints(graph_of(name), RECORDED) for name in names}

    assert told == {name: [] for name in names}


def test_nodes_that_a_server_lacks_are_the_only_complaints() -> None:
    graph = {"1": node("Zoo"), "2": node("Save"), "3": node("Ant"), "4": node("Zoo")}

    assert complaints(graph, NODES) == [
        NodeError("1", "Zoo", "", "missing_node_type", "Zoo"),
        NodeError("3", "Ant", "", "missing_node_type", "Ant"),
        NodeError("4", "Zoo", "", "missing_node_type", "Zoo"),
    ]


def test_a_graph_from_which_nothing_comes_out_gets_one_complaint() -> None:
    told = complaints({"1": node("Make", size=0)}, NODES)

    assert told == [NodeError("", "", "", "prompt_no_outputs", "")]


def test_output_nodes_are_those_that_the_server_calls_so() -> None:
    graph = {**making(), "3": node("Grow"), "4": node("Zoo")}

    assert output_nodes(graph, NODES) == ["2", "3"]


def test_only_nodes_that_reach_an_output_are_looked_at() -> None:
    graph = {**making(), "3": node("Make", size=0), "4": node("Make")}

    assert kinds(graph) == []
    assert kinds({**graph, "5": node("Save", images=["3", 0])}) == [
        ("3", "size", "value_smaller_than_min")
    ]


def test_complaints_stand_in_the_order_of_the_file_and_each_once() -> None:
    graph = {
        "5": node("Save", images=["1", 1]),
        "1": node("Make", size=0, old="x"),
        "2": node("Save", images=["1", 0]),
        "3": node("Save"),
    }

    assert kinds(graph) == [
        ("5", "images", "return_type_mismatch"),
        ("1", "size", "value_smaller_than_min"),
        ("1", "old", "value_not_in_list"),
        ("3", "images", "required_input_missing"),
    ]


# Values

VALUES: list[tuple[str, Any, str]] = [
    ("size", 1, ""),
    ("size", 64, ""),
    ("size", "8", ""),
    ("size", 8.9, ""),
    ("size", True, ""),
    ("size", 0, "value_smaller_than_min"),
    ("size", "0", "value_smaller_than_min"),
    ("size", 0.9, "value_smaller_than_min"),
    ("size", -(10**400), "value_smaller_than_min"),
    ("size", 65, "value_bigger_than_max"),
    ("size", "8.5", "invalid_input_type"),
    ("size", "many", "invalid_input_type"),
    ("size", "", "invalid_input_type"),
    ("size", "9" * 5000, "invalid_input_type"),
    ("size", None, "invalid_input_type"),
    ("size", {"a": 1}, "invalid_input_type"),
    ("share", "0.5", ""),
    ("share", 1, ""),
    ("share", -0.001, "value_smaller_than_min"),
    ("share", 1.001, "value_bigger_than_max"),
    ("share", "half", "invalid_input_type"),
    ("share", 10**400, "invalid_input_type"),
    ("free", -(10**20), ""),
    ("name", 5, ""),
    ("name", "", ""),
    ("flag", "yes", ""),
    ("old", 3, ""),
    ("old", "c", "value_not_in_list"),
    ("old", "", "value_not_in_list"),
    ("old", None, "value_not_in_list"),
    ("new", "a", ""),
    ("new", "A", "value_not_in_list"),
    ("how", "b", ""),
    ("how", "c", "value_not_in_list"),
    ("photo", "not-there.png", ""),
    ("unknown", "anything", ""),
]


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    VALUES,
    ids=[f"{name} {str(value)[:12]!r}" for name, value, _ in VALUES],
)
def test_values_are_checked_as_the_server_does(name: str, value: Any, kind: str) -> None:
    assert kinds(making(**{name: value})) == ([("1", name, kind)] if kind else [])


def test_a_required_input_that_is_not_there_is_a_complaint_and_an_optional_one_is_not() -> None:
    graph: Graph = {"1": node("Make"), "2": node("Save", images=["1", 0])}

    assert complaints(graph, NODES) == [
        NodeError("1", "Make", "size", "required_input_missing", "")
    ]


def test_an_input_that_grows_stands_in_the_graph_by_its_parts_only() -> None:
    graph = {"1": node("Make", size=8), "2": node("Grow", size=1, **{"images.image0": ["1", 0]})}

    assert kinds(graph) == []


def test_a_complaint_names_the_node_its_class_the_input_the_value_and_the_range() -> None:
    assert complaints(making(size=99), NODES) == [
        NodeError("1", "Make", "size", "value_bigger_than_max", "99", 1, 64)
    ]


# Links

LINKS: list[tuple[str, Any, str]] = [
    ("images", ["1", 0], ""),
    ("images", ["1", 1], "return_type_mismatch"),
    ("images", ["1", 2], "bad_linked_input"),
    ("images", ["1", -1], "bad_linked_input"),
    ("images", ["1"], "bad_linked_input"),
    ("images", ["1", 0, 0], "bad_linked_input"),
    ("images", ["1", "0"], "bad_linked_input"),
    ("images", [], "bad_linked_input"),
    ("images", ["2", 0], ""),
    ("images", ["2", 3], ""),
    ("images", ["2", 4], ""),
    ("any", ["1", 1], ""),
    ("either", ["1", 1], ""),
    ("either", ["1", 0], "return_type_mismatch"),
    ("either", ["2", 3], ""),
    ("old", ["2", 1], ""),
    ("old", ["2", 2], ""),
    ("words", ["2", 1], ""),
    ("words", ["1", 0], "return_type_mismatch"),
]


@pytest.mark.parametrize(("name", "value", "kind"), LINKS, ids=[f"{n} {v}" for n, v, _ in LINKS])
def test_links_are_checked_as_the_server_does(name: str, value: Any, kind: str) -> None:
    assert kinds(saving(**{name: value})) == ([("3", name, kind)] if kind else [])


def test_what_is_wrong_with_a_link_is_told() -> None:
    (wrong_type,) = complaints(saving(images=["1", 1]), NODES)
    (no_output,) = complaints(saving(images=["1", 7]), NODES)

    assert wrong_type.details == "MASK instead of IMAGE"
    assert no_output.details == "node 1 has no output 7"


# What real servers said


# A link to nowhere and a circle make the server's own code fail, and `check_graph` refuses them;
# only LoadImage itself knows whether a picture is there.
ELSEWHERE = {
    "exception_during_inner_validation",
    "dependency_cycle",
    "custom_validation_failed",
}


def said_of(answer: Any) -> set[tuple[str, str, str]]:
    return {
        (node_id, error["extra_info"].get("input_name", ""), error["type"])
        for node_id, each in answer["node_errors"].items()
        for error in each["errors"]
    }


ANSWERS = {
    step["note"]: (step["request"]["json"]["prompt"], said_of(step["response"]["json"]))
    for step in recorded("c1_validation_errors")
    if step.get("note")
    and "node_errors" in step["response"]["json"]
    and step["response"]["json"].get("error", {}).get("type") not in NO_NODE_ERRORS
    and not ELSEWHERE & {kind for *_, kind in said_of(step["response"]["json"])}
}


@pytest.mark.parametrize(("prompt", "said"), ANSWERS.values(), ids=ANSWERS.keys())
def test_it_complains_of_what_a_real_server_complained_of(
    prompt: Any, said: set[tuple[str, str, str]]
) -> None:
    assert set(kinds(check_graph(prompt), RECORDED)) == said


@cache
def server_nodes(server: str) -> NodeTypes:
    data = gzip.decompress((SHARED / f"object_info-{server}.json.gz").read_bytes())
    return parse_object_info(json.loads(data))


def verdict(graph: Graph, nodes: NodeTypes) -> str:
    files = {(each.node_id, each.input) for each in missing_models(graph, nodes)}
    told = complaints(graph, nodes)
    faults = [each for each in told if (each.node_id, each.input) not in files]
    if any(each.kind == "prompt_no_outputs" for each in faults):
        return "no output node"
    if faults:
        return f"rejected: {faults[0].kind}"
    return "accepted but for files it lacks" if told else "accepted"


@pytest.mark.skipif(not CASES, reason=f"the recorded cases are not in {SHARED}")
def test_nearly_always_it_says_what_a_real_server_said() -> None:
    accepted = {"accepted", "accepted but for files it lacks"}  # uploads cannot be seen from here
    agreed: Counter[bool] = Counter()
    differ = []
    for path in CASES:
        case = json.loads(path.read_text("utf-8"))
        if not case.get("api"):
            continue
        told = verdict(check_graph(case["api"]), server_nodes(case["server"]))
        same = told == case["server_says"] or {told, case["server_says"]} == accepted
        agreed[same] += 1
        if not same:
            differ.append((path.stem, case["server_says"], told))

    assert agreed.total() > 400
    assert agreed[True] >= 0.97 * agreed.total(), differ
