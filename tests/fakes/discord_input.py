"""What Discord's client makes of a person's input, and what it does not let them enter.

Each function returns the `data` of an interaction. Input the client would refuse is a ValueError.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tests.fakes.discord_messages import File, Json, walk
from tests.fakes.discord_world import MEMBER, Channel, User

if TYPE_CHECKING:
    from tests.fakes.discord import FakeDiscord

CHAT, ON_USER, ON_MESSAGE = 1, 2, 3
SUBCOMMANDS = (1, 2)
STRING, INTEGER, BOOLEAN, USER, CHANNEL, ROLE, MENTIONABLE, NUMBER, ATTACHMENT = range(3, 12)
STRING_SELECT, FILE_UPLOAD = 3, 19


def command_data(
    fake: "FakeDiscord",
    path: str,
    channel: Channel,
    values: Mapping[str, object],
    *,
    focused: str | None = None,
) -> Json:
    """A slash command, or its state while the option *focused* is being typed."""
    name, *subcommands = path.split()
    command = node = _command(fake, channel, name, CHAT)
    data: Json = {"id": command["id"], "name": name, "type": CHAT, "resolved": {}}
    if "guild_id" in command:
        data["guild_id"] = command["guild_id"]
    level = data
    for subcommand in subcommands:
        node = _subcommand(node, subcommand)
        inner: Json = {"name": subcommand, "type": node["type"]}
        level["options"] = [inner]
        level = inner

    known = {option["name"]: option for option in node.get("options", ())}
    if any(option["type"] in SUBCOMMANDS for option in known.values()):
        raise ValueError(f"{path!r} is a group of {sorted(known)}")
    if unknown := values.keys() - known.keys():
        raise ValueError(f"{path!r} has no option {min(unknown)!r}, but {sorted(known)}")
    missing = {key for key, option in known.items() if option.get("required")} - values.keys()
    if missing and focused is None:
        raise ValueError(f"{path!r} needs {sorted(missing)}")

    level["options"] = []
    for key, value in values.items():
        option: Json = {"name": key, "type": known[key]["type"]}
        if key == focused:
            option |= {"value": value, "focused": True}
        else:
            option["value"] = _entered(fake, known[key], value, channel, data["resolved"])
        level["options"].append(option)
    return data


def menu_data(fake: "FakeDiscord", channel: Channel, name: str, target: Json | User) -> Json:
    """A context menu's command on a user or a message."""
    if isinstance(target, User):
        kind, target_id = ON_USER, str(target.id)
        resolved = fake.resolved_user(target, channel)
    else:
        kind, target_id = ON_MESSAGE, target["id"]
        resolved = {"messages": {target_id: target}}
    command = _command(fake, channel, name, kind)
    data = {"id": command["id"], "name": name, "type": kind}
    return {**data, "target_id": target_id, "resolved": resolved}


def component_data(message: Json, custom_id: str, values: Sequence[str] | None) -> Json:
    """A click on a button (*values* None), or a choice from a select menu."""
    usable = {
        item["custom_id"]: item
        for item in walk(message["components"])
        if "custom_id" in item and not item.get("disabled")
    }
    if custom_id not in usable:
        raise ValueError(f"nothing to use with custom_id {custom_id!r}, but {sorted(usable)}")
    item = usable[custom_id]
    data = {"custom_id": custom_id, "component_type": item["type"], "id": item["id"]}
    if values is None:
        return data
    offered = {option["value"] for option in item.get("options", ())}
    if item["type"] == STRING_SELECT and (unknown := set(values) - offered):
        raise ValueError(f"{min(unknown)!r} is not offered, but {sorted(offered)}")
    return {**data, "values": list(values)}


def modal_data(
    fake: "FakeDiscord", modal: Json, channel: Channel, values: Mapping[str, Any]
) -> Json:
    """A modal with *values* by custom_id; the rest as the bot prefilled it."""
    known = {item["custom_id"] for item in walk(modal["components"]) if "custom_id" in item}
    if unknown := values.keys() - known:
        raise ValueError(f"the modal has no {min(unknown)!r}, but {sorted(known)}")
    attachments: Json = {}
    numbers = itertools.count(1)

    def filled(item: Json) -> Json:
        result = {"type": item["type"], "id": item.get("id") or next(numbers)}
        if "component" in item:
            result["component"] = filled(item["component"])
        elif "components" in item:
            result["components"] = [filled(part) for part in item["components"]]
        elif "custom_id" in item:
            value = values.get(item["custom_id"], _prefilled(item))
            if item["type"] == FILE_UPLOAD:
                value = [_attach(fake, upload, channel, attachments) for upload in value]
            many = isinstance(value, list | tuple)
            result |= {"custom_id": item["custom_id"], "values" if many else "value": value}
        return result

    components = [filled(item) for item in modal["components"]]
    resolved = {"attachments": attachments}
    return {"custom_id": modal["custom_id"], "components": components, "resolved": resolved}


def _command(fake: "FakeDiscord", channel: Channel, name: str, kind: int) -> Json:
    scopes = (channel.guild.id, None) if channel.guild else (None,)
    for command in itertools.chain.from_iterable(fake.commands.get(scope, ()) for scope in scopes):
        if (command["name"], command["type"]) == (name, kind):
            return command
    raise ValueError(f"no command of type {kind} is named {name!r}")


def _subcommand(node: Json, name: str) -> Json:
    for option in node.get("options", ()):
        if option["name"] == name and option["type"] in SUBCOMMANDS:
            return option
    raise ValueError(f"{node['name']!r} has no subcommand {name!r}")


def _entered(
    fake: "FakeDiscord", option: Json, value: Any, channel: Channel, resolved: Json
) -> Any:
    """The value as it is sent; what it refers to goes into *resolved*."""
    kind = option["type"]
    if kind == ATTACHMENT:
        return _attach(fake, value, channel, resolved.setdefault("attachments", {}))
    if kind in (USER, MENTIONABLE):
        for key, part in fake.resolved_user(value, channel).items():
            resolved.setdefault(key, {}).update(part)
        return str(value.id)
    if kind == CHANNEL:
        payload = {**fake.channel_payload(value), "permissions": str(MEMBER.value)}
        resolved.setdefault("channels", {})[str(value.id)] = payload
        return str(value.id)
    if kind == ROLE:
        return str(value)
    _check(option, value)
    return value


def _attach(
    fake: "FakeDiscord", upload: tuple[str, bytes], channel: Channel, attachments: Json
) -> str:
    file = File(*upload)
    attachment = fake.store.new_attachment(channel.id, file)
    fake.files[attachment["id"]] = file
    attachments[attachment["id"]] = {**attachment, "ephemeral": True}
    return str(attachment["id"])


def _check(option: Json, value: Any) -> None:
    name, kind = option["name"], option["type"]
    wanted = {STRING: str, INTEGER: int, BOOLEAN: bool, NUMBER: (int, float)}[kind]
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind != BOOLEAN):
        raise ValueError(f"{name}: {value!r} has the wrong type")
    choices = [choice["value"] for choice in option.get("choices") or ()]
    if choices and value not in choices:
        raise ValueError(f"{name}: {value!r} is none of {choices}")
    if kind == STRING:
        low, high, size = option.get("min_length", 0), option.get("max_length", 6000), len(value)
    else:
        low, high, size = option.get("min_value", value), option.get("max_value", value), value
    if not low <= size <= high:
        raise ValueError(f"{name}: {value!r} is not within {low} and {high}")


def _prefilled(item: Json) -> object:
    """What a modal's part sends when the person leaves it alone."""
    chosen = [option["value"] for option in item.get("options", ()) if option.get("default")]
    match item["type"]:
        case 4:
            return item.get("value") or ""
        case 21:
            return chosen[0] if chosen else None
        case 23:
            return bool(item.get("default"))
    return chosen
