"""WebM and Matroska: tags, attachments and the title become void of the same length.

Nothing moves, so the positions in the index stay true. An element is an identifier, the length of
its content, and the content; both numbers say with their leading zeros how long they are.
"""

from collections.abc import Iterator
from typing import BinaryIO

_SEGMENT, _INFO, _CLUSTER = 0x18538067, 0x1549A966, 0x1F43B675
_TAGS, _ATTACHMENTS, _TITLE = 0x1254C367, 0x1941A469, 0x7BA9
_CHECKSUM = 0xBF  # CRC-32 of the element it is in, where FFmpeg writes Matroska
_VOID = b"\xec"
_CHUNK = 256 * 1024


def blank(file: BinaryIO) -> None:
    """Raises EOFError, before anything is written, where the file is damaged."""
    found = list(_elements(file))
    if any(kind in (_TAGS, _ATTACHMENTS, _TITLE) for kind, _, _ in found):
        for kind, at, end in found:
            if kind in (_TAGS, _ATTACHMENTS, _TITLE, _CHECKSUM):
                _become_void(file, at, end)


def _elements(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """What lies in the segment, in its info, and in clusters, with its begin and end.

    A live stream does not know the length of its segment and clusters. Going into these instead
    of over them makes that length needless: what follows is the next element, at whatever level.
    """
    at, size = 0, file.seek(0, 2)
    while at < size:
        file.seek(at)
        kind, length = _number(file), _length(file)
        body = file.tell()
        end = body + (length or 0)
        if end > size:
            raise EOFError
        if kind in (_SEGMENT, _INFO) or (kind == _CLUSTER and length is None):
            at = body
        elif length is None:
            raise EOFError
        else:
            yield kind, at, end
            at = end


def _length(file: BinaryIO) -> int | None:
    """None: unknown, which is all ones."""
    number = _number(file)
    ones = (1 << number.bit_length() - 1) - 1
    return None if number & ones == ones else number & ones


def _number(file: BinaryIO) -> int:
    """With the one that ends its leading zeros, as identifiers are written."""
    first = file.read(1)
    following = 8 - int.from_bytes(first).bit_length()
    data = first + file.read(following)
    if following == 8 or len(data) <= following:
        raise EOFError
    return int.from_bytes(data)


def _become_void(file: BinaryIO, at: int, end: int) -> None:
    width = 1 if end - at < 128 else 8
    length = end - at - 1 - width
    file.seek(at)
    file.write(_VOID + (1 << 7 * width | length).to_bytes(width))
    while length > 0:
        length -= file.write(bytes(min(length, _CHUNK)))
