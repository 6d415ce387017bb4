"""What the checks say of a server and of the workflows on it."""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import yarl
from aiohttp import web
from aiohttp.test_utils import TestServer

from bot.health import (
    Finding,
    Level,
    examine_server,
    examine_workflow,
    library_findings,
)
from bot.servers import Server
from comfy.client import Access, ComfyClient
from comfy.graph import Graph
from comfy.library import Library
from comfy.models import SystemStats
from comfy.nodes import NodeTypes
from comfy.workflow import Workflow
from tests.bot.builders import NODES, a_workflow, write_workflow
from tests.fakes.comfyui import FakeComfyUI
from tests.graphs import CHECKPOINT, PLAIN, a_graph

UNKNOWN_NODE = {"1": {"class_type": "MagicNode", "inputs": {}}}


@pytest.fixture(autouse=True)
def no_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the tests run in one."""
    monkeypatch.setattr("bot.health._CONTAINER", ())
    monkeypatch.delenv("container", raising=False)


def texts(findings: list[Finding], level: Level) -> list[str]:
    return [each.text for each in findings if each.level is level]


class Versioned(ComfyClient):
    """Its server tells this version, whatever that is."""

    def __init__(self, url: str, session: aiohttp.ClientSession, version: str) -> None:
        super().__init__(url, session)
        self.version = version

    async def system_stats(self) -> SystemStats:
        return replace(await super().system_stats(), version=self.version)


async def test_a_healthy_server_has_nothing_to_complain_about(
    comfyui: FakeComfyUI, session: aiohttp.ClientSession
) -> None:
    workflows = {each.name: each for each in (a_workflow(), a_workflow(PLAIN, "plain"))}

    findings = await examine_server(ComfyClient(comfyui.url, session), workflows)

    first, *others = texts(findings, Level.OK)
    assert first.startswith(f"{comfyui.url} answers in ")
    assert " ms, its socket in " in first
    assert others[0] == "ComfyUI 0.28.0"
    assert others[1].endswith(" GiB free")
    assert others[2:] == ["queue: 0 running, 0 waiting", "plain can run", "txt2img can run"]
    assert len(findings) == 6


@pytest.mark.parametrize("version", ["0.3.64", "0.27.9", "v0.27.9", "0.27", "0.27.9-dev.3"])
async def test_an_old_server_is_told_to_be_updated(
    comfyui: FakeComfyUI, session: aiohttp.ClientSession, version: str
) -> None:
    findings = await examine_server(Versioned(comfyui.url, session, version), {})

    assert texts(findings, Level.WARNING) == [
        f"ComfyUI {version} has known security holes. Update it to 0.28.0 or later."
    ]
    assert texts(findings, Level.FAILURE) == []


async def test_a_server_that_is_too_old_fails(
    comfyui: FakeComfyUI, session: aiohttp.ClientSession
) -> None:
    findings = await examine_server(Versioned(comfyui.url, session, "0.3.44"), {})

    assert texts(findings, Level.FAILURE) == [
        "ComfyUI 0.3.44 is too old for me. Update it to 0.28.0 or later."
    ]


@pytest.mark.parametrize(
    "version", ["0.28.0", "0.28.1", "0.100.0", "1.0.0", "v0.28.0", "0.28", "0.28.0+local.7"]
)
async def test_a_new_server_is_fine(
    comfyui: FakeComfyUI, session: aiohttp.ClientSession, version: str
) -> None:
    findings = await examine_server(Versioned(comfyui.url, session, version), {})

    assert {each.level for each in findings} == {Level.OK}


@pytest.mark.parametrize("version", ["unknown", "", "nightly", "28"])
async def test_a_server_that_does_not_tell_its_version_is_not_accused(
    comfyui: FakeComfyUI, session: aiohttp.ClientSession, version: str
) -> None:
    findings = await examine_server(Versioned(comfyui.url, session, version), {})

    assert texts(findings, Level.WARNING) == [
        "ComfyUI does not tell its version. Make sure that it is 0.28.0 or later."
    ]


async def test_waiting_prompts_are_counted(
    comfyui: FakeComfyUI, session: aiohttp.ClientSession
) -> None:
    client = ComfyClient(comfyui.url, session)
    comfyui.hold()
    for _ in range(3):
        await client.queue_prompt(PLAIN, str(uuid.uuid4()), "me")
    await asyncio.wait_for(comfyui.held.wait(), 20)

    findings = await examine_server(client, {})

    assert "queue: 1 running, 2 waiting" in texts(findings, Level.OK)


async def test_what_a_workflow_misses_is_named(session: aiohttp.ClientSession) -> None:
    workflows = {
        "magic": Workflow.of("magic", UNKNOWN_NODE),
        "txt2img": a_workflow(a_graph(n4={"ckpt_name": "gone.safetensors"})),
    }

    async with FakeComfyUI(version="0.28.0") as comfyui:
        findings = await examine_server(ComfyClient(comfyui.url, session), workflows)

    assert texts(findings, Level.WARNING) == [
        "magic: lacks the nodes MagicNode. Install them with ComfyUI-Manager.",
        "txt2img: lacks the file gone.safetensors. Download it into ComfyUI's models folder.",
    ]


async def test_a_closed_port_asks_whether_comfyui_runs(session: aiohttp.ClientSession) -> None:
    async with FakeComfyUI() as comfyui:
        url = comfyui.url

    findings = await examine_server(ComfyClient(url, session), {})

    assert findings == [
        Finding(
            Level.FAILURE,
            f"{url} does not answer: nothing listens there. "
            f"Is ComfyUI running, and does {url} open in a browser on this machine?",
        )
    ]


@pytest.mark.parametrize("marked_by", ["a file", "a variable"])
async def test_in_a_container_a_closed_port_on_loopback_is_the_containers_own(
    session: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    marked_by: str,
) -> None:
    if marked_by == "a file":
        monkeypatch.setattr("bot.health._CONTAINER", (tmp_path,))
    else:
        monkeypatch.setenv("container", "podman")
    async with FakeComfyUI() as comfyui:
        port = yarl.URL(comfyui.url).port

    (of_name,) = await examine_server(ComfyClient(f"http://localhost:{port}/a", session), {})
    (of_number,) = await examine_server(ComfyClient(f"http://127.0.0.1:{port}", session), {})

    assert (
        f"write http://host.docker.internal:{port}/a, give the container `extra_hosts: "
        '["host.docker.internal:host-gateway"]`, and start ComfyUI with `--listen`.'
    ) in of_name.text
    assert "In a container localhost is the container itself" in of_name.text
    assert f"write http://host.docker.internal:{port}, give" in of_number.text


async def test_a_server_behind_a_login_names_the_variables(
    session: aiohttp.ClientSession,
) -> None:
    async with FakeComfyUI(token="the-bearer", version="0.28.0") as comfyui:
        url = comfyui.url
        denied = await examine_server(ComfyClient(url, session), {})
        allowed = await examine_server(ComfyClient(url, session, Access(token="the-bearer")), {})

    assert denied == [
        Finding(
            Level.FAILURE,
            f"{url} wants other credentials (HTTP 401). "
            "Set COMFYUI_TOKEN_<NAME> or COMFYUI_LOGIN_<NAME> in the environment.",
        )
    ]
    assert {each.level for each in allowed} == {Level.OK}


async def html(_: web.Request) -> web.Response:
    return web.Response(text="<html><form>Log in</form></html>", content_type="text/html")


async def other_json(_: web.Request) -> web.Response:
    return web.json_response({"hello": "world"})


async def a_list(_: web.Request) -> web.Response:
    return web.json_response([1, 2])


@pytest.mark.parametrize("page", [html, other_json, a_list], ids=["HTML", "other JSON", "a list"])
async def test_something_else_on_the_port_is_recognised(
    session: aiohttp.ClientSession, page: Callable[[web.Request], web.Response]
) -> None:
    app = web.Application()
    app.router.add_get("/{path:.*}", page)
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")

        findings = await examine_server(ComfyClient(url, session), {})

    assert findings == [
        Finding(
            Level.FAILURE,
            f"{url} does not answer as a ComfyUI server does. "
            "Is the port right? Is there a path prefix, or a login page in front?",
        )
    ]


async def test_a_wrong_path_is_recognised(
    comfyui: FakeComfyUI, session: aiohttp.ClientSession
) -> None:
    findings = await examine_server(ComfyClient(f"{comfyui.url}/wrong/", session), {})

    (only,) = texts(findings, Level.FAILURE)
    assert only.startswith(f"{comfyui.url}/wrong is not a ComfyUI server (HTTP 404). Is the port")


async def test_a_server_that_hangs_is_given_up(
    comfyui: FakeComfyUI, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comfy.client._ANSWER", 0.05)
    comfyui.stop_answering()

    findings = await examine_server(ComfyClient(comfyui.url, session), {})

    (only,) = texts(findings, Level.FAILURE)
    assert only.startswith(f"{comfyui.url} does not answer: it takes too long. Is ComfyUI running")


@pytest.mark.parametrize(
    ("graph", "nodes", "expected"),
    [
        (PLAIN, NODES, True),
        (PLAIN, {}, False),
        (UNKNOWN_NODE, NODES, False),
        (a_graph(n4={"ckpt_name": "gone.safetensors"}), NODES, False),
    ],
    ids=["everything is there", "nothing is known", "no node", "no model"],
)
async def test_a_graph_runs_where_everything_is(
    session: aiohttp.ClientSession, graph: Graph, nodes: NodeTypes, expected: bool
) -> None:
    server = Server("one", ComfyClient("http://127.0.0.1:1", session))
    server.nodes = nodes

    assert server.can_run(Workflow.of("cat", graph)) is expected


async def test_a_graph_runs_as_soon_as_its_nodes_are_there_and_no_longer(
    session: aiohttp.ClientSession,
) -> None:
    server, workflow = Server("one", ComfyClient("http://127.0.0.1:1", session)), a_workflow()
    told = []

    for nodes in ({}, NODES, {}):
        server.nodes = nodes
        told.append(server.can_run(workflow))

    assert told == [False, True, False]


NEEDS: list[tuple[str, Graph, list[str]]] = [
    ("nothing", PLAIN, []),
    (
        "two nodes",
        {
            **PLAIN,
            "3": {"class_type": "Zoo", "inputs": {}},
            "4": {"class_type": "Ant", "inputs": {}},
        },
        ["lacks the nodes Ant, Zoo. Install them with ComfyUI-Manager."],
    ),
    (
        "a file with a name much like another's",
        a_graph(n4={"ckpt_name": "SDXL/sd_xl_base_1.0_fp16.safetensors"}),
        [f"lacks the file SDXL/sd_xl_base_1.0_fp16.safetensors. The closest is {CHECKPOINT}."],
    ),
    (
        "one file in two nodes",
        {
            **a_graph(n4={"ckpt_name": "gone.safetensors"}),
            "10": {
                "class_type": "CheckpointLoaderSimple",
                "inputs": {"ckpt_name": "gone.safetensors"},
            },
        },
        ["lacks the file gone.safetensors. Download it into ComfyUI's models folder."],
    ),
    (
        "a number beyond its range",
        a_graph(n3={"steps": 0}),
        ["`steps` of *Sampling* (`0`) is too small: 1 to 10000."],
    ),
    (
        "an output",
        {"1": PLAIN["1"]},
        ["no node saves or shows anything, so nothing would come out."],
    ),
]


@pytest.mark.parametrize(
    ("graph", "told"), [case[1:] for case in NEEDS], ids=[case[0] for case in NEEDS]
)
def test_what_keeps_a_workflow_from_running_is_told_in_sentences(
    graph: Graph, told: list[str]
) -> None:
    assert examine_workflow(graph, NODES) == told


async def test_of_many_reasons_the_first_three_are_told(session: aiohttp.ClientSession) -> None:
    graph = a_graph(n3={"steps": 0, "cfg": -1, "denoise": 2}, n5={"width": 1, "height": 1})

    async with FakeComfyUI(version="0.28.0") as comfyui:
        findings = await examine_server(
            ComfyClient(comfyui.url, session), {"cat": Workflow.of("cat", graph)}
        )

    correct = "Correct it in ComfyUI and save the workflow again."
    assert texts(findings, Level.WARNING) == [
        f"cat: `width` of *EmptyLatentImage* (`1`) is too small: 16 to 16384. {correct}",
        f"cat: `height` of *EmptyLatentImage* (`1`) is too small: 16 to 16384. {correct}",
        f"cat: `steps` of *Sampling* (`0`) is too small: 1 to 10000. {correct}",
        "cat: and 2 more. `comfycord workflows` shows all.",
    ]


# The folder


async def looked_at(folder: Path) -> list[Finding]:
    library = Library(folder)
    await library.refresh()
    return library_findings(library)


async def test_a_good_folder_is_not_mentioned(tmp_path: Path) -> None:
    write_workflow(tmp_path, "txt2img", PLAIN)

    assert await looked_at(tmp_path) == []


async def test_problems_of_the_folder_are_warnings(tmp_path: Path) -> None:
    write_workflow(tmp_path, "txt2img", PLAIN)
    write_workflow(tmp_path, "a", PLAIN, "titel: Oops")

    assert await looked_at(tmp_path) == [
        Finding(
            Level.WARNING,
            "a.json has a sidecar with an unknown key `titel`. "
            "Mend the file, or upload the workflow with `/workflow add`, which takes every format.",
        )
    ]


async def test_a_problem_that_has_its_own_remedy_gets_no_other(tmp_path: Path) -> None:
    write_workflow(tmp_path, "txt2img", PLAIN)
    (tmp_path / "a.json").write_text("{")

    assert await looked_at(tmp_path) == [
        Finding(
            Level.WARNING,
            "a.json ends too early: a part of it is missing. Download or save it again.",
        )
    ]


async def test_a_folder_without_any_workflow_is_a_failure(tmp_path: Path) -> None:
    write_workflow(tmp_path, "a", PLAIN, "titel: Oops")

    warning, failure = await looked_at(tmp_path)

    assert warning.level is Level.WARNING
    assert failure == Finding(
        Level.FAILURE,
        f"The workflows folder {tmp_path} holds no workflow. "
        "Put an API-format export (*.json) into it.",
    )


async def test_a_folder_that_does_not_exist_is_a_failure(tmp_path: Path) -> None:
    assert await looked_at(tmp_path / "flows") == [
        Finding(
            Level.FAILURE,
            f"The workflows folder {tmp_path / 'flows'} does not exist. "
            "Make it, or change the key.",
        )
    ]


async def test_workflows_outlast_their_folder_but_not_unnoticed(tmp_path: Path) -> None:
    folder = tmp_path / "flows"
    write_workflow(folder, "txt2img", PLAIN)
    library = Library(folder)
    await library.refresh()

    folder.rename(tmp_path / "elsewhere")

    assert [each.level for each in library_findings(library)] == [Level.FAILURE]


# For scripts


def test_a_finding_is_cut_into_what_is_so_and_what_to_do() -> None:
    assert [
        Finding(Level.OK, "St. Mary's answers").to_json(),
        Finding(Level.WARNING, "It is old. Update it.").to_json(),
        Finding(Level.FAILURE, "St. Mary's is shut", "Open it.").to_json(),
    ] == [
        {"level": "ok", "text": "St. Mary's answers", "remedy": ""},
        {"level": "warning", "text": "It is old", "remedy": "Update it."},
        {"level": "failure", "text": "St. Mary's is shut", "remedy": "Open it."},
    ]
