"""Writes `docs/configuration.md`: `uv run python docs/update_configuration.py`.

Types, ranges and defaults are those of the models in `bot/config.py`; what a key means is what the
comments in `config.yaml` say of it. Only the environment has its words here.
"""

import json
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from bot.config import Config
from bot.reloading import _AT_THE_START

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/configuration.md"
_HEAD = """# Configuration

Every key of `config.yaml` and every variable of the environment. This page is made of the code and
of the comments in [config.yaml](../config.yaml) by `uv run python docs/update_configuration.py`.

- Every key may be left out. An unknown key or a wrong value stops the start and is named.
- `comfycord check` reads the file and says what is wrong.
- While the bot runs, the file is read again when it changes. A mistake changes nothing; the log
  says why. {late} count from the next start on.
- Secrets stand in the environment or in the file `.env`, never in `config.yaml`.
"""
_VARIABLE = re.compile(r"[A-Z]+_[A-Z_]+(?:<NAME>)?(?:=\S+)?")
_TEXTS = {r"^[\w-]{1,32}$": "letters, digits, - and _, at most 32"}
# Key → the variables that say it too, or belong to it.
_VARIABLES = {
    "discord.shards": "`DISCORD_SHARDS`",
    "servers[].name": "`COMFYUI_TOKEN_<NAME>`, `COMFYUI_LOGIN_<NAME>`",
    "servers[].url": "`COMFYUI_BASE_URL`",
    "database": "`DATABASE_URL`",
    "http.members": "`HTTP_TOKEN_<NAME>`",
}
_ENVIRONMENT = """
## The environment

`<NAME>` is the name in capitals; every sign that is no letter or digit becomes `_`. The server
`gpu-1` has `COMFYUI_TOKEN_GPU_1`.

| variable | what it is | example |
|---|---|---|
| `DISCORD_TOKEN` | the bot's token; needed | |
| `COMFYUI_TOKEN_<NAME>` | bearer token of that server | |
| `COMFYUI_LOGIN_<NAME>` | login of that server | `bot:password` |
| `COMFYUI_BASE_URL` | one ComfyUI server named `local`, in place of `servers`; a login may \
stand in it | `http://127.0.0.1:8188` |
| `DATABASE_URL` | in place of `database`; the only place for an address with a password | \
`postgresql://user:password@host/comfycord` |
| `DISCORD_SHARDS` | in place of `discord.shards` | `0-1/4` |
| `HTTP_TOKEN_<NAME>` | token of that name in `http.members`, at least 16 characters; \
`openssl rand -hex 24` makes one | |
| `COMFYCORD_DISCORD_API` | another root of Discord's API, for tests | `http://127.0.0.1:9000` |

`.env` lies in the folder where the bot is started, one `NAME=value` a line. What the environment
has counts more. `chmod 600 .env` keeps others on the machine from reading it.
"""


class Row(NamedTuple):
    """*key* as in `servers[].name`; the rest in words."""

    key: str
    meaning: str
    takes: str
    default: str


def rows() -> Iterator[Row]:
    """In the order of the models."""
    schema = Config.model_json_schema()
    comments = _comments((ROOT / "config.yaml").read_text("utf-8"))

    def inside(model: dict[str, Any], prefix: str) -> Iterator[Row]:
        for name, field in model["properties"].items():
            key = prefix + name
            many = field.get("items", {})
            if inner := _model(schema, field) or _model(schema, many):
                yield from inside(inner, f"{key}[]." if many else f"{key}.")
                continue
            needed = name in model.get("required", ())
            default = "needed" if needed else _default(field.get("default", {}))
            yield Row(key, comments[key], _takes(field), default)

    yield from inside(schema, "")


def _model(schema: dict[str, Any], field: dict[str, Any]) -> dict[str, Any] | None:
    """The group of keys that a field stands for, if it does."""
    found = schema["$defs"].get(field.get("$ref", "").rpartition("/")[2], {})
    return found if "properties" in found else None


def _default(value: object) -> str:
    if value is None:
        return "left out"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _takes(field: dict[str, Any]) -> str:
    """Type and range, for people."""
    if choices := field.get("anyOf"):
        (field,) = (each for each in choices if each.get("type") != "null")
    match field:
        case {"enum": values}:
            return " or ".join(f"`{each}`" for each in values)
        case {"type": "integer" | "number" as kind}:
            return f"{'whole number' if kind == 'integer' else 'number'}{_range(field)}"
        case {"type": "array", "items": {"type": "integer"}}:
            return "list of ids"
        case {"type": "array", "items": inner}:
            return f"list, each a {_takes(inner)}"
        case {"type": "object", "additionalProperties": inner}:
            return f"by id, a {_takes(inner)}"
        case {"pattern": pattern}:
            return f"text: {_TEXTS[pattern]}"
    return "text"


def _range(field: dict[str, Any]) -> str:
    low, high = field.get("minimum"), field.get("maximum")
    if low is not None and high is not None:
        return f", {low} to {high}"
    if low is not None:
        return f", {low} or more"
    return f" above {field['exclusiveMinimum']}" if "exclusiveMinimum" in field else ""


def _comments(text: str) -> dict[str, str]:
    """What stands behind a key, else above it; of the servers, in their list."""
    found: dict[str, str] = {}
    above: list[str] = []
    section = ""
    for line in text.splitlines():
        listed = re.fullmatch(r"#   (\w+)  +(.+)", line)
        key = re.fullmatch(r"( *)(?:# )?(?:- )?([a-z_]+):(?: +([^#]*?))?(?: +# (.+))?", line)
        if listed:
            found[f"servers[].{listed[1]}"] = listed[2]
        elif key:
            indent, name, _, behind = key.groups()
            if not indent:
                section = name
            path = f"{section}.{name}" if indent else name
            found.setdefault(path, behind or " ".join(above))
            above = []
        elif line.lstrip().startswith("# "):
            above.append(line.strip(" #"))
        else:
            above = []
    return {key: _VARIABLE.sub(r"`\g<0>`", text.rstrip(".")) for key, text in found.items()}


def page() -> str:
    *others, last = (f"`{each}`" for each in _AT_THE_START)
    text = _HEAD.format(late=f"{', '.join(others)} and {last}")
    for section, group in groupby(sorted(rows(), key=lambda row: "." in row.key), _section):
        text += f"\n## {section}\n\n| key | what it is | takes | default | environment |\n"
        text += "|---|---|---|---|---|\n"
        for row in group:
            variables = _VARIABLES.get(row.key, "")
            text += f"| `{row.key}` | {row.meaning} | {row.takes} | {row.default} | {variables} |\n"
    return text + _ENVIRONMENT


def _section(row: Row) -> str:
    group, dot, _ = row.key.partition(".")
    return f"`{group.removesuffix('[]')}`" if dot else "Single keys"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
