"""Subgraphs and old group nodes, and files whose parts do not fit together."""

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfy.convert import convert
from comfy.errors import ConversionError, WorkflowFileError
from comfy.graph import check_graph
from tests.comfy.editor_files import (
    BYPASSED,
    INFO,
    MUTED,
    OUTSIDE,
    From,
    Json,
    converted,
    file,
    group,
    inputs_of,
    node,
    subgraph,
)

LOADED = node(1, "LoadImage", ["a.png"])
IMAGE = {"image": "a.png"}
INVERT = subgraph(
    "Invert",
    node(1, "ImageInvert", image=From(OUTSIDE)),
    inputs=["image"],
    outputs=[From(1, 0, "IMAGE")],
)


def save(number: int, images: From | None) -> Json:
    return node(number, "PreviewImage", images=images)


def prompt(kind: str = "CLIPTextEncode", **inner: Any) -> Json:
    """A subgraph with one prompt in it, whose text is an input of the subgraph."""
    encode = node(1, kind, ["inner"], text=From(OUTSIDE))
    return subgraph("Prompt", encode | inner, inputs=["text"], outputs=[From(1)])


# Subgraphs: links


def test_links_lead_into_a_subgraph_and_out_of_it() -> None:
    nodes = [LOADED, node(5, "Invert", image=From(1)), save(9, From(5))]

    inputs = converted(*nodes, subgraphs=[INVERT])

    assert inputs == {"1": IMAGE, "5:1": {"image": ["1", 0]}, "9": {"images": ["5:1", 0]}}


def test_each_instance_of_a_subgraph_has_its_own_nodes() -> None:
    nodes = [node(5, "Invert", image=From(1)), node(6, "Invert", image=From(5))]

    inputs = converted(LOADED, *nodes, save(9, From(6)), subgraphs=[INVERT])

    assert inputs == {
        "1": IMAGE,
        "5:1": {"image": ["1", 0]},
        "6:1": {"image": ["5:1", 0]},
        "9": {"images": ["6:1", 0]},
    }


def test_subgraphs_stand_in_subgraphs() -> None:
    twice = subgraph(
        "Twice",
        node(3, "Invert", image=From(OUTSIDE)),
        node(4, "Invert", image=From(3)),
        inputs=["image"],
        outputs=[From(4, 0, "IMAGE")],
    )

    inputs = converted(
        LOADED, node(5, "Twice", image=From(1)), save(9, From(5)), subgraphs=[twice, INVERT]
    )

    assert inputs == {
        "1": IMAGE,
        "5:3:1": {"image": ["1", 0]},
        "5:4:1": {"image": ["5:3:1", 0]},
        "9": {"images": ["5:4:1", 0]},
    }


@pytest.mark.parametrize(
    "instance",
    [
        node(5, "Invert", renamed=From(1)),
        node(5, "Invert", other=None, image=From(1)),
    ],
    ids=["by number where no name fits", "by name"],
)
def test_the_sockets_of_an_instance_are_found(instance: Json) -> None:
    inputs = converted(LOADED, instance, subgraphs=[INVERT])

    assert inputs["5:1"] == {"image": ["1", 0]}


@pytest.mark.parametrize(
    "instance",
    [node(5, "Invert"), node(5, "Invert", image=None), node(5, "Invert", a=From(1), b=From(1))],
    ids=["no sockets", "not linked", "neither name nor number"],
)
def test_an_input_that_nothing_feeds_stays_open(instance: Json) -> None:
    inputs = converted(LOADED, instance, subgraphs=[INVERT])

    assert inputs["5:1"] == {}


@pytest.mark.parametrize(
    ("inner", "slot"),
    [
        ([node(1, "ImageInvert", image=From(OUTSIDE, 7))], 0),
        ([node(1, "ImageInvert")], 3),
        ([], 0),
    ],
    ids=["input that is not declared", "output that is not declared", "nothing in it"],
)
def test_links_to_what_a_subgraph_does_not_have_are_dropped(inner: list[Json], slot: int) -> None:
    definition = subgraph("Odd", *inner, inputs=["image"])

    inputs = converted(
        LOADED, node(5, "Odd", image=From(1)), save(9, From(5, slot)), subgraphs=[definition]
    )

    assert inputs == {"1": IMAGE, "9": {}} | ({"5:1": {}} if inner else {})


def test_a_link_through_a_subgraph_without_a_node_is_followed() -> None:
    through = subgraph("Through", inputs=["a", "b"], outputs=[From(OUTSIDE, 1)])

    inputs = converted(
        LOADED, node(5, "Through", a=None, b=From(1)), save(9, From(5)), subgraphs=[through]
    )

    assert inputs == {"1": IMAGE, "9": {"images": ["1", 0]}}


def test_a_bypassed_node_before_the_output_of_a_subgraph_is_followed() -> None:
    inner = subgraph(
        "Inner",
        node(1, "ImageBatch", mode=BYPASSED, image1=From(OUTSIDE), image2=None),
        inputs=["image"],
        outputs=[From(1, 0, "IMAGE")],
    )

    inputs = converted(LOADED, node(5, "Inner", image=From(1)), save(9, From(5)), subgraphs=[inner])

    assert inputs == {"1": IMAGE, "9": {"images": ["1", 0]}}


def test_an_inner_node_that_is_muted_is_gone_and_its_links_with_it() -> None:
    inner = subgraph(
        "Inner",
        node(1, "ImageInvert", mode=MUTED, image=From(OUTSIDE)),
        node(2, "ImageInvert", image=From(1)),
        inputs=["image"],
        outputs=[From(1, 0, "IMAGE")],
    )

    inputs = converted(LOADED, node(5, "Inner", image=From(1)), save(9, From(5)), subgraphs=[inner])

    assert inputs == {"1": IMAGE, "5:2": {}, "9": {}}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(MUTED, {}), (BYPASSED, {"images": ["1", 0]})],
    ids=["muted", "bypassed"],
)
def test_an_instance_that_does_not_run_drops_all_its_nodes(mode: int, expected: Json) -> None:
    instance = node(5, "Invert", mode=mode, gives=["IMAGE"], image=From(1, 0, "IMAGE"))

    inputs = converted(LOADED, instance, save(9, From(5)), subgraphs=[INVERT])

    assert inputs == {"1": IMAGE, "9": expected}


def test_a_set_node_outside_serves_a_get_node_in_a_subgraph() -> None:
    inner = subgraph("Inner", node(1, "GetNode", ["x"]), node(2, "ImageInvert", image=From(1)))

    inputs = converted(
        LOADED, node(3, "SetNode", ["x"], IMAGE=From(1)), node(5, "Inner"), subgraphs=[inner]
    )

    assert inputs == {"1": IMAGE, "5:2": {"image": ["1", 0]}}


# Subgraphs: values


@pytest.mark.parametrize(
    ("instance", "expected"),
    [
        (node(5, "Prompt", ["outer"], text=None), "outer"),
        (node(5, "Prompt", ["out // er"], text=None), "out "),
        (node(5, "Prompt", [None], text=None), "inner"),
        (node(5, "Prompt", [], text=None), "inner"),
        (node(5, "Prompt", text=None), "inner"),
        (node(5, "Prompt", {"text": "by name"}, text=None), "inner"),
        (node(5, "Prompt", ["outer"], properties={"proxyWidgets": [["1", "text"]]}), "outer"),
        (node(5, "Prompt", ["outer"], properties={"proxyWidgets": [[1, "text", 0]]}), "outer"),
        (node(5, "Prompt", ["outer"], properties={"proxyWidgets": [["-1", "text"]]}), "outer"),
        (node(5, "Prompt", ["outer"], properties={"proxyWidgets": [["8", "text"]]}), "inner"),
        (node(5, "Prompt", [None], properties={"proxyWidgets": [["1", "text"]]}), "inner"),
    ],
    ids=[
        "by its input",
        "served as usual",
        "null",
        "no values",
        "nothing saved",
        "an object",
        "by proxy",
        "by proxy with number",
        "by proxy of the input",
        "by proxy of another node",
        "by proxy, null",
    ],
)
def test_a_promoted_widget_has_the_value_of_the_instance(instance: Json, expected: str) -> None:
    inputs = converted(instance, subgraphs=[prompt()])

    assert inputs == {"5:1": {"text": expected}}


def test_each_instance_has_its_own_promoted_value() -> None:
    nodes = [node(5, "Prompt", ["one"], text=None), node(6, "Prompt", ["two"], text=None)]

    inputs = converted(*nodes, subgraphs=[prompt()])

    assert inputs == {"5:1": {"text": "one"}, "6:1": {"text": "two"}}


def test_values_belong_to_the_promoted_inputs_only() -> None:
    inner = subgraph(
        "Inner",
        node(1, "ImageScale", ["area", 1, 2, "center"], image=From(OUTSIDE), width=From(-10, 1)),
        node(2, "EmptyImage", [3, 4, 5, 6], width=From(OUTSIDE, 1), height=From(OUTSIDE, 2)),
        inputs=["image", "width", "height"],
    )

    inputs = converted(
        LOADED,
        node(5, "Inner", [70, 80], image=From(1), width=None, height=None),
        subgraphs=[inner],
    )

    assert inputs["5:1"] == {
        "image": ["1", 0], "upscale_method": "area", "width": 70, "height": 2, "crop": "center",
    }  # fmt: skip
    assert inputs["5:2"] == {"width": 70, "height": 80, "batch_size": 5, "color": 6}


def test_a_promoted_widget_that_nobody_set_gives_all_inner_widgets_the_value_of_the_first() -> None:
    inner = subgraph(
        "Inner",
        node(1, "Gone", [0], MUTED, width=From(OUTSIDE, 0, "INT")),
        node(2, "EmptyLatentImage", [64, 65, 1], width=From(OUTSIDE)),
        node(3, "EmptyLatentImage", [74, 75, 1], width=From(OUTSIDE)),
        inputs=["width"],
    )

    inputs = converted(node(5, "Inner", [None], width=None), subgraphs=[inner])

    assert inputs["5:2"]["width"] == inputs["5:3"]["width"] == 64


def test_a_widget_without_a_name_in_its_class_is_no_value() -> None:
    inner = subgraph("Inner", node(1, "Two", [1, 2], left=From(OUTSIDE)), inputs=["left"])
    inner["nodes"][0]["inputs"][0]["name"] = "gone"

    inputs = converted(node(5, "Inner", left=None), subgraphs=[inner])

    assert inputs == {"5:1": {"left": 1, "right": 2}}


@pytest.mark.parametrize(
    "source",
    [node(1, "PrimitiveNode", ["linked"]), node(1, "PrimitiveString", ["linked"])],
    ids=["primitive", "node"],
)
def test_a_link_from_outside_wins_over_a_promoted_value(source: Json) -> None:
    instance = node(5, "Prompt", ["outer"], text=From(1))

    inputs = converted(source, instance, subgraphs=[prompt()])

    wanted = "linked" if source["type"] == "PrimitiveNode" else ["1", 0]
    assert inputs["5:1"] == {"text": wanted}


@pytest.mark.parametrize(
    ("outer", "expected"),
    [
        (node(5, "Outer", ["far"], text=None), "far"),
        (node(5, "Outer", ["far"], properties={"proxyWidgets": [["3", "text"]]}), "far"),
    ],
    ids=["by its input", "by proxy"],
)
def test_a_value_is_promoted_through_two_subgraphs(outer: Json, expected: str) -> None:
    nested = node(3, "Prompt", text=From(OUTSIDE))
    nested["inputs"][0]["widget"] = {"name": "text"}
    if outer["properties"]:
        nested["inputs"][0]["link"] = None
    middle = subgraph("Outer", nested, inputs=["text"])

    inputs = converted(outer, subgraphs=[middle, prompt()])

    assert inputs == {"5:3:1": {"text": expected}}


def test_a_value_promoted_to_nobody_is_left_out() -> None:
    inner = subgraph("Inner", node(1, "PrimitiveString", ["x"]), inputs=["text"])
    inner["inputs"] = [{"name": "text", "linkIds": [44]}, {"name": "more"}]

    inputs = converted(node(5, "Inner", ["outer", "y"]), subgraphs=[inner])

    assert inputs == {"5:1": {"value": "x"}}


# Old group nodes


TEXT_AND_SIZE = group(
    node(0, "CLIPTextEncode", ["a"], clip=None),
    node(0, "CLIPTextEncode", ["b"], title="Bad", clip=None),
    node(0, "EmptyLatentImage", [1, 2, 3]),
)


@pytest.mark.parametrize("name", ["workflow/Both", "workflow>Both"])
def test_a_group_node_becomes_its_nodes_with_its_values_in_a_row(name: str) -> None:
    instance = node(
        20, name, ["cat", "dog", 640, 480, 1], **{"clip": From(1, 1), "Bad clip": From(2, 1)}
    )
    loaders = [
        node(1, "CheckpointLoaderSimple", ["x"]),
        node(2, "CheckpointLoaderSimple", ["y"]),
    ]

    inputs = converted(*loaders, instance, groups={"Both": TEXT_AND_SIZE})

    assert inputs == {
        "1": {"ckpt_name": "x"},
        "2": {"ckpt_name": "y"},
        "20:0": {"text": "cat", "clip": ["1", 1]},
        "20:1": {"text": "dog", "clip": ["2", 1]},
        "20:2": {"width": 640, "height": 480, "batch_size": 1},
    }


@pytest.mark.parametrize(
    ("saved", "expected"),
    [
        (["cat"], ["cat", "b", 1]),
        ([], ["a", "b", 1]),
        (None, ["a", "b", 1]),
        ({"text": "cat"}, ["a", "b", 1]),
    ],
    ids=["too few", "none", "nothing saved", "an object"],
)
def test_what_a_group_node_does_not_hold_its_nodes_do(saved: Any, expected: list[Any]) -> None:
    inputs = converted(node(20, "workflow/Both", saved), groups={"Both": TEXT_AND_SIZE})

    found = [inputs["20:0"]["text"], inputs["20:1"]["text"], inputs["20:2"]["width"]]
    assert found == expected


def test_links_in_a_group_win_and_its_open_outputs_are_numbered_in_a_row() -> None:
    chain = group(
        node(0, "LoadImage", ["a.png"]),
        node(0, "ImageInvert"),
        node(0, "ImageBatch", image1=None, image2=None),
        links=[[0, 0, 1, 0, 3, "IMAGE"], [1, 0, 2, 1, 3], [1, 0, 9, 0, 3, "IMAGE"]],
    )
    instance = node(20, "workflow/Chain", ["b.png"], gives=["MASK", "IMAGE"], image1=From(1))

    inputs = converted(
        LOADED,
        instance,
        node(8, "MaskToImage", mask=From(20, 0)),
        save(9, From(20, 1)),
        save(10, From(20, 2)),
        groups={"Chain": chain},
    )

    assert inputs["20:0"] == {"image": "b.png"}
    assert inputs["20:1"] == {"?0": ["20:0", 0]}
    assert inputs["20:2"] == {"image1": ["1", 0], "image2": ["20:1", 0]}
    assert inputs["8"] == {"mask": ["20:0", 1]}
    assert inputs["9"] == {"images": ["20:2", 0]}
    assert inputs["10"] == {}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, ["20:1", 0]),
        ({"external": [[0, 0, "IMAGE"]]}, ["20:0", 0]),
        ({"config": {"0": {"output": {"0": {"visible": True}}}}}, ["20:0", 0]),
        ({"config": {"1": {"output": {"0": {"visible": False}}}}}, None),
    ],
    ids=["used inside", "used outside too", "shown", "hidden"],
)
def test_outputs_of_a_group_that_are_used_inside_need_a_reason_to_show(
    more: Json, expected: Any
) -> None:
    chain = group(
        node(0, "EmptyImage", [1, 2, 3, 4]),
        node(0, "ImageInvert", image=None),
        links=[[0, 0, 1, 0, 1, "IMAGE"]],
        **more,
    )

    inputs = converted(node(20, "workflow/C"), save(9, From(20)), groups={"C": chain})

    assert inputs["9"] == ({} if expected is None else {"images": expected})


def test_a_group_of_nothing_is_nothing() -> None:
    groups: Json = {"C": {}}

    assert converted(node(20, "workflow/C"), save(9, From(20)), groups=groups) == {"9": {}}


def test_a_group_node_without_its_definition_is_a_class_that_is_missing() -> None:
    with pytest.raises(ConversionError) as caught:
        converted(node(20, "workflow/Gone"), groups={"Other": {}})

    assert caught.value.missing == ("workflow/Gone",)


def test_a_group_of_unknown_classes_names_them() -> None:
    chain = group(node(0, "Unknown", [1, 2]), node(0, "Two", [3, 4]))
    workflow = file(node(20, "workflow/C", [5, 6, 7, 8]), groups={"C": chain})

    with pytest.raises(ConversionError) as caught:
        convert(workflow, INFO)

    assert caught.value.missing == ("Unknown",)
    assert inputs_of(workflow, INFO | {"Unknown": {}})["20:1"] == {"left": 7, "right": 8}


# Nonsense


@pytest.mark.parametrize(
    "inner",
    [
        [subgraph("A", node(1, "A"))],
        [subgraph("A", node(1, "B")), subgraph("B", node(1, "A"), node(2, "A"))],
    ],
    ids=["itself", "each other"],
)
def test_subgraphs_that_contain_themselves_are_refused(inner: list[Json]) -> None:
    with pytest.raises(ConversionError, match="without end"):
        converted(node(1, "A"), subgraphs=inner)


@pytest.mark.parametrize(
    "workflow",
    [
        {"nodes": [{"type": "PreviewAny"}]},
        {"nodes": [None]},
        {"nodes": ["PreviewAny"]},
        {"nodes": [[1, "PreviewAny"]]},
        {"nodes": 7},
        {"nodes": "PreviewAny"},
        {"nodes": {"1": {}}},
        {"nodes": [node(1, "PreviewAny")], "links": ["abc"]},
        {"nodes": [node(1, "PreviewAny")], "links": "abc"},
        {"nodes": [node(1, "PreviewAny")], "links": [[1, 2]]},
        {"nodes": [node(1, "PreviewAny")], "links": [[1, 2, "x", 3, 0]]},
        {"nodes": [node(1, "PreviewAny")], "links": [[[1], 2, 0, 3, 0]]},
        {"nodes": [node(1, "PreviewAny")], "links": [7]},
        {"nodes": [{"id": 1, "type": ["PreviewAny"]}]},
        {"nodes": [{"id": 1, "type": "PreviewAny", "inputs": "source"}]},
        {"nodes": [{"id": 1, "type": "PreviewAny", "inputs": [None]}]},
        {"nodes": [{"id": 1, "type": "PreviewAny", "inputs": [{"link": 1}]}]},
        {"nodes": [{"id": 1, "type": "PreviewAny", "inputs": [{"name": "x", "link": []}]}]},
        {"definitions": [1]},
        {"definitions": {"subgraphs": [None]}},
        {"definitions": {"subgraphs": [{"nodes": []}]}},
        {"definitions": {"subgraphs": 3}},
        {"extra": "none"},
        {"extra": {"groupNodes": [1]}, "nodes": [{"id": 1, "type": "workflow/C"}]},
        {"extra": {"groupNodes": {"C": 1}}, "nodes": [{"id": 1, "type": "workflow/C"}]},
        [],
        None,
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_parts_that_do_not_fit_are_refused_as_such(workflow: Any) -> None:
    with pytest.raises(ConversionError, match="parts do not fit") as caught:
        convert(workflow, INFO)

    assert caught.value.missing == ()
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("part", [2, 4], ids=["slot", "target slot"])
def test_a_number_beyond_all_bounds_is_refused_as_well(part: int) -> None:
    workflow = file(LOADED, save(2, From(1)))
    workflow["links"][0][part] = math.inf

    with pytest.raises(ConversionError, match="parts do not fit"):
        convert(workflow, INFO)


def test_a_file_of_nothing_is_an_empty_graph() -> None:
    assert convert({}, INFO) == {}
    assert convert({"nodes": None, "links": None, "definitions": None, "extra": None}, {}) == {}


# Everything at once, and then parts of it taken away or replaced

EVERYTHING = file(
    LOADED,
    node(2, "Reroute", **{"": From(1)}),
    node(3, "ImageBatch", mode=BYPASSED, image1=From(2), image2=From(1)),
    node(4, "SetNode", ["x"], IMAGE=From(3)),
    node(5, "GetNode", ["x"]),
    node(6, "Invert", image=From(5)),
    node(7, "PrimitiveNode", [64, "fixed"]),
    node(8, "EmptyLatentImage", [1, 2, 3], width=From(7)),
    node(9, "Prompt", ["{a|b}"], properties={"proxyWidgets": [["1", "text"]]}),
    node(10, "workflow/Both", ["cat", "dog", 640, 480, 1], clip=None),
    node(11, "SaveImage", ["%Canvas.width%"], images=From(6)),
    node(12, "EmptyLatentImage", {"width": 5}, title="Canvas"),
    node(13, "PreviewAny", source=From(10, 1)),
    node(14, "PrimitiveString", ["x"], MUTED),
    node(15, "Prompt", ["outer"], text=From(14)),
    subgraphs=[INVERT, prompt()],
    groups={"Both": TEXT_AND_SIZE},
)


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    children = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in children:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


GONE = object()
ODD = st.sampled_from(
    [
        *(GONE, None, True, 0, 1, 2, 4, -1, -10, -20, 99, 1.5, "", "1", "x", "*"),
        *("Invert", "Prompt", "Note", "Reroute", "SetNode", "workflow/Both"),
        *([], [1], [[]], [None], {}, {"a": 1}, {"name": "image"}),
    ]
)
CHANGES = st.lists(st.tuples(st.sampled_from(list(places(EVERYTHING))), ODD), max_size=4)


def changed(path: tuple[Any, ...], value: Any, data: Any) -> None:
    """One part replaced or taken away; nothing, if an earlier change took away its place."""
    *way, last = path
    try:
        for key in way:
            data = data[key]
        if value is GONE:
            del data[last]
        else:
            data[last] = copy.deepcopy(value)
    except (KeyError, IndexError, TypeError):
        return


def test_everything_at_once_is_a_graph() -> None:
    graph = convert(EVERYTHING, INFO)

    assert check_graph(graph) == graph
    assert {"6:1", "9:1", "10:2", "15:1"} <= graph.keys()


@settings(deadline=None, max_examples=300)
@given(CHANGES)
def test_whatever_is_wrong_with_a_file_it_is_a_graph_or_refused(changes: list[Any]) -> None:
    workflow = copy.deepcopy(EVERYTHING)
    for path, value in changes:
        changed(path, value, workflow)

    try:
        graph = convert(workflow, INFO)
    except ConversionError:
        return

    json.dumps(graph)
    try:
        assert not graph or check_graph(graph) == graph
    except WorkflowFileError as error:
        assert "in a circle" in str(error)  # noqa: PT017


def test_subgraphs_that_multiply_are_refused_before_they_fill_the_memory() -> None:
    def level(number: int) -> dict[str, Any]:
        inner = [{"id": n, "type": f"sub{number + 1}", "inputs": []} for n in range(10)]
        return {"id": f"sub{number}", "nodes": inner if number < 9 else [], "links": []}

    workflow = {
        "nodes": [{"id": 1, "type": "sub0", "inputs": []}],
        "links": [],
        "definitions": {"subgraphs": [level(number) for number in range(10)]},
    }

    with pytest.raises(ConversionError, match="unfolds into more than"):
        convert(workflow, {})


def test_a_group_link_into_a_slot_that_no_node_has_is_refused() -> None:
    group = {"nodes": [{"type": "A"}, {"type": "B"}], "links": [[0, 0, 1, 10**9, "IMAGE"]]}
    workflow = {
        "nodes": [{"id": 1, "type": "workflow/pair", "inputs": []}],
        "links": [],
        "extra": {"groupNodes": {"pair": group}},
    }

    with pytest.raises(ConversionError, match="do not fit"):
        convert(workflow, {"A": {}, "B": {}})
