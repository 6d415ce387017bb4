"""A smaller copy of a picture that is too large for a channel. Slow: for a thread.

Films stay as they are: nothing here can read them.
"""

import io
import logging
import warnings
from pathlib import Path

from PIL import Image, ImageSequence

log = logging.getLogger(__name__)

# How a copy is tried, the best first: lossless, quality in percent, and the side in percent.
_TRIES = ((True, 100, 100), (False, 95, 100), (False, 85, 100), (False, 80, 70), (False, 75, 45))
_MOVING_TRIES = ((80, 100), (75, 70), (70, 50), (60, 35))  # of an animation: quality, side
_MOVING_PIXELS = 60_000_000  # of all frames, which are in memory together
_LOSSLESS_PIXELS = 8_000_000  # above it a lossless copy takes many seconds
_WEBP_SIDE = 16383
_PIXELS_MAX = 64_000_000


def smaller(path: Path, limit: int) -> Path | None:
    """The best WebP copy of at most *limit* bytes beside *path*; None if there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as picture:
                target = path.with_name(f"{path.name}.webp")
                if getattr(picture, "n_frames", 1) > 1:
                    return _moving(picture, target, limit)
                if picture.width * picture.height > _PIXELS_MAX:
                    return None
                picture.load()
                return _fitting(picture, target, limit)
    except Exception as error:  # a damaged file makes Pillow raise almost anything
        log.info("no smaller copy of %s: %s", path.name, error)
        return None


def _fitting(picture: Image.Image, target: Path, limit: int) -> Path | None:
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    if picture.mode.startswith("I"):  # 16 bits of grey
        picture = picture.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    whole = picture.convert(mode)
    for lossless, quality, percent in _TRIES:
        side = max(whole.size) * percent // 100
        if lossless and whole.width * whole.height > _LOSSLESS_PIXELS:
            continue
        copy = whole.copy()
        copy.thumbnail((min(side, _WEBP_SIDE),) * 2)
        written = io.BytesIO()
        copy.save(written, "WEBP", lossless=lossless, quality=quality, method=2)
        if written.tell() <= limit:
            target.write_bytes(written.getvalue())
            return target
    return None


def _moving(picture: Image.Image, target: Path, limit: int) -> Path | None:
    frames: int = getattr(picture, "n_frames", 1)
    for quality, percent in _MOVING_TRIES:
        size = (max(1, picture.width * percent // 100), max(1, picture.height * percent // 100))
        if size[0] * size[1] * frames > _MOVING_PIXELS or max(size) > _WEBP_SIDE:
            continue
        shown, lasting = [], []
        for frame in ImageSequence.Iterator(picture):
            shown.append(frame.convert("RGBA").resize(size))
            lasting.append(frame.info.get("duration", 100))  # known once it is decoded
        shown[0].save(
            target,
            "WEBP",
            save_all=True,
            append_images=shown[1:],
            duration=lasting,
            loop=picture.info.get("loop", 0),
            quality=quality,
            method=2,
        )
        if target.stat().st_size <= limit:
            return target
    target.unlink(missing_ok=True)
    return None
