"""What the client makes of answers that no ComfyUI, or only a strange one, would give."""

import json
import traceback
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from comfy.client import Access, ComfyClient
from comfy.errors import (
    AccessDenied,
    NodeError,
    NotComfyUI,
    PromptRefused,
    ServerError,
    ServerUnavailable,
)
from tests.comfy.calls import CALLS, ID, READS, Call
from tests.fakes.answers import Answers
from tests.fakes.hearing import basic

URL = "http://comfyui.example:8188/gpu"
NOT_COMFYUI = "does not answer as a ComfyUI server does"
PAGE = {"body": "<html>Log in</html>", "content_type": "text/html"}
DEEP = "[" * 100_000

ODD: dict[str, tuple[dict[str, Any], type[ServerError], str]] = {
    "a page": (PAGE, NotComfyUI, NOT_COMFYUI),
    "301": (
        {"status": 301, "headers": {"Location": "https://elsewhere.example/"}},
        NotComfyUI,
        "is not a ComfyUI server (HTTP 301)",
    ),
    "302": (
        {"status": 302, "headers": {"Location": "/login"}},
        NotComfyUI,
        "is not a ComfyUI server (HTTP 302)",
    ),
    "400 in words": (
        {"status": 400, "body": "bad request", "content_type": "text/plain"},
        ServerUnavailable,
        "answered HTTP 400",
    ),
    "401": ({"status": 401}, AccessDenied, "wants other credentials (HTTP 401)"),
    "403 with a page": (
        {"status": 403, **PAGE},
        AccessDenied,
        "wants other credentials (HTTP 403)",
    ),
    "404": ({"status": 404}, NotComfyUI, "is not a ComfyUI server (HTTP 404)"),
    "405": (
        {"status": 405, "body": "405: Method Not Allowed"},
        NotComfyUI,
        "is not a ComfyUI server (HTTP 405)",
    ),
    "413": ({"status": 413, "body": "too large"}, PromptRefused, "takes no prompt of this size"),
    "429": ({"status": 429}, ServerUnavailable, "answered HTTP 429"),
    "500 in words": (
        {"status": 500, "body": "500 Internal Server Error", "content_type": "text/plain"},
        ServerUnavailable,
        "answered HTTP 500",
    ),
    "502 with a page": ({"status": 502, **PAGE}, ServerUnavailable, "answered HTTP 502"),
    "503": ({"status": 503}, ServerUnavailable, "answered HTTP 503"),
    "too late": (
        {"exception": TimeoutError},
        ServerUnavailable,
        "does not answer: it takes too long",
    ),
    "a broken socket": (
        {"exception": aiohttp.ClientOSError},
        ServerUnavailable,
        "does not answer: the connection broke",
    ),
    "a closed connection": (
        {"exception": aiohttp.ServerDisconnectedError},
        ServerUnavailable,
        "does not answer: the connection broke",
    ),
}
BROKEN: dict[str, str | bytes] = {
    "nothing": "",
    "half a text": '{"queue_running": [',
    "no text": b"\xff\xfe\x00",
    "a list": "[]",
    "null": "null",
    "a text": '"ok"',
    "lists without end": DEEP,
}


@pytest.fixture
def answers() -> Iterator[Answers]:
    with Answers() as answers:
        yield answers


@pytest.fixture
def client(session: aiohttp.ClientSession) -> ComfyClient:
    return ComfyClient(URL, session)


@pytest.mark.parametrize(("verb", "path", "call"), CALLS.values(), ids=CALLS.keys())
@pytest.mark.parametrize(("answer", "error", "told"), ODD.values(), ids=ODD.keys())
async def test_an_answer_that_is_no_answer_becomes_one_of_our_errors(
    answers: Answers,
    client: ComfyClient,
    verb: str,
    path: str,
    call: Call,
    answer: dict[str, Any],
    error: type[ServerError],
    told: str,
) -> None:
    answers.add(URL + path, verb, **answer)

    with pytest.raises(error) as caught:
        await call(client)

    assert type(caught.value) is error
    assert str(caught.value) == f"{URL} {told}"
    assert len(answers.authorizations) == 1


@pytest.mark.parametrize(
    ("login", "token", "sent"),
    [("", "the-token", "Bearer the-token"), ("ann:the-pass@", None, basic("ann", "the-pass"))],
    ids=["token", "login"],
)
@pytest.mark.parametrize("answer", [each[0] for each in ODD.values()], ids=ODD.keys())
async def test_no_error_tells_a_credential(
    answers: Answers,
    session: aiohttp.ClientSession,
    login: str,
    token: str | None,
    sent: str,
    answer: dict[str, Any],
) -> None:
    client = ComfyClient(URL.replace("//", f"//{login}"), session, Access(token=token))
    answers.get(f"{URL}/queue", **answer)

    with pytest.raises(ServerError) as caught:
        await client.queue()

    told = repr(caught.value) + "".join(traceback.format_exception(caught.value))
    assert answers.authorizations == [sent]
    assert not any(each in told for each in ("the-token", "the-pass", sent))


@pytest.mark.parametrize(("verb", "path", "call"), READS.values(), ids=READS.keys())
@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
async def test_an_answer_that_is_no_object_is_not_comfyuis(
    answers: Answers, client: ComfyClient, verb: str, path: str, call: Call, body: str | bytes
) -> None:
    answers.add(URL + path, verb, body=body)

    with pytest.raises(NotComfyUI, match=NOT_COMFYUI):
        await call(client)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"system": None},
        {"system": {}, "devices": [1]},
        {"system": []},
        {"system": {}, "devices": [{"vram_total": 1e999}]},
    ],
    ids=str,
)
async def test_stats_of_something_else_are_not_comfyuis(
    answers: Answers, client: ComfyClient, answer: Any
) -> None:
    answers.get(f"{URL}/system_stats", payload=answer)

    with pytest.raises(NotComfyUI, match=NOT_COMFYUI):
        await client.system_stats()


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"queue_running": []},
        {"queue_pending": []},
        {"queue_running": None, "queue_pending": None},
        {"queue_running": [None], "queue_pending": []},
        {"queue_running": [], "queue_pending": [[1]]},
        {"queue_running": [], "queue_pending": [["x", "a"], [1, "b"]]},
    ],
    ids=[
        "no keys",
        "nothing pending",
        "nothing running",
        "nulls",
        "a null that runs",
        "no id",
        "numbers and texts",
    ],
)
async def test_a_queue_of_another_shape_is_not_taken_for_an_empty_one(
    answers: Answers, client: ComfyClient, answer: Any
) -> None:
    answers.get(f"{URL}/queue", payload=answer)

    with pytest.raises(NotComfyUI, match=NOT_COMFYUI):
        await client.queue()


@pytest.mark.parametrize(
    "entry",
    [
        [1],
        "text",
        {"outputs": [1]},
        {"status": "success"},
        {"status": {"messages": [1]}},
        {"status": {"messages": [["a", {"timestamp": "x"}], ["b", {"timestamp": 1}]]}},
        {"status": {"messages": [["a", {"timestamp": 10**400}], ["b", {"timestamp": 1}]]}},
    ],
    ids=[
        "a list",
        "a text",
        "a list of outputs",
        "a text for the status",
        "a number for a message",
        "a text for a time",
        "a time without end",
    ],
)
async def test_a_history_of_another_shape_is_not_comfyuis(
    answers: Answers, client: ComfyClient, entry: Any
) -> None:
    answers.get(f"{URL}/history/{ID}", payload={ID: entry})

    with pytest.raises(NotComfyUI, match=NOT_COMFYUI):
        await client.history(ID)


@pytest.mark.parametrize(
    "body",
    ["", "{}", '{"prompt_id": ', b"\xff\xfe\x00", '{"node_errors": {}}', DEEP],
    ids=["nothing", "an empty object", "half a text", "no text", "no id", "lists without end"],
)
async def test_a_prompt_that_was_taken_with_a_broken_answer_may_well_run(
    answers: Answers, client: ComfyClient, body: str | bytes
) -> None:
    answers.post(f"{URL}/prompt", body=body)

    with pytest.raises(ServerUnavailable, match="took the prompt and answered nonsense"):
        await client.queue_prompt({}, ID, "me")


@pytest.mark.parametrize(
    ("answer", "kind", "told"),
    [
        ({"error": {"type": "no_prompt", "message": "No prompt"}}, "no_prompt", "No prompt"),
        (
            {"error": {"type": "x", "message": "m", "details": "d"}, "node_errors": []},
            "x",
            "m d",
        ),
        ({"error": "a text"}, "", "a text"),
        ({"error": "a text", "node_errors": {"1": [1]}}, "", "a text"),
        ({"error": "a text", "node_errors": {"1": {"errors": 5}}}, "", "a text"),
        ({}, "", "None"),
        ([], "", "None"),
    ],
    ids=[
        "an error",
        "with details",
        "a text",
        "broken nodes",
        "a number of errors",
        "an empty object",
        "a list",
    ],
)
async def test_a_refusal_may_have_any_shape(
    answers: Answers, client: ComfyClient, answer: Any, kind: str, told: str
) -> None:
    answers.post(f"{URL}/prompt", status=400, body=json.dumps(answer))

    with pytest.raises(PromptRefused) as caught:
        await client.queue_prompt({}, ID, "me")

    assert str(caught.value) == f"{URL} refused: {told}"
    assert (caught.value.kind, caught.value.node_errors) == (kind, ())


async def test_a_refusal_keeps_the_node_whose_complaint_cannot_be_read(
    answers: Answers, client: ComfyClient
) -> None:
    refused = {"error": "x", "node_errors": {"1": {"class_type": "KSampler", "errors": [1]}}}
    answers.post(f"{URL}/prompt", status=400, payload=refused)

    with pytest.raises(PromptRefused) as caught:
        await client.queue_prompt({}, ID, "me")

    assert caught.value.node_errors == (NodeError("1", "KSampler", "", "", ""),)


@pytest.mark.parametrize(
    ("body", "error"),
    [('{"error": {"ty', ServerUnavailable), (DEEP, ServerUnavailable), ("", PromptRefused)],
    ids=["half", "lists without end", "nothing"],
)
async def test_a_refusal_may_come_without_its_reason(
    answers: Answers, client: ComfyClient, body: str, error: type[ServerError]
) -> None:
    answers.post(f"{URL}/prompt", status=400, body=body)

    with pytest.raises(error):
        await client.queue_prompt({}, ID, "me")


async def test_a_prompt_that_is_too_large_is_refused_for_good(
    answers: Answers, client: ComfyClient
) -> None:
    answers.post(f"{URL}/prompt", status=413)

    with pytest.raises(PromptRefused) as caught:
        await client.queue_prompt({}, ID, "me")

    assert caught.value.kind == "too_large"
