"""Servers that come and go, and which of them a job goes to."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from bot.servers import SLOTS, Server, Servers
from comfy.client import ComfyClient
from comfy.errors import ServerUnavailable
from comfy.events import Cached, Finished, Progress, Started
from comfy.graph import Graph
from comfy.nodes import missing_nodes, parse_object_info
from tests.fakes.comfyui import FakeComfyUI
from tests.graphs import PLAIN


class Bell:
    """Rings with every change of a server; tests wait for what they want to see."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self._rung.clear()
                await self._rung.wait()


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.servers._RETRY", (0.01, 0.02))


@asynccontextmanager
async def running(server: Server, bell: Bell) -> AsyncIterator[Server]:
    task = asyncio.create_task(server.run(bell.ring))
    try:
        yield server
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def connected(
    comfyui: FakeComfyUI, session: aiohttp.ClientSession, bell: Bell
) -> AsyncIterator[Server]:
    server = Server("local", ComfyClient(comfyui.url, session))
    async with running(server, bell):
        await asyncio.wait_for(server.wait_up(), 20)
        yield server


def knowing(
    name: str,
    *class_types: str,
    holding: int = 0,
    up: bool = True,
    models: tuple[str, ...] = (),
) -> Server:
    """A server as it is after it was asked, without any connection.

    Every node of it offers *models* as its `model_name`.
    """
    server = Server(name, None)  # type: ignore[arg-type]
    node = {"display_name": name, "input": {"required": {"model_name": [list(models)]}}}
    server.nodes = parse_object_info(dict.fromkeys(class_types, node))
    server.problem = None if up else "away"
    for number in range(holding):
        server.hold(f"job-{number}", 10.0)
    return server


def of(*class_types: str, model: str = "") -> Graph:
    """A graph of these nodes; each wants *model*."""
    values = {"model_name": model} if model else {}
    return {
        str(number): {"class_type": each, "inputs": dict(values)}
        for number, each in enumerate(class_types, 1)
    }


# A connection


async def test_a_server_goes_up_and_tells_what_it_can_do(
    comfyui: FakeComfyUI, session: aiohttp.ClientSession, bell: Bell
) -> None:
    server = Server("local", ComfyClient(comfyui.url, session))
    before = (server.up, server.problem, server.version, server.nodes)

    async with running(server, bell):
        await bell.until(lambda: server.up)

        assert before == (False, "not connected yet", "unknown", {})
        assert server.problem is None
        assert server.version == "0.28.0"
        assert missing_nodes(of("KSampler", "MagicNode"), server.nodes) == ["MagicNode"]
        assert server.client_id in comfyui.sockets
        await asyncio.wait_for(server.wait_up(), 1)


async def test_a_server_goes_down_and_comes_back(
    comfyui: FakeComfyUI, session: aiohttp.ClientSession, bell: Bell
) -> None:
    port = int(comfyui.url.rpartition(":")[2])
    again = FakeComfyUI(version="0.29.0")

    async with connected(comfyui, session, bell) as server:
        first_id = server.client_id
        await comfyui.close()
        await bell.until(lambda: not server.up)
        down = (server.problem, server.has_room, missing_nodes(of("KSampler"), server.nodes))
        await again.start(port=port)
        try:
            await asyncio.wait_for(server.wait_up(), 20)
            back = (server.version, server.has_room)
        finally:
            await again.close()

    assert server.client_id != first_id
    assert down[0] is not None
    assert down[0].startswith(comfyui.url)
    assert down[1:] == (False, [])
    assert back == ("0.29.0", True)


async def test_a_dropped_socket_is_opened_again(
    comfyui: FakeComfyUI, session: aiohttp.ClientSession, bell: Bell
) -> None:
    async with connected(comfyui, session, bell) as server:
        first_id = server.client_id

        comfyui.drop()
        await bell.until(lambda: not server.up)
        await bell.until(lambda: server.up)

        assert server.client_id not in (None, first_id)


async def test_a_server_that_is_not_there_is_tried_again_and_logged_once(
    session: aiohttp.ClientSession, bell: Bell, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakeComfyUI() as gone:
        url = gone.url
    tries = 0

    def count() -> None:
        nonlocal tries
        tries += 1
        bell.ring()

    server = Server("local", ComfyClient(url, session))
    task = asyncio.create_task(server.run(count))
    await bell.until(lambda: tries >= 3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert server.problem == f"{url} does not answer: nothing listens there"
    assert [each.getMessage() for each in caplog.records if each.name == "bot.servers"] == [
        f"server local is not available: {server.problem}"
    ]


class Odd(ComfyClient):
    """A client with a bug."""

    failing = True

    async def object_info(self) -> Any:
        if self.failing:
            raise ZeroDivisionError
        return await super().object_info()


async def test_even_a_bug_does_not_end_the_attempts(
    comfyui: FakeComfyUI,
    session: aiohttp.ClientSession,
    bell: Bell,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = Odd(comfyui.url, session)
    server = Server("local", client)

    async with running(server, bell):
        await bell.until(lambda: server.problem != "not connected yet")
        problem = server.problem
        client.failing = False
        await bell.until(lambda: server.up)

    assert problem == f"{comfyui.url} failed in an unknown way"
    assert "ZeroDivisionError" in caplog.text


async def test_new_models_are_learned_while_the_server_runs(
    comfyui: FakeComfyUI,
    session: aiohttp.ClientSession,
    bell: Bell,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bot.servers._LEARN_EVERY", 0.01)

    def checkpoints(server: Server) -> tuple[Any, ...]:
        return server.nodes["CheckpointLoaderSimple"].inputs["ckpt_name"].choices

    async with connected(comfyui, session, bell) as server:
        before = checkpoints(server)
        comfyui.models = {**comfyui.models, "checkpoints": ["new.safetensors"]}
        await bell.until(lambda: checkpoints(server) == ("new.safetensors",))

    assert "new.safetensors" not in before


async def test_a_server_that_took_no_prompt_is_connected_to_again(
    comfyui: FakeComfyUI, session: aiohttp.ClientSession, bell: Bell
) -> None:
    async with connected(comfyui, session, bell) as server:
        first_id = server.client_id

        server.doubt(ServerUnavailable("it does not answer"))
        doubted = (server.has_room, server.problem)
        await bell.until(lambda: server.up)

        assert doubted == (False, "it does not answer")
        assert server.client_id != first_id


# Watches


async def test_a_watch_hears_the_events_of_its_prompt(
    comfyui: FakeComfyUI, session: aiohttp.ClientSession, bell: Bell
) -> None:
    prompt_id = str(uuid.uuid4())

    async with connected(comfyui, session, bell) as server:
        with (
            server.watching(prompt_id, PLAIN) as watch,
            server.watching("another", PLAIN) as other,
        ):
            await server.client.queue_prompt(PLAIN, prompt_id, server.client_id or "")
            async with asyncio.timeout(20):
                while not watch.finished:
                    watch.changed.clear()
                    await watch.changed.wait()

    assert watch.started
    assert watch.progress.fraction > 0
    assert (other.started, other.finished, other.progress.fraction) == (False, False, 0)
    assert server.heard_at >= watch.heard_at > 0
    assert other.heard_at == 0


async def test_frames_of_others_are_nothing_heard_of_ours(
    comfyui: FakeComfyUI, session: aiohttp.ClientSession, bell: Bell
) -> None:
    async with connected(comfyui, session, bell) as server:
        await server.client.queue_prompt(PLAIN, str(uuid.uuid4()), server.client_id or "")
        with server.watching(prompt_id := str(uuid.uuid4()), PLAIN) as watch:
            before = server.heard_at
            await server.client.queue_prompt(PLAIN, prompt_id, server.client_id or "")
            async with asyncio.timeout(20):
                await watch.changed.wait()

    assert before == 0
    assert server.heard_at == watch.heard_at > 0


def test_a_watch_on_a_server_that_is_down_has_no_socket() -> None:
    server = knowing("a", up=False)
    server.client_id = "of a socket that closed"

    with server.watching("prompt", PLAIN) as watch:
        assert watch.client_id is None


def test_a_watch_that_ended_hears_nothing_more() -> None:
    server = knowing("a")
    with server.watching("prompt", PLAIN) as watch:
        pass

    server.hurry("prompt")

    assert not watch.changed.is_set()


def test_whoever_watches_can_be_woken() -> None:
    server = knowing("a")

    with server.watching("prompt", PLAIN) as watch:
        server.hurry(None)
        server.hurry("another")
        before = watch.changed.is_set()
        server.hurry("prompt")

    assert (before, watch.changed.is_set(), watch.disturbed) == (False, True, True)


def test_nodes_from_the_cache_are_no_start() -> None:
    with knowing("a").watching("prompt", PLAIN) as watch:
        watch.hear(Cached("prompt", ("1",)))
        cached = (watch.started, watch.progress.fraction)
        watch.hear(Started("prompt"))
        watch.hear(Progress("prompt", "2", 1, 2))
        running = (watch.started, watch.finished, watch.progress.fraction)
        watch.hear(Finished("prompt"))

    assert cached == (False, 0.5)
    assert running == (True, False, 0.75)
    assert watch.finished


async def test_a_lost_server_wakes_whoever_watches(
    comfyui: FakeComfyUI, session: aiohttp.ClientSession, bell: Bell
) -> None:
    async with connected(comfyui, session, bell) as server:
        with server.watching("prompt", PLAIN) as watch:
            comfyui.drop()

            await asyncio.wait_for(watch.changed.wait(), 20)

    assert (watch.finished, watch.disturbed) == (False, True)


# Slots and places


@pytest.mark.parametrize(
    ("holding", "up", "room"),
    [(0, True, True), (SLOTS - 1, True, True), (SLOTS, True, False), (0, False, False)],
    ids=["idle", "one free", "full", "down"],
)
def test_a_server_has_room_for_one_that_runs_and_one_that_waits(
    holding: int, up: bool, room: bool
) -> None:
    assert SLOTS == 2
    assert knowing("a", holding=holding, up=up).has_room is room


def place_for(servers: Servers, graph: Graph) -> Server | None:
    """Where a job would go if it was the only one."""
    able = servers.able(graph)
    free = sorted(servers.with_room, key=lambda each: each.busy(1.0))
    return next((each for each in free if each in able), None)


def test_a_job_goes_to_the_emptiest_server() -> None:
    servers = Servers([knowing("a", "K", holding=1), knowing("b", "K"), knowing("c", "K")])

    assert place_for(servers, of("K")) is servers["b"]


def test_a_job_goes_only_where_its_nodes_are() -> None:
    servers = Servers([knowing("a", "K"), knowing("b", "K", "X", holding=1)])

    assert place_for(servers, of("K", "X")) is servers["b"]


def test_a_job_goes_only_where_its_model_is() -> None:
    servers = Servers(
        [knowing("a", "K", models=("b.pt",)), knowing("b", "K", models=("a.pt",), holding=1)]
    )

    assert place_for(servers, of("K", model="a.pt")) is servers["b"]


def test_a_job_waits_for_the_server_that_has_its_model() -> None:
    servers = Servers([knowing("a", "K"), knowing("b", "K", models=("a.pt",), holding=SLOTS)])

    assert place_for(servers, of("K", model="a.pt")) is None


def test_a_job_whose_model_no_server_has_goes_where_its_nodes_are() -> None:
    servers = Servers([knowing("a"), knowing("b", "K", holding=1), knowing("c", "K")])

    assert place_for(servers, of("K", model="a.pt")) is servers["c"]


def test_a_server_that_is_down_keeps_no_job_waiting_for_its_model() -> None:
    servers = Servers([knowing("a", "K"), knowing("b", "K", models=("a.pt",), up=False)])

    assert place_for(servers, of("K", model="a.pt")) is servers["a"]


@pytest.mark.parametrize(
    "servers",
    [
        [],
        [knowing("a", "K", up=False)],
        [knowing("a", "K", holding=SLOTS)],
        [knowing("a", "X")],
    ],
    ids=["no server", "down", "full", "no node"],
)
def test_a_job_may_have_to_wait(servers: list[Server]) -> None:
    assert place_for(Servers(servers), of("K")) is None


@pytest.mark.parametrize(
    ("servers", "room"),
    [
        ([], False),
        ([knowing("a", holding=SLOTS), knowing("b", up=False)], False),
        ([knowing("a", holding=SLOTS), knowing("b", holding=SLOTS - 1)], True),
    ],
    ids=["no server", "full and down", "one free"],
)
def test_there_is_room_while_one_server_has_some(servers: list[Server], room: bool) -> None:
    assert Servers(servers).have_room is room


@pytest.mark.parametrize(
    ("servers", "missing"),
    [
        ([], set()),
        ([knowing("a", "K")], {"X", "Y"}),
        ([knowing("a", "K", "X"), knowing("b", "K", "Y")], set()),
        ([knowing("a", "K", "X"), knowing("b", "K")], {"Y"}),
        ([knowing("a", "K"), knowing("b")], set()),
        ([knowing("a", "K"), knowing("b", "K", up=False)], {"X", "Y"}),
    ],
    ids=["no server", "one", "each its own", "two", "one not asked yet", "one is down"],
)
def test_missing_everywhere_is_what_no_server_has(servers: list[Server], missing: set[str]) -> None:
    assert Servers(servers).missing_everywhere(of("K", "X", "Y")) == missing


def test_servers_are_a_mapping_in_the_order_of_the_file() -> None:
    servers = Servers([knowing("b"), knowing("a")])

    assert list(servers) == ["b", "a"]
    assert len(servers) == 2
    assert "c" not in servers


def test_the_first_server_says_what_a_node_is() -> None:
    servers = Servers([knowing("a", "K"), knowing("b", "K", "X")])

    assert {name: node.display_name for name, node in servers.nodes.items()} == {
        "K": "a",
        "X": "b",
    }


def test_a_choice_is_open_where_one_server_offers_it() -> None:
    servers = Servers([knowing("a", "K", models=("a.pt",)), knowing("b", "K", models=("b.pt",))])

    assert servers.nodes["K"].inputs["model_name"].choices == ("a.pt", "b.pt")


def test_what_the_servers_offer_together_is_put_together_once_and_anew_when_one_learns() -> None:
    servers = Servers([knowing("a", "K"), knowing("b", "X")])
    first, again = servers.nodes, servers.nodes

    servers["b"].nodes = knowing("b", "Y").nodes

    assert again is first
    assert servers.nodes.keys() == {"K", "Y"}
