"""Binary frames of the socket: a preview that tells whose it is, or nothing at all."""

import io
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from comfy.events import Preview, Progress, parse_binary
from comfy.progress import RunProgress
from tests.fakes.recordings import CONTRACT
from tests.graphs import TXT2IMG

JOB = "0c9f0b3e-5a43-4c5c-8f7e-2f6f4d4f8a11"
JPEG = b"\xff\xd8\xff\xe0 some picture \xff\xd9"
ABOUT = {"node_id": "3", "prompt_id": JOB, "image_type": "image/jpeg"}
RECORDED = {
    "v0.27.0": "e32fe198-8e97-4445-9919-7e867163fd41",
    "v0.3.64": "257567cd-c6ba-40b9-9192-570b4519b013",
}


def recorded(version: str) -> bytes:
    return (CONTRACT / version / "p2_raw_frames_type4_0.bin").read_bytes()


def frame(about: Any = ABOUT, picture: bytes = JPEG, *, kind: int = 4, length: int = -1) -> bytes:
    """*about*: bytes as they are, anything else as JSON. *length*: other than the true one."""
    head = about if isinstance(about, bytes) else json.dumps(about).encode()
    return struct.pack(">II", kind, len(head) if length < 0 else length) + head + picture


@pytest.mark.parametrize(("version", "prompt_id"), RECORDED.items())
def test_a_recorded_frame_is_a_picture_of_its_prompt(version: str, prompt_id: str) -> None:
    preview = parse_binary(recorded(version))

    assert preview is not None
    assert preview.prompt_id == prompt_id
    with Image.open(io.BytesIO(preview.picture)) as picture:
        picture.load()
        assert picture.format == "JPEG"
        assert max(picture.size) <= 512


def test_a_recorded_frame_that_is_cut_before_its_picture_is_nothing() -> None:
    whole = recorded("v0.27.0")
    begins = whole.index(b"\xff\xd8")

    assert begins > 100
    assert {parse_binary(whole[:size]) for size in range(begins)} == {None}


@pytest.mark.parametrize("kind", ["image/jpeg", "image/png"])
def test_jpeg_and_png_are_read(kind: str) -> None:
    assert parse_binary(frame({**ABOUT, "image_type": kind})) == Preview(JOB, JPEG)


NOTHING = {
    "nothing": b"",
    "a head alone": struct.pack(">II", 4, 0),
    "a preview of the older kind": struct.pack(">II", 1, 1) + JPEG,
    "a picture of that kind as PNG": struct.pack(">II", 1, 2) + JPEG,
    "a text": struct.pack(">II", 3, 1) + b"3 done",
    "an unknown kind": frame(kind=5),
    "a kind beyond all": frame(kind=2**32 - 1),
    "a length beyond the frame": frame(length=10_000),
    "a length beyond all": frame(length=2**32 - 1),
    "a length that is too short": frame(length=20),
    "a length of nought": frame(length=0),
    "a head of 64 KB": frame({**ABOUT, "more": "x" * 2**16}),
    "a frame of more than 2 MB": frame(picture=b"x" * 2**21),
    "no JSON": frame(b"not JSON"),
    "no text": frame(b"\xff\xfe\xfd\xfc"),
    "a hundred levels too many": frame(b"[" * 60_000),
    "null": frame(None),
    "a list": frame([ABOUT]),
    "no prompt": frame({"image_type": "image/jpeg"}),
    "a prompt of null": frame({**ABOUT, "prompt_id": None}),
    "a prompt that is a number": frame({**ABOUT, "prompt_id": 7}),
    "no type": frame({"prompt_id": JOB}),
    "another type": frame({**ABOUT, "image_type": "image/svg+xml"}),
    "a type that is a list": frame({**ABOUT, "image_type": ["image/jpeg"]}),
}


@pytest.mark.parametrize("data", NOTHING.values(), ids=NOTHING.keys())
def test_what_is_unknown_or_damaged_is_nothing(data: bytes) -> None:
    assert parse_binary(data) is None


@pytest.mark.parametrize("picture", [b"", b"<html>"], ids=["nothing", "a page"])
def test_what_is_no_picture_is_no_preview(picture: bytes) -> None:
    assert parse_binary(frame(picture=picture)) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_survived(data: bytes) -> None:
    assert parse_binary(data) is None


@given(st.data())
def test_a_frame_with_any_byte_changed_is_a_preview_or_nothing(data: st.DataObject) -> None:
    whole = bytearray(recorded("v0.27.0"))
    whole[data.draw(st.integers(0, 200))] = data.draw(st.integers(0, 255))

    preview = parse_binary(bytes(whole))

    assert preview is None or preview.picture in whole


@given(
    st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(), max_size=5),
    st.binary(max_size=50),
)
def test_more_than_is_needed_in_the_head_changes_nothing(
    more: dict[str, Any], picture: bytes
) -> None:
    assert parse_binary(frame({**more, **ABOUT}, JPEG + picture)) == Preview(JOB, JPEG + picture)


def test_the_newest_preview_is_kept_and_moves_nothing() -> None:
    before = RunProgress.of(TXT2IMG).after(Progress(JOB, "3", 5, 20))

    first = before.after(Preview(JOB, b"first"))
    second = first.after(Preview(JOB, b"second"))
    later = second.after(Progress(JOB, "3", 10, 20))

    assert (before.preview, first.preview, second.preview) == (None, b"first", b"second")
    assert (second.fraction, second.node_id) == (before.fraction, "3")
    assert later.preview == b"second"
    assert later.fraction > before.fraction


def test_a_preview_is_not_written_into_a_log() -> None:
    assert "secret" not in repr(RunProgress.of(TXT2IMG).after(Preview(JOB, b"secret")))
