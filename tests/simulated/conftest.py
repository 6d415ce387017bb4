"""Fixtures of the tests on the simulated Discord."""

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from comfy.standin import Pace
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.hearing import HearingComfyUI
from tests.simulated.bad import FORBIDDING, TAKING, WITH_REGEX, is_a_refusal, sent, warnings
from tests.simulated.lab import Lab, opened, words


@pytest.fixture
async def comfyui() -> AsyncIterator[FakeComfyUI]:
    async with FakeComfyUI(pace=Pace(0, 0)) as server:
        yield server


@pytest.fixture
async def lab(tmp_path: Path, comfyui: FakeComfyUI) -> AsyncIterator[Lab]:
    async with opened(tmp_path, comfyui.url) as lab:
        yield lab


# One for all tests of a file: where everything is refused, nothing changes.


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hearing() -> AsyncIterator[HearingComfyUI]:
    async with HearingComfyUI() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(
    tmp_path_factory: pytest.TempPathFactory, hearing: HearingComfyUI
) -> AsyncIterator[Lab]:
    async with opened(tmp_path_factory.mktemp("lab"), hearing.url, limits=FORBIDDING) as lab:
        for name, graph in (("regex", WITH_REGEX), ("taking", TAKING)):
            (lab.folder / f"workflows/{name}.json").write_text(json.dumps(graph))
        await lab.bot.library.refresh()
        yield lab


@pytest.fixture
def refused(
    shared: Lab, hearing: HearingComfyUI, caplog: pytest.LogCaptureFixture
) -> Callable[..., Awaitable[tuple[Any, str]]]:
    """Asks, and gives what the person is told: one sentence, of which ComfyUI, the channel's other
    messages, the database and the log know nothing."""

    async def ask(who: Any, **options: Any) -> tuple[Any, str]:
        asked = {"workflow": "txt2img", "prompt": "a cat", **options}
        before = sent(hearing), await shared.bot.store.recent(who.id, 50)
        with caplog.at_level(logging.WARNING):
            response = await shared.ask(who, "generate", **asked)
        told = words(response)
        assert is_a_refusal(told), told
        assert (sent(hearing), await shared.bot.store.recent(who.id, 50)) == before
        assert warnings(caplog) == []
        return response, told

    return ask
