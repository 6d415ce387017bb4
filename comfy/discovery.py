"""Finding what people may set in a graph. Pure.

Discovery starts at the samplers and walks upstream: the positive text is what reaches
`positive`, the size is where the latent is made, the model is where it is loaded. What it cannot
know it leaves out and says so in a note: a prompt in the wrong box is worse than none.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from comfy.errors import WorkflowFileError
from comfy.graph import Graph, InputRef, Link, title
from comfy.nodes import NodeTypes, Number
from comfy.parameters import FILES, Parameter, Role, text_inputs, type_of, typed
from comfy.phrases import say
from comfy.tracing import Output, Trace


@dataclass(frozen=True, slots=True)
class Discovery:
    """*notes* say what could not be known, and what a moderator can do about it."""

    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    outputs: tuple[Output, ...] = ()
    notes: tuple[str, ...] = ()


_SEED = re.compile(r"(?:.+[._])?(?:noise_)?seed")
_MODEL_INPUTS = ("ckpt_name", "unet_name", "model_name", "gguf_name", "model_path", "model")
_LORA = re.compile(r"lora_name(_\d+)?|lora_\d+_name|lora")
_LATENTS = ("latent_image", "latent", "samples", "av_latent", "video_latent", "image_embeds")
_WIDTHS = ("width", "empty_latent_width")
_HEIGHTS = ("height", "empty_latent_height")
_LENGTHS = ("length", "num_frames")
_PICTURES = ("pixels", "image", "images", "start_image")
_LOADERS: tuple[tuple[Role, re.Pattern[str], tuple[str, ...]], ...] = (
    (Role.MASK, re.compile(r".*Load.*Mask.*", re.I), ("image", "mask")),
    (Role.VIDEO, re.compile(r".*Load_?.*Video.*", re.I), ("file", "video")),
    (
        Role.AUDIO,
        re.compile(r".*Load(?!.*(VAE|Encoder)).*Audio(?!.*(VAE|Encoder)).*", re.I),
        ("audio", "audio_file"),
    ),
    (Role.IMAGE, re.compile(r".*Load_?.*Image.*", re.I), ("image",)),
)
# Encoders that take one prompt in several boxes, one for each of the model's text encoders.
_TWIN_BOXES = {
    "text_g", "text_l", "clip_l", "clip_g", "t5xxl", "llama", "bert", "mt5xl", "qwen25_7b",
    "wildcard_text", "populated_text",
}  # fmt: skip
# What ComfyUI's core says of these, for as long as no server has been asked.
_CORE: dict[Role, tuple[str, Number, Number]] = {
    Role.STEPS: ("INT", 1, 10000),
    Role.CFG: ("FLOAT", 0, 100),
    Role.STRENGTH: ("FLOAT", 0, 1),
    Role.WIDTH: ("INT", 16, 16384),
    Role.HEIGHT: ("INT", 16, 16384),
    Role.BATCH: ("INT", 1, 4096),
}
T = TypeVar("T")
_SAMPLERS_MAX = 50  # each is followed by itself, and a file may be made to take for ever
_DENOISING = ("noise", "steps", "sigmas", "latent_image")
_GUIDANCE = ("positive", "guider", "conditioning", "text_embeds", "hyvid_embeds")
_DECLARE = say("declare one with /workflow expose, or choose one with the option node")


def discover(graph: Graph, nodes: NodeTypes | None = None) -> Discovery:
    """The parameters of *graph* by name, in the order in which people look for them.

    *nodes* add types, ranges and choices, and say which nodes are outputs.
    """
    try:
        search = _Search(graph)
        found = {each.name: typed(each, graph, nodes or {}) for each in search.parameters()}
    except RecursionError as error:
        raise WorkflowFileError(say("chains too many nodes to follow its links.")) from error
    return Discovery(found, _outputs(search.trace, nodes or {}), tuple(search.notes))


def _outputs(trace: Trace, nodes: NodeTypes) -> tuple[Output, ...]:
    """By name, where no server knows the class."""
    guessed = {each.node_id: each for each in trace.outputs}
    found = []
    for node_id, node in trace.graph.items():
        declared = nodes.get(node["class_type"])
        if declared.output_node if declared else node_id in guessed:
            found.append(guessed.get(node_id) or trace.output(node_id))
    return tuple(found)


class _Search:
    """One pass over one graph; *notes* fill while `parameters` is read."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.trace = Trace(graph)
        self.notes: list[str] = []
        samplers = [node_id for node_id in graph if self._is_sampler(node_id)][:_SAMPLERS_MAX]
        with_words = [each for each in samplers if any(self.trace.prompts(each, "positive"))]
        self._samplers = with_words or samplers  # one without words prepares another's picture
        self._first = [each for each in self._samplers if not self._feeding(each)]

    def parameters(self) -> Iterator[Parameter]:
        texts = list(self._words())
        if not any(each.role is Role.TEXT for each in texts) and any(text_inputs(self._graph)):
            note = say("It is not clear which text is the prompt: {remedy}.", remedy=_DECLARE)
            self.notes.append(note)
        yield from texts
        yield from self._one(Role.SEED, self._seeds())
        if self._samplers:
            yield from self._sampling()
            yield from self._size()
            yield from self._model()
        yield from self._numbered(Role.LORA, self._loras())
        files = list(self._files())
        for role in FILES:
            yield from self._numbered(role, (ref for found, ref in files if found is role))

    # Samplers

    def _is_sampler(self, node_id: str) -> bool:
        """It denoises: takes a conditioning or a guider, and noise, steps or a latent."""
        linked, inputs = self.trace.inputs(node_id), self._graph[node_id]["inputs"]
        guided = any(name in linked for name in _GUIDANCE)
        is_run = any(name in _DENOISING or _SEED.fullmatch(name) for name in inputs)
        return node_id in self.trace.live and guided and is_run

    def _feeding(self, sampler: str) -> set[str]:
        """Samplers whose picture this one only refines."""
        return (self.trace.upstream(sampler) - {sampler}) & set(self._samplers)

    # Texts

    def _words(self) -> Iterator[Parameter]:
        if self._samplers:
            yield from self._texts(Role.TEXT)
            yield from self._texts(Role.NEGATIVE)
        else:
            yield from self._words_of_generators()

    def _texts(self, role: Role) -> Iterator[Parameter]:
        side = "negative" if role is Role.NEGATIVE else "positive"
        # words that reach both sides are the positive prompt's
        positive = {ref for each in self._samplers for ref in self.trace.prompts(each, "positive")}
        by_pass = [
            [r for r in self.trace.prompts(each, side) if role is Role.TEXT or r not in positive]
            for each in (*self._first, *(s for s in self._samplers if s not in self._first))
        ]
        main = _unique(ref for refs in by_pass[: len(self._first)] for ref in refs)
        later = [ref for ref in _unique(r for refs in by_pass for r in refs) if ref not in main]
        yield from self._named(role, main, later)

    def _words_of_generators(self) -> Iterator[Parameter]:
        """Without a sampler: nodes that send words to a service or to a language model."""
        positive: list[InputRef] = []
        negative: list[InputRef] = []
        for node_id in self._graph:
            if node_id in self.trace.live and "Encode" not in self._graph[node_id]["class_type"]:
                words = self.trace.words_of(node_id)
                for ref in (each for each in words if each.name != "string"):
                    positive += self.trace.literals(ref, "positive")
                for ref in self.trace.negative_words_of(node_id):
                    negative += self.trace.literals(ref, "negative")
        yield from self._named(Role.TEXT, _unique(positive), [])
        yield from self._named(
            Role.NEGATIVE, [ref for ref in _unique(negative) if ref not in positive], []
        )

    def _named(
        self, role: Role, main: list[InputRef], later: list[InputRef]
    ) -> Iterator[Parameter]:
        """One parameter where one text is meant, else one for each of them and a note."""
        if sung := [ref for ref in main if ref.name == "lyrics"]:
            yield self._parameter("lyrics", role, sung)
            main = [ref for ref in main if ref not in sung]
        groups = self._grouped(main)
        same = [ref for ref in later if groups and self._value(ref) == self._value(groups[0][0])]
        others = self._grouped([ref for ref in later if ref not in same])
        if len(groups) == 1:
            yield self._parameter(role, role, [*groups[0], *same])
        elif groups:
            where = ", ".join(
                f"{g[0].node_id} ({title(self._graph, g[0].node_id)})" for g in groups
            )
            note = say(
                "The {prompt} is put together from nodes {nodes}: {remedy}.",
                prompt=_WHAT[role],
                nodes=where,
                remedy=_DECLARE,
            )
            self.notes.append(note)
            others = [*groups, *others]
        for group in others:
            yield self._parameter(self._own_name(role, group, others), role, group)

    def _grouped(self, refs: list[InputRef]) -> list[list[InputRef]]:
        """Texts that are one: equal words, or the boxes of one encoder."""
        groups: list[list[InputRef]] = []
        for ref in refs:
            for group in groups:
                boxes = {each.name for each in group if each.node_id == ref.node_id}
                if (boxes and {*boxes, ref.name} <= _TWIN_BOXES) or (
                    self._value(group[0]) == self._value(ref)
                ):
                    group.append(ref)
                    break
            else:
                groups.append([ref])
        return groups

    def _own_name(self, role: Role, group: list[InputRef], all_groups: list[list[InputRef]]) -> str:
        node_id, name = group[0]
        shared = sum(each[0].node_id == node_id for each in all_groups) > 1
        return re.sub(r"\W", "_", f"{role}_{node_id}_{name}" if shared else f"{role}_{node_id}")

    # Numbers

    def _seeds(self) -> Iterator[InputRef]:
        for node_id in self._graph:
            for name in self._graph[node_id]["inputs"]:
                if node_id in self.trace.live and _SEED.fullmatch(name):
                    yield from self._number(InputRef(node_id, name))

    def _sampling(self) -> Iterator[Parameter]:
        """Of the first samplers, and of those that go on with the same schedule."""
        together = [*self._first, *(each for each in self._samplers if self._goes_on(each))]
        for role, name in (
            (Role.STEPS, "steps"),
            (Role.CFG, "cfg"),
            (Role.SAMPLER, "sampler_name"),
            (Role.SCHEDULER, "scheduler"),
            (Role.STRENGTH, "denoise"),
        ):
            refs = _unique(
                ref
                for sampler in together
                if role is not Role.STRENGTH or self._starts_from_picture(sampler)
                for ref in self._nearest(sampler, name)
            )
            yield from self._by_value(role, refs)

    def _goes_on(self, sampler: str) -> bool:
        return sampler not in self._first and bool(
            self._graph[sampler]["inputs"].get("start_at_step")
        )

    def _nearest(self, sampler: str, name: str) -> Iterator[InputRef]:
        """At the sampler, or at what makes its sigmas, its sampler and its guidance."""
        around, seen = [sampler], set[str]()
        while around:
            node_id = around.pop(0)
            if node_id in seen:
                continue
            seen.add(node_id)
            if name in self._graph[node_id]["inputs"]:
                yield from self._number(InputRef(node_id, name))
                return
            inputs = self.trace.inputs(node_id)
            around += [
                self.trace.through(inputs[each]).node_id
                for each in ("sigmas", "sampler", "guider")
                if each in inputs
            ]

    def _by_value(self, role: Role, refs: list[InputRef]) -> Iterator[Parameter]:
        """One parameter for all that are equal now; what differs was meant to."""
        groups: dict[str, list[InputRef]] = {}
        for ref in refs:
            groups.setdefault(repr(self._value(ref)), []).append(ref)
        for number, group in enumerate(groups.values(), 1):
            yield self._parameter(role if number == 1 else f"{role}_{number}", role, group)

    def _size(self) -> Iterator[Parameter]:
        sources = _unique(filter(None, map(self._latent_source, self._first)))
        widths = self._of_sources(sources, _WIDTHS)
        if not widths:
            note = say("The size comes from elsewhere (a picture), so it cannot be set.")
            self.notes.append(note)
        yield from self._by_value(Role.WIDTH, widths)
        yield from self._by_value(Role.HEIGHT, self._of_sources(sources, _HEIGHTS))
        yield from self._by_value(Role.BATCH, self._of_sources(sources, ("batch_size",)))
        if lengths := self._of_sources(sources, _LENGTHS):
            yield self._parameter("length", Role.OTHER, lengths)

    def _of_sources(self, sources: list[str], names: tuple[str, ...]) -> list[InputRef]:
        return _unique(
            ref
            for each in sources
            for name in names
            if name in self._graph[each]["inputs"]
            for ref in self._number(InputRef(each, name))
        )

    def _latent_source(self, sampler: str) -> str | None:
        """Where the latent is made: upstream along latents, then along the picture in it."""
        source, seen = None, set[str]()
        node_id: str | None = sampler
        while node_id is not None and node_id not in seen:
            seen.add(node_id)
            inputs = self.trace.inputs(node_id)
            own = self._graph[node_id]["inputs"].keys()
            latent = next((inputs[name] for name in _LATENTS if name in inputs), None)
            sized = any(name in own for name in _WIDTHS)
            if sized:
                source = node_id
            if latent is None and (sized or "batch_size" in own):
                return node_id
            link = latent or next((inputs[name] for name in _PICTURES if name in inputs), None)
            node_id = self.trace.through(link).node_id if link else None
        return source

    def _starts_from_picture(self, sampler: str) -> bool:
        inputs = self.trace.inputs(sampler)
        link = next((inputs[name] for name in ("latent_image", "samples") if name in inputs), None)
        return link is not None and any(
            self._graph[each]["class_type"].startswith(("LoadImage", "VAEEncode"))
            for each in self.trace.upstream(link.node_id)
        )

    # Files

    def _model(self) -> Iterator[Parameter]:
        """Upstream along `model`, past LoRAs and patches, to the loader."""
        refs = _unique(ref for each in self._first for ref in self._loader(each))
        yield from self._by_value(Role.MODEL, refs)

    def _loader(self, sampler: str) -> Iterator[InputRef]:
        inputs = self.trace.inputs(sampler)
        link: Link | None = inputs.get("model")
        if link is None and "guider" in inputs:
            link = self.trace.inputs(self.trace.through(inputs["guider"]).node_id).get("model")
        seen = set[str]()
        while link is not None and link.node_id not in seen:
            link = self.trace.through(link)
            seen.add(link.node_id)
            for name in _MODEL_INPUTS:
                if isinstance(self._graph[link.node_id]["inputs"].get(name), str):
                    yield InputRef(link.node_id, name)
                    return
            link = self.trace.inputs(link.node_id).get("model")

    def _loras(self) -> Iterator[InputRef]:
        for node_id, node in self._graph.items():
            for name, value in node["inputs"].items():
                if _LORA.fullmatch(name) and isinstance(value, str):
                    yield InputRef(node_id, name)

    def _files(self) -> Iterator[tuple[Role, InputRef]]:
        slots = self.trace.used_slots()
        for node_id, node in self._graph.items():
            if node_id not in self.trace.live:
                continue
            for role, pattern, names in _LOADERS:
                if pattern.fullmatch(node["class_type"]):
                    # of some pictures only the mask in them is used
                    only_mask = role is Role.IMAGE and slots.get(node_id) == {1}
                    held = [each for each in names if isinstance(node["inputs"].get(each), str)]
                    for name in held[:1]:
                        yield Role.MASK if only_mask else role, InputRef(node_id, name)
                    break

    # Small steps

    def _number(self, ref: InputRef) -> Iterator[InputRef]:
        found = self.trace.value(ref)
        if found is not None:
            yield found

    def _one(self, role: Role, refs: Iterable[InputRef]) -> Iterator[Parameter]:
        if found := _unique(refs):
            yield self._parameter(role, role, found)

    def _numbered(self, role: Role, refs: Iterable[InputRef]) -> Iterator[Parameter]:
        for number, ref in enumerate(refs, 1):
            yield self._parameter(role if number == 1 else f"{role}_{number}", role, [ref])

    def _value(self, ref: InputRef) -> object:
        return self._graph[ref.node_id]["inputs"][ref.name]

    def _parameter(self, name: str, role: Role, refs: list[InputRef]) -> Parameter:
        value = self._value(refs[0])
        kind, low, high = _CORE.get(role, (type_of(value), None, None))
        return Parameter(str(name), role, tuple(refs), kind, value, low, high)


_WHAT = {Role.TEXT: say("positive prompt"), Role.NEGATIVE: say("negative prompt")}


def _unique(items: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(items))
