"""How much of a workflow's controls is found, against labels that people made.

    uv run python -m benchmarks.discovery FOLDER/cases [--only TEXT]

`tests/data/labels.json` says of each graph what its positive and negative text, seed, size, steps,
files and outputs are; roles about which two careful people could differ are not scored. The cases
are those of `benchmarks.conversion`: the editor's file is converted, then looked into, as
`comfycord inspect --json` does. The other column is what most bots do: the first text node is the
prompt, the second the negative one, and settings are read off the first node of class KSampler.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.conversion import object_info
from comfy.graph import Graph, as_link, check_graph
from comfy.inspection import inspect
from comfy.workflow_file import Format, WorkflowFile, to_graph

LABELS = Path(__file__).parents[1] / "tests" / "data" / "labels.json"
GOAL = 0.95
ROLES = (
    "text", "negative", "seed", "steps", "cfg", "width", "height", "batch", "model", "lora",
    "image", "mask", "video", "audio", "outputs",
)  # fmt: skip
Found = dict[str, set[tuple[str, str]]]


def labelled(folder: Path, only: str = "") -> Iterator[tuple[str, WorkflowFile, Any, Any]]:
    """Name, file, what GET /object_info says, and the label, of every labelled graph."""
    for name, label in json.loads(LABELS.read_text("utf-8")).items():
        if only in name:
            file, info = _case(folder, name)
            yield name, file, info, label


def _case(folder: Path, name: str) -> tuple[WorkflowFile, Any]:
    if name.startswith("seed_"):
        path = folder.parents[1] / "seed" / "workflows" / f"{name.removeprefix('seed_')}.json"
        return WorkflowFile(Format.API, check_graph(json.loads(path.read_bytes()))), {}
    case = json.loads((folder / f"{name}.json").read_bytes())
    info = object_info(folder.parent, case["server"])
    return WorkflowFile(Format.EDITOR, editor=case["ui"]), info


def found_in(file: WorkflowFile, info: Any) -> Found:
    found: Found = {role: set() for role in ROLES}
    told = inspect(file, info).to_json()
    for each in told["parameters"]:
        found.setdefault(each["role"], set()).update((n, i) for n, i in each["targets"])
    found["outputs"] = {(each["node_id"], each["kind"]) for each in told["outputs"]}
    return found


def found_naively(graph: Graph) -> Found:
    found: Found = {role: set() for role in ROLES}
    texts = [n for n, node in graph.items() if "TextEncode" in node["class_type"]]
    for role, node_id in zip(("text", "negative"), texts, strict=False):
        found[role] = {(node_id, "text")}
    wanted = {
        "KSampler": ("seed", "steps", "cfg"),
        "EmptyLatentImage": ("width", "height", "batch_size"),
        "CheckpointLoaderSimple": ("ckpt_name",),
        "LoadImage": ("image",),
    }
    called = {"batch_size": "batch", "ckpt_name": "model"}
    for class_type, names in wanted.items():
        first = next((n for n, node in graph.items() if node["class_type"] == class_type), None)
        for name in names if first is not None else ():
            if as_link(graph[first]["inputs"].get(name)) is None:
                found[called.get(name, name)] = {(first, name)}
    found["outputs"] = {
        (n, "image") for n, node in graph.items() if node["class_type"] == "SaveImage"
    }
    return found


def expected(label: Any) -> Found:
    return {role: {(n, i) for n, i in label.get(role, ())} for role in ROLES}


def mixed_up(found: Found, wanted: Found) -> bool:
    """Words for one side would be written into the other's box."""
    positive, negative = wanted["text"] - wanted["negative"], wanted["negative"] - wanted["text"]
    return bool(found["text"] & negative or found["negative"] & positive)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("cases", type=Path)
    arguments.add_argument("--only", default="")
    chosen = arguments.parse_args()
    there, ours, naive = Counter[str](), Counter[str](), Counter[str]()
    mixed, naively_mixed, graphs = 0, 0, 0
    for name, file, info, label in labelled(chosen.cases, chosen.only):
        graphs += 1
        wanted, found = expected(label), found_in(file, info)
        guessed = found_naively(to_graph(file, info)[0])
        mixed += mixed_up(found, wanted)
        naively_mixed += mixed_up(guessed, wanted)
        for role in ROLES:
            if role in label.get("unsure", ()) or not (wanted[role] or found[role]):
                continue
            there[role] += 1
            # settings of later passes may be set along with the first one's
            along = role in ("steps", "cfg") and wanted[role] and wanted[role] <= found[role]
            right = found[role] == wanted[role] or along
            ours[role] += right
            naive[role] += guessed[role] == wanted[role]
            if not right:
                lacks, more = sorted(wanted[role] - found[role]), sorted(found[role] - wanted[role])
                print(f"{name}: {role} lacks {lacks}, has too {more}")
    print(f"\n{graphs} graphs, {sum(there.values())} labels\n")
    print(f"{'role':<10}{'labels':>8}{'found':>10}{'first nodes':>14}")
    for role in ROLES:
        if there[role]:
            shares = (f"{each[role] / there[role]:.1%}" for each in (ours, naive))
            print(f"{role:<10}{there[role]:>8}{next(shares):>10}{next(shares):>14}")
    total = sum(there.values())
    share = sum(ours.values()) / total
    print(f"{'all':<10}{total:>8}{share:>10.1%}{sum(naive.values()) / total:>14.1%}")
    print(f"{'positive and negative mixed up':<28}{mixed:>4}{naively_mixed:>10}")
    if share < GOAL or mixed:
        raise SystemExit(f"The goal is {GOAL:.0%} and no mix-up.")


if __name__ == "__main__":
    main()
