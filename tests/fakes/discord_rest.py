"""The REST half of the fake Discord: routes, authorisation, and what each request does."""

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.fakes.discord_faults import Fault, Request, cut, json_response
from tests.fakes.discord_messages import (
    EPHEMERAL,
    LOADING,
    ApiError,
    File,
    Json,
    invalid,
    walk,
)

if TYPE_CHECKING:
    from tests.fakes.discord import Channel, FakeDiscord, Interaction

API = "/api/v10"
ACK_SECONDS = 3.0
FOLLOWUPS_OF_A_STRANGER = 5
_CHUNK = 64 * 1024

# Which callbacks answer which interaction: command, component, autocomplete, modal.
CALLBACKS = {2: {4, 5, 9}, 3: {4, 5, 6, 7, 9}, 4: {8}, 5: {4, 5, 6, 7}}


@dataclass(frozen=True, slots=True)
class Call:
    """What a route gets: the body, the files by their number in the form, the query."""

    body: Any
    files: dict[str, File]
    query: dict[str, str]


CALL = web.RequestKey("CALL", Call)


async def _read(request: web.Request, rate: float | None) -> tuple[Any, dict[str, File]]:
    """*rate*: bytes a second of a file."""
    if not request.content_type.startswith("multipart/"):
        raw = await request.read()
        return (json.loads(raw) if raw else {}), {}
    body: Any = {}
    files = {}
    async for part in await request.multipart():
        if part.name == "payload_json":
            body = json.loads(await part.text())
        elif number := re.fullmatch(r"files\[(\d+)\]", part.name or ""):
            data = bytearray()
            while chunk := await part.read_chunk(_CHUNK):
                data += chunk
                if rate is not None:
                    await asyncio.sleep(len(chunk) / rate)
            files[number[1]] = File(part.filename or "unknown", bytes(data))
    return body, files


class Rest:
    """The HTTP application. What it knows, it knows from the `FakeDiscord` it serves."""

    def __init__(self, fake: "FakeDiscord") -> None:
        self._fake = fake
        self._nonces: dict[str, tuple[str, float]] = {}
        self.app = web.Application(middlewares=[self._serve], client_max_size=2**26)
        self.app.router.add_get("/gateway", fake.gateway.handle)
        self.app.router.add_get("/attachments/{channel}/{attachment}/{name}", self.attachment)
        routes: tuple[tuple[str, str, Callable[..., Any]], ...] = (
            ("GET", "/gateway", self.gateway_url),
            ("GET", "/gateway/bot", self.gateway_url),
            ("GET", "/users/@me", self.login),
            ("GET", "/users/@me/guilds", self.my_guilds),
            ("GET", "/users/{user}", self.user),
            ("POST", "/users/@me/channels", self.open_dm),
            ("GET", "/oauth2/applications/@me", self.application),
            ("GET", "/applications/@me", self.application),
            ("GET", "/applications/{app}/commands", self.commands),
            ("PUT", "/applications/{app}/commands", self.put_commands),
            ("GET", "/applications/{app}/guilds/{guild}/commands", self.commands),
            ("PUT", "/applications/{app}/guilds/{guild}/commands", self.put_commands),
            ("GET", "/guilds/{guild}", self.guild),
            ("GET", "/guilds/{guild}/members/{user}", self.member),
            ("GET", "/channels/{channel}", self.channel),
            ("POST", "/channels/{channel}/typing", self.typing),
            ("GET", "/channels/{channel}/messages", self.messages),
            ("POST", "/channels/{channel}/messages", self.post_message),
            ("GET", "/channels/{channel}/messages/{message}", self.message),
            ("PATCH", "/channels/{channel}/messages/{message}", self.edit_message),
            ("DELETE", "/channels/{channel}/messages/{message}", self.delete_message),
            ("POST", "/interactions/{interaction}/{token}/callback", self.callback),
            ("POST", "/webhooks/{app}/{token}", self.followup),
            ("GET", "/webhooks/{app}/{token}/messages/{message}", self.response),
            ("PATCH", "/webhooks/{app}/{token}/messages/{message}", self.edit_response),
            ("DELETE", "/webhooks/{app}/{token}/messages/{message}", self.delete_response),
        )
        for method, path, effect in routes:
            self.app.router.add_route(method, API + path, _handler(effect))

    # -- every request passes here -----------------------------------------------------------

    @web.middleware
    async def _serve(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path == "/gateway":
            return await handler(request)
        fake = self._fake
        record = Request(request.method, request.path.removeprefix(API), fake.time())
        fault = self._fault(record)
        fake.requests.append(record)
        fake.changed()
        try:
            answer = await self._answer(request, record, fault, handler)
        except (ConnectionError, web.RequestPayloadError):  # the bot died while it was sending
            return web.Response(status=400)
        except Exception as error:
            fake.errors.append(error)
            raise
        if fault and fault.reset:
            cut(request)
        else:
            record.status = answer.status
        record.done_at = fake.time()
        fake.changed()
        return answer

    async def _answer(
        self, request: web.Request, record: Request, fault: Fault | None, handler: Any
    ) -> web.Response:
        hold = next((hold for hold in self._fake.holds if hold.matches(record)), None)
        headers, refusal, answer = dict[str, str](), None, None
        if self._fake.limits:
            headers, refusal = self._fake.limits.check(record.method, record.path, record.at)
        try:
            body, files = await _read(request, self._fake.upload_rate)
            record.json = body
            record.files = {file.name: file.content for file in files.values()}
            if refusal:
                answer = json_response(refusal, 429)
            elif fault is None or fault.commits:
                self._authorise(request, record.path)
                request[CALL] = Call(body, files, dict(request.query))
                answer = await handler(request)
        except ApiError as error:
            answer = json_response(error.body, error.status)
        except web.HTTPException as error:
            answer = json_response(
                {"message": f"{error.status}: {error.reason}", "code": 0}, error.status
            )
        except ValueError:
            answer = json_response(
                {"message": "The request body contains invalid JSON.", "code": 50109}, 400
            )
        self._fake.changed()
        if hold:
            await hold.keep(record)
        if fault:
            await asyncio.sleep(fault.delay)
            return fault.answer(answer)
        assert answer is not None
        answer.headers.update(headers)
        return answer

    def _fault(self, record: Request) -> Fault | None:
        for fault in self._fake.faults:
            if fault.matches(record):
                fault.times -= 1
                if fault.times <= 0:
                    self._fake.faults.remove(fault)
                return fault
        return None

    def _authorise(self, request: web.Request, path: str) -> None:
        """Interactions and webhooks carry their own token, files and /gateway need none."""
        if not request.path.startswith(API) or path == "/gateway":
            return
        if path.startswith(("/interactions/", "/webhooks/")):
            return
        if request.headers.get("Authorization") != f"Bot {self._fake.token}":
            raise ApiError(401, 0, "401: Unauthorized")

    # -- the world ---------------------------------------------------------------------------

    async def attachment(self, request: web.Request) -> web.Response:
        file = self._fake.files.get(request.match_info["attachment"])
        if file is None:
            raise web.HTTPNotFound
        return web.Response(body=file.content)

    def gateway_url(self, call: Call) -> Json:
        limit = {"total": 1000, "remaining": 1000, "reset_after": 0, "max_concurrency": 1}
        url = self._fake.url.replace("http", "ws", 1) + "/gateway"
        return {"url": url, "shards": 1, "session_start_limit": limit}

    def login(self, call: Call) -> Json:
        self._fake.synced = False
        return self._fake.me

    def application(self, call: Call) -> Json:
        owner = {"id": "1", "username": "owner", "discriminator": "0", "avatar": None}
        return {
            "id": self._fake.me["id"],
            "name": self._fake.me["username"],
            "description": "",
            "icon": None,
            "bot_public": True,
            "bot_require_code_grant": False,
            "owner": owner,
            "verify_key": "0" * 64,
            "flags": 0,
        }

    def user(self, call: Call, user: str) -> Json:
        payload = self._fake.user_payload(user)
        if payload is None:
            raise ApiError(404, 10013, "Unknown User")
        return payload

    def open_dm(self, call: Call) -> Json:
        user = self._fake.users.get(int(call.body["recipient_id"]))
        if user is None:
            raise ApiError(400, 50033, "Invalid Recipient(s)")
        return self._fake.channel_payload(self._fake.dm(user))

    def guild(self, call: Call, guild: str) -> Json:
        found = self._fake.guilds.get(int(guild))
        if found is None or not found.installed:
            raise ApiError(404, 10004, "Unknown Guild")
        return self._fake.guild_payload(found)

    def my_guilds(self, call: Call) -> list[Json]:
        installed = [each for each in self._fake.guilds.values() if each.installed]
        after = int(call.query.get("after", 0))
        return [
            {"id": str(each.id), "name": each.name, "features": [], "permissions": "0"}
            for each in installed
            if each.id > after
        ]

    def member(self, call: Call, guild: str, user: str) -> Json:
        payload = self.guild(call, guild)
        for member in payload["members"]:
            if member["user"]["id"] == user:
                return member
        raise ApiError(404, 10007, "Unknown Member")

    # -- commands ----------------------------------------------------------------------------

    def commands(self, call: Call, app: str, guild: str | None = None) -> list[Json]:
        return self._fake.commands.get(guild and int(guild), [])

    def put_commands(self, call: Call, app: str, guild: str | None = None) -> list[Json]:
        fake = self._fake
        if app != fake.me["id"]:
            raise ApiError(403, 20012, "You are not authorized to perform this action")
        scope = guild and int(guild)
        ids = {(old["type"], old["name"]): old["id"] for old in fake.commands.get(scope, ())}
        commands = []
        for body in call.body:
            kind = body.get("type", 1)
            _check_command(body, kind)
            key = (kind, body["name"])
            command = {
                "id": ids.get(key) or fake.new_id(),
                "application_id": app,
                "version": fake.new_id(),
                "default_member_permissions": None,
                "nsfw": False,
                "description": "",
                "options": [],
                **body,
                "type": kind,
            }
            if guild:
                command["guild_id"] = guild
            commands.append(command)
        fake.commands[scope] = commands
        fake.synced = True
        return commands

    # -- channels ----------------------------------------------------------------------------

    def _channel(self, channel: str) -> "Channel":
        found = self._fake.channels.get(int(channel)) if channel.isdigit() else None
        if found is None:
            raise ApiError(404, 10003, "Unknown Channel")
        if found.guild and not found.guild.installed:
            raise ApiError(403, 50001, "Missing Access")
        return found

    def _message(self, channel: str, message: str) -> Json:
        self._channel(channel)
        found = self._fake.store.find(message)
        if found is None or found["channel_id"] != channel or found["flags"] & EPHEMERAL:
            raise ApiError(404, 10008, "Unknown Message")
        return found

    def channel(self, call: Call, channel: str) -> Json:
        return self._fake.channel_payload(self._channel(channel))

    def typing(self, call: Call, channel: str) -> None:
        self._channel(channel)

    def messages(self, call: Call, channel: str) -> list[Json]:
        newest_first = self._fake.messages[self._channel(channel).id][::-1]
        limit = int(call.query.get("limit", 50))
        if not 1 <= limit <= 100:
            raise invalid("limit", "int value should be between 1 and 100.")
        match call.query:
            case {"before": before}:
                return [m for m in newest_first if int(m["id"]) < int(before)][:limit]
            case {"after": after}:
                return [m for m in newest_first if int(m["id"]) > int(after)][-limit:]
            case {"around": around}:
                older = [m for m in newest_first if int(m["id"]) <= int(around)]
                newer = [m for m in newest_first if int(m["id"]) > int(around)]
                return newer[-(limit // 2) or len(newer) :] + older[: limit - limit // 2]
        return newest_first[:limit]

    def post_message(self, call: Call, channel: str) -> Json:
        fake = self._fake
        place = self._channel(channel)
        nonce = call.body.get("nonce")
        if nonce is not None and len(str(nonce)) > 25:
            raise invalid("nonce", "Must be 25 or fewer in length.")
        remembered, at = self._nonces.get(f"{channel} {nonce}", ("", float("-inf")))
        if call.body.get("enforce_nonce") and fake.time() - at < fake.remember:
            same = fake.store.find(remembered)
            if same is None:  # it was deleted
                raise ApiError(404, 10008, "Unknown Message")
            return {**same, "nonce": nonce}
        more = {}
        if reference := call.body.get("message_reference"):
            more = self._reply(channel, reference)
        message = fake.store.create(place.id, fake.me, call.body, call.files, **more)
        if nonce is None:
            return message
        self._nonces[f"{channel} {nonce}"] = message["id"], fake.time()
        return {**message, "nonce": nonce}

    def _reply(self, channel: str, reference: Json) -> Json:
        target = self._fake.store.find(reference["message_id"])
        if target is None or target["flags"] & EPHEMERAL:
            if reference.get("fail_if_not_exists", True):
                raise invalid("message_reference", "Unknown message")
            return {}
        place = {"channel_id": channel, "message_id": target["id"]}
        return {"type": 19, "message_reference": place, "referenced_message": target}

    def message(self, call: Call, channel: str, message: str) -> Json:
        return self._message(channel, message)

    def edit_message(self, call: Call, channel: str, message: str) -> Json:
        found = self._message(channel, message)
        if found["author"]["id"] != self._fake.me["id"]:
            raise ApiError(403, 50005, "Cannot edit a message authored by another user")
        return self._fake.store.edit(found, call.body, call.files)

    def delete_message(self, call: Call, channel: str, message: str) -> None:
        self._fake.store.delete(self._message(channel, message))

    # -- interactions ------------------------------------------------------------------------

    def callback(self, call: Call, interaction: str, token: str) -> Json | None:
        fake = self._fake
        found = fake.interactions.get(token)
        if found is None or str(found.id) != interaction or found.expired:
            raise ApiError(404, 10062, "Unknown interaction")
        if found.acked_at is not None:
            raise ApiError(400, 40060, "Interaction has already been acknowledged.")
        if fake.time() - found.sent_at > ACK_SECONDS:
            raise ApiError(404, 10062, "Unknown interaction")
        kind = call.body.get("type")
        data = call.body.get("data") or {}
        source = fake.store.find(found.source_id)
        if kind not in CALLBACKS[found.type] or (kind in (6, 7) and source is None):
            raise invalid("type", f"{kind} does not answer an interaction of type {found.type}")

        message = None
        match kind:
            case 4:
                message = self._respond(found, data, call.files)
            case 5:
                flags = LOADING | data.get("flags", 0) & EPHEMERAL
                message = self._respond(found, {}, {}, flags=flags)
            case 6:
                message = source
            case 7:
                message = fake.store.edit(source, data, call.files)
            case 8:
                found.choices = _checked_choices(data.get("choices", []))
            case 9:
                found.modal = _checked_modal(data)
        found.callback = kind
        found.acked_at = fake.time()
        found.message_id = message["id"] if message else None
        if call.query.get("with_response", "").lower() not in ("1", "true"):
            return None
        about: Json = {"id": interaction, "type": found.type}
        resource: Json = {"type": kind}
        if message:
            about["response_message_id"] = message["id"]
            about["response_message_loading"] = kind == 5
            about["response_message_ephemeral"] = bool(message["flags"] & EPHEMERAL)
            if kind in (4, 7):
                resource["message"] = message
        return {"interaction": about, "resource": resource}

    def _respond(
        self, interaction: "Interaction", body: Json, files: dict[str, File], **more: Any
    ) -> Json:
        fake = self._fake
        more = {**interaction.signature(), **more}
        return fake.store.create(interaction.channel.id, fake.me, body, files, **more)

    def _webhook(self, app: str, token: str) -> "Interaction":
        found = self._fake.interactions.get(token)
        if found is not None and found.expired:
            raise ApiError(401, 50027, "Invalid Webhook Token")
        if found is None or app != self._fake.me["id"] or found.callback in (None, 8):
            raise ApiError(404, 10015, "Unknown Webhook")
        return found

    def _response(self, app: str, token: str, message: str) -> Json:
        interaction = self._webhook(app, token)
        if message == "@original":
            message = interaction.message_id or ""
        found = self._fake.store.find(message)
        if found is None or message not in (interaction.message_id, *interaction.followup_ids):
            raise ApiError(404, 10008, "Unknown Message")
        return found

    def followup(self, call: Call, app: str, token: str) -> Json:
        interaction = self._webhook(app, token)
        original = self._fake.store.find(interaction.message_id)
        if original and original["flags"] & LOADING:  # the first one takes the placeholder's place
            return self._fake.store.edit(original, call.body, call.files)
        guild = interaction.channel.guild
        stranger = guild is not None and not guild.installed
        if stranger and len(interaction.followup_ids) >= FOLLOWUPS_OF_A_STRANGER:
            raise ApiError(
                400, 40094, "This interaction has hit the maximum number of follow up messages"
            )
        message = self._respond(interaction, call.body, call.files)
        interaction.followup_ids.append(message["id"])
        return message

    def response(self, call: Call, app: str, token: str, message: str) -> Json:
        return self._response(app, token, message)

    def edit_response(self, call: Call, app: str, token: str, message: str) -> Json:
        return self._fake.store.edit(self._response(app, token, message), call.body, call.files)

    def delete_response(self, call: Call, app: str, token: str, message: str) -> None:
        self._fake.store.delete(self._response(app, token, message))


def _handler(effect: Callable[..., Any]) -> Any:
    async def handle(request: web.Request) -> web.Response:
        answer = effect(request[CALL], **request.match_info)
        return web.Response(status=204) if answer is None else json_response(answer)

    return handle


def _check_command(body: Json, kind: int) -> None:
    if kind == 1:
        name = body["name"]
        if not re.fullmatch(r"[-_'\w]{1,32}", name) or name != name.lower():
            raise invalid("name", f"Command name is invalid: {name!r}")
        if not 1 <= len(body.get("description", "")) <= 100:
            raise invalid("description", f"{name}: must be between 1 and 100 in length.")
    options = body.get("options", [])
    if len(options) > 25:
        raise invalid("options", f"{body['name']}: must be 25 or fewer in length.")
    wanted = [option.get("required", False) for option in options]
    if wanted != sorted(wanted, reverse=True):
        raise invalid("options", f"{body['name']}: required options come before optional ones")
    for option in options:
        if len(option.get("choices", ())) > 25:
            raise invalid("choices", f"{option['name']}: must be 25 or fewer in length.")
        _check_command(option, 1)


def _checked_choices(choices: list[Json]) -> list[Json]:
    if len(choices) > 25:
        raise invalid("choices", "Must be 25 or fewer in length.")
    for choice in choices:
        if not 1 <= len(choice["name"]) <= 100 or len(str(choice["value"])) > 100:
            raise invalid("choices", f"Must be between 1 and 100 in length: {choice['name']!r}")
    return choices


def _checked_modal(modal: Json) -> Json:
    if not 1 <= len(modal["title"]) <= 45 or not 1 <= len(modal["components"]) <= 5:
        raise invalid("data", "A modal needs a title of up to 45 characters and 1 to 5 components")
    for item in walk(modal["components"]):
        if len(item.get("label") or "") > 45 or len(item.get("value") or "") > 4000:
            raise invalid("components", "A label may have 45 characters, a value 4000")
    return modal
