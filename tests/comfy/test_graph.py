"""API-format graphs: what is refused, how links are read, and that copies are copies."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy.errors import WorkflowFileError
from comfy.graph import (
    InputRef,
    Link,
    as_link,
    check_graph,
    links,
    parse_graph,
    title,
    upstream,
    with_inputs,
    with_output_folder,
)
from tests.fakes.recordings import graph_of, requests

SAVE = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}}
EMPTY = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64}}
TWO: dict[str, Any] = {"1": EMPTY, "2": SAVE}


@pytest.mark.parametrize("text", [json.dumps(TWO), json.dumps(TWO).encode()], ids=["str", "bytes"])
def test_a_graph_is_read_as_it_stands_in_the_file(text: str | bytes) -> None:
    assert parse_graph(text) == TWO


def test_the_body_of_a_post_is_read_as_the_graph_in_it() -> None:
    assert parse_graph(json.dumps({"prompt": TWO, "client_id": "x"})) == TWO


def test_a_node_without_inputs_gets_none() -> None:
    assert parse_graph('{"1": {"class_type": "Note"}}')["1"]["inputs"] == {}


def test_recorded_graphs_are_read() -> None:
    graph = graph_of("a1_txt2img_success")

    assert parse_graph(json.dumps(graph)) == graph


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        (json.dumps(TWO) + "}", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"1": ' + "9" * 5000 + "}", "is not JSON"),
        (b"\xff\xfe{", "is not JSON"),
        ("{}", "holds no nodes"),
        ("[]", "holds no nodes"),
        ("null", "holds no nodes"),
        ('"text"', "holds no nodes"),
        ('{"prompt": {}}', "holds no nodes"),
        ('{"1": null}', "no class_type at node '1'"),
        ('{"1": []}', "no class_type at node '1'"),
        ('{"1": {"inputs": {}}}', "no class_type at node '1'"),
        ('{"1": {"class_type": 5}}', "no class_type at node '1'"),
        ('{"1": {"class_type": "A", "inputs": []}}', "inputs that are not an object at node '1'"),
        ('{"1": {"class_type": "A", "inputs": null}}', "inputs that are not an object"),
        (
            '{"1": {"class_type": "A", "inputs": {"x": ["9", 0]}}}',
            "links 1.x to node '9', which is not there",
        ),
        ('{"nodes": [], "links": []}', "is in the editor's format"),
    ],
    ids=[
        "nothing",
        "half a file",
        "garbage behind it",
        "a hundred thousand levels",
        "a number of 5000 digits",
        "UTF-16",
        "no nodes",
        "a list",
        "null",
        "a text",
        "a body without nodes",
        "a node that is null",
        "a node that is a list",
        "a node without class",
        "a class that is a number",
        "inputs as a list",
        "inputs that are null",
        "a link to nowhere",
        "the editor's format",
    ],
)
def test_what_is_no_graph_is_refused_with_a_reason(text: str | bytes, told: str) -> None:
    with pytest.raises(WorkflowFileError) as caught:
        parse_graph(text)

    assert told in str(caught.value)


def test_the_editors_document_as_recorded_is_refused() -> None:
    document = requests("m1_ui_format")[1]["request"]["json"]

    with pytest.raises(WorkflowFileError, match=r"Export \(API\)"):
        check_graph(document)


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
