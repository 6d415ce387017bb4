"""The fake Discord, driven by a small bot on the unpatched discord.py."""

import asyncio
import io
import re
import struct
from collections.abc import AsyncIterator
from typing import Any, Self

import aiohttp
import discord
import pytest
import yarl
from discord import app_commands, ui

from tests.fakes.discord import FakeDiscord, Fault

PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + struct.pack(">II", 3, 2)
MEBIBYTE = 2**20


def picture(name: str = "cat.png", content: bytes = PNG) -> discord.File:
    return discord.File(io.BytesIO(content), name)


class Again(ui.DynamicItem[ui.Button[ui.View]], template=r"job:(?P<job>\d+):again"):
    def __init__(self, job: str) -> None:
        super().__init__(ui.Button(label="Again", custom_id=f"job:{job}:again"))
        self.job = job

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction, item: ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        return cls(match["job"])

    async def callback(self, interaction: discord.Interaction) -> Any:
        await interaction.response.edit_message(content=f"again {self.job}")


class Gallery(ui.LayoutView):
    def __init__(self, file: str) -> None:
        super().__init__(timeout=None)
        gallery = ui.MediaGallery(discord.MediaGalleryItem(f"attachment://{file}"))
        choice = ui.Select(
            custom_id="scale", options=[discord.SelectOption(label=n) for n in ("2", "4")]
        )
        self.add_item(ui.Container(ui.TextDisplay("A cat"), gallery, ui.ActionRow(choice)))


class Form(ui.Modal, title="Settings"):
    prompt = ui.TextInput(label="Prompt", default="cat")

    def __init__(self) -> None:
        super().__init__()
        self.upload = ui.FileUpload(custom_id="upload", required=False)
        self.add_item(ui.Label(text="Picture", component=self.upload))

    async def on_submit(self, interaction: discord.Interaction) -> None:
        contents = [await attachment.read() for attachment in self.upload.values]
        await interaction.response.send_message(f"{self.prompt.value} {contents}", ephemeral=True)


class Bot(discord.Client):
    """Every command is one thing a bot does with the API."""

    def __init__(self) -> None:
        super().__init__(intents=discord.Intents.default(), guild_ready_timeout=0.05)
        self.tree = app_commands.CommandTree(self)
        self.errors: list[BaseException] = []
        self.failed = asyncio.Event()
        self.tree.error(self._note)
        for command in (generate, draw, upload, tell, settings, server, keep, quote):
            self.tree.add_command(command)

    async def setup_hook(self) -> None:
        self.add_dynamic_items(Again)
        await self.tree.sync()

    async def _note(
        self, interaction: discord.Interaction, error: app_commands.AppCommandError
    ) -> None:
        self.errors.append(error.__cause__ or error)
        self.failed.set()


@app_commands.command()
async def generate(
    interaction: discord.Interaction,
    prompt: str,
    workflow: str = "portrait",
    seed: app_commands.Range[int, 0, 99] = 1,
    image: discord.Attachment | None = None,
) -> None:
    """Answer, then put a picture into the answer."""
    await interaction.response.send_message(f"{prompt} {workflow} {seed}")
    message = await interaction.original_response()
    content = await image.read() if image else PNG
    view = ui.View(timeout=None).add_item(Again("7"))
    assert isinstance(interaction.channel, discord.abc.Messageable)
    place = interaction.client.get_partial_messageable(interaction.channel.id)
    await place.get_partial_message(message.id).edit(
        content="done", attachments=[picture(content=content)], view=view
    )


@generate.autocomplete("workflow")
async def _workflows(
    interaction: discord.Interaction, current: str
) -> list[app_commands.Choice[str]]:
    prompt = interaction.namespace.prompt
    names = ("portrait", "poster", "sketch")
    return [
        app_commands.Choice(name=f"{prompt}: {name}", value=name)
        for name in names
        if name.startswith(current)
    ]


@app_commands.command()
async def draw(interaction: discord.Interaction, file: str = "cat.png") -> None:
    """Defer, then become a gallery."""
    await interaction.response.defer()
    await interaction.edit_original_response(view=Gallery(file), attachments=[picture()])


@app_commands.command()
async def upload(interaction: discord.Interaction, mebibytes: int) -> None:
    """Post a file of some size."""
    await interaction.response.defer(ephemeral=True)
    await interaction.followup.send(file=picture(content=bytes(mebibytes * MEBIBYTE)))


@app_commands.command()
async def tell(interaction: discord.Interaction, text: str) -> None:
    """Acknowledge and say it in the channel."""
    callback = await interaction.response.defer(thinking=True)
    assert callback.message_id
    assert isinstance(interaction.channel, discord.abc.Messageable)
    await interaction.channel.send(text, nonce=text)


@app_commands.command()
async def settings(interaction: discord.Interaction) -> None:
    """Show the modal."""
    await interaction.response.send_modal(Form())


@app_commands.command()
async def keep(interaction: discord.Interaction) -> None:
    """Answer, and edit when someone clicks."""
    await interaction.response.send_message("one", ephemeral=True)
    await interaction.client.wait_for("interaction", timeout=10)
    await interaction.edit_original_response(content="two")


@app_commands.context_menu(name="Quote")
async def quote(interaction: discord.Interaction, message: discord.Message) -> None:
    manager = interaction.user.guild_permissions.manage_guild
    await interaction.response.send_message(f"{message.content} {manager}")


server = app_commands.Group(name="server", description="Servers")


@server.command(name="list")
async def _list(interaction: discord.Interaction, all: bool = False) -> None:
    """List."""
    await interaction.response.send_message(f"servers {all} {interaction.context.dm_channel}")


class Lab(FakeDiscord):
    """One guild, one channel, one person."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.lab = self.add_guild("Lab")
        self.art = self.add_channel(self.lab, "art")
        self.alice = self.add_user("alice")


@pytest.fixture
async def fd(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    async with Lab() as fake:
        websocket = yarl.URL(fake.url.replace("http", "ws") + "/gateway")
        monkeypatch.setattr(discord.http.Route, "BASE", fake.url + "/api/v10")
        monkeypatch.setattr(discord.gateway.DiscordWebSocket, "DEFAULT_GATEWAY", websocket)
        yield fake


@pytest.fixture
async def bot(fd: Lab) -> AsyncIterator[Bot]:
    async with Bot() as client:
        running = asyncio.create_task(client.start(fd.token))
        await fd.ready()
        yield client
        await client.close()
        await running


async def channel_of(bot: Bot, fd: Lab) -> discord.TextChannel:
    await bot.wait_until_ready()
    channel = bot.get_channel(fd.art.id)
    assert isinstance(channel, discord.TextChannel)
    return channel


async def test_a_wrong_token_is_refused(fd: Lab) -> None:
    async with Bot() as client:
        with pytest.raises(discord.LoginFailure):
            await client.start("another token")

    assert fd.requests[0].status == 401


async def test_the_bot_identifies_and_its_commands_are_known(fd: Lab, bot: Bot) -> None:
    await bot.wait_until_ready()

    names = {command["name"] for command in fd.commands[None]}
    assert {"generate", "server"} <= names
    assert bot.get_guild(fd.lab.id).me.guild_permissions == fd.app_permissions
    assert (await bot.fetch_channel(fd.art.id)).name == "art"
    assert (await bot.fetch_guild(fd.lab.id)).name == "Lab"
    assert len(await bot.tree.fetch_commands()) == len(names)


async def test_a_command_answers_and_edits_in_a_picture(fd: Lab, bot: Bot) -> None:
    mine = ("my cat.png", PNG + b"mine")
    run = fd.slash(fd.alice, fd.art, "generate", prompt="cat", seed=3, image=mine)
    await run.answered()
    await fd.until(lambda: run.message["content"] == "done")

    assert fd.messages[fd.art.id] == [run.message]
    assert run.acked_at >= run.sent_at
    [attachment] = run.message["attachments"]
    assert (attachment["filename"], attachment["width"], attachment["height"]) == ("cat.png", 3, 2)
    assert fd.files[attachment["id"]].content == PNG + b"mine"
    edit = fd.requests[-1]
    assert (edit.method, edit.files) == ("PATCH", {"cat.png": PNG + b"mine"})


async def test_a_button_works_after_the_bot_has_restarted(fd: Lab, bot: Bot) -> None:
    run = fd.slash(fd.alice, fd.art, "generate", prompt="cat")
    await fd.until(lambda: run.message and run.message["content"] == "done")
    await bot.close()

    async with Bot() as another:
        running = asyncio.create_task(another.start(fd.token))
        await fd.ready()
        click = await fd.click(fd.alice, run.message, "job:7:again").answered()
        await another.close()
        await running

    assert click.message == run.message
    assert click.message["content"] == "again 7"
    assert click.message["attachments"], "an edit that names no attachments keeps them"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "needs"),
        ({"prompt": 3}, "type"),
        ({"prompt": "cat", "seed": 100}, "within"),
        ({"prompt": "cat", "sead": 1}, "no option"),
    ],
)
async def test_the_client_refuses_bad_options(
    fd: Lab, bot: Bot, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        fd.slash(fd.alice, fd.art, "generate", **options)


async def test_a_subcommand_in_a_dm(fd: Lab, bot: Bot) -> None:
    run = await fd.slash(fd.alice, fd.dm(fd.alice), "server list", all=True).answered()

    assert run.message["content"] == "servers True True"


async def test_autocomplete(fd: Lab, bot: Bot) -> None:
    choices = await fd.autocomplete(
        fd.alice, fd.art, "generate", focused="workflow", value="po", prompt="cat"
    )

    assert [choice["value"] for choice in choices] == ["portrait", "poster"]
    assert choices[0]["name"] == "cat: portrait"


async def test_a_deferred_answer_becomes_a_gallery(fd: Lab, bot: Bot) -> None:
    run = fd.slash(fd.alice, fd.art, "draw")
    await fd.until(lambda: run.message and run.message["components"])

    media = run.message["components"][0]["components"][1]["items"][0]["media"]
    assert run.message["attachments"] == [], "a component shows it"
    assert fd.files_of(run.message) == {"cat.png": PNG}
    async with aiohttp.ClientSession() as session, session.get(media["url"]) as response:
        assert await response.read() == PNG
    with pytest.raises(ValueError, match="not offered"):
        fd.select(fd.alice, run.message, "scale", ["3"])


async def test_a_gallery_needs_its_file(fd: Lab, bot: Bot) -> None:
    fd.slash(fd.alice, fd.art, "draw", file="dog.png")
    edit = await fd.until(lambda: next((r for r in fd.requests if r.status == 400), None))

    assert edit.path.endswith("/messages/@original")
    assert await until_error(bot) == 50035
    assert "attachment://dog.png" in str(bot.errors[0])


async def test_a_modal(fd: Lab, bot: Bot) -> None:
    run = await fd.slash(fd.alice, fd.art, "settings").answered()
    sent = await fd.submit_modal(run, {"upload": [("a.png", b"abc")]}).answered()

    assert sent.ephemeral
    assert sent.message["content"] == "cat [b'abc']"
    assert fd.messages[fd.art.id] == []


async def test_a_context_menu_knows_the_permissions_of_a_moderator(fd: Lab, bot: Bot) -> None:
    mod = fd.add_user("mod", permissions=discord.Permissions(manage_guild=True).value)
    message = await (await channel_of(bot, fd)).send("hello")

    for person, answer in ((fd.alice, "hello False"), (mod, "hello True")):
        run = await fd.menu(person, fd.art, "Quote", fd.messages[fd.art.id][0]).answered()
        assert run.message["content"] == answer
    assert message.id == int(fd.messages[fd.art.id][0]["id"])


async def test_whom_a_message_pings(fd: Lab, bot: Bot) -> None:
    channel = await channel_of(bot, fd)
    pinged = await channel.send(fd.alice.mention)
    quiet = await channel.send(fd.alice.mention, allowed_mentions=discord.AllowedMentions.none())

    assert [user.id for user in pinged.mentions] == [fd.alice.id]
    assert quiet.mentions == []


async def test_too_big_a_file(fd: Lab, bot: Bot) -> None:
    fd.slash(fd.alice, fd.art, "upload", mebibytes=11)
    await fd.until(lambda: fd.requests[-1].status == 413)

    assert await until_error(bot) == 40005


async def test_an_old_token_is_refused(fd: Lab, bot: Bot) -> None:
    kept = await fd.slash(fd.alice, fd.art, "keep").answered()
    fd.expire_tokens()
    fd.slash(fd.alice, fd.art, "settings")
    await fd.until(lambda: fd.requests[-1].status == 401)

    assert await until_error(bot) == 50027
    assert kept.message["content"] == "one"


async def until_error(bot: Bot) -> int:
    """The code of the first error of a command, which comes just after the answer."""
    await asyncio.wait_for(bot.failed.wait(), 20)
    [error] = bot.errors
    assert isinstance(error, discord.HTTPException)
    return error.code


@pytest.mark.parametrize("status", [429, 500])
async def test_discord_py_tries_again_after_a_passing_fault(fd: Lab, bot: Bot, status: int) -> None:
    channel = await channel_of(bot, fd)
    fd.faults.append(Fault("POST", "/channels/*/messages", status=status))

    await channel.send("hello")

    assert [r.status for r in fd.requests if r.path.endswith("/messages")] == [status, 200]
    assert len(fd.messages[fd.art.id]) == 1


async def test_what_was_posted_before_a_502_is_not_posted_twice(fd: Lab, bot: Bot) -> None:
    channel = await channel_of(bot, fd)
    fd.faults.append(Fault("POST", "/channels/*/messages", status=502, after_commit=True))

    message = await channel.send("hello", nonce="job-1")

    assert [m["id"] for m in fd.messages[fd.art.id]] == [str(message.id)]


async def test_a_connection_reset_after_the_post(fd: Lab, bot: Bot) -> None:
    channel = await channel_of(bot, fd)
    fd.faults.append(Fault("POST", "/channels/*/messages", after_commit=True, reset=True))

    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await channel.send("hello")

    assert len(fd.messages[fd.art.id]) == 1
    assert fd.requests[-1].status is None


async def test_a_nonce_is_known_again_until_it_is_forgotten(fd: Lab, bot: Bot) -> None:
    channel = await channel_of(bot, fd)
    first = await channel.send("hello", nonce="job-1")

    assert (await channel.send("hello", nonce="job-1")).id == first.id
    fd.remember = 0
    assert (await channel.send("hello", nonce="job-1")).id > first.id


async def test_a_slow_answer_is_the_true_one(fd: Lab, bot: Bot) -> None:
    channel = await channel_of(bot, fd)
    fd.faults.append(Fault("POST", "/channels/*/messages", status=None, delay=0.1))

    assert (await channel.send("hello")).content == "hello"
    assert fd.requests[-1].done_at - fd.requests[-1].at >= 0.1


async def test_a_held_request_has_its_effect(fd: Lab, bot: Bot) -> None:
    channel = await channel_of(bot, fd)
    hold = fd.hold("POST", "/channels/*/messages")
    sending = asyncio.create_task(channel.send("hello"))
    await hold.reached()

    assert len(fd.messages[fd.art.id]) == 1
    assert not sending.done()
    hold.release()
    assert (await sending).content == "hello"


async def test_events_of_a_gap_are_replayed_on_resume(fd: Lab, bot: Bot) -> None:
    await bot.wait_until_ready()
    await fd.drop(op=7)
    run = await fd.slash(fd.alice, fd.art, "server list").answered()
    await fd.until(lambda: fd.connected)

    assert (fd.gateway.identifies, fd.gateway.resumes) == (1, 1)
    assert run.message["content"] == "servers False False"


@pytest.mark.parametrize(
    ("how", "identifies", "resumes"), [({"code": 4000}, 1, 1), ({"op": 9}, 2, 0)], ids=str
)
async def test_a_lost_connection_is_made_again(
    fd: Lab,
    bot: Bot,
    monkeypatch: pytest.MonkeyPatch,
    how: dict[str, int],
    identifies: int,
    resumes: int,
) -> None:
    async def at_once(shard_id: int | None, *, initial: bool = False) -> None:
        """discord.py would wait five seconds."""

    monkeypatch.setattr(bot, "before_identify_hook", at_once)
    await bot.wait_until_ready()
    await fd.drop(**how)
    await fd.until(lambda: fd.connected)

    assert (fd.gateway.identifies, fd.gateway.resumes) == (identifies, resumes)
    await fd.slash(fd.alice, fd.art, "server list").answered()


async def test_history_and_deletion(fd: Lab, bot: Bot) -> None:
    channel = await channel_of(bot, fd)
    sent = [await channel.send(str(number)) for number in range(5)]
    await channel.get_partial_message(sent[1].id).delete()
    fd.delete_message(fd.messages[fd.art.id][0])

    async def contents(**where: Any) -> list[str]:
        return [message.content async for message in channel.history(**where)]

    assert await contents() == ["4", "3", "2"]
    assert await contents(limit=1, before=sent[4]) == ["3"]
    assert await contents(limit=1, after=sent[0]) == ["2"]
    assert await contents(limit=3, around=sent[3]) == ["4", "3", "2"]
    with pytest.raises(discord.NotFound, match="10008"):
        await channel.fetch_message(sent[1].id)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"content": "x" * 2001}, 50035),
        ({"content": ""}, 50006),
        ({"content": "x", "flags": 1 << 15, "components": [{"type": 10, "content": "x"}]}, 50035),
        ({"flags": 1 << 15, "components": [{"type": 10, "content": "x" * 4001}]}, 50035),
        ({"flags": 1 << 15, "components": [{"type": 10, "content": "x"}] * 41}, 50035),
        ({"components": [{"type": 10, "content": "x"}]}, 50035),
        ({"content": "x", "attachments": [{"id": 0}]}, 50035),
        ({"content": "x", "nonce": "x" * 26}, 50035),
        ({"embeds": [{"description": "x" * 4097}]}, 50035),
    ],
)
async def test_messages_are_held_to_the_rules(fd: Lab, body: dict[str, Any], code: int) -> None:
    answer = await post(fd, f"/channels/{fd.art.id}/messages", body)

    assert answer["code"] == code
    assert fd.messages[fd.art.id] == []


async def test_an_interaction_is_answered_once_and_in_time(
    fd: Lab, bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await fd.slash(fd.alice, fd.art, "server list").answered()
    path = f"/interactions/{run.id}/{run.token}/callback"
    pong = {"type": 4, "data": {"content": "again"}}

    assert (await post(fd, path, pong))["code"] == 40060
    run.acked_at = None
    run.sent_at -= 3.1
    assert (await post(fd, path, pong))["code"] == 10062
    assert (await post(fd, path.replace("callback", "nothing"), pong))["code"] == 0


async def test_where_it_is_not_a_member_the_bot_has_five_followups(fd: Lab, bot: Bot) -> None:
    elsewhere = fd.add_channel(fd.add_guild("Elsewhere", installed=False), "talk")
    run = await fd.slash(fd.alice, elsewhere, "server list").answered()
    path = f"/webhooks/{fd.me['id']}/{run.token}"

    answers = [await post(fd, path, {"content": "more"}) for _ in range(6)]

    assert [answer.get("code") for answer in answers] == [None] * 5 + [40094]
    assert len(run.followups) == 5
    denied = await post(fd, f"/channels/{elsewhere.id}/messages", {"content": "x"})
    assert denied["code"] == 50001


async def post(fd: Lab, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request as the bot's own."""
    headers = {"Authorization": f"Bot {fd.token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(fd.url + "/api/v10" + path, json=body, headers=headers) as response,
    ):
        answer: dict[str, Any] = await response.json()
        return answer
