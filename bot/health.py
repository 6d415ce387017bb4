"""Is everything right? What `/test_comfy` and `comfycord check` tell, and the remedies."""

import asyncio
import ipaddress
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import aiohttp
import yarl

from bot.errors import describe
from comfy.client import ComfyClient
from comfy.errors import AccessDenied, NotComfyUI, ServerError
from comfy.graph import Graph
from comfy.library import Library
from comfy.nodes import NodeTypes, closest_model, missing_models, missing_nodes
from comfy.phrases import Phrase, say
from comfy.validation import complaints
from comfy.workflow import Workflow

# Before it LoadImage and others read any path on the server: CVE-2026-56673 and its kin.
SAFE_VERSION = (0, 28, 0)
_OLDEST = (0, 3, 45)  # gives no prompt the id that it was sent with before it
_SHOWN = 3  # problems of one workflow
_CONTAINER = (Path("/.dockerenv"), Path("/run/.containerenv"))


class Level(StrEnum):
    OK = "✓"
    WARNING = "!"
    FAILURE = "✗"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a report, in plain text: a sentence that tells what is so, then the remedy.

    *remedy*: given on its own where *text* holds names that people chose, dots and all.
    """

    level: Level
    text: str
    remedy: str = ""

    @property
    def line(self) -> str:
        return f"{self.text}. {self.remedy}" if self.remedy else self.text

    def to_json(self) -> dict[str, str]:
        text, remedy = self.text, self.remedy
        if not remedy and self.level is not Level.OK:
            text, _, remedy = text.partition(". ")
        return {"level": self.level.name.lower(), "text": text.rstrip("."), "remedy": remedy}


async def examine_server(client: ComfyClient, workflows: Mapping[str, Workflow]) -> list[Finding]:
    """HTTP, socket, version, devices, queue, and what each workflow would miss there."""
    try:
        began = time.perf_counter()
        stats = await client.system_stats()
        http = time.perf_counter() - began
        began = time.perf_counter()
        async with client.connect():
            socket = time.perf_counter() - began
        queue, nodes = await asyncio.gather(client.queue(), client.object_info())
    except ServerError as error:
        remedy = _remedy(error, client.url)
        return [
            Finding(Level.FAILURE, say("{problem}. {remedy}", problem=error.args[0], remedy=remedy))
        ]
    findings = [
        Finding(
            Level.OK,
            say(
                "{server} answers in {time}, its socket in {socket_time}",
                server=client.url,
                time=_ms(http),
                socket_time=_ms(socket),
            ),
        ),
        _version(stats.version),
    ]
    for device in stats.devices:
        total, free = device.vram_total / 2**30, device.vram_free / 2**30
        text = say(
            "{device}: {free} of {total} GiB free",
            device=device.name,
            free=f"{free:.1f}",
            total=f"{total:.1f}",
        )
        findings.append(Finding(Level.OK, text))
    running, waiting = len(queue.running), len(queue.pending)
    text = say("queue: {running} running, {waiting} waiting", running=running, waiting=waiting)
    findings.append(Finding(Level.OK, text))
    for each in sorted(workflows.values(), key=lambda w: w.name):
        findings += _workflow_findings(each, nodes)
    return findings


def open_secrets(path: Path) -> list[Finding]:
    """A file of secrets that other users of the machine can read."""
    if os.name != "posix" or not path.exists() or not path.stat().st_mode & 0o077:
        return []
    text = f"{path} can be read by others on this machine. Run `chmod 600 {path}`."
    return [Finding(Level.WARNING, text)]


def unreadable(path: Path) -> str | None:
    """Why a file of secrets cannot be read, in a sentence; none is needed."""
    try:
        path.read_text("utf-8-sig")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        return f"{path} is not UTF-8 text. Save it again as UTF-8."
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}. Make it a file of the bot's own user."
    return None


def library_findings(library: Library) -> list[Finding]:
    """What the workflows folder itself has to say."""
    mend = say(
        "Mend the file, or upload the workflow with `/workflow add`, which takes every format."
    )
    findings = []
    for name, complaint in library.problems.items():
        text = say("{file} {complaint}", file=name, complaint=complaint)
        findings.append(Finding(Level.WARNING, _with_remedy(text, mend)))
    folder = str(library.folder)
    if not library.folder.is_dir():
        text = say(
            "The workflows folder {folder} does not exist. Make it, or change the key.",
            folder=folder,
        )
        findings.append(Finding(Level.FAILURE, text))
    elif not library.workflows:
        text = say(
            "The workflows folder {folder} holds no workflow. "
            "Put an API-format export (*.json) into it.",
            folder=folder,
        )
        findings.append(Finding(Level.FAILURE, text))
    return findings


def examine_workflow(graph: Graph, nodes: NodeTypes) -> list[str]:
    """What keeps a server with these nodes from running it, in sentences; empty if nothing does."""
    if lacking := missing_nodes(graph, nodes):
        names = ", ".join(lacking)
        return [say("lacks the nodes {nodes}. Install them with ComfyUI-Manager.", nodes=names)]
    models = missing_models(graph, nodes)
    told: list[str] = []
    for value in dict.fromkeys(each.value for each in models):
        first = next(each for each in models if each.value == value)
        if closest := closest_model(first, graph, nodes):
            text = say(
                "lacks the file {file}. The closest is {closest}.", file=value, closest=closest
            )
        else:
            text = say(
                "lacks the file {file}. Download it into ComfyUI's models folder.", file=value
            )
        told.append(text)
    known = {(each.node_id, each.input) for each in models}
    told += [
        say("{complaint}.", complaint=describe(each, graph))
        for each in complaints(graph, nodes)
        if (each.node_id, each.input) not in known
    ]
    return told


def _workflow_findings(workflow: Workflow, nodes: NodeTypes) -> list[Finding]:
    name = workflow.name
    problems = examine_workflow(workflow.graph, nodes)
    if not problems:
        return [Finding(Level.OK, say("{workflow} can run", workflow=name))]
    correct = say("Correct it in ComfyUI and save the workflow again.")
    told = [
        say("{workflow}: {problems}", workflow=name, problems=_with_remedy(each, correct))
        for each in problems[:_SHOWN]
    ]
    if (more := len(problems) - _SHOWN) > 0:
        text = say(
            "{workflow}: and {number} more. `comfycord workflows` shows all.",
            workflow=name,
            number=more,
        )
        told.append(text)
    return [Finding(Level.WARNING, each) for each in told]


def _with_remedy(text: str, remedy: Phrase) -> str:
    """For a text of one sentence only."""
    return text if ". " in text else say("{one} {other}", one=text, other=remedy)


def _version(version: str) -> Finding:
    numbers = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", version)
    wanted = ".".join(str(part) for part in SAFE_VERSION)
    if numbers is None:
        text = say(
            "ComfyUI does not tell its version. Make sure that it is {wanted} or later.",
            wanted=wanted,
        )
        return Finding(Level.WARNING, text)
    parts = tuple(int(part or 0) for part in numbers.groups())
    if parts >= SAFE_VERSION:
        return Finding(Level.OK, f"ComfyUI {version}")
    if parts < _OLDEST:
        text = say(
            "ComfyUI {version} is too old for me. Update it to {wanted} or later.",
            version=version,
            wanted=wanted,
        )
        return Finding(Level.FAILURE, text)
    text = say(
        "ComfyUI {version} has known security holes. Update it to {wanted} or later.",
        version=version,
        wanted=wanted,
    )
    return Finding(Level.WARNING, text)


def _remedy(error: ServerError, url: str) -> Phrase:
    match error:
        case AccessDenied():
            return say("Set COMFYUI_TOKEN_<NAME> or COMFYUI_LOGIN_<NAME> in the environment.")
        case NotComfyUI():
            return say("Is the port right? Is there a path prefix, or a login page in front?")
    refused = isinstance(error.__cause__, aiohttp.ClientConnectorError)
    if refused and _is_loopback(host := str(yarl.URL(url).host)) and _in_container():
        return say(
            "In a container {host} is the container itself: write {server}, give the container "
            '`extra_hosts: ["host.docker.internal:host-gateway"]`, and start ComfyUI with '
            "`--listen`.",
            host=host,
            server=str(yarl.URL(url).with_host("host.docker.internal")),
        )
    return say(
        "Is ComfyUI running, and does {server} open in a browser on this machine?", server=url
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _in_container() -> bool:
    """Docker, Podman, and what else sets `container`, such as systemd-nspawn."""
    return "container" in os.environ or any(each.exists() for each in _CONTAINER)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
