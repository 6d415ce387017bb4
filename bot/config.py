"""config.yaml and the environment → frozen settings. A wrong key is named, never ignored."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pydantic
import yaml
import yarl

from bot.errors import ConfigError
from comfy.client import Access

CONFIG_FILE = "config.yaml"
# config.yaml and workflows as they ship: inside the wheel, or beside the package in a clone.
_PACKAGE = Path(__file__).parent
SHIPPED = _PACKAGE / "shipped" if (_PACKAGE / "shipped").is_dir() else _PACKAGE.parent


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class DiscordSettings(_Strict):
    guilds: tuple[int, ...] = ()


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
        return re.sub(r"\W", "_", self.name).upper()


class Limits(_Strict):
    jobs_per_user: int = pydantic.Field(default=5, ge=1)
    queue: int = pydantic.Field(default=1000, ge=1)
    pixels: int = pydantic.Field(default=4194304, ge=4096)
    upload_mb: int = pydantic.Field(default=25, ge=1, le=100)
    jobs_per_day: int | None = pydantic.Field(default=None, ge=1)
    gpu_seconds_per_day: int | None = pydantic.Field(default=None, ge=1)
    blocked_words: tuple[str, ...] = ()


class Config(_Strict):
    discord: DiscordSettings = DiscordSettings()
    servers: tuple[ServerSettings, ...] = ()
    database: str = "sqlite:///data/comfycord.db"
    workflows: str = "workflows"
    limits: Limits = Limits()
    retention_days: int = pydantic.Field(default=30, ge=1)

    @property
    def spool(self) -> Path:
        """A folder of our own for files on their way, beside the database file."""
        return self._beside_database("spool")

    @property
    def uploads(self) -> Path:
        """Where what people give is kept."""
        return self._beside_database("uploads")

    @property
    def lock(self) -> Path:
        """Held by the process that runs on the database."""
        return self._beside_database("lock")

    def _beside_database(self, what: str) -> Path:
        path = Path(self.database.partition("sqlite:///")[2])
        return path.with_name(f"{path.name}.{what}") if path.name else Path(what)

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

    @property
    def hidden(self) -> list[str]:
        """What may stand in no log."""
        logins = [each.login[1] for each in self.access.values() if each.login]
        tokens = [each.token for each in self.access.values() if each.token]
        return [each for each in (self.discord_token, *logins, *tokens) if each]

    @classmethod
    def from_environment(cls, config: Config, environment: Mapping[str, str]) -> Self:
        return cls(
            discord_token=environment.get("DISCORD_TOKEN") or None,
            access={each.name: _access(each, environment) for each in config.servers},
            discord_api=environment.get("COMFYCORD_DISCORD_API") or None,
        )


def _access(server: ServerSettings, environment: Mapping[str, str]) -> Access:
    token = environment.get(f"COMFYUI_TOKEN_{server.environment_suffix}", "").strip()
    login = environment.get(f"COMFYUI_LOGIN_{server.environment_suffix}", "").strip()
    user, _, password = (login or "").partition(":")
    if not login and (url := yarl.URL(server.url)).user:
        login, user, password = server.url, url.user or "", url.password or ""
    return Access(token or None, (user, password) if login else None, server.ca_file)


def load(
    path: Path = Path(CONFIG_FILE), environment: Mapping[str, str] = os.environ
) -> tuple[Config, Secrets]:
    """Read once, at the start. `ConfigError` names the key, what was found and what is allowed.

    `COMFYUI_BASE_URL` alone stands for one server named `local`, without any file.
    """
    data = _read(path) if path.exists() else {}
    if base_url := environment.get("COMFYUI_BASE_URL"):
        data["servers"] = [_server_at(base_url)]
    if database := environment.get("DATABASE_URL"):
        data["database"] = database
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
    return config, Secrets.from_environment(config, environment)


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
    }
    return models.get(str(location[0]), Config) if location else Config
