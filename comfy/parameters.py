"""Parameters: what people may set in a graph, found by following its links. Pure.

Discovery starts at the samplers and walks upstream: the positive text is what reaches
`positive`, the size is where the latent is made, the model is where it is loaded. It needs no
server; `/object_info`, where known, adds types, ranges and choices. What it cannot know it
leaves out and says so in a note: a prompt in the wrong box is worse than none.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from comfy.graph import Graph, InputRef, as_link, links, title, upstream
from comfy.nodes import InputType, NodeTypes, Number


class Role(StrEnum):
    TEXT = "text"
    NEGATIVE = "negative"
    SEED = "seed"
    STEPS = "steps"
    CFG = "cfg"
    SAMPLER = "sampler"
    SCHEDULER = "scheduler"
    STRENGTH = "strength"
    WIDTH = "width"
    HEIGHT = "height"
    BATCH = "batch"
    MODEL = "model"
    IMAGE = "image"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One thing that people may set; it may drive several inputs (every unlinked seed).

    *type* is ComfyUI's word; *default* is what the graph holds. *min*, *max* and *choices* are
    None or empty while no server has told them.
    """

    name: str
    role: Role
    targets: tuple[InputRef, ...]
    type: str
    default: Any
    min: Number | None = None
    max: Number | None = None
    step: Number | None = None
    choices: tuple[Any, ...] = ()
    description: str = ""


@dataclass(frozen=True, slots=True)
class Discovery:
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


# Names by which nodes call the text that they hold or encode.
_TEXT_INPUTS = (
    "text", "prompt", "positive_prompt", "text_g", "text_l", "clip_l", "t5xxl", "clip_g",
    "string", "text_positive", "user_prompt", "caption",
)  # fmt: skip
_TEXT_SOURCES = ("value", *_TEXT_INPUTS)
_SEED_INPUTS = ("seed", "noise_seed")
_MODEL_INPUTS = ("ckpt_name", "unet_name", "model_name", "gguf_name")
_LATENT_INPUTS = ("latent_image", "latent", "samples", "pixels", "image", "images", "start_image")
_NO_TEXT = ("ConditioningZeroOut",)
# What ComfyUI's core says of these, for as long as no server has been asked.
_CORE: dict[Role, tuple[str, Number, Number]] = {
    Role.STEPS: ("INT", 1, 10000),
    Role.CFG: ("FLOAT", 0, 100),
    Role.STRENGTH: ("FLOAT", 0, 1),
    Role.WIDTH: ("INT", 16, 16384),
    Role.HEIGHT: ("INT", 16, 16384),
    Role.BATCH: ("INT", 1, 4096),
}


def discover(graph: Graph, nodes: NodeTypes | None = None) -> Discovery:
    """The parameters of *graph* by name, in the order in which people look for them."""
    walk = _Walk(graph)
    found = list(walk.parameters())
    return Discovery(
        {each.name: typed(each, graph, nodes or {}) for each in found}, tuple(walk.notes)
    )


def typed(parameter: Parameter, graph: Graph, nodes: NodeTypes) -> Parameter:
    """*parameter* with what the server says of its inputs: the narrowest of all targets."""
    for ref in parameter.targets:
        node = nodes.get(graph[ref.node_id]["class_type"])
        declared = node.inputs.get(ref.name) if node else None
        if declared is not None:
            parameter = _narrowed(parameter, declared)
    return parameter


def _narrowed(parameter: Parameter, declared: InputType) -> Parameter:
    lows = [each for each in (parameter.min, declared.min) if each is not None]
    highs = [each for each in (parameter.max, declared.max) if each is not None]
    return replace(
        parameter,
        type=declared.type,
        min=max(lows, default=None),
        max=min(highs, default=None),
        step=parameter.step or declared.step,
        choices=parameter.choices or declared.choices,
    )


def text_inputs(graph: Graph) -> Iterator[InputRef]:
    """Every input that holds a text of its own, in the order of the file."""
    for node_id, node in graph.items():
        for name in _TEXT_SOURCES:
            is_text = isinstance(node["inputs"].get(name), str)
            if is_text and (name != "value" or "String" in node["class_type"]):
                yield InputRef(node_id, name)


def first_text_input(graph: Graph, but: Collection[InputRef] = ()) -> InputRef | None:
    """The last resort for a prompt: the first node that encodes or holds a text."""
    for ref in text_inputs(graph):
        class_type = graph[ref.node_id]["class_type"]
        if (
            class_type in ("CLIPTextEncode", "Text Multiline")
            and ref.name == "text"
            and ref not in but
        ):
            return ref
    return None


class _Walk:
    """One pass over one graph; *notes* fill while `parameters` is read."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.notes: list[str] = []

    def parameters(self) -> Iterator[Parameter]:
        samplers = self._samplers()
        base = self._base_sampler(samplers)
        if base is None and any(text_inputs(self._graph)):
            self.notes.append(
                "No sampler found, so the prompt cannot be told from other texts: "
                "name its input in the file NAME.yaml, or choose it with the option node."
            )
        if base is not None:
            yield from self._texts(samplers, base)
        yield from self._every(Role.SEED, self._seeds())
        if base is not None:
            yield from self._sampling(base)
            yield from self._size(base)
            yield from self._model(base)
        yield from self._images()

    # Samplers

    def _samplers(self) -> list[str]:
        """Nodes that denoise a latent: they take one, and a conditioning or a guider."""
        return [
            node_id
            for node_id in self._graph
            if (inputs := dict(links(self._graph, node_id)))
            and ("latent_image" in inputs or "samples" in inputs)
            and ("positive" in inputs or "guider" in inputs)
        ]

    def _base_sampler(self, samplers: list[str]) -> str | None:
        """The one that no other sampler feeds: later passes only refine its picture."""
        for node_id in samplers:
            if not (upstream(self._graph, node_id) - {node_id}) & set(samplers):
                return node_id
        return None

    # Texts

    def _texts(self, samplers: list[str], base: str) -> Iterator[Parameter]:
        positive = self._unique(self._prompts(base, "positive"))
        negative = [
            each for each in self._unique(self._prompts(base, "negative")) if each not in positive
        ]
        for sampler in samplers:  # what only a later pass reads is set with the first one's
            for each in self._unique(self._prompts(sampler, "positive")):
                if each not in positive and each not in negative and self._same(each, positive):
                    positive.append(each)
        yield from self._named(Role.TEXT, positive, "positive prompt")
        yield from self._named(Role.NEGATIVE, negative, "negative prompt")

    def _named(self, role: Role, refs: list[InputRef], what: str) -> Iterator[Parameter]:
        """One parameter where one text is meant, else one for each of them and a note."""
        values = {self._graph[ref.node_id]["inputs"][ref.name] for ref in refs}
        same_node = len({ref.node_id for ref in refs}) == 1
        if refs and (len(refs) == 1 or len(values) == 1 or same_node):
            yield self._parameter(role, role, refs)
            return
        if not refs:
            if role is Role.TEXT:  # many workflows have no negative prompt
                self.notes.append(f"No text of its own drives the {what}.")
            return
        by_node: dict[str, list[InputRef]] = {}
        for ref in refs:
            by_node.setdefault(ref.node_id, []).append(ref)
        where = ", ".join(f"{each} ({title(self._graph, each)})" for each in by_node)
        self.notes.append(f"The {what} is put together from nodes {where}: choose one of them.")
        for node_id, mine in by_node.items():
            yield self._parameter(f"{role}_{node_id}".replace(":", "_"), role, mine)

    def _prompts(self, sampler: str, side: str) -> Iterator[InputRef]:
        inputs = dict(links(self._graph, sampler))
        if "guider" in inputs:
            yield from self._prompts_of_guider(inputs["guider"].node_id, side)
        elif side in inputs:
            yield from self._conditioning(inputs[side].node_id, inputs[side].slot, side, set())

    def _prompts_of_guider(self, guider: str, side: str) -> Iterator[InputRef]:
        names = ("negative",) if side == "negative" else ("conditioning", "positive", "cond1")
        for name, link in links(self._graph, guider):
            if name in names:
                yield from self._conditioning(link.node_id, link.slot, side, set())

    def _conditioning(
        self, node_id: str, slot: int, side: str, seen: set[tuple[str, int]]
    ) -> Iterator[InputRef]:
        """Upstream from a conditioning to the texts that were encoded into it."""
        if (node_id, slot) in seen or self._graph[node_id]["class_type"] in _NO_TEXT:
            return
        seen.add((node_id, slot))
        node = self._graph[node_id]
        inputs = dict(links(self._graph, node_id))
        texts = [name for name in _TEXT_INPUTS if name in node["inputs"]]
        if texts:
            for name in texts:
                yield from self._text(InputRef(node_id, name), set())
        elif "positive" in inputs and "negative" in inputs:  # a ControlNet, or a video's start
            through = ("positive", "negative")[slot] if 0 <= slot < 2 else side
            link = inputs[through]
            yield from self._conditioning(link.node_id, link.slot, side, seen)
        else:
            for name, link in inputs.items():
                if "cond" in name or name in ("positive", "negative"):
                    yield from self._conditioning(link.node_id, link.slot, side, seen)

    def _text(self, ref: InputRef, seen: set[str]) -> Iterator[InputRef]:
        """*ref* itself if it holds a text, else the texts of the nodes that make it."""
        value = self._graph[ref.node_id]["inputs"][ref.name]
        if isinstance(value, str):
            yield ref
        elif (link := as_link(value)) is not None and link.node_id not in seen:
            seen.add(link.node_id)
            for name, inner in self._graph[link.node_id]["inputs"].items():
                is_source = name in _TEXT_SOURCES or name.startswith(("text_", "string_"))
                if is_source and (isinstance(inner, str) or as_link(inner)):
                    yield from self._text(InputRef(link.node_id, name), seen)

    def _same(self, ref: InputRef, others: Iterable[InputRef]) -> bool:
        value = self._graph[ref.node_id]["inputs"][ref.name]
        return any(self._graph[each.node_id]["inputs"][each.name] == value for each in others)

    # Numbers, files

    def _seeds(self) -> Iterator[InputRef]:
        for node_id, node in self._graph.items():
            for name in _SEED_INPUTS:
                if name in node["inputs"]:
                    yield from self._value(InputRef(node_id, name))

    def _sampling(self, base: str) -> Iterator[Parameter]:
        inputs = dict(links(self._graph, base))
        around = [base, *(inputs[name].node_id for name in ("sigmas", "sampler") if name in inputs)]
        if "guider" in inputs:
            around.append(inputs["guider"].node_id)
        for role, name in (
            (Role.STEPS, "steps"),
            (Role.CFG, "cfg"),
            (Role.SAMPLER, "sampler_name"),
            (Role.SCHEDULER, "scheduler"),
        ):
            yield from self._first(role, around, (name,))
        latent = inputs.get("latent_image") or inputs.get("samples")
        if latent is not None and self._comes_from_picture(latent.node_id):
            yield from self._first(Role.STRENGTH, around, ("denoise",))

    def _size(self, base: str) -> Iterator[Parameter]:
        """Where the latent is made: the last node upstream that knows width and height."""
        node_id: str | None = base
        source, seen = None, set[str]()
        while node_id is not None and node_id not in seen:
            seen.add(node_id)
            if {"width", "height"} <= self._graph[node_id]["inputs"].keys():
                source = node_id
            inputs = dict(links(self._graph, node_id))
            node_id = next((inputs[n].node_id for n in _LATENT_INPUTS if n in inputs), None)
        if source is None:
            self.notes.append("The size comes from elsewhere (a picture), so it cannot be set.")
            return
        yield from self._first(Role.WIDTH, [source], ("width",))
        yield from self._first(Role.HEIGHT, [source], ("height",))
        yield from self._first(Role.BATCH, [source], ("batch_size",))

    def _model(self, base: str) -> Iterator[Parameter]:
        """Upstream along `model`, past LoRAs and patches, to the loader."""
        inputs = dict(links(self._graph, base))
        link = inputs.get("model")
        if link is None and "guider" in inputs:
            link = dict(links(self._graph, inputs["guider"].node_id)).get("model")
        seen = set[str]()
        while link is not None and link.node_id not in seen:
            seen.add(link.node_id)
            found = list(self._first(Role.MODEL, [link.node_id], _MODEL_INPUTS))
            if found:
                yield from found
                return
            link = dict(links(self._graph, link.node_id)).get("model")

    def _images(self) -> Iterator[Parameter]:
        refs = [
            InputRef(node_id, "image")
            for node_id, node in self._graph.items()
            if node["class_type"].startswith("LoadImage")
            and isinstance(node["inputs"].get("image"), str)
        ]
        for number, ref in enumerate(refs, 1):
            name = Role.IMAGE if number == 1 else f"{Role.IMAGE}_{number}"
            yield self._parameter(name, Role.IMAGE, [ref])

    def _comes_from_picture(self, node_id: str) -> bool:
        return any(
            self._graph[each]["class_type"].startswith(("LoadImage", "VAEEncode"))
            for each in upstream(self._graph, node_id)
        )

    # Small steps

    def _first(self, role: Role, around: list[str], names: tuple[str, ...]) -> Iterator[Parameter]:
        for node_id in around:
            for name in names:
                if name in self._graph[node_id]["inputs"]:
                    yield from self._every(role, self._value(InputRef(node_id, name)))
                    return

    def _every(self, role: Role, refs: Iterable[InputRef]) -> Iterator[Parameter]:
        if found := self._unique(refs):
            yield self._parameter(role, role, found)

    def _value(self, ref: InputRef) -> Iterator[InputRef]:
        """*ref* if it holds a value of its own, else the primitive that it is linked to."""
        value = self._graph[ref.node_id]["inputs"][ref.name]
        link = as_link(value)
        if link is None:
            yield ref
            return
        inputs = self._graph.get(link.node_id, {"inputs": {}})["inputs"]
        literals = [name for name, each in inputs.items() if not isinstance(each, list | dict)]
        preferred = [name for name in ("value", ref.name, "seed", "int") if name in literals]
        if preferred and not any(as_link(each) for each in inputs.values()):
            yield InputRef(link.node_id, preferred[0])

    def _unique(self, refs: Iterable[InputRef]) -> list[InputRef]:
        return list(dict.fromkeys(refs))

    def _parameter(self, name: str, role: Role, refs: list[InputRef]) -> Parameter:
        value = self._graph[refs[0].node_id]["inputs"][refs[0].name]
        kind, low, high = _CORE.get(role, (type_of(value), None, None))
        return Parameter(str(name), role, tuple(refs), kind, value, low, high)


def type_of(value: object) -> str:
    """ComfyUI's word for a value, where no server has told the input's type."""
    match value:
        case bool():
            return "BOOLEAN"
        case int():
            return "INT"
        case float():
            return "FLOAT"
    return "STRING"
