"""What commands answer, with discord.py's own dispatch and permissions on a simulated Discord."""

import asyncio
import json
import re
import shutil
import sys

import pytest
import simcord
import simcord.interactions

from bot import demo
from bot.errors import ConfigError
from tests.fakes.comfyui import FakeComfyUI
from tests.simulated.lab import Lab, until, words


async def test_workflows_lists_what_there_is(lab: Lab) -> None:
    result = await lab.alice.slash(lab.channel, "workflows")

    text = words(result.response)
    assert "**Postcard** · `postcard` · ready" in text
    assert "Hills under a round sun" in text


async def test_workflows_shows_one_in_detail(lab: Lab) -> None:
    result = await lab.alice.slash(lab.channel, "workflows", workflow="txt2img")

    text = words(result.response)
    assert "`prompt`" in text
    assert re.search(r"`steps` · 25 · 1 to 60", text)
    assert "Runs on: local" in text


async def test_workflows_says_to_moderators_what_is_wrong_with_a_file(lab: Lab) -> None:
    (lab.folder / "workflows/broken.json").write_text("{")
    await lab.bot.library.refresh()

    told = await lab.mod.slash(lab.channel, "workflows")
    untold = await lab.alice.slash(lab.channel, "workflows")

    assert "broken.json ends too early" in words(told.response)
    assert "broken" not in words(untold.response)


async def test_many_workflows_come_in_pages(lab: Lab) -> None:
    source = lab.folder / "workflows/postcard.json"
    for number in range(20):
        shutil.copy(source, lab.folder / f"workflows/card{number:02}.json")
    await lab.bot.library.refresh()

    first = await lab.alice.slash(lab.channel, "workflows")
    first_page = words(first.response)
    second = await lab.alice.click(first.response, custom_id="workflows:1")

    assert first_page.startswith("### Workflows\n**card00**")
    assert "Page 2" in first_page
    assert "card00" not in words(second.response)
    assert "Page 1" in words(second.response)
    assert "Page 3" in words(second.response)


async def test_an_empty_folder_is_said_to_be_empty(lab: Lab) -> None:
    for path in (lab.folder / "workflows").iterdir():
        path.unlink()
    await lab.bot.library.refresh()

    listed = await lab.alice.slash(lab.channel, "workflows")
    asked = await lab.alice.slash(lab.channel, "generate", prompt="a cat")

    assert "There are none for you here yet" in words(listed.response)
    assert "no workflows for you here yet" in words(asked.response)


async def test_workflows_are_completed_by_name_and_title(lab: Lab) -> None:
    by_name = await lab.alice.autocomplete(lab.channel, "generate", "workflow", "post")
    by_title = await lab.alice.autocomplete(lab.channel, "generate", "workflow", "Repaint")

    assert [each["value"] for each in by_name] == ["postcard"]
    assert [each["value"] for each in by_title] == ["img2img"]


async def test_models_are_completed_from_the_server(lab: Lab) -> None:
    choices = await lab.alice.autocomplete(
        lab.channel, "generate", "model", "xl", workflow="txt2img"
    )

    assert [each["value"] for each in choices] == ["sd_xl_base_1.0.safetensors"]


async def test_text_nodes_are_completed_with_their_titles(lab: Lab) -> None:
    choices = await lab.alice.autocomplete(
        lab.channel, "generate", "node", "neg", workflow="txt2img"
    )

    assert [(each["name"], each["value"]) for each in choices] == [("3: Negative prompt", "3")]


async def test_nothing_is_completed_without_workflows(lab: Lab) -> None:
    for path in (lab.folder / "workflows").iterdir():
        path.unlink()
    await lab.bot.library.refresh()

    models = await lab.alice.autocomplete(lab.channel, "generate", "model", "x")
    nodes = await lab.alice.autocomplete(lab.channel, "generate", "node", "x")

    assert models == nodes == []


async def test_status_shows_the_way_of_a_job(lab: Lab, comfyui: FakeComfyUI) -> None:
    nothing = await lab.alice.slash(lab.channel, "status")
    comfyui.hold()
    await lab.alice.slash(lab.channel, "generate", workflow="postcard", prompt="a cat")
    await asyncio.wait_for(comfyui.held.wait(), 20)
    (job,) = await lab.bot.store.recent(lab.alice.id, 1)

    running = await lab.alice.slash(lab.channel, "status", job=job.short_id)
    comfyui.finish()
    await asyncio.wait_for(asyncio.gather(*lab.bot.runner._following.values()), 20)
    completed = await lab.alice.slash(lab.channel, "status")
    choices = await lab.alice.autocomplete(lab.channel, "status", "job", "cat")

    assert "You have no jobs yet" in words(nothing.response)
    assert re.search(r"running|pending", words(running.response))
    assert re.search(r"completed in \d+\.\d s", words(completed.response))
    assert [each["value"] for each in choices] == [job.short_id]


async def test_status_of_somebody_elses_job_is_not_told(lab: Lab) -> None:
    await lab.alice.slash(lab.channel, "generate", workflow="postcard", prompt="a secret")
    (job,) = await lab.bot.store.recent(lab.alice.id, 1)

    result = await lab.mod.slash(lab.channel, "status", job=job.short_id)

    assert "You have no job" in words(result.response)


async def test_a_waiting_job_knows_its_place(lab: Lab, comfyui: FakeComfyUI) -> None:
    comfyui.hold()
    for _ in range(4):
        await lab.alice.slash(lab.channel, "generate", workflow="postcard", prompt="a cat")
    await lab.acknowledged()

    result = await lab.alice.slash(lab.channel, "status")

    assert "pending, 2nd in line" in words(result.response)


async def test_test_comfy_reports_server_workflows_and_permissions(lab: Lab) -> None:
    (lab.folder / "workflows/broken.json").write_text("{}")
    await lab.bot.library.refresh()

    result = await lab.mod.slash(lab.channel, "test_comfy")

    await until(lambda: "postcard can run" in words(result.response))
    text = words(result.response)
    assert "I may post pictures here" in text
    assert "answers in" in text
    assert "has known security holes" in text
    assert "broken.json holds no nodes" in text


async def test_test_comfy_knows_its_servers(lab: Lab) -> None:
    wrong = await lab.mod.slash(lab.channel, "test_comfy", server="nosuch")
    choices = await lab.mod.autocomplete(lab.channel, "test_comfy", "server", "lo")

    assert "There is no server named nosuch. There is: local." in words(wrong.response)
    assert [each["value"] for each in choices] == ["local"]


async def test_test_comfy_is_hidden_from_members_and_refused_at_execution(lab: Lab) -> None:
    with pytest.raises(simcord.SetupError, match="default-member-permissions"):
        await lab.alice.slash(lab.channel, "test_comfy")
    commands = await lab.bot.tree.fetch_commands()
    command = next(each for each in commands if each.name == "test_comfy")
    lab.guild.set_command_permissions(command, {lab.alice: True})

    result = await lab.alice.slash(lab.channel, "test_comfy")

    assert "You need the permission Manage Server for this." in words(result.response)


async def test_an_unexpected_error_is_said_to_be_ours(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["cogs.workflows"], "overview", lambda *_: 1 / 0)

    result = await lab.alice.slash(lab.channel, "workflows")

    assert "Something went wrong on our side" in words(result.response)


async def test_a_workflow_that_changes_on_disk_changes_for_members(lab: Lab) -> None:
    path = lab.folder / "workflows/txt2img.json"
    graph = json.loads(path.read_text())
    graph["5"]["inputs"]["steps"] = 33
    path.write_text(json.dumps(graph))
    await lab.bot.library.refresh()

    result = await lab.alice.slash(lab.channel, "workflows", workflow="txt2img")

    assert "`steps` · 33" in words(result.response)


@pytest.fixture
def english_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo says to the whole process which language people speak."""
    monkeypatch.setattr(simcord.interactions, "base_payload", simcord.interactions.base_payload)


async def demo_says(capsys: pytest.CaptureFixture[str], server: str | None) -> str:
    """All that it prints before people type."""
    running = asyncio.create_task(demo.run_demo(server, None, "en-US", open_browser=False))
    text = ""

    def printed() -> bool:
        nonlocal text
        text += capsys.readouterr().out
        return "Type first" in text

    await until(printed)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return text


@pytest.mark.usefixtures("english_again")
async def test_the_demo_serves_its_page_and_says_what_to_type(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = await demo_says(capsys, None)

    assert re.search(r"The demo is at http://127\.0\.0\.1:\d+/#", text)
    assert "/generate" in text


@pytest.mark.usefixtures("english_again")
async def test_the_demo_wants_an_address_with_a_scheme() -> None:
    with pytest.raises(ConfigError, match="needs http:// or https:// in front"):
        await demo.run_demo("localhost:8188", None, "en-US", open_browser=False)


@pytest.mark.usefixtures("english_again")
async def test_the_demo_says_when_its_server_does_not_answer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_ACKNOWLEDGE", 0.2)

    text = await demo_says(capsys, "http://127.0.0.1:9")

    assert "No ComfyUI answers at http://127.0.0.1:9 yet" in text
