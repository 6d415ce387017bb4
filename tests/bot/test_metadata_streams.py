"""WebM, Ogg and GLB: the texts are gone, and no byte of the rest has moved."""

import itertools
import json
import random
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bot.metadata import strip
from tests.bot.stripping import PROMPT, SECRET, stripped

SOUNDS = random.Random(1).randbytes(3000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "0"


# WebM and Matroska

SEGMENT, INFO, CLUSTER, BLOCK = 0x18538067, 0x1549A966, 0x1F43B675, 0xA3
TAGS, TAG, ATTACHMENTS, TITLE = 0x1254C367, 0x7373, 0x1941A469, 0x7BA9
CUES, CHECKSUM, VOID = 0x1C53BB6B, 0xBF, 0xEC
UNKNOWN = b"\x01" + b"\xff" * 7


def element(kind: int, *inside: bytes, width: int = 8, length: bytes | None = None) -> bytes:
    body = b"".join(inside)
    told = (1 << 7 * width | len(body)).to_bytes(width)
    return kind.to_bytes((kind.bit_length() + 7) // 8) + (length or told) + body


def void(size: int) -> bytes:
    width = 1 if size < 128 else 8
    return element(VOID, bytes(size - 1 - width), width=width)


HEADER = element(0x1A45DFA3, element(0x4282, b"webm", width=1), width=1)
DATE = element(0x4461, bytes(8), width=1)
FILM = element(CLUSTER, element(BLOCK, b"frames", SOUNDS), element(BLOCK, element(TAGS, b"frame")))
LIVE_FILM = element(CLUSTER, element(BLOCK, SOUNDS), element(0xE7, b"\1"), length=UNKNOWN)


def tags(size: int = 300, width: int = 8) -> bytes:
    return element(TAGS, element(TAG, SECRET, bytes(size), width=2), width=width)


def webm(*inside: bytes, length: bytes | None = None) -> bytes:
    return HEADER + element(SEGMENT, *inside, length=length)


@pytest.mark.parametrize("width", [2, 3, 8])
@pytest.mark.parametrize("size", [0, 1, *range(94, 106), 300, 16000])
def test_the_tags_of_a_webm_become_void_of_their_length(path: Path, size: int, width: int) -> None:
    told = tags(size, width)
    rest = element(INFO, DATE), FILM, element(CUES, b"where")

    clean = stripped(path, webm(told, *rest))

    assert clean == webm(void(len(told)), *rest)


def test_tags_without_content_become_void_too(path: Path) -> None:
    empty = element(TAGS, width=1)

    assert stripped(path, webm(empty, FILM)) == webm(void(5), FILM)


def test_all_tags_the_attachments_and_the_title_are_gone(path: Path) -> None:
    files, title = element(ATTACHMENTS, SECRET * 9), element(TITLE, SECRET, width=1)
    data = webm(element(INFO, DATE, title, DATE), tags(), FILM, files, FILM, tags(5))

    clean = stripped(path, data)

    assert SECRET in data
    assert clean == webm(
        element(INFO, DATE, void(len(title)), DATE),
        void(len(tags())), FILM, void(len(files)), FILM, void(len(tags(5))),
    )  # fmt: skip


def test_a_checksum_that_is_no_longer_true_goes_with_the_title(path: Path) -> None:
    checksum, title = element(CHECKSUM, b"abcd", width=1), element(TITLE, SECRET, width=1)

    clean = stripped(path, webm(element(INFO, checksum, title, DATE), FILM))

    assert clean == webm(element(INFO, void(len(checksum)), void(len(title)), DATE), FILM)


def test_a_live_webm_loses_its_tags_wherever_they_are(path: Path) -> None:
    def live(told: bytes) -> bytes:
        return webm(told, LIVE_FILM, told, FILM, LIVE_FILM, LIVE_FILM, told, length=UNKNOWN)

    assert stripped(path, live(tags())) == live(void(len(tags())))


@pytest.mark.parametrize(
    "data",
    [
        webm(element(INFO, element(CHECKSUM, b"abcd", width=1), DATE), FILM),
        webm(tags(), FILM) + b"\0",
        webm(tags(), FILM) + b"garbage behind it",
        webm(tags(), element(0xEC, length=UNKNOWN)),
        webm(tags(), element(TAGS, b"without an end", length=UNKNOWN)),
        HEADER + bytes(4096),
        HEADER + b"\xff" * 4096,
    ],
)
def test_a_webm_that_tells_nothing_or_is_damaged_stays_as_it_is(path: Path, data: bytes) -> None:
    assert stripped(path, data) == data


def test_a_long_film_is_not_read(path: Path) -> None:
    size = 2**31
    cluster = CLUSTER.to_bytes(4) + (1 << 56 | size).to_bytes(8)
    with path.open("wb") as file:
        begin = file.write(HEADER + element(SEGMENT, tags(), length=UNKNOWN) + cluster)
        file.seek(size, 1)
        file.write(tags())

    tracemalloc.start()
    strip(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most < 2**20
    with path.open("rb") as file:
        assert SECRET not in file.read(begin)
        file.seek(size, 1)
        assert file.read() == void(len(tags()))


# Ogg


def checksum(page: bytes) -> int:
    """Bit by bit, as RFC 3533 tells it."""
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = value << 1 ^ (0x104C11DB7 if value >> 31 else 0)
    return value


def test_the_checksum_here_is_the_one_libogg_writes() -> None:
    written = bytes.fromhex(
        "4f676753000200000000000000000171634800000000fcc12cd5"
        "01134f707573486561640102380180bb0000000000"
    )

    assert checksum(written[:22] + bytes(4) + written[26:]) == 0xD52CC1FC


def ogg(*groups: list[bytes], stream: int = 7) -> bytes:
    """Each group of packets begins a page and goes on over as many as it needs."""
    made: list[bytes] = []
    for group in groups:
        body, at = b"".join(group), 0
        lengths = [n for each in group for n in [255] * (len(each) // 255) + [len(each) % 255]]
        for number in range(0, len(lengths), 255):
            segments = lengths[number : number + 255]
            flags = 0 if made else 2
            flags |= number > 0 and lengths[number - 1] == 255
            head = struct.pack("<4sBBQIIIB", b"OggS", 0, flags, 99, stream, len(made), 0, 0)[:-1]
            page = head + bytes([len(segments), *segments]) + body[at : at + sum(segments)]
            at += sum(segments)
            made.append(page[:22] + struct.pack("<I", checksum(page)) + page[26:])
    return b"".join(made)


def pages(data: bytes) -> list[bytes]:
    return [b"OggS" + each for each in data.split(b"OggS")[1:]]


def comments(kind: str, *texts: bytes) -> bytes:
    listed = b"".join(struct.pack("<I", len(each)) + each for each in texts)
    inside = struct.pack("<I", 4) + b"Lavf" + struct.pack("<I", len(texts)) + listed
    return b"OpusTags" + inside if kind == "opus" else b"\x03vorbis" + inside + b"\1"


def opus(told: bytes, **more: int) -> bytes:
    return ogg([b"OpusHead" + bytes(11)], [told], [SOUNDS[:400], SOUNDS], [SOUNDS], **more)


def vorbis(told: bytes, **more: int) -> bytes:
    """The setup follows the comments in the same page."""
    setup = b"\x05vorbis" + SOUNDS
    return ogg([b"\x01vorbis" + bytes(23)], [told, setup], [SOUNDS], **more)


SAVED = {"opus": opus, "vorbis": vorbis}


def emptied(kind: str, told: bytes) -> bytes:
    return comments(kind).ljust(len(told), b"\0")


@pytest.mark.parametrize("kind", SAVED)
@pytest.mark.parametrize("size", [0, 1, 200, 255, 64900, *range(64980, 65040, 7), 150_000])
def test_the_comments_of_an_ogg_are_none_and_nothing_moves(
    path: Path, kind: str, size: int
) -> None:
    told = comments(kind, b"prompt=" + PROMPT.encode(), b"workflow=" + bytes(size))

    clean = stripped(path, SAVED[kind](told))

    assert clean == SAVED[kind](emptied(kind, told))


@pytest.mark.parametrize("full", [1, 2])
def test_comments_that_fill_their_pages_end_on_the_next(path: Path, full: int) -> None:
    """A packet of whole segments ends with an empty one, here the first of another page."""
    bare = len(comments("opus", b""))
    told = comments("opus", SECRET.ljust(full * 255 * 255 - bare, b"."))

    assert stripped(path, opus(told)) == opus(emptied("opus", told))


def test_every_stream_of_an_ogg_loses_its_comments(path: Path) -> None:
    one, two = comments("opus", SECRET, bytes(70_000)), comments("vorbis", SECRET)

    clean = stripped(path, opus(one) + vorbis(two, stream=8) + opus(one, stream=9))

    assert clean == (
        opus(emptied("opus", one))
        + vorbis(emptied("vorbis", two), stream=8)
        + opus(emptied("opus", one), stream=9)
    )


def test_streams_whose_pages_alternate_lose_their_comments(path: Path) -> None:
    def mixed(one: bytes, two: bytes) -> bytes:
        first, *sounds = pages(opus(one))
        second, *others = pages(vorbis(two, stream=8))
        rest = itertools.chain.from_iterable(itertools.zip_longest(sounds, others, fillvalue=b""))
        return first + second + b"".join(rest)

    one, two = comments("opus", SECRET, bytes(70_000)), comments("vorbis", SECRET)

    clean = stripped(path, mixed(one, two))

    assert clean == mixed(emptied("opus", one), emptied("vorbis", two))


LYING = b"OpusTags" + b"\xff\xff\xff\x7fLavf" + bytes(99)


@pytest.mark.parametrize(
    "data",
    [
        opus(comments("opus")),
        vorbis(comments("vorbis")),
        opus(LYING),
        opus(b"OpusTags"),
        opus(b""),
        opus(comments("vorbis", SECRET)),
        opus(comments("opus", SECRET)) + b"garbage",
        opus(comments("opus", SECRET)) + b"OggS" + bytes(22) + b"\xff",
        ogg([b"\x7fFLAC"], [SECRET]),
        ogg([b"OpusHead"]),
    ],
)
def test_an_ogg_that_tells_nothing_or_is_damaged_stays_as_it_is(path: Path, data: bytes) -> None:
    assert stripped(path, data) == data


# GLB

MESHES = {"accessors": [{"max": [0.10000000149011612, 1e-07, 3]}], "nodes": [{"extras": {"a": 1}}]}


def glb(scene: Any, *, version: int = 2, size: int = 0, mesh: bytes = SOUNDS) -> bytes:
    text = scene if isinstance(scene, bytes) else json.dumps(scene).encode()
    text = text.ljust(max(size, len(text) + -len(text) % 4))
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    chunks += struct.pack("<I4s", len(mesh), b"BIN\0") + mesh
    return struct.pack("<4sII", b"glTF", version, 12 + len(chunks)) + chunks


def scene_of(data: bytes) -> Any:
    (size,) = struct.unpack_from("<I", data, 12)
    return json.loads(data[20 : 20 + size])


def test_the_extras_of_a_glb_are_gone_and_its_meshes_stay(path: Path) -> None:
    told = {"prompt": PROMPT, "workflow": PROMPT}
    asset = {"version": "2.0", "generator": "Ünicode"}
    data = glb({"asset": {**asset, "extras": told}, **MESHES, "extras": told})

    clean = stripped(path, data)

    assert SECRET in data
    assert SECRET not in clean
    assert scene_of(clean) == {"asset": asset, **MESHES}
    assert len(clean) == len(data)
    assert (clean[:20], clean[-len(SOUNDS) - 8 :]) == (data[:20], data[-len(SOUNDS) - 8 :])


@pytest.mark.parametrize("asset", [{}, None, [], {"version": "2.0"}])
def test_the_extras_of_the_whole_are_gone_whatever_the_asset_is(path: Path, asset: object) -> None:
    clean = stripped(path, glb({"asset": asset, "extras": [PROMPT]}))

    assert scene_of(clean) == {"asset": asset}


@pytest.mark.parametrize(
    "data",
    [
        glb({"asset": {"version": "2.0"}, **MESHES}),
        glb({"asset": {"extras": PROMPT}}, version=1),
        glb([{"extras": PROMPT}]),
        glb(b'{"asset": {"extras": "' + SECRET),
        glb(b'{"asset": {"extras": "\xff"}}'),
        glb(b"[" * 200_000),
        glb(b'{"extras": 1, "a": [' + b"1e9," * 99 + b"0]}"),
        b"glTF",
        b"glTF\2\0\0\0" + bytes(12),
        b"glTF\2\0\0\0\xff\xff\xff\xff\xff\xff\xff\xffJSON{}",
    ],
)
def test_a_glb_that_tells_nothing_or_is_damaged_stays_as_it_is(path: Path, data: bytes) -> None:
    assert stripped(path, data) == data


# What is damaged

TOLD = comments("opus", SECRET, bytes(400))
WHOLE: dict[str, Callable[[], bytes]] = {
    "webm": lambda: webm(element(INFO, element(TITLE, SECRET)), tags(), element(CUES, SOUNDS[:99])),
    "ogg": lambda: ogg([b"OpusHead" + bytes(11)], [TOLD], [SOUNDS[:600]]),
    "glb": lambda: glb({"asset": {"extras": PROMPT}}, mesh=b""),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_that_ends_in_the_middle_stays_as_it_is(path: Path, kind: str) -> None:
    whole = WHOLE[kind]()
    ends = set(range(len(whole)))
    if kind == "ogg":  # between two pages it is whole
        ends -= {at for at in ends if whole[at : at + 4] == b"OggS"}
    if kind == "glb":  # as soon as the texts are whole
        ends -= set(range(len(whole) - 8, len(whole)))
    changed = [cut for cut in ends if stripped(path, whole[:cut]) != whole[:cut]]

    assert changed == []


@pytest.mark.parametrize("kind", WHOLE)
def test_a_lying_length_neither_fails_nor_changes_the_size(path: Path, kind: str) -> None:
    whole = WHOLE[kind]()
    sizes = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\1", b"\1\0\0\0", b"\x7f\xff\xff\xff")

    for at, size in itertools.product(range(4, min(len(whole), 150)), sizes):
        lying = whole[:at] + size + whole[at + 4 :]
        assert len(stripped(path, lying)) == len(lying)
