"""Whatever is accepted: the graph that is submitted is the workflow's, but for declared inputs."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.config import Limits
from bot.errors import UserError
from bot.jobs import Request
from bot.requests import Author, build
from bot.wishes import Wish
from comfy.client import ComfyClient
from comfy.errors import ParameterError
from comfy.graph import Graph, InputRef
from comfy.library import Library
from comfy.nodes import NodeTypes
from comfy.workflow import Workflow
from tests.discord.conftest import ROOT, World
from tests.fakes.comfyui import FakeComfyUI

NAMES = (
    "negative", "seed", "steps", "cfg", "width", "height", "batch", "model", "strength",
    "sampler", "scheduler", "text", "image", "nosuch",
)  # fmt: skip


@pytest.fixture(scope="module")
def known() -> tuple[dict[str, Workflow], NodeTypes]:
    """The workflows that ship, and what the stand-in says of its nodes."""

    async def learn() -> tuple[dict[str, Workflow], NodeTypes]:
        library = Library(Path(ROOT / "workflows"))
        await library.refresh()
        async with FakeComfyUI() as comfyui, aiohttp.ClientSession() as session:
            return dict(library.workflows), await ComfyClient(comfyui.url, session).object_info()

    return asyncio.run(learn())


numbers = st.one_of(
    st.integers(-5, 3000), st.integers(), st.floats(), st.sampled_from([256, 512, 1, 4, 0.5, 20])
)
texts = st.one_of(st.text(max_size=40), st.sampled_from(["euler", "karras", "normal", "a cat"]))
values = st.one_of(numbers, texts, numbers.map(str), st.booleans())


def setting(pair: tuple[str, Any]) -> str:
    return f'{pair[0]}="{pair[1]}"' if " " in str(pair[1]) else f"{pair[0]}={pair[1]}"


@st.composite
def wishes(draw: Any, graphs: dict[str, Graph]) -> Wish:
    """What somebody may type, sensible or not."""
    workflow = draw(st.sampled_from(sorted(graphs)))
    nodes = graphs[workflow]
    node = st.sampled_from([*nodes, "999"])
    overridden = draw(st.dictionaries(node, st.dictionaries(inputs_of(nodes), values, max_size=2),
                                      max_size=2))  # fmt: skip
    overrides = {name: {"inputs": each} for name, each in overridden.items()}
    pairs = draw(st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=2))
    return Wish(
        workflow=workflow,
        prompt=draw(st.none() | texts),
        node=draw(st.none() | st.none() | node),
        values=draw(st.dictionaries(st.sampled_from(NAMES), values, max_size=3)),
        settings=draw(st.none() | st.just(" ".join(map(setting, pairs)))),
        overrides=json.dumps(overrides) if overrides and draw(st.booleans()) else None,
        files=draw(st.sampled_from([{}, {"image": f"{'0' * 32}.png"}])),
    )


def inputs_of(nodes: Graph) -> st.SearchStrategy[str]:
    names = {name for node in nodes.values() for name in node["inputs"]}
    return st.sampled_from(sorted(names))


AUTHOR = Author(interaction_id=1, user_id=2, channel_id=3, guild_id=4)
TINY = Limits(pixels=2**24)


def differing(before: Graph, after: Graph) -> set[InputRef]:
    """Which inputs differ; anything else that does is an error."""
    assert list(before) == list(after)
    found = set()
    for node_id, node in before.items():
        other = after[node_id]
        assert {k: v for k, v in node.items() if k != "inputs"} == {
            k: v for k, v in other.items() if k != "inputs"
        }
        assert list(node["inputs"]) == list(other["inputs"])
        found |= {
            InputRef(node_id, name)
            for name, value in node["inputs"].items()
            if json.dumps(value) != json.dumps(other["inputs"][name])
        }
    return found


def declared(workflow: Workflow, nodes: NodeTypes, wish: Wish) -> set[InputRef]:
    targets = {
        ref
        for each in workflow.parameters(nodes).values()
        if not each.hidden
        for ref in each.targets
    }
    if wish.node is not None and wish.prompt is not None:  # a text node that the person named
        targets |= {InputRef(wish.node, n) for n in workflow.graph[wish.node]["inputs"]}
    return targets


def test_what_is_accepted_changes_only_declared_inputs_and_where_files_go(
    known: tuple[dict[str, Workflow], NodeTypes],
) -> None:
    workflows, nodes = known
    graphs = {name: each.graph for name, each in workflows.items()}
    accepted: list[Wish] = []

    @settings(max_examples=600, deadline=None)
    @given(wish=wishes(graphs))
    def check(wish: Wish) -> None:
        workflow = workflows[wish.workflow]
        before = json.dumps(workflow.graph)
        try:
            request = build(workflow, wish, AUTHOR, TINY, nodes, datetime.now(UTC))
        except (UserError, ParameterError):
            return
        accepted.append(wish)
        changed = differing(workflow.graph, request.graph)
        prefixes = {ref for ref in changed if ref.name == "filename_prefix"}
        assert changed - prefixes <= declared(workflow, nodes, wish)
        for node_id, name in prefixes:
            assert request.graph[node_id]["inputs"][name].startswith(f"comfycord/{request.id}/")
        assert links_stay(workflow.graph, request)
        assert set(request.uploads.values()) <= set(wish.files.values())
        json.dumps(request.graph, allow_nan=False)
        assert json.dumps(workflow.graph) == before  # the workflow itself stays

    check()

    assert len(accepted) >= 30  # else nothing is said
    assert len({each.workflow for each in accepted}) >= 4
    assert any(each.values for each in accepted)


def links_stay(before: Graph, request: Request) -> bool:
    return all(
        request.graph[node_id]["inputs"][name] == value
        for node_id, node in before.items()
        for name, value in node["inputs"].items()
        if isinstance(value, list)
    )


async def test_what_was_built_is_what_comfyui_gets(world: World) -> None:
    await world.start()

    await world.posted(
        await world.generate(workflow="txt2img", steps=3, settings="cfg=2.5 sampler=euler")
    )
    (job,) = await world.bot.store.recent(world.alice.id, 1)

    (entry,) = world.comfyui.queue.history.values()
    assert entry["prompt"][2] == job.request.graph
