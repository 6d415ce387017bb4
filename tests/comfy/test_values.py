"""Values that people give: what is taken, and that every bad one is refused in words."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfy.errors import ParameterError, WorkflowFileError
from comfy.graph import Graph, InputRef, check_graph, with_inputs
from comfy.library import read_workflow
from comfy.nodes import parse_object_info
from comfy.parameters import Parameter, Role
from comfy.values import SEED_MAX, coerce, is_denied, overrides, refuse_dangerous

WORKFLOW = read_workflow(Path(__file__).parents[2] / "workflows" / "txt2img.json")
GRAPH = WORKFLOW.graph
PARAMETERS = WORKFLOW.parameters({})
DECLARED = {ref for each in PARAMETERS.values() for ref in each.targets}


def parameter(kind: str, role: Role = Role.OTHER, **more: Any) -> Parameter:
    return Parameter("it", role, (), kind, None, **more)


STEPS = parameter("INT", min=1, max=60)
CFG = parameter("FLOAT", min=1.0, max=20.0)
SEED = parameter("INT", Role.SEED)
CHOICE = parameter("COMBO", choices=("euler", "DPM++ 2M", 2))
TEXT = parameter("STRING", Role.TEXT)
FLAG = parameter("BOOLEAN")


@pytest.mark.parametrize(
    ("where", "value", "expected"),
    [
        (STEPS, 20, 20),
        (STEPS, 20.0, 20),
        (STEPS, " 20 ", 20),
        (STEPS, "+20", 20),
        (STEPS, "2e1", 20),
        (STEPS, 1, 1),
        (STEPS, 60, 60),
        (CFG, "7.5", 7.5),
        (CFG, 7, 7.0),
        (CFG, "7", 7.0),
        (parameter("FLOAT"), -1e10, -1e10),
        (SEED, 0, 0),
        (SEED, SEED_MAX, SEED_MAX),
        (SEED, str(SEED_MAX), SEED_MAX),
        (CHOICE, "euler", "euler"),
        (CHOICE, " EULER ", "euler"),
        (CHOICE, "dpm++ 2m", "DPM++ 2M"),
        (CHOICE, 2, 2),
        (CHOICE, "2", 2),
        (FLAG, True, True),
        (FLAG, "Yes", True),
        (FLAG, "on", True),
        (FLAG, 1, True),
        (FLAG, False, False),
        (FLAG, " no ", False),
        (FLAG, "off", False),
        (FLAG, 0, False),
        (TEXT, "a cat", "a cat"),
        (TEXT, "", ""),
        (TEXT, "a\x00b", "ab"),
        (parameter("STRING", Role.IMAGE, choices=("a.png",)), "b.png", "b.png"),
    ],
    ids=repr,
)
def test_a_good_value_is_taken_as_comfyui_wants_it(
    where: Parameter, value: object, expected: Any
) -> None:
    taken = coerce(where, value)

    assert taken == expected
    assert type(taken) is type(expected)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (STEPS, float("nan")),
        (STEPS, "nan"),
        (CFG, float("nan")),
        (CFG, "NaN"),
        (STEPS, float("inf")),
        (CFG, float("-inf")),
        (CFG, "Infinity"),
        (CFG, "-inf"),
        (CFG, 1e999),
        (CFG, "1e999"),
        (STEPS, "1e999"),
        (STEPS, "9" * 5000),
        (CFG, "9" * 5000),
        (SEED, -1),
        (SEED, "-1"),
        (SEED, 2**64),
        (SEED, str(2**64)),
        (STEPS, True),
        (CFG, False),
        (STEPS, "512px"),
        (STEPS, "0x10"),
        (STEPS, "1_0"),
        (STEPS, ""),
        (STEPS, 1.5),
        (STEPS, "1.5"),
        (STEPS, 0),
        (STEPS, 61),
        (CFG, -1),
        (CFG, 20.001),
        (STEPS, "١٢"),
        (STEPS, "１２"),
        (STEPS, "²"),
        (STEPS, None),
        (STEPS, ["4", 0]),
        (STEPS, {"__value__": ["4", 0]}),
        (CHOICE, "ddim"),
        (CHOICE, ""),
        (CHOICE, "x" * 100),
        (CHOICE, ["euler"]),
        (FLAG, "maybe"),
        (FLAG, 2),
        (TEXT, 5),
        (TEXT, True),
        (TEXT, ["4", 0]),
        (TEXT, {"text": "a"}),
        (TEXT, None),
        (TEXT, "a \ud83d"),
    ],
    ids=lambda value: repr(value)[:30] if not isinstance(value, Parameter) else value.type,
)
def test_a_bad_value_is_refused(where: Parameter, value: object) -> None:
    with pytest.raises(ParameterError) as caught:
        coerce(where, value)

    assert str(caught.value).startswith("`it` ")


@pytest.mark.parametrize(
    "where",
    [parameter("INT"), parameter("FLOAT"), SEED, CHOICE, FLAG, TEXT],
    ids=["whole number", "number", "seed", "choice", "flag", "text"],
)
@pytest.mark.parametrize(
    "value", [10**400, -(10**400), 10**5000], ids=["400 digits", "below zero", "5000 digits"]
)
def test_a_number_that_no_float_holds_or_nobody_can_print_is_refused(
    where: Parameter, value: int
) -> None:
    with pytest.raises(ParameterError, match="`it` takes a smaller number"):
        coerce(where, value)


@pytest.mark.parametrize(
    ("where", "value", "told"),
    [
        (STEPS, "many", "`it` takes a whole number, not 'many'."),
        (CFG, "many", "`it` takes a number, not 'many'."),
        (STEPS, 99, "`it` must be between 1 and 60, not 99."),
        (CFG, 99, "`it` must be between 1 and 20, not 99."),
        (parameter("INT", min=5), 4, "`it` must be between 5 and any, not 4."),
        (parameter("INT", max=5), 6, "`it` must be between any and 5, not 6."),
        (CHOICE, "ddim", "`it` cannot be 'ddim'. It can be: euler, DPM++ 2M, 2."),
        (
            parameter("COMBO", choices=tuple("abcdefghij")),
            "y" * 99,
            f"`it` cannot be '{'y' * 39}…'. It can be: a, b, c, d, e, f, g, h and 2 more.",
        ),
    ],
    ids=["whole", "number", "int range", "float range", "no top", "no bottom", "choice", "choices"],
)
def test_a_refusal_says_what_is_allowed(where: Parameter, value: object, told: str) -> None:
    with pytest.raises(ParameterError) as caught:
        coerce(where, value)

    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("width", 16384),
        ("height", 16384),
        ("batch", 4096),
        ("steps", 10000),
        ("cfg", -1),
        ("width", 255),
    ],
)
def test_a_workflow_that_ships_refuses_what_would_choke_a_server(name: str, value: int) -> None:
    with pytest.raises(ParameterError, match=f"`{name}` must be between"):
        coerce(PARAMETERS[name], value)


def body(**inputs: Any) -> dict[str, Any]:
    return {"inputs": inputs}


def test_declared_inputs_are_taken_as_checked_values() -> None:
    data = {"2": body(text="a cat"), "5": body(steps="30", cfg=6)}

    values = overrides(GRAPH, PARAMETERS, data, privileged=False)

    assert values == {
        InputRef("2", "text"): "a cat",
        InputRef("5", "steps"): 30,
        InputRef("5", "cfg"): 6.0,
    }


BAD_OVERRIDES: dict[str, Callable[[], Any]] = {
    "an unknown node": lambda: {"99": body(text="a")},
    "a new node": lambda: {"99": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}},
    "a class beside the inputs": lambda: {"2": {"class_type": "X", "inputs": {"text": "a"}}},
    "a title beside the inputs": lambda: {"2": {"_meta": {}, "inputs": {"text": "a"}}},
    "a link for a text": lambda: {"2": body(text=["4", 0])},
    "a link for a number": lambda: {"5": body(steps=["4", 0])},
    "a wrapped list": lambda: {"2": body(text={"__value__": ["4", 0]})},
    "an object for a number": lambda: {"5": body(steps={"a": {"b": 1}})},
    "an undeclared input": lambda: {"5": body(model="x")},
    "an input that is not there": lambda: {"5": body(nothing=1)},
    "an input of another node": lambda: {"3": body(steps=5)},
    "inputs as a list": lambda: {"2": {"inputs": []}},
    "inputs that are null": lambda: {"2": {"inputs": None}},
    "inputs as a text": lambda: {"2": {"inputs": "text"}},
    "no inputs": lambda: {"2": {}},
    "a node that is null": lambda: {"2": None},
    "a node as a list": lambda: {"2": ["text", "a"]},
    "a list at the top": lambda: [{"2": body(text="a")}],
    "null at the top": lambda: None,
    "a text at the top": lambda: "2.text=a",
    "a number at the top": lambda: 5,
    "an id out of JavaScript": lambda: {"__proto__": body(text="a")},
    "an id with a blank": lambda: {"2 ": body(text="a")},
    "an id as a number": lambda: {2: body(text="a")},
    "ten thousand ids": lambda: {str(n): body(text="a") for n in range(100, 10_100)},
    "ten thousand inputs": lambda: {"2": body(**{f"text{n}": "a" for n in range(10_000)})},
    "not a number": lambda: json.loads('{"5": {"inputs": {"cfg": NaN}}}'),
    "infinity": lambda: json.loads('{"5": {"inputs": {"cfg": Infinity}}}'),
    "less than everything": lambda: json.loads('{"5": {"inputs": {"cfg": -Infinity}}}'),
    "1e999": lambda: json.loads('{"5": {"inputs": {"cfg": 1e999}}}'),
    "a number of 5000 digits": lambda: {"5": body(steps="9" * 5000)},
    "a number of 400 digits": lambda: json.loads('{"5": {"inputs": {"cfg": ' + "9" * 400 + "}}}"),
    "a seed below zero": lambda: {"5": body(seed=-1)},
    "a seed of 65 bits": lambda: {"5": body(seed=2**64)},
    "true for a number": lambda: {"5": body(steps=True)},
    "a number with a unit": lambda: {"4": body(width="512px")},
    "a huge width": lambda: {"4": body(width=16384)},
    "a huge batch": lambda: {"4": body(batch_size=4096)},
    "too many steps": lambda: {"5": body(steps=10000)},
    "a negative cfg": lambda: {"5": body(cfg=-1)},
    "other digits": lambda: {"5": body(steps="١٢")},
    "where files go": lambda: {"7": body(filename_prefix="../../web/x")},
}


@pytest.mark.parametrize("privileged", [False, True], ids=["member", "privileged"])
@pytest.mark.parametrize("data", BAD_OVERRIDES.values(), ids=BAD_OVERRIDES.keys())
def test_bad_overrides_are_refused(data: Callable[[], Any], privileged: bool) -> None:
    with pytest.raises(ParameterError):
        overrides(GRAPH, PARAMETERS, data(), privileged=privileged)


def test_one_bad_override_refuses_all() -> None:
    data = {"2": body(text="a cat"), "5": body(steps=10_000)}

    with pytest.raises(ParameterError):
        overrides(GRAPH, PARAMETERS, data, privileged=False)


UNDECLARED: dict[str, Any] = {
    "1": {
        "class_type": "Custom",
        "inputs": {
            "level": 3,
            "mode": "soft",
            "flag": True,
            "share": 0.5,
            "linked": ["2", 0],
            "empty": None,
            "curve": [1, 2, 3],
            "box": {"x": 1},
            "image": "a.png",
            "filename_prefix": "x",
            "output_path": "out",
            "my_script": "x",
            "api_key_value": "x",
        },
    },
    "2": {"class_type": "SaveImageDataSetToFolder", "inputs": {"size": 3}},
    "3": {"class_type": "CheckpointSave", "inputs": {"size": 3}},
    "4": {"class_type": "TrainLoraNode", "inputs": {"steps": 3}},
}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("level", 5, 5),
        ("level", 2**53 + 1, 2**53 + 1),
        ("level", 2.5, 2.5),
        ("mode", "hard", "hard"),
        ("flag", "off", False),
        ("share", "0.25", 0.25),
    ],
)
def test_privileged_people_reach_inputs_that_hold_a_value(
    name: str, value: object, expected: object
) -> None:
    data = {"1": body(**{name: value})}

    values = overrides(UNDECLARED, {}, data, privileged=True)

    assert values == {InputRef("1", name): expected}
    assert type(values[InputRef("1", name)]) is type(expected)


def test_an_input_that_holds_a_number_takes_nothing_else() -> None:
    with pytest.raises(ParameterError, match=r"`1\.level` takes a number, not 'many'"):
        overrides(UNDECLARED, {}, {"1": body(level="many")}, privileged=True)


@pytest.mark.parametrize(
    ("node_id", "name"),
    [
        ("1", "linked"),
        ("1", "empty"),
        ("1", "curve"),
        ("1", "box"),
        ("1", "image"),
        ("1", "filename_prefix"),
        ("1", "output_path"),
        ("1", "my_script"),
        ("1", "api_key_value"),
        ("1", "new"),
        ("2", "size"),
        ("3", "size"),
        ("4", "steps"),
    ],
)
def test_privileged_people_do_not_rewire_nor_reach_files_and_code(node_id: str, name: str) -> None:
    with pytest.raises(ParameterError, match=f"{node_id}.{name} cannot be set"):
        overrides(UNDECLARED, {}, {node_id: body(**{name: "x"})}, privileged=True)


def test_a_member_reaches_nothing_that_is_not_declared() -> None:
    with pytest.raises(ParameterError, match=r"1\.level cannot be set"):
        overrides(UNDECLARED, {}, {"1": body(level=5)}, privileged=False)


def test_the_deny_list_also_holds_for_declared_inputs() -> None:
    ref = InputRef("1", "image")
    declared = {"image": Parameter("image", Role.IMAGE, (ref,), "STRING", "a.png")}

    with pytest.raises(ParameterError, match=r"1\.image cannot be set"):
        overrides(UNDECLARED, declared, {"1": body(image="x.png [output]")}, privileged=True)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["30", "7.5", "euler", "1e400", "-1", "nan"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from([*sorted({ref.name for ref in DECLARED}), "model", "filename_prefix", ""])
BODIES = VALUES | st.fixed_dictionaries(
    {"inputs": VALUES | st.dictionaries(NAMES, VALUES, max_size=3)},
    optional={"class_type": VALUES},
)
OVERRIDES = VALUES | st.dictionaries(
    st.sampled_from([*GRAPH, "99", "__proto__"]) | st.text(max_size=3), BODIES, max_size=3
)


@settings(deadline=None)
@given(OVERRIDES)
def test_whatever_a_member_sends_only_declared_inputs_change_and_only_to_single_values(
    data: Any,
) -> None:
    try:
        values = overrides(GRAPH, PARAMETERS, data, privileged=False)
    except ParameterError:
        return

    assert values.keys() <= DECLARED
    assert all(isinstance(value, str | int | float | bool) for value in values.values())
    changed = with_inputs(GRAPH, values)
    assert changed.keys() == GRAPH.keys()
    for node_id, node in changed.items():
        assert node.keys() == GRAPH[node_id].keys()
        for name, value in node["inputs"].items():
            assert value == GRAPH[node_id]["inputs"][name] or InputRef(node_id, name) in values


# What nobody brings in over Discord


OFFERED = parse_object_info(
    {"KSampler": {}, "FluxPro": {"api_node": True}, "Kling": {"api_node": True}}
)


def using(*classes: str) -> Graph:
    return {str(n): {"class_type": each, "inputs": {}} for n, each in enumerate(classes)}


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        (["SaveImageDataSetToFolder"], "uses SaveImageDataSetToFolder, which reads folders"),
        (["loadtrainingdataset"], "uses loadtrainingdataset, which reads folders"),
        (["KSampler", "ModelSave", "CLIPSave"], "uses CLIPSave, ModelSave, which reads folders"),
        (["TrainLoraNode", "TrainLoraNode"], "uses TrainLoraNode, which reads folders or writes"),
        (["LossGraphNode"], "uses LossGraphNode, which reads"),
        (["Kling", "KSampler", "FluxPro"], "uses FluxPro, Kling, which spends the owner's credits"),
    ],
)
def test_classes_that_reach_too_far_are_for_the_owner_only(classes: list[str], told: str) -> None:
    with pytest.raises(WorkflowFileError) as caught:
        refuse_dangerous(using(*classes), OFFERED)

    assert str(caught.value).startswith(told)
    assert str(caught.value).endswith("by putting the file into the workflows folder.")


@pytest.mark.parametrize(
    "classes",
    [["KSampler"], ["FluxUnknown"], ["CheckpointSaver"], ["SaveImage", "LoadImage"], ["VAESaved"]],
)
def test_ordinary_classes_are_for_all(classes: list[str]) -> None:
    refuse_dangerous(using(*classes), OFFERED)


@pytest.mark.parametrize(
    "name", ["ConstrainImage|pysssss", "ConstrainImageforVideo|pysssss", "ConstrainMask"]
)
def test_a_node_that_constrains_does_not_train(name: str) -> None:
    graph = using(name)
    graph["0"]["inputs"]["size"] = 3

    refuse_dangerous(graph, {})
    assert not is_denied(graph, InputRef("0", "size"))


@pytest.mark.parametrize("name", ["LorasTrainer", "KohyaSSTrain"])
def test_a_node_that_trains_does_so_after_an_s_too(name: str) -> None:
    with pytest.raises(WorkflowFileError, match=f"^uses {name}, which reads folders or writes"):
        refuse_dangerous(using(name), {})


def holding(class_type: str, name: str, value: Any) -> Graph:
    return {"5": {"class_type": class_type, "inputs": {name: value}}}


@pytest.mark.parametrize(
    ("class_type", "name", "value"),
    [
        ("LoadImage", "image", "../../etc/passwd"),
        ("LoadImage", "image", "..\\..\\secret.png"),
        ("LoadImage", "image", "sub/../../x.png [input]"),
        ("LoadImage", "image", ".."),
        ("LoadImage", "image", "/etc/passwd"),
        ("LoadImage", "image", "~/.ssh/id_rsa"),
        ("LoadImage", "image", "\\\\nas\\share\\x.png"),
        ("LoadImage", "image", "C:\\Users\\me\\x.png"),
        ("LoadImage", "image", "c:x.png"),
        ("LoadImageMask", "IMAGE", "/x.png"),
        ("LoadVideo", "file", "/home/me/x.mp4"),
        ("LoadAudio", "audio", "../x.wav"),
        ("LoadLatent", "latent", "../x.latent"),
        ("VHS_LoadVideoPath", "video", "https://example.com/x.mp4"),
        ("VHS_LoadImagesPath", "directory", "/home/me"),
        ("ImageFromURL", "image_url", "http://10.0.0.1/admin"),
        ("LoadThing", "model.path", "file:///etc/passwd"),
        ("SaveThing", "output_folder", "a\n/../../b"),
        ("LoadImage", "image", {"__value__": "../../etc/passwd"}),  # ComfyUI unwraps it
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_place_outside_comfyuis_folders_is_for_the_owner_only(
    class_type: str, name: str, value: Any
) -> None:
    with pytest.raises(WorkflowFileError) as caught:
        refuse_dangerous(check_graph(holding(class_type, name, value)), {})

    assert str(caught.value) == (
        f"names a place outside ComfyUI's folders at 5.{name}. Only the bot's owner can add it, "
        "by putting the file into the workflows folder."
    )


@pytest.mark.parametrize(
    ("class_type", "name", "value"),
    [
        ("LoadImage", "image", "x.png"),
        ("LoadImage", "image", "sub/x.png [input]"),
        ("LoadImage", "image", "sub\\x.png"),
        ("LoadImage", "image", "one..two...png"),
        ("LoadImage", "image", ""),
        ("RegexReplace", "regex_pattern", "\\d+/../(x)"),
        ("RegexReplace", "replace", "/"),
        ("CLIPTextEncode", "text", "a cat .. and /a dog/ by ../somebody, https://example.com"),
        ("CLIPTextEncode", "text", ".."),
        ("SaveImage", "filename_prefix", "ComfyUI"),
        ("KSampler", "denoise", 0.5),
        ("VAEDecode", "image", ["5", 0]),
        ("CheckpointLoaderSimple", "ckpt_name", "SDXL\\base.safetensors"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_stays_in_comfyuis_folders_or_is_no_place_is_for_all(
    class_type: str, name: str, value: Any
) -> None:
    refuse_dangerous(holding(class_type, name, value), {})


@pytest.mark.parametrize(
    ("ref", "denied"),
    [
        (InputRef("1", "level"), False),
        (InputRef("1", "image"), True),
        (InputRef("1", "IMAGE"), True),
        (InputRef("1", "model.image"), True),
        (InputRef("1", "image.level"), False),
        (InputRef("1", "filename_prefix"), True),
        (InputRef("1", "output_path"), True),
        (InputRef("1", "background_image"), False),
        (InputRef("2", "size"), True),
    ],
    ids=str,
)
def test_what_is_denied_is_so_by_its_last_name_or_its_class(ref: InputRef, denied: bool) -> None:
    assert is_denied(UNDECLARED, ref) is denied
