"""The command line: `comfycord`, the same as `python -m bot`. Errors are one sentence."""

import asyncio
import contextlib
import importlib.metadata
import json
import logging
import math
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import click
import discord
import yaml
import yarl
from dotenv import dotenv_values, load_dotenv

from bot import app, config, examination, health
from bot.config import Config, Secrets, ServerSettings
from bot.errors import AppError, ConfigError
from bot.health import Level
from bot.logs import set_up
from comfy.errors import ServerError, WorkflowFileError
from comfy.inspection import Inspection
from comfy.inspection import inspect as find
from comfy.library import Library
from comfy.nodes import NodeType
from comfy.parameters import Parameter
from comfy.workflow import Workflow
from comfy.workflow_file import read, to_graph

log = logging.getLogger(__name__)

_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.FAILURE: "red"}
_SECRETS = Path(".env")
_LOCAL = "http://127.0.0.1:8188"  # as in the config.yaml that ships
_CLOSING = 8.0  # seconds for closing what is open
_debug = click.option("--debug", is_flag=True, help="Log every graph and request in full.")


def main() -> None:
    """Exit code 1 for an error of ours or a check that failed, 2 for a wrong flag."""
    logging.getLogger().addHandler(logging.NullHandler())  # what is printed is enough
    try:
        cli(prog_name="comfycord", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        raise SystemExit(error.exit_code) from None
    except (AppError, ServerError) as error:
        click.secho(str(error), fg="red", err=True)
        raise SystemExit(1) from None
    except WorkflowFileError as error:
        click.secho(f"The file {error}", fg="red", err=True)
        raise SystemExit(1) from None
    except (click.Abort, KeyboardInterrupt):
        raise SystemExit(130) from None


@click.group(invoke_without_command=True)
@click.version_option(importlib.metadata.version("comfycord"), prog_name="comfycord")
@click.pass_context
def cli(context: click.Context) -> None:
    """A Discord bot for ComfyUI. Without a command it runs the bot."""
    if (problem := health.unreadable(_SECRETS)) is None:
        load_dotenv(_SECRETS, encoding="utf-8-sig")
    elif context.invoked_subcommand != "check":  # which tells it with the rest
        raise AppError(problem)
    if context.invoked_subcommand is None:
        context.invoke(run)


@cli.command()
@_debug
def run(debug: bool = False) -> None:
    """Run the bot until Ctrl-C."""
    settings, secrets = config.load()
    set_up(secrets.hidden, debug=debug, as_json=settings.log == "json")
    for each in health.open_secrets(_SECRETS):
        log.warning(each.text)
    asyncio.run(_until_stopped(app.run(settings, secrets)))


@cli.command()
@click.option("--server", metavar="URL", help="A real ComfyUI instead of the painted one.")
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port of the page; any free one by default."
)
@click.option(
    "--language",
    type=click.Choice([str(each) for each in discord.Locale], case_sensitive=False),
    default="en-US",
    help="Discord's code of the language that everybody speaks, such as zh-CN.",
    metavar="CODE",
)
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@_debug
def demo(
    server: str | None, port: int | None, language: str, no_browser: bool, debug: bool
) -> None:
    """Try the bot in a browser page: no token, no GPU."""
    try:
        from bot.demo import run_demo
    except ModuleNotFoundError as error:
        raise AppError(
            f'The demo needs {error.name}. Install it with: pip install "comfycord[demo]"'
        ) from error
    set_up([], debug=debug)
    asyncio.run(_until_stopped(run_demo(server, port, language, open_browser=not no_browser)))


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def check(as_json: bool) -> None:
    """Tell what is right and how to mend the rest.

    Exit code 1 if something is wrong, 0 if there are warnings at most.
    """
    try:
        settings, secrets = config.load()
    except ConfigError as error:
        findings = [examination.refused(error)]
    else:
        findings = asyncio.run(examination.examine(settings, secrets, _SECRETS))
    if as_json:
        told = [each.to_json() for each in findings]
        click.echo(json.dumps(told, ensure_ascii=False, indent=2))
    else:
        for each in findings:
            click.echo(f"{click.style(each.level, fg=_COLOURS[each.level])} {each.line}")
    if any(each.level is Level.FAILURE for each in findings):
        raise SystemExit(1)


@cli.command()
def workflows() -> None:
    """List the workflows in the folder and what was found in each."""
    settings, secrets = config.load()
    library = Library(Path(settings.workflows))
    nodes = asyncio.run(_look_around(library, settings, secrets))
    for _, workflow in sorted(library.workflows.items()):
        _print_workflow(workflow, nodes)
    for name, problem in sorted(library.problems.items()):
        click.secho(f"{name} {problem}", fg="yellow")
    if not library.workflows and not library.problems:
        raise AppError(health.library_findings(library)[0].text)


_file = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
_object_info_file = click.option(
    "--object-info",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What GET /object_info of a ComfyUI answered, saved in a file.",
)
_server = click.option(
    "--server", metavar="URL", help="Ask this ComfyUI; else the first of config.yaml."
)


@cli.command()
@_file
@_object_info_file
@_server
def convert(file: Path, object_info: Path | None, server: str | None) -> None:
    """Turn a workflow, or a picture that carries one, into API format."""
    found = read(file.read_bytes())
    info = _object_info(object_info, server) if found.needs_server else {}
    graph, _ = to_graph(found, info)
    click.echo(json.dumps(graph, ensure_ascii=False, indent=2))


@cli.command()
@_file
@_object_info_file
@_server
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def inspect(file: Path, object_info: Path | None, server: str | None, as_json: bool) -> None:
    """Tell what the bot finds in one workflow file."""
    found = read(file.read_bytes())
    info: dict[str, Any] = {}
    if found.needs_server or object_info or server:
        info = _object_info(object_info, server)
    else:
        with contextlib.suppress(AppError, ServerError):
            info = _object_info(None, None)
    inspection = find(found, info)
    if as_json:
        click.echo(json.dumps(inspection.to_json(), ensure_ascii=False, indent=2))
    else:
        _print_inspection(file.name, inspection)


@cli.command()
@click.option("--token", metavar="TOKEN", help="The bot's. A terminal is asked for it.")
@click.option("--server", metavar="URL", help="A ComfyUI. A terminal is asked for it.")
def init(token: str | None, server: str | None) -> None:
    """Write config.yaml, the workflows that ship and .env into this folder.

    What is here already stays as it is.
    """
    settings = Path(config.CONFIG_FILE)
    known = bool(os.environ.get("DISCORD_TOKEN"))  # in .env or not
    if sys.stdin.isatty():
        if token is None and not known:
            token = click.prompt("Token of the bot (or nothing)", "", True, show_default=False)
        if server is None and not settings.exists():
            server = click.prompt("Address of ComfyUI", _LOCAL)
    if server is not None:
        server = _address(server)
    if token and not re.fullmatch(r"[\w.-]+", token, re.ASCII):
        raise AppError("A token has letters, digits, dots, - and _ only. Copy it again.")
    try:
        wrote = _unless_here(settings, partial(_write_settings, settings, server or _LOCAL))
        workflows = Path("workflows")
        _unless_here(workflows, partial(shutil.copytree, config.SHIPPED / workflows, workflows))
        known |= _keep_token(token)
    except OSError as error:
        raise AppError(f"This folder cannot be written: {error}.") from error
    steps = ["comfycord invite, and open the link", "comfycord check", "comfycord"]
    if not known:
        steps.insert(0, "Put DISCORD_TOKEN=... into a file named .env")
    if wrote is (server is None):
        steps.insert(0, "Set the address of your ComfyUI in config.yaml.")
    click.echo("Next:")
    for number, step in enumerate(steps, 1):
        click.echo(f"  {number}. {step}")


@cli.command()
def invite() -> None:
    """Print the link that brings the bot to a Discord server."""
    _, secrets = config.load()
    click.echo(asyncio.run(app.invite_link(secrets)))


def _address(url: str) -> str:
    (server,) = _only(url)
    if yarl.URL(server.url).user is not None:
        raise AppError(
            "--server holds a login. Leave it out, and write COMFYUI_LOGIN_LOCAL=user:password "
            "into .env."
        )
    return server.url


def _only(url: str) -> tuple[ServerSettings, ...]:
    return config.parse({"servers": [{"name": "local", "url": url}]}, "--server").servers


def _unless_here(path: Path, write: Callable[[], object]) -> bool:
    """Whether it was written."""
    if path.exists():
        click.echo(f"{path} is here already and stays as it is.")
        return False
    write()
    click.echo(f"Wrote {path}.")
    return True


def _write_settings(path: Path, server: str) -> None:
    """As they ship, comments and all, but for the address."""
    text = (config.SHIPPED / config.CONFIG_FILE).read_text("utf-8")
    quoted = yaml.safe_dump(server, width=math.inf, allow_unicode=True).splitlines()[0]
    with path.open("x", encoding="utf-8") as file:
        file.write(text.replace(f"url: {_LOCAL}", f"url: {quoted}"))


def _keep_token(token: str | None) -> bool:
    """In .env, which nobody else can read from its first byte on. Whether one is there then."""
    if dotenv_values(_SECRETS, encoding="utf-8-sig").get("DISCORD_TOKEN"):
        click.echo(f"{_SECRETS} has a token already and keeps it.")
        return True
    if not token:
        return False
    with open(os.open(_SECRETS, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="utf-8") as file:
        _SECRETS.chmod(0o600)
        before = file.read()
        begin = "\n" if before and not before.endswith("\n") else ""
        file.write(f"{begin}DISCORD_TOKEN={token}\n")
    click.echo(f"Wrote {_SECRETS}.")
    return True


def _print_parameters(parameters: Iterable[Parameter]) -> None:
    for each in parameters:
        targets = ", ".join(str(target) for target in each.targets)
        shown = " ".join(str(each.default).split())
        hidden = "hidden " if each.hidden else ""
        click.echo(f"  {each.name:<10} {targets:<24} {each.type:<8} {hidden}{shown[:60]}")


def _print_workflow(workflow: Workflow, nodes: dict[str, NodeType]) -> None:
    click.secho(f"{workflow.name} ({len(workflow.graph)} nodes)", bold=True)
    _print_parameters(workflow.parameters(nodes).values())
    for problem in health.examine_workflow(workflow.graph, nodes) if nodes else ():
        click.secho(f"  ! {problem}", fg="yellow")
    for note in workflow.notes:
        click.echo(f"  ! {note}")


def _print_inspection(name: str, inspection: Inspection) -> None:
    click.secho(f"{name} ({inspection.format} format)", bold=True)
    _print_parameters(inspection.found.parameters.values())
    for output in inspection.found.outputs:
        click.echo(f"  makes {output.kind} at node {output.node_id}")
    for class_type in inspection.missing_nodes:
        click.secho(f"  ! the server has no node {class_type}", fg="yellow")
    for model in inspection.missing_models:
        where = f"{model.node_id}.{model.input}"
        click.secho(f"  ! the server has no file {model.value} ({where})", fg="yellow")
    for note in (*inspection.found.notes, *inspection.notes):
        click.secho(f"  ! {note}", fg="yellow")


def _object_info(file: Path | None, server: str | None) -> dict[str, Any]:
    """From the file, of the named server, or of the first one that is set up."""
    if file is None:
        return asyncio.run(_ask_object_info(server))
    try:
        data = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise AppError(f"{file} is not JSON.") from error
    if not isinstance(data, dict):
        raise AppError(f"{file} is not what GET /object_info answers.")
    return data


async def _ask_object_info(server: str | None) -> dict[str, Any]:
    settings, secrets = config.load()
    if server is not None:
        settings = settings.model_copy(update={"servers": _only(server)})
    async with app.clients(settings, secrets) as clients:
        for client in clients.values():
            return await client.raw_object_info()
    raise AppError("Name a ComfyUI with --server, or a file with --object-info.")


async def _look_around(library: Library, settings: Config, secrets: Secrets) -> dict[str, NodeType]:
    """Reads the folder, and asks the servers for their nodes: without them ranges are unknown."""
    await library.refresh()
    async with app.clients(settings, secrets) as clients:
        for client in clients.values():
            with contextlib.suppress(ServerError):
                return await client.object_info()
    return {}


async def _until_stopped(work: Coroutine[object, object, None]) -> None:
    """Ctrl-C and SIGTERM end *work* the same way, so that it can close what it opened."""
    task, stop = asyncio.ensure_future(work), asyncio.Event()
    with contextlib.suppress(NotImplementedError):  # Windows has no such handlers
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        while not task.done():  # one cancel may get lost: `wait_for` of Python 3.11 swallows some
            task.cancel()
            await asyncio.wait([task], timeout=_CLOSING)
    with contextlib.suppress(asyncio.CancelledError):
        task.result()


if __name__ == "__main__":
    main()
