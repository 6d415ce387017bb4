"""Which widget has which of the values that a file saves, and how a value is sent."""

import random
from typing import Any

import pytest

from comfy.widgets import count, default, dynamic_prompt, served, widgets
from tests.comfy.editor_files import RECORDED, Json

SEED = ["INT", {"default": 5}]
SIZE = ["INT", {"default": 512}]
WORD = ["STRING", {"default": "word"}]
FORCED = ["STRING", {"forceInput": True}]
SIZED = {
    "key": "sized",
    "inputs": {"required": {"width": SIZE, "seed": SEED}, "optional": {"by": ["MODEL", {}]}},
}
CHOICE = ["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "plain", "inputs": {}}, SIZED, "odd"]}]


def definition(**required: Any) -> Json:
    return {"input": {"required": required}}


def values(declared: Json, saved: object) -> Json:
    return {name: value for name, _, value in widgets(declared, saved)}


@pytest.mark.parametrize(
    ("declared", "saved", "expected"),
    [
        (definition(a=SIZE, model=["MODEL"], b=WORD), [1, "x"], {"a": 1, "b": "x"}),
        (
            {"input": {"optional": {"b": WORD}, "required": {"a": SIZE}}},
            [1, "x"],
            {"a": 1, "b": "x"},
        ),
        (definition(seed=SEED, a=SIZE), [1, "fixed", 2], {"seed": 1, "a": 2}),
        (definition(noise_seed=SEED, a=SIZE), [1, True, 2], {"noise_seed": 1, "a": 2}),
        (definition(x=["INT:seed", {}], a=SIZE), [1, 2], {"x": 1, "a": 2}),
        (definition(seed=["INT:seed", {}], a=SIZE), [1, "fixed", 2], {"seed": 1, "a": 2}),
        (
            definition(value=["INT", {"control_after_generate": "fixed"}], a=SIZE),
            [1, "randomize", 2],
            {"value": 1, "a": 2},
        ),
        (
            definition(seed=["INT", {"control_after_generate": False}], a=SIZE),
            [1, 2],
            {"seed": 1, "a": 2},
        ),
        (definition(seed=["FLOAT", {}], a=SIZE), [1.5, 2], {"seed": 1.5, "a": 2}),
        (definition(a=SIZE, b=WORD), [1], {"a": 1, "b": "word"}),
        (definition(a=SIZE, b=WORD), [], {"a": 512, "b": "word"}),
        (definition(a=SIZE, b=WORD), None, {"a": 512, "b": "word"}),
        (definition(a=SIZE, b=WORD), "text", {"a": 512, "b": "word"}),
        (definition(a=SIZE, b=WORD), [None, "x"], {"a": None, "b": "x"}),
        (definition(a=SIZE), [1, "x", {}], {"a": 1}),
        (definition(image=[["a.png"], {"image_upload": True}]), ["b", "image"], {"image": "b"}),
        (definition(a=SIZE, b=WORD), {"b": "x", "c": 3}, {"a": 512, "b": "x"}),
        (definition(seed=SEED, m=["MODEL"]), {"seed": 1, "m": 2}, {"seed": 1}),
        (definition(f=FORCED, a=SIZE, b=WORD), ["skip", 1, "x"], {"a": 1, "b": "x"}),
        (definition(a=SIZE, f=FORCED, b=WORD), [1, "skip", "x"], {"a": 1, "b": "x"}),
        (definition(f=FORCED, a=SIZE, b=WORD), [1, "x"], {"a": 1, "b": "x"}),
        (definition(f=FORCED, a=SIZE), [1, "x", 3], {"a": 1}),
        (definition(f=["MODEL", {"forceInput": True}], a=SIZE), [1, 2], {"a": 1}),
        (definition(curve=["CURVE", {}], a=SIZE), [[1, 2], 3], {"curve": [1, 2], "a": 3}),
        (definition(x=["ODD", {"widgetType": "STRING"}], a=SIZE), [1, 2], {"x": 1, "a": 2}),
        (definition(mode=CHOICE, a=SIZE), ["plain", 1], {"mode": "plain", "a": 1}),
        (
            definition(mode=CHOICE, a=SIZE),
            ["sized", 64, 3, 1],
            {"mode": "sized", "mode.width": 64, "mode.seed": 3, "a": 1},
        ),
        (
            definition(mode=CHOICE, a=SIZE),
            ["sized"],
            {"mode": "sized", "mode.width": 512, "mode.seed": 5, "a": 512},
        ),
        (definition(mode=CHOICE, a=SIZE), ["gone", 1], {"mode": "gone", "a": 1}),
        ({}, [1], {}),
        ({"input": {"required": None}}, [1], {}),
    ],
    ids=[
        "by position, links have none",
        "required before optional",
        "the seed's control value is dropped",
        "also as true or false, of noise_seed",
        "INT:seed of another name",
        "INT:seed",
        "declared control value",
        "control value declared as absent",
        "a seed that is no INT",
        "missing at the end",
        "none",
        "nothing saved",
        "neither list nor object",
        "null holds its place",
        "surplus",
        "value of the upload button",
        "by name",
        "by name, links have none",
        "forceInput first, counted",
        "forceInput in between, counted",
        "forceInput, not counted",
        "forceInput, but another count",
        "forceInput of a type without widget",
        "type without a socket",
        "widget of a type that the class names",
        "dynamic combo without inputs",
        "dynamic combo with inputs, its seed without a control value",
        "dynamic combo, inputs missing",
        "dynamic combo, option gone",
        "class without inputs",
        "class with null as inputs",
    ],
)
def test_each_widget_finds_its_value(declared: Json, saved: object, expected: Json) -> None:
    assert values(declared, saved) == expected


def test_a_recorded_sampler_takes_seven_values_of_which_one_is_dropped() -> None:
    saved = [42, "randomize", 25, 6.5, "dpmpp_2m", "karras", 0.9]

    found = values(RECORDED["KSampler"], saved)

    assert count(RECORDED["KSampler"]) == len(saved)
    assert found == {
        "seed": 42,
        "steps": 25,
        "cfg": 6.5,
        "sampler_name": "dpmpp_2m",
        "scheduler": "karras",
        "denoise": 0.9,
    }


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (["INT", {"default": 3}], 3),
        (["COMBO", {"default": "b", "options": ["a", "b"]}], "b"),
        (["INT"], 0),
        (["FLOAT", {}], 0.0),
        (["STRING", ["not", "options"]], ""),
        (["BOOLEAN", {}], False),
        ([["a", "b"], {}], "a"),
        ([[], {}], None),
        (["COMBO", {"options": ["a", "b"]}], "a"),
        (["COMBO", {"options": []}], None),
        (["COMBO", {}], None),
        (CHOICE, "plain"),
        (["CURVE", {}], None),
    ],
    ids=str,
)
def test_what_is_missing_has_the_default_of_its_kind(spec: list[Any], expected: Any) -> None:
    assert default(spec) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a cat", "a cat"),
        ("a /* not\nthis */ cat", "a  cat"),
        ("a cat // not this\nbut this", "a cat \nbut this"),
        ("see https://example.org/a\nnext", "see https:\nnext"),
        ("{a}", "a"),
        ("{}", ""),
        ("{{a}}", "a"),
        ("x {a|a} y", "x a y"),
        ("{a{b|b}c|a{b|b}c}", "abc"),
        (r"\{a\|b\}", "{a|b}"),
        (r"{a\|b}", "a|b"),
        (r"{a\}b}", "a}b"),
        (r"a \(b:1.2\) \n", r"a \(b:1.2\) \n"),
        ("ends with \\", "ends with \\"),
        ("{ends with \\", "ends with \\"),
        ("{never closed", "never closed"),
        ("closed } twice }", "closed } twice }"),
        ("a|b", "a|b"),
        ("", ""),
    ],
    ids=repr,
)
def test_a_prompt_loses_comments_braces_and_escapes(text: str, expected: str) -> None:
    assert dynamic_prompt(text) == expected


def test_braces_give_each_of_their_choices_and_nothing_else() -> None:
    random.seed(1)

    found = {dynamic_prompt("{a|b{c|d}|}!") for _ in range(200)}

    assert found == {"a!", "bc!", "bd!", "!"}


@pytest.mark.parametrize(
    ("class_type", "name", "spec", "value", "expected"),
    [
        ("CLIPTextEncode", "text", ["STRING", {"dynamicPrompts": True}], "a // b", "a "),
        ("CLIPTextEncode", "text", ["STRING", {"dynamicPrompts": True}], 7, 7),
        ("PrimitiveString", "value", ["STRING", {}], "{a} // b", "{a} // b"),
        ("KSampler", "sampler_name", [["euler"], {}], "sample_euler", "euler"),
        ("KSampler", "sampler_name", [["euler"], {}], "euler", "euler"),
        ("KSampler", "sampler_name", [["euler"], {}], 3, 3),
        ("KSampler", "scheduler", [["simple"], {}], "sample_simple", "sample_simple"),
        ("KSamplerSelect", "sampler_name", [["euler"], {}], "sample_euler", "sample_euler"),
        ("LoraLoader", "lora_name", [["a"], {}], "sub\\b.safetensors", "sub\\b.safetensors"),
        ("Points", "points", ["CURVE", {}], [1, 2], {"__value__": [1, 2]}),
        ("Points", "points", ["CURVE", {}], {"x": [1]}, {"x": [1]}),
        ("Points", "points", ["BOOLEAN", {}], False, False),
    ],
    ids=[
        "dynamic prompt",
        "dynamic prompt that is no text",
        "other text",
        "old name of a sampler",
        "name of a sampler",
        "sampler that is no text",
        "other combo",
        "sampler of another class",
        "value that is in no list",
        "list",
        "object",
        "false",
    ],
)
def test_values_are_sent_as_the_frontend_sends_them(
    class_type: str, name: str, spec: list[Any], value: Any, expected: Any
) -> None:
    sent = served(class_type, name, spec, value)

    assert sent == expected
    assert type(sent) is type(expected)


def test_comments_that_are_never_closed_take_no_time() -> None:
    text = "/* " * 80_000

    assert dynamic_prompt(text) == text


def test_braces_nested_without_end_are_left_alone() -> None:
    text = "{" * 20_000

    assert dynamic_prompt(text) == text
