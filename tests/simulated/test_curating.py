"""/workflow: what members may set, who may use a workflow, and what runs by default."""

import json
import re

import pytest

from bot.jobs import JobState
from tests.simulated.lab import Lab, json_file

# What members may set


async def test_a_hidden_parameter_is_neither_offered_nor_taken(lab: Lab) -> None:
    offered = await lab.completed(lab.alice, "generate", "settings", "c", workflow="txt2img")

    told = await lab.manage("hide", workflow="txt2img", parameter="cfg")

    assert "cfg=" in offered
    assert told == "`cfg` of `txt2img` is hidden."
    now = await lab.completed(lab.alice, "generate", "settings", "c", workflow="txt2img")
    assert "cfg=" not in now
    for wish in (
        {"settings": "cfg=3"},
        {"cfg": 3.0},
        {"overrides": '{"5": {"inputs": {"cfg": 3}}}'},
    ):
        text = await lab.told(lab.alice, "generate", prompt="a cat", workflow="txt2img", **wish)
        assert "cfg" in text
        assert "Queued" not in text
    detail = await lab.told(lab.alice, "workflows", workflow="txt2img")
    assert "`steps`" in detail
    assert "`cfg`" not in detail


async def test_a_hidden_prompt_is_refused_and_can_be_exposed_again(lab: Lab) -> None:
    hidden = await lab.manage("hide", workflow="txt2img", parameter="prompt")
    refused = await lab.told(lab.alice, "generate", prompt="a cat", workflow="txt2img")
    again = await lab.manage("expose", workflow="txt2img", parameter="prompt")
    job = await lab.generated("txt2img")

    assert hidden == "`prompt` of `txt2img` is hidden."
    assert refused == "*Text to picture* takes no prompt: its text is fixed."
    assert again == "Members can set `prompt` of `txt2img`."
    assert job.request.text == "a cat"


async def test_a_new_parameter_is_offered_checked_and_used(lab: Lab) -> None:
    told = await lab.manage("expose", workflow="txt2img", parameter="detail", target="5.denoise")

    assert told == "Members can set `detail` of `txt2img`."
    assert "detail=" in await lab.completed(
        lab.alice, "generate", "settings", "det", workflow="txt2img"
    )
    wrong = await lab.told(lab.alice, "generate", workflow="txt2img", settings="detail=7")
    job = await lab.generated("txt2img", settings="detail=0.5")
    assert "`detail` must be between 0" in wrong
    assert job.request.graph["5"]["inputs"]["denoise"] == 0.5


async def test_a_limit_is_told_and_kept(lab: Lab) -> None:
    told = await lab.manage(
        "limit", workflow="txt2img", parameter="steps", min=2.0, max=12.0, default="8"
    )
    refused = await lab.told(lab.alice, "generate", prompt="a cat", workflow="txt2img", steps=13)
    job = await lab.generated("txt2img")

    assert told == "`steps` · 8 · 2 to 12"
    assert refused == "`steps` must be between 2 and 12, not 13."
    assert job.request.graph["5"]["inputs"]["steps"] == 8
    cleared = await lab.manage("limit", workflow="txt2img", parameter="steps")
    assert cleared.startswith("`steps` · 25 · 1 to ")


async def test_a_limit_without_a_default_holds_for_what_nobody_sets(lab: Lab) -> None:
    await lab.manage("limit", workflow="txt2img", parameter="steps", max=12.0)

    job = await lab.generated("txt2img")

    assert job.request.graph["5"]["inputs"]["steps"] <= 12


async def test_a_fraction_can_be_the_default_of_a_whole_number_in_the_file(lab: Lab) -> None:
    graph = json.loads((lab.folder / "workflows/txt2img.json").read_text())
    graph["5"]["inputs"]["cfg"] = 8  # as the editor writes 8.0
    await lab.manage("add", file=json_file(graph))

    told = await lab.manage("limit", workflow="mine", parameter="cfg", default="7.5")

    assert told.startswith("`cfg` · 7.5 · ")


@pytest.mark.parametrize(
    ("subcommand", "options", "expected"),
    [
        ("hide", {"parameter": "magic"}, "txt2img has no parameter `magic`. It has: `prompt`,"),
        ("expose", {"parameter": "cfg"}, "`cfg` is open already."),
        ("expose", {"parameter": "folder", "target": "7.filename_prefix"}, "7.filename_prefix may"),
        ("expose", {"parameter": "size", "target": "4.width"}, ""),
        ("limit", {"parameter": "steps", "min": 9.0, "max": 3.0}, "The smallest value (9) is abo"),
        ("limit", {"parameter": "prompt", "max": 3.0}, "`prompt` is no number"),
        ("limit", {"parameter": "steps", "default": "99"}, "`steps` must be between 1 and 60"),
        ("describe", {}, "Give a `title`, a `description`, or both."),
        ("describe", {"title": "x" * 101}, "A title has at most 100 characters."),
        ("rename", {"name": "postcard"}, "There is a workflow named postcard already."),
        ("rename", {"name": "POSTCARD"}, "There is a workflow named postcard; only its"),
        ("rename", {"name": "../x"}, ""),
    ],
    ids=["unknown", "open", "denied", "needed name", "crossed", "range of a text",
         "default", "nothing", "title", "taken", "twin", "path"],
)  # fmt: skip
async def test_what_cannot_be_is_refused_in_a_sentence_and_changes_nothing(
    lab: Lab, subcommand: str, options: dict[str, object], expected: str
) -> None:
    before = lab.files()

    told = await lab.manage(subcommand, workflow="txt2img", **options)

    assert told.startswith(expected)
    assert re.fullmatch(r"\S[^\n]*\.", told)
    assert "went wrong on our side" not in told
    assert lab.files() == before
    assert await lab.bot.store.changes("txt2img", 1) == []


async def test_the_picture_of_a_workflow_cannot_be_named_by_a_default(lab: Lab) -> None:
    await lab.manage("limit", workflow="upscale", parameter="image", default="../../etc/passwd")

    workflow = lab.bot.library.workflows["upscale"]
    assert workflow.parameters({})["image"].default == "example.png"


async def test_a_description_is_what_members_read(lab: Lab) -> None:
    await lab.manage("describe", workflow="txt2img", title="Castles", description="Paints **one**")
    await lab.manage("describe", workflow="txt2img", parameter="cfg", description="How strict")

    listed = await lab.told(lab.alice, "workflows")
    detail = await lab.told(lab.alice, "workflows", workflow="txt2img")

    assert "**Castles** · `txt2img` · ready\nPaints \\*\\*one\\*\\*" in listed
    assert re.search(r"^`cfg` · .* · How strict$", detail, re.MULTILINE)


async def test_parameters_and_targets_are_completed(lab: Lab) -> None:
    await lab.manage("hide", workflow="txt2img", parameter="cfg")

    async def offered(command: str, option: str, typed: str) -> list[str]:
        return await lab.completed(
            lab.mod, f"workflow {command}", option, typed, workflow="txt2img"
        )

    assert await offered("hide", "parameter", "PROM") == ["prompt"]
    assert await offered("hide", "parameter", "cfg") == []
    assert await offered("expose", "parameter", "") == ["cfg"]
    assert "cfg" in await offered("limit", "parameter", "")
    assert await offered("expose", "target", "denoise") == ["5.denoise"]
    assert await offered("expose", "target", "filename") == []


# Who and where


async def test_a_role_decides_who_may_use_a_workflow(lab: Lab) -> None:
    role = lab.guild.create_role("Painters")

    told = await lab.manage("allow", workflow="postcard", role=role)

    assert told == f"`postcard`: for <@&{role.id}>, everywhere."
    refused = await lab.told(lab.alice, "generate", prompt="a cat", workflow="postcard")
    assert refused == f"postcard is only for <@&{role.id}>."
    assert await lab.completed(lab.alice, "generate", "workflow", "post") == []
    assert "postcard" not in await lab.told(lab.alice, "workflows")
    assert await lab.completed(lab.mod, "workflow show", "workflow", "post") == ["postcard"]
    opened = await lab.manage("allow", workflow="postcard")
    assert opened == "`postcard`: for everybody, everywhere."
    assert (await lab.generated("postcard")).state is JobState.POSTED


async def test_a_member_with_the_role_may_use_the_workflow(lab: Lab) -> None:
    role = lab.guild.create_role("Painters")
    painter = lab.guild.add_member(lab.env.create_user("painter"), roles=[role])
    await lab.manage("allow", workflow="postcard", role=role)

    told = await lab.told(painter, "generate", prompt="a cat", workflow="postcard")

    assert "Queued" in told
    assert await lab.completed(painter, "generate", "workflow", "post") == ["postcard"]


async def test_a_channel_decides_where_a_workflow_works(lab: Lab) -> None:
    studio = lab.guild.create_text_channel("studio")

    told = await lab.manage("allow", workflow="postcard", channel=studio)

    wish = {"prompt": "a cat", "workflow": "postcard"}
    here = await lab.told(lab.alice, "generate", **wish)
    there = await lab.told(lab.alice, "generate", at=studio, **wish)
    assert told == f"`postcard`: for everybody, in <#{studio.id}>."
    assert here == f"postcard works only in <#{studio.id}>."
    assert "Queued" in there


async def test_a_workflow_that_is_off_is_not_offered_and_loses_nothing(lab: Lab) -> None:
    before = lab.files()

    off = await lab.manage("disable", workflow="postcard")
    offered = await lab.completed(lab.alice, "generate", "workflow", "post")
    refused = await lab.told(lab.alice, "generate", prompt="a cat", workflow="postcard")
    on = await lab.manage("enable", workflow="postcard")

    assert off == "`postcard` is off. Jobs that wait still run."
    assert offered == []
    assert refused == "postcard is switched off. A moderator can switch it on again."
    assert on == "`postcard` can be used."
    assert lab.bot.library.workflows["postcard"].sidecar.enabled
    assert lab.files()["postcard.json"] == before["postcard.json"]


# What runs by default


async def test_a_channels_default_comes_before_the_servers(lab: Lab) -> None:
    studio = lab.guild.create_text_channel("studio")
    assert (await lab.generated()).request.workflow == "txt2img"

    server = await lab.manage("default", workflow="postcard")
    channel = await lab.manage("default", workflow="img2img", channel=studio)

    assert server == "This server runs `postcard` when nobody names a workflow."
    assert channel == f"<#{studio.id}> runs `img2img` when nobody names a workflow."
    assert (await lab.generated()).request.workflow == "postcard"
    assert (await lab.generated(at=studio)).request.workflow == "img2img"
    await lab.manage("default", channel=studio)
    assert (await lab.generated(at=studio)).request.workflow == "postcard"
    cleared = await lab.manage("default")
    assert "no default of its own" in cleared
    assert (await lab.generated()).request.workflow == "txt2img"


async def test_the_default_decides_what_is_completed(lab: Lab) -> None:
    await lab.manage("expose", workflow="postcard", parameter="paper", target="3.color")
    await lab.manage("default", workflow="postcard")

    assert await lab.completed(lab.alice, "generate", "settings", "pap") == ["paper="]


async def test_a_default_that_cannot_be_used_is_passed_over(lab: Lab) -> None:
    await lab.manage("default", workflow="postcard")

    await lab.manage("disable", workflow="postcard")
    while_off = await lab.generated()
    await lab.manage("enable", workflow="postcard")
    await lab.manage("remove", workflow="postcard")
    while_gone = await lab.generated()
    await lab.manage("restore", workflow="postcard")
    again = await lab.generated()

    assert while_off.request.workflow == while_gone.request.workflow == "txt2img"
    assert again.request.workflow == "postcard"


async def test_show_tells_who_made_a_workflow_the_default(lab: Lab) -> None:
    await lab.manage("default", workflow="postcard", channel=lab.channel)
    await lab.manage("default", workflow="txt2img", channel=lab.channel)

    shown = await lab.manage("show", workflow="txt2img")

    assert f"<@{lab.mod.id}> default\n-# default in {lab.channel.id}: postcard → txt2img" in shown
