"""API-format graphs: what is refused, how links are read, and that copies are copies."""

import copy
import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy.errors import WorkflowFileError
from comfy.graph import (
    LINKS_MAX,
    InputRef,
    Link,
    as_link,
    check_graph,
    links,
    title,
    upstream,
    with_inputs,
    with_output_folder,
)
from tests.fakes.recordings import graph_of

SAVE = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}}
EMPTY = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64}}
TWO: dict[str, Any] = {"1": EMPTY, "2": SAVE}


def test_a_graph_stays_as_it_stands_in_the_file() -> None:
    assert check_graph(TWO) == TWO


def test_the_body_of_a_post_is_read_as_the_graph_in_it() -> None:
    assert check_graph({"prompt": TWO, "client_id": "x"}) == TWO


def test_a_file_of_too_many_links_is_refused() -> None:
    """Following them all would keep the bot busy for ever."""
    many = {f"image{number}": ["1", 0] for number in range(LINKS_MAX - 1)}
    full = {**TWO, "3": {"class_type": "Join", "inputs": {**many, "text": "no link"}}}

    assert LINKS_MAX == 10_000
    assert check_graph(full) == full
    with pytest.raises(WorkflowFileError, match=r"^has 10001 links, and 10000 is the most\.$"):
        check_graph({**full, "4": SAVE})


def test_a_node_without_inputs_gets_none() -> None:
    assert check_graph({"1": {"class_type": "Note"}})["1"]["inputs"] == {}


def test_recorded_graphs_are_taken() -> None:
    graph = graph_of("a1_txt2img_success")

    assert check_graph(graph) == graph


def test_what_else_a_node_holds_is_left_out() -> None:
    more = {"is_changed": [math.nan], "pos": [1, 2], "mode": 4}
    node = {"class_type": "A", "inputs": {"x": 1}, "_meta": {"title": "Mine"}}

    graph = check_graph({"1": {**node, **more}})

    assert graph == {"1": node}


def test_checking_changes_nothing_in_what_it_is_given() -> None:
    given_graph = {"1": {"class_type": "A", "is_changed": ["x"]}, "2": {"class_type": "B"}}
    before = copy.deepcopy(given_graph)

    check_graph(given_graph)

    assert given_graph == before


def one(**inputs: Any) -> dict[str, Any]:
    return {"1": {"class_type": "A", "inputs": inputs}}


def chain(*ids: str) -> dict[str, Any]:
    """Each node needs the next one."""
    return {
        key: {"class_type": "A", "inputs": {"x": [after, 0]}}
        for key, after in itertools.pairwise(ids)
    }


def empty_nodes(count: int) -> dict[str, Any]:
    return {str(number): {"class_type": "A"} for number in range(count)}


REFUSED: dict[str, tuple[Any, str]] = {
    "no nodes": ({}, "holds no nodes. Save it again in ComfyUI."),
    "a list": ([], "holds no nodes"),
    "null": (None, "holds no nodes"),
    "a text": ("text", "holds no nodes"),
    "a body without nodes": ({"prompt": {}}, "holds no nodes"),
    "a node that is null": ({"1": None}, "no class_type at node '1'"),
    "a node that is a list": ({"1": []}, "no class_type at node '1'"),
    "a node without class": ({"1": {"inputs": {}}}, "no class_type at node '1'"),
    "a class that is a number": ({"1": {"class_type": 5}}, "no class_type at node '1'"),
    "a long id": ({"x" * 5000: {}}, f"no class_type at node '{'x' * 60}'"),
    "inputs as a list": (
        {"1": {"class_type": "A", "inputs": []}},
        "inputs that are not an object at node '1'",
    ),
    "inputs that are null": (
        {"1": {"class_type": "A", "inputs": None}},
        "inputs that are not an object",
    ),
    "a link to nowhere": (one(x=["9", 0]), "links 1.x to node '9', which is not there."),
    "not a number": (one(x=math.nan), "holds 1.x, which is not a finite number."),
    "infinity": (one(x=-math.inf), "holds 1.x, which is not a finite number."),
    "infinity in a list": (one(x=[1, [2.5, math.inf]]), "holds 1.x, which is not a finite"),
    "not a number in an object": (one(x={"a": [{"b": math.nan}]}), "holds 1.x, which is not"),
    "infinity where a link's slot stands": (one(x=["1", math.inf]), "holds 1.x, which is not"),
    "a circle": (chain("1", "2", "3", "1"), "links its nodes in a circle: 1 → 2 → 3 → 1."),
    "a node linked to itself": (chain("7", "7"), "links its nodes in a circle: 7 → 7."),
    "2001 nodes": (empty_nodes(2001), "has 2001 nodes, and 2000 is the most."),
    "2001 nodes in a body": ({"prompt": empty_nodes(2001)}, "has 2001 nodes"),
}


@pytest.mark.parametrize(("data", "told"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_graph_is_refused_with_a_reason(data: Any, told: str) -> None:
    with pytest.raises(WorkflowFileError) as caught:
        check_graph(data)

    assert told in str(caught.value)


def test_a_circle_is_found_behind_what_leads_to_it() -> None:
    graph = {**chain("2", "3", "4", "2"), "1": {"class_type": "A", "inputs": {"x": ["2", 0]}}}

    with pytest.raises(WorkflowFileError, match="in a circle") as caught:
        check_graph(graph)

    assert "1 →" not in str(caught.value)


def test_two_thousand_nodes_in_a_row_are_a_graph() -> None:
    graph = chain(*map(str, range(2000))) | {"1999": {"class_type": "A", "inputs": {}}}

    assert check_graph(graph) == graph


def test_nodes_that_meet_again_are_no_circle() -> None:
    graph = {
        **chain("1", "2", "4"),
        "3": {"class_type": "A", "inputs": {"x": ["2", 0], "y": ["4", 0]}},
        "4": {"class_type": "A", "inputs": {}},
    }

    assert check_graph(graph) == graph


@pytest.mark.parametrize(
    ("value", "link"),
    [
        (["4", 0], Link("4", 0)),
        (["12:5", 1], Link("12:5", 1)),
        ([4, 0], None),
        (["4"], None),
        (["4", 0, 1], None),
        (["4", "0"], None),
        (["4", 0.0], None),
        ("4", None),
        (None, None),
        ({"__value__": ["4", 0]}, None),
    ],
    ids=str,
)
def test_a_link_is_an_id_in_letters_and_a_slot(value: object, link: Link | None) -> None:
    assert as_link(value) == link


def test_links_to_nodes_that_are_not_there_are_left_out() -> None:
    graph = {"1": {"class_type": "A", "inputs": {"a": ["1", 0], "b": ["9", 0], "c": 3}}}

    assert list(links(graph, "1")) == [("a", Link("1", 0))]


def test_upstream_holds_the_node_itself_and_all_it_depends_on() -> None:
    graph = graph_of("a1_txt2img_success")

    assert upstream(graph, "3") == {"3", "4", "5", "6", "7"}


def test_upstream_of_a_cycle_ends() -> None:
    graph = {
        "1": {"class_type": "A", "inputs": {"x": ["2", 0]}},
        "2": {"class_type": "A", "inputs": {"x": ["1", 0], "y": ["2", 0]}},
    }

    assert upstream(graph, "1") == {"1", "2"}


@pytest.mark.parametrize(
    ("node", "shown"),
    [
        ({"class_type": "KSampler", "_meta": {"title": "Paint"}}, "Paint"),
        ({"class_type": "KSampler", "_meta": {"title": ""}}, "KSampler"),
        ({"class_type": "KSampler", "_meta": {"title": None}}, "KSampler"),
        ({"class_type": "KSampler", "_meta": None}, "KSampler"),
        ({"class_type": "KSampler", "_meta": ["Paint"]}, "KSampler"),
        ({"class_type": "KSampler"}, "KSampler"),
        ({}, "7"),
    ],
    ids=["named", "empty", "null", "null for all", "a list for all", "not named", "nothing known"],
)
def test_a_title_is_what_the_editor_shows(node: dict[str, Any], shown: str) -> None:
    assert title({"7": node}, "7") == shown


def test_a_node_that_is_not_there_is_called_by_its_id() -> None:
    assert title({}, "7") == "7"


@given(st.dictionaries(st.sampled_from(["width", "height"]), st.integers()))
def test_new_values_change_the_addressed_inputs_and_nothing_else(values: dict[str, int]) -> None:
    before = copy.deepcopy(TWO)

    changed = with_inputs(TWO, {InputRef("1", name): value for name, value in values.items()})

    assert before == TWO
    assert changed["2"] == TWO["2"]
    assert changed["1"] == {"class_type": "EmptyImage", "inputs": EMPTY["inputs"] | values}  # type: ignore[operator]


def test_savers_write_into_the_folder_of_their_job() -> None:
    graph = {"1": EMPTY, "12:5": SAVE, "3": SAVE}

    changed = with_output_folder(graph, "abc")

    assert changed["12:5"]["inputs"]["filename_prefix"] == "comfycord/abc/12_5"
    assert changed["3"]["inputs"]["filename_prefix"] == "comfycord/abc/3"
    assert changed["1"] == EMPTY
    assert SAVE["inputs"]["filename_prefix"] == "x"  # type: ignore[index]


def test_an_address_reads_as_node_and_input() -> None:
    assert str(InputRef("12:5", "text")) == "12:5.text"
