"""A folder of workflows to change, and what is in it before and after."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from comfy.graph import Graph
from comfy.library import Library
from comfy.workflow import ParameterSettings, Sidecar, Workflow

SIDECAR = """\
title: Cats
enabled: false
parameters:
  steps: {max: 30}
  ours: {targets: [["3", cfg]]}
"""


def graph(text: str = "a cat", **sampler: Any) -> Graph:
    """One sampler; the words tell versions apart."""
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.safetensors"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": text, "clip": ["1", 1]}},
        "3": {
            "class_type": "KSampler",
            "inputs": {"steps": 20, "cfg": 7.0, "positive": ["2", 0], "model": ["1", 0], **sampler},
        },
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "x"}},
    }


def chained() -> Graph:
    """Too long to follow, so no workflow."""
    links: Graph = {
        str(n): {"class_type": "X", "inputs": {"conditioning": [str(n + 1), 0]}}
        for n in range(10, 1900)
    }
    end = {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat"}}
    sampler = {"class_type": "K", "inputs": {"positive": ["10", 0], "latent_image": ["10", 0]}}
    return {**links, "1900": end, "3": sampler}


def words(workflow: Workflow) -> Any:
    return workflow.graph["2"]["inputs"]["text"]


def snapshot(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def titled(title: str) -> Callable[[Workflow], Sidecar]:
    return lambda workflow: workflow.sidecar.model_copy(update={"title": title})


def setting(name: str, settings: ParameterSettings) -> Callable[[Workflow], Sidecar]:
    def change(workflow: Workflow) -> Sidecar:
        parameters = {**workflow.sidecar.parameters, name: settings}
        return workflow.sidecar.model_copy(update={"parameters": parameters})

    return change


async def loaded(folder: Path) -> Library:
    library = Library(folder)
    await library.refresh()
    return library


async def filled(folder: Path) -> Library:
    """Holds `cat`, with a sidecar and one earlier version, and `plain`, with neither."""
    folder.mkdir()
    (folder / "plain.json").write_text(json.dumps(graph("plain")))
    (folder / "cat.json").write_text(json.dumps(graph("first")))
    (folder / "cat.yaml").write_text(SIDECAR)
    library = await loaded(folder)
    await library.add("cat", graph("second"), replace=True)
    return library
