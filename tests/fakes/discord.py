"""A Discord on loopback: REST v10 and gateway, real HTTP and WebSocket, for the unpatched bot.

The bot is pointed at it by `COMFYCORD_DISCORD_API=<url>`, or in this process by replacing
`discord.http.Route.BASE` and `discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY`. The world lives
in the `FakeDiscord`, so it outlives any bot: kill one, start the next.

It is as strict as Discord about tokens, deadlines, sizes, nonces and the shape of messages. It does
not know permissions (they are only told to the bot), threads, reactions or pins; a `Fault` can
stand in for the answers of those. Rate limits it knows when `limits` is set.
"""

# ruff: noqa: ASYNC109  (a test says how long it waits)
import asyncio
import copy
import secrets
import socket
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, TypeVar

from aiohttp import web

from tests.fakes import discord_input
from tests.fakes.discord_faults import Fault, Hold, Request
from tests.fakes.discord_gateway import Gateway
from tests.fakes.discord_limits import Limits
from tests.fakes.discord_messages import EPHEMERAL, File, Json, Messages
from tests.fakes.discord_rest import Rest
from tests.fakes.discord_world import MEMBER, Channel, Guild, User, World, role_payload

__all__ = [
    "Channel",
    "FakeDiscord",
    "Fault",
    "File",
    "Guild",
    "Hold",
    "Interaction",
    "Request",
    "User",
]

T = TypeVar("T")
SLASH, COMPONENT, AUTOCOMPLETE, MODAL = 2, 3, 4, 5
BOOSTED = {2: 50 * 2**20, 3: 100 * 2**20}


@dataclass(eq=False)
class Interaction:
    """What a person did and how the bot answered. Times are those of the event loop."""

    fake: "FakeDiscord" = field(repr=False)
    id: int
    token: str
    type: int
    user: User
    channel: Channel
    data: Json
    sent_at: float
    source_id: str | None = None
    acked_at: float | None = None
    callback: int | None = None
    message_id: str | None = None
    followup_ids: list[str] = field(default_factory=list)
    modal: Json | None = None
    choices: list[Json] | None = None
    too_old: bool = False

    @property
    def message(self) -> Json | None:
        """The response as last edited; for a click that edits its message, that message."""
        return self.fake.store.find(self.message_id)

    @property
    def followups(self) -> list[Json]:
        found = (self.fake.store.find(message_id) for message_id in self.followup_ids)
        return [message for message in found if message]

    @property
    def ephemeral(self) -> bool:
        return bool(self.message and self.message["flags"] & EPHEMERAL)

    @property
    def expired(self) -> bool:
        return self.too_old or self.fake.time() - self.sent_at >= self.fake.token_ttl

    async def answered(self, timeout: float = 20.0) -> Self:
        """Wait for the acknowledgement, of whatever type."""
        await self.fake.until(lambda: self.acked_at is not None, timeout)
        return self

    def signature(self) -> Json:
        """What a message says of the interaction it answers."""
        app_id = self.fake.me["id"]
        user = self.fake.user_payload(self.user.id)
        about = {"id": str(self.id), "type": self.type, "user": user}
        owners = self.fake.integration_owners(self.user, self.channel)
        metadata = {**about, "authorizing_integration_owners": owners}
        fields = {"webhook_id": app_id, "application_id": app_id, "interaction_metadata": metadata}
        if self.type != SLASH:
            return fields
        fields["interaction"] = {**about, "name": self.data["name"]}
        return {**fields, "type": 20 if self.data["type"] == 1 else 23}


class FakeDiscord(World):
    """The world and its server: an async context manager.

    `messages` maps a channel's id to its messages, as Discord would return them, in order and
    without deleted and ephemeral ones. `requests` and `faults` are lists to read and to fill;
    `interactions` has every interaction by token, `commands` the registered commands by guild id
    (None: global). Any condition over these can be waited for with `until`.
    """

    def __init__(
        self,
        token: str = "token-of-the-bot",  # noqa: S107
        token_ttl: float = 900.0,
        max_upload: int = 10 * 2**20,
    ) -> None:
        super().__init__()
        self.token = token
        self.token_ttl = token_ttl
        self.url = ""
        self.privileged_intents = 0
        self.remember = 300.0
        """For how many seconds a nonce is known again; 0 forgets all."""
        self.upload_rate: float | None = None
        """Bytes a second of one upload, where the way to Discord is not as fast as loopback."""
        self.limits: Limits | None = None
        """Rate limits; without them no answer tells of any."""

        self.commands: dict[int | None, list[Json]] = {}
        self.interactions: dict[str, Interaction] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.holds: list[Hold] = []
        self.errors: list[Exception] = []
        self.synced = False

        self._seen_identifies = 0
        self._changed = asyncio.Event()
        self.store = Messages(self.new_id, self._tell, self.user_payload, max_upload)
        self.gateway = Gateway(self)
        self._runner = web.AppRunner(Rest(self).app, access_log=None, shutdown_timeout=1.0)

    async def __aenter__(self) -> Self:
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = self.store.cdn = f"http://127.0.0.1:{listener.getsockname()[1]}"
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for hold in self.holds:
            hold.release()
        await self.gateway.close()
        await self._runner.cleanup()
        if self.errors:
            raise ExceptionGroup("the fake Discord itself failed", self.errors)

    # -- the world ---------------------------------------------------------------------------

    def add_guild(self, name: str, *, installed: bool = True, tier: int = 0) -> Guild:
        guild = Guild(int(self.new_id()), name, installed, tier)
        self.guilds[guild.id] = guild
        if installed:
            self.gateway.dispatch("GUILD_CREATE", self.guild_payload(guild))
        return guild

    def add_channel(self, guild: Guild, name: str, *, nsfw: bool = False) -> Channel:
        channel = Channel(int(self.new_id()), name, guild, nsfw=nsfw)
        self.channels[channel.id] = channel
        if guild.tier in BOOSTED:
            self.store.limits[channel.id] = BOOSTED[guild.tier]
        if guild.installed:
            self.gateway.dispatch("CHANNEL_CREATE", self.channel_payload(channel))
        return channel

    def add_user(
        self, name: str, *, permissions: int = MEMBER.value, locale: str = "en-US"
    ) -> User:
        """A member of every guild, *permissions* being what they may do in each channel."""
        user = User(int(self.new_id()), name, permissions | MEMBER.value, locale)
        self.users[user.id] = user
        role = role_payload(user.id, user.name, user.permissions)
        for guild in self.guilds.values():
            if guild.installed:
                news = {"guild_id": str(guild.id), "role": role}
                self.gateway.dispatch("GUILD_ROLE_CREATE", news)
        return user

    def dm(self, user: User) -> Channel:
        """The bot's DM channel with *user*, opened if need be."""
        for channel in self.channels.values():
            if channel.recipient == user:
                return channel
        channel = Channel(int(self.new_id()), user.name, recipient=user)
        self.channels[channel.id] = channel
        return channel

    def delete_channel(self, channel: Channel) -> None:
        payload = self.channel_payload(channel)
        del self.channels[channel.id]
        self.messages.pop(channel.id, None)
        self.gateway.dispatch("CHANNEL_DELETE", payload)
        self.changed()

    def kick(self, guild: Guild) -> None:
        """The bot is no member any more."""
        kicked = replace(guild, installed=False)
        self.guilds[guild.id] = kicked
        for channel in tuple(self.channels.values()):
            if channel.guild == guild:
                self.channels[channel.id] = replace(channel, guild=kicked)
        self.gateway.dispatch("GUILD_DELETE", {"id": str(guild.id)})
        self.changed()

    def delete_message(self, message: Json) -> None:
        """As a moderator would."""
        self.store.delete(message)

    @property
    def messages(self) -> defaultdict[int, list[Json]]:
        return self.store.shown

    @property
    def files(self) -> dict[str, File]:
        """The files of all attachments that exist, by attachment id as in the JSON."""
        return self.store.files

    def files_of(self, message: Json) -> dict[str, bytes]:
        """A message's files by name, those that only its components or embeds show included."""
        latest = self.store.files_of(message)
        return {name: file.content for name, file in latest.items()}

    # -- waiting -----------------------------------------------------------------------------

    async def until(self, condition: Callable[[], T], timeout: float = 20.0) -> T:
        """Wait for *condition*, looked at after everything that happens here; its true value."""
        try:
            async with asyncio.timeout(timeout):
                while not (value := condition()):
                    await self._changed.wait()
        except TimeoutError:
            latest = [f"{r.method} {r.path} -> {r.status}" for r in self.requests[-8:]]
            raise TimeoutError(f"not within {timeout} s; latest requests: {latest}") from None
        return value

    async def ready(self, timeout: float = 20.0) -> None:
        """Wait until a bot has logged in, PUT its commands and identified.

        Each call wants an IDENTIFY that no call before it has seen, so that after a restart it
        cannot take the dead bot for the new one.
        """
        await self.until(
            lambda: self.synced and self.gateway.identifies > self._seen_identifies, timeout
        )
        self._seen_identifies = self.gateway.identifies

    @property
    def connected(self) -> bool:
        return self.gateway.session is not None and self.gateway.session.link is not None

    # -- what people do ----------------------------------------------------------------------

    def slash(
        self, user: User, channel: Channel, command: str, /, **options: object
    ) -> Interaction:
        """Run a command: "generate", or with its groups "server list".

        As in the client, unknown, missing and out-of-range options do not get through: ValueError.
        A user or channel is given as such, an attachment as (name, bytes).
        """
        data = discord_input.command_data(self, command, channel, options)
        return self._interact(SLASH, user, channel, data)

    async def autocomplete(
        self,
        user: User,
        channel: Channel,
        command: str,
        /,
        *,
        focused: str,
        value: str = "",
        timeout: float = 20.0,
        **others: object,
    ) -> list[Json]:
        """The choices the bot offers while *value* is being typed into the option *focused*."""
        options = {**others, focused: value}
        data = discord_input.command_data(self, command, channel, options, focused=focused)
        interaction = self._interact(AUTOCOMPLETE, user, channel, data)
        await self.until(lambda: interaction.choices is not None, timeout)
        return interaction.choices or []

    def menu(self, user: User, channel: Channel, name: str, target: Json | User) -> Interaction:
        """Choose *name* from the context menu of a message or a user."""
        if not isinstance(target, User):
            target = self._latest(target)
        data = discord_input.menu_data(self, channel, name, target)
        return self._interact(SLASH, user, channel, data)

    def click(self, user: User, message: Json, custom_id: str) -> Interaction:
        """Press a button of the message as it is now."""
        return self._use(user, message, custom_id, None)

    def select(
        self, user: User, message: Json, custom_id: str, values: Sequence[str]
    ) -> Interaction:
        """Choose from a select menu of the message as it is now."""
        return self._use(user, message, custom_id, values)

    def submit_modal(self, shown_by: Interaction, values: Mapping[str, object]) -> Interaction:
        """Send the modal that answered *shown_by*.

        *values* by custom_id: a str for a text, strs for a select, (name, bytes) pairs for an
        upload, a bool for a checkbox; what is not given stays as the bot prefilled it.
        """
        if shown_by.modal is None:
            raise ValueError("no modal was shown")
        channel = shown_by.channel
        data = discord_input.modal_data(self, shown_by.modal, channel, values)
        return self._interact(MODAL, shown_by.user, channel, data, shown_by.source_id)

    # -- what goes wrong ---------------------------------------------------------------------

    def hold(self, method: str, path_glob: str) -> Hold:
        """Let matching requests have their effect, but keep the answers until `release()`."""
        hold = Hold(method, path_glob)
        self.holds.append(hold)
        return hold

    async def drop(self, *, op: int | None = None, code: int | None = None) -> None:
        """End the connection: op=7 asks to resume, op=9 ends the session, or close with *code*.

        Returns when the bot has hung up. Until it resumes, events are kept for it, except after
        op=9, when they are lost until it identifies.
        """
        await self.gateway.drop(op=op, code=code)

    def expire_tokens(self) -> None:
        """Make every interaction so far older than 15 minutes."""
        for interaction in self.interactions.values():
            interaction.too_old = True

    # -- for the server's own parts ----------------------------------------------------------

    def time(self) -> float:
        return asyncio.get_running_loop().time()

    def changed(self) -> None:
        """Wake whoever waits in `until`."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _tell(self, event: str, message: Json) -> None:
        """Pass on what became of a message."""
        channel = self.channels.get(int(message["channel_id"]))
        place = {"guild_id": str(channel.guild.id)} if channel and channel.guild else {}
        if channel and channel.guild and not channel.guild.installed:
            return
        keep = ("id", "channel_id", "flags") if event == "MESSAGE_DELETE" else tuple(message)
        data = {**{key: message[key] for key in keep}, **place}
        if place and event != "MESSAGE_DELETE":
            member = self.member_payload(message["author"]["id"])
            data["member"] = {key: value for key, value in member.items() if key != "user"}
        self.gateway.dispatch(event, copy.deepcopy(data))
        self.changed()

    def _interact(
        self, kind: int, user: User, channel: Channel, data: Json, source_id: str | None = None
    ) -> Interaction:
        interaction = Interaction(
            fake=self,
            id=int(self.new_id()),
            token=secrets.token_urlsafe(48),
            type=kind,
            user=user,
            channel=channel,
            data=data,
            sent_at=self.time(),
            source_id=source_id,
        )
        self.interactions[interaction.token] = interaction
        self.gateway.dispatch("INTERACTION_CREATE", self._payload(interaction))
        self.changed()
        return interaction

    def _payload(self, interaction: Interaction) -> Json:
        user, channel = interaction.user, interaction.channel
        payload: Json = {
            "id": str(interaction.id),
            "application_id": self.me["id"],
            "type": interaction.type,
            "token": interaction.token,
            "version": 1,
            "data": interaction.data,
            "channel_id": str(channel.id),
            "channel": {
                **self.channel_payload(channel),
                "permissions": str(user.permissions),
            },
            "app_permissions": str(self.app_permissions.value),
            "locale": user.locale,
            "entitlements": [],
            "authorizing_integration_owners": self.integration_owners(user, channel),
            "context": 0 if channel.guild else 1,
            "attachment_size_limit": self.store.limit_of(channel.id),
        }
        if source := self.store.find(interaction.source_id):
            payload["message"] = source
        if channel.guild:
            guild_id = str(channel.guild.id)
            payload["guild_id"] = guild_id
            payload["guild"] = {"id": guild_id, "locale": "en-US", "features": []}
            payload["guild_locale"] = "en-US"
            member = self.member_payload(user.id)
            payload["member"] = {**member, "permissions": str(user.permissions)}
        else:
            payload["user"] = self.user_payload(user.id)
        return copy.deepcopy(payload)

    def _latest(self, message: Json) -> Json:
        latest = self.store.find(message["id"])
        if latest is None:
            raise ValueError("the message is gone")
        return latest

    def _use(
        self, user: User, message: Json, custom_id: str, values: Sequence[str] | None
    ) -> Interaction:
        message = self._latest(message)
        data = discord_input.component_data(message, custom_id, values)
        channel = self.channels[int(message["channel_id"])]
        return self._interact(COMPONENT, user, channel, data, message["id"])
