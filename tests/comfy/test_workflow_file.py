"""Files that carry a workflow: every format, and that whatever else comes is refused in words."""

import gzip
import io
import json
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from comfy.errors import ConversionError, WorkflowFileError
from comfy.graph import Graph
from comfy.workflow_file import JSON_MAX, Format, WorkflowFile, parse_json, read, to_graph
from tests.comfy.editor_files import INFO, From, Json, file, node
from tests.comfy.pictures import picture, png, with_chunk, with_exif
from tests.fakes.recordings import graph_of

SHARED = Path(__file__).parents[3] / "shared" / "workflow-conversion"
FILES = ["still.png", "anim.webp", "prompt_only.png", "plain.png", "clip.mp4", "sound_flac.flac"]

GRAPH: Graph = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
    "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
}
EDITOR: Json = file(
    node(1, "LoadImage", ["a.png", "image"]), node(2, "PreviewImage", images=From(1))
)
PROMPT, WORKFLOW = json.dumps(GRAPH), json.dumps(EDITOR)
DISAGREE = "The picture carries two versions that differ; the one that really ran was taken."
NO_WORKFLOW = "is a picture without a workflow in it. Discord and many sites remove it"
UNREADABLE = "is a picture that cannot be read. Save it again."


def without_titles(graph: Graph) -> Json:
    return {key: {k: v for k, v in each.items() if k != "_meta"} for key, each in graph.items()}


# Text


def test_api_format_is_read_as_it_stands_in_the_file() -> None:
    assert read(PROMPT.encode()) == WorkflowFile(Format.API, GRAPH)


def test_the_body_of_a_post_is_read_as_the_graph_in_it() -> None:
    assert read(json.dumps({"prompt": GRAPH, "client_id": "x"}).encode()).graph == GRAPH


def test_recorded_graphs_are_read() -> None:
    graph = graph_of("a1_txt2img_success")

    assert read(json.dumps(graph).encode()).graph == graph


def test_the_editors_format_needs_a_server() -> None:
    found = read(WORKFLOW.encode())

    assert found == WorkflowFile(Format.EDITOR, editor=EDITOR)
    assert found.needs_server
    assert not read(PROMPT.encode()).needs_server


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
def test_texts_in_every_unicode_encoding_are_read(encoding: str) -> None:
    graph = {"1": {"class_type": "A", "inputs": {"text": "Katzengedöns 猫 🐈"}}}

    assert read(json.dumps(graph, ensure_ascii=False).encode(encoding)).graph == graph


def test_a_file_of_exactly_2_mib_is_read_and_not_a_byte_more() -> None:
    full = PROMPT.encode() + b" " * (JSON_MAX - len(PROMPT))

    assert JSON_MAX == 2 * 1024 * 1024
    assert read(full).graph == GRAPH
    with pytest.raises(WorkflowFileError, match=r"^is larger than 2 MB, which no workflow is\.$"):
        read(full + b" ")


def nested(levels: int) -> str:
    """A document of that many levels."""
    inner = levels - 3
    return '{"1": {"class_type": "A", "inputs": {"x": ' + "[" * inner + "1" + "]" * inner + "}}}"


def test_64_levels_are_read_and_65_are_too_deep() -> None:
    assert read(nested(64).encode()).graph
    with pytest.raises(WorkflowFileError, match=r"^nests deeper than 64 levels"):
        read(nested(65).encode())


def holding(value: str) -> str:
    return '{"1": {"class_type": "A", "inputs": {"x": ' + value + "}}}"


REFUSED: dict[str, tuple[str | bytes, str]] = {
    "nothing": ("", "is empty."),
    "blanks": (" \r\n\t", "is empty."),
    "a mark of byte order": (b"\xef\xbb\xbf", "is empty."),
    "half a file": (PROMPT[: len(PROMPT) // 2], "ends too early: a part of it is missing."),
    "a file without its last letter": (PROMPT[:-1], "ends too early"),
    "a file that ends in a text": (PROMPT[: PROMPT.index("LoadImage") + 4], "ends too early"),
    "garbage behind it": (PROMPT + "\n}", "goes on after its end, at line 2. Export it again"),
    "two documents": (PROMPT + PROMPT, "goes on after its end, at line 1."),
    "a hundred thousand levels": ("[" * 100_000, "nests deeper than 64 levels"),
    "a thousand levels of objects": ('{"a":' * 1000 + "1" + "}" * 1000, "nests deeper than 64"),
    "a number of 5000 digits": (holding("9" * 5000), "holds a number that is too long."),
    "NaN": (holding("NaN"), "holds 1.x, which is not a finite number."),
    "Infinity": (holding("Infinity"), "holds 1.x, which is not a finite number."),
    "-Infinity": (holding("[-Infinity]"), "holds 1.x, which is not a finite number."),
    "1e999": (holding("1e999"), "holds 1.x, which is not a finite number."),
    "a node twice": ('{"1": {}, "2": {}, "1": {}}', "has '1' twice in one object"),
    "an input twice": (
        '{"1": {"class_type": "A", "inputs": {"x": 1, "x": 2}}}',
        "has 'x' twice in one object, and one of the two would be lost.",
    ),
    "a long name twice": ('{"%s": 1, "%s": 1}' % (("x" * 5000,) * 2), f"has '{'x' * 60}' twice"),
    "a circle": (
        '{"1": {"class_type": "A", "inputs": {"x": ["1", 0]}}}',
        "links its nodes in a circle: 1 → 1.",
    ),
    "a link to nowhere": (holding('["9", 0]'), "links 1.x to node '9', which is not there."),
    "2001 nodes": (
        json.dumps({str(n): {"class_type": "A"} for n in range(2001)}),
        "has 2001 nodes",
    ),
    "no nodes": ("{}", "holds no nodes"),
    "a list": ("[]", "holds no nodes"),
    "null": ("null", "holds no nodes"),
    "other JSON": ('{"name": "x"}', "has no class_type at node 'name'"),
    "Python": ("{'1': {}}", "is not JSON (line 1). Export it again in ComfyUI"),
    "a comma too many": ('{"1": {},\n}', "is not JSON (line 2)."),
    "a page": ("<!DOCTYPE html>", "is not JSON (line 1)."),
    "half of a UTF-16 letter": (b"\xff\xfe{", "is neither text nor a PNG, WebP or JPEG."),
    "bytes": (bytes(range(128, 256)), "is neither text nor a PNG, WebP or JPEG."),
    "zeros": (bytes(20), "is not JSON"),
    "a compressed file": (gzip.compress(PROMPT.encode(), mtime=0), "is neither text nor a PNG"),
    "a GIF": (picture("GIF"), "is n"),
    "half a PNG": (png(prompt=PROMPT)[:60], UNREADABLE),
    "the first bytes of a PNG": (b"\x89PNG\r\n\x1a\n", UNREADABLE),
    "the first bytes of a JPEG": (b"\xff\xd8\xff", UNREADABLE),
    "a sound": (b"RIFF\x24\0\0\0WAVEfmt ", UNREADABLE),
}


@pytest.mark.parametrize(("data", "told"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_workflow_is_refused_with_a_reason(data: str | bytes, told: str) -> None:
    with pytest.raises(WorkflowFileError) as caught:
        read(data.encode() if isinstance(data, str) else data)

    assert told in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_number_of_thousands_of_digits_before_the_point_is_refused_too() -> None:
    with pytest.raises(WorkflowFileError, match="not a finite number"):
        read(holding("9" * 5000 + ".5").encode())


def test_numbers_in_the_editors_format_that_are_not_finite_are_refused_in_its_graph() -> None:
    workflow = file(node(1, "EmptyLatentImage", [float("nan"), 1, 1]))

    with pytest.raises(WorkflowFileError, match=r"holds 1\.width, which is not a finite number"):
        to_graph(read(json.dumps(workflow).encode()), INFO)


def test_a_name_twice_among_many_is_found_at_once() -> None:
    """Two hundred thousand names fit into 2 MiB: comparing each with each takes minutes."""
    names = ",".join(f'"{number}":0' for number in range(15_000))
    began = time.process_time()

    with pytest.raises(WorkflowFileError, match="has '14999' twice"):
        parse_json("{" + names + ',"14999":0}')

    assert time.process_time() - began < 0.5


# Pictures

PICTURES: dict[str, bytes] = {
    "tEXt": png(prompt=PROMPT, workflow=WORKFLOW),
    "iTXt": png("iTXt", prompt=PROMPT, workflow=WORKFLOW),
    "zTXt": png("zTXt", prompt=PROMPT, workflow=WORKFLOW),
    "WebP": with_exif("WEBP", f"prompt:{PROMPT}", f"workflow:{WORKFLOW}"),
    "WebP with blanks": with_exif("WEBP", f"Prompt: {PROMPT}", f"Workflow: {WORKFLOW}"),
    "JPEG": with_exif("JPEG", f"prompt:{PROMPT}", f"workflow:{WORKFLOW}"),
    "PNG with EXIF": with_exif("PNG", f"prompt:{PROMPT}", f"workflow:{WORKFLOW}"),
    "the other way round": with_exif("JPEG", f"workflow:{WORKFLOW}", f"prompt:{PROMPT}"),
}


@pytest.mark.parametrize("data", PICTURES.values(), ids=PICTURES.keys())
def test_a_picture_carries_both_versions(data: bytes) -> None:
    assert read(data) == WorkflowFile(Format.PICTURE, GRAPH, EDITOR)


@pytest.mark.parametrize("kind", ["tEXt", "iTXt", "zTXt"])
def test_letters_of_all_languages_come_out_of_a_picture(kind: str) -> None:
    graph = {"1": {"class_type": "A", "inputs": {"text": "Gedöns 猫 🐈"}}}
    spelled = json.dumps(graph, ensure_ascii=kind != "iTXt")

    assert read(png(kind, prompt=spelled)).graph == graph


@pytest.mark.parametrize(
    ("data", "needs_server"),
    [
        (png(prompt=PROMPT), False),
        (png(workflow=WORKFLOW), True),
        (with_exif("WEBP", f"workflow:{WORKFLOW}"), True),
        (png(prompt=PROMPT, workflow="{ broken"), False),
        (png(prompt="{ broken", workflow=WORKFLOW), True),
        (png(prompt='{"1": {}}', workflow=WORKFLOW), True),
        (png(prompt=PROMPT, workflow=PROMPT), False),
    ],
    ids=[
        "prompt only",
        "workflow only",
        "workflow only in WebP",
        "a broken workflow",
        "a broken prompt",
        "a prompt that is no graph",
        "a workflow that is none",
    ],
)
def test_a_picture_with_one_version_is_enough(data: bytes, needs_server: bool) -> None:
    found = read(data)

    assert found.needs_server is needs_server
    assert (found.graph, found.editor) == ((None, EDITOR) if needs_server else (GRAPH, None))


def test_what_a_server_notes_in_the_prompt_of_a_picture_is_left_out() -> None:
    noted = {key: {**each, "is_changed": [float("nan")]} for key, each in GRAPH.items()}

    assert "NaN" in json.dumps(noted)
    assert read(png(prompt=json.dumps(noted))).graph == GRAPH


CARRIES_NOTHING: dict[str, tuple[bytes, str]] = {
    "no text": (picture(), NO_WORKFLOW),
    "other texts": (png(parameters="a cat, Steps: 20", Comment="{}"), NO_WORKFLOW),
    "other EXIF": (with_exif("JPEG", "Canon EOS 5D", "prompt: a cat"), NO_WORKFLOW),
    "a prompt in words": (png(prompt="a cat"), "cannot be used: it is not JSON (line 1)."),
    "half a prompt": (png(prompt=PROMPT[:-9]), "cannot be used: it ends too early"),
    "a workflow without nodes": (png(workflow="{}"), "cannot be used: it has no nodes."),
    "a circle": (
        png(prompt='{"1": {"class_type": "A", "inputs": {"x": ["1", 0]}}}'),
        "cannot be used: it links its nodes in a circle",
    ),
    "NaN": (png(prompt=holding("NaN")), "cannot be used: it holds 1.x, which is not a finite"),
    "two of one name": (png(prompt='{"1": 1, "1": 2}'), "cannot be used: it has '1' twice"),
    "too long a prompt": (png(prompt=" " * JSON_MAX + PROMPT), "it is larger than 2 MB"),
    "a bomb in zTXt": (
        with_chunk(b"zTXt", b"prompt\0\0" + zlib.compress(bytes(50 * 2**20))),
        UNREADABLE,
    ),
    "a bomb in iTXt": (
        with_chunk(b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(b" " * 50 * 2**20)),
        UNREADABLE,
    ),
    "rubbish in zTXt": (with_chunk(b"zTXt", b"prompt\0\0rubbish"), "cannot be used: it is empty."),
}


@pytest.mark.parametrize(("data", "told"), CARRIES_NOTHING.values(), ids=CARRIES_NOTHING.keys())
def test_a_picture_without_a_workflow_is_refused_with_a_reason(data: bytes, told: str) -> None:
    with pytest.raises(WorkflowFileError) as caught:
        read(data)

    assert told in str(caught.value)


def test_a_picture_that_claims_to_be_huge_is_refused_before_it_fills_the_memory() -> None:
    data = bytearray(png(prompt=PROMPT))
    data[16:24] = (2**30).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")

    with pytest.raises(WorkflowFileError, match=r"^is a picture that cannot be read"):
        read(bytes(data))


def test_no_pixel_is_decoded() -> None:
    whole = png(prompt=PROMPT)
    spoilt = whole[: whole.index(b"IDAT") + 8] + b"\xff" * 30

    with pytest.raises((OSError, SyntaxError, zlib.error)):
        Image.open(io.BytesIO(spoilt)).load()
    assert read(spoilt).graph == GRAPH


# Graphs


def test_a_file_in_api_format_needs_no_server_to_become_a_graph() -> None:
    assert to_graph(read(PROMPT.encode()), {}) == (GRAPH, "")


def test_the_editors_format_becomes_the_graph_that_comfyui_would_queue() -> None:
    graph, note = to_graph(read(WORKFLOW.encode()), INFO)

    assert (without_titles(graph), note) == (GRAPH, "")


def test_the_editors_format_names_the_nodes_that_a_server_lacks() -> None:
    with pytest.raises(ConversionError, match="does not have: LoadImage") as caught:
        to_graph(read(WORKFLOW.encode()), {"PreviewImage": INFO["PreviewImage"]})

    assert caught.value.missing == ("LoadImage",)


def test_an_editors_file_without_nodes_is_refused() -> None:
    with pytest.raises(WorkflowFileError, match="holds no nodes"):
        to_graph(read(b'{"nodes": [], "links": []}'), INFO)


def prompt_with(**changes: Any) -> str:
    return json.dumps({**GRAPH, **{key.removeprefix("n"): each for key, each in changes.items()}})


@pytest.mark.parametrize(
    ("prompt", "info", "note"),
    [
        (PROMPT, INFO, ""),
        (prompt_with(n1={"class_type": "LoadImage", "inputs": {"image": "other.png"}}), INFO, ""),
        (prompt_with(n1={"class_type": "LoadImageMask", "inputs": {}}), INFO, DISAGREE),
        (prompt_with(n2={"class_type": "PreviewImage", "inputs": {}}), INFO, DISAGREE),
        (prompt_with(n3={"class_type": "PreviewImage", "inputs": {}}), INFO, DISAGREE),
        (prompt_with(n3={"class_type": "PreviewImage", "inputs": {}}), {}, ""),
        (PROMPT, {"PreviewImage": INFO["PreviewImage"]}, ""),
    ],
    ids=[
        "they agree",
        "only a value differs",
        "another class",
        "a link less",
        "a node more",
        "no server to ask",
        "a server that lacks a node",
    ],
)
def test_what_really_ran_is_taken_and_a_doubt_is_told(prompt: str, info: Json, note: str) -> None:
    found = to_graph(read(png(prompt=prompt, workflow=WORKFLOW)), info)

    assert found == (json.loads(prompt), note)


# Files that a real server saved


@pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded files are not in this checkout")
@pytest.mark.parametrize("name", FILES)
def test_files_of_a_real_server_hold_what_is_known_of_them(name: str) -> None:
    index = json.loads((SHARED / "files" / "index.json").read_text())
    about, data = index[name], (SHARED / "files" / name).read_bytes()
    if name in ("clip.mp4", "sound_flac.flac", "plain.png"):
        with pytest.raises(WorkflowFileError, match=r"^is (neither text|a picture without)"):
            read(data)
        return
    api = about["api"]
    if isinstance(api, str):
        api = json.loads((SHARED / "files" / api).read_text())["api"]
    info = json.loads(gzip.decompress((SHARED / "object_info-0.8.0.json.gz").read_bytes()))

    found = read(data)
    graph, note = to_graph(found, info)

    assert found.format is Format.PICTURE
    assert (found.editor is not None) is ("workflow" in about["holds"])
    assert note == ""
    for each in graph.values():
        each["inputs"].pop("audioUI", None)  # the browser adds it, and the server never reads it
    assert without_titles(graph) == without_titles(api)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded files are not in this checkout")
def test_every_file_of_a_real_server_is_tried() -> None:
    assert set(json.loads((SHARED / "files" / "index.json").read_text())) == set(FILES)


# Whatever comes

HALVES = st.sampled_from([*PICTURES.values(), PROMPT.encode(), WORKFLOW.encode()])
SPOTS = st.lists(
    st.tuples(st.integers(0, 2000), st.binary(max_size=4), st.integers(0, 8)), max_size=4
)


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A good file of which a few bytes were replaced, added or lost."""
    data = draw(HALVES)
    for at, new, lost in draw(SPOTS):
        at %= len(data) + 1
        data = data[:at] + new + data[at + lost :]
    return data


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["1", "2", "nodes", "prompt", "inputs", "class_type", "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)
BEGINNINGS = st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF", b"\xff\xfe"])


@settings(deadline=None, max_examples=400)
@given(
    st.builds(bytes.__add__, BEGINNINGS, st.binary())
    | spoilt()
    | JSONS.map(lambda each: json.dumps(each).encode())
)
def test_whatever_the_bytes_they_are_a_workflow_or_refused_in_words(data: bytes) -> None:
    try:
        found = read(data)
    except WorkflowFileError as error:
        assert str(error).endswith(".")  # noqa: PT017
    else:
        assert found.graph or found.editor
