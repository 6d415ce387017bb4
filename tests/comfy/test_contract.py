"""The rules of ComfyUI's wire contract that a client must keep, one by one."""

import asyncio
import json
import struct
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from comfy.client import ComfyClient
from comfy.errors import (
    AccessDenied,
    NotComfyUI,
    PromptRefused,
    ServerError,
    ServerUnavailable,
    WorkflowFileError,
)
from comfy.events import Event, Executing, Finished, Progress, parse_text
from comfy.graph import check_graph
from comfy.models import Ending, HistoryEntry, OutputFile, Queue
from comfy.workflow_file import Format
from comfy.workflow_file import read as read_file
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.hearing import HearingComfyUI
from tests.fakes.recordings import CONTRACT, graph_of

VERSIONS = pytest.mark.parametrize("version", ["v0.27.0", "v0.3.64"])
GRAPH = graph_of("a8_modelfree")


def steps_of(version: str, name: str) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = json.loads((CONTRACT / version / f"{name}.json").read_text())[
        "steps"
    ]
    return steps


def answers(version: str, name: str, path: str) -> list[Any]:
    """The recorded answers to GET requests whose path begins so."""
    return [
        step["response"]["json"]
        for step in steps_of(version, name)
        if step["kind"] == "http"
        and step["request"]["method"] == "GET"
        and step["request"]["path"].startswith(path)
    ]


def histories(version: str, name: str) -> list[HistoryEntry]:
    return [
        HistoryEntry.from_json(prompt_id, entry)
        for answer in answers(version, name, "/history/")
        for prompt_id, entry in answer.items()
    ]


def frames(version: str, name: str, conn: str = "A") -> list[dict[str, Any]]:
    """The recorded text frames of one socket."""
    return [
        step["json"]
        for step in steps_of(version, name)
        if step["kind"] == "ws"
        and step["conn"] == conn
        and step["dir"] == "recv"
        and step["frame"] == "text"
    ]


def read(frame: dict[str, Any]) -> Event | None:
    return parse_text(json.dumps(frame))


def first(told: list[dict[str, Any]], kind: str) -> int:
    return next(at for at, frame in enumerate(told) if frame["type"] == kind)


@pytest.fixture
async def comfyui() -> AsyncIterator[HearingComfyUI]:
    async with HearingComfyUI() as server:
        yield server


@pytest.fixture
def client(comfyui: HearingComfyUI, session: aiohttp.ClientSession) -> ComfyClient:
    return ComfyClient(comfyui.url, session)


async def queued(client: ComfyClient, client_id: str = "me") -> str:
    prompt_id = str(uuid.uuid4())
    await client.queue_prompt(GRAPH, prompt_id, client_id)
    return prompt_id


async def ended(client: ComfyClient, prompt_id: str) -> HistoryEntry:
    async with asyncio.timeout(20):
        while True:
            if entry := await client.history(prompt_id):
                return entry


async def holding(comfyui: FakeComfyUI, client: ComfyClient) -> str:
    """A prompt that runs and waits."""
    comfyui.hold()
    prompt_id = await queued(client)
    await asyncio.wait_for(comfyui.held.wait(), 20)
    return prompt_id


# Rule 1: history decides


async def test_rule_1_a_prompt_is_complete_when_history_has_its_id(
    comfyui: HearingComfyUI, client: ComfyClient
) -> None:
    running = await holding(comfyui, client)
    waiting = await queued(client)

    before = [await client.history(each) for each in (running, waiting, str(uuid.uuid4()))]
    comfyui.finish()

    assert before == [None, None, None]
    assert (await ended(client, running)).ending is Ending.SUCCESS
    assert (await ended(client, waiting)).ending is Ending.SUCCESS


@VERSIONS
def test_rule_1_a_status_of_success_with_an_error_among_the_messages_is_an_error(
    version: str,
) -> None:
    statuses = [
        entry["status"]["status_str"]
        for answer in answers(version, "x3_dynamic_cycle", "/history/")
        for entry in answer.values()
    ]

    good, bad = histories(version, "x3_dynamic_cycle")[:2]

    assert statuses[:2] == ["success", "success"]
    assert (good.ending, bad.ending) == (Ending.SUCCESS, Ending.ERROR)
    assert bad.failure is not None
    assert bad.failure.class_type == "TestDynamicDependencyCycle"


@VERSIONS
def test_rule_1_an_interrupted_prompt_is_told_by_its_messages(version: str) -> None:
    (answer,) = answers(version, "e1_interrupt_global", "/history/")
    (raw,) = answer.values()

    (entry,) = histories(version, "e1_interrupt_global")

    assert raw["status"]["status_str"] == "error"
    assert entry.ending is Ending.INTERRUPTED


def test_rule_1_a_failed_prompt_may_leave_files() -> None:
    entry = histories("v0.27.0", "d3_partial_then_error")[0]

    assert entry.ending is Ending.ERROR
    assert [file.filename for file in entry.files] == ["partial_00001_.png"]


@pytest.mark.parametrize("name", ["a13_save_image_websocket", "x1_execution_blocked"])
def test_rule_1_a_successful_prompt_may_leave_no_files(name: str) -> None:
    entry = histories("v0.27.0", name)[-1]

    assert (entry.ending, entry.files) == (Ending.SUCCESS, ())


# Rule 2: what a prompt is sent with


async def test_rule_2_a_prompt_is_sent_with_its_id_and_a_client_id_and_never_a_number(
    comfyui: HearingComfyUI, client: ComfyClient
) -> None:
    async with client.connect() as connection:
        prompt_id = await queued(client, connection.client_id)

    posts = [body for method, path, body in comfyui.heard if (method, path) == ("POST", "/prompt")]
    assert posts == [{"prompt": GRAPH, "prompt_id": prompt_id, "client_id": connection.client_id}]
    assert isinstance(connection.client_id, str)
    assert connection.client_id


@pytest.mark.parametrize(
    "prompt_id",
    ["", "ABC", "B265C475-DDF1-4418-9A6D-E0625CC78416", "aa70b8104da84b0193360ff5f418f3b0"],
)
async def test_rule_2_an_id_that_is_no_canonical_uuid_is_refused_by_new_servers(
    client: ComfyClient, prompt_id: str
) -> None:
    with pytest.raises(PromptRefused) as caught:
        await client.queue_prompt(GRAPH, prompt_id, "me")

    assert caught.value.kind == "invalid_prompt_id"


@pytest.mark.parametrize("version", ["0.27.0", "0.3.64"])
async def test_rule_2_a_canonical_uuid_is_taken_and_given_back(
    session: aiohttp.ClientSession, version: str
) -> None:
    prompt_id = str(uuid.uuid4())
    async with HearingComfyUI(version=version) as comfyui:
        client = ComfyClient(comfyui.url, session)

        accepted = await client.queue_prompt(GRAPH, prompt_id, "me")

    assert (accepted.prompt_id, accepted.number) == (prompt_id, 0)


async def test_rule_2_a_server_too_old_to_take_our_id_is_found_out(
    comfyui: HearingComfyUI, client: ComfyClient
) -> None:
    answer = {"prompt_id": str(uuid.uuid4()), "number": 0, "node_errors": {}}
    comfyui.say("/prompt", text=json.dumps(answer), content_type="application/json")

    with pytest.raises(PromptRefused, match=r"needs ComfyUI 0\.3\.45 or later") as caught:
        await queued(client)

    assert caught.value.kind == "too_old"


async def test_rule_2_a_graph_is_sent_as_it_is(
    comfyui: HearingComfyUI, client: ComfyClient
) -> None:
    before = json.dumps(GRAPH)

    await queued(client)

    assert json.dumps(GRAPH) == before


# Rule 3: a POST of unknown outcome


async def test_rule_3_a_prompt_whose_answer_is_lost_is_found_in_the_queue_then_in_history(
    comfyui: HearingComfyUI, client: ComfyClient
) -> None:
    comfyui.hold()
    comfyui.lose_answer()
    prompt_id = str(uuid.uuid4())

    with pytest.raises(ServerUnavailable):
        await client.queue_prompt(GRAPH, prompt_id, "me")
    await asyncio.wait_for(comfyui.held.wait(), 20)
    in_queue = prompt_id in await client.queue()
    comfyui.finish()
    entry = await ended(client, prompt_id)

    assert in_queue
    assert entry.ending is Ending.SUCCESS
    assert comfyui.executed == [prompt_id]


@pytest.mark.parametrize(
    "response",
    [
        {"status": 500, "text": "500 Internal Server Error\n\nServer got itself in trouble"},
        {"status": 502, "text": "<html>Bad Gateway</html>", "content_type": "text/html"},
        {"status": 504},
    ],
    ids=["500", "502", "504"],
)
async def test_rule_3_an_error_of_a_server_or_proxy_leaves_the_outcome_open(
    comfyui: HearingComfyUI, client: ComfyClient, response: dict[str, Any]
) -> None:
    comfyui.say("/prompt", **response)

    with pytest.raises(ServerUnavailable):
        await queued(client)


async def test_rule_3_an_answer_that_is_cut_off_leaves_the_outcome_open(
    comfyui: HearingComfyUI, client: ComfyClient
) -> None:
    comfyui.cut("/prompt", text='{"prompt_id": "', content_type="application/json")

    with pytest.raises(ServerUnavailable):
        await queued(client)


async def test_rule_3_nothing_is_posted_twice_by_itself(
    comfyui: HearingComfyUI, client: ComfyClient
) -> None:
    comfyui.say("/prompt", status=503)

    with pytest.raises(ServerUnavailable):
        await queued(client)

    assert len(comfyui.heard) == 1


# Rule 4: queue first, history second


async def test_rule_4_a_prompt_that_left_the_queue_is_in_history(
    comfyui: HearingComfyUI, client: ComfyClient
) -> None:
    prompt_id = await holding(comfyui, client)
    comfyui.finish()

    async with asyncio.timeout(20):
        while True:
            if prompt_id not in await client.queue():
                break

    assert await client.history(prompt_id) is not None


@VERSIONS
def test_rule_4_queue_items_are_lists_with_the_id_second(version: str) -> None:
    (answer,) = answers(version, "f1_queue_layout", "/queue")[:1]

    queue = Queue.from_json(answer)

    assert [uuid.UUID(each) for each in (*queue.running, *queue.pending)]
    assert (len(queue.running), len(queue.pending)) == (1, 2)


async def test_rule_4_the_queue_is_a_heap_and_is_sorted_as_it_runs(
    comfyui: HearingComfyUI, client: ComfyClient, session: aiohttp.ClientSession
) -> None:
    await holding(comfyui, client)
    ids = {}
    for number in (5, 3, 4, -1, 2.5, 1):
        ids[number] = str(uuid.uuid4())
        body = {"prompt": GRAPH, "prompt_id": ids[number], "client_id": "x", "number": number}
        async with session.post(f"{comfyui.url}/prompt", json=body) as response:
            assert response.status == 200

    as_told = [item.prompt_id for item in comfyui.queue.pending()]
    queue = await client.queue()
    comfyui.finish()
    for prompt_id in queue.pending:
        await ended(client, prompt_id)

    assert queue.pending == tuple(ids[number] for number in sorted(ids))
    assert tuple(comfyui.executed[1:]) == queue.pending
    assert tuple(as_told) != queue.pending


def test_rule_4_equal_numbers_run_in_the_order_of_their_ids() -> None:
    queue = Queue.from_json({"queue_running": [], "queue_pending": [[1, "b"], [1, "a"], [0, "c"]]})

    assert queue.pending == ("c", "a", "b")


# Rule 5: one client id for one socket


async def test_rule_5_every_socket_has_a_client_id_of_its_own(
    comfyui: HearingComfyUI, client: ComfyClient
) -> None:
    async with client.connect() as one:
        pass
    async with client.connect() as two, client.connect() as three:
        pass

    assert len({one.client_id, two.client_id, three.client_id}) == 3
    assert comfyui.client_ids == [one.client_id, two.client_id, three.client_id]


async def test_rule_5_a_socket_opened_after_a_broken_one_hears_its_prompts(
    comfyui: HearingComfyUI, client: ComfyClient
) -> None:
    async with client.connect() as old:
        comfyui.drop()
        assert [frame async for frame in old.frames()][1:] == []
    async with client.connect() as new:
        prompt_id = await queued(client, new.client_id)
        async with asyncio.timeout(20):
            async for event in new.frames():
                if event == Finished(prompt_id):
                    break

    assert old.client_id != new.client_id


def test_rule_5_the_node_that_a_reconnected_socket_is_told_names_no_prompt_and_is_dropped() -> None:
    told = frames("v0.27.0", "h1_reconnect_same_id", "A2")
    at = first(told, "executing")

    assert told[at]["data"].keys() == {"node"}
    assert read(told[at]) is None


# Rule 6: a socket can go silent


async def test_rule_6_a_prompt_is_found_by_asking_while_its_socket_is_deaf(
    comfyui: HearingComfyUI, client: ComfyClient
) -> None:
    async with client.connect() as connection:
        await anext(connection.frames())
        comfyui.deafen()

        entry = await ended(client, await queued(client, connection.client_id))

    assert entry.ending is Ending.SUCCESS


async def test_rule_6_a_socket_has_a_heartbeat_as_the_server_never_pings(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other end answers no ping, so the socket has to end by itself."""
    monkeypatch.setattr("comfy.client._HEARTBEAT", 0.05)
    gone = asyncio.Event()

    async def mute(request: web.Request) -> web.WebSocketResponse:
        stream = web.WebSocketResponse(autoping=False)
        await stream.prepare(request)
        await gone.wait()
        return stream

    app = web.Application()
    app.router.add_get("/ws", mute)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    client = ComfyClient(f"http://127.0.0.1:{runner.addresses[0][1]}", session)

    async with client.connect() as connection, asyncio.timeout(20):
        seen = [frame async for frame in connection.frames()]

    gone.set()
    await runner.cleanup()
    assert not any(seen)


# Rule 7: a restart loses everything


async def test_rule_7_after_a_restart_a_prompt_is_in_neither_queue_nor_history(
    comfyui: HearingComfyUI, client: ComfyClient
) -> None:
    done = await queued(client)
    await ended(client, done)
    comfyui.cache.clear()
    running = await holding(comfyui, client)
    waiting = await queued(client)

    comfyui.forget()

    queue = await client.queue()
    for prompt_id in (done, running, waiting):
        assert prompt_id not in queue
        assert await client.history(prompt_id) is None


async def test_rule_7_after_a_restart_the_same_prompt_can_be_sent_again(
    comfyui: HearingComfyUI, client: ComfyClient
) -> None:
    lost = await holding(comfyui, client)
    comfyui.forget()
    comfyui.finish()

    await client.queue_prompt(GRAPH, lost, "me")

    assert (await ended(client, lost)).ending is Ending.SUCCESS


# Rule 8: texts of the server are kept apart from ours


async def test_rule_8_a_failures_text_is_kept_for_the_log(
    comfyui: HearingComfyUI, client: ComfyClient
) -> None:
    comfyui.fail("/comfyui/models/x.safetensors is broken", "OSError")

    entry = await ended(client, await queued(client))

    assert entry.failure is not None
    assert entry.failure.message == "/comfyui/models/x.safetensors is broken"
    assert entry.failure.exception_type == "OSError"


# Answers to a prompt


async def test_a_prompt_that_is_accepted_without_some_outputs_names_their_errors(
    client: ComfyClient,
) -> None:
    bad = {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}
    graph = {**GRAPH, "99": bad}

    accepted = await client.queue_prompt(graph, str(uuid.uuid4()), "me")

    (error,) = accepted.node_errors
    assert (error.node_id, error.class_type) == ("99", "SaveImage")
    assert (error.kind, error.input) == ("required_input_missing", "filename_prefix")


def recorded_refusals() -> list[Any]:
    return [
        pytest.param(step["response"], id=step.get("note", step["request"]["path"]))
        for name in ("c1_validation_errors", "c2_malformed_bodies", "m1_ui_format")
        for step in steps_of("v0.27.0", name)
        if step["kind"] == "http"
        and (step["request"]["method"], step["request"]["path"]) == ("POST", "/prompt")
        and step["response"]["status"] != 200
    ]


@pytest.mark.parametrize("recorded", recorded_refusals())
async def test_every_recorded_refusal_of_a_prompt_becomes_one_of_our_errors(
    comfyui: HearingComfyUI, client: ComfyClient, recorded: dict[str, Any]
) -> None:
    status = recorded["status"]
    if "json" in recorded:
        body = {"text": json.dumps(recorded["json"]), "content_type": "application/json"}
    else:
        body = {"text": recorded.get("text", "")}
    comfyui.say("/prompt", status=status, **body)

    with pytest.raises(ServerError) as caught:
        await queued(client)

    if status == 400:
        assert isinstance(caught.value, PromptRefused)
        assert caught.value.kind == recorded["json"]["error"]["type"]
        assert {error.node_id for error in caught.value.node_errors} == {
            node_id for node_id, each in recorded["json"]["node_errors"].items() if each["errors"]
        }
    else:
        assert type(caught.value) is ServerUnavailable


def test_the_editors_document_is_found_out_before_it_is_sent() -> None:
    bodies = [step["request"]["json"] for step in steps_of("v0.27.0", "m1_ui_format")[:3]]

    for document in (bodies[0]["prompt"], bodies[1], bodies[2]["prompt"]):
        file = read_file(json.dumps(document).encode())
        assert (file.format, file.graph) == (Format.EDITOR, None)
        with pytest.raises(WorkflowFileError, match=r"^is in the editor's format, where"):
            check_graph(document)


# Frames


@VERSIONS
def test_the_end_of_a_prompt_is_executing_nothing_and_not_execution_success(version: str) -> None:
    told = frames(version, "a1_txt2img_success")
    success = first(told, "execution_success")

    finished = [at for at, frame in enumerate(told) if isinstance(read(frame), Finished)]

    assert read(told[success]) is None
    assert len(finished) == 1
    assert finished[0] > success
    assert told[finished[0]] == {
        "type": "executing",
        "data": {"node": None, "prompt_id": told[success]["data"]["prompt_id"]},
    }


async def test_history_is_there_at_the_end_that_the_socket_tells(client: ComfyClient) -> None:
    async with client.connect() as connection:
        prompt_id = await queued(client, connection.client_id)
        async with asyncio.timeout(20):
            async for event in connection.frames():
                if event == Finished(prompt_id):
                    break

    assert await client.history(prompt_id) is not None


def test_an_execution_error_is_not_the_end_of_a_prompt() -> None:
    told = frames("v0.27.0", "x1_execution_blocked")
    error = first(told, "execution_error")

    assert told[error]["data"]["exception_type"] == "ExecutionBlocked"
    assert read(told[error]) is None
    assert any(isinstance(read(frame), Finished) for frame in told[error:])
    assert histories("v0.27.0", "x1_execution_blocked")[0].ending is Ending.SUCCESS


def test_nodes_of_an_expanded_subgraph_are_told_as_the_node_we_sent() -> None:
    told = frames("v0.27.0", "x2_subgraph_expansion")
    expanded = [
        frame
        for frame in told
        if frame["type"] == "executing" and "." in str(frame["data"]["node"])
    ]

    events = [read(frame) for frame in expanded]

    assert expanded
    for frame, event in zip(expanded, events, strict=True):
        assert isinstance(event, Executing)
        assert event.node_id == frame["data"]["display_node"]
        assert "." not in event.node_id


@VERSIONS
def test_only_progress_with_a_prompt_id_is_read(version: str) -> None:
    told = [frame for frame in frames(version, "a1_txt2img_success") if "data" in frame]

    events = [read(frame) for frame in told]

    assert any(isinstance(event, Progress) for event in events)
    for frame, event in zip(told, events, strict=True):
        assert event is None or event.prompt_id == frame["data"]["prompt_id"]


async def test_frames_nobody_knows_are_no_events_and_do_not_end_the_socket(
    session: aiohttp.ClientSession,
) -> None:
    async def talk(request: web.Request) -> web.WebSocketResponse:
        stream = web.WebSocketResponse()
        await stream.prepare(request)
        await stream.send_str("{not JSON")
        await stream.send_json({"type": "crystools.monitor", "data": {"cpu": 1}})
        await stream.send_bytes(struct.pack(">II", 1, 1) + b"jpeg")
        await stream.send_bytes(struct.pack(">I", 99))
        await stream.send_bytes(b"")
        await stream.send_bytes(b"\x00" * (5 * 2**20))
        await stream.send_json({"type": "executing", "data": {"node": None, "prompt_id": "x"}})
        await stream.close()
        return stream

    app = web.Application()
    app.router.add_get("/ws", talk)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    client = ComfyClient(f"http://127.0.0.1:{runner.addresses[0][1]}", session)

    async with client.connect() as connection, asyncio.timeout(20):
        seen = [frame async for frame in connection.frames()]

    await runner.cleanup()
    assert seen == [*[None] * 6, Finished("x")]


# Error bodies


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (
            {"status": 500, "text": "500 Internal Server Error\n\nServer got itself in trouble"},
            ServerUnavailable,
        ),
        ({"status": 401}, AccessDenied),
        ({"status": 403, "text": ""}, AccessDenied),
        ({"status": 404, "body": b""}, NotComfyUI),
        ({"text": "<html>Welcome</html>", "content_type": "text/html"}, NotComfyUI),
        ({"status": 302, "headers": {"Location": "/login"}}, NotComfyUI),
        ({"text": '{"queue_run', "content_type": "application/json"}, NotComfyUI),
    ],
    ids=["500 as text", "401", "403", "404", "a page", "a redirect", "truncated JSON"],
)
async def test_error_bodies_are_told_apart_by_status_and_type(
    comfyui: HearingComfyUI,
    client: ComfyClient,
    response: dict[str, Any],
    error: type[ServerError],
) -> None:
    comfyui.say("/queue", **response)

    with pytest.raises(error) as caught:
        await client.queue()

    assert type(caught.value) is error
    assert "trouble" not in str(caught.value)


# Cancelling


async def test_an_interrupt_always_names_its_prompt(
    comfyui: HearingComfyUI, client: ComfyClient
) -> None:
    neighbour = await holding(comfyui, client)
    mine = await queued(client)

    await client.interrupt(mine)
    comfyui.finish()

    assert ("POST", "/interrupt", {"prompt_id": mine}) in comfyui.heard
    assert (await ended(client, neighbour)).ending is Ending.SUCCESS


async def test_deleting_a_running_or_unknown_prompt_has_no_effect(
    comfyui: HearingComfyUI, client: ComfyClient
) -> None:
    running = await holding(comfyui, client)

    await client.delete_queued(running)
    await client.delete_queued(str(uuid.uuid4()))
    comfyui.finish()

    assert (await ended(client, running)).ending is Ending.SUCCESS


# Files


async def test_a_temp_file_is_found_as_its_type_is_sent(
    comfyui: HearingComfyUI, client: ComfyClient
) -> None:
    preview = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    empty = {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1}}
    empty["inputs"]["color"] = 0  # type: ignore[index]
    prompt_id = str(uuid.uuid4())
    await client.queue_prompt({"1": empty, "2": preview}, prompt_id, "me")

    (file,) = (await ended(client, prompt_id)).files
    async with client.view(file) as stream:
        data = await stream.read()

    assert file.type == "temp"
    assert data.startswith(b"\x89PNG")


def test_unknown_keys_of_a_file_are_ignored() -> None:
    data = {"filename": "a.png", "subfolder": "", "type": "output", "new": {"in": 0.38}}

    assert OutputFile.from_json("9", data) == OutputFile("9", "a.png")
