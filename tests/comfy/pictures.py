"""Pictures with texts in them, as ComfyUI and others save them."""

import io
import struct
import zlib
from typing import Any

from PIL import Image, PngImagePlugin

CAMERA, MAKER = 0x0110, 0x010F  # the EXIF texts that ComfyUI takes for `prompt` and `workflow`


def picture(kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(file, kind, **options)
    return file.getvalue()


def png(how: str = "tEXt", **texts: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        if how == "iTXt":
            info.add_itxt(name, text, zip=True)
        else:
            info.add_text(name, text, zip=how == "zTXt")
    return picture(pnginfo=info)


def with_exif(kind: str, *texts: str) -> bytes:
    exif = Image.Exif()
    for tag, text in zip((CAMERA, MAKER), texts, strict=False):
        exif[tag] = text
    return picture(kind, exif=exif)


def with_chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk, which Pillow itself would not write."""
    whole = picture()
    after = 8 + 12 + struct.unpack(">I", whole[8:12])[0]  # the header
    crc = struct.pack(">I", zlib.crc32(kind + body))
    chunk = struct.pack(">I", len(body)) + kind + body + crc
    return whole[:after] + chunk + whole[after:]
