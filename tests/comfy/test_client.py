"""The client against a ComfyUI on loopback: every route, every way in, every broken connection."""

import asyncio
import json
import socket
import ssl
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import comfy.client
from comfy.client import Access, ComfyClient, Socket
from comfy.errors import (
    AccessDenied,
    FileGone,
    NotComfyUI,
    PromptRefused,
    ServerError,
    ServerUnavailable,
)
from comfy.events import Cached, Executed, Executing, Finished, Preview, Progress, Started
from comfy.models import Ending, OutputFile
from tests.comfy.calls import CALLS, ID, Call
from tests.fakes.hearing import HearingComfyUI, basic
from tests.fakes.recordings import graph_of

# A certificate that signs itself for 127.0.0.1, and its key: for these tests only.
AUTHORITY = Path(__file__).parents[1] / "data" / "authority.pem"

FILE = OutputFile("9", "a b&c.png", "sub folder", "temp")
HTML = {"text": "<html>Log in</html>", "content_type": "text/html"}
JSON = "application/json"


@pytest.fixture
async def comfyui() -> AsyncIterator[HearingComfyUI]:
    async with HearingComfyUI() as server:
        yield server


@pytest.fixture
def client(comfyui: HearingComfyUI, session: aiohttp.ClientSession) -> ComfyClient:
    return ComfyClient(comfyui.url, session)


def nobody() -> str:
    """An address at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


async def queued(client: ComfyClient, name: str = "a8_modelfree", client_id: str = "me") -> str:
    prompt_id = str(uuid.uuid4())
    await client.queue_prompt(graph_of(name), prompt_id, client_id)
    return prompt_id


async def ended(client: ComfyClient, prompt_id: str) -> Any:
    async with asyncio.timeout(20):
        while True:
            if entry := await client.history(prompt_id):
                return entry


# Addresses and credentials


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://host:8188", "http://host:8188"),
        ("http://host:8188/", "http://host:8188"),
        ("http://host:8188/gpu/1/", "http://host:8188/gpu/1"),
        ("http://host:8188/a%20b/", "http://host:8188/a%20b"),
        ("https://bot:secret@host/gpu", "https://host/gpu"),
        ("https://bot@host", "https://host"),
        ("https://host/gpu?token=secret#secret", "https://host/gpu"),
    ],
)
async def test_the_address_for_people_has_no_credentials(
    session: aiohttp.ClientSession, url: str, shown: str
) -> None:
    client = ComfyClient(url, session)

    assert client.url == shown
    assert "secret" not in repr(client) + str(client)


def test_access_keeps_its_secrets_from_people() -> None:
    access = Access(token="secret", login=("bot", "secret"), ca_file="ca.pem")

    assert repr(access) == str(access) == "Access(ca_file='ca.pem')"


@pytest.mark.parametrize("end", ["", "/", "/api", "/api/"], ids=["bare", "slash", "path", "both"])
async def test_an_address_may_have_a_path_and_a_slash(
    comfyui: HearingComfyUI, session: aiohttp.ClientSession, end: str
) -> None:
    client = ComfyClient(comfyui.url + end, session)
    prefix = end.rstrip("/")

    await client.queue()
    async with client.connect():
        pass

    assert [path for _, path, _ in comfyui.heard] == [f"{prefix}/queue", f"{prefix}/ws"]


@pytest.mark.parametrize(
    ("login", "access", "sent"),
    [
        ("", None, None),
        ("bot:secret@", None, basic("bot", "secret")),
        ("bot:p%40ss%3A@", None, basic("bot", "p@ss:")),
        ("bot@", None, basic("bot", "")),
        ("", Access(login=("bot", "secret")), basic("bot", "secret")),
        ("", Access(login=("бот", "пароль")), basic("бот", "пароль")),
        ("", Access(login=("a:b", "c")), basic("a:b", "c")),
        ("", Access(token="secret"), "Bearer secret"),
        ("bot:x@", Access(token="secret"), "Bearer secret"),
        ("bot:secret@", Access(login=("other", "x")), basic("bot", "secret")),
    ],
    ids=[
        "none",
        "in the address",
        "quoted in the address",
        "without password",
        "login",
        "login in other letters",
        "login with a colon",
        "token",
        "token over login",
        "address over login",
    ],
)
async def test_credentials_go_with_requests_and_sockets(
    comfyui: HearingComfyUI,
    session: aiohttp.ClientSession,
    login: str,
    access: Access | None,
    sent: str | None,
) -> None:
    client = ComfyClient(comfyui.url.replace("http://", f"http://{login}"), session, access)

    await client.queue()
    async with client.connect():
        pass

    assert [headers.get("Authorization") for headers in comfyui.headers] == [sent, sent]
    assert all("Origin" not in headers for headers in comfyui.headers)


async def test_no_error_tells_a_secret(session: aiohttp.ClientSession) -> None:
    url = nobody().replace("http://", "http://bot:secret@")
    client = ComfyClient(url, session, Access(token="secret"))

    with pytest.raises(ServerUnavailable) as http:
        await client.queue()
    with pytest.raises(ServerUnavailable) as ws:
        async with client.connect():
            pass

    assert "secret" not in repr(http.value) + str(http.value) + repr(ws.value) + str(ws.value)


async def test_a_servers_own_authority_is_trusted_when_it_is_named(
    session: aiohttp.ClientSession,
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(AUTHORITY)
    async with HearingComfyUI() as comfyui, served_over_tls(comfyui, context) as url:
        client = ComfyClient(url, session, Access(ca_file=str(AUTHORITY)))

        stats = await client.system_stats()
        async with client.connect() as socket:
            client_id = socket.client_id

    assert stats.version == comfyui.version
    assert client_id


async def test_an_authority_that_nobody_named_is_not_trusted(
    session: aiohttp.ClientSession,
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(AUTHORITY)
    async with HearingComfyUI() as comfyui, served_over_tls(comfyui, context) as url:
        with pytest.raises(ServerUnavailable, match="its certificate is not trusted, set ca_file"):
            await ComfyClient(url, session).system_stats()


@asynccontextmanager
async def served_over_tls(comfyui: HearingComfyUI, context: ssl.SSLContext) -> AsyncIterator[str]:
    """A proxy in front, as owners put one there: it passes bytes on and speaks TLS outwards."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        finally:
            writer.close()

    tasks: list[asyncio.Task[None]] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = comfyui.url.removeprefix("http://").split(":")
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        tasks.append(asyncio.create_task(pass_on(reader, inner_writer)))
        tasks.append(asyncio.create_task(pass_on(inner_reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        server.close()


def test_a_file_of_authorities_that_is_not_there_is_an_error_at_once() -> None:
    with pytest.raises(FileNotFoundError):
        Access(ca_file="/nothing/ca.pem").ssl()


async def test_wrong_credentials_are_told_apart(session: aiohttp.ClientSession) -> None:
    async with HearingComfyUI(token="right") as comfyui:
        right = ComfyClient(comfyui.url, session, Access(token="right"))
        wrong = ComfyClient(comfyui.url, session, Access(token="wrong"))

        await right.queue()
        async with right.connect():
            pass
        with pytest.raises(AccessDenied, match="401"):
            await wrong.queue()
        with pytest.raises(AccessDenied, match="401"):
            async with wrong.connect():
                pass


# The routes


@pytest.mark.parametrize("version", ["0.27.0", "0.3.64"])
async def test_a_server_tells_its_version_and_devices(
    session: aiohttp.ClientSession, version: str
) -> None:
    async with HearingComfyUI(version=version) as comfyui:
        stats = await ComfyClient(comfyui.url, session).system_stats()

    assert stats.version == version
    assert stats.devices[0].vram_total > 0


@pytest.mark.parametrize("version", ["0.27.0", "0.3.64"])
async def test_a_server_tells_its_nodes(session: aiohttp.ClientSession, version: str) -> None:
    models = {"upscale_models": ["4x.pth"]}
    async with HearingComfyUI(version=version, models=models) as comfyui:
        nodes = await ComfyClient(comfyui.url, session).object_info()

    assert nodes["UpscaleModelLoader"].inputs["model_name"].choices == ("4x.pth",)
    assert nodes["KSampler"].inputs["steps"].max == 10000


async def test_a_prompt_is_queued_waits_runs_and_leaves_files(
    comfyui: HearingComfyUI, client: ComfyClient
) -> None:
    comfyui.hold()
    running = await queued(client)
    await asyncio.wait_for(comfyui.held.wait(), 20)
    waiting = await queued(client)

    queue = await client.queue()
    unknown_yet = await client.history(waiting)
    comfyui.finish()
    entry = await ended(client, waiting)

    assert (queue.running, queue.pending) == ((running,), (waiting,))
    assert unknown_yet is None
    assert entry.ending is Ending.SUCCESS
    assert entry.files


async def test_a_refused_prompt_names_the_nodes(client: ComfyClient) -> None:
    graph = graph_of("a8_modelfree")
    graph["1"]["inputs"]["width"] = -1

    with pytest.raises(PromptRefused) as caught:
        await client.queue_prompt(graph, str(uuid.uuid4()), "me")

    assert caught.value.kind == "prompt_outputs_failed_validation"
    assert [(error.node_id, error.kind) for error in caught.value.node_errors] == [
        ("1", "value_smaller_than_min")
    ]


async def test_a_prompt_under_another_id_than_ours_is_taken_back(
    comfyui: HearingComfyUI, client: ComfyClient
) -> None:
    foreign = str(uuid.uuid4())
    comfyui.say("/prompt", text=json.dumps({"prompt_id": foreign}), content_type=JSON)

    with pytest.raises(PromptRefused, match=r"needs ComfyUI 0\.3\.45 or later$") as caught:
        await client.queue_prompt({}, str(uuid.uuid4()), "me")

    assert (caught.value.kind, caught.value.node_errors) == ("too_old", ())
    assert comfyui.heard[1:] == [("POST", "/queue", {"delete": [foreign]})]


async def test_a_foreign_prompt_that_cannot_be_taken_back_still_names_the_version(
    comfyui: HearingComfyUI, client: ComfyClient
) -> None:
    comfyui.say("/prompt", text=json.dumps({"prompt_id": "foreign"}), content_type=JSON)
    comfyui.say("/queue", status=500)

    with pytest.raises(PromptRefused, match=r"needs ComfyUI 0\.3\.45 or later") as caught:
        await client.queue_prompt({}, ID, "me")

    assert caught.value.kind == "too_old"


async def test_a_waiting_prompt_is_deleted(comfyui: HearingComfyUI, client: ComfyClient) -> None:
    comfyui.hold()
    await queued(client)
    await asyncio.wait_for(comfyui.held.wait(), 20)
    waiting = await queued(client)

    await client.delete_queued(waiting)

    assert waiting not in await client.queue()
    assert await client.history(waiting) is None


async def test_only_the_prompt_that_is_named_is_interrupted(
    comfyui: HearingComfyUI, client: ComfyClient
) -> None:
    comfyui.hold()
    running = await queued(client)
    await asyncio.wait_for(comfyui.held.wait(), 20)

    await client.interrupt(str(uuid.uuid4()))
    still = await client.queue()
    await client.interrupt(running)
    entry = await ended(client, running)

    assert running in still.running
    assert entry.ending is Ending.INTERRUPTED


async def test_a_file_comes_as_a_stream(comfyui: HearingComfyUI, client: ComfyClient) -> None:
    comfyui.picture = bytes(range(256)) * 4096
    entry = await ended(client, await queued(client))

    async with client.view(entry.files[0]) as stream:
        first = await stream.readexactly(256)
        rest = await stream.read()

    assert first + rest == comfyui.picture


async def test_a_file_is_asked_for_with_its_folder_and_type(
    comfyui: HearingComfyUI, client: ComfyClient
) -> None:
    comfyui.say("/view", body=b"x")

    async with client.view(FILE) as stream:
        await stream.read()

    assert comfyui.queries == [{"filename": "a b&c.png", "subfolder": "sub folder", "type": "temp"}]


async def test_a_file_that_is_gone_is_told_apart(client: ComfyClient) -> None:
    with pytest.raises(FileGone, match=r"no longer has a b&c\.png"):
        async with client.view(FILE):
            pass


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (HTML, NotComfyUI),
        ({**HTML, "status": 403}, AccessDenied),
        ({**HTML, "status": 502}, ServerUnavailable),
        ({"status": 400}, ServerUnavailable),
        ({"status": 302, "headers": {"Location": "/login"}}, NotComfyUI),
    ],
    ids=["a page", "a page that forbids", "a page of a proxy", "a bad name", "a redirect"],
)
async def test_what_is_no_file_is_not_streamed(
    comfyui: HearingComfyUI,
    client: ComfyClient,
    response: dict[str, Any],
    error: type[ServerError],
) -> None:
    comfyui.say("/view", **response)

    with pytest.raises(error):
        async with client.view(FILE):
            pytest.fail("a stream was given")


async def test_a_file_that_ends_too_early_is_an_error(
    comfyui: HearingComfyUI, client: ComfyClient
) -> None:
    comfyui.cut("/view", body=b"half", content_type="image/png")

    with pytest.raises(ServerUnavailable):
        async with client.view(FILE) as stream:
            await stream.read()


async def test_a_file_that_stops_coming_is_an_error(
    comfyui: HearingComfyUI, client: ComfyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comfy.client, "_DOWNLOAD_STALL", 0.05)
    comfyui.stall("/view", body=b"half", content_type="image/png")

    with pytest.raises(ServerUnavailable, match="it takes too long"):
        async with client.view(FILE) as stream:
            await stream.read()


async def test_what_fails_while_a_file_is_used_is_not_the_servers_fault(
    comfyui: HearingComfyUI, client: ComfyClient
) -> None:
    comfyui.say("/view", body=b"x")

    with pytest.raises(OSError, match="disk full"):
        async with client.view(FILE):
            raise OSError("disk full")


# Connections that fail

EVERY = pytest.mark.parametrize(
    ("path", "call"), [(path, call) for _, path, call in CALLS.values()], ids=CALLS.keys()
)


@EVERY
async def test_an_answer_that_is_cut_off_is_no_answer(
    comfyui: HearingComfyUI, client: ComfyClient, path: str, call: Call
) -> None:
    comfyui.cut(path, text="{", content_type="application/json")

    with pytest.raises(ServerUnavailable, match="does not answer"):
        await call(client)


@EVERY
async def test_a_server_that_is_not_there_does_not_answer(
    session: aiohttp.ClientSession, path: str, call: Call
) -> None:
    client = ComfyClient(nobody(), session)

    with pytest.raises(ServerUnavailable, match="does not answer"):
        await call(client)


class FailingConnector(aiohttp.TCPConnector):
    """Opens no connection, for the reason it is given."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    async def connect(self, *_: Any, **__: Any) -> Any:
        raise self.error


NO_KEY: Any = None  # aiohttp only prints it


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (aiohttp.ClientConnectorDNSError(NO_KEY, OSError()), "no such host"),
        (
            aiohttp.ClientConnectorCertificateError(NO_KEY, ssl.CertificateError()),
            "its certificate is not trusted, set ca_file",
        ),
        (aiohttp.ClientConnectorError(NO_KEY, ConnectionRefusedError()), "nothing listens there"),
        (aiohttp.ServerTimeoutError(), "it takes too long"),
        (aiohttp.ServerDisconnectedError(), "the connection broke"),
    ],
    ids=["no name", "another authority", "closed port", "too slow", "cut"],
)
async def test_a_connection_that_fails_is_told_with_its_cause(error: Exception, told: str) -> None:
    async with aiohttp.ClientSession(connector=FailingConnector(error)) as session:
        client = ComfyClient("http://comfyui.invalid", session)

        with pytest.raises(ServerUnavailable) as http:
            await client.queue()
        with pytest.raises(ServerUnavailable) as ws:
            async with client.connect():
                pass

    expected = f"http://comfyui.invalid does not answer: {told}"
    assert [str(http.value), str(ws.value)] == [expected, expected]


async def test_a_server_without_tls_is_not_blamed_for_its_certificate(
    comfyui: HearingComfyUI, session: aiohttp.ClientSession
) -> None:
    client = ComfyClient(comfyui.url.replace("http://", "https://"), session)

    with pytest.raises(ServerUnavailable, match="it does not speak TLS, is it http://") as caught:
        await client.queue()

    assert "ca_file" not in str(caught.value)


@EVERY
async def test_a_server_that_says_nothing_times_out(
    comfyui: HearingComfyUI,
    client: ComfyClient,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    call: Call,
) -> None:
    monkeypatch.setattr(comfy.client, "_ANSWER", 0.05)
    comfyui.stop_answering()

    with pytest.raises(ServerUnavailable, match="it takes too long"):
        await call(client)


# The socket


async def events(connection: Socket) -> list[Any]:
    """All frames up to the end of a job."""
    seen: list[Any] = []
    async with asyncio.timeout(20):
        async for event in connection.frames():
            seen.append(event)
            if isinstance(event, Finished):
                return seen
    raise AssertionError("the socket ended before the job")


async def test_a_socket_tells_of_the_prompts_of_its_client_id(client: ComfyClient) -> None:
    async with client.connect() as connection:
        prompt_id = await queued(client, "a1_txt2img_success", connection.client_id)
        seen = await events(connection)

    kinds = {type(event) for event in seen}
    assert kinds == {type(None), Started, Cached, Executing, Progress, Preview, Executed, Finished}
    assert {event.prompt_id for event in seen if event is not None} == {prompt_id}


async def test_pictures_and_unknown_frames_count_as_signs_of_life(client: ComfyClient) -> None:
    async with client.connect() as connection:
        await queued(client, "a1_txt2img_success", connection.client_id)
        seen = await events(connection)

    assert seen[0] is None
    assert seen.count(None) > 4


async def test_a_socket_that_breaks_ends(comfyui: HearingComfyUI, client: ComfyClient) -> None:
    async with client.connect() as connection:
        frames = connection.frames()
        await anext(frames)
        comfyui.drop()

        rest = [frame async for frame in frames]

    assert rest == []


async def test_a_frame_that_cannot_be_read_ends_the_socket(
    client: ComfyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comfy.client, "_FRAME_LIMIT", 16)

    async with client.connect() as connection, asyncio.timeout(20):
        seen = [frame async for frame in connection.frames()]

    assert seen == []


async def test_a_socket_is_closed_when_its_user_fails(
    comfyui: HearingComfyUI, client: ComfyClient
) -> None:
    async def use() -> None:
        async with client.connect() as connection:
            await anext(connection.frames())
            raise KeyError

    with pytest.raises(KeyError):
        await use()

    (socket_id,) = comfyui.client_ids
    await asyncio.wait_for(comfyui.ended[socket_id].wait(), 20)


@pytest.mark.parametrize(
    ("response", "error"),
    [
        ({"status": 403}, AccessDenied),
        ({"status": 404}, NotComfyUI),
        ({"status": 502, **HTML}, ServerUnavailable),
        ({"status": 500}, ServerUnavailable),
    ],
    ids=["403", "404", "502", "500"],
)
async def test_a_refused_socket_is_told_as_a_refused_request(
    comfyui: HearingComfyUI,
    client: ComfyClient,
    response: dict[str, Any],
    error: type[ServerError],
) -> None:
    comfyui.say("/ws", **response)

    with pytest.raises(error) as caught:
        async with client.connect():
            pass

    assert type(caught.value) is error
    assert "clientId" not in str(caught.value)


async def test_a_socket_that_does_not_open_times_out(
    comfyui: HearingComfyUI, client: ComfyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comfy.client, "_HANDSHAKE", 0.05)
    comfyui.stop_answering()

    with pytest.raises(ServerUnavailable, match="it takes too long"):
        async with client.connect():
            pass
