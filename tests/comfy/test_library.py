"""The workflows folder: what loads, what is refused and why, and that a good version stays."""

import asyncio
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

import comfy.library
from comfy.errors import WorkflowFileError
from comfy.graph import InputRef
from comfy.library import Library, read_workflow
from comfy.nodes import InputType, NodeType
from comfy.parameters import Role
from comfy.workflow import Sidecar, Workflow, parse_sidecar
from tests.fakes.recordings import graph_of

GRAPH = graph_of("a1_txt2img_success")
SHIPPED = Path(__file__).parents[2] / "workflows"


def write(folder: Path, name: str, graph: Any = GRAPH, sidecar: str | None = None) -> None:
    (folder / f"{name}.json").write_text(graph if isinstance(graph, str) else json.dumps(graph))
    if sidecar is not None:
        (folder / f"{name}.yaml").write_text(sidecar)


async def loaded(folder: Path) -> Library:
    library = Library(folder)
    await library.refresh()
    return library


async def test_the_workflows_that_ship_load_without_a_complaint() -> None:
    library = await loaded(SHIPPED)

    assert library.workflows.keys() == {"flux", "img2img", "postcard", "txt2img", "upscale"}
    assert library.problems == {}
    assert all(each.sidecar.description for each in library.workflows.values())


async def test_a_file_and_its_sidecar_become_one_workflow(tmp_path: Path) -> None:
    write(tmp_path, "a cat", sidecar="title: Cats\nparameters:\n  steps:\n    max: 30\n")

    library = await loaded(tmp_path)

    workflow = library.workflows["a cat"]
    assert workflow.title == "Cats"
    assert workflow.parameters({})["steps"].max == 30
    assert workflow.graph == GRAPH


async def test_a_workflow_without_sidecar_is_called_by_its_file(tmp_path: Path) -> None:
    write(tmp_path, "plain")

    library = await loaded(tmp_path)

    assert library.workflows["plain"].title == "plain"
    assert library.workflows["plain"].parameters({})["steps"].max == 10000


async def test_a_file_that_breaks_keeps_its_last_good_version_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "cat")
    library = await loaded(tmp_path)
    good = library.workflows["cat"]

    write(tmp_path, "cat", graph="{ broken")
    await library.refresh()

    assert library.workflows["cat"] is good
    assert library.problems["cat.json"].startswith("is not JSON")
    (record,) = caplog.records
    assert record.getMessage() == (
        f"workflow cat.json {library.problems['cat.json']} Its last good version stays."
    )


async def test_a_file_that_was_never_good_is_only_a_problem(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "cat", graph="{ broken")

    library = await loaded(tmp_path)

    assert library.workflows == {}
    assert library.problems.keys() == {"cat.json"}
    (record,) = caplog.records
    assert record.getMessage() == f"workflow cat.json {library.problems['cat.json']}"


async def test_a_file_that_is_mended_loads_again(tmp_path: Path) -> None:
    write(tmp_path, "cat", graph="{ broken")
    library = await loaded(tmp_path)

    write(tmp_path, "cat")
    await library.refresh()

    assert library.problems == {}
    assert library.workflows.keys() == {"cat"}


async def test_a_broken_file_does_not_touch_the_others(tmp_path: Path) -> None:
    write(tmp_path, "bad", graph="{ broken")
    write(tmp_path, "good")

    library = await loaded(tmp_path)

    assert library.workflows.keys() == {"good"}


async def test_a_broken_sidecar_does_not_touch_the_other_workflows(tmp_path: Path) -> None:
    write(tmp_path, "bad", sidecar="title: 2024-13-45")
    write(tmp_path, "good")

    library = await loaded(tmp_path)

    assert library.workflows.keys() == {"good"}
    assert library.problems == {"bad.json": "has a sidecar that is not YAML."}


async def test_a_file_that_is_removed_is_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    write(tmp_path, "cat")
    library = await loaded(tmp_path)

    (tmp_path / "cat.json").unlink()
    await library.refresh()

    assert library.workflows == {}
    assert library.problems == {}
    assert "workflow cat is gone" in caplog.text


async def test_a_file_that_did_not_change_is_not_read_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    write(tmp_path, "cat")
    library = await loaded(tmp_path)
    first = library.workflows["cat"]

    await library.refresh()

    assert library.workflows["cat"] is first
    assert caplog.text.count("workflow cat loaded") == 1


async def test_a_sidecar_that_appears_or_changes_is_read(tmp_path: Path) -> None:
    write(tmp_path, "cat")
    library = await loaded(tmp_path)

    write(tmp_path, "cat", sidecar="title: One cat")
    await library.refresh()
    first = library.workflows["cat"].title
    write(tmp_path, "cat", sidecar="title: Two big cats")
    await library.refresh()

    assert (first, library.workflows["cat"].title) == ("One cat", "Two big cats")


async def test_a_sidecar_that_breaks_keeps_the_last_good_version(tmp_path: Path) -> None:
    write(tmp_path, "cat", sidecar="title: Cats")
    library = await loaded(tmp_path)

    write(tmp_path, "cat", sidecar="titel: Cats and more")
    await library.refresh()

    assert library.workflows["cat"].title == "Cats"
    assert library.problems == {"cat.json": "has a sidecar with an unknown key `titel`."}


async def test_a_file_that_cannot_be_read_is_a_problem_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "cat.json").mkdir()

    library = await loaded(tmp_path)

    assert library.problems == {"cat.json": "cannot be read (Is a directory)."}


async def test_a_link_to_nothing_is_a_problem_with_a_reason(tmp_path: Path) -> None:
    os.symlink(tmp_path / "nothing", tmp_path / "cat.json")

    library = await loaded(tmp_path)

    assert library.problems == {"cat.json": "cannot be read (No such file or directory)."}


async def test_a_folder_that_is_not_there_yet_holds_no_workflows(tmp_path: Path) -> None:
    library = await loaded(tmp_path / "later")
    empty = library.workflows

    (tmp_path / "later").mkdir()
    write(tmp_path / "later", "cat")
    await library.refresh()

    assert empty == {}
    assert library.workflows.keys() == {"cat"}


async def test_workflows_outlast_a_folder_that_goes_away_for_a_while(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "workflows", tmp_path / "elsewhere"
    folder.mkdir()
    write(folder, "cat")
    library = await loaded(folder)
    good = library.workflows["cat"]

    folder.rename(elsewhere)
    with pytest.raises(OSError, match="is not there or not readable"):
        await library.refresh()
    meanwhile = library.workflows
    elsewhere.rename(folder)
    await library.refresh()

    assert meanwhile == library.workflows == {"cat": good}


async def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "lonely.yaml").write_text("title: Nobody's")

    library = await loaded(tmp_path)

    assert library.workflows == library.problems == {}


async def test_marks_that_editors_on_windows_write_are_read(tmp_path: Path) -> None:
    (tmp_path / "cat.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(GRAPH, indent=1).encode())
    (tmp_path / "cat.yaml").write_bytes(b"\xef\xbb\xbftitle: Cats\r\n")

    library = await loaded(tmp_path)

    assert library.problems == {}
    assert library.workflows["cat"].title == "Cats"


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_other_encodings_are_refused(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, "cat", sidecar="title: Cats")
    (tmp_path / f"cat.{suffix}").write_bytes("title: Katzengedöns".encode("utf-16"))

    with pytest.raises(WorkflowFileError, match=r"is not UTF-8 text\."):
        read_workflow(tmp_path / "cat.json")


@pytest.mark.parametrize(
    "name", ["a", "Flux dev 1.0", "x" * 100, "кошка", "猫", "a_b-c (2)+", "0"], ids=str
)
def test_names_that_can_be_typed_are_taken(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(GRAPH))

    assert read_workflow(path).name == name


@pytest.mark.parametrize(
    "name",
    ["_hidden", ".hidden", " a", "-a", "x" * 101, "a:b", "a'b", "a`b", "a*b", "a\nb", "a@b", "🐈"],
    ids=repr,
)
def test_names_that_cannot_be_typed_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(GRAPH))

    with pytest.raises(WorkflowFileError, match="name that cannot be typed"):
        read_workflow(path)


@pytest.mark.parametrize("name", ["conditioning", "text"])
def test_a_chain_of_thousands_of_nodes_is_refused(name: str) -> None:
    links = {str(n): {"class_type": "X", "inputs": {name: [str(n + 1), 0]}} for n in range(3000)}
    end = {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat"}}
    sampler = {"class_type": "K", "inputs": {"positive": ["0", 0], "latent_image": ["0", 0]}}

    with pytest.raises(WorkflowFileError, match=r"^chains too many nodes to follow its links\.$"):
        Workflow.of("cat", {**links, "3000": end, "sampler": sampler})


# Sidecars


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("titel: Cats", "has a sidecar with an unknown key `titel`."),
        ("title: [Cats]", "wrong title: Input should be a valid string"),
        ("title: no", "wrong title"),
        ("title: 5", "wrong title"),
        ("- a", "wrong the file"),
        ("just words", "wrong the file"),
        ("parameters: [steps]", "wrong parameters"),
        ("parameters: {steps: {maximum: 5}}", "an unknown key `parameters.steps.maximum`."),
        ("parameters: {steps: {max: many}}", "wrong parameters.steps.max"),
        ("parameters: {steps: 5}", "wrong parameters.steps"),
        ("parameters: {1: {max: 5}}", "wrong parameters.1"),
        ("parameters: {a: {targets: [x]}}", "wrong parameters.a.targets.0"),
        ('parameters: {a: {targets: [["3"]]}}', "wrong parameters.a.targets.0"),
        ("parameters: {a: {targets: [[3, seed]]}}", "wrong parameters.a.targets.0.0"),
        ("parameters: {a: {default: [1]}}", "wrong parameters.a.default"),
        ("title: a\nb: : c\n", "not YAML at line 2"),
        ("title: 'open\n", "not YAML at line"),
        ("title: !!python/object:os.system x", "not YAML at line 1"),
        ("title: *unknown", "not YAML at line 1"),
        ("title: a\x00b", "is not YAML."),
        ("title: 2024-13-45", "is not YAML."),
        ("title: 0x_", "is not YAML."),
        ("title: !!int x", "is not YAML."),
        ("title: !!int ''", "is not YAML."),
        ("title: !!float ''", "is not YAML."),
        ("title: !!bool x", "is not YAML."),
        ("title: !!timestamp x", "is not YAML."),
        ("title: " + "[" * 1000, "is not YAML"),
        ("title: " + "9" * 5000, "is not YAML."),
    ],
    ids=lambda value: value[:40],
)
def test_a_sidecar_with_a_fault_is_refused_by_its_key_or_line(text: str, told: str) -> None:
    with pytest.raises(WorkflowFileError) as caught:
        parse_sidecar(text)

    assert told in str(caught.value)


@pytest.mark.parametrize("text", ["", "# a comment\n", "{}"], ids=["empty", "comment", "object"])
def test_a_sidecar_may_be_empty(text: str) -> None:
    assert parse_sidecar(text).parameters == {}


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
    graph = {"1": {"class_type": "Text Multiline", "inputs": {"text": "a cat"}}}

    found = Workflow.of("cat", graph)
    declared = Workflow.of(
        "cat", graph, parse_sidecar('parameters: {text: {targets: [["1", text]]}}')
    )

    assert "No sampler found" in found.notes[0]
    assert declared.notes == ()


@pytest.mark.parametrize(
    ("settings", "low", "high", "default"),
    [
        ("{min: 5}", 5, 50, 4),
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


# Watching


class Watched(Library):
    """Fails to look once, and tells when it has looked again."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.failures: list[Exception] = [OSError("disk is away")]
        self.looked = asyncio.Event()

    async def refresh(self) -> None:
        if self.failures:
            raise self.failures.pop()
        await super().refresh()
        self.looked.set()


async def test_watching_goes_on_after_a_folder_could_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(comfy.library, "_POLL", 0.0)
    write(tmp_path, "cat")
    library = Watched(tmp_path)

    watching = asyncio.create_task(library.watch())
    await asyncio.wait_for(library.looked.wait(), 5)
    watching.cancel()
    await asyncio.wait({watching})

    assert library.workflows.keys() == {"cat"}
    assert "cannot be read: disk is away" in caplog.text


async def test_watching_goes_on_after_a_bug_and_tells_each_trouble_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(comfy.library, "_POLL", 0.0)
    library = Watched(tmp_path)
    library.failures = [OSError("gone"), *[OSError("away")] * 3, ZeroDivisionError("a bug")]

    watching = asyncio.create_task(library.watch())
    await asyncio.wait_for(library.looked.wait(), 5)
    watching.cancel()
    await asyncio.wait({watching})

    assert [each.getMessage() for each in caplog.records] == [
        "the workflows folder could not be looked at",
        "the workflows folder cannot be read: away",
        "the workflows folder cannot be read: gone",
    ]


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
