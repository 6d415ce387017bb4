"""Ogg: the comments of Opus and Vorbis become an empty list, followed by zeros.

They are the second packet of a stream. A packet is made of segments and ends with the first that
is shorter than 255 bytes, perhaps pages later. Each page keeps its length and its number, so the
pages with sounds stay as they are.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_HEAD = struct.Struct("<4s x B 8x I 4x 4x B")  # magic, flags, stream, how many segments
_CHECKSUM = slice(22, 26)
_FIRST_OF_STREAM = 0x02
# How the comments begin, and what stands behind them: Vorbis wants a bit there. Decoders of both
# read no further (libvorbis, FFmpeg), and zeros are what RFC 7845 and mutagen pad with.
_COMMENTS = {b"OpusHead": (b"OpusTags", b""), b"\x01vorbis": (b"\x03vorbis", b"\x01")}
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class _Page(NamedTuple):
    at: int
    flags: int
    stream: int
    segments: bytes  # the length of each

    @property
    def body(self) -> int:
        return self.at + _HEAD.size + len(self.segments)

    @property
    def end(self) -> int:
        return self.body + sum(self.segments)


def blank(file: BinaryIO) -> None:
    """Raises EOFError or struct.error, before anything is written, where the file is damaged."""
    for page, empty in list(_emptied(file)):
        file.seek(page.at)
        data = bytearray(file.read(page.end - page.at))
        size, _ = _first_packet(page)
        begin = page.body - page.at
        data[begin : begin + size] = empty.ljust(size, b"\0")
        data[_CHECKSUM] = bytes(4)
        data[_CHECKSUM] = _checksum(data)
        file.seek(page.at)
        file.write(data)


def _emptied(file: BinaryIO) -> Iterator[tuple[_Page, bytes]]:
    """The pages with comments, and what these become there, without the zeros."""
    awaited: dict[int, tuple[bytes, bytes] | None] = {}  # by stream; None: in the middle of it
    for page in _pages(file):
        file.seek(page.body)
        if page.flags & _FIRST_OF_STREAM:
            begin = file.read(8)
            for head, how in _COMMENTS.items():
                if begin.startswith(head):
                    awaited[page.stream] = how
        elif page.stream in awaited:
            size, whole = _first_packet(page)
            expected = awaited.pop(page.stream)
            yield page, _empty(file.read(size), *expected) if expected else b""
            if not whole:
                awaited[page.stream] = None


def _pages(file: BinaryIO) -> Iterator[_Page]:
    at, size = 0, file.seek(0, 2)
    while at < size:
        file.seek(at)
        magic, flags, stream, count = _HEAD.unpack(file.read(_HEAD.size))
        page = _Page(at, flags, stream, file.read(count))
        if magic != b"OggS" or len(page.segments) < count or page.end > size:
            raise EOFError
        yield page
        at = page.end


def _first_packet(page: _Page) -> tuple[int, bool]:
    """How much of a page belongs to it, and whether it ends there."""
    for count, length in enumerate(page.segments, 1):
        if length < 255:
            return sum(page.segments[:count]), True
    return sum(page.segments), False


def _empty(comments: bytes, begin: bytes, behind: bytes) -> bytes:
    """No comments, from the same encoder."""
    (vendor,) = struct.unpack_from("<I", comments, len(begin))
    empty = comments[: len(begin) + 4 + vendor] + bytes(4) + behind
    if not comments.startswith(begin) or len(empty) > len(comments):
        raise EOFError
    return empty


def _checksum(page: bytearray) -> bytes:
    """As zlib's, but from the highest bit to the lowest, and beginning and ending with zeros."""
    mirrored = zlib.crc32(page.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return mirrored.to_bytes(4).translate(_MIRRORED)
