"""The pictures of the stand-in: what is on them, and that any prompt can be."""

import io
import json
from typing import Any

import pytest
from PIL import Image

from comfy.standin_paint import Painter


def no_file(name: str) -> Image.Image:
    raise AssertionError(name)


FLUX = {
    "1": {"class_type": "CLIPTextEncode", "inputs": {"text": "a lighthouse", "clip": ["9", 0]}},
    "2": {"class_type": "FluxGuidance", "inputs": {"conditioning": ["1", 0], "guidance": 3.5}},
    "3": {"class_type": "BasicGuider", "inputs": {"conditioning": ["2", 0], "model": ["9", 0]}},
    "4": {"class_type": "RandomNoise", "inputs": {"noise_seed": 77}},
    "5": {"class_type": "BasicScheduler", "inputs": {"steps": ["11", 0], "model": ["9", 0]}},
    "6": {
        "class_type": "EmptySD3LatentImage",
        "inputs": {"width": 96, "height": 48, "batch_size": 2},
    },
    "7": {
        "class_type": "SamplerCustomAdvanced",
        "inputs": {
            "noise": ["4", 0],
            "guider": ["3", 0],
            "sigmas": ["5", 0],
            "latent_image": ["6", 0],
        },
    },
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["7", 0], "vae": ["9", 0]}},
    "9": {"class_type": "UNETLoader", "inputs": {"unet_name": "flux"}},
    "10": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}},
    "11": {"class_type": "PrimitiveInt", "inputs": {"value": 9}},
}


def test_the_painter_finds_what_a_flux_graph_asks_for() -> None:
    painter = Painter(FLUX, no_file)

    assert painter.prompt("10") == "a lighthouse"
    assert (painter.sampler("10"), painter.seed("7"), painter.steps("7")) == ("7", 77, 9)
    assert (painter.picture("10", 0).size, painter.count("10")) == ((96, 48), 2)


@pytest.mark.parametrize(
    ("class_type", "inputs", "size"),
    [
        ("ImageScale", {"width": 30, "height": 0}, (30, 15)),
        ("ImageScaleBy", {"scale_by": 1.5}, (144, 72)),
        ("ImageUpscaleWithModel", {}, (384, 192)),
        ("ImageScale", {"width": 30, "height": 30, "crop": "center"}, (30, 30)),
        ("ImageScale", {"width": 0, "height": 0}, (96, 48)),
        ("ImageScaleToMaxDimension", {"largest_size": 48}, (48, 24)),
        ("ImageBlend", {"image2": ["6", 0], "blend_mode": "multiply"}, (96, 48)),
        ("ImageToMask", {"channel": "green"}, (96, 48)),
        ("ImageInvert", {}, (96, 48)),
        ("ImageBlur", {"blur_radius": 2}, (96, 48)),
        ("ImageQuantize", {"colors": 4}, (96, 48)),
        ("ImageAddNoise", {"strength": 0.2}, (96, 48)),
        ("ImagePadForOutpaint", {"left": 8, "top": 16, "right": 0, "bottom": 0}, (104, 64)),
        ("ImageCompositeMasked", {"source": ["8", 0], "x": 4, "y": 4}, (96, 48)),
    ],
)
def test_image_nodes_change_the_picture(
    class_type: str, inputs: dict[str, Any], size: tuple[int, int]
) -> None:
    name = "destination" if class_type == "ImageCompositeMasked" else "image"
    node = {"class_type": class_type, "inputs": {name: ["8", 0], **inputs}}

    changed = Painter({**FLUX, "x": node}, no_file).picture("x", 0)

    assert changed.size == size


def test_the_picture_shows_its_seed_and_holds_its_graph() -> None:
    one, same, other = (Painter(FLUX, no_file).png("10", index) for index in (0, 0, 1))

    assert one == same != other
    picture = Image.open(io.BytesIO(one))
    picture.load()
    assert json.loads(picture.text["prompt"]) == FLUX  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ["", "x" * 500, "雪の中の狐", "a\n\nb", "émoji 🦊"])
def test_any_prompt_can_be_written_on_the_smallest_picture(text: str) -> None:
    graph = json.loads(json.dumps(FLUX))
    graph["1"]["inputs"]["text"] = text
    graph["6"]["inputs"] |= {"width": 16, "height": 16}

    assert Painter(graph, no_file).png("10", 0)


def test_without_a_sampler_some_text_of_the_graph_is_written() -> None:
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 40, "height": 20, "color": 0xFF0000}},
        "2": {"class_type": "ImageBatch", "inputs": {"image1": ["1", 0], "image2": ["3", 0]}},
        "3": {"class_type": "EmptyImage", "inputs": {"width": 30, "height": 10}},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}},
        "5": {"class_type": "PrimitiveString", "inputs": {"value": "hello"}},
    }

    painter = Painter(graph, no_file)

    assert painter.prompt("4") == "hello"
    assert [painter.picture("4", index).size for index in range(painter.count("4"))] == [
        (40, 20),
        (30, 10),
    ]
    assert painter.picture("4", 0).getpixel((0, 0)) == (255, 0, 0)


def test_a_picture_to_start_from_shows_through() -> None:
    graph = {
        **FLUX,
        "12": {"class_type": "LoadImage", "inputs": {"image": "mine.png"}},
        "6": {"class_type": "VAEEncode", "inputs": {"pixels": ["12", 0], "vae": ["9", 0]}},
    }

    painter = Painter(graph, lambda name: Image.new("RGB", (32, 64), "white"))

    assert painter.picture("10", 0).size == (32, 64)
    sky = Painter(FLUX, no_file).picture("10", 0).getpixel((0, 0))
    assert painter.picture("10", 0).getpixel((0, 0)) != sky


def test_huge_pictures_are_painted_smaller() -> None:
    graph = {**FLUX, "6": {"class_type": "EmptyLatentImage", "inputs": {"width": 16384}}}

    assert max(Painter(graph, no_file).picture("10", 0).size) == 2048


def test_a_masked_picture_is_put_where_the_mask_is() -> None:
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "color": 0}},
        "2": {"class_type": "GetImageSize", "inputs": {"image": ["1", 0]}},
        "3": {
            "class_type": "EmptyImage",
            "inputs": {"width": ["2", 0], "height": ["2", 1], "color": 0xFFFFFF},
        },
        "4": {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 8, "height": 8}},
        "5": {"class_type": "FeatherMask", "inputs": {"mask": ["4", 0], "left": 8}},
        "6": {"class_type": "ThresholdMask", "inputs": {"mask": ["5", 0], "value": 0.5}},
        "7": {
            "class_type": "ImageCompositeMasked",
            "inputs": {"destination": ["1", 0], "source": ["3", 0], "mask": ["6", 0]},
        },
        "8": {"class_type": "MaskToImage", "inputs": {"mask": ["6", 0]}},
    }

    painter = Painter(graph, no_file)

    picture = painter.picture("7", 0)
    assert [picture.getpixel((x, 4)) for x in (0, 7)] == [(0, 0, 0), (255, 255, 255)]
    assert picture.tobytes() == painter.picture("8", 0).tobytes()
