"""/generate from the command to what stands in the channel."""

import itertools
import json
import shutil

import discord
import pytest
from PIL import Image

from bot.delivery import Delivery
from comfy.graph import Graph
from tests.discord.conftest import World, text_of
from tests.fakes.discord import Fault


def graph_of(world: World, number: int = -1) -> Graph:
    """What ComfyUI was asked to run."""
    entries = list(world.comfyui.queue.history.values())
    return entries[number]["prompt"][2]


async def test_a_command_becomes_a_posted_picture(world: World) -> None:
    await world.start()

    interaction = await world.generate(seed="7")
    files = await world.posted(interaction)

    (data,) = files.values()
    assert data.startswith(b"\x89PNG")
    text = text_of(interaction.message)
    assert "a cat in the snow" in text
    assert "seed 7" in text
    assert "1024 x 704" in text
    assert "local" in text
    assert "Cancel" not in text


async def test_the_placeholder_says_the_place_in_line_and_can_be_cancelled(world: World) -> None:
    world.comfyui.hold()
    await world.start()

    texts = []
    for _ in range(4):
        interaction = await world.generate()
        texts.append(text_of(interaction.message))
        await world.commands_end()
        await world.until(lambda: len(world.bot.servers["local"].holding) == min(len(texts), 2))

    assert "Queued, 1st in line." in texts[0] or "on local" in texts[0]
    assert "Cancel" in texts[0]
    assert "Queued, 2nd in line." in texts[3]


async def test_options_reach_their_inputs(world: World) -> None:
    await world.start()

    interaction = await world.generate(
        workflow="txt2img", negative="dogs", seed="5", steps=3, cfg=2.5, width=512, height=768,
        batch=2, settings='sampler=euler scheduler="normal"',
    )  # fmt: skip
    files = await world.posted(interaction)

    graph = graph_of(world)
    assert graph["2"]["inputs"]["text"] == "a cat in the snow"
    assert graph["3"]["inputs"]["text"] == "dogs"
    assert graph["4"]["inputs"] == {"width": 512, "height": 768, "batch_size": 2}
    sampler = graph["5"]["inputs"]
    assert (sampler["seed"], sampler["steps"], sampler["cfg"]) == (5, 3, 2.5)
    assert (sampler["sampler_name"], sampler["scheduler"]) == ("euler", "normal")
    assert len(files) == 2


async def test_the_workflow_may_be_left_out(world: World) -> None:
    await world.start()

    interaction = world.discord.slash(world.alice, world.channel, "generate", prompt="a fox")
    await interaction.answered()
    await world.posted(interaction)

    assert "txt2img" in text_of(interaction.message)


async def test_overrides_set_several_nodes(world: World) -> None:
    await world.start()
    overrides = {"2": {"inputs": {"text": "a fox"}}, "3": {"inputs": {"text": "fog"}}}

    interaction = world.discord.slash(
        world.alice, world.channel, "generate", workflow="txt2img", overrides=json.dumps(overrides)
    )
    await world.posted(await interaction.answered())

    graph = graph_of(world)
    assert (graph["2"]["inputs"]["text"], graph["3"]["inputs"]["text"]) == ("a fox", "fog")


async def test_a_node_can_be_named_for_the_prompt(world: World) -> None:
    await world.start()

    await world.posted(await world.generate(workflow="txt2img", node="3"))

    assert graph_of(world)["3"]["inputs"]["text"] == "a cat in the snow"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"workflow": "nosuch"}, "There is no workflow named nosuch. See /workflows."),
        ({"node": "41"}, "Target node 41 is not a text input node"),
        ({"workflow": "upscale"}, "No suitable text input node found in workflow"),
        ({"width": 999999}, "`width` must be between 256 and 2048, not 999999."),
        ({"width": 2048, "height": 2048, "batch": 4}, "too large"),
        ({"steps": 3}, "has no `steps`"),
        ({"seed": "-1"}, "`seed` must be between 0"),
        ({"settings": "nonsense"}, "`settings` looks like"),
        ({"overrides": "{"}, "`overrides` is not valid JSON"),
        ({"overrides": '{"43": {"inputs": {"filename_prefix": "x"}}}'}, "cannot be set"),
        ({"prompt": "   "}, "The prompt is empty."),
    ],
)
async def test_a_wrong_option_is_answered_with_what_to_do(
    world: World, options: dict[str, object], words: str
) -> None:
    await world.start()

    interaction = await world.generate(**options)

    assert words in text_of(interaction.message)
    assert interaction.ephemeral
    assert world.comfyui.executed == []


async def test_moderators_may_override_undeclared_inputs_but_not_denied_ones(world: World) -> None:
    await world.start()

    refused = await world.generate(
        workflow="txt2img", overrides='{"5": {"inputs": {"denoise": 0.5}}}'
    )
    moderator = world.discord.slash(
        world.mod, world.channel, "generate", workflow="txt2img",
        overrides='{"5": {"inputs": {"denoise": 0.5}}}',
    )  # fmt: skip
    await world.posted(await moderator.answered())
    denied = world.discord.slash(
        world.mod, world.channel, "generate", workflow="txt2img",
        overrides='{"7": {"inputs": {"filename_prefix": "x"}}}',
    )  # fmt: skip
    await denied.answered()

    assert "cannot be set from Discord" in text_of(refused.message)
    assert graph_of(world)["5"]["inputs"]["denoise"] == 0.5
    assert "cannot be set from Discord" in text_of(denied.message)


async def test_in_one_of_several_servers_none_of_which_is_named_nobody_may(world: World) -> None:
    """Anybody could bring the bot to a server of their own."""
    elsewhere = world.discord.add_channel(world.discord.add_guild("Of their own"), "art")
    await world.start()

    asked = world.discord.slash(
        world.mod, elsewhere, "generate", workflow="txt2img",
        overrides='{"5": {"inputs": {"denoise": 0.5}}}',
    )  # fmt: skip
    await asked.answered()

    assert "cannot be set from Discord" in text_of(asked.message)


async def test_outputs_land_in_a_folder_of_the_job(world: World) -> None:
    await world.start()

    await world.posted(await world.generate())

    (job,) = await world.bot.store.recent(world.alice.id, 1)
    assert job.outputs[0].subfolder == f"comfycord/{job.id}"


async def test_more_than_ten_pictures_come_in_further_messages(world: World) -> None:
    graph = json.loads((world.folder / "workflows/txt2img.json").read_text())
    (world.folder / "workflows/many.json").write_text(json.dumps(graph))
    await world.start()

    interaction = await world.generate(workflow="many", batch=12, width=64, height=64, seed="1")
    await world.discord.until(lambda: len(world.discord.messages[world.channel.id]) == 2)

    first, second = world.discord.messages[world.channel.id]
    assert first["id"] == interaction.message_id
    assert len(world.discord.files_of(first)) == 10
    assert "part 1 of 2" in text_of(first)
    await world.discord.until(lambda: world.discord.files_of(second))
    assert len(world.discord.files_of(second)) == 2
    assert "part 2 of 2" in text_of(second)


async def test_a_picture_over_the_limit_is_said_to_be_too_large(world: World) -> None:
    world.comfyui.picture = b"\x89PNG" + bytes(11 * 2**20)
    await world.start()

    interaction = await world.generate()

    assert "(11.0 MB) is too large" in await world.told(interaction, "too large")


async def test_a_limit_that_only_discord_knew_is_told_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Delivery, "show_progress", lambda *_: None)
    too_large = {"code": 40005, "message": "Request entity too large"}
    world.discord.faults.append(Fault("PATCH", "/channels/*", status=413, json=too_large))
    await world.start()

    interaction = await world.generate()

    assert "is too large" in await world.told(interaction, "too large")


@pytest.mark.parametrize(
    ("message", "exception", "words"),
    [
        ("CUDA out of memory", "torch.OutOfMemoryError", "ran out of memory. Try a smaller size"),
        ("boom in /srv/comfyui/nodes.py", "RuntimeError", "failed. A moderator finds the reason"),
    ],
)
async def test_a_failed_run_is_told_without_server_paths(
    world: World, message: str, exception: str, words: str
) -> None:
    world.comfyui.fail(message, exception)
    await world.start()

    interaction = await world.generate()
    text = await world.told(interaction, "It did not work.")

    assert words in text
    assert "/srv" not in text


async def test_a_refused_value_names_the_input(world: World) -> None:
    graph = json.loads((world.folder / "workflows/txt2img.json").read_text())
    graph["5"]["inputs"]["sampler_name"] = "nonsense"
    (world.folder / "workflows/broken.json").write_text(json.dumps(graph))
    await world.start()

    interaction = await world.generate(workflow="broken")
    text = await world.told(interaction, "It did not work.")

    assert "`sampler_name`" in text
    assert "is not available on the server" in text


async def test_a_node_that_no_server_has_is_named_before_anything_is_sent(world: World) -> None:
    graph = json.loads((world.folder / "workflows/txt2img.json").read_text())
    graph["1"]["class_type"] = "MagicLoader"
    (world.folder / "workflows/magic.json").write_text(json.dumps(graph))
    await world.start()

    interaction = await world.generate(workflow="magic")

    assert "`MagicLoader`" in await world.told(interaction, "It did not work.")
    assert ("POST", "/prompt") not in world.comfyui.requests


async def test_a_workflow_of_words_only_posts_its_text(world: World) -> None:
    graph = {
        "1": {"class_type": "PrimitiveString", "inputs": {"value": "forty-two *stars*"}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }
    (world.folder / "workflows/words.json").write_text(json.dumps(graph))
    await world.start()

    interaction = world.discord.slash(world.alice, world.channel, "generate", workflow="words")
    text = await world.told(await interaction.answered(), "forty-two")

    assert r"forty-two \*stars\*" in text


async def test_missing_permissions_are_noticed_before_anything_runs(world: World) -> None:
    world.discord.app_permissions = discord.Permissions(view_channel=True, send_messages=True)
    await world.start()

    interaction = await world.generate()

    text = text_of(interaction.message)
    assert "Attach Files" in text
    assert "Send Messages" not in text
    assert world.comfyui.requests.count(("POST", "/prompt")) == 0


async def test_it_works_in_direct_messages(world: World) -> None:
    await world.start()
    channel = world.discord.dm(world.alice)

    interaction = world.discord.slash(
        world.alice, channel, "generate", workflow="postcard", prompt="hi"
    )
    files = await world.posted(await interaction.answered())

    assert len(files) == 1


async def test_without_any_server_the_command_says_so(world: World) -> None:
    await world.start(servers=())

    interaction = await world.generate()

    assert "No ComfyUI server is set up yet." in text_of(interaction.message)


async def test_nobody_has_more_than_their_share_of_jobs(world: World) -> None:
    world.comfyui.hold()
    await world.start(limits={"jobs_per_user": 2, "queue": 1000})

    for _ in range(2):
        await world.generate()
    third = await world.generate()

    assert "You have 2 jobs waiting or running, and 2 is the most." in text_of(third.message)


async def test_words_of_people_neither_ping_nor_format(world: World) -> None:
    await world.start()

    interaction = await world.generate(prompt="@everyone **loud** [safe](http://evil) <@&1>")
    await world.posted(interaction)

    text = text_of(interaction.message)
    assert "@everyone" not in text
    assert "**loud**" not in text
    assert "[safe](" not in text
    last = [r for r in world.discord.requests if r.method == "PATCH"][-1]
    assert last.json["allowed_mentions"] == {"parse": []}


async def test_progress_is_edited_in_at_most_once_in_a_while_and_the_picture_is_last(
    world: World,
) -> None:
    world.comfyui.pace = type(world.comfyui.pace)(node=0.01, step=0.1)
    await world.start()

    interaction = await world.generate(workflow="txt2img", steps=30)
    (name,) = await world.posted(interaction)

    edits = [r for r in world.discord.requests if r.method == "PATCH"]
    texts = [json.dumps(each.json, ensure_ascii=False) for each in edits]
    assert any("%" in text and "Sampling" in text for text in texts[:-1])
    assert any("attachment://preview.jpg" in text for text in texts[:-1])
    assert f"attachment://{name}" in texts[-1]
    assert list(world.discord.files_of(interaction.message)) == [name]
    starts = [each.at for each in edits[:-1]]
    assert all(later - before >= 1.4 for before, later in itertools.pairwise(starts))


async def test_the_picture_is_the_one_that_comfyui_made(world: World, tmp_path) -> None:  # type: ignore[no-untyped-def]
    await world.start()

    (data,) = (await world.posted(await world.generate(width=256, height=300))).values()
    path = tmp_path / "x.png"
    path.write_bytes(data)

    with Image.open(path) as picture:
        assert picture.size == (256, 300)


async def test_the_debug_log_shows_the_graph_and_the_request_without_secrets(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    graph = json.loads((world.folder / "workflows/postcard.json").read_text())
    graph["1"]["inputs"]["api_key"] = "sk-planted"
    (world.folder / "workflows/secret.json").write_text(json.dumps(graph))
    shutil.copy(world.folder / "workflows/postcard.yaml", world.folder / "workflows/secret.yaml")
    await world.start()

    with caplog.at_level("DEBUG", logger="bot.execution"):
        await world.posted(await world.generate(workflow="secret"))

    assert "=== Final Workflow JSON ===" in caplog.text
    assert "=== Request to ComfyUI ===" in caplog.text
    assert "a cat in the snow" in caplog.text
    assert "sk-planted" not in caplog.text
