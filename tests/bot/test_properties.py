"""Whatever somebody types or a server names: one sentence, or what may be run and shown."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pytest
from discord import ui
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot.cards import collect_card, failure_card, progress_card, result_card, waiting_card
from bot.config import Limits
from bot.errors import UserError, explain, explain_failure
from bot.jobs import JobState, Request
from bot.pages import named
from bot.requests import Author, build
from bot.spool import SpooledFile
from bot.wishes import Wish
from bot.words import holds_any
from comfy.errors import ParameterError, WorkflowFileError
from comfy.graph import Graph, InputRef, as_link
from comfy.models import Ending, Failure, HistoryEntry
from comfy.parameters import Parameter, Role
from comfy.progress import RunProgress
from comfy.values import coerce, is_denied
from comfy.workflow import check_name, name_of
from tests.bot.builders import NODES, NOW, a_job, a_request, a_workflow
from tests.graphs import a_graph

few = settings(derandomize=True, deadline=None, max_examples=100)
many = settings(few, max_examples=200)

WORKFLOW = a_workflow(steps={"max": 60}, cfg={"hidden": True, "max": 20}, width={"max": 2048})
GRAPH = WORKFLOW.graph
PARAMETERS = WORKFLOW.parameters(NODES)
MEMBER = Author(interaction_id=1000, user_id=30, channel_id=20, guild_id=10)
MODERATOR = replace(MEMBER, privileged=True)
INPUTS = sorted({name for node in GRAPH.values() for name in node["inputs"]})

# What means something to Discord, to JSON, to a shell, or to a file system, in every order.
marks = st.sampled_from([*"@<>[]()`*_~|#-\\/:.\"'{}=$%&\n\r\t\0\x85\u2028\u202e\u200b\ud800"])
pieces = st.sampled_from(
    ["@everyone", "<@30>", "<@&5>", "[safe](http://evil.example)", "../", "C:\\", "CON", ".png",
     "{a|b}", "steps=", "embedding:", "```", "-# ", "x" * 300, "ﬁ", "𝓧", "语"]
)  # fmt: skip
texts = st.lists(marks | pieces | st.characters(), max_size=12).map("".join)
numbers = (
    st.integers(-(2**70), 2**70).map(str)
    | st.floats().map(repr)
    | st.text("0123456789+-.eE_, xinfNa٢７", max_size=9)
    | st.sampled_from(["9" * 5000, "1e999", "-0", "0x10", "1e3", "513", " 20 "])
)
values: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats() | numbers | texts
    | st.sampled_from([["4", 0], {"__value__": ["4", 0]}, 20, 512, 7.5, "euler", "a cat"])
)  # fmt: skip
anything = st.recursive(
    values, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2)
)
inputs = st.fixed_dictionaries(
    {"inputs": st.dictionaries(st.sampled_from(INPUTS) | texts, values, max_size=2) | anything}
)
bodies = st.dictionaries(
    st.sampled_from([*GRAPH, "99", "__proto__", "4 "]), inputs | anything, max_size=3
)


def told(error: Exception) -> str:
    """What the person reads: one short sentence."""
    text = explain(error)
    assert text is not None
    assert re.fullmatch(r"\S.{8,700}", text), text
    return text


def asked(wish: Wish, author: Author = MEMBER) -> Request | None:
    """None: it was refused in words."""
    try:
        return build(WORKFLOW, wish, author, Limits(pixels=2**24), NODES, NOW)
    except (UserError, ParameterError) as error:
        told(error)
        return None


# What reaches ComfyUI


def changes(after: Graph) -> Iterator[tuple[InputRef, Any]]:
    """The inputs that differ; whatever else does is an error."""
    assert list(after) == list(GRAPH)
    for node_id, node in GRAPH.items():
        assert {**after[node_id], "inputs": 0} == {**node, "inputs": 0}
        assert list(after[node_id]["inputs"]) == list(node["inputs"])
        for name, value in after[node_id]["inputs"].items():
            if json.dumps(value) != json.dumps(node["inputs"][name]):
                yield InputRef(node_id, name), value


def is_within(parameter: Parameter, value: Any) -> bool:
    if parameter.choices:
        return value in parameter.choices
    if parameter.type not in ("INT", "FLOAT"):
        return isinstance(value, bool if parameter.type == "BOOLEAN" else str)
    low, high = parameter.min, parameter.max
    return (
        type(value) is (int if parameter.type == "INT" else float)
        and (low is None or low <= value)
        and (high is None or value <= high)
    )


@pytest.mark.parametrize("author", [MEMBER, MODERATOR], ids=["member", "moderator"])
def test_any_json_is_refused_or_changes_values_that_may_be_set(author: Author) -> None:
    declared = {ref: each for each in PARAMETERS.values() for ref in each.targets}
    accepted = []

    @many
    @given(bodies | anything)
    @example({"3": {"inputs": {"steps": 21, "cfg": 7.5}}})
    @example({"3": {"inputs": {"steps": 21}}, "6": {"inputs": {"text": "a cat"}}})
    def check(data: Any) -> None:
        request = asked(Wish(overrides=json.dumps(data)), author)
        if request is None:
            return
        json.dumps(request.graph, allow_nan=False)
        for ref, value in changes(request.graph):
            if ref.name == "filename_prefix":
                assert value.startswith(f"comfycord/{request.id}/")
                continue
            accepted.append(ref)
            assert not is_denied(GRAPH, ref)
            assert not as_link(GRAPH[ref.node_id]["inputs"][ref.name])
            assert isinstance(value, str | int | float)
            if ref in declared:
                assert is_within(declared[ref], value)
                assert author.privileged or not declared[ref].hidden
            else:
                assert author.privileged

    check()

    assert {"seed", "text", "steps"} <= {each.name for each in accepted}


@many
@given(text=texts | numbers)
def test_any_text_is_no_json_or_refused_or_run(text: str) -> None:
    request = asked(Wish(overrides=text), MODERATOR)

    assert request is None or text.strip() in ("", "{}")


@pytest.mark.parametrize(
    "parameter",
    [
        Parameter("it", Role.STEPS, (), "INT", 20, min=1, max=60),
        Parameter("it", Role.WIDTH, (), "INT", 512, min=16, max=16384, step=8),
        Parameter("it", Role.OTHER, (), "INT", 0, min=-5, max=5, step=3),
        Parameter("it", Role.SEED, (), "INT", 0),
        Parameter("it", Role.CFG, (), "FLOAT", 7.0, min=0.0, max=100.0, step=0.1),
        Parameter("it", Role.OTHER, (), "FLOAT", 7.0),
        Parameter("it", Role.OTHER, (), "BOOLEAN", True),
        Parameter("it", Role.OTHER, (), "STRING", ""),
        Parameter("it", Role.OTHER, (), "COMBO", "a", choices=("a", "20", 8)),
    ],
    ids=["steps", "width", "odd steps", "seed", "cfg", "free", "boolean", "text", "choice"],
)
def test_any_number_is_refused_or_within_the_limits(parameter: Parameter) -> None:
    @few
    @given(numbers | st.integers() | st.floats() | st.booleans())
    def check(given: Any) -> None:
        try:
            value = coerce(parameter, given)
        except ParameterError as error:
            told(error)
            return
        assert is_within(parameter, value)
        json.dumps(value, allow_nan=False)
        assert parameter.role is not Role.SEED or 0 <= value < 2**64

    check()


apart = st.sampled_from(["", " ", ".", "-", "_", "\u200b", "\u2060", "*", "\n", "\u0301"])
spelled = st.lists(
    st.sampled_from([str.lower, str.upper, lambda letter: chr(ord(letter) + 0xFEE0)]),
    min_size=9,
    max_size=9,
)


@many
@given(apart, spelled, st.lists(apart, min_size=9, max_size=9), texts)
def test_a_blocked_word_is_found_however_it_is_spelled(
    before: str, styles: list[Callable[[str], str]], between: list[str], after: str
) -> None:
    letters = [style(each) for style, each in zip(styles, "forbidden", strict=True)]
    word = "".join(f"{each}{gap}" for each, gap in zip(letters, between, strict=True))
    around = f"a {before}{word} {after}"

    assert holds_any(["Forbidden"], [around])
    assert not holds_any(["Forbidden"], ["unforbiddenly"])


# What people read

CARDS: dict[str, Callable[[Any], ui.LayoutView]] = {
    "waiting": lambda job: waiting_card(job, 3, server_up=False, begins=NOW),
    "running": lambda job: progress_card(
        replace(job, state=JobState.RUNNING, server="local"), RunProgress({}, node_id="3")
    ),
    "to collect": collect_card,
    "failed": lambda job: failure_card(replace(job, state=JobState.FAILED)),
    "done": lambda job: result_card(job, 0, 1, [], []),
}


def parts(components: list[Any]) -> Iterator[Any]:
    for each in components:
        yield each
        yield from parts(each.get("components", []))


def live(mark: str, text: str) -> bool:
    """Whether Discord would read *mark* as more than letters."""
    return re.search(rf"(?<!\\)(\\\\)*{re.escape(mark)}", text) is not None


def is_plain(text: str) -> bool:
    """No ping, and no link that hides where it leads."""
    return not (re.search("@(everyone|here)", text) or live("<", text) or live("](", text))


def titled(title: str) -> Graph:
    graph = a_graph()
    graph["3"]["_meta"]["title"] = title
    return graph


@few
@given(texts, texts, texts, st.sampled_from(["de", "en-US", "ja"]))
def test_any_words_are_words_in_a_card_and_fit(
    prompt: str, name: str, said: str, locale: str
) -> None:
    graph = titled(said)
    request = a_request(text=prompt, workflow=name[:100], locale=locale, graph=graph)
    job = a_job(JobState.EXECUTED, request=request, texts=(said * 20,) * 3)
    for card in CARDS.values():
        found = list(parts(card(job).to_components()))
        contents = [each.get("content") or each.get("label") or "" for each in found]
        assert sum(map(len, contents)) <= 4000
        assert len(found) <= 40
        assert all(len(each.get("custom_id", "")) <= 100 for each in found)
        text = "\n".join(contents).replace("<@30>", "", 1)  # who asked for it
        assert is_plain(re.sub(r"<t:\d+:R>", "", text))


@few
@given(texts)
@example("[safe](http://evil.example)")
def test_any_title_of_a_node_is_words_where_its_failure_is_told(title: str) -> None:
    failed = Failure("3", "KSampler", "ValueError", "wrong")

    note = explain_failure(HistoryEntry("x", Ending.ERROR, failure=failed), titled(title))

    assert is_plain(note)
    assert "\n" not in note


@many
@given(
    prompt=st.none() | texts,
    node=st.none() | texts,
    typed=st.none() | texts,
    name=st.sampled_from(["negative", "seed", "steps", "model", "nosuch"]) | texts,
    value=texts | numbers,
)
def test_any_words_are_refused_in_words_or_run(
    prompt: str | None, node: str | None, typed: str | None, name: str, value: str
) -> None:
    for wish in (
        Wish(prompt=prompt, node=node),
        Wish(prompt=prompt, settings=typed),
        Wish(settings=f'{name}="{value}"'),
        Wish(prompt="a cat", values={name: value}),
    ):
        request = asked(wish)
        if request is not None:
            json.dumps(request.graph, ensure_ascii=False, allow_nan=False).encode()
            assert "\0" not in json.dumps(request.graph)


# What becomes a file


@many
@given(texts)
def test_any_name_of_a_workflow_stays_in_its_folder_or_is_refused(text: str) -> None:
    for name in (text, name_of(text), name_of(f"{text}.json")):
        try:
            check_name(name)
        except WorkflowFileError as error:
            told(error)
            continue
        for flavour in (PurePosixPath, PureWindowsPath):
            path = flavour("workflows") / f"{name}.json"
            assert path.parent == flavour("workflows")
            assert path.stem == name
        assert not re.search(r'[\x00-\x1f<>:"/\\|?*`]|\.\.|^[. ]|[. ]$', name)


@many
@given(st.lists(texts, min_size=1, max_size=3))
@example(["../../x.png", "C:\\x.png", "a.png:ads"])
def test_any_name_that_a_server_gives_is_posted_under_a_plain_one(names: list[str]) -> None:
    files = [SpooledFile(Path("/spool/0"), name, 5) for name in names]

    fitting, notes = named(a_job(), files, 10, 1)

    assert notes == []
    for number, each in enumerate(fitting, 1):
        assert re.fullmatch(rf"1b4e28ba-{number}(\.[a-z0-9]{{1,10}})?", each.name), each.name
        assert each.path == Path("/spool/0")
