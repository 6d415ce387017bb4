"""Takes out of a file what ComfyUI writes into it: the whole workflow with everybody's prompts.

Losslessly: pictures and sounds keep every byte; only chunks beside them go. Slow: for a thread.
WebM, Opus and 3D files keep what is in them: their texts cannot be taken out in place.
"""

import os
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_TEXTS = {b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"tIME", b"comf"}  # comf: in ComfyUI's APNG
_WEBP_TEXTS = {b"EXIF", b"XMP "}
_WEBP_FLAGS = 0b00001100  # of VP8X: "has EXIF", "has XMP"
_JPEG_TEXTS = {0xE1, 0xED, 0xFE}  # APP1 (EXIF, XMP), APP13, comment
_CHUNK = 256 * 1024


def strip(path: Path) -> None:
    """A file of another kind, or one that is damaged, stays as it is."""
    new = path.with_name(f"{path.name}.stripped")
    with suppress(struct.error, EOFError):
        _strip(path, new)
    new.unlink(missing_ok=True)


def _strip(path: Path, new: Path) -> None:
    with path.open("rb") as file:
        begin = file.read(12)
        file.seek(0)
        rewrite = _rewriting(begin)
        if rewrite is not None:
            with new.open("wb") as target:
                rewrite(file, target)
    if rewrite is not None:
        new.replace(path)
    elif begin[4:8] == b"ftyp":
        _blank_mp4(path)
    elif begin.startswith(b"fLaC"):
        _blank_flac(path)


def _rewriting(begin: bytes) -> Callable[[BinaryIO, BinaryIO], None] | None:
    if begin.startswith(_PNG):
        return _png
    if begin[:4] == b"RIFF" and begin[8:] == b"WEBP":
        return _webp
    if begin.startswith(b"ID3"):
        return _mp3
    return _jpeg if begin.startswith(b"\xff\xd8") else None


def _png(file: BinaryIO, target: BinaryIO) -> None:
    target.write(_read(file, 8))
    while True:
        head = _read(file, 8)
        size, kind = struct.unpack(">I4s", head)
        if not kind.isalpha():  # garbage, which could go on for millions of empty chunks
            raise EOFError
        if kind in _PNG_TEXTS:
            file.seek(size + 4, 1)
            continue
        target.write(head)
        _copy(file, target, size + 4)
        if kind == b"IEND":
            return


def _webp(file: BinaryIO, target: BinaryIO) -> None:
    begin = _read(file, 12)
    if struct.unpack("<I", begin[4:8])[0] + 8 != os.fstat(file.fileno()).st_size:
        raise EOFError
    target.write(begin)
    written = 4
    while head := file.read(8):
        kind, size = struct.unpack("<4sI", head)
        padded = size + size % 2
        if kind in _WEBP_TEXTS:
            file.seek(padded, 1)
            continue
        target.write(head)
        if kind == b"VP8X":
            target.write(bytes([_read(file, 1)[0] & ~_WEBP_FLAGS]))
            padded -= 1
            written += 1
        _copy(file, target, padded)
        written += 8 + padded
    target.seek(4)
    target.write(struct.pack("<I", written))


def _jpeg(file: BinaryIO, target: BinaryIO) -> None:
    target.write(_read(file, 2))
    while True:
        marker = _read(file, 2)
        if marker[0] != 0xFF or marker[1] == 0xDA:  # the picture itself begins
            target.write(marker)
            shutil.copyfileobj(file, target, _CHUNK)
            return
        (size,) = struct.unpack(">H", _read(file, 2))
        if size < 2:
            raise EOFError
        if marker[1] in _JPEG_TEXTS:
            file.seek(size - 2, 1)
        else:
            target.write(marker + struct.pack(">H", size))
            _copy(file, target, size - 2)


def _mp3(file: BinaryIO, target: BinaryIO) -> None:
    """Sounds without the tag in front of them; its size has seven bits in each byte."""
    head = _read(file, 10)
    size = 0
    for byte in head[6:]:
        size = size << 7 | byte & 0x7F
    _read(file, size)
    shutil.copyfileobj(file, target, _CHUNK)


def _read(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise EOFError
    return data


def _copy(file: BinaryIO, target: BinaryIO, size: int) -> None:
    while size > 0:
        data = _read(file, min(size, _CHUNK))
        target.write(data)
        size -= len(data)


def _blank_mp4(path: Path) -> None:
    """`udta` becomes `free`: nothing moves, so every offset in the file stays true."""
    with path.open("r+b") as file:
        end = path.stat().st_size
        for kind, begin, size in _boxes(file, 0, end):
            if kind == b"moov":
                for inner, at, length in list(_boxes(file, begin + 8, begin + size)):
                    if inner in (b"udta", b"meta"):
                        file.seek(at + 4)
                        file.write(b"free" + b"\0" * (length - 8))


def _boxes(file: BinaryIO, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    while at + 8 <= end:
        file.seek(at)
        size, kind = struct.unpack(">I4s", file.read(8))
        if size == 1:
            (size,) = struct.unpack(">Q", _read(file, 8))
        size = size or end - at  # 0: to the end of the file
        if size < 8 or at + size > end:
            return
        yield kind, at, size
        at += size


def _blank_flac(path: Path) -> None:
    """The comments become padding of the same length."""
    with path.open("r+b") as file:
        at, last, end = 4, False, path.stat().st_size
        while not last:
            file.seek(at)
            head = _read(file, 4)
            last, kind = bool(head[0] & 0x80), head[0] & 0x7F
            size = int.from_bytes(head[1:], "big")
            if at + 4 + size > end:
                return
            if kind == 4:
                file.seek(at)
                file.write(bytes([0x80 * last | 1]) + head[1:] + b"\0" * size)
            at += 4 + size
