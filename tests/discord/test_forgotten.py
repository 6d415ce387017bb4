"""After `/privacy delete` no byte of a person is left in the bot's files."""

import contextlib
import io
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from tests.discord.conftest import World
from tests.fakes.discord import Interaction

WORDS = "planted-words"  # in whatever the member says


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (9, 9), "red").save(file, "PNG")
    return file.getvalue()


async def ask(world: World, command: str = "generate", **options: object) -> Interaction:
    """By the member who will be forgotten: a moderator, who leaves most behind."""
    if command == "generate":
        options = {"workflow": "postcard", "prompt": f"{WORDS} of a card"} | options
    return await world.discord.slash(world.mod, world.channel, command, **options).answered()


async def lives(world: World) -> None:
    """Leaves something everywhere: results, a failure, a file, a preset, a draft, an audited
    change, and jobs that run and wait."""
    first = await ask(world)
    await world.posted(first)
    await world.posted(await ask(world, private=True))
    given = {"workflow": "img2img", "prompt": WORDS, "image": (f"{WORDS}.png", picture())}
    await world.posted(await ask(world, **given))
    world.comfyui.fail(f"about {WORDS}")
    await world.told(await ask(world), "It did not work.")
    drawn = await ask(world, workflow="txt2img", prompt=WORDS, steps=2)
    await world.posted(drawn)
    await world.jobs_end()
    (job,) = await world.bot.store.recent(world.mod.id, 1)
    edit = world.discord.click(world.mod, drawn.message, f"job:{job.id}:edit")
    await edit.answered()
    await world.discord.submit_modal(edit, {"text": f"{WORDS} of a draft"}).answered()
    await ask(world, "preset save", name=f"{WORDS} of a preset")
    await ask(world, "workflow disable", workflow="upscale")
    world.comfyui.hold()
    for _ in range(4):
        await ask(world)
    await world.until(world.comfyui.held.is_set)
    await world.commands_end()


async def forgotten(world: World) -> None:
    asked = await ask(world, "privacy delete")
    world.discord.click(world.mod, asked.message, f"privacy:{world.mod.id}:delete")
    await world.told(asked, "Deleted:")
    world.comfyui.finish()
    await world.jobs_end()
    await world.commands_end()


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file of the bot: the database with its log, uploads, the spool."""
    return {each.name: each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def traces(world: World, files: dict[str, bytes]) -> list[tuple[str, bytes]]:
    """Where the member's words or id are: as text, or as the number that SQLite writes."""
    member = world.mod.id
    sought: Iterable[bytes] = (WORDS.encode(), str(member).encode(), member.to_bytes(8, "big"))
    return [(name, each) for each in sought for name, data in files.items() if each in data]


def database(world: World) -> contextlib.closing[sqlite3.Connection]:
    return contextlib.closing(sqlite3.connect(world.folder / "data/test.db"))


async def test_no_byte_of_a_forgotten_member_is_left(world: World) -> None:
    await world.start(limits={"jobs_per_user": 100})
    await lives(world)
    other = await world.generate(prompt="somebody else's card")
    before = traces(world, bytes_of(world.folder / "data"))

    await forgotten(world)
    running = traces(world, bytes_of(world.folder / "data"))
    await world.posted(other)
    await world.jobs_end()
    await world.stop()
    with database(world) as connection:
        connection.execute("vacuum")
        connection.execute("pragma wal_checkpoint(truncate)")
        tables = {
            name: connection.execute(f'select count(*) from "{name}"').fetchone()[0]  # noqa: S608
            for (name,) in connection.execute("select name from sqlite_master where type = 'table'")
        }
        audited = connection.execute("select user_id, workflow, action from audit").fetchall()
        (others,) = connection.execute("select user_id, text from jobs").fetchall()

    assert {WORDS.encode(), world.mod.id.to_bytes(8, "big")} <= {each for _, each in before}
    assert running == traces(world, bytes_of(world.folder / "data")) == []
    assert bytes_of(world.folder / "data/test.db.uploads") == {}
    assert bytes_of(world.folder / "data/test.db.spool") == {}
    assert (tables["drafts"], tables["presets"], tables["tokens"]) == (0, 0, 0)
    assert audited == [(0, "upscale", "disable")]
    assert others == (world.alice.id, "somebody else's card")
