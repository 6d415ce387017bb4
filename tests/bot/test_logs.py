"""No secret stands in any log."""

import io
import json
import logging
import sys
from datetime import UTC, datetime

import pytest

from bot import journal
from bot.jobs import Job, JobState
from bot.logs import JsonLines, Redacting, for_log, set_up, without_secrets
from tests.bot.builders import a_request


def logged(message: str, *values: object, secrets: tuple[str, ...] = ()) -> str:
    record = logging.LogRecord("bot.x", logging.INFO, "x.py", 1, message, values, None)
    return Redacting(secrets).format(record)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "POST https://discord.com/api/v10/webhooks/123/aW50-ZXJ.x_Y/messages/@original",
            "POST https://discord.com/api/v10/webhooks/123/***/messages/@original",
        ),
        (
            "POST https://discord.com/api/v10/interactions/456/aW50ZXJ.x-Y_z/callback failed",
            "POST https://discord.com/api/v10/interactions/456/***/callback failed",
        ),
        (
            "https://cdn.discordapp.com/a/1/2/cat.png?ex=65f2a1b3&is=65e02cb3&hm=0a1b2c3d4e",
            "https://cdn.discordapp.com/a/1/2/cat.png?ex=***&is=***&hm=***",
        ),
        ("this=65f2a1b3 ex=12 is=nothing", "this=65f2a1b3 ex=12 is=nothing"),
        ("/channels/1/messages/2 answered 404", "/channels/1/messages/2 answered 404"),
    ],
    ids=["webhook", "interaction", "signatures", "look-alikes", "nothing secret"],
)
def test_tokens_in_addresses_are_hidden(message: str, expected: str) -> None:
    assert logged(message).endswith(f"INFO    bot.x: {expected}")


def test_configured_secrets_are_hidden_wherever_they_stand() -> None:
    line = logged("token %s in %r", "the-token", {"login": "pass"}, secrets=("the-token", "pass"))

    assert line.endswith("token *** in {'login': '***'}")


def test_a_secret_that_begins_like_another_is_hidden_whole() -> None:
    assert logged("abcdefgh", secrets=("abcd", "abcdefgh")).endswith(": ***")


def test_a_very_short_secret_would_hide_every_word() -> None:
    assert logged("a cat", secrets=("a", "")).endswith("a cat")


def test_tracebacks_are_redacted_too() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Redacting(["the-token"]))
    logger = logging.Logger("bot.x")
    logger.addHandler(handler)

    try:
        raise ValueError("the-token went to /webhooks/1/abc.def")
    except ValueError:
        logger.exception("a command failed")

    written = stream.getvalue()
    assert "ValueError: *** went to /webhooks/1/***" in written
    assert "the-token" not in written
    assert "abc.def" not in written


@pytest.mark.usefixtures("logging_put_back")
@pytest.mark.parametrize(
    ("debug", "level"), [(False, logging.INFO), (True, logging.DEBUG)], ids=["plain", "debug"]
)
def test_only_our_own_packages_are_talkative(
    capsys: pytest.CaptureFixture[str], debug: bool, level: int
) -> None:
    set_up(["the-token"], debug=debug)

    logging.getLogger("comfy.client").info("with the-token")
    logging.getLogger("discord.http").info("a line of the library")
    logging.getLogger("discord.client").warning("PyNaCl is not installed")
    written = capsys.readouterr().err

    levels = {logging.getLogger(name).level for name in ("bot", "cogs", "comfy")}
    assert levels == {level}
    assert written.count("\n") == 1
    assert written.endswith("INFO    comfy.client: with ***\n")


def test_inputs_named_like_a_secret_are_hidden_in_a_copy() -> None:
    graph = {
        "1": {"class_type": "Upload", "inputs": {"api_key": "k", "Password": "p", "text": "a"}},
        "2": {"inputs": {"auth_token": ["1", 0], "list": [{"client_secret": "s"}, 4, None]}},
    }

    shown = without_secrets(graph)

    assert shown == {
        "1": {"class_type": "Upload", "inputs": {"api_key": "***", "Password": "***", "text": "a"}},
        "2": {"inputs": {"auth_token": ["1", 0], "list": [{"client_secret": "***"}, 4, None]}},
    }
    assert graph["1"]["inputs"]["api_key"] == "k"  # type: ignore[index]


def test_a_graph_in_the_log_is_for_people_to_read() -> None:
    shown = for_log({"1": {"text": "кошка 🐈", "api_key": "k"}})

    assert shown == '{\n  "1": {\n    "text": "кошка 🐈",\n    "api_key": "***"\n  }\n}'


def as_json(record: logging.LogRecord, *secrets: str) -> dict[str, object]:
    line = JsonLines(secrets).format(record)
    assert "\n" not in line
    return json.loads(line)


def test_a_line_for_programs_is_an_object() -> None:
    record = logging.LogRecord("bot.x", logging.WARNING, "x.py", 1, "%s is\naway", ("gpu",), None)

    told = as_json(record)

    assert told | {"time": ""} == {
        "time": "",
        "level": "warning",
        "logger": "bot.x",
        "message": "gpu is\naway",
    }
    assert datetime.fromisoformat(str(told["time"])).tzinfo is UTC


def test_no_secret_stands_in_a_line_for_programs() -> None:
    secret = 'a "quoted" one\\ü'
    try:
        raise ValueError(secret)
    except ValueError:
        record = logging.LogRecord("bot.x", logging.ERROR, "x", 1, secret, (), sys.exc_info())

    told = as_json(record, secret)

    assert told["message"] == "***"
    assert "quoted" not in json.dumps(told)
    assert "ValueError: ***" in str(told["traceback"])


def test_every_step_of_a_job_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    job = Job(request=a_request(), server="gpu1", state=JobState.RUNNING)

    with caplog.at_level(logging.INFO):
        journal.tell(job, job.to(JobState.EXECUTED, seconds=12.34))

    (record,) = caplog.records
    assert record.getMessage() == (
        f"job {job.short_id} of member {job.request.user_id}: executed on gpu1, 12.3 s"
    )
    told = as_json(record)
    assert told["job"] == job.id
    assert told["member"] == str(job.request.user_id)
    assert (told["state"], told["server"], told["seconds"]) == ("executed", "gpu1", 12.34)
