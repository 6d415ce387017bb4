"""Is everything right? What `/test_comfy` and `comfycord check` tell, and the remedies."""

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from bot.errors import describe
from comfy.client import ComfyClient
from comfy.errors import AccessDenied, NotComfyUI, ServerError
from comfy.graph import Graph
from comfy.library import Library
from comfy.nodes import NodeTypes, closest_model, missing_models, missing_nodes
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
        return [Finding(Level.FAILURE, f"{error}. {_remedy(error, client.url)}")]
    findings = [
        Finding(Level.OK, f"{client.url} answers in {_ms(http)}, its socket in {_ms(socket)}"),
        _version(stats.version),
    ]
    for device in stats.devices:
        total, free = device.vram_total / 2**30, device.vram_free / 2**30
        findings.append(Finding(Level.OK, f"{device.name}: {free:.1f} of {total:.1f} GiB free"))
    findings.append(
        Finding(Level.OK, f"queue: {len(queue.running)} running, {len(queue.pending)} waiting")
    )
    return findings + [
        _workflow_finding(each, nodes) for each in sorted(workflows.values(), key=lambda w: w.name)
    ]


def library_findings(library: Library) -> list[Finding]:
    """What the workflows folder itself has to say."""
    problems = library.problems.items()
    findings = [Finding(Level.WARNING, f"{name} {text}") for name, text in problems]
    if not library.folder.is_dir():
        text = f"The workflows folder {library.folder} does not exist. Make it, or change the key."
        findings.append(Finding(Level.FAILURE, text))
    elif not library.workflows:
        remedy = "Put an API-format export (*.json) into it."
        text = f"The workflows folder {library.folder} holds no workflow. {remedy}"
        findings.append(Finding(Level.FAILURE, text))
    return findings


def examine_workflow(graph: Graph, nodes: NodeTypes) -> list[str]:
    """What keeps a server with these nodes from running it, in sentences; empty if nothing does."""
    if lacking := missing_nodes(graph, nodes):
        return [f"lacks the nodes {', '.join(lacking)}. Install them with ComfyUI-Manager."]
    models = missing_models(graph, nodes)
    told = []
    for value in dict.fromkeys(each.value for each in models):
        first = next(each for each in models if each.value == value)
        closest = closest_model(first, graph, nodes)
        remedy = (
            f"The closest is {closest}." if closest else "Download it into ComfyUI's models folder."
        )
        told.append(f"lacks the file {value}. {remedy}")
    known = {(each.node_id, each.input) for each in models}
    told += [
        f"{describe(each, graph)}."
        for each in complaints(graph, nodes)
        if (each.node_id, each.input) not in known
    ]
    return told


def _workflow_finding(workflow: Workflow, nodes: NodeTypes) -> Finding:
    if problems := examine_workflow(workflow.graph, nodes):
        more = f" And {len(problems) - 3} more." if len(problems) > 3 else ""
        return Finding(Level.WARNING, f"{workflow.name}: {' '.join(problems[:3])}{more}")
    return Finding(Level.OK, f"{workflow.name} can run")


def _version(version: str) -> Finding:
    numbers = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", version)
    wanted = ".".join(str(part) for part in SAFE_VERSION)
    if numbers is None:
        return Finding(Level.WARNING, f"ComfyUI does not tell its version; {wanted} is safe")
    if tuple(int(part or 0) for part in numbers.groups()) >= SAFE_VERSION:
        return Finding(Level.OK, f"ComfyUI {version}")
    return Finding(
        Level.WARNING,
        f"ComfyUI {version} has known security holes. Update it to {wanted} or later.",
    )


def _remedy(error: ServerError, url: str) -> str:
    match error:
        case AccessDenied():
            return "Set COMFYUI_TOKEN_<NAME> or COMFYUI_LOGIN_<NAME> in the environment."
        case NotComfyUI():
            return "Is the port right? Is there a path prefix, or a login page in front?"
    return f"Is ComfyUI running, and does {url} open in a browser on this machine?"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
