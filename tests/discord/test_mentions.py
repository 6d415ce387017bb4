"""Pictures that people point at, fetched over real HTTP: Discord's own, and never another's."""

from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.comfy.pictures import png
from tests.discord.conftest import World, text_of
from tests.fakes.discord_messages import File, walk


def told(world: World, user_id: int | str, body: dict[str, Any], **files: bytes) -> dict[str, Any]:
    """A message of somebody's."""
    author = world.discord.user_payload(user_id)
    uploads = {name: File(f"{name}.png", data) for name, data in files.items()}
    return world.discord.store.create(world.channel.id, author, body, uploads)


async def started(world: World) -> None:
    bot = await world.start()
    bot.cdn_hosts.add("127.0.0.1")  # where the fake keeps its files


async def test_a_picture_that_comes_with_a_mention_is_fetched_and_used(world: World) -> None:
    await started(world)
    me = world.discord.me["id"]

    told(world, world.alice.id, {"content": f"<@{me}> larger"}, mine=png())
    asked = await world.discord.until(lambda: question(world))
    click = world.discord.select(world.alice, asked, "use:0", ["upscale"])
    files = await world.posted(await click.answered())

    assert len(files) == 1
    assert text_of(click.message).startswith("**upscale** for")


def question(world: World) -> Any:
    shown = world.discord.messages[world.channel.id]
    return next((each for each in shown if "What shall I do with it?" in text_of(each)), None)


async def test_the_picture_of_another_host_in_a_gallery_is_never_fetched(world: World) -> None:
    await started(world)
    asked: list[str] = []

    async def listen(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(body=png(), content_type="image/png")

    app = web.Application()
    app.router.add_get("/{path:.*}", listen)
    async with TestServer(app) as server:
        outside = {"media": {"url": f"http://localhost:{server.port}/a.png"}}
        gallery = {"type": 12, "items": [outside, {"media": {"url": "attachment://own.png"}}]}
        body = {"components": [gallery], "flags": 1 << 15}
        message = told(world, world.mod.id, body, own=png())
        menu = world.discord.menu(world.alice, world.channel, "Use as input image", message)
        await menu.answered()
        click = world.discord.select(world.alice, menu.message, "use:0", ["upscale"])
        await world.posted(await click.answered())

    shown = [each["items"] for each in walk(menu.message["components"]) if each["type"] == 12]
    assert len(shown) == 1
    assert len(shown[0]) == 1
    assert asked == []
