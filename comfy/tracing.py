"""Following the links of a graph upstream: which nodes matter, and where a value really stands.

Pure, and without a server's help: it knows inputs by the names that nodes give them.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from comfy.graph import Graph, InputRef, Link, as_link, links

# Names by which nodes call the words that they hold, encode or send to a service.
_WORDS = re.compile(
    r"text|prompt|positive_prompt|text_prompt|prompt_text|text_positive|user_prompt|caption|tags"
    r"|lyrics|string"
    r"|text_g|text_l|clip_l|clip_g|t5xxl|llama|bert|mt5xl|qwen25_7b|wildcard_text|populated_text"
    r"|(?:model|inputs|prompts?)\.(?:prompt|text)\d*"  # of V3 nodes
)
_NEGATIVE_WORDS = re.compile(r"(?:.*\.)?(?:negative_prompt|text_negative|negative_text|negative)")
# Inputs by which nodes hand strings on.
_STRINGS = re.compile(
    r"value|source|positive|anything|(?:text|string|input|any|prompt)_?\w?|on_true|on_false|texts?\..*"
    r"|(?:text|string|any|input)_\d+"
)
_CONDITIONING = re.compile(r".*cond(?!itioner).*|positive|negative|.*text_embeds|hyvid_embeds")
_POSITIVE_LINKS = ("positive", "conditioning", "cond1", "text_embeds", "hyvid_embeds")
_NEGATIVE_LINKS = ("negative", "neg_conditioning", "text_embeds", "hyvid_embeds")
_JOINT = ("text_embeds", "hyvid_embeds")  # one link for both sides
_ENDS = re.compile(r"ConditioningZeroOut")
_SAVERS = re.compile(
    r".*(save|preview|show|display|export|videocombine|viewer|image ?compare).*", re.IGNORECASE
)
_NO_SAVERS = re.compile(r".*(SamplingPreview|LoadImage|Loader).*")


class Output(NamedTuple):
    """A node that makes files or texts; *kind*: image, video, audio, text or 3d."""

    node_id: str
    kind: str


_KINDS = (
    ("3d", re.compile(r"3d|glb|mesh|splat|voxel|pointcloud|tomodel", re.I)),
    ("audio", re.compile(r"audio", re.I)),
    ("video", re.compile(r"video|webm|animated|gif", re.I)),
    ("text", re.compile(r"text|string|any\b|anything|previewany|json|caption", re.I)),
)


class Trace:
    """One graph, with what it takes to follow its links."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._inputs = {node_id: self._counting(node_id) for node_id in graph}
        self._known_prompts: dict[tuple[Link, str, bool], list[InputRef]] = {}
        self._known_words: dict[str, tuple[list[InputRef], list[InputRef]]] = {}
        self._slots: dict[str, set[int]] = {}
        for linked in self._inputs.values():
            for link in linked.values():
                self._slots.setdefault(link.node_id, set()).add(link.slot)
        used = {link.node_id for linked in self._inputs.values() for link in linked.values()}
        savers = [node_id for node_id in graph if self._saves(node_id)]
        ends = [n for n, linked in self._inputs.items() if linked and n not in used]
        self.outputs = tuple(map(self.output, savers))
        self.live = self.upstream(*(savers or ends or graph))

    def _saves(self, node_id: str) -> bool:
        class_type = self.graph[node_id]["class_type"]
        return bool(_SAVERS.fullmatch(class_type)) and not _NO_SAVERS.fullmatch(class_type)

    def output(self, node_id: str) -> Output:
        class_type = self.graph[node_id]["class_type"]
        kinds = (kind for kind, pattern in _KINDS if pattern.search(class_type))
        return Output(node_id, next(kinds, "image"))

    def inputs(self, node_id: str) -> dict[str, Link]:
        """The linked inputs that count: of a switch whose choice is known, the chosen one."""
        return self._inputs[node_id]

    def used_slots(self) -> dict[str, set[int]]:
        """By node: which of its outputs reach something that is made."""
        slots: dict[str, set[int]] = {}
        for node_id in self.live:
            for link in self._inputs[node_id].values():
                slots.setdefault(link.node_id, set()).add(link.slot)
        return slots

    def _counting(self, node_id: str) -> dict[str, Link]:
        linked = dict(links(self.graph, node_id))
        if {"on_true", "on_false"} & linked.keys():
            chosen = self._switch(node_id)
            if chosen is not None:
                linked.pop("on_false" if chosen else "on_true", None)
        return linked

    def _switch(self, node_id: str) -> bool | None:
        value = self.graph[node_id]["inputs"].get("switch")
        if (link := as_link(value)) is not None:
            value = self.graph[link.node_id]["inputs"].get("value")
        return value if isinstance(value, bool) else None

    def through(self, link: Link) -> Link:
        """*link*, or what a switch behind it passes on."""
        seen = set[str]()
        while link.node_id not in seen and "switch" in self.graph[link.node_id]["inputs"]:
            seen.add(link.node_id)
            chosen = self.inputs(link.node_id)
            ways = [chosen[name] for name in ("on_true", "on_false") if name in chosen]
            if len(ways) != 1:
                break
            link = ways[0]
        return link

    def upstream(self, *node_ids: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(node_ids)
        while waiting:
            current = waiting.pop()
            if current not in seen:
                seen.add(current)
                waiting.extend(link.node_id for link in self.inputs(current).values())
        return seen

    # Words

    def words_of(self, node_id: str) -> list[InputRef]:
        """Inputs of one node that take the words of a prompt."""
        inputs = self.graph[node_id]["inputs"]
        return [
            InputRef(node_id, name)
            for name, value in inputs.items()
            if _WORDS.fullmatch(name) or (name == "positive" and isinstance(value, str))
        ]

    def _words(self, node_id: str) -> tuple[list[InputRef], list[InputRef]]:
        if node_id not in self._known_words:
            self._known_words[node_id] = self.words_of(node_id), self.negative_words_of(node_id)
        return self._known_words[node_id]

    def negative_words_of(self, node_id: str) -> list[InputRef]:
        inputs = self.graph[node_id]["inputs"]
        return [
            InputRef(node_id, name)
            for name, value in inputs.items()
            if _NEGATIVE_WORDS.fullmatch(name) and (name != "negative" or isinstance(value, str))
        ]

    def literals(self, ref: InputRef, side: str) -> Iterator[InputRef]:
        """*ref* itself if it holds a text, else the texts of the nodes that make it."""
        yield from self._literals(ref, side, set())

    def _literals(self, ref: InputRef, side: str, seen: set[str]) -> Iterator[InputRef]:
        value = self.graph[ref.node_id]["inputs"][ref.name]
        if isinstance(value, str):
            yield ref
        elif (link := as_link(value)) is not None and link.node_id not in seen:
            seen.add(link.node_id)
            for name in self._string_inputs(link.node_id, side):
                yield from self._literals(InputRef(link.node_id, name), side, seen)

    def _string_inputs(self, node_id: str, side: str) -> list[str]:
        """Which inputs of a node that makes a string hold the words of *side*."""
        inputs = self.graph[node_id]["inputs"]
        negative = [ref.name for ref in self.negative_words_of(node_id)]
        if side == "negative" and negative:  # a styler, which makes both
            return negative
        if {"string", "find", "replace"} <= inputs.keys():  # words put into a template, or cleaned
            is_template = isinstance(inputs.get("string"), str) and as_link(inputs["replace"])
            return ["replace"] if is_template else ["string"]
        dead = dict(links(self.graph, node_id)).keys() - self.inputs(node_id).keys()
        return [
            name
            for name in inputs
            if (_WORDS.fullmatch(name) or _STRINGS.fullmatch(name))
            and name not in dead
            and name not in negative
        ]

    # Conditioning

    def prompts(self, sampler: str, side: str) -> list[InputRef]:
        """The literal words that reach *side* (positive, negative) of a sampler."""
        inputs = self.inputs(sampler)
        if "guider" in inputs:
            inputs = self.inputs(self.through(inputs["guider"]).node_id)
        names = _NEGATIVE_LINKS if side == "negative" else _POSITIVE_LINKS
        found: dict[InputRef, None] = {}
        for name, link in inputs.items():
            if name in names:
                key = (link, side, name in _JOINT)
                if key not in self._known_prompts:
                    self._known_prompts[key] = list(self._conditioning(*key, set()))
                found |= dict.fromkeys(self._known_prompts[key])
        return list(found)

    def _conditioning(
        self, link: Link, side: str, joint: bool, seen: set[Link]
    ) -> Iterator[InputRef]:
        """Upstream from a conditioning to the words that were encoded into it."""
        link = self.through(link)
        node_id, slot = link
        if link in seen or _ENDS.fullmatch(self.graph[node_id]["class_type"]):
            return
        inputs = self.inputs(node_id)
        words, negative = self._words(node_id)
        by_output = negative or "negative" in inputs  # else all outputs come from all inputs
        seen.update([link] if by_output else {Link(node_id, n) for n in self._slots[node_id]})
        if negative:  # one node encodes both sides: a loader by name, others by output
            by_name = joint or any(ref.name == "negative" for ref in negative)
            words = negative if (side == "negative" if by_name else slot == 1) else words
        elif joint and side == "negative":
            return
        for ref in words:
            yield from self.literals(ref, side)
        if "positive" in inputs and "negative" in inputs and not words:
            # a ControlNet, or a video's start; some give the model out first
            by_slot = 0 <= slot < 2 and "model" not in inputs
            through = ("positive", "negative")[slot] if by_slot else side
            yield from self._conditioning(inputs[through], side, joint, seen)
        else:
            for name, each in inputs.items():
                if _CONDITIONING.fullmatch(name):
                    yield from self._conditioning(each, side, joint, seen)

    # Numbers

    def value(self, ref: InputRef) -> InputRef | None:
        """*ref* if it holds a value of its own, else the primitive that it is linked to."""
        link = as_link(self.graph[ref.node_id]["inputs"][ref.name])
        if link is None:
            return ref
        link = self.through(link)
        inputs = self.graph[link.node_id]["inputs"]
        plain = [name for name, each in inputs.items() if not isinstance(each, list | dict)]
        fitting = [
            name for name in ("value", ref.name, "seed", "noise_seed", "int") if name in plain
        ]
        if fitting and not any(as_link(each) for each in inputs.values()):
            return InputRef(link.node_id, fitting[0])
        return None
