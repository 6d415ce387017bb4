"""/workflow on a simulated Discord: what a moderator does, and what members then find."""

import asyncio
import json
import re
import shutil
from pathlib import Path

import pytest

from bot.jobs import JobState
from comfy.library import read_workflow
from comfy.workflow import Sidecar
from tests.fakes.comfyui import FakeComfyUI
from tests.simulated.lab import (
    PICTURE,
    WITH_SUBGRAPHS,
    Lab,
    json_file,
    opened,
    picture_file,
    txt2img,
    words,
)

# Add


async def test_an_api_file_is_added_reported_and_run(lab: Lab) -> None:
    told = await lab.manage("add", file=json_file(txt2img(steps=3), "Castle.json"))
    job = await lab.generated("Castle")

    assert told.startswith("### Castle is added\nIt came as API format: 7 nodes (2 CLIPTextEncode,")
    assert "makes image." in told
    assert "✅ local can run it." in told
    assert "**Found 11 controls**" in told
    assert "`prompt` · a lighthouse on a cliff" in told
    assert re.search(r"^`steps` · 3 · 1 to \d+$", told, re.MULTILINE)
    assert told.endswith("-# Try it: `/generate workflow:Castle`")
    assert job.state is JobState.POSTED
    assert job.request.graph["2"]["inputs"]["text"] == "a cat"


async def test_the_answer_to_an_upload_is_for_the_moderator_alone(lab: Lab) -> None:
    added = await lab.ask(lab.mod, "workflow add", file=json_file(PICTURE))
    refused = await lab.ask(lab.mod, "workflow add", file=("mine.json", b"{"))

    assert (added.ephemeral, refused.ephemeral) == (True, True)


async def test_an_editors_file_with_subgraphs_is_added_reported_and_run(lab: Lab) -> None:
    told = await lab.manage("add", file=json_file(WITH_SUBGRAPHS), name="with subgraphs")
    job = await lab.generated("with subgraphs", negative="a dog")

    assert told.startswith("### with subgraphs is added\nIt came as the editor's format: 7 nodes")
    assert "`prompt` · a castle" in told
    assert "`negative` · blurry" in told
    assert job.state is JobState.POSTED
    assert job.request.graph["12:1"]["inputs"]["text"] == "a cat"
    assert job.request.graph["13:1"]["inputs"]["text"] == "a dog"


async def test_a_picture_is_added_reported_and_run(lab: Lab) -> None:
    upload = picture_file("still.png", prompt=txt2img(steps=3), workflow=WITH_SUBGRAPHS)

    told = await lab.manage("add", file=upload)
    job = await lab.generated("still")

    assert told.startswith("### still is added\nIt came as a picture: 7 nodes")
    assert "⚠️ The picture carries two versions that differ" in told
    assert job.state is JobState.POSTED
    assert job.request.graph["5"]["inputs"]["steps"] == 3


async def test_a_picture_with_the_editors_format_alone_is_converted(lab: Lab) -> None:
    told = await lab.manage("add", file=picture_file(workflow=WITH_SUBGRAPHS))

    assert told.startswith("### mine is added\nIt came as a picture: 7 nodes")
    assert (await lab.generated("mine")).state is JobState.POSTED


async def test_the_report_names_a_missing_node(lab: Lab) -> None:
    graph = {**PICTURE, "3": {"class_type": "MagicWand", "inputs": {"image": ["1", 0]}}}

    told = await lab.manage("add", file=json_file(graph))

    assert "❌ local: lacks the nodes MagicWand. Install them with ComfyUI-Manager." in told
    assert "can run it" not in told
    assert (lab.folder / "workflows/mine.json").exists()
    assert "mine" in await lab.completed(lab.alice, "generate", "workflow", "mine")


async def test_the_report_names_a_missing_file_and_the_closest_one(lab: Lab) -> None:
    graph = txt2img()
    graph["1"]["inputs"]["ckpt_name"] = "XL/sd_xl_base_1.0_0.9vae.safetensors"

    told = await lab.manage("add", file=json_file(graph))

    assert "❌ local: lacks the file XL/sd\\_xl\\_base\\_1.0\\_0.9vae.safetensors." in told
    assert "The closest is sd\\_xl\\_base\\_1.0.safetensors." in told


async def test_a_file_name_becomes_a_name_that_can_be_used(lab: Lab) -> None:
    told = await lab.manage("add", file=json_file(PICTURE, "my/.. *fox*? (v2).final.json"))

    (name,) = (
        lab.bot.library.workflows.keys() - {"flux", "img2img", "postcard", "txt2img"} - {"upscale"}
    )
    assert name == "fox (v2).final"
    assert told.endswith(f"`/generate workflow:{name}`")


# Replace, remove, rename, restore, export


async def test_a_name_that_is_taken_needs_replace_and_restore_undoes_it(lab: Lab) -> None:
    before = lab.files()

    refused = await lab.manage("add", file=json_file(PICTURE, "txt2img.json"))
    unchanged = lab.files()
    replaced = await lab.manage("add", file=json_file(PICTURE, "txt2img.json"), replace=True)
    as_replaced = lab.bot.library.workflows["txt2img"].graph
    restored = await lab.manage("restore", workflow="txt2img")

    assert refused == "There is a workflow named txt2img already. Set `replace`."
    assert unchanged == before
    assert "is replaced; `/workflow restore` undoes it" in replaced
    assert "⚠️ Its settings of " in replaced
    assert as_replaced == PICTURE
    assert restored.startswith("`txt2img` is again as it was <t:")
    now = lab.bot.library.workflows["txt2img"]
    assert now.graph == json.loads(before["txt2img.json"])
    assert now.sidecar == read_workflow(Path("workflows/txt2img.json").absolute()).sidecar


async def test_a_workflow_that_fits_keeps_its_settings_when_it_is_replaced(lab: Lab) -> None:
    told = await lab.manage("add", file=json_file(txt2img(steps=9), "txt2img.json"), replace=True)

    assert "did not fit" not in told
    assert re.search(r"^`steps` · 9 · 1 to 60$", told, re.MULTILINE)


async def test_a_broken_file_that_is_replaced_is_told_as_replaced(lab: Lab) -> None:
    (lab.folder / "workflows/postcard.json").write_text("{ broken")

    told = await lab.manage("add", file=json_file(PICTURE, "postcard.json"), replace=True)

    assert "is replaced; `/workflow restore` undoes it" in told
    (change,) = await lab.bot.store.changes("postcard", 1)
    assert change.action == "replace"


async def test_a_removed_workflow_is_gone_until_it_is_restored(lab: Lab) -> None:
    before = lab.files()

    removed = await lab.manage("remove", workflow="postcard")
    offered = await lab.completed(lab.alice, "generate", "workflow", "post")
    asked = await lab.told(lab.alice, "generate", prompt="a cat", workflow="postcard")
    earlier = await lab.completed(lab.mod, "workflow restore", "workflow", "POST")
    versions = await lab.completed(lab.mod, "workflow restore", "version", "", workflow="postcard")
    restored = await lab.manage("restore", workflow="postcard", version=versions[0])

    assert removed.startswith("`postcard` is gone.")
    assert offered == []
    assert asked == "There is no workflow named postcard. See /workflows."
    assert earlier == ["postcard"]
    assert len(versions) == 1
    assert "is again as it was" in restored
    after = lab.files()
    assert json.loads(after["postcard.json"]) == json.loads(before["postcard.json"])
    assert (await lab.generated("postcard")).state is JobState.POSTED


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"workflow": "txt2img"}, "There is no such earlier version of txt2img."),
        ({"workflow": "../../etc"}, "There is no such earlier version of ../../etc."),
        (
            {"workflow": "txt2img", "version": "yesterday"},
            "Choose a `version` from the list, or leave it out.",
        ),
    ],
    ids=["never replaced", "a path", "no moment"],
)
async def test_what_was_never_put_away_cannot_be_restored(
    lab: Lab, options: dict[str, str], expected: str
) -> None:
    before = lab.files()

    assert await lab.manage("restore", **options) == expected
    assert lab.files() == before


async def test_a_job_that_waits_runs_though_its_workflow_is_removed(
    lab: Lab, comfyui: FakeComfyUI
) -> None:
    comfyui.hold()
    await lab.told(lab.alice, "generate", prompt="a cat", workflow="postcard")
    await asyncio.wait_for(comfyui.held.wait(), 20)

    await lab.manage("remove", workflow="postcard")
    comfyui.finish()
    await asyncio.wait_for(asyncio.gather(*lab.bot.runner._following.values()), 20)

    (job,) = await lab.bot.store.recent(lab.alice.id, 1)
    assert job.state is JobState.POSTED


async def test_a_renamed_workflow_keeps_settings_defaults_and_earlier_versions(lab: Lab) -> None:
    await lab.manage("add", file=json_file(txt2img(steps=9), "txt2img.json"), replace=True)
    await lab.manage("hide", workflow="txt2img", parameter="cfg")
    await lab.manage("default", workflow="txt2img")

    told = await lab.manage("rename", workflow="txt2img", name="Pictures (XL)")
    job = await lab.generated()
    restored = await lab.manage("restore", workflow="Pictures (XL)")

    assert told == "`txt2img` is now `Pictures (XL)`."
    assert job.request.workflow == "Pictures (XL)"
    assert "cfg" not in job.request.settings
    assert "is again as it was" in restored
    assert not [name for name in lab.files() if "txt2img" in name]


async def test_an_export_gives_files_that_load(lab: Lab, tmp_path: Path) -> None:
    await lab.manage("limit", workflow="txt2img", parameter="steps", max=12.0, default="8")
    answer = await lab.ask(lab.mod, "workflow export", workflow="txt2img")
    plain = await lab.manage("add", file=json_file(PICTURE))
    alone = await lab.ask(lab.mod, "workflow export", workflow="mine")

    folder = tmp_path / "exported"
    folder.mkdir()
    for each in answer.attachments:
        (folder / each.filename).write_bytes(await each.read())
    exported = read_workflow(folder / "txt2img.json")
    assert exported.graph == lab.bot.library.workflows["txt2img"].graph
    assert exported.sidecar == lab.bot.library.workflows["txt2img"].sidecar
    assert exported.sidecar.parameters["steps"].default == 8
    assert answer.ephemeral
    assert "added" in plain
    assert [each.filename for each in alone.attachments] == ["mine.json"]


# What the log says


async def test_show_tells_the_graph_the_controls_and_who_changed_what(lab: Lab) -> None:
    await lab.manage("limit", workflow="txt2img", parameter="steps", max=12.0)
    await lab.manage("hide", workflow="txt2img", parameter="cfg")
    await lab.manage("describe", workflow="txt2img", title="Pictures")
    await lab.manage("disable", workflow="txt2img")
    await lab.manage("disable", workflow="txt2img")

    shown = await lab.manage("show", workflow="txt2img")

    head, _, rest = shown.partition("**Changes**\n")
    log, _, controls = rest.partition("**Controls**\n")
    assert head.startswith("### Pictures\n`txt2img` is **off**, for everybody, everywhere.")
    assert "7 nodes (2 CLIPTextEncode" in head
    assert "✅ local can run it." in head
    assert re.search(r"^`cfg` · 7.0 · 1 to 20 · hidden$", controls, re.MULTILINE)
    entries = re.findall(r"^<t:\d+:R> <@(\d+)> (\w+)\n-# (.*)$", log, re.MULTILINE)
    assert entries == [
        (str(lab.mod.id), "disable", "enabled: true → false"),
        (str(lab.mod.id), "describe", "title: Text to picture → Pictures"),
        (str(lab.mod.id), "hide", "parameters.cfg.hidden: false → true"),
        (str(lab.mod.id), "limit", "parameters.steps.max: 60 → 12"),
    ]


async def test_show_tells_of_uploads_and_earlier_versions(lab: Lab) -> None:
    await lab.manage("add", file=json_file(PICTURE))
    await lab.manage("add", file=json_file(txt2img(), "mine.json"), replace=True)

    shown = await lab.manage("show", workflow="mine")

    assert "-# 1 earlier version for `/workflow restore`" in shown
    assert re.search(r"replace\n-# graph: 2 nodes, \w{8} → 7 nodes, \w{8}\n", shown)
    assert re.search(r"add\n-# graph: 2 nodes, \w{8}\n\*\*Controls\*\*\n", shown)


async def test_test_tells_whether_each_server_could_run_it(lab: Lab, comfyui: FakeComfyUI) -> None:
    good = await lab.manage("test", workflow="txt2img")
    bad = await lab.manage("test", workflow="flux")

    assert good == "### Test of Text to picture\n✅ local can run it."
    assert "❌ local: lacks the file" in bad
    assert ("POST", "/prompt") not in comfyui.requests


# A restart


async def test_changes_survive_a_restart_of_the_bot(tmp_path: Path, comfyui: FakeComfyUI) -> None:
    async with opened(tmp_path, comfyui.url) as lab:
        await lab.manage("add", file=json_file(txt2img()), name="mine")
        await lab.manage("hide", workflow="mine", parameter="cfg")
        await lab.manage("limit", workflow="mine", parameter="steps", max=12.0, default="8")
        await lab.manage("remove", workflow="postcard")
        await lab.manage("default", workflow="mine")
        files, guild_id = lab.files(), lab.guild.id

    async with opened(tmp_path, comfyui.url) as lab:
        assert lab.files() == files
        shown = await lab.manage("show", workflow="mine")
        assert await lab.completed(lab.mod, "workflow restore", "workflow", "") == ["postcard"]
        assert await lab.bot.store.default_workflow(guild_id, None) == "mine"
        assert (await lab.generated("mine")).request.graph["5"]["inputs"]["steps"] == 8
    assert re.search(r"^`cfg` · .* · hidden$", shown, re.MULTILINE)
    assert re.findall(r"^<t:.*> (\w+)$", shown, re.MULTILINE) == ["default", "limit", "hide", "add"]


async def test_a_folder_copied_to_another_bot_says_the_same(lab: Lab, tmp_path: Path) -> None:
    await lab.manage("describe", workflow="postcard", title="Größe 🐈")

    shutil.copytree(lab.folder / "workflows", tmp_path / "copy")

    assert read_workflow(tmp_path / "copy/postcard.json").title == "Größe 🐈"
    assert words(await lab.ask(lab.alice, "workflows")).count("Größe 🐈") == 1
    assert lab.bot.library.workflows["postcard"].sidecar != Sidecar()
