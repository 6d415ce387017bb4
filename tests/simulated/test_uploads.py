"""What /workflow add refuses: one sentence that says what to do, and the folder as it was."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from comfy.standin import Pace
from tests.comfy.editor_files import file, node
from tests.fakes.comfyui import FakeComfyUI
from tests.simulated.lab import (
    PICTURE,
    WITH_SUBGRAPHS,
    Lab,
    json_file,
    opened,
    picture_file,
    txt2img,
)

GOOD = json.dumps(PICTURE).encode()
UNKNOWN = {
    "id": 3,
    "type": "MagicWand",
    "inputs": [],
    "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": []}],
}


def a_graph(**more: Any) -> bytes:
    """The small one, with other nodes: `n3={…}` is node 3."""
    nodes = {key.removeprefix("n"): value for key, value in more.items()}
    return json.dumps(PICTURE | nodes).encode()


def linked(value: Any) -> bytes:
    """The small one, whose saver gets *value* for its pictures."""
    saver = {**PICTURE["2"], "inputs": {**PICTURE["2"]["inputs"], "images": value}}
    return a_graph(n2=saver)


def chained(length: int) -> bytes:
    """Pictures that are turned *length* times, as many nodes as a file may have."""
    graph: dict[str, Any] = {"0": PICTURE["1"]}
    for number in range(1, length):
        inputs = {"image": [str(number - 1), 0]}
        graph[str(number)] = {"class_type": "ImageInvert", "inputs": inputs}
    last = {"filename_prefix": "x", "images": [str(length - 1), 0]}
    graph[str(length)] = {"class_type": "SaveImage", "inputs": last}
    return json.dumps(graph).encode()


def a_circle() -> bytes:
    inverts = {
        name: {"class_type": "ImageInvert", "inputs": {"image": [other, 0]}}
        for name, other in (("5", "6"), ("6", "5"))
    }
    return json.dumps(PICTURE | inverts).encode()


BAD = {
    "nodes that no server has, in the editor's format": (
        json.dumps({**WITH_SUBGRAPHS, "nodes": [*WITH_SUBGRAPHS["nodes"], UNKNOWN]}).encode(),
        "MagicWand",
    ),
    "twin keys": (b'{"1": {"class_type": "A", "inputs": {}}, "1": {}}', "'1' twice"),
    "depth": (b"[" * 100_000 + b"]" * 100_000, "nests deeper than 64 levels"),
    "depth in a node": (
        b'{"1": {"class_type": "A", "inputs": {"a": ' + b'{"a":' * 70 + b"1" + b"}" * 70 + b"}}}",
        "nests deeper than 64 levels",
    ),
    "3 MB": (b'{"1": "' + b"x" * (3 * 2**20) + b'"}', "is larger than 2 MB"),
    "a node that is not there": (linked(["99", 0]), "links 2.images to node '99'"),
    "slot 99": (linked(["1", 99]), "links 2.images to something that is not"),
    "slot -1": (linked(["1", -1]), "links 2.images to something that is not"),
    "a list in place of a link": (linked(["1", 0, 0]), "links 2.images to something that is not"),
    "a circle": (a_circle(), "links its nodes in a circle: "),
    "a node on itself": (
        a_graph(n5={"class_type": "ImageInvert", "inputs": {"image": ["5", 0]}}),
        "links its nodes in a circle: ",
    ),
    "no output": (json.dumps({"1": PICTURE["1"]}).encode(), "has no node that saves or shows"),
    "no class": (a_graph(n3={"inputs": {}}), "has no class_type at node '3'"),
    "null node": (a_graph(n3=None), "has no class_type at node '3'"),
    "class that is no text": (a_graph(n3={"class_type": 7}), "has no class_type at node '3'"),
    "inputs that are a list": (a_graph(n3={"class_type": "A", "inputs": []}), "inputs that are no"),
    "a saver of checkpoints": (
        a_graph(n3={"class_type": "CheckpointSave", "inputs": {"filename_prefix": "x"}}),
        "uses CheckpointSave, which reads folders or writes models",
    ),
    "training": (
        a_graph(n3={"class_type": "TrainLoraNode", "inputs": {}}),
        "uses TrainLoraNode, which reads folders or writes models",
    ),
    "a reader of folders": (
        a_graph(n3={"class_type": "LoadImageDataSetFromFolder", "inputs": {}}),
        "uses LoadImageDataSetFromFolder, which reads folders",
    ),
    "trailing garbage": (GOOD + b"}", "goes on after its end"),
    "two documents": (GOOD + GOOD, "goes on after its end"),
    "NaN": (GOOD.replace(b"255", b"NaN"), "holds 1.color, which is not a finite number"),
    "infinite": (GOOD.replace(b"255", b"1e999"), "holds 1.color, which is not a finite number"),
    "a number without end": (GOOD.replace(b"255", b"9" * 5000), "holds a number that is too long"),
    "cut off": (GOOD[:-9], "ends too early"),
    "cut off in a string": (GOOD[: GOOD.index(b"EmptyImage") + 4], "ends too early"),
    "empty": (b"", "is empty"),
    "spaces": (b" \n ", "is empty"),
    "null": (b"null", "holds no nodes"),
    "no nodes": (b"{}", "holds no nodes"),
    "words": (b"hello", "is not JSON"),
    "bytes": (b"\xff\xfe\x00\xd8" * 9, "is neither text nor a PNG, WebP or JPEG"),
    "half a letter": (GOOD.replace(b'"card"', b'"\\ud800"'), ""),
    "half a letter in a name": (GOOD.replace(b'"2"', b'"\\udfff"'), ""),
    "too many nodes": (
        json.dumps({str(n): PICTURE["1"] for n in range(2001)}).encode(),
        "has 2001 nodes, and 2000 is the most",
    ),
    "a video": (b"\x00\x00\x00\x20ftypisom" + b"\x00\xff" * 99, "is "),
}
BAD_PICTURES = {
    "no workflow": (picture_file(), "is a picture without a workflow in it"),
    "cut off": (("mine.png", picture_file(prompt=PICTURE)[1][:40]), "is a picture that cannot be"),
    "a circle in it": (picture_file(prompt=json.loads(a_circle())), "links its nodes in a circle"),
    "words in it": (picture_file(prompt="hello"), "is a picture whose workflow cannot be used"),
}


def is_a_sentence(text: str) -> bool:
    return (
        re.fullmatch(r"\S[^\n]{10,700}\.", text) is not None
        and "went wrong on our side" not in text
    )


@pytest.mark.parametrize(("content", "expected"), BAD.values(), ids=BAD.keys())
async def test_a_bad_file_is_refused_in_a_sentence_and_changes_nothing(
    lab: Lab, content: bytes, expected: str
) -> None:
    before = lab.files()

    told = await lab.manage("add", file=("mine.json", content))

    assert told.startswith("mine.json ")
    assert expected in told.replace("\\", "")
    assert is_a_sentence(told)
    assert lab.files() == before
    assert await lab.bot.store.changes("mine", 1) == []


@pytest.mark.parametrize(("upload", "expected"), BAD_PICTURES.values(), ids=BAD_PICTURES.keys())
async def test_a_bad_picture_is_refused_in_a_sentence_and_changes_nothing(
    lab: Lab, upload: tuple[str, bytes], expected: str
) -> None:
    before = lab.files()

    told = await lab.manage("add", file=upload)

    assert expected in told
    assert is_a_sentence(told)
    assert lab.files() == before


@pytest.mark.parametrize("content", [GOOD[:-9], a_circle()], ids=["cut off", "a circle"])
async def test_a_bad_replacement_leaves_the_workflow_as_it_was(lab: Lab, content: bytes) -> None:
    before = lab.files()

    told = await lab.manage("add", file=("txt2img.json", content), replace=True)

    assert is_a_sentence(told)
    assert lab.files() == before
    assert lab.bot.library.workflows["txt2img"].graph == json.loads(before["txt2img.json"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../x", "has a name that cannot be used"),
        ("..", "has a name that cannot be used"),
        ("a/b", "has a name that cannot be used"),
        ("a\\b", "has a name that cannot be used"),
        ("/etc/x", "has a name that cannot be used"),
        ("a\x00b", "has a name that cannot be used"),
        ("a\nb", "has a name that cannot be used"),
        (".hidden", "has a name that cannot be used"),
        ("_mine", "has a name that cannot be used"),
        ("mine.", "has a name that cannot be used"),
        (" mine", "has a name that cannot be used"),
        (" ", "needs a name"),
        ("a`b", "has a name that cannot be used"),
        ("x" * 101, "has a name of 101 characters, and 100 is the most"),
        ("CON", "cannot be named CON, which Windows reserves"),
        ("lpt1.txt", "which Windows reserves"),
        ("TXT2IMG", "There is a workflow named txt2img; only its case differs."),
        ("語" * 100, ""),
    ],
    ids=["up", "dots", "slash", "backslash", "root", "NUL", "line", "hidden", "underscore", "dot",
         "space", "nothing", "tick", "101 letters", "Windows", "Windows with ending", "twin",
         "longer than a file's name"],
)  # fmt: skip
@pytest.mark.parametrize("replace", [False, True], ids=["new", "replace"])
async def test_a_bad_name_is_refused_in_a_sentence_and_changes_nothing(
    lab: Lab, name: str, replace: bool, expected: str
) -> None:
    before = lab.files()

    told = await lab.manage("add", file=("mine.json", GOOD), name=name, replace=replace)

    assert expected in told
    assert is_a_sentence(told)
    assert lab.files() == before
    assert not list(lab.folder.glob("*.json"))


async def test_an_unusable_file_name_asks_for_a_name(lab: Lab) -> None:
    before = lab.files()

    told = await lab.manage("add", file=("---.json", GOOD))

    assert told == "I cannot make a name of this file's. Give a `name`."
    assert lab.files() == before


async def test_the_longest_name_is_taken(lab: Lab) -> None:
    told = await lab.manage("add", file=("mine.json", GOOD), name="x" * 100)

    assert "is added" in told
    assert (lab.folder / f"workflows/{'x' * 100}.json").exists()
    renamed = await lab.manage("rename", workflow="x" * 100, name="y" * 100)
    assert "is now" in renamed


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
async def test_what_peoples_editors_save_is_read(lab: Lab, encoding: str) -> None:
    graph = txt2img()
    graph["2"]["inputs"]["text"] = "ein Schloß 🏰"

    told = await lab.manage(
        "add", file=("mine.json", json.dumps(graph, ensure_ascii=False).encode(encoding))
    )

    assert "✅ local can run it." in told
    assert lab.bot.library.workflows["mine"].graph["2"]["inputs"]["text"] == "ein Schloß 🏰"


async def test_the_body_of_a_request_is_read(lab: Lab) -> None:
    told = await lab.manage("add", file=json_file({"prompt": PICTURE, "client_id": "x"}))

    assert "✅ local can run it." in told
    assert lab.bot.library.workflows["mine"].graph == PICTURE


async def test_the_longest_chain_is_taken_or_refused_in_words(lab: Lab) -> None:
    told = await lab.manage("add", file=("mine.json", chained(1900)))

    assert "went wrong on our side" not in told


async def test_a_class_that_no_server_has_is_added_in_api_format(lab: Lab) -> None:
    unknown = {"class_type": "Magic `@everyone` Wand", "inputs": {}}

    told = await lab.manage("add", file=("mine.json", a_graph(n3=unknown)))

    assert "### mine is added" in told
    assert "lacks the nodes Magic \\`@\u200beveryone\\` Wand" in told
    assert "mine" in lab.bot.library.workflows


class WithCredits(FakeComfyUI):
    """It has a node that calls somebody's paid service."""

    def _info(self) -> dict[str, Any]:
        info = super()._info()
        paid = {**info["EmptyImage"], "api_node": True, "display_name": "Paid"}
        return {**info, "PaidPicture": paid}


PAID = {**PICTURE, "1": {**PICTURE["1"], "class_type": "PaidPicture"}}
CREDITS = "uses PaidPicture, which spends the owner's credits. Only the bot's owner can add it"


async def test_a_node_that_costs_money_is_the_owners_to_add(tmp_path: Path) -> None:
    async with WithCredits(pace=Pace(0, 0)) as comfyui, opened(tmp_path, comfyui.url) as lab:
        before = lab.files()

        api = await lab.manage("add", file=json_file(PAID))
        picture = await lab.manage("add", file=picture_file(prompt=PAID))

        assert CREDITS in api
        assert CREDITS in picture
        assert lab.files() == before


UNCHECKED = (
    "local did not answer yet, so I cannot check all nodes of this file. "
    "Try again when `/test_comfy` is happy."
)


async def test_a_node_that_costs_money_is_refused_while_its_server_is_away(tmp_path: Path) -> None:
    """Else whoever uploads during an outage spends the owner's credits after it."""
    async with WithCredits(pace=Pace(0, 0)) as comfyui:
        port = int(comfyui.url.rsplit(":")[-1])
    async with opened(tmp_path, f"http://127.0.0.1:{port}", up=False) as lab:
        before = lab.files()
        added = await lab.manage("add", file=json_file(PAID))
        assert added == UNCHECKED
        assert lab.files() == before
        server = WithCredits(pace=Pace(0, 0))
        await server.start(port=port)
        try:
            await lab.bot.servers["local"].wait_up()
            assert CREDITS in await lab.manage("add", file=json_file(PAID))
            assert "### mine is added" in await lab.manage("add", file=json_file(PICTURE))
        finally:
            await server.close()


async def test_nothing_is_added_while_no_server_explains_it(tmp_path: Path) -> None:
    async with opened(tmp_path, "http://127.0.0.1:9", up=False) as lab:
        before = lab.files()

        editor = await lab.manage("add", file=json_file(file(node(1, "EmptyImage"))))
        api = await lab.manage("add", file=json_file(PICTURE))

        assert "which only a ComfyUI server can explain, and none answers now." in editor
        assert is_a_sentence(editor)
        assert api == UNCHECKED
        assert lab.files() == before
        assert "❌ local: does not answer" in await lab.manage("test", workflow="txt2img")
