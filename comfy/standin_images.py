"""What ComfyUI's image nodes do to a picture, done with Pillow. A mask is a picture of mode L."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageChops, ImageFilter, ImageOps

Picture = Image.Image

UPSCALE_MODEL_FACTOR = 4
LONGEST_RESULT = 8192
RESAMPLING = {
    "nearest-exact": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "area": Image.Resampling.BOX,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
BLENDS: dict[str, Callable[[Picture, Picture], Picture]] = {
    "multiply": ImageChops.multiply,
    "screen": ImageChops.screen,
    "overlay": ImageChops.overlay,
    "soft_light": ImageChops.soft_light,
    "difference": ImageChops.difference,
}


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs of one node, links followed."""

    value: Callable[[str, Any], Any]
    picture: Callable[[str], Picture | None]

    def number(self, name: str, default: int = 0) -> int:
        return int(self.value(name, default))

    def real(self, name: str, default: float) -> float:
        return float(self.value(name, default))


def changed(class_type: str, picture: Picture, inputs: Inputs) -> Picture:
    """The picture after a node; the same one after a node that is not about pictures."""
    match class_type:
        case "ImageScale":
            return _scaled(picture, inputs)
        case "ImageScaleBy":
            return _resized(picture, inputs.real("scale_by", 1.0), inputs)
        case "ImageScaleToMaxDimension":
            longest = inputs.number("largest_size", 512) or max(picture.size)
            return _resized(picture, longest / max(picture.size), inputs)
        case "ImageUpscaleWithModel":
            return _resized(picture, UPSCALE_MODEL_FACTOR, inputs)
        case "ImageInvert":
            return ImageOps.invert(picture)
        case "ImageBlur":
            radius = inputs.number("blur_radius", 1) * inputs.real("sigma", 1.0)
            return picture.filter(ImageFilter.GaussianBlur(radius))
        case "ImageQuantize":
            return picture.quantize(inputs.number("colors", 256)).convert("RGB")
        case "ImageAddNoise":
            return _noisy(picture, inputs)
        case "ImagePadForOutpaint":
            left, top, right, bottom = map(inputs.number, ("left", "top", "right", "bottom"))
            return ImageOps.expand(picture, (left, top, right, bottom), "gray")
        case "ImageBlend":
            return _blended(picture, inputs)
        case "ImageCompositeMasked":
            return _composed(picture, inputs)
        case "ImageToMask":
            channel = str(inputs.value("channel", "red"))[0].upper()
            return (
                Image.new("L", picture.size, 255) if channel == "A" else picture.getchannel(channel)
            )
        case "ThresholdMask":
            limit = 255 * inputs.real("value", 0.5)
            return picture.convert("L").point(lambda level: 255 if level > limit else 0)
        case "FeatherMask":
            return _feathered(picture.convert("L"), inputs)
        case "MaskToImage":
            return picture.convert("RGB")
    return picture


def _scaled(picture: Picture, inputs: Inputs) -> Picture:
    width, height = inputs.number("width", 512), inputs.number("height", 512)
    if not (width and height):  # 0 keeps the shape of the picture
        scale = (width or height or picture.width) / (picture.width if width else picture.height)
        return _resized(picture, scale if width or height else 1.0, inputs)
    method = RESAMPLING[str(inputs.value("upscale_method", "bicubic"))]
    size = min(width, LONGEST_RESULT), min(height, LONGEST_RESULT)
    if inputs.value("crop", "disabled") == "center":
        return ImageOps.fit(picture, size, method)
    return picture.resize(size, method)


def _resized(picture: Picture, scale: float, inputs: Inputs) -> Picture:
    scale = min(scale, LONGEST_RESULT / max(picture.size))
    method = RESAMPLING[str(inputs.value("upscale_method", "bicubic"))]
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, method)


def _noisy(picture: Picture, inputs: Inputs) -> Picture:
    # Even noise, made as wide as ComfyUI's Gaussian one: bytes are quick to draw by lot.
    spread = 3**0.5 * inputs.real("strength", 0.5)
    drawn = random.Random(inputs.number("seed")).randbytes(3 * picture.width * picture.height)
    noise = Image.frombytes("RGB", picture.size, drawn)
    noise = noise.point(lambda level: round(128 + (level - 128) * spread))
    return ImageChops.add(picture, noise, 1, -128)


def _blended(picture: Picture, inputs: Inputs) -> Picture:
    other = inputs.picture("image2")
    if other is None:
        return picture
    picture, other = picture.convert("RGB"), other.convert("RGB").resize(picture.size)
    blend = BLENDS.get(str(inputs.value("blend_mode", "normal")))
    other = blend(picture, other) if blend else other
    return Image.blend(picture, other, inputs.real("blend_factor", 0.5))


def _composed(picture: Picture, inputs: Inputs) -> Picture:
    source, mask = inputs.picture("source"), inputs.picture("mask")
    if source is None:
        return picture
    if inputs.value("resize_source", False):
        source = source.resize(picture.size)
    if mask is not None:
        mask = mask.convert("L").resize(source.size)
    result = picture.copy()
    result.paste(source, (inputs.number("x"), inputs.number("y")), mask)
    return result


def _feathered(mask: Picture, inputs: Inputs) -> Picture:
    """The mask, fading to nothing at each edge that has a width."""
    width, height = mask.size
    across = _ramp(width, inputs.number("left"), inputs.number("right"))
    down = _ramp(height, inputs.number("top"), inputs.number("bottom"))
    for shade, size in ((across, (width, 1)), (down, (1, height))):
        strip = Image.frombytes("L", size, shade)
        mask = ImageChops.multiply(mask, strip.resize((width, height), Image.Resampling.NEAREST))
    return mask


def _ramp(length: int, start: int, end: int) -> bytes:
    return bytes(
        round(255 * min(1, (n + 1) / (start or 1)) * min(1, (length - n) / (end or 1)))
        for n in range(length)
    )
