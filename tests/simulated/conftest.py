"""Fixtures of the tests on the simulated Discord."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from comfy.standin import Pace
from tests.fakes.comfyui import FakeComfyUI
from tests.simulated.lab import Lab, opened


@pytest.fixture
async def comfyui() -> AsyncIterator[FakeComfyUI]:
    async with FakeComfyUI(pace=Pace(0, 0)) as server:
        yield server


@pytest.fixture
async def lab(tmp_path: Path, comfyui: FakeComfyUI) -> AsyncIterator[Lab]:
    async with opened(tmp_path, comfyui.url) as lab:
        yield lab
