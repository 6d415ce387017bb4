"""`comfycord convert` and `comfycord inspect`: one workflow file and what is in it."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from tests.bot.shell import Shell
from tests.fakes.comfyui import FakeComfyUI
from tests.graphs import PLAIN, TXT2IMG, a_graph

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests/data/editor"
RECORDED = ROOT / "tests/data/contract/object_info.json"
KEYS = ["format", "parameters", "outputs", "missing_nodes", "missing_models", "notes"]


# convert

EDITOR = {
    "nodes": [
        {
            "id": 1,
            "type": "EmptyImage",
            "inputs": [],
            "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}],
            "widgets_values": [64, 32, 1, 255],
        },
        {
            "id": 2,
            "type": "SaveImage",
            "inputs": [{"name": "images", "type": "IMAGE", "link": 1}],
            "outputs": [],
            "widgets_values": ["card"],
        },
    ],
    "links": [[1, 1, 0, 2, 0, "IMAGE"]],
}
API = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 32, "batch_size": 1, "color": 255},
    },
    "2": {"class_type": "SaveImage", "inputs": {"filename_prefix": "card", "images": ["1", 0]}},
}


def without_titles(text: str) -> Any:
    graph = json.loads(text)
    for node in graph.values():
        node.pop("_meta", None)
    return graph


async def test_convert_asks_the_named_server_for_its_nodes(
    shell: Shell, comfyui: FakeComfyUI, tmp_path: Path
) -> None:
    (tmp_path / "saved.json").write_text(json.dumps(EDITOR))

    told = await shell.runs("convert", "saved.json", "--server", comfyui.url)

    assert (told.code, told.err) == (0, "")
    assert without_titles(told.out) == API


async def test_convert_asks_the_first_server_of_the_settings(
    shell: Shell, comfyui: FakeComfyUI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYUI_BASE_URL", comfyui.url)
    (tmp_path / "saved.json").write_text(json.dumps(EDITOR))

    told = await shell.runs("convert", "saved.json")

    assert without_titles(told.out) == API


def test_convert_reads_the_nodes_from_a_file(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "saved.json").write_text(json.dumps(EDITOR))

    told = shell.run("convert", "saved.json", "--object-info", str(RECORDED))

    assert without_titles(told.out) == API


def test_convert_leaves_api_format_as_it_is(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "saved.json").write_text(json.dumps(API))

    told = shell.run("convert", "saved.json")

    assert json.loads(told.out) == API


async def test_convert_names_the_nodes_that_the_server_lacks(
    shell: Shell, comfyui: FakeComfyUI, tmp_path: Path
) -> None:
    strange = {**EDITOR, "nodes": [*EDITOR["nodes"], {"id": 3, "type": "Magic"}]}
    (tmp_path / "saved.json").write_text(json.dumps(strange))

    told = await shell.runs("convert", "saved.json", "--server", comfyui.url)

    assert (told.code, told.out) == (1, "")
    assert told.err == "The file needs nodes that the server does not have: Magic.\n"


@pytest.mark.parametrize(
    ("content", "arguments", "words"),
    [
        ("{", (), "The file ends too early: a part of it is missing."),
        ("hello", (), "The file is not JSON (line 1)."),
        ("[]", (), "The file holds no nodes."),
        (json.dumps(EDITOR), (), "Name a ComfyUI with --server, or a file with --object-info."),
        (json.dumps(EDITOR), ("--server", "http://127.0.0.1:9"), "nothing listens there"),
        (json.dumps(EDITOR), ("--server", "localhost"), "needs http:// or https:// in front"),
    ],
    ids=["cut off", "not JSON", "no workflow", "no server", "closed port", "no scheme"],
)
def test_convert_says_in_a_sentence_why_not(
    shell: Shell, tmp_path: Path, content: str, arguments: tuple[str, ...], words: str
) -> None:
    (tmp_path / "saved.json").write_text(content)

    told = shell.run("convert", "saved.json", *arguments)

    assert (told.code, told.out) == (1, "")
    assert words in told.err


def a_picture(**texts: str) -> bytes:
    """A PNG with these text chunks."""
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def test_convert_takes_what_really_ran_out_of_a_picture(shell: Shell, tmp_path: Path) -> None:
    picture = a_picture(prompt=json.dumps(API), workflow=json.dumps(EDITOR))
    (tmp_path / "saved.png").write_bytes(picture)

    told = shell.run("convert", "saved.png")

    assert (told.code, told.err) == (0, "")
    assert json.loads(told.out) == API


def test_convert_reads_the_editors_format_out_of_a_picture(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "saved.png").write_bytes(a_picture(workflow=json.dumps(EDITOR)))

    told = shell.run("convert", "saved.png", "--object-info", str(RECORDED))

    assert without_titles(told.out) == API


# inspect


def inspected(shell: Shell, *arguments: str) -> Any:
    done = shell.run("inspect", *arguments, "--json")
    assert (done.code, done.err) == (0, "")
    return json.loads(done.out)


def test_inspect_lists_what_is_in_an_api_file(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "saved.json").write_text(json.dumps(TXT2IMG))

    done = shell.run("inspect", "saved.json", "--object-info", str(RECORDED))

    lines = done.out.splitlines()
    assert (done.code, done.err) == (0, "")
    assert lines[0] == "saved.json (api format)"
    assert "  text       6.text                   STRING   a castle" in lines
    assert "  sampler    3.sampler_name           COMBO    euler" in lines
    assert "  makes image at node 9" in lines
    assert [line for line in lines if line.startswith("  !")] == [
        "  ! the server has no file sd_xl_base_1.0.safetensors (4.ckpt_name)"
    ]


def test_inspect_needs_no_server_for_an_api_file(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "saved.json").write_text(json.dumps({**TXT2IMG, "5:1": {"class_type": "Magic"}}))

    found = inspected(shell, "saved.json")

    assert list(found) == KEYS
    assert found["format"] == "api"
    assert found["missing_nodes"] == found["missing_models"] == []
    (steps,) = (each for each in found["parameters"] if each["name"] == "steps")
    assert steps == {
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


async def test_inspect_asks_the_named_server(
    shell: Shell, comfyui: FakeComfyUI, tmp_path: Path
) -> None:
    graph = a_graph(n4={"ckpt_name": "gone.safetensors"})
    (tmp_path / "saved.json").write_text(json.dumps({**graph, "10": {"class_type": "Magic"}}))

    told = await shell.runs("inspect", "saved.json", "--server", comfyui.url)
    parsed = await shell.runs("inspect", "saved.json", "--server", comfyui.url, "--json")

    assert "  ! the server has no node Magic" in told.out.splitlines()
    assert "  ! the server has no file gone.safetensors (4.ckpt_name)" in told.out.splitlines()
    found = json.loads(parsed.out)
    assert found["missing_nodes"] == ["Magic"]
    assert found["missing_models"] == [["4", "ckpt_name", "gone.safetensors"]]
    (steps,) = (each for each in found["parameters"] if each["name"] == "steps")
    assert (steps["min"], steps["max"]) == (1, 10000)


async def test_inspect_asks_the_server_of_the_settings(
    shell: Shell, comfyui: FakeComfyUI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYUI_BASE_URL", comfyui.url)
    (tmp_path / "saved.json").write_text(json.dumps({"1": {"class_type": "Magic"}}))

    told = await shell.runs("inspect", "saved.json")

    assert "  ! the server has no node Magic" in told.out


def test_inspect_goes_on_without_a_server_of_the_settings_that_is_down(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYUI_BASE_URL", "http://127.0.0.1:9")
    (tmp_path / "saved.json").write_text(json.dumps(PLAIN))

    found = inspected(shell, "saved.json")

    assert found["outputs"] == [{"node_id": "2", "kind": "image"}]


@pytest.mark.parametrize("name", ["subgraph_proxy_widgets", "reroute_chain"])
def test_inspect_reads_the_editors_format(shell: Shell, tmp_path: Path, name: str) -> None:
    case = json.loads((CASES / f"{name}.json").read_text())
    (tmp_path / "object_info.json").write_text(json.dumps(case["object_info"]))
    (tmp_path / "saved.json").write_text(json.dumps(case["ui"]))
    (tmp_path / "api.json").write_text(json.dumps(case["api"]))

    editor = inspected(shell, "saved.json", "--object-info", "object_info.json")
    api = inspected(shell, "api.json", "--object-info", "object_info.json")

    assert (editor["format"], api["format"]) == ("editor", "api")
    names = [each["name"] for each in editor["parameters"]]
    assert {"text", "seed", "steps"} <= set(names)
    assert editor["missing_nodes"] == []
    assert sorted(names) == sorted(each["name"] for each in api["parameters"])


def test_inspect_reads_a_picture(shell: Shell, tmp_path: Path) -> None:
    picture = a_picture(prompt=json.dumps(TXT2IMG), workflow=json.dumps(EDITOR))
    (tmp_path / "saved.png").write_bytes(picture)

    found = inspected(shell, "saved.png", "--object-info", str(RECORDED))

    assert found["format"] == "picture"
    assert found["outputs"] == [{"node_id": "9", "kind": "image"}]
    assert "the one that really ran was taken" in " ".join(found["notes"])


def test_inspect_names_the_nodes_that_an_editors_file_lacks(shell: Shell, tmp_path: Path) -> None:
    strange = {**EDITOR, "nodes": [*EDITOR["nodes"], {"id": 3, "type": "Magic"}]}
    (tmp_path / "saved.json").write_text(json.dumps(strange))

    found = inspected(shell, "saved.json", "--object-info", str(RECORDED))
    told = shell.run("inspect", "saved.json", "--object-info", str(RECORDED))

    assert list(found) == KEYS
    assert (found["format"], found["missing_nodes"]) == ("editor", ["Magic"])
    assert found["parameters"] == found["outputs"] == []
    assert told.code == 0
    assert "  ! the server has no node Magic" in told.out.splitlines()


@pytest.mark.parametrize(
    ("content", "arguments", "words"),
    [
        (b"hello", (), "The file is not JSON (line 1). Export it again in ComfyUI"),
        (b"{", (), "The file ends too early: a part of it is missing."),
        (b"", (), "The file is empty."),
        (b"\x00\xff\xfe\x80", (), "The file is"),
        (b'{"1": null}', (), "The file has no class_type at node '1'."),
        (a_picture(), (), "The file is a picture without a workflow in it."),
        (json.dumps(EDITOR).encode(), (), "Name a ComfyUI with --server, or a file"),
        (json.dumps(API).encode(), ("--server", "http://127.0.0.1:9"), "nothing listens there"),
        (b"[]", ("--object-info", "saved.json"), "The file holds no nodes."),
    ],
    ids=["not JSON", "cut off", "empty", "bytes", "null node", "picture", "no server", "closed",
         "a list"],
)  # fmt: skip
def test_inspect_says_in_a_sentence_why_not(
    shell: Shell, tmp_path: Path, content: bytes, arguments: tuple[str, ...], words: str
) -> None:
    (tmp_path / "saved.json").write_bytes(content)

    told = shell.run("inspect", "saved.json", *arguments)

    assert (told.code, told.out) == (1, "")
    assert words in told.err
    assert told.err.count("\n") == 1
