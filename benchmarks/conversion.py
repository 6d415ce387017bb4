"""How often a conversion equals what ComfyUI's own frontend queues.

    uv run python -m benchmarks.conversion FOLDER/cases [--only TEXT]

Each case is a JSON file with `ui` (the editor's file), `api` (the frontend's answer; `api_alt`, if
another version of it answers otherwise) or `refuse` (node classes that the server lacks), and
`server`: the name of `object_info-NAME.json.gz` beside the folder.
"""

import argparse
import gzip
import json
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from comfy.convert import convert
from comfy.errors import ConversionError
from comfy.graph import as_link

Json = dict[str, Any]
GOAL = 0.99


@cache
def object_info(folder: Path, name: str) -> Json:
    return json.loads(gzip.decompress((folder / f"object_info-{name}.json.gz").read_bytes()))


def same(one: Any, other: Any, kind: Any = None) -> bool:
    """Equal as the server reads them: 1 is 1.0, and whole numbers beyond 2**53 are doubles."""
    match one, other:
        case list(), list():
            return len(one) == len(other) and all(map(same, one, other))
        case dict(), dict():
            return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
        case (bool(), _) | (_, bool()):
            return one is other
        case (int() | float(), int() | float()):
            return float(one) == float(other)
    if kind in ("INT", "FLOAT"):
        try:
            return float(one) == float(other)
        except (TypeError, ValueError):
            return False
    return bool(one == other)


def differences(expected: Json, got: Json, info: Json) -> Iterator[str]:
    for node_id in sorted(expected.keys() ^ got.keys()):
        yield f"node {node_id} is {'missing' if node_id in expected else 'too many'}"
    for node_id in expected.keys() & got.keys():
        one, other = expected[node_id], got[node_id]
        if one["class_type"] != other["class_type"]:
            yield f"{node_id}: {one['class_type']} became {other['class_type']}"
            continue
        inputs = (info.get(one["class_type"]) or {}).get("input") or {}
        declared = {**(inputs.get("required") or {}), **(inputs.get("optional") or {})}
        for name in sorted(one["inputs"].keys() | other["inputs"].keys()):
            wanted, found = one["inputs"].get(name), other["inputs"].get(name)
            spec = declared.get(name.split(".")[0])
            unread = spec is None and as_link(wanted) is None and as_link(found) is None
            kind = spec[0] if spec and isinstance(spec[0], str) else None
            if not unread and kind != "IMAGECOMPARE" and not same(wanted, found, kind):
                yield f"{node_id}.{name}: {str(wanted)[:40]!r} became {str(found)[:40]!r}"


def shape(graph: Json) -> Counter[str]:
    """A graph without its ids: equal for graphs that differ in the numbers of inner nodes only."""
    return Counter(
        json.dumps(
            [node["class_type"], sorted(
                (name, "link" if as_link(value) else str(value))
                for name, value in node["inputs"].items()
            )]
        )
        for node in graph.values()
    )  # fmt: skip


def verdict(case: Json, info: Json) -> tuple[str, str]:
    """`equal`, `same graph` (other inner numbers) or `differs`, and why."""
    try:
        got = convert(case["ui"], info)
    except ConversionError as error:
        refused = set(error.missing) == set(case.get("refuse", ()))
        return ("equal", "") if refused and error.missing else ("differs", str(error))
    if "refuse" in case:
        return "differs", f"did not refuse {case['refuse']}"
    answers = [case["api"], *([case["api_alt"]] if "api_alt" in case else [])]
    found = min((list(differences(each, got, info)) for each in answers), key=len)
    if not found:
        return "equal", ""
    for node in got.values():
        node.pop("_meta", None)
    if any(shape(each) == shape(got) for each in answers):
        return "same graph", found[0]
    return "differs", "; ".join(found[:2])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("cases", type=Path)
    arguments.add_argument("--only", default="")
    chosen = arguments.parse_args()
    groups: dict[str, Counter[str]] = {}
    slowest = 0.0
    for path in sorted(chosen.cases.glob("*.json")):
        if chosen.only in path.name:
            case = json.loads(path.read_text("utf-8"))
            info = object_info(chosen.cases.parent, case["server"])
            began = time.perf_counter()
            word, reason = verdict(case, info)
            slowest = max(slowest, time.perf_counter() - began)
            groups.setdefault(case["group"], Counter())[word] += 1
            if word != "equal":
                print(f"{path.stem}: {word}: {reason}")
    total: Counter[str] = sum(groups.values(), Counter())
    print(f"{'':<18}{'equal':>7}{'same graph':>12}{'differs':>9}")
    for name, each in [*sorted(groups.items()), ("all", total)]:
        print(f"{name:<18}{each['equal']:>7}{each['same graph']:>12}{each['differs']:>9}")
    share = total["equal"] / max(total.total(), 1)
    print(f"equal: {share:.2%} (goal: {GOAL:.0%}); slowest case {slowest * 1000:.0f} ms")


if __name__ == "__main__":
    main()
