"""The OpenAPI document is true: whatever is sent, what comes is what it says."""

import asyncio
import sys

import pytest

from tests.discord.conftest import World
from tests.discord.http_face import TOKENS, facing, started

pytest.importorskip("schemathesis", reason="the development group brings schemathesis")


async def test_whatever_is_sent_is_answered_as_the_document_says(world: World) -> None:
    root = await started(world, limits={"jobs_per_user": 100_000, "queue": 100_000})
    async with facing(root) as face:
        await face.over(await face.run())
        command = (
            sys.executable, "-m", "schemathesis.cli", "run", f"{root}/api/openapi.json",
            "--header", f"Authorization: Bearer {TOKENS['website']}",
            "--seed", "1", "--max-examples", "5", "--no-color",
                # What a workflow takes is not in the document: most values are rightly refused.
                "--exclude-checks", "positive_data_acceptance",
        )  # fmt: skip
        before = len(world.comfyui.executed)
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=world.folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        told, _ = await asyncio.wait_for(process.communicate(), 100)

        assert process.returncode == 0, told.decode()[-6000:]
        assert len(world.comfyui.executed) > before, "some of it ran"
