"""A server of a simulated Discord, with a member, a moderator, and the bot over a stand-in."""

import asyncio
import io
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import discord
import simcord
from PIL import Image, PngImagePlugin

from bot import demo
from bot.app import Comfycord
from bot.config import Config, Secrets, ServerSettings
from bot.jobs import Job
from tests.comfy.editor_files import OUTSIDE, From, file, node, subgraph

ROOT = Path(__file__).parents[2]
PICTURE: dict[str, Any] = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 32, "batch_size": 1, "color": 255},
    },
    "2": {"class_type": "SaveImage", "inputs": {"filename_prefix": "card", "images": ["1", 0]}},
}
_PROMOTED = {"proxyWidgets": [["1", "text"]]}
WITH_SUBGRAPHS = file(
    node(4, "CheckpointLoaderSimple", ["sd_xl_base_1.0.safetensors"]),
    node(5, "EmptyLatentImage", [64, 64, 1]),
    node(12, "words", ["a castle"], clip=From(4, 1, "CLIP"), properties=_PROMOTED),
    node(13, "words", ["blurry"], clip=From(4, 1, "CLIP"), properties=_PROMOTED),
    node(
        3,
        "KSampler",
        [42, "randomize", 20, 7.5, "euler", "karras", 1],
        model=From(4),
        positive=From(12),
        negative=From(13),
        latent_image=From(5),
    ),
    node(8, "VAEDecode", samples=From(3), vae=From(4, 2)),
    node(9, "SaveImage", ["mine"], images=From(8)),
    subgraphs=[
        subgraph(
            "words",
            node(1, "CLIPTextEncode", ["a castle"], clip=From(OUTSIDE, 0, "CLIP")),
            inputs=["clip"],
            outputs=[From(1, 0, "CONDITIONING")],
        )
    ],
)


def json_file(document: Any, name: str = "mine.json") -> tuple[str, bytes]:
    return name, json.dumps(document).encode()


def picture_file(name: str = "mine.png", **texts: Any) -> tuple[str, bytes]:
    """A PNG that carries these as ComfyUI writes them: `prompt`, `workflow`."""
    info = PngImagePlugin.PngInfo()
    for key, document in texts.items():
        info.add_text(key, json.dumps(document))
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG", pnginfo=info)
    return name, picture.getvalue()


def txt2img(**sampler: Any) -> Any:
    """The one that ships; *sampler*: inputs of its KSampler that differ."""
    graph = json.loads((ROOT / "workflows/txt2img.json").read_text())
    graph["5"]["inputs"].update(sampler)
    return graph


def a_config(url: str, folder: Path, **changes: Any) -> Config:
    settings = {
        "discord": {"shards": "0/1"},
        "servers": (ServerSettings(name="local", url=url),),
        "database": f"sqlite:///{folder}/test.db",
        "workflows": str(folder / "workflows"),
    }
    return Config.model_validate(settings | changes)


@dataclass
class Lab:
    bot: Comfycord
    env: simcord.Env
    guild: Any
    channel: Any
    alice: Any
    mod: Any
    bob: Any
    folder: Path

    async def ask(self, who: Any, name: str, /, *, at: Any = None, **options: Any) -> Any:
        """The answer to a command, once it says or holds something; *at*: another channel."""
        result = await who.slash(at or self.channel, name, **options)
        await until(lambda: answer_of(result))
        return result.response

    async def acknowledged(self) -> None:
        """An answer is shown a moment before its command has written its last row."""
        async with asyncio.timeout(20):
            while await self.bot.store.unacknowledged():  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def told(self, who: Any, name: str, /, **options: Any) -> str:
        """What the answer to a command says."""
        return words(await self.ask(who, name, **options))

    async def manage(self, subcommand: str, /, **options: Any) -> str:
        """What /workflow answers to the moderator."""
        return await self.told(self.mod, f"workflow {subcommand}", **options)

    async def generated(self, workflow: str | None = None, /, **options: Any) -> Job:
        """A job of Alice's, once it has ended; *workflow* None: nobody names one."""
        named = {"workflow": workflow} if workflow else {}
        told = await self.told(self.alice, "generate", prompt="a cat", **named, **options)
        assert "Queued" in told, told
        job: list[Job] = []

        async def ended() -> bool:
            job[:] = await self.bot.store.recent(self.alice.id, 1)
            return job[0].state.final and job[0].told

        async with asyncio.timeout(20):
            while not await ended():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return job[0]

    def member(self, name: str, **permissions: bool) -> Any:
        """One more person in the server, with a role of these permissions."""
        role = self.guild.create_role(name, permissions=discord.Permissions(**permissions))
        return self.guild.add_member(self.env.create_user(name), roles=[role])

    async def ended(self, who: Any, number: int = 1) -> list[Job]:
        """The jobs of a person, newest first, once there are *number* and all have ended."""
        jobs: list[Job] = []

        async def over() -> bool:
            jobs[:] = await self.bot.store.recent(who.id, 50)
            return len(jobs) >= number and all(each.state.final and each.told for each in jobs)

        async with asyncio.timeout(20):
            while not await over():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert len(jobs) == number
        return jobs

    def message(self, job: Job) -> Any:
        """The message of a job as it stands in the channel; None if it does not."""
        return self.message_by_id(job.message_id)

    def message_by_id(self, message_id: int | None) -> Any:
        return next((each for each in self.channel.history() if each.id == message_id), None)

    def lose(self, *pictures: discord.Attachment) -> None:
        """Discord serves them no more."""
        for each in pictures:
            del self.env.backend.cdn._blobs[each.url]

    async def press(self, who: Any, job: Job, action: str, *, on: Any = None) -> Any:
        """Click a button of the job's result, or of the message *on*, and what came of it."""
        message = on or self.message(job)
        return await who.click(message, custom_id=f"job:{job.id}:{action}")

    async def pressed(self, who: Any, job: Job, action: str, *, on: Any = None) -> str:
        """What the answer to a click says, once it says something."""
        return await self.said(await self.press(who, job, action, on=on))

    async def submit(self, who: Any, modal: Any, values: dict[str, str]) -> Any:
        """Send a modal; what *values* does not name stays as it was filled in."""
        return await who.submit_modal(modal, filled_in(modal) | values)

    async def said(self, result: Any) -> str:
        await until(lambda: told_by(result))
        return told_by(result)

    async def completed(self, who: Any, name: str, option: str, typed: str, **so: Any) -> list[str]:
        """The values that Discord offers while *typed* stands in *option*."""
        offered = await who.autocomplete(self.channel, name, option, typed, **so)
        return [each["value"] for each in offered]

    async def let(self, who: Any, command_name: str) -> None:
        """Discord's own settings allow it: only the bot can still refuse."""
        commands = await self.bot.tree.fetch_commands()
        command = next(each for each in commands if each.name == command_name)
        self.guild.set_command_permissions(command, {who: True})

    def files(self) -> dict[str, bytes]:
        """Everything below the workflows folder."""
        root = self.folder / "workflows"
        return {
            path.relative_to(root).as_posix(): path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }


@asynccontextmanager
async def opened(folder: Path, url: str, *, up: bool = True, **changes: Any) -> AsyncIterator[Lab]:
    """A bot in a server of its own; workflows and database are those of *folder*."""
    if not (folder / "workflows").exists():
        shutil.copytree(ROOT / "workflows", folder / "workflows")
    bot = Comfycord(a_config(url, folder, **changes), Secrets())
    async with demo.lively(bot) as env:
        guild = env.create_guild("Lab")
        channel = guild.create_text_channel("art")
        role = guild.create_role("Mods", permissions=discord.Permissions(manage_guild=True))
        alice = guild.add_member(env.create_user("alice"))
        bob = guild.add_member(env.create_user("bob"))
        mod = guild.add_member(env.create_user("mod"), roles=[role])
        if up:
            await asyncio.wait_for(bot.servers["local"].wait_up(), 20)
        yield Lab(bot, env, guild, channel, alice, mod, bob, folder)


def answer_of(result: Any) -> Any:
    found = result.response
    return found if found and (words(found).strip() or found.attachments) else None


def told_by(result: Any) -> str:
    """What an interaction said in a message of its own, the last one if there are several."""
    said = [words(each) for each in result.followups] or [words(each) for each in [result.response]]
    return said[-1].strip() if any(said) else ""


def filled_in(result: Any) -> dict[str, str]:
    """Field → value, of the modal that a click opened."""
    assert result.modal, told_by(result)
    parts = [each["component"] for each in result.modal["components"]]
    return {each["custom_id"]: each.get("value", "") for each in parts}


def words(message: Any) -> str:
    """Everything that a person reads in a response, or in a message of the channel."""
    if message is None:
        return ""
    found = [message.content or ""]

    def collect(components: list[dict[str, Any]]) -> None:
        for each in components:
            found.append(each.get("content") or each.get("label") or "")
            collect(each.get("components", []))

    collect([each if isinstance(each, dict) else each.to_dict() for each in message.components])
    return "\n".join(each for each in found if each)


async def until(condition: Callable[[], Any]) -> None:
    """The simulated Discord tells no event, so it is looked at."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
