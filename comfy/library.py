"""The workflows folder: `NAME.json` is a graph, `NAME.yaml` beside it says what people decided.

Changes on disk are picked up. A file that breaks keeps its last good version and says why.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from comfy.errors import LibraryError, WorkflowFileError
from comfy.folder import Added, Folder, read_earlier, read_workflow
from comfy.graph import Graph
from comfy.phrases import say
from comfy.workflow import Sidecar, Workflow

log = logging.getLogger(__name__)
T = TypeVar("T")

_POLL = 2.0

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
        self._files = Folder(folder)
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
                self._earlier = await asyncio.to_thread(read_earlier, self.folder)
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

    async def add(self, name: str, graph: Graph, *, replace: bool = False) -> Added:
        return await self._change(lambda: self._files.add(name, graph, replace=replace), name)

    async def configure(
        self, name: str, change: Callable[[Workflow], Sidecar]
    ) -> tuple[Workflow, Workflow]:
        """Before and after *change*, which sees the workflow as it is on the disk then."""
        return await self._change(lambda: self._files.configure(name, change), name)

    async def rename(self, name: str, new: str) -> None:
        await self._change(lambda: self._files.rename(name, new), name, new)

    async def remove(self, name: str) -> Workflow | None:
        """What it was; `restore` brings it back."""
        return await self._change(lambda: self._files.remove(name), name)

    async def restore(
        self, name: str, moment: datetime | None = None
    ) -> tuple[Workflow | None, Workflow, datetime]:
        """What was there, what is there now, and when that was put away; by default the newest."""
        return await self._change(lambda: self._files.restore(name, moment), name)

    async def _change(self, work: Callable[[], T], *names: str) -> T:
        """*work* in a thread, which is let finish even if the caller is cancelled."""

        async def change() -> T:
            async with self._lock:
                try:
                    result = await asyncio.to_thread(work)
                except OSError as error:
                    reason = error.strerror or str(error)
                    raise LibraryError(
                        say("The workflows folder cannot be changed: {reason}.", reason=reason)
                    ) from error
                # read anew, as a disk's clock may be too coarse to show the change
                known = {n: e for n, e in self._entries.items() if n not in names}
                entries = await asyncio.to_thread(_read_folder, self.folder, known)
                self._earlier = await asyncio.to_thread(read_earlier, self.folder)
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


def _differs(name: str, now: Mapping[str, _Entry], before: Mapping[str, _Entry]) -> bool:
    return now.get(name) is not before.get(name)


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
        return _Entry(stamp, kept, error.args[0])
    except OSError as error:
        return _Entry(stamp, kept, say("cannot be read ({reason}).", reason=str(error.strerror)))
