"""Who may manage the workflows: asked at every execution, whatever Discord's settings page says."""

import discord
import pytest
import simcord

from tests.fakes.comfyui import FakeComfyUI
from tests.simulated.lab import PICTURE, Lab, json_file, words

UPLOAD = {"file": json_file(PICTURE)}
SUBCOMMANDS = {
    "add": UPLOAD,
    "show": {"workflow": "txt2img"},
    "rename": {"workflow": "txt2img", "name": "mine"},
    "remove": {"workflow": "txt2img"},
    "restore": {"workflow": "upscale"},
    "export": {"workflow": "txt2img"},
    "enable": {"workflow": "postcard"},
    "disable": {"workflow": "txt2img"},
    "default": {"workflow": "txt2img"},
    "describe": {"workflow": "txt2img", "title": "Mine"},
    "expose": {"workflow": "txt2img", "parameter": "detail", "target": "5.denoise"},
    "hide": {"workflow": "txt2img", "parameter": "cfg"},
    "limit": {"workflow": "txt2img", "parameter": "steps", "max": 9.0},
    "allow": {"workflow": "txt2img"},
    "test": {"workflow": "txt2img"},
}
WHOSE = (
    "Workflows are shared by all Discord servers I am in, so the owner must say whose moderators "
    "manage them: `discord.guilds` in config.yaml."
)


async def test_the_list_of_subcommands_is_complete(lab: Lab) -> None:
    (group,) = (each for each in lab.bot.tree.get_commands() if each.name == "workflow")

    assert {each.name for each in group.commands} == set(SUBCOMMANDS)  # type: ignore[union-attr]
    assert group.to_dict(lab.bot.tree)["default_member_permissions"] == 0x20
    assert group.guild_only


@pytest.mark.parametrize("subcommand", SUBCOMMANDS)
async def test_a_member_is_refused_at_every_subcommand(lab: Lab, subcommand: str) -> None:
    await lab.manage("disable", workflow="postcard")
    await lab.manage("remove", workflow="upscale")
    with pytest.raises(simcord.SetupError, match="default-member-permissions"):
        await lab.alice.slash(lab.channel, f"workflow {subcommand}", **SUBCOMMANDS[subcommand])
    await lab.let(lab.alice, "workflow")
    files = lab.files()

    told = await lab.told(lab.alice, f"workflow {subcommand}", **SUBCOMMANDS[subcommand])

    assert told == "You need the permission Manage Server for this."
    assert lab.files() == files
    assert await lab.bot.store.changes("txt2img", 1) == []
    assert await lab.bot.store.default_workflow(lab.guild.id, None) is None


@pytest.mark.parametrize("subcommand", SUBCOMMANDS)
async def test_a_moderator_is_refused_nothing(lab: Lab, subcommand: str) -> None:
    await lab.manage("disable", workflow="postcard")
    await lab.manage("remove", workflow="upscale")

    answer = await lab.ask(lab.mod, f"workflow {subcommand}", **SUBCOMMANDS[subcommand])

    assert answer.attachments or not words(answer).startswith("You need")
    assert "went wrong" not in words(answer)
    assert answer.ephemeral


@pytest.mark.parametrize(
    ("command", "option", "filled"),
    [
        ("show", "workflow", {}),
        ("restore", "workflow", {}),
        ("hide", "parameter", {"workflow": "txt2img"}),
        ("expose", "target", {"workflow": "txt2img"}),
    ],
    ids=["workflows", "earlier ones", "parameters", "values in the graph"],
)
async def test_a_member_is_offered_nothing_while_typing(
    lab: Lab, command: str, option: str, filled: dict[str, str]
) -> None:
    await lab.manage("disable", workflow="postcard")
    await lab.manage("remove", workflow="upscale")
    await lab.let(lab.alice, "workflow")

    offered = await lab.completed(lab.alice, f"workflow {command}", option, "", **filled)

    assert offered == []


async def another_server(lab: Lab, name: str) -> tuple[object, object]:
    """Its channel, and somebody who manages it."""
    guild = lab.env.create_guild(name)
    channel = guild.create_text_channel("art")
    role = guild.create_role("Mods", permissions=discord.Permissions(manage_guild=True))
    return channel, guild.add_member(lab.env.create_user(f"mod of {name}"), roles=[role])


async def test_in_two_servers_the_owner_must_say_whose_moderators_count(lab: Lab) -> None:
    before = lab.files()
    channel, stranger = await another_server(lab, "Elsewhere")

    here = await lab.manage("add", **UPLOAD)
    there = await lab.told(stranger, "workflow add", at=channel, **UPLOAD)

    assert here == there == WHOSE
    assert lab.files() == before


async def test_only_moderators_of_the_named_servers_count(
    lab: Lab, comfyui: FakeComfyUI, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, stranger = await another_server(lab, "Elsewhere")
    chosen = lab.bot.config.discord.model_copy(update={"guilds": (lab.guild.id,)})
    lab.bot.config = lab.bot.config.model_copy(update={"discord": chosen})

    here = await lab.manage("hide", workflow="txt2img", parameter="cfg")
    there = await lab.told(
        stranger, "workflow hide", at=channel, workflow="txt2img", parameter="steps"
    )

    assert here == "`cfg` of `txt2img` is hidden."
    assert there == WHOSE
    assert not lab.bot.library.workflows["txt2img"].parameters({})["steps"].hidden
