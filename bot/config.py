"""config.yaml and the environment → frozen settings. A wrong key is named, never ignored."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import unquote

import pydantic
import yaml
import yarl

from bot.errors import ConfigError
from comfy.client import Access

CONFIG_FILE = "config.yaml"
_TOKEN_MIN = 16  # characters
# config.yaml and workflows as they ship: inside the wheel, or beside the package in a clone.
_PACKAGE = Path(__file__).parent
SHIPPED = _PACKAGE / "shipped" if (_PACKAGE / "shipped").is_dir() else _PACKAGE.parent


def _suffix(name: str) -> str:
    """As it stands at the end of the name of an environment variable."""
    return re.sub(r"\W", "_", name).upper()


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Shards(NamedTuple):
    """Of Discord's: the first and the last of this process, and how many there are."""

    first: int
    last: int
    of: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}/{self.of}"


class DiscordSettings(_Strict):
    """*shards*: `0-1/4` are the first two of four; None: all of them, as many as Discord wants."""

    guilds: tuple[int, ...] = ()
    shards: Shards | None = None

    @pydantic.field_validator("shards", mode="before")
    @classmethod
    def _is_range(cls, value: object) -> Shards | None:
        if value is None or isinstance(value, Shards):
            return value
        found = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?/(\d{1,4})", str(value).strip())
        if found is None:
            raise ValueError(f"{value!r} is no part of the shards, such as 0/2 or 0-1/4")
        first, last, count = int(found[1]), int(found[2] or found[1]), int(found[3])
        if not first <= last < count:
            raise ValueError(f"{value!r}: the {count} shards are 0 to {count - 1}")
        return Shards(first, last, count)


class ServerSettings(_Strict):
    """One ComfyUI server. Its credentials come from the environment: `COMFYUI_TOKEN_<NAME>`
    (bearer) or `COMFYUI_LOGIN_<NAME>` (`user:password`)."""

    name: str = pydantic.Field(pattern=r"^[\w-]{1,32}$")
    url: str
    ca_file: str | None = None

    @pydantic.field_validator("url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        try:
            url = yarl.URL(value.strip())
        except ValueError as error:
            raise ValueError(f"{value!r} is not an address") from error
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError(f"{value!r} needs http:// or https:// in front, and a host")
        return value.strip()

    @property
    def environment_suffix(self) -> str:
        return _suffix(self.name)


class Limits(_Strict):
    jobs_per_user: int = pydantic.Field(default=5, ge=1)
    queue: int = pydantic.Field(default=1000, ge=1)
    pixels: int = pydantic.Field(default=4194304, ge=4096)
    upload_mb: int = pydantic.Field(default=25, ge=1, le=100)
    jobs_per_day: int | None = pydantic.Field(default=None, ge=1)
    gpu_seconds_per_day: int | None = pydantic.Field(default=None, ge=1)
    blocked_words: tuple[str, ...] = ()


class Fairness(_Strict):
    """*weights*: by role; *relaxed_roles*, and who used up the fast seconds: when nobody waits."""

    weights: Mapping[int, pydantic.PositiveFloat] = pydantic.Field(default_factory=dict)
    relaxed_roles: tuple[int, ...] = ()
    fast_gpu_seconds_per_day: int | None = pydantic.Field(default=None, ge=1)


class HttpSettings(_Strict):
    """Without a *port* it is off. The token of each of the *members* comes from the environment:
    `HTTP_TOKEN_<NAME>`."""

    host: str = "127.0.0.1"
    port: int | None = pydantic.Field(default=None, ge=1, le=65535)
    members: tuple[Annotated[str, pydantic.Field(pattern=r"^[\w-]{1,32}$")], ...] = ()


class Config(_Strict):
    discord: DiscordSettings = DiscordSettings()
    servers: tuple[ServerSettings, ...] = ()
    database: str = pydantic.Field(default="sqlite:///data/comfycord.db", repr=False)
    workflows: str = "workflows"
    limits: Limits = Limits()
    fairness: Fairness = Fairness()
    http: HttpSettings = HttpSettings()
    log: Literal["text", "json"] = "text"
    retention_days: int = pydantic.Field(default=30, ge=1)

    @property
    def database_shown(self) -> str:
        """Without a login."""
        return re.sub(r"//[^@/]*@", "//", self.database)

    @property
    def part(self) -> str:
        """What this process serves of several that share a database and folders."""
        return "all" if self.discord.shards is None else str(self.discord.shards)

    @property
    def spool(self) -> Path:
        """A folder of this process for files on their way, beside the database file."""
        return self._beside_database("spool", alone=True)

    @property
    def uploads(self) -> Path:
        """Where what people give is kept."""
        return self._beside_database("uploads")

    @property
    def lock(self) -> Path:
        """Held by the process that runs on the database."""
        return self._beside_database("lock", alone=True)

    def _beside_database(self, what: str, *, alone: bool = False) -> Path:
        """*alone*: of this process, not of all that share a PostgreSQL."""
        path = Path(self.database.partition("sqlite:///")[2])
        if not path.name:
            path = Path("data/comfycord")
            what = f"{self.part.replace('/', '-of-')}.{what}" if alone else what
        return path.with_name(f"{path.name}.{what}")

    @pydantic.field_validator("http")
    @classmethod
    def _members_differ(cls, value: HttpSettings) -> HttpSettings:
        variables = [_suffix(each) for each in value.members]
        if shared := [each for each in variables if variables.count(each) > 1]:
            raise ValueError(f"two members would share the variable HTTP_TOKEN_{shared[0]}")
        return value

    @pydantic.field_validator("servers")
    @classmethod
    def _names_differ(cls, value: tuple[ServerSettings, ...]) -> tuple[ServerSettings, ...]:
        names = [each.name for each in value]
        if twice := [each for each in names if names.count(each) > 1]:
            raise ValueError(f"two servers are named {twice[0]!r}")
        variables = [each.environment_suffix for each in value]
        if shared := [each for each in variables if variables.count(each) > 1]:
            both = " and ".join(repr(n.name) for n in value if n.environment_suffix == shared[0])
            raise ValueError(f"{both} would share the variable COMFYUI_TOKEN_{shared[0]}")
        return value


class Secrets(_Strict):
    """From the environment only; `repr` shows none of it."""

    discord_token: str | None = pydantic.Field(default=None, repr=False)
    access: Mapping[str, Access] = pydantic.Field(default_factory=dict, repr=False)
    discord_api: str | None = None
    database_password: str | None = pydantic.Field(default=None, repr=False)
    http_tokens: Mapping[str, str] = pydantic.Field(default_factory=dict, repr=False)

    @property
    def hidden(self) -> list[str]:
        """What may stand in no log."""
        logins = [each.login[1] for each in self.access.values() if each.login]
        tokens = [each.token for each in self.access.values() if each.token]
        own = (self.discord_token, self.database_password)
        return [each for each in (*own, *logins, *tokens, *self.http_tokens.values()) if each]

    @classmethod
    def from_environment(cls, config: Config, environment: Mapping[str, str]) -> Self:
        return cls(
            discord_token=environment.get("DISCORD_TOKEN") or None,
            access={each.name: _access(each, environment) for each in config.servers},
            discord_api=environment.get("COMFYCORD_DISCORD_API") or None,
            database_password=_password(config.database),
        )


def _http_tokens(http: HttpSettings, environment: Mapping[str, str]) -> dict[str, str]:
    """By member. Only where the HTTP face is on, as it alone needs them."""
    tokens: dict[str, str] = {}
    for name in http.members if http.port is not None else ():
        variable = f"HTTP_TOKEN_{_suffix(name)}"
        token = environment.get(variable, "").strip()
        if len(token) < _TOKEN_MIN:
            raise ConfigError(
                f"http.members: {name!r} needs {variable} in the environment, with at least "
                f"{_TOKEN_MIN} characters. `openssl rand -hex 24` makes one."
            )
        tokens[name] = token
    if len(set(tokens.values())) < len(tokens):
        raise ConfigError("http.members: two of them have the same token. Each needs its own.")
    return tokens


def _password(database: str) -> str | None:
    found = re.match(r"\w+://[^:@/]*:([^@/]+)@", database)
    return unquote(found[1]) if found else None


def _access(server: ServerSettings, environment: Mapping[str, str]) -> Access:
    token = environment.get(f"COMFYUI_TOKEN_{server.environment_suffix}", "").strip()
    login = environment.get(f"COMFYUI_LOGIN_{server.environment_suffix}", "").strip()
    user, _, password = (login or "").partition(":")
    if not login and (url := yarl.URL(server.url)).user:
        login, user, password = server.url, url.user or "", url.password or ""
    return Access(token or None, (user, password) if login else None, server.ca_file)


def load(
    path: Path = Path(CONFIG_FILE),
    environment: Mapping[str, str] = os.environ,
    *,
    starting: bool = True,
) -> tuple[Config, Secrets]:
    """`ConfigError` names the key, what was found and what is allowed. *starting*: what counts at
    the start only is asked for, too.

    `COMFYUI_BASE_URL` alone stands for one server named `local`, without any file.
    """
    data = _read(path) if path.exists() else {}
    if base_url := environment.get("COMFYUI_BASE_URL"):
        data["servers"] = [_server_at(base_url)]
    if shards := environment.get("DISCORD_SHARDS"):
        data["discord"] = {**(data.get("discord") or {}), "shards": shards}
    if database := environment.get("DATABASE_URL"):
        data["database"] = database
    elif _password(str(data.get("database", ""))) is not None:
        raise ConfigError(
            f"{path}: `database` holds a password. Move the whole address to the environment "
            "variable DATABASE_URL."
        )
    config = parse(data, str(path))
    if not base_url:
        for number, server in enumerate(config.servers):
            if yarl.URL(server.url).user is not None:
                raise ConfigError(
                    f"{path}: servers[{number}].url holds a login. Move it to the environment "
                    f"variable COMFYUI_LOGIN_{server.environment_suffix} as user:password."
                )
    for number, server in enumerate(config.servers):
        try:
            _access(server, {}).ssl()
        except OSError as error:
            raise ConfigError(
                f"{path}: `servers[{number}].ca_file`: {server.ca_file!r} is not there "
                "or holds no certificate."
            ) from error
    secrets = Secrets.from_environment(config, environment)
    if starting:
        tokens = _http_tokens(config.http, environment)
        secrets = secrets.model_copy(update={"http_tokens": tokens})
    return config, secrets


def _server_at(base_url: str) -> dict[str, str]:
    server = {"name": "local", "url": base_url}
    try:
        ServerSettings.model_validate(server)
    except pydantic.ValidationError as error:
        raise ConfigError(
            "COMFYUI_BASE_URL needs http:// or https:// in front, and a host."
        ) from error
    return server


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text("utf-8-sig"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: this is not YAML. Check the indentation.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error
    except ValueError as error:  # a date that does not exist
        raise ConfigError(f"{path}: {error}.") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected keys such as `servers:`, found {data!r}.")
    return {key: value for key, value in data.items() if value is not None}


def parse(data: Mapping[str, Any], where: str = CONFIG_FILE) -> Config:
    try:
        return Config.model_validate(data)
    except pydantic.ValidationError as error:
        raise ConfigError(f"{where}: {_worded(error)}") from error


# pydantic's own words for these are a programmer's.
_PLAIN = {
    "tuple_type": "takes a list, with `- ` before each entry",
    "model_type": "takes keys and values, indented below it",
    "int_parsing": "takes a whole number",
    "int_type": "takes a whole number",
    "int_from_float": "takes a whole number",
    "string_type": "takes a text",
    "string_pattern_mismatch": "takes letters, digits, - and _, at most 32 of them",
    "literal_error": "takes text or json",
}


def _worded(error: pydantic.ValidationError) -> str:
    """The first complaint; a misspelled key before the missing one that it should have been."""
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    key = ""
    for part in first["loc"]:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else str(part)
    if first["type"] == "extra_forbidden":
        model = _model_at(first["loc"][:-1])
        return f"unknown key `{key}`. Allowed here: {', '.join(model.model_fields)}."
    if first["type"] == "missing":
        return f"`{key}` is missing."
    message = _PLAIN.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    found = "" if first["type"] == "value_error" else f", found {first['input']!r}"
    return f"`{key}`: {message}{found}."


def _model_at(location: tuple[int | str, ...]) -> type[pydantic.BaseModel]:
    models: dict[str, type[pydantic.BaseModel]] = {
        "discord": DiscordSettings,
        "servers": ServerSettings,
        "limits": Limits,
        "fairness": Fairness,
        "http": HttpSettings,
    }
    return models.get(str(location[0]), Config) if location else Config
