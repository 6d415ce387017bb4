"""What comes in and goes out over HTTP, as JSON. Pure."""

import base64
import binascii
import json
import math
import mimetypes
from collections.abc import Mapping, Sequence
from typing import Any

from bot.errors import UserError
from bot.jobs import ON_SERVER, Job, JobState
from bot.servers import Server
from bot.wishes import Wish
from comfy.models import OutputFile
from comfy.progress import RunProgress

Json = dict[str, Any]
_PIECES = 20_000
_SIMPLE = ("prompt", "target_node", "parameters", "files")


def body_of(raw: bytes) -> Json:
    """`UserError` if it is no JSON object, or one that keeps a processor busy.

    No other thread runs while JSON is read, so millions of values would stop the bot for seconds.
    """
    if sum(raw.count(each) for each in (b",", b"{", b"[", b"\\")) > _PIECES:
        raise UserError("The body has too many values.")

    def no_twins(pairs: list[tuple[str, Any]]) -> Json:
        if len({key for key, _ in pairs}) != len(pairs):
            raise UserError("The body names something twice. Say it once.")
        return dict(pairs)

    def no_constant(name: str) -> None:
        raise ValueError(f"{name} is not a number")

    try:
        body = json.loads(raw or b"{}", parse_constant=no_constant, object_pairs_hook=no_twins)
    except (ValueError, RecursionError) as error:
        raise UserError("The body is not valid JSON.") from error
    if not isinstance(body, dict):
        raise UserError('The body is a JSON object, such as {"prompt": "a cat"}.')
    return body


def wish_of(workflow: str, body: Json) -> tuple[Wish, dict[str, bytes]]:
    """The simple or the advanced body, and the files that came with it, by parameter."""
    if body and all(isinstance(each, dict) and "inputs" in each for each in body.values()):
        return Wish(workflow=workflow, overrides=json.dumps(body)), {}
    if unknown := [key for key in body if key not in _SIMPLE]:
        raise UserError(
            f"`{unknown[0][:60]}` is unknown here. A body has `prompt`, `target_node`, "
            "`parameters` and `files`, or only node ids, such as "
            '{"6": {"inputs": {"text": "a cat"}}}.'
        )
    prompt, node = body.get("prompt"), body.get("target_node")
    if not isinstance(prompt, str | None):
        raise UserError("`prompt` is a text.")
    if isinstance(node, bool) or not isinstance(node, str | int | None):
        raise UserError("`target_node` is a text.")
    values = _object(body, "parameters")
    for name, value in values.items():
        if not isinstance(value, str | int | float | bool | None):
            raise UserError(f"`{name[:60]}` is a text, a number, true or false.")
    files = {name: _bytes(name, each) for name, each in _object(body, "files").items()}
    wish = Wish(
        workflow=workflow,
        prompt=prompt,
        node=None if node is None else str(node),
        values={name: each for name, each in values.items() if each is not None},
    )
    return wish, files


def _object(body: Json, key: str) -> Json:
    value = body.get(key)
    if value is not None and not isinstance(value, dict):
        raise UserError(f"`{key}` is a JSON object.")
    return value or {}


def _bytes(name: str, value: object) -> bytes:
    try:
        return base64.b64decode(value if isinstance(value, str) else "!", validate=True)
    except (binascii.Error, ValueError) as error:
        raise UserError(f"`{name[:60]}` is a file in base64.") from error


def to_json(data: object) -> str:
    """Without the NaN and Infinity that ComfyUI may tell, which are no JSON."""
    try:
        return json.dumps(data, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(data))


def _finite(data: object) -> object:
    match data:
        case float() if not math.isfinite(data):
            return None
        case dict():
            return {key: _finite(each) for key, each in data.items()}
        case list() | tuple():
            return [_finite(each) for each in data]
    return data


def error_of(text: str, status: int) -> Json:
    return {"error": text, "status_code": status}


def accepted(job_id: str, member: str) -> Json:
    return {"status": "success", "prompt_id": job_id, "client_id": f"comfycord-{member}"}


def status_of(
    job: Job, place: int, progress: RunProgress | None, server: Server | None, root: str
) -> Json:
    """*place*: 1 is next; *server*: the one that has it; *root*: the address of this face."""
    if job.state in ON_SERVER and (server is None or not server.up):
        return {
            "status": "unknown",
            "message": "The server that has this task does not answer just now",
        }
    told: Json = {"status": job.state.word}
    match job.state:
        case JobState.PENDING:
            told |= {"message": "Task is waiting in queue", "queue_position": place}
        case JobState.SUBMITTING | JobState.QUEUED:
            told |= {"message": "Task waits on its server and is next", "queue_position": 0}
        case JobState.RUNNING:
            told |= {
                "message": "Task is currently running",
                "execution_info": _execution(job, progress),
            }
        case JobState.EXECUTED:
            told |= {"message": "Task has run, its images are being fetched"}
        case JobState.POSTED:
            told |= {
                "message": "Image generation completed",
                "images": images_of(job, root),
                "texts": list(job.texts),
                "execution_time": job.seconds,
                "node_errors": {},
            }
        case JobState.CANCELLED:
            told |= {"message": "Task was cancelled"}
        case _:
            told |= {"message": job.note, "error": job.note}
    return told


def _execution(job: Job, progress: RunProgress | None) -> Json:
    node_id = progress.node_id if progress else None
    node = job.request.graph.get(node_id or "")
    return {
        "server": job.server,
        "node_id": node_id,
        "class_type": node["class_type"] if node else None,
        "progress": round(progress.fraction, 3) if progress else 0.0,
    }


def not_found() -> Json:
    text = "Task not found"
    return {"status": "not_found", "message": text, **error_of(text, 404)}


def images_of(job: Job, root: str) -> list[Json]:
    return [_image(job, number, each, root) for number, each in enumerate(job.outputs)]


def _image(job: Job, number: int, file: OutputFile, root: str) -> Json:
    return {
        "url": f"{root}/api/image/{job.id}/{number}",
        "filename": file.filename,
        "subfolder": file.subfolder,
        "type": file.type,
    }


def headers_of(filename: str) -> dict[str, str]:
    """A browser shows pictures, films and sounds, and never runs what a server made."""
    guessed = mimetypes.guess_type(filename)[0] or ""
    safe = guessed.startswith(("image/", "video/", "audio/")) and "svg" not in guessed
    return {
        "Content-Type": guessed if safe else "application/octet-stream",
        "Content-Disposition": "inline" if safe else "attachment",
        "X-Content-Type-Options": "nosniff",
    }


def history_of(jobs: Sequence[Job], root: str) -> Json:
    """By id, as ComfyUI's own."""
    return {job.id: _entry(job, root) for job in jobs}


def _entry(job: Job, root: str) -> Json:
    outputs: dict[str, Json] = {}
    for number, file in enumerate(job.outputs):
        node = outputs.setdefault(file.node_id, {"images": []})
        node["images"].append(_image(job, number, file, root))
    return {
        "workflow": job.request.workflow,
        "prompt": job.request.text,
        "settings": dict(job.request.settings),
        "created_at": job.request.created_at.isoformat(),
        "outputs": outputs,
        "execution_time": job.seconds,
        "status": {
            "status_str": "success" if job.state is JobState.POSTED else job.state.word,
            "completed": job.state is JobState.POSTED,
            "messages": [job.note] if job.note else [],
        },
    }


def servers_of(servers: Mapping[str, Server]) -> list[Json]:
    return [
        {
            "name": name,
            "up": each.up,
            "version": each.version,
            "problem": None if each.problem is None else str(each.problem),
            "jobs": len(each.holding),
            "paused": each.paused,
        }
        for name, each in servers.items()
    ]


def queue_of(running: Sequence[Job], waiting: Sequence[Job], user_id: int) -> Json:
    """Other people's jobs have no id here."""

    def shown(job: Job, **more: object) -> Json:
        return {"prompt_id": job.id if job.request.user_id == user_id else None, **more}

    return {
        "queue_running": [shown(each, server=each.server) for each in running],
        "queue_pending": [
            shown(each, queue_position=place) for place, each in enumerate(waiting, 1)
        ],
    }
