"""What /workflow add refuses: one sentence that says what to do, and the folder as it was."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from comfy.standin import Pace
from tests.comfy.editor_files import file, node
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.hearing import HearingComfyUI
from tests.simulated.bad import sent
from tests.simulated.documented import answered, named
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
    "80 the editor's file with a node that no server has": (
        json.dumps({**WITH_SUBGRAPHS, "nodes": [*WITH_SUBGRAPHS["nodes"], UNKNOWN]}).encode(),
        "MagicWand",
    ),
    "72 the same key twice": (b'{"1": {"class_type": "A", "inputs": {}}, "1": {}}', "'1' twice"),
    "73 100,000 lists, one in the other": (
        b"[" * 100_000 + b"]" * 100_000,
        "nests deeper than 64 levels",
    ),
    "73 70 objects, one in the other, for an input": (
        b'{"1": {"class_type": "A", "inputs": {"a": ' + b'{"a":' * 70 + b"1" + b"}" * 70 + b"}}}",
        "nests deeper than 64 levels",
    ),
    "74 a file of 3 MB": (b'{"1": "' + b"x" * (3 * 2**20) + b'"}', "is larger than 2 MB"),
    "75 a link to a node that is not there": (linked(["99", 0]), "links 2.images to node '99'"),
    "76 a link to output 99 of a node that has one": (
        linked(["1", 99]),
        "links 2.images to something that is not",
    ),
    "76 a link to output -1": (linked(["1", -1]), "links 2.images to something that is not"),
    "76 a list of three in place of a link": (
        linked(["1", 0, 0]),
        "links 2.images to something that is not",
    ),
    "77 nodes that are linked in a circle": (a_circle(), "links its nodes in a circle: "),
    "77 a node that is linked to itself": (
        a_graph(n5={"class_type": "ImageInvert", "inputs": {"image": ["5", 0]}}),
        "links its nodes in a circle: ",
    ),
    "78 a workflow that saves nothing": (
        json.dumps({"1": PICTURE["1"]}).encode(),
        "has no node that saves or shows",
    ),
    "79 a node without `class_type`": (a_graph(n3={"inputs": {}}), "has no class_type at node '3'"),
    "79 `null` for a node": (a_graph(n3=None), "has no class_type at node '3'"),
    "79 a number for `class_type`": (
        a_graph(n3={"class_type": 7}),
        "has no class_type at node '3'",
    ),
    "79 a list for a node's inputs": (
        a_graph(n3={"class_type": "A", "inputs": []}),
        "inputs that are no",
    ),
    "81 a node that writes models": (
        a_graph(n3={"class_type": "CheckpointSave", "inputs": {"filename_prefix": "x"}}),
        "uses CheckpointSave, which reads folders or writes models",
    ),
    "81 a node that trains": (
        a_graph(n3={"class_type": "TrainLoraNode", "inputs": {}}),
        "uses TrainLoraNode, which reads folders or writes models",
    ),
    "81 a node that reads folders": (
        a_graph(n3={"class_type": "LoadImageDataSetFromFolder", "inputs": {}}),
        "uses LoadImageDataSetFromFolder, which reads folders",
    ),
    "87 a bracket behind the end": (GOOD + b"}", "goes on after its end"),
    "87 the same workflow twice in one file": (GOOD + GOOD, "goes on after its end"),
    "87 `NaN` for a number": (
        GOOD.replace(b"255", b"NaN"),
        "holds 1.color, which is not a finite number",
    ),
    "87 `1e999` for a number": (
        GOOD.replace(b"255", b"1e999"),
        "holds 1.color, which is not a finite number",
    ),
    "87 a number of 5,000 digits": (
        GOOD.replace(b"255", b"9" * 5000),
        "holds a number that is too long",
    ),
    "87 a file that was cut off": (GOOD[:-9], "ends too early"),
    "cut off in a string": (GOOD[: GOOD.index(b"EmptyImage") + 4], "ends too early"),
    "87 a file without a byte": (b"", "is empty"),
    "spaces": (b" \n ", "is empty"),
    "87 `null` and nothing else": (b"null", "holds no nodes"),
    "87 `{}`": (b"{}", "holds no nodes"),
    "87 `hello`": (b"hello", "is not JSON"),
    "87 bytes that are no text": (
        b"\xff\xfe\x00\xd8" * 9,
        "is neither text nor a PNG, WebP or JPEG",
    ),
    "87 half a letter in a value": (GOOD.replace(b'"card"', b'"\\ud800"'), ""),
    "half a letter in a name": (GOOD.replace(b'"2"', b'"\\udfff"'), ""),
    "87 2,001 nodes": (
        json.dumps({str(n): PICTURE["1"] for n in range(2001)}).encode(),
        "has 2001 nodes, and 2000 is the most",
    ),
    "a video": (b"\x00\x00\x00\x20ftypisom" + b"\x00\xff" * 99, "is "),
}
BAD_PICTURES = {
    "87 a picture without a workflow in it": (
        picture_file(),
        "is a picture without a workflow in it",
    ),
    "87 a picture that was cut off": (
        ("mine.png", picture_file(prompt=PICTURE)[1][:40]),
        "is a picture that cannot be",
    ),
    "a picture with a circle in it": (
        picture_file(prompt=json.loads(a_circle())),
        "links its nodes in a circle",
    ),
    "87 a picture with `hello` for its workflow": (
        picture_file(prompt="hello"),
        "is a picture whose workflow cannot be used",
    ),
}
CANNOT = "has a name that cannot be used"
BAD_NAMES = {
    "85 `../x` for a name": ("../x", CANNOT),
    "two dots": ("..", CANNOT),
    "a slash": ("a/b", CANNOT),
    "a backslash": ("a\\b", CANNOT),
    "85 `/etc/x` for a name": ("/etc/x", CANNOT),
    "a NUL": ("a\x00b", CANNOT),
    "two lines": ("a\nb", CANNOT),
    "a hidden file": (".hidden", CANNOT),
    "an underscore": ("_mine", CANNOT),
    "a dot behind": ("mine.", CANNOT),
    "a space in front": (" mine", CANNOT),
    "85 a space for a name": (" ", "needs a name"),
    "a tick": ("a`b", CANNOT),
    "85 a name of 101 letters": ("x" * 101, "has a name of 101 characters, and 100 is the most"),
    "85 `CON` for a name": ("CON", "cannot be named CON, which Windows reserves"),
    "Windows with an ending": ("lpt1.txt", "which Windows reserves"),
    "85 a name that differs from another's by its case only": (
        "TXT2IMG",
        "There is a workflow named txt2img; only its case differs.",
    ),
    "longer in bytes than a file's name": ("語" * 100, ""),
}


def head_of(told: str) -> str:
    return told.splitlines()[0].removeprefix("### ") + "."


def is_a_sentence(text: str) -> bool:
    return (
        re.fullmatch(r"\S[^\n]{10,700}\.", text) is not None
        and "went wrong on our side" not in text
    )


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("row", "content", "expected"), named(BAD))
async def test_a_bad_file_is_refused_in_a_sentence_and_changes_nothing(
    shared: Lab, hearing: HearingComfyUI, row: str, content: bytes, expected: str
) -> None:
    before, asked = shared.files(), sent(hearing)

    told = await shared.manage("add", file=("mine.json", content))

    assert told.startswith("mine.json ")
    assert expected in told.replace("\\", "")
    assert is_a_sentence(told)
    assert shared.files() == before
    assert await shared.bot.store.changes("mine", 1) == []
    assert sent(hearing) == asked
    answered(row, told)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("row", "upload", "expected"), named(BAD_PICTURES))
async def test_a_bad_picture_is_refused_in_a_sentence_and_changes_nothing(
    shared: Lab, row: str, upload: tuple[str, bytes], expected: str
) -> None:
    before = shared.files()

    told = await shared.manage("add", file=upload)

    assert expected in told
    assert is_a_sentence(told)
    assert shared.files() == before
    answered(row, told)


@pytest.mark.parametrize("content", [GOOD[:-9], a_circle()], ids=["cut off", "a circle"])
async def test_a_bad_replacement_leaves_the_workflow_as_it_was(lab: Lab, content: bytes) -> None:
    before = lab.files()

    told = await lab.manage("add", file=("txt2img.json", content), replace=True)

    assert is_a_sentence(told)
    assert lab.files() == before
    assert lab.bot.library.workflows["txt2img"].graph == json.loads(before["txt2img.json"])


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("row", "name", "expected"), named(BAD_NAMES))
@pytest.mark.parametrize("replace", [False, True], ids=["new", "replace"])
async def test_a_bad_name_is_refused_in_a_sentence_and_changes_nothing(
    shared: Lab, row: str, name: str, replace: bool, expected: str
) -> None:
    before = shared.files()

    told = await shared.manage("add", file=("mine.json", GOOD), name=name, replace=replace)

    assert expected in told
    assert is_a_sentence(told)
    assert shared.files() == before
    assert not list(shared.folder.glob("*.json"))
    answered(row, told)


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
    ("row", "encoding"),
    [
        ("", "utf-8"),
        ("84 a file with a byte order mark", "utf-8-sig"),
        ("84 a file in UTF-16", "utf-16"),
        ("", "utf-16-le"),
        ("", "utf-16-be"),
        ("", "utf-32"),
    ],
    ids=lambda value: value,
)
async def test_what_peoples_editors_save_is_read(lab: Lab, row: str, encoding: str) -> None:
    graph = txt2img()
    graph["2"]["inputs"]["text"] = "ein Schloß 🏰"

    told = await lab.manage(
        "add", file=("mine.json", json.dumps(graph, ensure_ascii=False).encode(encoding))
    )

    assert "✅ local can run it." in told
    assert lab.bot.library.workflows["mine"].graph["2"]["inputs"]["text"] == "ein Schloß 🏰"
    answered(row, head_of(told))


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
    (warning,) = (line for line in told.splitlines() if "lacks the nodes" in line)
    answered("80 a node that no server has, in API format", f"{head_of(told)} {warning}")


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
        answered("81 a node that costs the owner's credits", api)


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
