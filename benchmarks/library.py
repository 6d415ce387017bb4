"""A large workflows folder: the start, autocomplete, and how soon a change is picked up.

    uv run python -m benchmarks.library [--workflows 500] [--nodes 100]

Beside autocomplete stands the plain way: listing and reading the folder for every keystroke.
"""

import argparse
import asyncio
import copy
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp

from bot.requests import Author, may_use
from bot.servers import Server, Servers
from cogs.transformers import choose_workflow
from comfy.client import ComfyClient
from comfy.graph import Graph
from comfy.library import Library
from comfy.nodes import parse_object_info
from comfy.standin import StandIn

SHIPPED = Path(__file__).parents[1] / "workflows"
GOALS = {"start": 3.0, "autocomplete": 0.020, "change": 2.0}
KEYSTROKES = ("", "w", "wo", "workflow 4", "workflow 499", "nothing like it")
AUTHOR = Author(interaction_id=1, user_id=1, channel_id=1, guild_id=1)


def graph_of(nodes: int, number: int) -> Graph:
    """txt2img followed by a chain of nodes, each with a title of its own."""
    graph: Graph = copy.deepcopy(json.loads((SHIPPED / "txt2img.json").read_text("utf-8")))
    saver = next(node for node in graph.values() if node["class_type"] == "SaveImage")
    link: list[Any] = saver["inputs"]["images"]
    for position in range(nodes - len(graph)):
        node_id = f"{1000 + position}"
        inputs = {"image": link, "upscale_method": "area", "scale_by": 1.0 + position / 1000}
        title = {"title": f"Step {position} of {number}"}
        graph[node_id] = {"class_type": "ImageScaleBy", "inputs": inputs, "_meta": title}
        link = [node_id, 0]
    saver["inputs"]["images"] = link
    return graph


def fill(folder: Path, workflows: int, nodes: int) -> None:
    for number in range(workflows):
        path = folder / f"workflow {number}.json"
        path.write_text(json.dumps(graph_of(nodes, number)), "utf-8")
        path.with_suffix(".yaml").write_text(f"title: The {number}th\n", "utf-8")


def timed(work: Callable[[], object], times: int) -> tuple[float, float]:
    """Median and longest, in seconds."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return median(took), max(took)


def read_all(folder: Path, typed: str) -> list[str]:
    found = [path for path in sorted(folder.glob("*.json")) if json.loads(path.read_bytes())]
    return [path.stem for path in found if typed in path.stem][:25]


async def seen_after(library: Library, path: Path, nodes: int) -> float:
    """Seconds from a file's change until members get it."""
    watching = asyncio.create_task(library.watch())
    await asyncio.sleep(0.1)
    before = library.workflows[path.stem]
    path.write_text(json.dumps(graph_of(nodes + 1, 0)), "utf-8")  # noqa: ASYNC240
    began = time.perf_counter()
    while library.workflows[path.stem] is before:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    took = time.perf_counter() - began
    watching.cancel()
    return took


async def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--workflows", type=int, default=500)
    arguments.add_argument("--nodes", type=int, default=100)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder, chosen.workflows, chosen.nodes)
        began = time.perf_counter()
        library = Library(folder)
        await library.refresh()
        start = time.perf_counter() - began
        assert len(library.workflows) == chosen.workflows, library.problems

        def complete() -> None:
            for typed in KEYSTROKES:
                usable = (w for w in library.workflows.values() if may_use(w, AUTHOR))
                choose_workflow(usable, typed)

        typing = [each / len(KEYSTROKES) for each in timed(complete, 50)]
        plain = timed(lambda: read_all(folder, "workflow 4"), 3)
        async with StandIn() as standin, aiohttp.ClientSession() as session:
            server = Server("one", ComfyClient(standin.url, session))
            server.nodes = parse_object_info(await server.client.raw_object_info())
            servers = Servers([server])

            def first_able() -> None:
                [each for each in library.workflows.values() if server.can_run(each)]

            able = timed(first_able, 5)
            workflow = next(iter(library.workflows.values()))
            card = timed(lambda: workflow.parameters(servers.nodes), 20)
        change = await seen_after(library, folder / "workflow 0.json", chosen.nodes)
    print(f"{chosen.workflows} workflows of {chosen.nodes} nodes\n")
    print(f"{'':<44}{'median':>12}{'longest':>12}{'goal':>10}")
    for label, took, goal in (
        ("start: the whole folder read", (start, start), GOALS["start"]),
        ("autocomplete of workflow, one keystroke", typing, GOALS["autocomplete"]),
        ("  reading the folder for it", plain, None),
        ("which a server can run, all of them", able, None),
        ("parameters of one", card, GOALS["autocomplete"]),
        ("a changed file is there", (change, change), GOALS["change"]),
    ):
        shown = f"{goal * 1000:>7.0f} ms" if goal else ""
        print(f"{label:<44}{took[0] * 1000:>9.2f} ms{took[1] * 1000:>9.2f} ms{shown:>10}")
    late = start > GOALS["start"] or typing[1] > GOALS["autocomplete"] or change > GOALS["change"]
    if late:
        raise SystemExit("A goal was missed.")


if __name__ == "__main__":
    asyncio.run(main())
