"""The workflows folder: `NAME.json` is a graph, `NAME.yaml` beside it says what people decided.

Changes on disk are picked up. A file that breaks keeps its last good version and says why. What
the bot itself changes is written whole or not at all, and the version before it goes to
`.earlier/NAME/`.
"""

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from comfy.errors import LibraryError, WorkflowFileError
from comfy.graph import Graph
from comfy.workflow import Sidecar, Workflow, check_name, dump_sidecar, fitting, parse_sidecar
from comfy.workflow_file import read

log = logging.getLogger(__name__)
T = TypeVar("T")

_POLL = 1.0
_EARLIER = ".earlier"
_EARLIER_MAX = 10  # versions of one workflow
_MOMENT = "%Y%m%dT%H%M%S.%fZ"

_Stamp = tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    """What the last look at one file gave. *workflow* may be older than the file."""

    stamp: _Stamp
    workflow: Workflow | None
    problem: str | None = None


class Library:
    """The workflows by name, in memory; reading and writing happen in a thread, one at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._entries: dict[str, _Entry] = {}
        self._workflows: dict[str, Workflow] = {}
        self._earlier: dict[str, tuple[datetime, ...]] = {}
        self._lock = asyncio.Lock()

    @property
    def workflows(self) -> Mapping[str, Workflow]:
        """By name, in alphabetical order."""
        return self._workflows

    @property
    def problems(self) -> dict[str, str]:
        """File name → what its owner must do."""
        return {f"{name}.json": e.problem for name, e in self._entries.items() if e.problem}

    @property
    def earlier(self) -> Mapping[str, tuple[datetime, ...]]:
        """When each version was put away that `restore` can bring back, newest first."""
        return self._earlier

    def twin(self, name: str) -> str | None:
        """A workflow of this name, letters' case aside: some file systems know no other."""
        return next((n for n in self._entries if n.casefold() == name.casefold()), None)

    async def refresh(self) -> None:
        """Look at the folder once."""
        async with self._lock:
            if not self._entries:
                self._earlier = await asyncio.to_thread(_read_earlier, self.folder)
            self._take(await asyncio.to_thread(_read_folder, self.folder, self._entries))

    async def watch(self) -> None:
        """For ever: look every second. A folder that cannot be read now may be later."""
        problem = ""
        while True:
            await asyncio.sleep(_POLL)
            try:
                await self.refresh()
                problem = ""
            except OSError as error:
                if str(error) != problem:
                    log.warning("the workflows folder cannot be read: %s", error)
                problem = str(error)
            except Exception:
                log.exception("the workflows folder could not be looked at")

    # What moderators do. `WorkflowFileError` and `LibraryError` leave everything as it was.

    async def add(self, name: str, graph: Graph, *, replace: bool = False) -> list[str]:
        """The names of parameters whose settings the graph of a replaced workflow loses."""

        def add() -> list[str]:
            if (twin := self.twin(name)) not in (None, name):
                raise LibraryError(f"There is a workflow named {twin}; only its case differs.")
            exists = self._path(name).exists()
            if exists and not replace:
                raise LibraryError(f"There is a workflow named {name} already. Set `replace`.")
            sidecar, dropped = fitting(graph, self._sidecar(name)) if exists else (Sidecar(), [])
            Workflow.of(name, graph, sidecar)
            if exists:
                self._keep(name)
            self._write(name, graph, sidecar)
            return dropped

        check_name(name)
        return await self._change(add)

    async def configure(
        self, name: str, change: Callable[[Workflow], Sidecar]
    ) -> tuple[Sidecar, Sidecar]:
        """Writes what *change* makes of the workflow as it is on disk now; before and after."""

        def configure() -> tuple[Sidecar, Sidecar]:
            workflow = self._on_disk(name)
            after = change(workflow)
            Workflow.of(name, workflow.graph, after)
            self._write(name, None, after)
            return workflow.sidecar, after

        return await self._change(configure)

    async def rename(self, name: str, new: str) -> None:
        def rename() -> None:
            self._on_disk(name)
            if (twin := self.twin(new)) not in (None, name):
                raise LibraryError(f"There is a workflow named {twin} already.")
            if new in self._earlier:
                raise LibraryError(f"A removed workflow was named {new}. Take another name.")
            beside = self._path(name, "yaml")
            if new.casefold() == name.casefold():
                if beside.exists():
                    beside.rename(self._path(new, "yaml"))
                self._path(name).rename(self._path(new))
            else:  # at no moment is there a graph without its limits
                if beside.exists():
                    _write_whole(self._path(new, "yaml"), beside.read_bytes())
                self._path(name).rename(self._path(new))
                beside.unlink(missing_ok=True)
            if self._folder_of_earlier(name).exists():
                self._folder_of_earlier(name).rename(self._folder_of_earlier(new))

        check_name(new)
        await self._change(rename)

    async def remove(self, name: str) -> None:
        """`restore` brings it back."""

        def remove() -> None:
            if not self._path(name).exists():
                raise LibraryError(f"There is no workflow named {name}.")
            self._keep(name)
            self._path(name).unlink()
            self._path(name, "yaml").unlink(missing_ok=True)

        await self._change(remove)

    async def restore(self, name: str, moment: datetime | None = None) -> datetime:
        """Brings back an earlier version, by default the newest; what is there now is kept."""

        def restore() -> datetime:
            moments = _read_earlier(self.folder).get(name, ())
            chosen = moment or next(iter(moments), None)
            if chosen not in moments or chosen is None:
                raise LibraryError(f"There is no such earlier version of {name}.")
            path = self._folder_of_earlier(name) / f"{chosen.strftime(_MOMENT)}.json"
            workflow = read_workflow(path, name)
            if self._path(name).exists():
                self._keep(name)
            self._write(name, workflow.graph, workflow.sidecar)
            path.unlink(missing_ok=True)
            path.with_suffix(".yaml").unlink(missing_ok=True)
            return chosen

        return await self._change(restore)

    async def _change(self, work: Callable[[], T]) -> T:
        """*work* in a thread, which is let finish even if the caller is cancelled."""

        async def change() -> T:
            async with self._lock:
                try:
                    result = await asyncio.to_thread(work)
                except OSError as error:
                    raise LibraryError(
                        f"The workflows folder cannot be changed: {error.strerror or error}."
                    ) from error
                entries = await asyncio.to_thread(_read_folder, self.folder, self._entries)
                self._earlier = await asyncio.to_thread(_read_earlier, self.folder)
                self._take(entries)
                return result

        return await asyncio.shield(asyncio.create_task(change()))

    def _take(self, entries: dict[str, _Entry]) -> None:
        changed = {
            name
            for name in entries.keys() | self._entries
            if _differs(name, entries, self._entries)
        }
        for name in sorted(changed):
            entry = entries.get(name)
            if entry is None:
                log.info("workflow %s is gone", name)
            elif entry.problem:
                kept = " Its last good version stays." if entry.workflow else ""
                log.warning("workflow %s.json %s%s", name, entry.problem, kept)
            else:
                log.info("workflow %s loaded", name)
        if changed:
            self._entries = entries
            self._workflows = {n: e.workflow for n, e in sorted(entries.items()) if e.workflow}

    # On disk, in a thread

    def _path(self, name: str, suffix: str = "json") -> Path:
        return self.folder / f"{name}.{suffix}"

    def _folder_of_earlier(self, name: str) -> Path:
        return self.folder / _EARLIER / name

    def _on_disk(self, name: str) -> Workflow:
        try:
            return read_workflow(self._path(name))
        except FileNotFoundError as error:
            raise LibraryError(f"There is no workflow named {name}.") from error

    def _sidecar(self, name: str) -> Sidecar:
        try:
            return parse_sidecar(self._path(name, "yaml").read_text("utf-8-sig"))
        except (FileNotFoundError, UnicodeDecodeError, WorkflowFileError):
            return Sidecar()  # a broken one is kept among the earlier versions

    def _keep(self, name: str) -> None:
        folder = self._folder_of_earlier(name)
        folder.mkdir(parents=True, exist_ok=True)
        moment = datetime.now(UTC).strftime(_MOMENT)
        for suffix in ("yaml", "json"):  # the graph last: without it there is no version
            if self._path(name, suffix).exists():
                _write_whole(folder / f"{moment}.{suffix}", self._path(name, suffix).read_bytes())
        for old in sorted(folder.glob("*.json"), reverse=True)[_EARLIER_MAX:]:
            old.unlink(missing_ok=True)
            old.with_suffix(".yaml").unlink(missing_ok=True)

    def _write(self, name: str, graph: Graph | None, sidecar: Sidecar) -> None:
        """Both files are complete beside their places before the first one moves there.

        Limits come before the graph and go after it: at no moment is it open without them.
        """
        text, beside = dump_sidecar(sidecar), self._path(name, "yaml")
        before = beside.read_bytes() if beside.exists() else None
        with ExitStack() as stack:
            new_sidecar = stack.enter_context(_beside(beside, text.encode()))
            if graph is not None:
                data = json.dumps(graph, ensure_ascii=False, indent=2).encode()
                new_graph = stack.enter_context(_beside(self._path(name), data))
            if text:
                new_sidecar.replace(beside)
            try:
                if graph is not None:
                    new_graph.replace(self._path(name))
            except OSError:  # a file that another program holds open, on Windows
                if before is None:
                    beside.unlink(missing_ok=True)
                else:
                    beside.write_bytes(before)
                raise
            if not text:
                beside.unlink(missing_ok=True)


def read_workflow(path: Path, name: str = "") -> Workflow:
    """One file and its sidecar. `utf-8-sig` as some editors on Windows write a mark in front."""
    name = name or path.stem
    check_name(name)
    file = read(path.read_bytes())
    if file.graph is None:
        raise WorkflowFileError(
            "is in the editor's format. Add it in Discord with /workflow add, or make API format "
            "of it with `comfycord convert`."
        )
    beside = path.with_suffix(".yaml")
    try:
        sidecar = parse_sidecar(beside.read_text("utf-8-sig")) if beside.exists() else None
    except UnicodeDecodeError as error:
        raise WorkflowFileError("has a sidecar that is not UTF-8 text.") from error
    return Workflow.of(name, file.graph, sidecar)


def _differs(name: str, now: Mapping[str, _Entry], before: Mapping[str, _Entry]) -> bool:
    one, other = now.get(name), before.get(name)
    return one is None or other is None or one.stamp != other.stamp


def _read_folder(folder: Path, known: Mapping[str, _Entry]) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    if known and not os.access(folder, os.R_OK | os.X_OK):  # `glob` would find nothing in it
        raise OSError(f"{folder} is not there or not readable")
    for path in sorted(folder.glob("*.json")):
        stamp = (_stamp(path), _stamp(path.with_suffix(".yaml")))
        before = known.get(path.stem)
        entries[path.stem] = (
            before if before and before.stamp == stamp else _read(path, stamp, before)
        )
    return entries


def _read_earlier(folder: Path) -> dict[str, tuple[datetime, ...]]:
    found: dict[str, list[datetime]] = {}
    for path in sorted((folder / _EARLIER).glob("*/*.json"), reverse=True):
        with contextlib.suppress(ValueError):
            moment = datetime.strptime(path.stem, _MOMENT).replace(tzinfo=UTC)
            found.setdefault(path.parent.name, []).append(moment)
    return {name: tuple(moments) for name, moments in sorted(found.items())}


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def _read(path: Path, stamp: _Stamp, before: _Entry | None) -> _Entry:
    kept = before.workflow if before else None
    try:
        return _Entry(stamp, read_workflow(path))
    except WorkflowFileError as error:
        return _Entry(stamp, kept, str(error))
    except OSError as error:
        return _Entry(stamp, kept, f"cannot be read ({error.strerror}).")


def _write_whole(path: Path, data: bytes) -> None:
    with _beside(path, data) as new:
        new.replace(path)


@contextmanager
def _beside(path: Path, data: bytes) -> Iterator[Path]:
    """A file with *data*, safe on the disk, to be moved onto *path*; else it goes again."""
    new = path.with_name(f".{path.name}.new")
    try:
        with new.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield new
    finally:
        new.unlink(missing_ok=True)
