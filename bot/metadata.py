"""Takes out of a file what ComfyUI writes into it: the whole workflow with everybody's prompts.

Losslessly and in place: pictures, sounds and meshes keep every byte. What stands beside them is
cut out, or blanked where a format counts bytes from its beginning. Slow: for a thread.
"""

import json
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from bot import matroska, ogg

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_TEXTS = {b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"tIME", b"comf"}  # comf: in ComfyUI's APNG
_WEBP_TEXTS = {b"EXIF", b"XMP "}
_WEBP_FLAGS = 0b00001100  # of VP8X: "has EXIF", "has XMP"
_JPEG_TEXTS = {0xE1, 0xED, 0xFE}  # APP1 (EXIF, XMP), APP13, comment
_FLAC_COMMENTS, _FLAC_PADDING = 4, 1
_LARGEST_JSON = 16 * 1024**2
_CHUNK = 256 * 1024


def strip(path: Path) -> None:
    """A file of another kind, or one that is damaged, stays as it is."""
    with path.open("r+b") as file, suppress(struct.error, EOFError):
        clean = _cleaning(file.read(12))
        if clean is not None:
            file.seek(0)
            clean(file)


def _cleaning(begin: bytes) -> Callable[[BinaryIO], None] | None:
    if begin[:4] == b"RIFF" and begin[8:] == b"WEBP":
        return _cut_webp
    if begin[4:8] == b"ftyp":
        return _blank_mp4
    known = {
        _PNG: _cut_png,
        b"\xff\xd8": _cut_jpeg,
        b"ID3": _cut_mp3,
        b"fLaC": _blank_flac,
        b"glTF": _blank_glb,
        b"OggS": ogg.blank,
        b"\x1a\x45\xdf\xa3": matroska.blank,
    }
    return next((clean for magic, clean in known.items() if begin.startswith(magic)), None)


def _cut_png(file: BinaryIO) -> None:
    cuts = []
    at, kind = len(_PNG), b""
    while kind != b"IEND":
        file.seek(at)
        size, kind = struct.unpack(">I4s", file.read(8))
        end = _within(file, at + size + 12)
        if not kind.isalpha():  # garbage, which could go on for millions of empty chunks
            raise EOFError
        if kind in _PNG_TEXTS:
            cuts.append((at, end))
        at = end
    _cut(file, [*cuts, (at, _size(file))])


def _cut_webp(file: BinaryIO) -> None:
    _, told, _, first = struct.unpack("<4sI4s4s", file.read(16))
    if told + 8 != _size(file):
        raise EOFError
    cuts: list[tuple[int, int]] = []
    at = 12
    while at < told + 8:
        file.seek(at)
        kind, size = struct.unpack("<4sI", file.read(8))
        end = _within(file, at + 8 + size + size % 2)
        if kind in _WEBP_TEXTS:
            cuts.append((at, end))
        at = end
    if first == b"VP8X":
        file.seek(20)
        (flags,) = struct.unpack("B", file.read(1))
        file.seek(20)
        file.write(bytes([flags & ~_WEBP_FLAGS]))
    _cut(file, cuts)
    file.seek(4)
    file.write(struct.pack("<I", _size(file) - 8))


def _cut_jpeg(file: BinaryIO) -> None:
    cuts: list[tuple[int, int]] = []
    at = 2
    while True:
        file.seek(at)
        begin, kind = struct.unpack("BB", file.read(2))
        if begin != 0xFF or kind == 0xDA:  # the picture itself begins
            _cut(file, cuts)
            return
        (size,) = struct.unpack(">H", file.read(2))
        end = _within(file, at + 2 + size)
        if size < 2:
            raise EOFError
        if kind in _JPEG_TEXTS:
            cuts.append((at, end))
        at = end


def _cut_mp3(file: BinaryIO) -> None:
    """Sounds without the tag in front of them; its size has seven bits in each byte."""
    size = 0
    for byte in struct.unpack("6x4B", file.read(10)):
        size = size << 7 | byte & 0x7F
    _cut(file, [(0, _within(file, 10 + size))])


def _cut(file: BinaryIO, cuts: list[tuple[int, int]]) -> None:
    """What stays moves forward, over what goes."""
    if not any(begin < end for begin, end in cuts):
        return
    to, size = cuts[0][0], _size(file)
    for (_, at), (end, _) in pairwise([*cuts, (size, size)]):
        while at < end:
            file.seek(at)
            data = file.read(min(end - at, _CHUNK))
            file.seek(to)
            file.write(data)
            at, to = at + len(data), to + len(data)
    file.truncate(to)


def _blank_mp4(file: BinaryIO) -> None:
    """`udta` becomes `free`: nothing moves, so every offset in the file stays true."""
    for kind, _, body, end in _boxes(file, 0, _size(file)):
        if kind == b"moov":
            for inner, at, begin, until in list(_boxes(file, body, end)):
                if inner in (b"udta", b"meta"):
                    file.seek(at + 4)
                    file.write(b"free")
                    file.seek(begin)
                    while begin < until:
                        begin += file.write(bytes(min(until - begin, _CHUNK)))


def _boxes(file: BinaryIO, at: int, end: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Of each box its kind, and where it begins, where its content begins, and where it ends."""
    while at + 8 <= end:
        file.seek(at)
        size, kind = struct.unpack(">I4s", file.read(8))
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
        body = file.tell()
        until = at + size if size else end  # 0: to the end of the file
        if not body <= until <= end:
            return
        yield kind, at, body, until
        at = until


def _blank_flac(file: BinaryIO) -> None:
    """The comments become padding of the same length."""
    comments = []
    at, last = 4, False
    while not last:
        file.seek(at)
        (head,) = struct.unpack(">I", file.read(4))
        last, kind, size = bool(head >> 31), head >> 24 & 0x7F, head & 0xFFFFFF
        if kind == _FLAC_COMMENTS:
            comments.append((at, last, size))
        at = _within(file, at + 4 + size)
    for at, last, size in comments:
        file.seek(at)
        file.write(struct.pack(">I", last << 31 | _FLAC_PADDING << 24 | size) + bytes(size))


def _blank_glb(file: BinaryIO) -> None:
    """`asset.extras` becomes spaces behind the JSON: the meshes follow where they did."""
    _, version, _, size, kind = struct.unpack("<4sIII4s", file.read(20))
    if version != 2 or kind != b"JSON" or size > _LARGEST_JSON:
        return
    _within(file, 20 + size)
    with suppress(ValueError, RecursionError):
        text = _without_extras(json.loads(file.read(size)))
        if text is not None and len(text) <= size:
            file.seek(20)
            file.write(text.ljust(size))


def _without_extras(scene: object) -> bytes | None:
    if not isinstance(scene, dict):
        return None
    told = [each for each in (scene, scene.get("asset")) if isinstance(each, dict)]
    if not any([each.pop("extras", None) for each in told]):
        return None
    return json.dumps(scene, ensure_ascii=False, separators=(",", ":")).encode()


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _within(file: BinaryIO, end: int) -> int:
    if end > _size(file):
        raise EOFError
    return end
