"""Who and what there is in the fake Discord, and the JSON in which the bot is told of it."""

import time
from dataclasses import dataclass

import discord

from tests.fakes.discord_messages import Json

MEMBER = discord.Permissions(
    view_channel=True,
    send_messages=True,
    embed_links=True,
    attach_files=True,
    read_message_history=True,
    use_application_commands=True,
)


@dataclass(frozen=True, slots=True)
class Guild:
    """*installed* False: people brought the bot with them, it is not a member there.

    *tier*: of its boosts, which decide how large a file may be.
    """

    id: int
    name: str
    installed: bool = True
    tier: int = 0


@dataclass(frozen=True, slots=True)
class User:
    id: int
    name: str
    permissions: int
    locale: str

    @property
    def mention(self) -> str:
        return f"<@{self.id}>"


@dataclass(frozen=True, slots=True)
class Channel:
    """A text channel of *guild*, or the bot's DM with *recipient*."""

    id: int
    name: str
    guild: Guild | None = None
    recipient: User | None = None
    nsfw: bool = False


class World:
    """Guilds, channels, users and the bot's own account."""

    def __init__(self) -> None:
        self.guilds: dict[int, Guild] = {}
        self.channels: dict[int, Channel] = {}
        self.users: dict[int, User] = {}
        self.app_permissions = discord.Permissions.all()
        self._last_id = 0
        self.me = {
            "id": self.new_id(),
            "username": "Comfycord",
            "discriminator": "0000",
            "avatar": None,
            "global_name": None,
            "bot": True,
        }

    def new_id(self) -> str:
        """A snowflake of this moment, greater than all before it."""
        stamp = int(time.time() * 1000) - discord.utils.DISCORD_EPOCH
        self._last_id = max(self._last_id + 1, stamp << 22)
        return str(self._last_id)

    def user_payload(self, user_id: str | int) -> Json | None:
        if str(user_id) == self.me["id"]:
            return self.me
        user = self.users.get(int(user_id))
        return user and {
            "id": str(user.id),
            "username": user.name,
            "discriminator": "0",
            "avatar": None,
            "global_name": user.name.title(),
            "bot": False,
        }

    def channel_payload(self, channel: Channel) -> Json:
        payload: Json = {"id": str(channel.id), "flags": 0, "last_message_id": None}
        if channel.recipient:
            return {**payload, "type": 1, "recipients": [self.user_payload(channel.recipient.id)]}
        assert channel.guild
        return {
            **payload,
            "type": 0,
            "guild_id": str(channel.guild.id),
            "name": channel.name,
            "position": 0,
            "nsfw": channel.nsfw,
            "parent_id": None,
            "topic": None,
            "permission_overwrites": [],
            "rate_limit_per_user": 0,
        }

    def guild_payload(self, guild: Guild) -> Json:
        """The guild with all it has; every user's permissions are a role with the user's id."""
        roles = {guild.id: ("@everyone", MEMBER.value)}
        roles[int(self.me["id"])] = (str(self.me["username"]), self.app_permissions.value)
        roles |= {user.id: (user.name, user.permissions) for user in self.users.values()}
        channels = [channel for channel in self.channels.values() if channel.guild == guild]
        members = [self.member_payload(user_id) for user_id in (self.me["id"], *self.users)]
        return {
            "id": str(guild.id),
            "name": guild.name,
            "owner_id": "1",
            "roles": [
                role_payload(role_id, name, permissions)
                for role_id, (name, permissions) in roles.items()
            ],
            "channels": [self.channel_payload(channel) for channel in channels],
            "members": members,
            "member_count": len(members),
            "emojis": [],
            "stickers": [],
            "features": [],
            "premium_tier": guild.tier,
            "preferred_locale": "en-US",
            "unavailable": False,
        }

    def integration_owners(self, user: User, channel: Channel) -> dict[str, str]:
        """Who brought the bot here: "0" a guild ("0" in a DM), "1" a user."""
        if channel.guild and not channel.guild.installed:
            return {"1": str(user.id)}
        return {"0": str(channel.guild.id) if channel.guild else "0"}

    def member_payload(self, user_id: str | int) -> Json:
        return {
            "user": self.user_payload(user_id),
            "nick": None,
            "avatar": None,
            "roles": [str(user_id)],
            "joined_at": "2024-01-01T00:00:00+00:00",
            "deaf": False,
            "mute": False,
            "pending": False,
            "flags": 0,
        }

    def resolved_user(self, user: User, channel: Channel) -> Json:
        """A user in the `resolved` part of an interaction's data."""
        resolved: Json = {"users": {str(user.id): self.user_payload(user.id)}}
        if channel.guild:
            member = {**self.member_payload(user.id), "permissions": str(user.permissions)}
            del member["user"]
            resolved["members"] = {str(user.id): member}
        return resolved


def role_payload(role_id: int, name: str, permissions: int) -> Json:
    return {
        "id": str(role_id),
        "name": name,
        "permissions": str(permissions),
        "position": 0,
        "color": 0,
        "colors": {"primary_color": 0, "secondary_color": None, "tertiary_color": None},
        "hoist": False,
        "managed": False,
        "mentionable": False,
        "flags": 0,
    }
