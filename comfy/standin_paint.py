"""Pictures without a model: an abstract landscape from the seed, with the prompt written on it.

A graph is followed backwards from what asks for a picture, so sizes, seeds and texts may come
over links; image nodes (scale, invert, blur, ...) do what their name says.
"""

import colorsys
import io
import json
import math
import random
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from comfy.standin_images import Inputs, changed
from comfy.standin_nodes import SAMPLERS, sources

Graph = dict[str, dict[str, Any]]
Picture = Image.Image

LONGEST_SIDE = 2048
"""A picture asked to be larger is painted at this size: painting costs time."""
PREVIEW_SIDE = 512  # a ComfyUI blows its previews up to this, whatever the job's size
CANVAS_SIDE = 1280  # larger than most pictures: scaled down, its edges are smooth
PICTURE_INPUTS = (
    "images",
    "image",
    "image1",
    "destination",
    "mask",
    "samples",
    "pixels",
    "latent_image",
)
EMPTY_LATENTS = ("EmptyLatentImage", "EmptySD3LatentImage")
# The widest first. Pillow's own font, used when a machine has none of these, is ASCII only.
FONTS = ("NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "DejaVuSans.ttf", "Arial.ttf")
TEXTS = ("StringConcatenate", "PrimitiveStringMultiline", "PrimitiveString", "CLIPTextEncode")


class Painter:
    """Paints what the nodes of one graph stand for; *open_picture* opens a LoadImage's file."""

    def __init__(self, graph: Graph, open_picture: Callable[[str], Picture]) -> None:
        self._graph = graph
        self._open = open_picture
        self._pictures: dict[tuple[str, int], Picture] = {}

    def value(self, node_id: str, name: str, default: Any = None) -> Any:
        """The value of an input, followed through the nodes that make texts and numbers."""
        given = self._graph[node_id]["inputs"].get(name, default)
        return self._made(given[0], given[1], default) if isinstance(given, list) else given

    def _made(self, node_id: str, slot: int, default: Any = None) -> Any:
        match self._graph[node_id]["class_type"]:
            case "PrimitiveString" | "PrimitiveStringMultiline" | "PrimitiveInt" | "PrimitiveFloat":
                return self.value(node_id, "value", default)
            case "StringConcatenate":
                delimiter = str(self.value(node_id, "delimiter", ""))
                return delimiter.join(str(self.value(node_id, f"string_{x}", "")) for x in "ab")
            case "StringLength":
                return len(str(self.value(node_id, "string", "")))
            case "PreviewAny":
                return self.value(node_id, "source", default)
            case "CLIPTextEncode":
                return self.value(node_id, "text", default)
            case "GetImageSize" if source := self.source(node_id, "image"):
                return (*self.picture(source, 0).size, self.count(source))[slot]
        return default

    def number(self, node_id: str, name: str, default: int) -> int:
        return int(self.value(node_id, name, default))

    def source(self, node_id: str, name: str) -> str | None:
        """The node an input is linked to."""
        link = self._graph[node_id]["inputs"].get(name)
        return link[0] if isinstance(link, list) else None

    def sampler(self, node_id: str) -> str | None:
        """The sampler that made a node's picture: the nearest one upstream."""
        seen = [node_id]
        for found in seen:
            if self._graph[found]["class_type"] in SAMPLERS:
                return found
            links = [v for v in self._graph[found]["inputs"].values() if isinstance(v, list)]
            seen += [source for source, _ in links if source not in seen]
        return None

    def seed(self, sampler: str) -> int:
        noise = self.source(sampler, "noise")
        if noise:
            return self.number(noise, "noise_seed", 0)
        return self.number(sampler, "seed", self.number(sampler, "noise_seed", 0))

    def steps(self, sampler: str) -> int:
        """How many steps a sampler takes; KSamplerAdvanced may do a part of them only."""
        sigmas = self.source(sampler, "sigmas")
        steps = self.number(sigmas or sampler, "steps", 20)
        end = min(steps, self.number(sampler, "end_at_step", steps))
        return max(1, end - self.number(sampler, "start_at_step", 0))

    def prompt(self, node_id: str) -> str:
        """The text a sampler is led by; without a sampler, some text of the graph."""
        if sampler := self.sampler(node_id):
            guider = self.source(sampler, "guider")
            names = ("conditioning", "positive") if guider else ("positive",)
            for name in names:
                if source := self.source(guider or sampler, name):
                    return self._conditioning(source)
        for class_type in TEXTS:
            for found, node in self._graph.items():
                if node["class_type"] == class_type:
                    return str(self._made(found, 0, ""))
        return ""

    def _conditioning(self, node_id: str) -> str:
        if self._graph[node_id]["class_type"] == "CLIPTextEncode":
            return str(self.value(node_id, "text", ""))
        texts = [self._conditioning(source) for source in sources(self._graph, node_id)]
        return " ".join(filter(None, texts))

    def count(self, node_id: str) -> int:
        """How many pictures a node's batch holds."""
        node = self._graph[node_id]
        if "batch_size" in node["inputs"]:
            return self.number(node_id, "batch_size", 1)
        if node["class_type"] == "ImageBatch":
            sources = (self.source(node_id, "image1"), self.source(node_id, "image2"))
            return sum(self.count(source) for source in sources if source)
        before = self._before(node_id)
        return self.count(before) if before else 1

    def _before(self, node_id: str) -> str | None:
        """The node whose picture a node works on."""
        return next(filter(None, (self.source(node_id, name) for name in PICTURE_INPUTS)), None)

    def picture(self, node_id: str, index: int) -> Picture:
        """The picture (or mask) a node hands on, nothing written on it. Not to be changed."""
        key = node_id, index
        if key not in self._pictures:
            self._pictures[key] = self._painted(node_id, index)
        return self._pictures[key]

    def _painted(self, node_id: str, index: int) -> Picture:
        class_type = self._graph[node_id]["class_type"]
        if class_type == "LoadImage":
            return fitting(self._open(str(self.value(node_id, "image"))))
        if class_type in (*EMPTY_LATENTS, "EmptyImage", "SolidMask"):
            size = self.number(node_id, "width", 512), self.number(node_id, "height", 512)
            if class_type == "SolidMask":
                level = round(255 * float(self.value(node_id, "value", 1.0)))
                return Image.new("L", limited(size), level)
            colour = self.number(node_id, "color", 0x808080)
            rgb = (colour >> 16, colour >> 8 & 255, colour & 255)
            return Image.new("RGB", limited(size), rgb)
        if class_type == "ImageBatch" and (first := self.source(node_id, "image1")):
            second = self.source(node_id, "image2")
            if second and index >= self.count(first):
                return self.picture(second, index - self.count(first))
        before = self._before(node_id)
        if before is None:
            return Image.new("RGB", (512, 512), "gray")
        picture = self.picture(before, index)
        if class_type in SAMPLERS:
            painted = landscape(self.seed(node_id) + index, picture.size)
            if self._graph[before]["class_type"] in EMPTY_LATENTS:
                return painted
            # A latent made from a picture shows through, as with a denoise below 1.
            return Image.blend(picture.convert("RGB"), painted, 0.45)
        inputs = Inputs(
            lambda name, default: self.value(node_id, name, default),
            lambda name: self._linked_picture(node_id, name, index),
        )
        return fitting(changed(class_type, picture, inputs))

    def _linked_picture(self, node_id: str, name: str, index: int) -> Picture | None:
        source = self.source(node_id, name)
        return self.picture(source, index) if source else None

    def png(self, node_id: str, index: int) -> bytes:
        """The file an output node makes: the picture with prompt and numbers written on it.

        The graph is embedded under the key `prompt`, as SaveImage does it.
        """
        picture = self.picture(node_id, index).convert("RGB").copy()
        write(picture, self.prompt(node_id), self._caption(node_id, index, picture.size))
        about = PngImagePlugin.PngInfo()
        about.add_text("prompt", json.dumps(self._graph))
        return _encoded(picture, "PNG", pnginfo=about, compress_level=4)

    def _caption(self, node_id: str, index: int, size: tuple[int, int]) -> str:
        parts = [f"{size[0]}x{size[1]}"]
        if sampler := self.sampler(node_id):
            steps = self.steps(sampler)
            parts = [f"seed {self.seed(sampler)}", *parts, f"{steps} step{'s' * (steps != 1)}"]
        if self.count(node_id) > 1:
            parts.append(f"{index + 1} of {self.count(node_id)}")
        return " · ".join(parts)

    def preview(self, sampler: str, done: float) -> bytes:
        """A JPEG of a sampler's work so far: from coarse blocks (0.0) to the picture (1.0)."""
        picture = self.picture(sampler, 0)
        scale = PREVIEW_SIDE / max(picture.size)
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        blocks = 4 * 2 ** (done * 6)
        coarse = (
            max(1, round(blocks * size[0] / PREVIEW_SIDE)),
            max(1, round(blocks * size[1] / PREVIEW_SIDE)),
        )
        picture = picture.resize(coarse, Image.Resampling.BOX)
        return _encoded(picture.resize(size, Image.Resampling.NEAREST), "JPEG", quality=85)


def limited(size: tuple[int, int]) -> tuple[int, int]:
    """The size, scaled down when its longer side exceeds what is painted."""
    scale = min(1.0, LONGEST_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def fitting(picture: Picture) -> Picture:
    size = limited(picture.size)
    picture = picture if picture.mode == "L" else picture.convert("RGB")
    return picture if picture.size == size else picture.resize(size)


@lru_cache(maxsize=4)  # every step of a sampler shows the same one
def landscape(seed: int, size: tuple[int, int]) -> Picture:
    """An evening sky, a sun and hills, all drawn by lot from the seed."""
    lot = random.Random(seed)
    scale = CANVAS_SIDE / max(size)
    width, height = max(8, round(size[0] * scale)), max(8, round(size[1] * scale))
    hue = lot.random()

    def colour(turn: float, saturation: float, value: float) -> tuple[int, int, int]:
        red, green, blue = colorsys.hsv_to_rgb((hue + turn) % 1.0, saturation, value)
        return round(red * 255), round(green * 255), round(blue * 255)

    sky = Image.new("RGB", (4, 4))
    for x in range(4):
        for y in range(4):
            shade = colour(lot.uniform(-0.12, 0.12) + y * 0.05, 0.65 - y * 0.1, 0.55 + y * 0.13)
            sky.putpixel((x, y), shade)
    picture = sky.resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    radius = min(width, height) * lot.uniform(0.08, 0.16)
    sun = width * lot.uniform(0.2, 0.8), height * lot.uniform(0.15, 0.4)
    draw.circle(sun, radius, colour(0.1, 0.18, 1.0))
    for layer in range(4):
        base = height * (0.45 + 0.14 * layer)
        waves = [(lot.uniform(1, 5), lot.uniform(0, 6.3), lot.uniform(8, 34)) for _ in range(3)]
        ridge = [
            (x, base + sum(math.sin(x / width * f + p) * a for f, p, a in waves) * height / 640)
            for x in range(0, width + 4, 4)
        ]
        draw.polygon(
            [(0, height), *ridge, (width + 4, height)], colour(0.45, 0.4, 0.62 - 0.14 * layer)
        )
    return picture.resize(size, Image.Resampling.BICUBIC)


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@lru_cache
def font_of(size: int) -> Font:
    for name in FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def legible(text: str, font: Font) -> str:
    """The text without accents where the font has none: a letter says more than a box."""
    if isinstance(font, ImageFont.FreeTypeFont) and font.getname()[0] != "Aileron":
        return text
    letters = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


@lru_cache
def example() -> bytes:
    """The picture that is in a ComfyUI's input folder from the start."""
    return _encoded(landscape(2**64, (512, 512)), "PNG")  # no job has this seed


def write(picture: Picture, text: str, caption: str) -> None:
    """Write a text, wrapped, and a small caption on a dark band at the bottom of a picture."""
    side = min(picture.size)
    margin = max(2, side // 32)
    size = max(8, side // 22)
    large, small = font_of(size), font_of(max(7, side // 32))
    lines = wrapped(legible(text, large), large, picture.width - 2 * margin, most=6)
    line_height = size * 4 // 3
    band = len(lines) * line_height + line_height + 2 * margin
    top = max(0, picture.height - band)
    shade = picture.crop((0, top, *picture.size)).point(lambda level: level * 2 // 5)
    picture.paste(shade, (0, top))
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        draw.text((margin, top + margin + number * line_height), line, "white", large)
    below = margin, top + margin + len(lines) * line_height
    draw.text(below, legible(caption, small), (205, 205, 205), small)


def wrapped(text: str, font: Font, width: int, *, most: int) -> list[str]:
    """The lines of a text; a word wider than a line (or a script without spaces) is broken."""
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            if line and font.getlength(f"{line} {word}") <= width:
                line = f"{line} {word}"
                continue
            if line:
                lines.append(line)
            line = ""
            for letter in word:
                if line and font.getlength(line + letter) > width:
                    lines.append(line)
                    line = ""
                line += letter
        if line:
            lines.append(line)
    return lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1][:-1] + "…"]


def _encoded(picture: Picture, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()
