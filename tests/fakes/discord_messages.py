"""The messages of the fake Discord: what may be posted, what an edit changes, where the files are.

As in the real one, a message with a breach of any rule changes nothing at all, and an attachment
that a component or an embed shows is not in the message's own list of attachments.
"""

import itertools
import mimetypes
import re
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]

NO_EMBEDS = 1 << 2
EPHEMERAL = 1 << 6
LOADING = 1 << 7
SILENT = 1 << 12
V2 = 1 << 15

V2_ONLY = frozenset({9, 10, 11, 12, 13, 14, 17})
FILES_PER_MESSAGE = 10
REQUEST_BYTES = 25 * 2**20


class ApiError(Exception):
    """An answer other than success, as the REST API gives it."""

    def __init__(self, status: int, code: int, message: str, **more: Any) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.body = {"message": message, "code": code, **more}


def invalid(field: str, why: str) -> ApiError:
    """400/50035, with the tree of errors that discord.py flattens into its exception's text."""
    errors = {field: {"_errors": [{"code": "INVALID", "message": why}]}}
    return ApiError(400, 50035, "Invalid Form Body", errors=errors)


@dataclass(frozen=True, slots=True)
class File:
    """An uploaded file, as it came."""

    name: str
    content: bytes


def walk(components: list[Json]) -> Iterator[Json]:
    """Every component, however deep."""
    for component in components:
        yield component
        inner = [component[key] for key in ("accessory", "component") if key in component]
        yield from walk(inner + component.get("components", []))


def now() -> str:
    return datetime.now(UTC).isoformat()


def _picture_size(content: bytes) -> Json:
    if content.startswith(b"\x89PNG\r\n\x1a\n") and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        return {"width": width, "height": height}
    return {}


class Messages:
    """All messages of the world, in memory, and the files of their attachments."""

    def __init__(
        self,
        new_id: Callable[[], str],
        tell: Callable[[str, Json], None],
        user: Callable[[str], Json | None],
        max_upload: int,
    ) -> None:
        self.shown: defaultdict[int, list[Json]] = defaultdict(list)
        self.files: dict[str, File] = {}
        self.max_upload = max_upload
        self.limits: dict[int, int] = {}
        """What one file may have, by channel, where it is not *max_upload*."""
        self.cdn = ""
        self.signature = "ex=1&is=1&hm=1"
        """In the address of every attachment."""
        self._new_id = new_id
        self._tell = tell
        self._user = user
        self._all: dict[str, Json] = {}
        self._attached: dict[str, list[Json]] = {}

    def limit_of(self, channel_id: str | int) -> int:
        """The bytes that one file may have there."""
        return self.limits.get(int(channel_id), self.max_upload)

    def find(self, message_id: str | int | None) -> Json | None:
        """The message as last edited, ephemeral ones too."""
        return self._all.get(str(message_id))

    def files_of(self, message: Json) -> dict[str, File]:
        """Its files by name, those that only its components or embeds show included."""
        attached = self._attached.get(message["id"], ())
        return {item["filename"]: self.files[item["id"]] for item in attached}

    def create(
        self, channel_id: int, author: Json, body: Json, uploads: Mapping[str, File], **more: Any
    ) -> Json:
        """Post a message; *more* are fields that the author has no say in."""
        blank = {
            "id": self._new_id(),
            "type": 0,
            "channel_id": str(channel_id),
            "author": author,
            "content": "",
            "timestamp": now(),
            "edited_timestamp": None,
            "tts": bool(body.get("tts")),
            "mention_everyone": False,
            "mentions": [],
            "mention_roles": [],
            "attachments": [],
            "embeds": [],
            "components": [],
            "pinned": False,
            "flags": 0,
        }
        message = {**blank, **more}
        may_have = SILENT | (EPHEMERAL if "webhook_id" in more else 0)
        message["flags"] |= (body.get("flags") or 0) & may_have
        message = self._changed(message, body, uploads)
        if not message["flags"] & EPHEMERAL:
            self.shown[channel_id].append(message)
        self._tell("MESSAGE_CREATE", message)
        return message

    def edit(self, message: Json, body: Json, uploads: Mapping[str, File]) -> Json:
        edited = {**message, "edited_timestamp": now(), "flags": message["flags"] & ~LOADING}
        edited = self._changed(edited, body, uploads)
        shown = self.shown[int(message["channel_id"])]
        for place, old in enumerate(shown):
            if old["id"] == message["id"]:
                shown[place] = edited
        self._tell("MESSAGE_UPDATE", edited)
        return edited

    def delete(self, message: Json) -> None:
        self._all.pop(message["id"], None)
        for item in self._attached.pop(message["id"], ()):
            del self.files[item["id"]]
        shown = self.shown[int(message["channel_id"])]
        shown[:] = [other for other in shown if other["id"] != message["id"]]
        self._tell("MESSAGE_DELETE", message)

    def new_attachment(
        self, channel_id: str | int, file: File, described: Json | None = None
    ) -> Json:
        """What Discord says of an upload. The file is served only once it is in `files`."""
        attachment_id = self._new_id()
        name = re.sub(r"[^\w.-]", "", file.name.replace(" ", "_"), flags=re.ASCII) or "unknown"
        url = f"{self.cdn}/attachments/{channel_id}/{attachment_id}/{name}?{self.signature}"
        attachment = {
            "id": attachment_id,
            "filename": name,
            "size": len(file.content),
            "url": url,
            "proxy_url": url,
            "content_type": mimetypes.guess_type(name)[0] or "application/octet-stream",
            **_picture_size(file.content),
        }
        if described and described.get("description"):
            attachment["description"] = described["description"]
        return attachment

    def _changed(self, message: Json, body: Json, uploads: Mapping[str, File]) -> Json:
        """*message* with *body* applied and kept, or an error and nothing kept."""
        given = {key: body[key] or [] for key in ("embeds", "components") if key in body}
        message = {**message, **given}
        if "content" in body:
            message["content"] = body["content"] or ""
        if "flags" in body:
            message["flags"] |= (body["flags"] or 0) & (V2 | NO_EMBEDS)

        attached, fresh = self._attachments(message, body, uploads)
        numbers = itertools.count(1)
        used: set[str] = set()
        by_name = {item["filename"]: item for item in attached}
        message["components"] = [
            _component(component, by_name, used, numbers) for component in message["components"]
        ]
        message["embeds"] = [_embed(embed, by_name, used) for embed in message["embeds"]]
        message["attachments"] = [item for item in attached if item["id"] not in used]
        _check(message, attached)
        pinged = _mentions(message, body.get("allowed_mentions"))
        users = [user for user_id in pinged["mentions"] if (user := self._user(user_id))]
        message.update(pinged, mentions=users)

        kept = {item["id"] for item in attached}
        for item in self._attached.get(message["id"], ()):
            if item["id"] not in kept:
                del self.files[item["id"]]
        self.files.update(fresh)
        self._attached[message["id"]] = attached
        self._all[message["id"]] = message
        return message

    def _attachments(
        self, message: Json, body: Json, uploads: Mapping[str, File]
    ) -> tuple[list[Json], dict[str, File]]:
        """All attachments after the change, and the files of the new ones by attachment id."""
        if len(uploads) > FILES_PER_MESSAGE:
            raise invalid("files", f"Must be {FILES_PER_MESSAGE} or fewer in length.")
        sizes = [len(file.content) for file in uploads.values()]
        most = self.limit_of(message["channel_id"])
        if max(sizes, default=0) > most or sum(sizes) > REQUEST_BYTES:
            raise ApiError(413, 40005, "Request entity too large")

        old = {item["id"]: item for item in self._attached.get(message["id"], ())}
        listed = {str(item["id"]): item for item in body.get("attachments") or ()}
        if unknown := listed.keys() - old.keys() - uploads.keys():
            raise invalid("attachments", f"Unknown attachment {min(unknown)}")
        kept = [item for key, item in old.items() if "attachments" not in body or key in listed]
        fresh: dict[str, File] = {}
        for key, file in uploads.items():
            item = self.new_attachment(message["channel_id"], file, listed.get(key))
            fresh[item["id"]] = file
            kept.append(item)
        if len(kept) > FILES_PER_MESSAGE:
            raise invalid("attachments", f"Must be {FILES_PER_MESSAGE} or fewer in length.")
        return kept, fresh


def _media(media: Json, by_name: Mapping[str, Json], used: set[str]) -> Json:
    """A media item with its file looked up, or as it was when it points elsewhere."""
    url = str(media.get("url", ""))
    if not url.startswith("attachment://"):
        if not url.startswith(("http://", "https://")):
            raise invalid("components", f"Not a well formed URL: {url!r}")
        used.update(item["id"] for item in by_name.values() if item["url"] == url)
        return media
    item = by_name.get(url.removeprefix("attachment://"))
    if item is None:
        raise invalid("components", f"The referenced attachment was not found: {url}")
    used.add(item["id"])
    known = ("url", "proxy_url", "content_type", "width", "height")
    return {**{key: item[key] for key in known if key in item}, "attachment_id": item["id"]}


def _component(
    component: Json, by_name: Mapping[str, Json], used: set[str], numbers: Iterator[int]
) -> Json:
    """A copy with media looked up and, as Discord does, an id given to everything."""
    result = {"id": next(numbers), **component}
    match component.get("type"):
        case 11:
            result["media"] = _media(component["media"], by_name, used)
        case 12:
            result["items"] = [
                {**item, "media": _media(item["media"], by_name, used)}
                for item in component["items"]
            ]
        case 13:
            result["file"] = _media(component["file"], by_name, used)
    for key in ("accessory", "component"):
        if key in component:
            result[key] = _component(component[key], by_name, used, numbers)
    if "components" in component:
        result["components"] = [
            _component(inner, by_name, used, numbers) for inner in component["components"]
        ]
    return result


def _embed(embed: Json, by_name: Mapping[str, Json], used: set[str]) -> Json:
    """A copy with `attachment://` looked up; Discord lets an embed point at nothing."""
    result = {"type": "rich", **embed}
    for part, key in (
        ("image", "url"),
        ("thumbnail", "url"),
        ("author", "icon_url"),
        ("footer", "icon_url"),
    ):
        url = str(embed.get(part, {}).get(key, ""))
        item = by_name.get(url.removeprefix("attachment://"))
        if url.startswith("attachment://") and item:
            used.add(item["id"])
            result[part] = {**embed[part], key: item["url"], f"proxy_{key}": item["url"]}
        elif url:
            used.update(other["id"] for other in by_name.values() if other["url"] == url)
    return result


def _check(message: Json, attached: list[Json]) -> None:
    """Hold the message as it would become against Discord's limits."""
    content, embeds, components = (message[key] for key in ("content", "embeds", "components"))
    everything = list(walk(components))
    if message["flags"] & V2:
        if content or embeds:
            raise invalid("content", "Not allowed together with IS_COMPONENTS_V2")
        if len(everything) > 40:
            raise invalid("components", "Must be 40 or fewer in total")
        if sum(len(item["content"]) for item in everything if item["type"] == 10) > 4000:
            raise invalid("components", "The text must be 4000 or fewer in length")
    else:
        if any(item["type"] in V2_ONLY for item in everything):
            raise invalid("components", "Needs the flag IS_COMPONENTS_V2")
        if any(item["type"] != 1 for item in components) or len(components) > 5:
            raise invalid("components", "Must be 5 or fewer action rows")
    if len(content) > 2000:
        raise invalid("content", "Must be 2000 or fewer in length.")
    if not (content or embeds or components or attached or message["flags"] & LOADING):
        raise ApiError(400, 50006, "Cannot send an empty message")
    _check_components(everything)
    _check_embeds(embeds)


def _check_components(everything: list[Json]) -> None:
    custom_ids = [item["custom_id"] for item in everything if "custom_id" in item]
    if len(set(custom_ids)) < len(custom_ids):
        raise invalid("components", "Component custom id cannot be duplicated")
    for item in everything:
        inner = item.get("components", ())
        limits = {
            "a custom_id of 1 to 100 characters": 1 <= len(item.get("custom_id", "x")) <= 100,
            "a label of at most 80 characters": len(item.get("label") or "") <= 80,
            "at most 25 options": len(item.get("options", ())) <= 25,
            "1 to 10 items": item["type"] != 12 or 1 <= len(item["items"]) <= 10,
            "1 to 3 texts": item["type"] != 9 or 1 <= len(inner) <= 3,
            "5 buttons or 1 select": item["type"] != 1
            or 1 <= sum(1 if part["type"] == 2 else 5 for part in inner) <= 5,
        }
        for limit, kept in limits.items():
            if not kept:
                raise invalid("components", f"A component of type {item['type']} needs {limit}")


def _check_embeds(embeds: list[Json]) -> None:
    if len(embeds) > 10:
        raise invalid("embeds", "Must be 10 or fewer in length.")
    total = 0
    for embed in embeds:
        fields = embed.get("fields", [])
        texts = [
            (embed.get("title"), 256),
            (embed.get("description"), 4096),
            (embed.get("footer", {}).get("text"), 2048),
            (embed.get("author", {}).get("name"), 256),
            *((field["name"], 256) for field in fields),
            *((field["value"], 1024) for field in fields),
        ]
        if len(fields) > 25 or any(len(text or "") > limit for text, limit in texts):
            raise invalid("embeds", "A part of an embed is too long")
        total += sum(len(text or "") for text, _ in texts)
    if total > 6000:
        raise invalid("embeds", "Embed size exceeds maximum size of 6000")


def _mentions(message: Json, allowed: Json | None) -> Json:
    """Whom the message pings: everyone it names, unless `allowed_mentions` says otherwise."""
    texts = [item["content"] for item in walk(message["components"]) if item["type"] == 10]
    text = "\n".join([message["content"], *texts])
    parse = ("users", "roles", "everyone") if allowed is None else allowed.get("parse", ())

    def pinged(kind: str, pattern: str) -> list[str]:
        named = dict.fromkeys(re.findall(pattern, text))
        listed = set(map(str, (allowed or {}).get(kind, ())))
        return [who for who in named if kind in parse or who in listed]

    return {
        "mentions": pinged("users", r"<@!?(\d+)>"),
        "mention_roles": pinged("roles", r"<@&(\d+)>"),
        "mention_everyone": "everyone" in parse and bool(re.search(r"@(everyone|here)\b", text)),
    }
