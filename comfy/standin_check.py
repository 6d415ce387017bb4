"""The stand-in's check of a prompt before it is queued, with the error bodies of a ComfyUI."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from comfy.standin_nodes import NODES, FilesOf

Json = dict[str, Any]
Graph = dict[str, Json]

LONGEST_LIST_TOLD = 20
CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {
    "INT": int,
    "FLOAT": float,
    "STRING": str,
    "BOOLEAN": bool,
}
# A real server's answers carry such lines; they must not reach a chat.
TRACEBACK = ['  File "/comfyui/execution.py", line 948, in validate_inputs']


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the check found. A prompt with a valid output is accepted, whatever else is wrong."""

    outputs: list[str]
    error: Json | None
    node_errors: Json


def check_prompt(
    graph: Graph,
    info: Json,
    *,
    targets: list[str] | None,
    any_model: bool,
    modern: bool,
    is_picture: Callable[[str], bool],
) -> Verdict:
    """Check *graph* against the classes of *info*; coerces literal values in place.

    *targets* are the only outputs to run, *any_model* accepts model files that are not listed.
    Anything but a dictionary of dictionaries raises TypeError or AttributeError.
    """
    for node_id, node in graph.items():
        class_type = node.get("class_type")
        if class_type not in info:
            return Verdict([], _missing_node(node_id, node, class_type, modern), {})
    outputs = [
        node_id
        for node_id, node in graph.items()
        if info[node["class_type"]]["output_node"] and (targets is None or node_id in targets)
    ]
    if not outputs:
        return Verdict([], _error("prompt_no_outputs", "Prompt has no outputs"), {})
    return _Check(graph, info, any_model, modern, is_picture).outputs(outputs)


def _error(kind: str, message: str, details: str = "", **extra: Any) -> Json:
    return {"type": kind, "message": message, "details": details, "extra_info": extra}


def _missing_node(node_id: str, node: Json, class_type: str | None, modern: bool) -> Json:
    details = f"Node ID '#{node_id}'"
    if not modern:
        message = (
            f"Cannot execute because node {class_type} does not exist."
            if class_type
            else "Cannot execute because a node is missing the class_type property."
        )
        return _error("invalid_prompt", message, details)
    title = node.get("_meta", {}).get("title", class_type)
    message = (
        f"Node '{title}' not found. The custom node may not be installed."
        if class_type
        else f"Node '{title}' has no class_type."
        " The workflow may be corrupted or a custom node is missing."
    )
    extra = {"node_id": node_id, "class_type": class_type, "node_title": title}
    return _error("missing_node_type", message, details, **extra)


class _Check:
    """One look at one graph. `_errors` holds what is wrong with each node by itself;
    a node is valid when nothing is wrong with it nor with what it is linked to."""

    def __init__(
        self,
        graph: Graph,
        info: Json,
        any_model: bool,
        modern: bool,
        is_picture: Callable[[str], bool],
    ) -> None:
        self._graph = graph
        self._info = info
        self._any_model = any_model
        self._modern = modern
        self._is_picture = is_picture
        self._errors: dict[str, list[Json]] = {}
        self._valid: dict[str, bool] = {}

    def outputs(self, outputs: list[str]) -> Verdict:
        good: list[str] = []
        reasons: list[Json] = []
        node_errors: Json = {}
        for output in outputs:
            try:
                valid = self._node(output, ())
            except (KeyError, IndexError) as error:
                message = "Exception when validating node"
                extra = {"exception_type": type(error).__name__, "traceback": TRACEBACK}
                kind = "exception_during_validation"
                self._errors[output] = [_error(kind, message, str(error), **extra)]
                valid = self._valid[output] = False
            if valid:
                good.append(output)
                continue
            reasons += self._errors[output]
            for node_id, errors in self._errors.items():
                if errors:
                    told = {
                        "errors": errors,
                        "dependent_outputs": [],
                        "class_type": self._graph[node_id]["class_type"],
                    }
                    node_errors.setdefault(node_id, told)["dependent_outputs"].append(output)
        if good:
            return Verdict(good, None, node_errors)
        details = "\n".join(f"{reason['message']}: {reason['details']}" for reason in reasons)
        message = "Prompt outputs failed validation"
        return Verdict(
            [], _error("prompt_outputs_failed_validation", message, details), node_errors
        )

    def _node(self, node_id: str, path: tuple[str, ...]) -> bool:
        if node_id in self._valid:
            return self._valid[node_id]
        path = (*path, node_id)
        node = self._graph[node_id]
        inputs = node["inputs"]
        errors = self._errors[node_id] = []
        valid = True
        for section in ("required", "optional"):
            for name, config in self._info[node["class_type"]]["input"].get(section, {}).items():
                if name not in inputs:
                    if section == "required":
                        message = "Required input is missing"
                        errors.append(
                            _error("required_input_missing", message, name, input_name=name)
                        )
                elif isinstance(inputs[name], list):
                    valid = self._link(name, config, inputs[name], errors, path) and valid
                else:
                    self._literal(node, name, config, errors)
        # A cycle found on the way may have marked this node.
        errors = self._errors[node_id]
        self._valid[node_id] = valid and not errors
        return self._valid[node_id]

    def _link(
        self, name: str, config: Any, link: list[Any], errors: list[Json], path: tuple[str, ...]
    ) -> bool:
        about = {"input_name": name, "input_config": config}
        if len(link) != 2:
            message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            errors.append(_error("bad_linked_input", message, name, **about, received_value=link))
            return False
        source, slot = link
        received = tuple(self._info[self._graph[source]["class_type"]]["output"])[slot]
        wanted = "COMBO" if isinstance(config[0], list) else config[0]
        if received != wanted and "*" not in (received, wanted):
            message = "Return type mismatch between linked nodes"
            details = f"{name}, received_type({received}) mismatch input_type({wanted})"
            extra = {**about, "received_type": received, "linked_node": link}
            errors.append(_error("return_type_mismatch", message, details, **extra))
            return False
        if source in path:
            self._cycle(path[path.index(source) :])
            return False
        try:
            return self._node(source, path)
        except (KeyError, IndexError) as error:
            # As recorded: the fault is told of the linked node, with the input name of this one.
            message = "Exception when validating inner node"
            extra = {
                **about,
                "exception_message": str(error),
                "exception_type": type(error).__name__,
                "traceback": TRACEBACK,
                "linked_node": link,
            }
            kind = "exception_during_inner_validation"
            self._errors[source] = [_error(kind, message, str(error), **extra)]
            self._valid[source] = False
            return False

    def _cycle(self, nodes: tuple[str, ...]) -> None:
        if not self._modern:  # 0.3.64 refuses the prompt without telling why
            return
        told = " -> ".join(
            f"{node_id} ({self._graph[node_id]['class_type']})" for node_id in (*nodes, nodes[0])
        )
        for node_id in nodes:
            extra = {"node_id": node_id, "cycle_nodes": list(nodes)}
            message = "Dependency cycle detected"
            self._errors[node_id].append(_error("dependency_cycle", message, told, **extra))

    def _literal(self, node: Json, name: str, config: Any, errors: list[Json]) -> None:
        kind, options = config
        value = node["inputs"][name]
        about = {"input_name": name, "input_config": config, "received_value": value}
        if isinstance(kind, str) and kind in CONVERSIONS:
            try:
                value = node["inputs"][name] = CONVERSIONS[kind](value)
            except (TypeError, ValueError) as error:
                message = f"Failed to convert an input value to a {kind} value"
                details = f"{name}, {value}, {error}"
                extra = {**about, "exception_message": str(error)}
                errors.append(_error("invalid_input_type", message, details, **extra))
                return
            about["received_value"] = value
            if "min" in options and value < options["min"]:
                message = f"Value {value} smaller than min of {options['min']}"
                errors.append(_error("value_smaller_than_min", message, name, **about))
            elif "max" in options and value > options["max"]:
                message = f"Value {value} bigger than max of {options['max']}"
                errors.append(_error("value_bigger_than_max", message, name, **about))
            return
        choices = kind if isinstance(kind, list) else options.get("options")
        if choices is None or value in choices:
            return
        files = _files(node["class_type"], name)
        if files == "input":
            if not self._is_picture(str(value)):
                message = "Custom validation failed for node"
                details = f"{name} - Invalid image file: {value}"
                kind = "custom_validation_failed"
                errors.append(_error(kind, message, details, input_name=name))
        elif not (files and self._any_model):
            short = len(choices) <= LONGEST_LIST_TOLD
            told = choices if short else f"(list of length {len(choices)})"
            extra = about if short else {**about, "input_config": None}
            details = f"{name}: {value!r} not in {told}"
            errors.append(_error("value_not_in_list", "Value not in list", details, **extra))


def _files(class_type: str, name: str) -> str | None:
    """The folder an input names a file of; "input" is that of uploaded pictures."""
    node = NODES[class_type]
    kind, options = node.required.get(name) or node.optional[name]
    for choices in (kind, options.get("options")):
        if isinstance(choices, FilesOf):
            return choices.folder
    return None
