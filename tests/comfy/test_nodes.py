"""`/object_info`: every shape of an input, on recordings and on what no server should say."""

import json
from typing import Any

import pytest

from comfy.nodes import InputType, NodeType, parse_object_info
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
