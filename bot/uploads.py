"""Files that people give: checked by what they hold, stripped of what they disclose, and kept.

A picture is decoded once, with limits, and written anew as PNG: no place, camera or second life
as another kind of file survives. Its name is made of its content, so the same picture is kept once.
"""

import asyncio
import hashlib
import io
import logging
import os
import re
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from bot.errors import UserError
from bot.jobs import Job
from comfy.client import ComfyClient
from comfy.graph import Graph, with_inputs
from comfy.parameters import Role
from comfy.phrases import Phrase, say

log = logging.getLogger(__name__)

_PIXELS_MAX = 40_000_000
_PICTURES = ("PNG", "JPEG", "WEBP", "GIF")
_DAY = 24 * 3600.0  # seconds
_KEPT = 30 * _DAY
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_NAME = re.compile(r"[0-9a-f]{32}\.[a-z0-9]{2,5}")
# How the files begin (at an offset) that ComfyUI's loaders of video and audio read.
_SIGNATURES: dict[Role, tuple[tuple[int, bytes, str], ...]] = {
    Role.VIDEO: (
        (4, b"ftyp", "mp4"), (0, b"\x1aE\xdf\xa3", "webm"), (0, b"GIF8", "gif"),
    ),
    Role.AUDIO: (
        (0, b"RIFF", "wav"), (0, b"ID3", "mp3"), (0, b"\xff\xfb", "mp3"), (0, b"\xff\xf3", "mp3"),
        (0, b"fLaC", "flac"), (0, b"OggS", "ogg"), (4, b"ftyp", "m4a"),
    ),
}  # fmt: skip
_WANTED = {
    Role.IMAGE: say("a PNG, JPEG, WebP or GIF picture"),
    Role.MASK: say("a PNG, JPEG, WebP or GIF picture"),
    Role.VIDEO: say("an MP4, WebM or GIF video"),
    Role.AUDIO: say("a WAV, MP3, FLAC, OGG or M4A sound"),
}


def check_size(role: Role, size: int, limit_mb: int) -> None:
    """From what Discord says of the file, before it is downloaded."""
    if size > limit_mb * 2**20:
        raise UserError(
            say(
                "The file is larger than {limit} MB, which is the most for `{parameter}`.",
                limit=limit_mb,
                parameter=role,
            )
        )
    if size == 0:
        raise UserError(say("The file for `{parameter}` is empty. Choose another.", parameter=role))


def checked(role: Role, data: bytes) -> tuple[bytes, str]:
    """What may go to a server, and the ending of its name. Slow: for a thread."""
    if role in (Role.IMAGE, Role.MASK):
        return _picture(role, data), "png"
    for offset, begin, suffix in _SIGNATURES[role]:
        if suffix == "wav" and data[8:12] != b"WAVE":
            continue
        if data[offset : offset + len(begin)] == begin:
            return data, suffix
    raise UserError(_something_else(role))


def _something_else(role: Role) -> Phrase:
    return say(
        "`{parameter}` takes {wanted}. This file is something else.",
        parameter=role,
        wanted=_WANTED[role],
    )


def _picture(role: Role, data: bytes) -> bytes:
    try:
        with Image.open(io.BytesIO(data), formats=_PICTURES) as picture:
            width, height = picture.size
            if width * height > _PIXELS_MAX:
                raise UserError(
                    say(
                        "The picture has {width} x {height} pixels, and {most} is the most. "
                        "Make it smaller.",
                        width=width,
                        height=height,
                        most=f"{_PIXELS_MAX:,}",
                    )
                )
            picture.seek(0)  # of an animation the first picture
            return _clean(picture)
    except UserError:
        raise
    except Image.DecompressionBombError as error:  # Pillow looks at the size even earlier
        most = f"{_PIXELS_MAX:,}"
        raise UserError(
            say("The picture has more than {most} pixels. Make it smaller.", most=most)
        ) from error
    except UnidentifiedImageError as error:
        raise UserError(_something_else(role)) from error
    except Exception as error:  # a damaged file makes Pillow raise almost anything
        raise UserError(say("The picture is damaged or too large. Save it again.")) from error


def _clean(picture: Image.Image) -> bytes:
    """Upright pixels as PNG, and nothing else."""
    turn = _TURNS.get(picture.getexif().get(_ORIENTATION, 1))
    upright = picture if turn is None else picture.transpose(turn)
    if upright.mode.startswith("I"):  # 16 bits of grey, of which `convert` would take the lowest
        upright = upright.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    mode = "RGBA" if upright.has_transparency_data else "RGB"
    written = io.BytesIO()
    upright.convert(mode).save(written, "PNG", compress_level=1, icc_profile=None)
    return written.getvalue()


class Uploads:
    """A folder of checked files by the hash of their content."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def keep(self, role: Role, data: bytes) -> str:
        """The name by which it is found again. `UserError` says why the file is refused."""

        def keep() -> str:
            clean, suffix = checked(role, data)
            name = f"{hashlib.sha256(clean).hexdigest()[:32]}.{suffix}"
            self._folder.mkdir(parents=True, exist_ok=True)
            new = self._folder / f".{uuid.uuid4().hex}.new"
            new.write_bytes(clean)
            new.replace(self._folder / name)
            return name

        return await asyncio.to_thread(keep)

    def path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a kept file")
        return self._folder / name

    async def sent(self, client: ComfyClient, job: Job) -> Graph:
        """The job's graph with its files on that server; `FileNotFoundError` if one is gone."""
        for name in job.request.uploads.values():
            await asyncio.to_thread(os.utime, self.path(name))  # it is used: kept on
        names = {
            ref: await client.upload(self.path(name), name, f"comfycord/{job.id}")
            for ref, name in job.request.uploads.items()
        }
        return with_inputs(job.request.graph, names)

    async def remove(self, names: Iterable[str]) -> None:
        def remove() -> None:
            for name in names:
                self.path(name).unlink(missing_ok=True)

        await asyncio.to_thread(remove)

    async def keep_sweeping(self) -> None:
        """For ever, once a day."""
        while True:
            try:
                await self.sweep()
            except OSError as error:
                log.warning("old uploads stay for now: %s", error)
            await asyncio.sleep(_DAY)

    async def sweep(self) -> None:
        """Files that nobody used for a month go."""

        def sweep() -> None:
            for path in self._folder.glob("*"):
                if time.time() - path.stat().st_mtime > _KEPT:
                    path.unlink(missing_ok=True)

        await asyncio.to_thread(sweep)
