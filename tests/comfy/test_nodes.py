"""`/object_info`: every shape of an input, on recordings and on what no server should say."""

import json
from typing import Any

import pytest

from comfy.graph import Graph
from comfy.nodes import (
    InputType,
    NodeType,
    NodeTypes,
    closest_model,
    merged,
    missing_models,
    missing_nodes,
    parse_object_info,
)
from comfy.standin_info import object_info
from tests.fakes.recordings import CONTRACT

RECORDED = json.loads((CONTRACT / "object_info.json").read_text())


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (["INT", {"default": 20, "min": 1, "max": 99}], InputType("x", "INT", True, 20, 1, 99)),
        (
            ["FLOAT", {"default": 8.0, "min": 0.0, "max": 100.0, "step": 0.1, "round": 0.01}],
            InputType("x", "FLOAT", True, 8.0, 0.0, 100.0, 0.1),
        ),
        (["STRING", {"multiline": True}], InputType("x", "STRING")),
        (["MODEL"], InputType("x", "MODEL")),
        (["MODEL", {}], InputType("x", "MODEL")),
        ([["a", "b"], {}], InputType("x", "COMBO", choices=("a", "b"))),
        ([["a", 2]], InputType("x", "COMBO", choices=("a", 2))),
        ([[], {}], InputType("x", "COMBO")),
        (["COMBO", {"options": ["a", "b"]}], InputType("x", "COMBO", choices=("a", "b"))),
        (["COMBO", {"options": None}], InputType("x", "COMBO")),
        (["COMBO", {"options": "abc"}], InputType("x", "COMBO")),
        (["COMBO", {}], InputType("x", "COMBO")),
        (
            ["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "a", "inputs": {}}, {"key": "b"}, "c"]}],
            InputType("x", "COMBO", choices=("a", "b")),
        ),
        (["COMFY_DYNAMICCOMBO_V3", {}], InputType("x", "COMBO")),
        (["COMFY_AUTOGROW_V3", {"template": {}}], InputType("x", "COMFY_AUTOGROW_V3")),
        (
            [["a.png"], {"image_upload": True}],
            InputType("x", "COMBO", choices=("a.png",), upload=True),
        ),
        ([["a.png"], {"image_upload": False}], InputType("x", "COMBO", choices=("a.png",))),
        (["INT", {"min": "1", "max": True, "step": None}], InputType("x", "INT")),
        (["INT", ["not", "options"]], InputType("x", "INT")),
        ("PROMPT", InputType("x", "*")),
        ([], InputType("x", "*")),
        (None, InputType("x", "*")),
    ],
    ids=lambda value: json.dumps(value) if not isinstance(value, InputType) else "",
)
def test_every_shape_becomes_one_type(declared: Any, expected: InputType) -> None:
    assert InputType.from_json("x", declared, required=True) == expected


def test_both_shapes_of_a_combo_give_the_same_choices() -> None:
    nodes = parse_object_info(RECORDED)

    old, new = nodes["KSampler"].inputs, nodes["KSamplerSelect"].inputs

    assert old["sampler_name"].choices == new["sampler_name"].choices
    assert old["sampler_name"].type == new["sampler_name"].type == "COMBO"


def test_recorded_classes_are_read() -> None:
    nodes = parse_object_info(RECORDED)

    assert nodes.keys() == RECORDED.keys()
    assert nodes["KSampler"].inputs["seed"].max == 2**64 - 1
    assert nodes["KSampler"].outputs == ("LATENT",)
    assert nodes["LoadImage"].inputs["image"].upload
    assert nodes["CheckpointLoaderSimple"].inputs["ckpt_name"].choices == (
        "random_sd15_small.safetensors",
    )
    assert nodes["SaveImage"].output_node
    assert not nodes["KSampler"].output_node


@pytest.mark.parametrize("modern", [True, False], ids=["0.27.0", "0.3.64"])
def test_an_input_that_changes_its_shape_between_versions_reads_the_same(modern: bool) -> None:
    told = object_info({"upscale_models": ["4x.pth"]}, [], modern=modern)

    nodes = parse_object_info(told)

    assert nodes["UpscaleModelLoader"].inputs["model_name"].choices == ("4x.pth",)


def test_optional_inputs_are_known_as_such_and_hidden_ones_are_not_inputs() -> None:
    declared = {
        "required": {"a": ["INT"]},
        "optional": {"b": ["INT"]},
        "hidden": {"prompt": "PROMPT"},
    }

    node = NodeType.from_json("Mine", {"input": declared, "api_node": True})

    assert {name: each.required for name, each in node.inputs.items()} == {"a": True, "b": False}
    assert node.display_name == "Mine"
    assert node.api_node


@pytest.mark.parametrize(
    "broken",
    [
        None,
        [],
        "text",
        5,
        {"output": 5},
        {"input": ["x"]},
        {"input": {"required": [1]}},
    ],
    ids=str,
)
def test_a_broken_class_does_not_hide_the_others(broken: Any) -> None:
    nodes = parse_object_info({"Broken": broken, "Good": {"input": None, "output": None}})

    assert list(nodes) == ["Good"]


# What a graph misses


def using(class_type: str, **inputs: Any) -> Graph:
    return {"1": {"class_type": class_type, "inputs": inputs}}


def offering(class_type: str, **declared: Any) -> NodeTypes:
    return parse_object_info({class_type: {"input": {"required": declared}}})


def test_nodes_that_a_server_lacks_are_named_once_and_in_order() -> None:
    graph = {
        number: {"class_type": each, "inputs": {}}
        for number, each in {"1": "Z", "2": "KSampler", "3": "Magic", "4": "Z"}.items()
    }

    assert missing_nodes(graph, offering("KSampler")) == ["Magic", "Z"]
    assert missing_nodes(using("KSampler"), offering("KSampler")) == []


@pytest.mark.parametrize(
    ("inputs", "missing"),
    [
        ({"ckpt_name": "gone.safetensors"}, ["gone.safetensors"]),
        ({"ckpt_name": "z.pt", "lora_name": "a.pt"}, ["a.pt", "z.pt"]),
        ({"ckpt_name": "here.safetensors"}, []),
        ({"ckpt_name": ["2", 0]}, []),
        ({"sampler_name": "strange"}, []),
        ({"image": "not-there.png"}, []),
        ({"upload_name": "not-there.png"}, []),
        ({"free_name": "any.txt"}, []),
        ({"undeclared_name": "gone.pt"}, []),
    ],
    ids=[
        "gone", "two", "here", "linked", "no file name", "no loader",
        "an upload", "a text", "not declared",
    ],
)  # fmt: skip
def test_models_that_a_server_lacks_are_choices_that_it_does_not_offer(
    inputs: dict[str, Any], missing: list[str]
) -> None:
    nodes = offering(
        "Loader",
        ckpt_name=[["here.safetensors"]],
        lora_name=["COMBO", {"options": []}],
        sampler_name=[["euler"]],
        image=[["a.png"]],
        upload_name=[["a.png"], {"image_upload": True}],
        free_name=["STRING"],
    )

    found = missing_models(using("Loader", **inputs), nodes)

    assert sorted(each.value for each in found) == missing


def test_a_node_that_a_server_lacks_misses_no_model() -> None:
    assert missing_models(using("Magic", lora_name="gone.pt"), offering("Loader")) == []


def test_a_model_that_is_missing_is_told_with_its_place() -> None:
    graph = {
        "12:5": {"class_type": "Loader", "inputs": {"steps": 5, "ckpt_name": "Sub\\gone.PT"}},
        "3": {"class_type": "Loader", "inputs": {"ckpt_name": "gone.pt"}},
    }

    found = missing_models(graph, offering("Loader", ckpt_name=[["here.pt"]], steps=["INT"]))

    assert found == [("12:5", "ckpt_name", "Sub\\gone.PT"), ("3", "ckpt_name", "gone.pt")]
    assert found[0].node_id == "12:5"


@pytest.mark.parametrize(
    ("value", "closest"),
    [
        ("sd_xl_base_1.0_fp16.safetensors", "SDXL/sd_xl_base_1.0.safetensors"),
        ("SD_XL_Base_1.0.ckpt", "SDXL/sd_xl_base_1.0.safetensors"),
        ("checkpoints\\other\\sd_xl_base_1.0.safetensors", "SDXL/sd_xl_base_1.0.safetensors"),
        ("flux1-dev-fp8.safetensors", "flux1-dev.safetensors"),
        ("v1-5-pruned.ckpt", "v1-5-pruned-emaonly.ckpt"),
        ("something-else-entirely.safetensors", None),
        ("z.pt", None),
    ],
)
def test_the_closest_model_is_alike_in_its_name_and_not_in_its_folder(
    value: str, closest: str | None
) -> None:
    offered = [
        "SDXL/sd_xl_base_1.0.safetensors",
        "v1-5-pruned-emaonly.ckpt",
        "flux1-dev.safetensors",
        "flux1-schnell.safetensors",
    ]
    graph, nodes = using("Loader", ckpt_name=value), offering("Loader", ckpt_name=[offered])
    (missing,) = missing_models(graph, nodes)

    assert closest_model(missing, graph, nodes) == closest


def test_the_closest_model_is_one_that_the_same_loader_offers() -> None:
    nodes = offering("Loader", ckpt_name=[[]], lora_name=[["gone.pt"]])
    graph = using("Loader", ckpt_name="gone.pt")
    (missing,) = missing_models(graph, nodes)

    assert closest_model(missing, graph, nodes) is None


# What several servers offer together


def test_all_nodes_are_offered_and_the_first_word_on_each_counts() -> None:
    one = parse_object_info({"K": {"display_name": "one"}})
    other = parse_object_info({"K": {"display_name": "other"}, "X": {"display_name": "other"}})

    together = merged([one, other])

    assert {name: each.display_name for name, each in together.items()} == {
        "K": "one",
        "X": "other",
    }
    assert merged([]) == {}


def test_a_combo_offers_the_choices_of_all_each_once() -> None:
    one = offering("Loader", ckpt_name=[["a.pt", "b.pt"]], steps=["INT", {"max": 50}])
    other = offering("Loader", ckpt_name=["COMBO", {"options": ["c.pt", "b.pt"]}], steps=["INT"])

    inputs = merged([one, other, one])["Loader"].inputs

    assert inputs["ckpt_name"].choices == ("a.pt", "b.pt", "c.pt")
    assert inputs["steps"] == InputType("steps", "INT", max=50)


def test_an_input_that_only_a_later_server_knows_is_offered_too() -> None:
    one, other = offering("K", a=["INT"]), offering("K", a=["INT"], b=[["x"]])

    assert merged([one, other])["K"].inputs["b"].choices == ("x",)


def test_putting_together_changes_no_server() -> None:
    one, other = offering("K", a=[["x"]]), offering("K", a=[["y"]], b=["INT"])

    merged([one, other])

    assert one == offering("K", a=[["x"]])
    assert other == offering("K", a=[["y"]], b=["INT"])
