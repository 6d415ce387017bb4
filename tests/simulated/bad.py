"""What the tests of bad inputs have in common: workflows to ask for, and what counts as refused."""

import json
import re
from typing import Any

import pytest

from bot.jobs import Job, JobState
from tests.fakes.hearing import HearingComfyUI
from tests.simulated.lab import PICTURE, Lab, words

SMALL = {"width": 256, "height": 256, "steps": 1}  # painted in no time
FORBIDDING = {"blocked_words": ["forbidden"]}
NOT_OPEN = "cannot be set from Discord."
TAKING = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
    "2": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x", "images": ["1", 0]}},
}
WITH_REGEX = {
    **PICTURE,
    "9": {
        "class_type": "RegexMatch",
        "inputs": {"string": "a", "regex_pattern": "a", "mode": "Match"},
    },
}
_LEARNING = ("/ws", "/system_stats", "/object_info")  # what the bot asks by itself


def override(node: str, name: str, value: str) -> dict[str, str]:
    """As it is typed: *value* need not be JSON."""
    return {"overrides": f'{{"{node}": {{"inputs": {{{json.dumps(name)}: {value}}}}}}}'}


def sent(comfyui: HearingComfyUI) -> list[str]:
    """Whatever ComfyUI was asked or told because of somebody."""
    return [path for _, path, _ in comfyui.heard if path not in _LEARNING]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """But for the watchdog's: between two tests of a file the loop stands still."""
    return [each.getMessage() for each in caplog.records if each.name != "bot.watchdog"]


def is_a_refusal(text: str) -> bool:
    """One sentence, and none that tells of a bug."""
    return (
        re.fullmatch(r"\S[^\n]{10,1990}", text) is not None
        and "went wrong on our side" not in text
        and "Traceback" not in text
        and "Error" not in text
    )


async def made(lab: Lab, comfyui: HearingComfyUI, **options: Any) -> tuple[Job, Any, list[str]]:
    """The job, the graph that ComfyUI got, and what the channel read before and after."""
    known = len(await lab.bot.store.recent(lab.alice.id, 50))
    waiting = words(await lab.ask(lab.alice, "generate", **options))
    job = (await lab.ended(lab.alice, known + 1))[0]
    assert job.state is JobState.POSTED, job.note
    (_, _, body) = [each for each in comfyui.heard if each[:2] == ("POST", "/prompt")][-1]
    return job, body["prompt"], [waiting, words(lab.message(job))]
