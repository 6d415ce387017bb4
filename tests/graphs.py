"""Graphs to begin a test with: text to picture, and one that needs no model."""

from copy import deepcopy
from typing import Any

from comfy.graph import Graph

CHECKPOINT = "sd_xl_base_1.0.safetensors"

TXT2IMG: Graph = {
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": CHECKPOINT}},
    "5": {
        "class_type": "EmptyLatentImage",
        "inputs": {"width": 512, "height": 512, "batch_size": 1},
    },
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a castle", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["4", 1]}},
    "3": {
        "class_type": "KSampler",
        "_meta": {"title": "Sampling"},
        "inputs": {
            "seed": 0,
            "steps": 20,
            "cfg": 7.0,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1.0,
            "model": ["4", 0],
            "positive": ["6", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
    },
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "mine"}},
}

# Needs no model: a coloured picture, shrunk and kept.
PLAIN: Graph = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 255},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "mine"}},
}


def a_graph(base: Graph = TXT2IMG, /, **inputs: dict[str, Any]) -> Graph:
    """A copy of *base*; `n5={"width": 64}` changes inputs of node 5."""
    graph = deepcopy(base)
    for node, values in inputs.items():
        graph[node.removeprefix("n")]["inputs"].update(values)
    return graph
