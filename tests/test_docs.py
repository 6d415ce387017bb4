"""What exists is documented, and what is documented exists."""

import ast
import re
from pathlib import Path

import click
import pydantic
import pytest
import yaml

from bot import config
from bot.__main__ import cli
from bot.config import Config
from bot.delivery import NEEDED
from comfy.workflow import Allowed, ParameterSettings, Sidecar

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
GUIDE = (ROOT / "docs/workflows.md").read_text("utf-8")


def config_keys(model: type[pydantic.BaseModel], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, field in model.model_fields.items():
        inner = re.search(r"bot\.config\.(\w+)", str(field.annotation))
        if inner and issubclass(getattr(config, inner[1]), pydantic.BaseModel):
            many = "[]" if "tuple" in str(field.annotation) else ""
            model_inside = getattr(config, inner[1])
            keys += config_keys(model_inside, f"{prefix}{name}{many}.")
        else:
            keys.append(prefix + name)
    return keys


def slash_commands() -> dict[str, list[str]]:
    """Name → options, read from the cogs."""
    found: dict[str, list[str]] = {}
    for path in (ROOT / "cogs").glob("*.py"):
        for cog in ast.parse(path.read_text("utf-8")).body:
            if not isinstance(cog, ast.ClassDef):
                continue
            groups = [ast.literal_eval(k.value) for k in cog.keywords if k.arg == "group_name"]
            for node in cog.body:
                if isinstance(node, ast.AsyncFunctionDef) and any(
                    "app_commands.command" in ast.unparse(each) for each in node.decorator_list
                ):
                    decorators = " ".join(ast.unparse(each) for each in node.decorator_list)
                    named = re.search(r"command\(name='(\w+)'", decorators)
                    name = " ".join([*groups, named[1] if named else node.name])
                    found[name] = [argument.arg for argument in node.args.args[2:]]
    return found


@pytest.mark.parametrize("key", config_keys(Config))
def test_every_key_is_in_the_readme_and_in_the_example(key: str) -> None:
    assert f"`{key}`" in README
    assert re.search(rf"^[\s#-]*{key.split('.')[-1]}\b", (ROOT / "config.yaml").read_text(), re.M)


def test_every_command_and_option_is_in_the_readme() -> None:
    commands = slash_commands()

    assert commands.keys() >= {"generate", "workflows", "status", "test_comfy", "workflow add"}
    for name, options in commands.items():
        (row,) = re.findall(rf"^\| `/{name}` \|.*$", README, re.M)
        assert re.findall(r"`(\w+)`", row) == options


def test_every_moderators_command_is_in_their_guide() -> None:
    for name in slash_commands():
        if name.startswith("workflow "):
            assert f"/{name}" in GUIDE


@pytest.mark.parametrize("model", [Sidecar, ParameterSettings, Allowed])
def test_every_key_of_a_sidecar_is_in_the_guide(model: type[pydantic.BaseModel]) -> None:
    for key in model.model_fields:
        assert re.search(rf"^\s*{key}:", GUIDE, re.M), key


def test_every_command_line_and_flag_is_in_the_readme() -> None:
    context = click.Context(cli)
    for name, command in cli.commands.items():
        assert f"comfycord {name}" in README
        for parameter in command.params:
            if isinstance(parameter, click.Argument):
                assert f"`comfycord {name} {parameter.make_metavar(context)}`" in README
            else:
                assert all(f"`{flag}" in README for flag in parameter.opts), parameter.opts


def test_every_environment_variable_is_in_the_readme() -> None:
    source = (ROOT / "bot/config.py").read_text("utf-8")

    for name in re.findall(r'"((?:DISCORD|COMFYUI|DATABASE|COMFYCORD)_\w+)"', source):
        assert f"`{name}`" in README


def test_every_workflow_that_ships_is_in_the_readme() -> None:
    for path in (ROOT / "workflows").glob("*.json"):
        assert f"`{path.stem}`" in README


def test_every_permission_is_in_the_decisions() -> None:
    text = (ROOT / "docs/decisions/0006-results-are-edits.md").read_text("utf-8")

    for name in NEEDED.values():
        assert name in text


def test_links_and_pictures_lead_somewhere() -> None:
    for folder, text in ((ROOT, README), (ROOT / "docs", GUIDE)):
        for target in re.findall(r"\]\((?!http)([^)#]+)(?:#[^)]*)?\)", text):
            assert (folder / target).exists(), target


def test_decisions_are_short() -> None:
    for path in (ROOT / "docs/decisions").glob("*.md"):
        assert len(path.read_text("utf-8").splitlines()) <= 25, path


def test_the_example_of_several_bots_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ROOT / "docs/examples/scaling"
    services = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
    shards = [each["environment"].get("DISCORD_SHARDS") for each in services.values()]

    settings, _ = config.load(folder / "config.yaml", {"DATABASE_URL": "postgresql://b@c/d"})

    assert shards == ["0/3", "1/3", "2/3", None]
    assert len(settings.servers) == 2
    for name, variable in re.findall(r"(\w+)=(\d/\d)", (ROOT / "docs/scaling.md").read_text()):
        found, _ = config.load(folder / "config.yaml", {name: variable})
        assert str(found.discord.shards) == f"{variable[0]}-{variable}"
