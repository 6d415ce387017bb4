"""What `comfycord inspect` tells of one file: the JSON that other programs read."""

import json

import pytest

from comfy.errors import WorkflowFileError
from comfy.graph import Graph
from comfy.inspection import inspect
from comfy.workflow_file import read
from tests.comfy.editor_files import From, Json, file, node
from tests.comfy.folders import chained
from tests.comfy.pictures import png, with_exif
from tests.fakes.recordings import CHECKPOINT, CONTRACT
from tests.graphs import a_graph

INFO: Json = json.loads((CONTRACT / "object_info.json").read_text())
# What the editor's file below becomes.
GRAPH = a_graph(
    n3={"seed": 7, "cfg": 6.5},
    n4={"ckpt_name": CHECKPOINT},
    n5={"height": 768},
    n6={"text": "a cat"},
)
EDITOR: Json = file(
    node(4, "CheckpointLoaderSimple", [CHECKPOINT]),
    node(5, "EmptyLatentImage", [512, 768, 1]),
    node(6, "CLIPTextEncode", ["a cat"], clip=From(4, 1)),
    node(7, "CLIPTextEncode", ["blurry"], clip=From(4, 1)),
    node(
        3,
        "KSampler",
        [7, "randomize", 20, 6.5, "euler", "normal", 1.0],
        model=From(4, 0),
        positive=From(6),
        negative=From(7),
        latent_image=From(5),
    ),
    node(8, "VAEDecode", samples=From(3), vae=From(4, 2)),
    node(9, "SaveImage", ["mine"], images=From(8)),
)
API, WORKFLOW = json.dumps(GRAPH), json.dumps(EDITOR)
NAMES = [
    "text", "negative", "seed", "steps", "cfg", "sampler", "scheduler", "width", "height",
    "batch", "model",
]  # fmt: skip
KEYS = ["name", "role", "targets", "type", "default", "min", "max", "step", "choices"]
FILES: dict[str, tuple[bytes, str]] = {
    "API format": (API.encode(), "api"),
    "the editor's format": (WORKFLOW.encode(), "editor"),
    "PNG with both": (png(prompt=API, workflow=WORKFLOW), "picture"),
    "PNG with the graph": (png(prompt=API), "picture"),
    "PNG with the editor's": (png(workflow=WORKFLOW), "picture"),
    "WebP": (with_exif("WEBP", f"prompt:{API}", f"workflow:{WORKFLOW}"), "picture"),
    "JPEG": (with_exif("JPEG", f"workflow:{WORKFLOW}"), "picture"),
}


def inspected(data: bytes | Graph, info: Json | None = None) -> Json:
    """As a program reads it: written and parsed again."""
    if isinstance(data, dict):
        data = json.dumps(data).encode()
    told = inspect(read(data), INFO if info is None else info).to_json()
    again: Json = json.loads(json.dumps(told, allow_nan=False))
    assert again == told
    return again


@pytest.mark.parametrize(("data", "kind"), FILES.values(), ids=FILES.keys())
def test_every_format_tells_the_same_of_one_workflow(data: bytes, kind: str) -> None:
    told = inspected(data)

    assert told == {**inspected(GRAPH), "format": kind}
    assert list(told) == [
        "format", "parameters", "outputs", "missing_nodes", "missing_models", "notes",
    ]  # fmt: skip


def test_every_parameter_is_told_with_all_that_the_server_says_of_it() -> None:
    told = inspected(GRAPH)

    by_name = {each["name"]: each for each in told["parameters"]}
    assert list(by_name) == NAMES
    assert all(list(each) == KEYS for each in told["parameters"])
    assert {each["name"]: each["role"] for each in told["parameters"]} == {n: n for n in NAMES}
    assert by_name["steps"] == {
        "name": "steps",
        "role": "steps",
        "targets": [["3", "steps"]],
        "type": "INT",
        "default": 20,
        "min": 1,
        "max": 10000,
        "step": None,
        "choices": [],
    }
    assert by_name["text"]["default"] == "a cat"
    assert by_name["text"]["targets"] == [["6", "text"]]
    assert by_name["width"]["step"] == 8
    assert (by_name["seed"]["min"], by_name["seed"]["max"]) == (0, 2**64 - 1)
    assert by_name["model"]["choices"] == [CHECKPOINT]
    assert by_name["sampler"]["type"] == "COMBO"
    assert "euler" in by_name["sampler"]["choices"]


def test_what_comes_out_is_told() -> None:
    told = inspected(GRAPH)

    assert told["outputs"] == [{"node_id": "9", "kind": "image"}]
    assert (told["missing_nodes"], told["missing_models"], told["notes"]) == ([], [], [])


@pytest.mark.parametrize("name", ["API format", "PNG with both", "PNG with the graph", "WebP"])
def test_without_a_server_a_graph_still_tells_its_parameters(name: str) -> None:
    data, kind = FILES[name]

    told = inspected(data, {})

    by_name = {each["name"]: each for each in told["parameters"]}
    assert told["format"] == kind
    assert list(by_name) == NAMES
    assert by_name["sampler"]["choices"] == []
    assert by_name["steps"]["default"] == 20
    assert told["outputs"] == [{"node_id": "9", "kind": "image"}]
    assert (told["missing_nodes"], told["missing_models"], told["notes"]) == ([], [], [])


@pytest.mark.parametrize("name", ["the editor's format", "PNG with the editor's", "JPEG"])
def test_without_a_server_nothing_is_called_missing(name: str) -> None:
    """Nobody knows what a server that was not asked lacks."""
    data, kind = FILES[name]

    told = inspected(data, {})

    assert (told["format"], told["parameters"], told["outputs"]) == (kind, [], [])
    assert (told["missing_nodes"], told["missing_models"]) == ([], [])
    assert len(told["notes"]) == 1


@pytest.mark.parametrize("name", ["the editor's format", "PNG with the editor's", "JPEG"])
def test_nodes_that_the_server_lacks_are_named_though_nothing_else_can_be(name: str) -> None:
    data, kind = FILES[name]
    info = {key: each for key, each in INFO.items() if key not in ("KSampler", "VAEDecode")}

    told = inspected(data, info)

    assert told == {
        "format": kind,
        "parameters": [],
        "outputs": [],
        "missing_nodes": ["KSampler", "VAEDecode"],
        "missing_models": [],
        "notes": ["The file needs nodes that the server does not have: KSampler, VAEDecode."],
    }


def test_of_a_graph_all_is_told_even_if_the_server_lacks_nodes() -> None:
    info = {key: each for key, each in INFO.items() if key not in ("KSampler", "VAEDecode")}

    told = inspected(GRAPH, info)

    assert told["missing_nodes"] == ["KSampler", "VAEDecode"]
    assert [each["name"] for each in told["parameters"]] == NAMES
    assert told["outputs"] == [{"node_id": "9", "kind": "image"}]


def test_files_that_the_server_lacks_are_told_with_their_places() -> None:
    told = inspected(a_graph(GRAPH, n4={"ckpt_name": "gone.safetensors"}))

    assert told["missing_models"] == [["4", "ckpt_name", "gone.safetensors"]]
    assert told["missing_nodes"] == []


def test_what_discovery_cannot_know_is_noted() -> None:
    joined = {
        **a_graph(GRAPH, n6={"text": ["13", 0]}),
        "11": {"class_type": "PrimitiveString", "inputs": {"value": "a cat"}},
        "12": {"class_type": "PrimitiveString", "inputs": {"value": "a dog"}},
        "13": {
            "class_type": "StringConcatenate",
            "inputs": {"string_a": ["11", 0], "string_b": ["12", 0], "delimiter": " "},
        },
    }

    told = inspected(joined)

    (note,) = told["notes"]
    assert "nodes 11 (PrimitiveString), 12 (PrimitiveString)" in note
    assert "text" not in [each["name"] for each in told["parameters"]]


def test_a_picture_whose_versions_differ_is_told_by_what_ran_and_a_note() -> None:
    ran = {**GRAPH, "10": {"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}}}

    told = inspected(png(prompt=json.dumps(ran), workflow=WORKFLOW))

    assert [each["node_id"] for each in told["outputs"]] == ["9", "10"]
    assert told["notes"] == [
        "The picture carries two versions that differ; the one that really ran was taken."
    ]


def test_a_file_that_cannot_become_a_graph_is_refused() -> None:
    with pytest.raises(WorkflowFileError, match="its parts do not fit"):
        inspect(read(b'{"nodes": [5], "links": []}'), INFO)


def test_a_graph_too_long_to_follow_is_refused_in_words() -> None:
    with pytest.raises(WorkflowFileError, match=r"^chains too many nodes"):
        inspect(read(json.dumps(chained()).encode()), {})
