"""Is everything right? What `/test_comfy` and `comfycord check` tell, and the remedies."""

import asyncio
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import reduce
from pathlib import Path

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


class Level(StrEnum):
    OK = "✓"
    WARNING = "!"
    FAILURE = "✗"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a report, in plain text."""

    level: Level
    text: str


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
    return findings + [
        _workflow_finding(each, nodes) for each in sorted(workflows.values(), key=lambda w: w.name)
    ]


def open_secrets(path: Path) -> list[Finding]:
    """A file of secrets that other users of the machine can read."""
    if os.name != "posix" or not path.exists() or not path.stat().st_mode & 0o077:
        return []
    text = say("{file} can be read by others on this machine: chmod 600 {file}", file=str(path))
    return [Finding(Level.WARNING, text)]


def library_findings(library: Library) -> list[Finding]:
    """What the workflows folder itself has to say."""
    findings = [
        Finding(Level.WARNING, say("{file} {complaint}", file=name, complaint=text))
        for name, text in library.problems.items()
    ]
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


def _workflow_finding(workflow: Workflow, nodes: NodeTypes) -> Finding:
    if problems := examine_workflow(workflow.graph, nodes):
        told = problems[:3]
        if len(problems) > 3:
            told.append(say("And {number} more.", number=len(problems) - 3))
        text = say(
            "{workflow}: {problems}", workflow=workflow.name, problems=reduce(_followed, told)
        )
        return Finding(Level.WARNING, text)
    return Finding(Level.OK, say("{workflow} can run", workflow=workflow.name))


def _followed(one: str, other: str) -> str:
    return say("{one} {other}", one=one, other=other)


def _version(version: str) -> Finding:
    numbers = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", version)
    wanted = ".".join(str(part) for part in SAFE_VERSION)
    if numbers is None:
        text = say("ComfyUI does not tell its version; {wanted} is safe", wanted=wanted)
        return Finding(Level.WARNING, text)
    if tuple(int(part or 0) for part in numbers.groups()) >= SAFE_VERSION:
        return Finding(Level.OK, f"ComfyUI {version}")
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
    return say(
        "Is ComfyUI running, and does {server} open in a browser on this machine?", server=url
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
