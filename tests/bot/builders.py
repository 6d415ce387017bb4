"""Workflows, requests and jobs to begin a test with. What a test is about, it names itself."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bot.jobs import Job, JobState, Request
from bot.wishes import Wish
from comfy.graph import Graph
from comfy.nodes import NodeTypes, parse_object_info
from comfy.standin import MODELS
from comfy.standin_info import object_info
from comfy.workflow import Sidecar, Workflow
from tests.graphs import a_graph

NOW = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)

# The nodes of a server that has everything the graphs of the tests need.
NODES: NodeTypes = parse_object_info(object_info(MODELS, (), modern=True))


def a_workflow(
    graph: Graph | None = None, name: str = "txt2img", **parameters: dict[str, Any]
) -> Workflow:
    """*parameters* as they stand in a sidecar."""
    sidecar = Sidecar.model_validate({"parameters": parameters}, strict=False)
    return Workflow.of(name, graph or a_graph(), sidecar)


def a_request(**changes: Any) -> Request:
    request = Request(
        id="1b4e28ba-2fa1-4d2b-883f-0016d3cca427",
        interaction_id=1000,
        guild_id=10,
        channel_id=20,
        user_id=30,
        workflow="txt2img",
        text="a cat",
        settings={"seed": 7, "steps": 20, "width": 512, "height": 768},
        graph=a_graph(),
        created_at=NOW,
        wish=Wish(workflow="txt2img", prompt="a cat"),
    )
    return replace(request, **changes)


def a_job(state: JobState = JobState.PENDING, *, request: Request | None = None, **so: Any) -> Job:
    return Job(request=request or a_request(), state=state, **so)


def write_workflow(folder: Path, name: str, graph: Graph, sidecar: str = "") -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(graph), "utf-8")
    if sidecar:
        (folder / f"{name}.yaml").write_text(sidecar, "utf-8")
