"""Every official template: read, converted and looked into, without a crash and quickly.

    uv run --with comfyui-workflow-templates-json python -m benchmarks.templates OBJECT_INFO

OBJECT_INFO is what `GET /object_info` of a ComfyUI answered, saved in a file (.json or .json.gz).
The limit beside each time is 100 ms for one template.
"""

import argparse
import gzip
import importlib.util
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

from comfy.errors import ComfyError
from comfy.inspection import inspect
from comfy.workflow_file import read

GOAL = 0.100
PACKAGE = "comfyui_workflow_templates_json"


def load(path: Path) -> Any:
    data = path.read_bytes()
    return json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)


def templates() -> list[Path]:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("Install comfyui-workflow-templates-json, or run it with uv as above.")
    folder = Path(spec.submodule_search_locations[0])
    return sorted(
        path for path in folder.rglob("*.json") if b'"nodes"' in path.read_bytes()
    )  # index files lie beside them


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("object_info", type=Path)
    info = load(arguments.parse_args().object_info)
    took: list[float] = []
    converted = lacking = refused = with_text = 0
    slowest = ""
    for path in templates():
        began = time.perf_counter()
        try:
            inspection = inspect(read(path.read_bytes()), info)
        except ComfyError as error:
            refused += 1
            print(f"{path.stem}: {error}")
            continue
        took.append(time.perf_counter() - began)
        slowest = path.stem if took[-1] == max(took) else slowest
        if inspection.missing_nodes:
            lacking += 1
        else:
            converted += 1
            with_text += any(each.role == "text" for each in inspection.found.parameters.values())
    print(f"{'templates':<32}{len(took) + refused:>8}")
    print(f"{'converted and looked into':<32}{converted:>8}")
    print(f"{'  with a text to set':<32}{with_text:>8}")
    print(f"{'name nodes that are not there':<32}{lacking:>8}")
    print(f"{'refused':<32}{refused:>8}")
    print(f"{'median':<32}{median(took) * 1000:>5.1f} ms{'limit':>10} {GOAL * 1000:.0f} ms")
    print(f"{'slowest':<32}{max(took) * 1000:>5.1f} ms  {slowest}")
    if refused or max(took) > GOAL:
        raise SystemExit("A template was refused or took too long.")


if __name__ == "__main__":
    main()
