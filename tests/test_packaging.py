"""The wheel holds everything that an installed bot needs."""

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files in a wheel built from this checkout."""
    uv = os.environ.get("UV") or shutil.which("uv")
    assert uv, "uv is the one prerequisite: pip install uv"
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([uv, "build", "--wheel", "--quiet", "--out-dir", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_every_module_is_in_the_wheel(names: set[str]) -> None:
    for package in ("bot", "cogs", "comfy"):
        for path in (ROOT / package).rglob("*.py"):
            assert path.relative_to(ROOT).as_posix() in names


def test_config_and_workflows_ship_inside(names: set[str]) -> None:
    assert "bot/shipped/config.yaml" in names
    for path in (ROOT / "workflows").iterdir():
        assert f"bot/shipped/workflows/{path.name}" in names


def test_the_wheel_makes_comfy_no_regular_package(names: set[str]) -> None:
    assert "comfy/__init__.py" not in names


def test_nothing_else_lands_beside_other_packages(names: set[str]) -> None:
    tops = {name.split("/")[0] for name in names}

    assert {top for top in tops if not top.endswith(".dist-info")} == {"bot", "cogs", "comfy"}
