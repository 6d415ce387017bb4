"""Workflows: their names, and what a sidecar may say of the graph beside it."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from comfy.errors import WorkflowFileError
from comfy.graph import InputRef
from comfy.nodes import InputType, NodeType
from comfy.parameters import Role
from comfy.workflow import Sidecar, Workflow, check_name, fitting, name_of, parse_sidecar
from tests.fakes.recordings import graph_of

GRAPH = graph_of("a1_txt2img_success")


# Names


@pytest.mark.parametrize(
    "name",
    ["a", "Flux dev 1.0", "x" * 100, "кошка", "猫", "a_b-c (2)+", "0", "console", "com", "a..b"],
    ids=str,
)
def test_names_that_can_be_typed_are_taken(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", " ", "\t\n", "\u3000"], ids=repr)
def test_a_workflow_needs_a_name(name: str) -> None:
    with pytest.raises(WorkflowFileError, match=r"^needs a name\.$"):
        check_name(name)


def test_a_name_has_at_most_a_hundred_characters() -> None:
    with pytest.raises(WorkflowFileError, match=r"a name of 101 characters, and 100 is the most"):
        check_name("x" * 101)


@pytest.mark.parametrize(
    "name",
    [
        *("_hidden", ".hidden", " a", "-a", "a:b", "a'b", "a`b", "a*b", "a\nb", "a@b", "🐈", "a🐈"),
        *("../x", "..", "a/b", "a\\b", "/etc/passwd", "C:x", "a\x00", "a\x00b", "a\x1b[0m"),
        *("a.", "a ", "a. .", "a\n", "\ufeffa", "a\u202eb", "a|b", "a?b", "<a>", 'a"b', "~a", "$a"),
    ],
    ids=repr,
)
def test_names_that_no_file_or_nobody_at_a_keyboard_can_have_are_refused(name: str) -> None:
    with pytest.raises(WorkflowFileError, match=r"^has a name that cannot be used\. Take letters"):
        check_name(name)


@pytest.mark.parametrize("name", ["con", "CON", "con.txt", "Aux.v2.final", "nul", "COM1", "lpt9.x"])
def test_names_that_windows_reserves_are_refused(name: str) -> None:
    with pytest.raises(WorkflowFileError, match=rf"^cannot be named {name}, which Windows"):
        check_name(name)


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        ("cat.json", "cat"),
        ("a b.c.png", "a b.c"),
        ("no suffix", "no suffix"),
        ("C:\\Users\\me\\cat.json", "cat"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\cat.json", "cat"),
        ("_ComfyUI_00001_.png", "ComfyUI_00001_"),
        ("SPOILER_cat.png", "SPOILER_cat"),
        ("a  *  b?.json", "a b"),
        ("my🐈cat.json", "my cat"),
        ("a\x00b\nc.json", "a b c"),
        ("a...json", "a"),
        ("a..b.json", "a b"),
        ("кошка.json", "кошка"),
        ("x" * 300 + ".json", "x" * 100),
        ("x" * 99 + " y.json", "x" * 99),
        ("(1).json", "1)"),
        (".json", ""),
        ("🐈.json", ""),
        ("___.json", ""),
        ("", ""),
    ],
    ids=repr,
)
def test_a_files_name_becomes_the_nearest_name_that_can_be_used(filename: str, name: str) -> None:
    assert name_of(filename) == name


@example("con.json")
@example("COM1.workflow.json")
@given(st.text(max_size=120) | st.text("aB1_ .()+-/\\\x00é猫🐈\u0301", max_size=120))
def test_a_name_that_is_made_of_a_files_can_be_used_or_is_empty(filename: str) -> None:
    name = name_of(filename)

    assert name == "" or check_name(name) == name


# Sidecars and graphs


@pytest.mark.parametrize("name", ["conditioning", "text"])
def test_a_chain_of_thousands_of_nodes_is_refused(name: str) -> None:
    links = {str(n): {"class_type": "X", "inputs": {name: [str(n + 1), 0]}} for n in range(3000)}
    end = {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat"}}
    sampler = {"class_type": "K", "inputs": {"positive": ["0", 0], "latent_image": ["0", 0]}}

    with pytest.raises(WorkflowFileError, match=r"^chains too many nodes to follow its links\.$"):
        Workflow.of("cat", {**links, "3000": end, "sampler": sampler})


@pytest.mark.parametrize(
    ("sidecar", "told"),
    [
        ('parameters: {a: {targets: [["99", seed]]}}', "sets 99.seed, which is not in the graph"),
        ('parameters: {a: {targets: [["3", sead]]}}', "sets 3.sead, which is not in the graph"),
        ('parameters: {a: {targets: [["3", model]]}}', "sets 3.model, which is linked to a node"),
        ("parameters: {strength: {max: 0.5}}", "refines 'strength', which was not found"),
    ],
    ids=["no such node", "no such input", "linked", "nothing to refine"],
)
def test_a_sidecar_names_only_what_is_in_the_graph(sidecar: str, told: str) -> None:
    with pytest.raises(WorkflowFileError) as caught:
        Workflow.of("cat", GRAPH, parse_sidecar(sidecar))

    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("steps: {min: 9, max: 8}", "a min above the max of steps."),
        ('mine: {targets: [["3", cfg]], min: 0.5, max: 0.25}', "a min above the max of mine."),
        (
            "steps: {default: 0}",
            "a wrong default: `steps` must be between 1 and 10000, not 0.",
        ),
        (
            "steps: {max: 30, default: 31}",
            "a wrong default: `steps` must be between 1 and 30, not 31.",
        ),
        (
            "steps: {default: many}",
            "a wrong default: `steps` takes a whole number, not 'many'.",
        ),
        ("seed: {default: -1}", "a wrong default: `seed` must be between 0 and "),
        ("text: {default: 5}", "a wrong default: `text` takes a text."),
        (
            'mine: {targets: [["3", steps]], min: 64, default: 32}',
            "a wrong default: `mine` must be between 64 and any, not 32.",
        ),
    ],
    ids=[
        "limits", "limits of its own", "below the node's", "above its own", "no number",
        "no seed", "no text", "declared",
    ],
)  # fmt: skip
def test_a_sidecar_that_contradicts_itself_is_refused(settings: str, told: str) -> None:
    with pytest.raises(WorkflowFileError) as caught:
        Workflow.of("cat", GRAPH, parse_sidecar(f"parameters: {{{settings}}}"))

    assert str(caught.value).startswith(f"has a sidecar with {told}")


def test_a_sidecar_declares_parameters_of_its_own() -> None:
    sidecar = parse_sidecar(
        'parameters: {"file type": {targets: [["9", filename_prefix]], description: Which}}'
    )

    declared = Workflow.of("cat", GRAPH, sidecar).parameters({})["file type"]

    assert declared.role is Role.OTHER
    assert declared.targets == (InputRef("9", "filename_prefix"),)
    assert (declared.type, declared.description) == ("STRING", "Which")


def test_a_declared_parameter_wins_over_the_one_that_was_found() -> None:
    sidecar = parse_sidecar('parameters: {text: {targets: [["7", text]]}}')

    workflow = Workflow.of("cat", GRAPH, sidecar)

    assert workflow.parameters({})["text"].targets == (InputRef("7", "text"),)
    assert workflow.parameters({})["text"].role is Role.TEXT


def test_a_declared_parameter_hides_the_one_that_was_found_for_the_same_input() -> None:
    """Else the limits of the sidecar could be passed under the other name."""
    sidecar = parse_sidecar('parameters: {length: {targets: [["3", steps]], max: 30}}')

    parameters = Workflow.of("cat", GRAPH, sidecar).parameters({})

    assert "steps" not in parameters
    assert (parameters["length"].max, parameters["length"].targets) == (
        30,
        (InputRef("3", "steps"),),
    )
    assert "cfg" in parameters


def test_a_parameter_that_is_hidden_cannot_be_refined() -> None:
    sidecar = parse_sidecar('parameters: {length: {targets: [["3", steps]]}, steps: {max: 30}}')

    with pytest.raises(WorkflowFileError, match="refines 'steps', which was not found"):
        Workflow.of("cat", GRAPH, sidecar)


def test_notes_are_for_workflows_whose_text_nobody_declared() -> None:
    graph = {
        "1": {"class_type": "Text Multiline", "inputs": {"text": "a cat"}},
        "2": {"class_type": "Text Multiline", "inputs": {"text": "a dog"}},
        "3": {"class_type": "ShowBoth", "inputs": {"a": ["1", 0], "b": ["2", 0]}},
    }

    found = Workflow.of("cat", graph)
    declared = Workflow.of(
        "cat", graph, parse_sidecar('parameters: {text: {targets: [["1", text]]}}')
    )

    assert "is put together from nodes 1 (Text Multiline), 2 (Text Multiline)" in found.notes[0]
    assert declared.notes == ()


@pytest.mark.parametrize(
    ("settings", "low", "high", "default"),
    [
        ("{min: 5}", 5, 50, 5),
        ("{max: 3}", 2, 3, 3),
        ("{min: 5, default: 30}", 5, 50, 30),
        ("{max: 40}", 2, 40, 4),
        ("{min: 1, max: 60}", 2, 50, 4),
        ("{default: 30}", 2, 50, 30),
        ("{default: 1}", 2, 50, 1),
        ("{min: 30, max: 30, default: 30}", 30, 30, 30),
        ("{description: How long}", 2, 50, 4),
    ],
)
def test_a_sidecar_only_narrows_what_the_server_allows(
    settings: str, low: int, high: int, default: int
) -> None:
    workflow = Workflow.of("cat", GRAPH, parse_sidecar(f"parameters: {{steps: {settings}}}"))
    declared = InputType("steps", "INT", min=2, max=50)
    nodes = {"KSampler": NodeType("KSampler", "KSampler", {"steps": declared})}

    steps = workflow.parameters(nodes)["steps"]

    assert (steps.min, steps.max, steps.default) == (low, high, default)


def test_a_parameter_without_any_range_stays_without_one() -> None:
    workflow = Workflow.of("cat", GRAPH, parse_sidecar("parameters: {text: {description: Words}}"))

    text = workflow.parameters({})["text"]

    assert (text.min, text.max, text.description) == (None, None, "Words")


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (["6", "text"], "text"),
        (["3", "seed"], "seed"),
        (["5", "width"], "width"),
        (["5", "height"], "height"),
        (["5", "batch_size"], "batch"),
    ],
)
def test_a_parameter_that_the_bot_needs_keeps_its_name(target: list[str], name: str) -> None:
    sidecar = Sidecar.model_validate({"parameters": {"mine": {"targets": [target]}}}, strict=False)

    with pytest.raises(WorkflowFileError, match=f"another name: call it '{name}'"):
        Workflow.of("cat", GRAPH, sidecar)


def test_a_default_of_a_declared_parameter_may_be_finer_than_the_graphs_whole_number() -> None:
    graph = {**GRAPH, "20": {"class_type": "FluxGuidance", "inputs": {"guidance": 3}}}
    sidecar = parse_sidecar('parameters: {guidance: {targets: [["20", guidance]], default: 3.5}}')

    assert Workflow.of("cat", graph, sidecar).parameters({})["guidance"].default == 3.5


def test_a_discovered_parameter_keeps_the_targets_that_no_declared_one_took() -> None:
    twofold = {"class_type": "CLIPTextEncodeSDXL", "inputs": {"text_g": "fog", "text_l": "fog"}}
    sidecar = parse_sidecar('parameters: {local: {targets: [["7", text_l]]}}')

    parameters = Workflow.of("cat", {**GRAPH, "7": twofold}, sidecar).parameters({})

    assert [str(ref) for ref in parameters["negative"].targets] == ["7.text_g"]
    assert [str(ref) for ref in parameters["local"].targets] == ["7.text_l"]


@pytest.mark.parametrize(
    "sidecar",
    [
        'a: {targets: [["3", steps]]}, b: {targets: [["3", cfg], ["3", steps]]}',
        'a: {targets: [["3", steps]]}, steps: {targets: [["3", steps]]}',
    ],
    ids=["two declared", "one with the name of a found one"],
)
def test_one_input_has_one_parameter(sidecar: str) -> None:
    with pytest.raises(WorkflowFileError, match=r"'a' and '\w+' both set 3\.steps\.$"):
        Workflow.of("cat", GRAPH, parse_sidecar(f"parameters: {{{sidecar}}}"))


@pytest.mark.parametrize("bound", ["min: .nan", "max: .nan"])
def test_a_limit_that_is_not_a_number_is_refused_as_it_would_limit_nothing(bound: str) -> None:
    sidecar = f'parameters: {{mine: {{targets: [["3", steps]], {bound}}}}}'

    with pytest.raises(WorkflowFileError):
        Workflow.of("cat", GRAPH, parse_sidecar(sidecar))


def test_what_is_hidden_is_marked_so_and_the_rest_is_not() -> None:
    workflow = Workflow.of("cat", GRAPH, parse_sidecar("parameters: {steps: {hidden: true}}"))

    hidden = {name for name, each in workflow.parameters({}).items() if each.hidden}

    assert hidden == {"steps"}


def test_a_workflow_that_nobody_decided_about_is_open_to_all() -> None:
    sidecar = Workflow.of("cat", GRAPH).sidecar

    assert sidecar.enabled
    assert (sidecar.allow.roles, sidecar.allow.channels) == ([], [])


def test_what_moderators_decided_is_with_the_workflow() -> None:
    sidecar = parse_sidecar("enabled: false\nallow: {roles: [5, 6], channels: [7]}")

    workflow = Workflow.of("cat", GRAPH, sidecar)

    assert not workflow.sidecar.enabled
    assert workflow.sidecar.allow.roles == [5, 6]
    assert workflow.sidecar.allow.channels == [7]


def test_outputs_are_known_without_a_server() -> None:
    assert Workflow.of("cat", GRAPH).outputs == (("9", "image"),)


# Settings for another graph

SETTINGS = parse_sidecar("""
title: Cats
enabled: false
allow: {roles: [5]}
parameters:
  steps: {max: 30}
  cfg: {hidden: true}
  lettering: {targets: [["9", filename_prefix]]}
""")


def test_settings_that_fit_another_graph_are_kept() -> None:
    assert fitting(GRAPH, SETTINGS) == (SETTINGS, [])


def test_settings_of_what_another_graph_lacks_go_and_are_named() -> None:
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    }

    kept, dropped = fitting(graph, SETTINGS)

    assert dropped == ["steps", "cfg"]
    assert list(kept.parameters) == ["lettering"]
    assert (kept.title, kept.enabled, kept.allow.roles) == ("Cats", False, [5])


def test_a_default_out_of_another_graphs_range_does_not_keep_the_others_from_fitting() -> None:
    sidecar = parse_sidecar("parameters: {steps: {default: 0}, cfg: {max: 9}}")

    kept, dropped = fitting(GRAPH, sidecar)

    assert (list(kept.parameters), dropped) == (["cfg"], ["steps"])


def test_a_target_that_is_linked_in_another_graph_does_not_fit() -> None:
    graph: dict[str, Any] = {
        **GRAPH,
        "20": {"class_type": "PrimitiveString", "inputs": {"value": "x"}},
        "9": {"class_type": "SaveImage", "inputs": {**GRAPH["9"]["inputs"]}},
    }
    graph["9"]["inputs"]["filename_prefix"] = ["20", 0]

    assert fitting(graph, SETTINGS)[1] == ["lettering"]


def test_fitting_leaves_the_settings_it_was_given_as_they_were() -> None:
    before = SETTINGS.model_copy(deep=True)

    fitting({"1": {"class_type": "A", "inputs": {}}}, SETTINGS)

    assert before == SETTINGS
