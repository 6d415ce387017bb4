"""What moderators do to the workflows: checked, written to the folder, and logged."""

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import reduce
from typing import Any

from bot.audit import Change, difference
from bot.errors import StoreError, UserError
from bot.health import examine_workflow
from bot.servers import Servers
from bot.store import Store
from comfy.errors import ConversionError, LibraryError, WorkflowFileError
from comfy.graph import Graph
from comfy.library import Library
from comfy.nodes import missing_nodes
from comfy.phrases import say, say_count, written
from comfy.validation import complaints
from comfy.values import refuse_dangerous
from comfy.workflow import Sidecar, Workflow, check_name, name_of
from comfy.workflow_file import Format, read, to_graph

log = logging.getLogger(__name__)

# Faults that no server's owner can mend: nothing such a graph asks for would come out.
_HOPELESS = {"bad_linked_input", "prompt_no_outputs"}


@dataclass(frozen=True, slots=True)
class Report:
    """What came of an upload. *problems*: by server, what keeps it from running it."""

    workflow: Workflow
    format: Format
    replaced: bool
    problems: Mapping[str, list[str]]
    notes: list[str] = field(default_factory=list)


def dry_run(workflow: Workflow, servers: Servers) -> dict[str, list[str]]:
    """By server; an empty list where it would run."""
    return {
        name: examine_workflow(workflow.graph, server.nodes)
        if server.nodes
        else [say("does not answer ({problem}).", problem=server.problem)]
        for name, server in servers.items()
    }


@dataclass(frozen=True, slots=True)
class Moderator:
    """One person who manages the workflows. Refusals are `UserError` and `ComfyError`."""

    user_id: int
    guild_id: int
    library: Library
    store: Store
    servers: Servers

    async def add(self, data: bytes, filename: str, name: str | None, *, replace: bool) -> Report:
        """An upload in any format becomes a workflow, or nothing changes."""
        name = _checked(name) if name is not None else name_of(filename)
        if not name:
            raise UserError(say("I cannot make a name of this file's. Give a `name`."))
        file = await asyncio.to_thread(read, data)
        info: dict[str, Any] = {}
        if file.editor is not None:
            info = await self.servers.raw_object_info()
            if file.needs_server and not info:
                raise UserError(
                    say(
                        "This file is in the editor's format, which only a ComfyUI server can "
                        "explain, and none answers now. Try again, or upload "
                        "Workflow > Export (API)."
                    )
                )
        try:
            graph, note = await asyncio.to_thread(to_graph, file, info)
        except ConversionError as error:
            if not error.missing:
                raise
            raise WorkflowFileError(
                say(
                    "{complaint} Install them with ComfyUI-Manager and add it again.",
                    complaint=error.args[0],
                )
            ) from error
        await asyncio.to_thread(self._refuse, graph)
        added = await self.library.add(name, graph, replace=replace)
        workflow = self.library.workflows[name]
        action = "replace" if added.replaced else "add"
        await self._record(name, action, _about(added.before), _about(workflow))
        notes = [note] if note else []
        if added.dropped:
            names = ", ".join(added.dropped)
            note = say("Its settings of {names} did not fit any more and are gone.", names=names)
            notes.append(note)
        problems = await asyncio.to_thread(dry_run, workflow, self.servers)
        return Report(workflow, file.format, added.replaced, problems, notes)

    async def remove(self, name: str) -> None:
        before = await self.library.remove(name)
        await self._record(name, "remove", _about(before), {})

    async def restore(self, name: str, moment: datetime | None) -> datetime:
        before, after, restored = await self.library.restore(name, moment)
        await self._record(name, "restore", _about(before), _about(after))
        return restored

    async def rename(self, name: str, new: str) -> None:
        await self.library.rename(name, _checked(new))
        await self.store.rename_workflow(name, new)
        await self._record(new, "rename", {"name": name}, {"name": new})

    async def configure(
        self, name: str, action: str, change: Callable[[Workflow], Sidecar]
    ) -> Workflow:
        """*change* sees the workflow as it is on disk when its turn comes."""
        try:
            before, after = await self.library.configure(name, change)
        except WorkflowFileError as error:
            raise UserError(
                say(
                    "That does not work: {workflow} {complaint}",
                    workflow=name,
                    complaint=error.args[0],
                )
            ) from error
        if before.sidecar != after.sidecar:
            await self._record(name, action, *difference(before.sidecar, after.sidecar))
        return after

    async def log(self, name: str, limit: int) -> list[Change]:
        """What was done to a workflow, newest first, also under its earlier names."""
        found = await self.store.changes(name, limit)
        while found and len(found) < limit and found[-1].action == "rename":
            name, at = str(found[-1].before["name"]), found[-1].at
            earlier = await self.store.changes(name, limit - len(found), until=at)
            if not earlier:
                break
            found += earlier
        return found

    async def set_default(self, name: str | None, channel_id: int | None) -> None:
        if name is not None and name not in self.library.workflows:
            raise LibraryError(say("There is no workflow named {name}.", name=name))
        before = await self.store.default_workflow(self.guild_id, channel_id)
        await self.store.set_default(self.guild_id, channel_id, name)
        where = f"default in {channel_id}" if channel_id else "default"
        if about := name or before:
            old, new = ({where: each} if each else {} for each in (before, name))
            await self._record(about, "default", old, new)

    def _refuse(self, graph: Graph) -> None:
        nodes = self.servers.nodes
        away = [name for name, server in self.servers.items() if not server.nodes]
        if away and missing_nodes(graph, nodes):
            raise UserError(
                say(
                    "{servers} did not answer yet, so I cannot check all nodes of this file. "
                    "Try again when `/test_comfy` is happy.",
                    servers=reduce(_both, away),
                )
            )
        refuse_dangerous(graph, nodes)
        if nodes and not missing_nodes(graph, nodes):
            for each in complaints(graph, nodes):
                if each.kind == "prompt_no_outputs":
                    raise WorkflowFileError(
                        say("has no node that saves or shows anything. Add one.")
                    )
                if each.kind in _HOPELESS:
                    raise WorkflowFileError(
                        say(
                            "links {input} to something that is not: {details}.",
                            input=f"{each.node_id}.{each.input}",
                            details=each.details,
                        )
                    )

    async def _record(
        self, workflow: str, action: str, before: dict[str, Any], after: dict[str, Any]
    ) -> None:
        change = Change(
            at=datetime.now(UTC),
            guild_id=self.guild_id,
            user_id=self.user_id,
            workflow=workflow,
            action=action,
            before=before,
            after=after,
        )
        log.info("workflow %s: %s by %s", workflow, action, self.user_id)
        try:
            await self.store.record(change)
        except StoreError:  # the change is made; this line stands in for its row
            log.exception("the audit log could not take %r", change)


def _checked(name: str) -> str:
    try:
        return check_name(name)
    except WorkflowFileError as error:
        raise UserError(say("It {complaint}", complaint=error.args[0])) from error


def _both(one: str, other: str) -> str:
    return say("{one} and {other}", one=one, other=other)


def _about(workflow: Workflow | None) -> dict[str, Any]:
    if workflow is None:
        return {}
    text = json.dumps(workflow.graph, sort_keys=True)
    mark = hashlib.sha256(text.encode()).hexdigest()[:8]
    number = len(workflow.graph)
    told = say_count("{number} node, {mark}", "{number} nodes, {mark}", number, mark=mark)
    return {"graph": written(told)}
