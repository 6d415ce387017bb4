"""The command line as a person has it: what is typed, printed, and the exit code."""

import asyncio
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from bot.__main__ import main

VARIABLES = (
    "DISCORD_TOKEN", "COMFYCORD_DISCORD_API", "COMFYUI_BASE_URL", "DATABASE_URL",
    "COMFYUI_TOKEN_LOCAL", "COMFYUI_LOGIN_LOCAL",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


class Shell:
    """A terminal in an empty folder."""

    def __init__(self, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._patch = patch

    def run(self, *arguments: str) -> Outcome:
        self._patch.setattr(sys, "argv", ["comfycord", *arguments])
        code: Any = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        out, err = self._capsys.readouterr()
        assert "Traceback" not in err
        return Outcome(code or 0, out, err)

    async def runs(self, *arguments: str) -> Outcome:
        """While the servers of the test answer."""
        return await asyncio.to_thread(self.run, *arguments)
