"""Whether a real ComfyUI takes what the conversion makes.

    uv run python -m benchmarks.validation FOLDER/cases --server URL [--only TEXT]

Every case whose node classes that server has is converted with the server's own `/object_info` and
sent to `POST /prompt`; what is accepted is taken back at once. Beside it stands what our own dry
run (`/workflow test`) said of the same graph. Files that the server lacks are no fault of a
conversion, and what the recorded frontend's own graph is refused for is not either.
"""

import argparse
import asyncio
import json
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp

from comfy.client import ComfyClient
from comfy.convert import convert
from comfy.errors import ConversionError, NodeError, PromptRefused
from comfy.graph import Graph
from comfy.nodes import missing_models, missing_nodes, parse_object_info
from comfy.validation import complaints

_FILES = {"value_not_in_list", "custom_validation_failed"}


async def server_says(client: ComfyClient, graph: Graph) -> tuple[str, list[NodeError]]:
    """A word, and the complaints that are not about files that the server lacks."""
    prompt_id = str(uuid.uuid4())
    try:
        await client.queue_prompt(graph, prompt_id, "benchmark")
    except PromptRefused as error:
        rest = [each for each in error.node_errors if each.kind not in _FILES]
        if error.kind == "prompt_no_outputs":
            return "no output node", []
        return ("refused" if rest or not error.node_errors else "accepted but for files"), rest
    await client.delete_queued(prompt_id)
    await client.interrupt(prompt_id)
    return "accepted", []


def we_say(graph: Graph, info: dict[str, Any]) -> str:
    nodes = parse_object_info(info)
    lacking = {(each.node_id, each.input) for each in missing_models(graph, nodes)}
    found = complaints(graph, nodes)
    rest = [each for each in found if (each.node_id, each.input) not in lacking]
    if any(each.kind == "prompt_no_outputs" for each in rest):
        return "no output node"
    if [each for each in rest if each.kind not in _FILES]:
        return "refused"
    return "accepted but for files" if found else "accepted"


async def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("cases", type=Path)
    arguments.add_argument("--server", required=True)
    arguments.add_argument("--only", default="")
    chosen = arguments.parse_args()
    words, agreed, skipped, faults = Counter[str](), 0, 0, 0
    async with aiohttp.ClientSession() as session:
        client = ComfyClient(chosen.server, session)
        info = await client.raw_object_info()
        for path in sorted(chosen.cases.glob("*.json")):
            if chosen.only not in path.name:
                continue
            case = json.loads(path.read_text("utf-8"))
            try:
                graph = convert(case["ui"], info)
            except ConversionError:
                skipped += 1
                continue
            word, rest = await server_says(client, graph)
            words[word] += 1
            ours = we_say(graph, info)
            # uploads that the server lacks cannot be seen in /object_info
            agreed += word.split(" but")[0] == ours.split(" but")[0]
            if word == "refused":
                api = case.get("api") or {}
                alike = (
                    missing_nodes(api, parse_object_info(info)) == []
                    and (await server_says(client, api))[0] == "refused"
                )
                faults += not alike
                told = "; ".join(f"{e.node_id}.{e.input} {e.kind}" for e in rest[:3])
                also = " (and so is what the frontend made of it)" if alike else ""
                print(f"{path.stem}: {told}{also}")
    print(f"\n{words.total()} converted cases sent to {chosen.server}; {skipped} need other nodes")
    for word, number in words.most_common():
        print(f"{word:<24}{number:>5}")
    print(f"our dry run agrees with{agreed:>6} of {words.total()}")
    if faults:
        raise SystemExit(f"{faults} were refused for what the conversion made of them.")


if __name__ == "__main__":
    asyncio.run(main())
