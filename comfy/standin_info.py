"""The node classes as JSON, the way a ComfyUI tells them in /object_info."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from comfy.standin_nodes import NODES, Config, FilesOf, NodeClass


def object_info(
    models: Mapping[str, Sequence[str]], pictures: Iterable[str], *, modern: bool
) -> dict[str, Any]:
    """All classes as JSON; *models* are file names by folder, *pictures* the uploaded ones."""
    names = {**models, "input": sorted(pictures)}
    if modern:
        names["vae"] = [*models.get("vae", ()), "pixel_space"]  # no file: built into VAELoader
    return {name: _entry(name, node, names, modern) for name, node in NODES.items()}


def _entry(
    name: str, node: NodeClass, files: Mapping[str, Sequence[str]], modern: bool
) -> dict[str, Any]:
    def told(value: Any) -> Any:
        return list(files.get(value.folder, ())) if isinstance(value, FilesOf) else value

    def section(inputs: Mapping[str, Config]) -> dict[str, Any]:
        return {
            key: [told(kind), {option: told(value) for option, value in options.items()}]
            for key, (kind, options) in inputs.items()
        }

    inputs: dict[str, Any] = {"required": section(node.required)}
    if node.optional:
        inputs["optional"] = section(node.optional)
    if node.hidden:
        inputs["hidden"] = dict(node.hidden)
    outputs = node.outputs.split()
    entry = {
        "input": inputs,
        "input_order": {key: list(value) for key, value in inputs.items()},
        "output": outputs,
        "output_is_list": [False] * len(outputs),
        "output_name": node.names.split(),
        "name": name,
        "display_name": node.title,
        "description": "",
        "python_module": "comfy.standin",
        "category": "stand-in",
        "output_node": node.is_output,
    }
    if modern:
        entry |= {"is_input_list": False, "has_intermediate_output": False, "search_aliases": []}
    return entry
