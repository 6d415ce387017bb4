"""The question before several jobs, on the wire: clicked twice at once, and after a restart."""

from typing import Any

from tests.discord.conftest import World, text_of
from tests.fakes.discord import Interaction
from tests.fakes.discord_messages import walk

SMALL = {"width": 256, "height": 256}  # painted in no time


async def asked(world: World, prompt: str) -> tuple[Interaction, str]:
    """The question, and its button."""
    question = await world.generate(prompt=prompt, **SMALL)
    (button,) = [each for each in walk(question.message["components"]) if each["type"] == 2]
    return question, button["custom_id"]


def run(world: World, question: tuple[Interaction, str]) -> Interaction:
    interaction, button = question
    return world.discord.click(world.alice, interaction.message, button)


def placeholders(world: World) -> list[dict[str, Any]]:
    return world.discord.messages[world.channel.id]


async def results(world: World, number: int) -> list[str]:
    """The texts of the messages in the channel, once each of so many has a picture."""
    await world.discord.until(
        lambda: (
            len([each for each in placeholders(world) if world.discord.files_of(each)]) == number
        )
    )
    await world.jobs_end()
    assert len(await world.bot.store.recent(world.alice.id, 9)) == number
    return [text_of(each).splitlines()[1] for each in placeholders(world)]


async def test_two_clicks_at_once_run_the_jobs_once(world: World) -> None:
    await world.start()
    question = await asked(world, "{a|b}")

    first, second = run(world, question), run(world, question)
    await first.answered()
    await second.answered()

    assert await results(world, 2) == ["> a", "> b"]
    assert len(world.comfyui.queue.history) == 2


async def test_a_question_is_answered_by_the_next_process_too(world: World) -> None:
    await world.start()
    question = await asked(world, "{a|b|c}")
    await world.stop()
    await world.start()

    await run(world, question).answered()

    assert await results(world, 3) == ["> a", "> b", "> c"]


async def test_jobs_of_one_click_that_a_crash_interrupts_are_finished(world: World) -> None:
    world.comfyui.hold()
    await world.start()
    await run(world, await asked(world, "{a|b|c}")).answered()
    await world.discord.until(lambda: len(placeholders(world)) == 3)
    await world.commands_end()
    await world.stop()
    await world.start()

    world.comfyui.finish()

    assert await results(world, 3) == ["> a", "> b", "> c"]
