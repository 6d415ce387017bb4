"""/workflow on a Discord of real HTTP: attachments, several moderators at once, other servers."""

import asyncio
import json
from typing import Any

import pytest

from tests.discord.conftest import World, text_of
from tests.fakes.discord import Fault, Interaction, User

PICTURE: dict[str, Any] = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 32, "batch_size": 1, "color": 255},
    },
    "2": {"class_type": "SaveImage", "inputs": {"filename_prefix": "card", "images": ["1", 0]}},
}
UPLOAD = ("mine.json", json.dumps(PICTURE).encode())
AGAIN = "Discord did not give me the file. Upload it again."
ATTACHMENTS = "/attachments/*"


def wide(pixels: int) -> tuple[str, bytes]:
    """The upload with another width."""
    graph = json.loads(UPLOAD[1])
    graph["1"]["inputs"]["width"] = pixels
    return "mine.json", json.dumps(graph).encode()


async def said(world: World, interaction: Interaction) -> str:
    """The final words of an answer that may have been a "thinking" first."""

    def text() -> str:
        return "\n".join(map(text_of, [interaction.message, *interaction.followups])).strip()

    await world.discord.until(text, 5)
    return text()


async def managed(world: World, subcommand: str, who: User | None = None, **options: Any) -> str:
    """What /workflow answers, to the moderator if nobody else is named."""
    asked = world.discord.slash(
        who or world.mod, world.channel, f"workflow {subcommand}", **options
    )
    return await said(world, asked)


def folder(world: World) -> dict[str, bytes]:
    root = world.folder / "workflows"
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def width(world: World) -> int:
    return int(world.bot.library.workflows["mine"].graph["1"]["inputs"]["width"])


# Attachments


async def test_an_attachment_is_fetched_added_and_run(world: World) -> None:
    await world.start()

    asked = world.discord.slash(world.mod, world.channel, "workflow add", file=UPLOAD)
    told = await said(world, asked)
    run = world.discord.slash(world.alice, world.channel, "generate", workflow="mine")
    made = await world.posted(await run.answered())

    assert told.startswith("### mine is added\nIt came as API format: 2 nodes")
    assert "✅ local can run it." in told
    assert asked.ephemeral
    assert len(made) == 1
    assert json.loads((world.folder / "workflows/mine.json").read_text()) == PICTURE


@pytest.mark.parametrize(
    "fault",
    [
        Fault("GET", ATTACHMENTS, status=404),
        Fault("GET", ATTACHMENTS, status=403),
        Fault("GET", ATTACHMENTS, status=503),
        Fault("GET", ATTACHMENTS, status=None, reset=True, times=9),
    ],
    ids=["gone", "forbidden", "not now", "reset"],
)
async def test_an_attachment_that_cannot_be_fetched_is_asked_for_again(
    world: World, fault: Fault
) -> None:
    await world.start()
    before = folder(world)
    world.discord.faults.append(fault)

    told = await managed(world, "add", file=UPLOAD)

    assert told == AGAIN
    assert folder(world) == before


async def test_a_server_of_files_that_hangs_up_is_no_fault_of_ours(
    world: World, hangs_up: str
) -> None:
    """An orderly end without an answer: another error of aiohttp's than a reset."""
    await world.start()
    before = folder(world)
    world.discord.store.cdn = hangs_up

    told = await managed(world, "add", file=UPLOAD)

    assert told == AGAIN
    assert folder(world) == before


@pytest.fixture(params=["before the answer", "in the middle"])
async def hangs_up(request: pytest.FixtureRequest) -> Any:
    """The address of a server that ends every connection early."""
    begun = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if request.param == "in the middle":
            writer.write(begun)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_an_attachment_of_30_mb_is_refused_before_it_is_fetched(world: World) -> None:
    await world.start()
    before = folder(world)

    told = await managed(world, "add", file=("mine.png", bytes(30 * 2**20)))

    assert told == "The file is larger than 25 MB."
    assert not [each for each in world.discord.requests if "/attachments/" in each.path]
    assert folder(world) == before


async def test_an_export_can_be_added_again(world: World) -> None:
    await world.start()
    asked = world.discord.slash(world.mod, world.channel, "workflow export", workflow="txt2img")
    await asked.answered()

    files = world.files(asked)
    told = await managed(world, "add", file=("copy.json", files["txt2img.json"]))

    assert set(files) == {"txt2img.json", "txt2img.yaml"}
    assert "### copy is added" in told
    found = world.bot.library.workflows
    assert found["copy"].graph == found["txt2img"].graph


# Several at once


async def test_two_moderators_at_once_lose_nothing(world: World) -> None:
    other = world.discord.add_user("other mod", permissions=0x20)
    await world.start()

    await asyncio.gather(
        managed(world, "hide", workflow="txt2img", parameter="cfg"),
        managed(world, "limit", other, workflow="txt2img", parameter="steps", max=12),
        managed(world, "describe", workflow="txt2img", title="Castles"),
        managed(world, "hide", other, workflow="txt2img", parameter="negative"),
    )

    sidecar = world.bot.library.workflows["txt2img"].sidecar
    assert sidecar.title == "Castles"
    assert sidecar.parameters["steps"].max == 12
    assert sidecar.parameters["cfg"].hidden
    assert sidecar.parameters["negative"].hidden
    log = await world.bot.store.changes("txt2img", 10)
    assert {(each.user_id, each.action, *each.after) for each in log} == {
        (world.mod.id, "hide", "parameters.cfg.hidden"),
        (other.id, "limit", "parameters.steps.max"),
        (world.mod.id, "describe", "title"),
        (other.id, "hide", "parameters.negative.hidden"),
    }


async def test_of_two_uploads_of_one_name_one_wins_and_the_other_is_told(world: World) -> None:
    await world.start()

    told = await asyncio.gather(
        managed(world, "add", file=wide(128)), managed(world, "add", file=wide(256))
    )

    refused = "There is a workflow named mine already. Set `replace`."
    assert sorted(each == refused for each in told) == [False, True]
    assert width(world) == (256 if told[0] == refused else 128)
    assert [each.action for each in await world.bot.store.changes("mine", 10)] == ["add"]


async def test_of_two_replacements_at_once_none_is_lost(world: World) -> None:
    await world.start()
    await managed(world, "add", file=wide(64))

    await asyncio.gather(
        managed(world, "add", file=wide(128), replace=True),
        managed(world, "add", file=wide(256), replace=True),
    )

    kept = [
        json.loads(path.read_text())["1"]["inputs"]["width"]
        for path in (world.folder / "workflows/.earlier/mine").glob("*.json")
    ]
    assert sorted([width(world), *kept]) == [64, 128, 256]
    second, first, _ = await world.bot.store.changes("mine", 10)
    assert (first.action, second.action) == ("replace", "replace")
    assert first.after == second.before  # a chain: nobody's change is left out of it


async def test_what_is_brought_back_does_not_get_a_twin(world: World) -> None:
    """On Windows and macOS the two would be one file."""
    await world.start()
    await managed(world, "remove", workflow="postcard")
    await managed(world, "add", file=UPLOAD, name="Postcard")

    told = await managed(world, "restore", workflow="postcard")

    assert "Postcard" in told
    names = [name.casefold() for name in world.bot.library.workflows]
    assert len(names) == len(set(names))


# Whose moderators


WHOSE = "the owner must say whose moderators manage them: `discord.guilds` in config.yaml."


async def test_in_two_servers_the_owner_must_say_whose_moderators_count(world: World) -> None:
    world.discord.add_guild("Elsewhere")
    await world.start()
    before = folder(world)

    told = await managed(world, "remove", workflow="txt2img")

    assert WHOSE in told
    assert folder(world) == before


async def test_moderators_of_a_server_without_the_bot_do_not_count(world: World) -> None:
    """Anybody can bring the commands of a public bot, without the bot, into their own server."""
    elsewhere = world.discord.add_guild("Elsewhere", installed=False)
    channel = world.discord.add_channel(elsewhere, "art")
    await world.start()
    before = folder(world)

    asked = world.discord.slash(world.mod, channel, "workflow remove", workflow="txt2img")
    await world.discord.until(lambda: asked.message or asked.followups, 5)

    assert folder(world) == before
    assert "is gone" not in text_of(asked.message)
