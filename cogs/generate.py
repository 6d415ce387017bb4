"""/generate: run a workflow and post the pictures here."""

import discord
from discord import app_commands
from discord.ext import commands

from bot.app import Comfycord
from bot.wishes import Wish
from cogs.asking import ask_for_each
from cogs.presets import complete_preset, find_preset
from cogs.transformers import (
    Interaction,
    WorkflowOption,
    complete_model,
    complete_node,
    complete_settings,
)

_LONG = app_commands.Range[str, 1, 6000]


class Generate(commands.Cog):
    def __init__(self, bot: Comfycord) -> None:
        self.bot = bot

    @app_commands.command()
    @app_commands.describe(
        workflow="What to run; /workflows shows them all",
        prompt="What the picture should show",
        negative="What it should not show",
        seed="The same seed and settings give the same picture; left out, it is random",
        steps="More steps take longer",
        cfg="How strictly the prompt is followed",
        width="Width in pixels",
        height="Height in pixels",
        batch="How many pictures",
        model="Another model of the same kind",
        image="The picture to begin from, where a workflow takes one",
        strength="How far the result may leave that picture: 0 to 1",
        node="The text node that gets the prompt, where a workflow has several",
        settings="Any other parameter: name=value name=value",
        overrides='Inputs by node: {"6": {"inputs": {"text": "a cat"}}}',
        image_2="A second picture",
        mask="A picture whose transparent part is painted anew",
        video="The video to begin from",
        audio="The sound to begin from",
        private="Only you see it",
        preset="Settings that you kept, or a code that somebody gave you",
    )
    @app_commands.autocomplete(
        model=complete_model,
        node=complete_node,
        settings=complete_settings,
        preset=complete_preset,
    )
    async def generate(
        self,
        interaction: Interaction,
        workflow: WorkflowOption | None = None,
        prompt: _LONG | None = None,
        negative: _LONG | None = None,
        seed: app_commands.Range[str, 1, 20] | None = None,
        steps: int | None = None,
        cfg: float | None = None,
        width: int | None = None,
        height: int | None = None,
        batch: int | None = None,
        model: str | None = None,
        image: discord.Attachment | None = None,
        strength: float | None = None,
        node: str | None = None,
        settings: _LONG | None = None,
        overrides: _LONG | None = None,
        image_2: discord.Attachment | None = None,
        mask: discord.Attachment | None = None,
        video: discord.Attachment | None = None,
        audio: discord.Attachment | None = None,
        private: bool = False,
        preset: str | None = None,
    ) -> None:
        """Run a workflow and post the pictures here."""
        values = {
            "negative": negative,
            "seed": seed,
            "steps": steps,
            "cfg": cfg,
            "width": width,
            "height": height,
            "batch": batch,
            "model": model,
            "strength": strength,
        }
        wish = Wish(
            workflow=workflow.name if workflow else "",
            prompt=prompt,
            node=node,
            values={name: value for name, value in values.items() if value is not None},
            settings=settings,
            overrides=overrides,
            private=private,
        )
        if preset is not None:
            wish = wish.based_on(await find_preset(interaction, preset))
        files = {"image": image, "image_2": image_2, "mask": mask, "video": video, "audio": audio}
        await ask_for_each(interaction, wish, files)


async def setup(bot: Comfycord) -> None:
    await bot.add_cog(Generate(bot))
