"""The command line: `comfycord`, the same as `python -m bot`. Errors are one sentence."""

import asyncio
import contextlib
import importlib.metadata
import json
import logging
import shutil
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click
from dotenv import load_dotenv

from bot import app, config, health
from bot.config import Config, Secrets
from bot.errors import AppError, StoreError
from bot.health import Finding, Level
from bot.logs import set_up
from bot.store import Store
from comfy.convert import convert as editor_to_api
from comfy.errors import ServerError, WorkflowFileError
from comfy.graph import check_graph
from comfy.library import Library, Workflow
from comfy.nodes import NodeType

_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.FAILURE: "red"}
_debug = click.option("--debug", is_flag=True, help="Log every graph and request in full.")


def main() -> None:
    """Exit code 1 for an error of ours or a check that failed, 2 for a wrong flag."""
    try:
        load_dotenv(".env")
    except UnicodeDecodeError:
        click.secho(".env is not UTF-8 text. Save it again as UTF-8.", fg="red", err=True)
        raise SystemExit(1) from None
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
    if context.invoked_subcommand is None:
        context.invoke(run)


@cli.command()
@_debug
def run(debug: bool = False) -> None:
    """Run the bot until Ctrl-C."""
    settings, secrets = config.load()
    set_up(secrets.hidden, debug=debug)
    asyncio.run(_until_stopped(app.run(settings, secrets)))


@cli.command()
@click.option("--server", metavar="URL", help="A real ComfyUI instead of the painted one.")
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port of the page; any free one by default."
)
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@_debug
def demo(server: str | None, port: int | None, no_browser: bool, debug: bool) -> None:
    """Try the bot in a browser page: no token, no GPU."""
    try:
        from bot.demo import run_demo
    except ModuleNotFoundError as error:
        raise AppError(
            f'The demo needs {error.name}. Install it with: pip install "comfycord[demo]"'
        ) from error
    set_up([], debug=debug)
    asyncio.run(_until_stopped(run_demo(server, port, open_browser=not no_browser)))


@cli.command()
def check() -> None:
    """Tell what is right and how to mend the rest."""
    settings, secrets = config.load()
    findings = asyncio.run(_check(settings, secrets))
    for each in findings:
        click.echo(f"{click.style(each.level, fg=_COLOURS[each.level])} {each.text}")
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


@cli.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--object-info",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What GET /object_info of a ComfyUI answered, saved in a file.",
)
@click.option("--server", metavar="URL", help="Ask this ComfyUI; else the first of config.yaml.")
def convert(file: Path, object_info: Path | None, server: str | None) -> None:
    """Turn a workflow that the editor saved into API format."""
    try:
        data = json.loads(file.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise AppError(f"{file} is not JSON.") from error
    if not (isinstance(data, dict) and isinstance(data.get("nodes"), list)):
        graph = check_graph(data)  # it is API format already
    elif object_info is not None:
        graph = editor_to_api(data, json.loads(object_info.read_text("utf-8")))
    else:
        graph = editor_to_api(data, asyncio.run(_object_info(server)))
    click.echo(json.dumps(graph, ensure_ascii=False, indent=2))


@cli.command()
def init() -> None:
    """Write config.yaml and the workflows that ship into this folder."""
    if Path(config.CONFIG_FILE).exists() or Path("workflows").exists():
        raise AppError("config.yaml or workflows is here already, and init overwrites nothing.")
    shutil.copy(config.SHIPPED / config.CONFIG_FILE, config.CONFIG_FILE)
    shutil.copytree(config.SHIPPED / "workflows", "workflows")
    click.echo("Wrote config.yaml and workflows/. Next:")
    click.echo("  1. Set the address of your ComfyUI in config.yaml.")
    click.echo("  2. Put DISCORD_TOKEN=... into a file named .env")
    click.echo("  3. comfycord invite, and open the link")
    click.echo("  4. comfycord check")
    click.echo("  5. comfycord")


@cli.command()
def invite() -> None:
    """Print the link that brings the bot to a Discord server."""
    _, secrets = config.load()
    click.echo(asyncio.run(app.invite_link(secrets)))


def _print_workflow(workflow: Workflow, nodes: dict[str, NodeType]) -> None:
    click.secho(f"{workflow.name} ({len(workflow.graph)} nodes)", bold=True)
    for each in workflow.parameters(nodes).values():
        targets = ", ".join(str(target) for target in each.targets)
        shown = " ".join(str(each.default).split())
        click.echo(f"  {each.name:<10} {targets:<24} {each.type:<8} {shown[:60]}")
    for note in workflow.notes:
        click.echo(f"  ! {note}")


async def _object_info(server: str | None) -> dict[str, Any]:
    """Of the named server, or of the first one that is set up."""
    settings, secrets = config.load()
    if server is not None:
        chosen = config.parse({"servers": [{"name": "local", "url": server}]}, "--server")
        settings = settings.model_copy(update={"servers": chosen.servers})
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


async def _check(settings: Config, secrets: Secrets) -> list[Finding]:
    """Everything that can be known before the bot runs."""
    library = Library(Path(settings.workflows))
    await library.refresh()
    findings = [_config_finding()]
    try:
        async with Store.open(settings.database):
            findings.append(Finding(Level.OK, "the database can be opened"))
    except StoreError as error:
        findings.append(Finding(Level.FAILURE, str(error)))
    findings += health.library_findings(library)
    findings += await app.examine_discord(settings, secrets)
    if not settings.servers:
        findings.append(Finding(Level.FAILURE, "No ComfyUI server is set. Add one to config.yaml."))
    async with app.clients(settings, secrets) as clients:
        for client in clients.values():
            findings += await health.examine_server(client, library.workflows)
    return findings


def _config_finding() -> Finding:
    if Path(config.CONFIG_FILE).exists():
        return Finding(Level.OK, "config.yaml can be read")
    return Finding(Level.WARNING, "There is no config.yaml here. `comfycord init` writes one.")


async def _until_stopped(work: Coroutine[object, object, None]) -> None:
    """Ctrl-C and SIGTERM end *work* the same way, so that it can close what it opened."""
    task = asyncio.ensure_future(work)
    with contextlib.suppress(NotImplementedError):  # Windows has no such handlers
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    main()
