"""What is found in one workflow file, as `comfycord inspect` tells it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comfy.discovery import Discovery, discover
from comfy.editor import Json
from comfy.errors import ConversionError
from comfy.nodes import MissingModel, NodeTypes, missing_models, missing_nodes, parse_object_info
from comfy.parameters import Parameter
from comfy.phrases import say
from comfy.workflow_file import Format, WorkflowFile, to_graph


@dataclass(frozen=True, slots=True)
class Inspection:
    """*missing_nodes* and *missing_models* are empty while no server is known."""

    format: Format
    found: Discovery
    missing_nodes: tuple[str, ...] = ()
    missing_models: tuple[MissingModel, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> Json:
        return {
            "format": str(self.format),
            "parameters": [_parameter(each) for each in self.found.parameters.values()],
            "outputs": [{"node_id": o.node_id, "kind": o.kind} for o in self.found.outputs],
            "missing_nodes": list(self.missing_nodes),
            "missing_models": [list(each) for each in self.missing_models],
            "notes": [*self.found.notes, *self.notes],
        }


def inspect(file: WorkflowFile, object_info: Mapping[str, Json]) -> Inspection:
    """*object_info*: a server's raw answer, empty if there is none.

    `WorkflowFileError` where the file cannot be made a graph for another reason than nodes that
    the server lacks.
    """
    if file.needs_server and not object_info:
        doubt = say(
            "This is the editor's format: only a ComfyUI's /object_info explains its values."
        )
        return Inspection(file.format, Discovery(), notes=(doubt,))
    try:
        graph, note = to_graph(file, object_info)
    except ConversionError as error:
        if not error.missing:
            raise
        lack = say("The file {problem}", problem=error.args[0])
        return Inspection(file.format, Discovery(), error.missing, (), (lack,))
    nodes: NodeTypes = parse_object_info(dict(object_info))
    return Inspection(
        file.format,
        discover(graph, nodes),
        tuple(missing_nodes(graph, nodes)) if nodes else (),
        tuple(missing_models(graph, nodes)),
        (note,) if note else (),
    )


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "role": str(parameter.role),
        "targets": [list(ref) for ref in parameter.targets],
        "type": parameter.type,
        "default": parameter.default,
        "min": parameter.min,
        "max": parameter.max,
        "step": parameter.step,
        "choices": list(parameter.choices),
    }
