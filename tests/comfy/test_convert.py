"""Nodes and links of an editor's file as the API graph that ComfyUI's own frontend would queue."""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.conversion import object_info, verdict
from comfy.convert import convert
from comfy.errors import ConversionError
from tests.comfy.editor_files import (
    BYPASSED,
    INFO,
    MUTED,
    From,
    Json,
    as_objects,
    converted,
    file,
    inputs_of,
    node,
)

SHARED = Path(__file__).parents[3] / "shared" / "workflow-conversion"
CASES = sorted((SHARED / "cases").glob("*.json"))
# Recorded with custom sizes of 0, where the file says 512 and an old `force_size` of "Disabled".
KNOWN = {"p_mir_ComfyUI-VideoHelperSuite__tests_converted-input"}

LOADED = node(1, "LoadImage", ["a.png", "image"])
IMAGE = {"image": "a.png"}


def size(number: int, *values: int, **inputs: From | None) -> Json:
    return node(number, "EmptyLatentImage", list(values), **inputs)


# Nodes


def test_a_node_becomes_class_inputs_and_title() -> None:
    workflow = file(
        node(1, "EmptyLatentImage", [512, 768, 2], title="Canvas"),
        node(2, "VAEDecode", samples=From(1), vae=None),
        node(3, "Named", [4]),
    )

    graph = convert(workflow, INFO)

    assert graph == {
        "1": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 512, "height": 768, "batch_size": 2},
            "_meta": {"title": "Canvas"},
        },
        "2": {
            "class_type": "VAEDecode",
            "inputs": {"samples": ["1", 0]},
            "_meta": {"title": "VAEDecode"},
        },
        "3": {"class_type": "Named", "inputs": {"value": 4}, "_meta": {"title": "A Name"}},
    }


@pytest.mark.parametrize("mode", [0, 1, 3, None], ids=["always", "on event", "on trigger", "unset"])
def test_a_node_that_is_connected_to_nothing_is_kept(mode: Any) -> None:
    assert converted(node(1, "PrimitiveString", ["x"], mode)) == {"1": {"value": "x"}}


def test_notes_and_other_things_of_the_editor_are_dropped() -> None:
    nodes = [
        node(2, "Note", ["read me"]),
        node(3, "MarkdownNote", ["# read me"]),
        node(4, "Reroute", **{"": From(1)}),
        node(5, "PrimitiveNode", [1, "fixed"]),
        node(6, "Label (rgthree)"),
        node(7, "GetNode", ["x"]),
    ]

    assert converted(LOADED, *nodes) == {"1": IMAGE}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("T2IAdapterLoader", "ControlNetLoader"),
        ("ConditioningAverage ", "ConditioningAverage"),
        ("SDV_img2vid_Conditioning", "SVD_img2vid_Conditioning"),
    ],
)
def test_a_class_has_its_name_of_today(old: str, new: str) -> None:
    graph = convert(file(node(1, old, [5])), INFO)

    assert graph["1"]["class_type"] == new
    assert list(graph["1"]["inputs"].values()) == [5]


def test_classes_that_the_server_lacks_are_named_sorted_and_once() -> None:
    workflow = file(node(1, "Zoo"), node(2, "Ant"), node(3, "Zoo"), LOADED, node(4, "Note"))

    with pytest.raises(ConversionError, match=r"does not have: Ant, Zoo\.") as caught:
        convert(workflow, INFO)

    assert caught.value.missing == ("Ant", "Zoo")


@pytest.mark.parametrize("mode", [MUTED, BYPASSED], ids=["muted", "bypassed"])
def test_a_class_that_will_not_run_is_not_missed(mode: int) -> None:
    assert converted(LOADED, node(2, "Ant", mode=mode)) == {"1": IMAGE}


def test_the_file_itself_stays_as_it_was() -> None:
    workflow = file(LOADED, node(2, "PreviewAny", source=From(1)), node(3, "Points", [[1, 2]]))
    before = copy.deepcopy(workflow)

    convert(workflow, INFO)

    assert workflow == before


# Values


def test_values_are_served_as_their_class_wants_them() -> None:
    sampler = [7, "randomize", 20, 8, "sample_euler", "karras", 1]
    nodes = [
        node(1, "CLIPTextEncode", ["a {cat|cat} // dog"]),
        node(2, "PrimitiveString", ["a {cat|cat} // dog"]),
        node(3, "Points", [[[0, 0], [1, 1]]]),
        node(4, "KSampler", sampler),
        node(5, "EmptyLatentImage", {"height": 64}),
    ]

    inputs = converted(*nodes)

    assert inputs["1"] == {"text": "a cat "}
    assert inputs["2"] == {"value": "a {cat|cat} // dog"}
    assert inputs["3"] == {"points": {"__value__": [[0, 0], [1, 1]]}}
    assert inputs["4"]["sampler_name"] == "euler"
    assert inputs["4"]["steps"] == 20
    assert inputs["5"] == {"width": 512, "height": 64, "batch_size": 1}


def test_a_value_of_null_is_not_sent() -> None:
    assert converted(size(1, 512, None, 1)) == {"1": {"width": 512, "batch_size": 1}}


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("%Canvas.width%", "640"),
        ("a/%Canvas.width%x%Canvas.height%", "a/640x480"),
        ("%Words.value%", "a_b_c_d_e_f_g_h_i"),
        ("%Canvas.depth%", "%Canvas.depth%"),
        ("%Nobody.width%", "%Nobody.width%"),
        ("%Read me.text%", "%Read me.text%"),
        ("%Both.value%", "by name"),
        ("%year%-%Canvas%", "%year%-%Canvas%"),
    ],
    ids=[
        "by title",
        "twice",
        "forbidden characters",
        "no such widget",
        "no such node",
        "of a note",
        "name for search before title",
        "no dot",
    ],
)
def test_a_file_name_takes_values_of_other_nodes(prefix: str, expected: str) -> None:
    named = {"Node name for S&R": "Both"}
    nodes = [
        node(1, "EmptyLatentImage", [640, 480, 1], title="Canvas"),
        node(2, "PrimitiveString", ['a/b?c<d|e\\f:g*h"i'], title="Words"),
        node(3, "Note", ["x"], title="Read me"),
        node(4, "PrimitiveString", ["by title"], title="Both"),
        node(5, "PrimitiveString", ["by name"], properties=named),
        node(6, "PreviewAny", properties={}) | {"properties": None},
    ]

    inputs = converted(*nodes, node(9, "SaveImage", [prefix]))

    assert inputs["9"]["filename_prefix"] == expected


def test_only_file_names_take_values_of_other_nodes() -> None:
    nodes = [node(1, "PrimitiveString", ["x"], title="A"), node(2, "SaveImage", [5])]

    inputs = converted(*nodes, node(3, "PrimitiveString", ["%A.value%"]))

    assert inputs["2"] == {"filename_prefix": 5}
    assert inputs["3"] == {"value": "%A.value%"}


# Links


@pytest.mark.parametrize("as_object", [False, True], ids=["arrays", "objects"])
def test_both_notations_of_links_are_read(as_object: bool) -> None:
    workflow = file(
        node(1, "CheckpointLoaderSimple", ["a"]),
        node(2, "VAEDecode", samples=None, vae=From(1, 2)),
    )
    if as_object:
        workflow["links"] = as_objects(workflow["links"])

    assert inputs_of(workflow) == {"1": {"ckpt_name": "a"}, "2": {"vae": ["1", 2]}}


def test_a_link_of_five_parts_is_read() -> None:
    workflow = file(LOADED, node(2, "ImageInvert", image=From(1)))
    workflow["links"] = [workflow["links"][0][:5], None]

    assert inputs_of(workflow)["2"] == {"image": ["1", 0]}


def test_a_link_wins_over_the_saved_value_which_keeps_its_place() -> None:
    inputs = converted(node(1, "PrimitiveInt", [9, "fixed"]), size(2, 64, 65, 3, width=From(1)))

    assert inputs["2"] == {"width": ["1", 0], "height": 65, "batch_size": 3}


def test_a_link_into_an_input_that_the_class_does_not_know_is_kept() -> None:
    inputs = converted(LOADED, node(2, "Group of any", **{"group.image0": From(1), "old": From(1)}))

    assert inputs["2"] == {"group.image0": ["1", 0], "old": ["1", 0]}


def test_reroutes_are_followed() -> None:
    nodes = [
        node(2, "Reroute", **{"": From(1, 1)}),
        node(3, "Reroute (rgthree)", **{"": From(2)}),
        node(4, "Reroute", mode=BYPASSED, **{"": From(3)}),
    ]

    inputs = converted(LOADED, *nodes, node(9, "MaskToImage", mask=From(4)))

    assert inputs == {"1": IMAGE, "9": {"mask": ["1", 1]}}


@pytest.mark.parametrize(
    "reroute",
    [
        node(2, "Reroute", **{"": None}),
        node(2, "Reroute"),
        {"id": 2, "type": "Reroute"},
        node(2, "Reroute", **{"": From(99)}),
        node(7, "Reroute", **{"": From(1)}),
    ],
    ids=["not linked", "no socket", "no inputs at all", "from no node", "not there"],
)
def test_a_reroute_that_leads_nowhere_gives_no_link(reroute: Json) -> None:
    inputs = converted(LOADED, reroute, node(9, "PreviewImage", images=From(2)))

    assert inputs["9"] == {}


@pytest.mark.parametrize("mode", [0, MUTED, BYPASSED], ids=["ordinary", "muted", "bypassed"])
def test_a_primitive_puts_its_value_into_every_widget_it_is_linked_to(mode: int) -> None:
    primitive = node(1, "PrimitiveNode", [99, "randomize"], mode)

    inputs = converted(primitive, size(2, 64, 65, 1, width=From(1), height=From(1)))

    assert inputs == {"2": {"width": 99, "height": 99, "batch_size": 1}}


def test_the_value_of_a_primitive_is_served_like_any_other() -> None:
    nodes = [node(1, "PrimitiveNode", ["a // b"]), node(2, "PrimitiveNode", [["x"]])]

    inputs = converted(
        *nodes,
        node(3, "CLIPTextEncode", ["saved"], text=From(1)),
        node(4, "Group of any", **{"group.text0": From(2), "text": From(1)}),
    )

    assert inputs == {"3": {"text": "a "}, "4": {"group.text0": {"__value__": ["x"]}}}


@pytest.mark.parametrize(
    "nodes",
    [
        [node(1, "PrimitiveNode", [99]), node(2, "Reroute", **{"": From(1)})],
        [node(2, "PrimitiveNode", [None, "fixed"])],
        [node(2, "PrimitiveNode", [])],
        [node(2, "PrimitiveNode")],
    ],
    ids=["through a reroute", "null", "no values", "nothing saved"],
)
def test_a_primitive_that_gives_nothing_leaves_the_saved_value(nodes: list[Json]) -> None:
    inputs = converted(*nodes, size(3, 64, 65, 1, width=From(2)))

    assert inputs == {"3": {"width": 64, "height": 65, "batch_size": 1}}


@pytest.mark.parametrize(
    "nodes",
    [
        [node(2, "PrimitiveInt", [9, "fixed"], MUTED)],
        [node(1, "PrimitiveInt", [9], MUTED), node(2, "Reroute", **{"": From(1)})],
        [node(1, "PrimitiveInt", [9]), node(2, "Reroute", mode=MUTED, **{"": From(1)})],
    ],
    ids=["directly", "through a reroute", "the reroute"],
)
def test_a_muted_source_takes_the_saved_value_away(nodes: list[Json]) -> None:
    inputs = converted(*nodes, size(3, 64, 65, 1, width=From(2)))

    assert inputs["3"] == {"height": 65, "batch_size": 1}


def test_a_link_whose_record_says_another_number_is_found_by_its_end() -> None:
    workflow = file(LOADED, node(2, "ImageBatch", image1=From(1), image2=From(1)))
    workflow["nodes"][1]["inputs"][1]["link"] = 77

    assert inputs_of(workflow)["2"] == {"image1": ["1", 0], "image2": ["1", 0]}


@pytest.mark.parametrize("kept", [[], None], ids=["other links", "no links at all"])
def test_a_link_whose_record_is_lost_leaves_the_saved_value(kept: Any) -> None:
    workflow = file(node(1, "PrimitiveInt", [9, "fixed"]), size(2, 64, 65, 1, width=From(1)))
    workflow["links"] = kept

    assert inputs_of(workflow)["2"] == {"width": 64, "height": 65, "batch_size": 1}


def test_a_link_from_a_node_that_is_gone_leaves_the_saved_value() -> None:
    inputs = converted(size(2, 64, 65, 1, width=From(1)))

    assert inputs == {"2": {"width": 64, "height": 65, "batch_size": 1}}


def test_a_link_from_a_thing_of_the_editor_is_dropped() -> None:
    inputs = converted(node(2, "Note"), node(1, "PreviewAny", source=From(2)))

    assert inputs == {"1": {}}


# Bypassed nodes: inputs come from node 1, each from the output of its own number


@pytest.mark.parametrize(
    ("types", "gives", "slot", "expected"),
    [
        (["IMAGE", "IMAGE"], ["IMAGE", "IMAGE"], 1, 1),
        (["MODEL", "*"], ["MODEL", "IMAGE"], 1, 1),
        (["MODEL", "mask,image", "IMAGE"], ["MODEL", "IMAGE"], 1, 1),
        (["MODEL", "*", "IMAGE"], ["IMAGE"], 0, 2),
        (["IMAGE", "MODEL"], ["IMAGE", "IMAGE"], 1, 0),
        (["IMAGE", "*"], ["IMAGE", "MODEL", "IMAGE"], 2, 0),
        (["MODEL", "IMAGE,MASK", "*"], ["IMAGE"], 0, 1),
        (["MODEL", ""], ["IMAGE"], 0, 1),
        (["MODEL"], ["IMAGE"], 0, None),
        ([], ["IMAGE"], 0, None),
        (["IMAGE", "IMAGE"], [], 1, 1),
    ],
    ids=[
        "same number",
        "same number of any type",
        "same number of several types",
        "exact type",
        "exact type, other number",
        "exact type, number too high",
        "first that fits",
        "empty type fits",
        "no match",
        "no inputs",
        "outputs not declared",
    ],
)
def test_a_bypassed_node_passes_on_the_input_that_fits(
    types: list[str], gives: list[str], slot: int, expected: int | None
) -> None:
    ends = {f"in{number}": From(1, number, kind) for number, kind in enumerate(types)}
    bypassed = node(2, "Unknown", mode=BYPASSED, gives=gives, **ends)

    inputs = converted(LOADED, bypassed, node(3, "ImageInvert", image=From(2, slot)))

    assert inputs["3"] == ({} if expected is None else {"image": ["1", expected]})


@pytest.mark.parametrize(
    ("types", "slot", "expected"),
    [(["MODEL", "IMAGE"], 1, 1), (["MODEL"], 1, 0), ([], 0, None)],
    ids=["same number", "the first", "none"],
)
def test_a_bypassed_node_passes_on_anything_to_an_input_of_any_type(
    types: list[str], slot: int, expected: int | None
) -> None:
    ends = {f"in{number}": From(1, number, kind) for number, kind in enumerate(types)}
    bypassed = node(2, "Unknown", mode=BYPASSED, gives=["LATENT", "LATENT"], **ends)

    inputs = converted(LOADED, bypassed, node(3, "PreviewAny", source=From(2, slot)))

    assert inputs["3"] == ({} if expected is None else {"source": ["1", expected]})


def test_a_bypassed_node_tries_no_second_input() -> None:
    bypassed = node(2, "ImageBatch", mode=BYPASSED, image1=None, image2=From(1))

    inputs = converted(LOADED, bypassed, node(3, "ImageInvert", image=From(2)))

    assert inputs["3"] == {}


def test_bypassed_nodes_in_a_row_are_followed_to_the_end() -> None:
    nodes = [
        node(2, "LoraLoader", ["a", 1, 1], BYPASSED, model=From(1), clip=From(1, 1)),
        node(3, "LoraLoader", ["b", 1, 1], BYPASSED, model=From(2), clip=From(2, 1)),
    ]

    inputs = converted(
        node(1, "CheckpointLoaderSimple", ["a"]),
        *nodes,
        node(4, "CLIPTextEncode", ["x"], clip=From(3, 1)),
    )

    assert inputs == {"1": {"ckpt_name": "a"}, "4": {"text": "x", "clip": ["1", 1]}}


# SetNode and GetNode


def test_a_get_node_gives_what_the_set_node_of_its_name_gets() -> None:
    nodes = [
        node(2, "SetNode", ["other"], IMAGE=From(8)),
        node(3, "SetNode", ["picture"], IMAGE=From(1)),
        node(4, "SetNode"),
        node(5, "GetNode", ["picture"]),
    ]

    inputs = converted(
        LOADED, *nodes, node(6, "ImageInvert", image=From(5)), node(7, "ImageInvert", image=From(3))
    )

    assert inputs == {"1": IMAGE, "6": {"image": ["1", 0]}, "7": {"image": ["1", 0]}}


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([], {"width": 64}),
        ([node(3, "SetNode", ["w"], INT=None)], {"width": 64}),
        ([node(3, "SetNode", ["w"], MUTED, INT=From(1))], {}),
        ([node(3, "SetNode", ["w"], BYPASSED, INT=From(1))], {"width": ["1", 0]}),
    ],
    ids=["no set node", "set node without a link", "muted", "bypassed"],
)
def test_a_get_node_without_a_source_gives_no_link(nodes: list[Json], expected: Json) -> None:
    inputs = converted(
        node(1, "PrimitiveInt", [9, "fixed"]),
        *nodes,
        node(4, "GetNode", ["w"]),
        size(5, 64, 65, 1, width=From(4)),
    )

    assert inputs["5"] == {"height": 65, "batch_size": 1, **expected}


def test_a_muted_get_node_takes_the_saved_value_away() -> None:
    inputs = converted(
        node(1, "PrimitiveInt", [9, "fixed"]),
        node(3, "SetNode", ["w"], INT=From(1)),
        node(4, "GetNode", ["w"], MUTED),
        size(5, 64, 65, 1, width=From(4)),
    )

    assert inputs["5"] == {"height": 65, "batch_size": 1}


# What does not fit


@pytest.mark.parametrize(
    "nodes",
    [
        [node(2, "Reroute", **{"": From(3)}), node(3, "Reroute", **{"": From(2)})],
        [node(2, "Reroute", **{"": From(2)})],
        [node(2, "SetNode", ["x"], IMAGE=From(3)), node(3, "GetNode", ["x"])],
        [node(2, "ImageInvert", mode=BYPASSED, image=From(2))],
    ],
    ids=["two reroutes", "one reroute", "set and get", "bypassed"],
)
def test_links_in_a_circle_are_refused(nodes: list[Json]) -> None:
    with pytest.raises(ConversionError, match="without end") as caught:
        converted(*nodes, node(9, "PreviewImage", images=From(2)))

    assert caught.value.missing == ()


def test_a_long_chain_of_reroutes_is_no_circle() -> None:
    length = sys.getrecursionlimit() // 10
    chain = [node(number, "Reroute", **{"": From(number - 1)}) for number in range(2, length)]

    inputs = converted(LOADED, *chain, node(length, "PreviewImage", images=From(length - 1)))

    assert inputs[str(length)] == {"images": ["1", 0]}


# Recordings


@pytest.mark.skipif(not CASES, reason=f"the recorded cases are not in {SHARED}")
@pytest.mark.parametrize("path", CASES, ids=[path.stem for path in CASES])
def test_a_recorded_file_becomes_what_the_frontend_queued(path: Path) -> None:
    case = json.loads(path.read_text("utf-8"))

    word, reason = verdict(case, object_info(SHARED, case["server"]))

    assert (word == "differs") == (path.stem in KNOWN), reason
