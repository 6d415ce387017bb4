"""What moderators do to the folder: done whole or not at all, and it can be undone."""

import asyncio
import json
import os
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from comfy.errors import LibraryError, WorkflowFileError
from comfy.graph import Graph
from comfy.library import Library
from comfy.workflow import ParameterSettings, Sidecar, Workflow
from tests.comfy.folders import chained, filled, graph, loaded, setting, snapshot, titled, words


@pytest.fixture
async def library(tmp_path: Path) -> Library:
    return await filled(tmp_path / "workflows")


# Adding and replacing


async def test_what_is_added_is_there_at_once_and_after_a_restart(library: Library) -> None:
    _, replaced, dropped = await library.add("dog", graph("a dog"))

    again = await loaded(library.folder)
    assert (replaced, dropped) == (None, [])
    assert words(library.workflows["dog"]) == "a dog"
    assert again.workflows["dog"].graph == graph("a dog")
    assert again.workflows["dog"].sidecar == Sidecar()
    assert not (library.folder / "dog.yaml").exists()


async def test_a_name_that_is_taken_is_not_taken_over_by_accident(library: Library) -> None:
    before = snapshot(library.folder)

    with pytest.raises(LibraryError, match=r"^There is a workflow named cat already\. Set `repl"):
        await library.add("cat", graph("third"))
    with pytest.raises(LibraryError, match=r"^There is a workflow named cat; only its case diffe"):
        await library.add("Cat", graph("third"), replace=True)

    assert snapshot(library.folder) == before


async def test_a_file_that_came_since_the_last_look_is_not_taken_over(library: Library) -> None:
    (library.folder / "new.json").write_text(json.dumps(graph("by hand")))
    before = snapshot(library.folder)

    with pytest.raises(LibraryError, match="There is a workflow named new already"):
        await library.add("new", graph("by the bot"))

    assert snapshot(library.folder) == before


async def test_replacing_keeps_the_settings_and_the_earlier_version(library: Library) -> None:
    before = library.workflows["cat"]

    _, replaced, dropped = await library.add("cat", graph("third"), replace=True)

    again = await loaded(library.folder)
    assert replaced is not None
    assert (replaced.graph, replaced.sidecar) == (before.graph, before.sidecar)
    assert dropped == []
    assert words(again.workflows["cat"]) == "third"
    assert again.workflows["cat"].sidecar == before.sidecar
    assert len(again.earlier["cat"]) == 2
    assert again.earlier == library.earlier


async def test_replacing_names_the_settings_that_do_not_fit_any_more(library: Library) -> None:
    other = graph("third")
    del other["3"]["inputs"]["cfg"]

    _, _, dropped = await library.add("cat", other, replace=True)

    sidecar = (await loaded(library.folder)).workflows["cat"].sidecar
    assert dropped == ["ours"]
    assert list(sidecar.parameters) == ["steps"]
    assert (sidecar.title, sidecar.enabled) == ("Cats", False)


async def test_replacing_a_file_that_was_broken_keeps_even_that(library: Library) -> None:
    (library.folder / "cat.json").write_text("{ broken")
    await library.refresh()
    before = library.workflows["cat"].sidecar

    _, replaced, dropped = await library.add("cat", graph("third"), replace=True)

    kept = snapshot(library.folder / ".earlier" / "cat").values()
    assert (replaced, dropped) == (None, [])
    assert library.problems == {}
    assert library.workflows["cat"].sidecar == before
    assert b"{ broken" in kept


@pytest.mark.parametrize(
    ("sidecar", "told"),
    [
        (b"titel: Oops", "cat has a sidecar with an unknown key `titel`."),
        (b"title: 'open", "cat has a sidecar that is not plain YAML at line 1."),
        (b"title: \xff", "cat has a sidecar that is not UTF-8 text."),
    ],
    ids=["a wrong key", "no YAML", "no text"],
)
async def test_replacing_does_not_open_what_broken_settings_would_limit(
    library: Library, sidecar: bytes, told: str
) -> None:
    (library.folder / "cat.yaml").write_bytes(sidecar)
    before = snapshot(library.folder)

    with pytest.raises(LibraryError) as caught:
        await library.add("cat", graph("third"), replace=True)

    remedy = "Its limits would be lost: mend cat.yaml, or remove cat."
    assert str(caught.value) == f"{told} {remedy}"
    assert snapshot(library.folder) == before


async def test_a_workflow_whose_settings_are_broken_can_be_removed_and_added_anew(
    library: Library,
) -> None:
    (library.folder / "cat.yaml").write_text("titel: Oops")

    removed = await library.remove("cat")
    _, replaced, _ = await library.add("cat", graph("third"))

    assert (removed, replaced) == (None, None)
    assert library.workflows["cat"].sidecar == Sidecar()
    assert b"titel: Oops" in snapshot(library.folder / ".earlier" / "cat").values()


async def test_settings_without_a_workflow_are_not_put_on_a_new_one(library: Library) -> None:
    (library.folder / "dog.yaml").write_text("title: Another's")
    before = snapshot(library.folder)

    with pytest.raises(LibraryError, match=r"^dog\.yaml lies in the folder without a workflow"):
        await library.add("dog", graph("a dog"))

    assert snapshot(library.folder) == before


async def test_there_are_at_most_ten_earlier_versions(library: Library) -> None:
    for number in range(12):
        await library.add("cat", graph(f"number {number}"), replace=True)

    kept = sorted((library.folder / ".earlier" / "cat").iterdir())
    moments = library.earlier["cat"]
    assert [path.suffix for path in kept] == [".json", ".yaml"] * 10
    assert [words_in(path) for path in kept[::2]] == [f"number {n}" for n in range(1, 11)]
    assert len(moments) == 10
    assert list(moments) == sorted(moments, reverse=True)


def words_in(path: Path) -> Any:
    return json.loads(path.read_text())["2"]["inputs"]["text"]


@pytest.mark.parametrize(
    ("name", "new"),
    [
        ("../x", graph()),
        ("a/b", graph()),
        ("con", graph()),
        ("", graph()),
        ("x" * 101, graph()),
        ("a\x00", graph()),
        ("dog", chained()),
        ("cat", chained()),
    ],
    ids=["up", "below", "reserved", "empty", "long", "zero", "a chain", "a chain for another"],
)
async def test_a_bad_name_or_graph_changes_nothing(library: Library, name: str, new: Graph) -> None:
    before = snapshot(library.folder.parent)

    with pytest.raises(WorkflowFileError):
        await library.add(name, new, replace=True)

    assert snapshot(library.folder.parent) == before


async def test_half_a_letter_in_a_graph_is_refused_or_kept_but_no_bug(library: Library) -> None:
    """JSON can spell one half of a surrogate pair; UTF-8 has no bytes for it."""
    odd = graph(json.loads('"a cat \\ud83d"'))

    try:
        await library.add("odd", odd)
    except WorkflowFileError:
        return
    assert (await loaded(library.folder)).workflows["odd"].graph == odd


async def test_a_graph_that_is_small_enough_to_be_read_can_be_read_again(library: Library) -> None:
    large = graph(**{f"x{number}": 0 for number in range(120_000)})
    assert len(json.dumps(large, separators=(",", ":"))) < 2 * 2**20

    await library.add("large", large)

    assert (await loaded(library.folder)).problems == {}


# Settings


async def test_configuring_tells_what_was_and_what_is(library: Library) -> None:
    before, after = await library.configure("cat", titled("Dogs"))

    again = await loaded(library.folder)
    assert (before.title, after.title) == ("Cats", "Dogs")
    assert before.graph == after.graph == graph("second")
    assert library.workflows["cat"].sidecar == again.workflows["cat"].sidecar == after.sidecar
    assert again.workflows["cat"].graph == graph("second")
    assert len(again.earlier["cat"]) == 1


async def test_settings_that_say_nothing_leave_no_file(library: Library) -> None:
    await library.configure("cat", lambda _: Sidecar())

    assert not (library.folder / "cat.yaml").exists()
    assert library.workflows["cat"].sidecar == Sidecar()


async def test_an_edit_by_hand_between_two_looks_is_not_lost(library: Library) -> None:
    (library.folder / "cat.yaml").write_text("description: By hand")
    (library.folder / "cat.json").write_text(json.dumps(graph("by hand")))

    await library.configure("cat", titled("By the bot"))

    workflow = (await loaded(library.folder)).workflows["cat"]
    assert (workflow.sidecar.description, workflow.title) == ("By hand", "By the bot")
    assert words(workflow) == "by hand"


async def test_two_who_configure_at_once_lose_nothing(library: Library) -> None:
    await asyncio.gather(
        library.configure("cat", titled("Dogs")),
        library.configure("cat", setting("text", ParameterSettings(description="Words"))),
        library.configure("cat", setting("model", ParameterSettings(hidden=True))),
        library.add("cat", graph("third"), replace=True),
        library.refresh(),
    )

    workflow = (await loaded(library.folder)).workflows["cat"]
    assert (workflow.title, words(workflow)) == ("Dogs", "third")
    assert workflow.sidecar.parameters.keys() == {"steps", "ours", "text", "model"}


async def test_settings_that_the_graph_does_not_take_change_nothing(library: Library) -> None:
    before = snapshot(library.folder)

    with pytest.raises(WorkflowFileError, match="refines 'nothing', which was not found"):
        await library.configure("cat", setting("nothing", ParameterSettings(max=5)))

    assert snapshot(library.folder) == before


async def test_settings_too_long_to_be_read_again_change_nothing(library: Library) -> None:
    before = snapshot(library.folder)

    with pytest.raises((WorkflowFileError, LibraryError)):
        await library.configure("cat", titled("x" * 70_000))

    assert snapshot(library.folder) == before


async def test_a_change_counts_even_where_the_clock_of_the_disk_is_coarse(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAT counts two seconds, and ext4 and tmpfs the ticks of the kernel."""
    monkeypatch.setattr(os, "fsync", lambda file: os.utime(file, (10**9, 10**9)))
    told = []

    for title in ("One", "Two"):
        await library.configure("cat", titled(title))
        told.append(library.workflows["cat"].title)

    assert told == ["One", "Two"]


async def test_a_change_is_finished_even_if_nobody_waits_for_it(library: Library) -> None:
    begun, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slowly(workflow: Workflow) -> Sidecar:
        loop.call_soon_threadsafe(begun.set)
        assert go.wait(10)
        return titled("Done")(workflow)

    task = asyncio.create_task(library.configure("cat", slowly))
    await asyncio.wait_for(begun.wait(), 20)
    task.cancel()
    await asyncio.wait({task})
    go.set()
    await library.refresh()

    assert task.cancelled()
    assert library.workflows["cat"].title == "Done"


# Bringing back


async def test_restoring_twice_is_where_one_began(library: Library) -> None:
    told = []
    for _ in range(3):
        await library.restore("cat")
        told.append(words((await loaded(library.folder)).workflows["cat"]))

    assert told == ["first", "second", "first"]
    assert len(library.earlier["cat"]) == 1


async def test_a_version_comes_back_with_its_settings(library: Library) -> None:
    await library.configure("cat", titled("Dogs"))

    await library.restore("cat")

    assert library.workflows["cat"].title == "Cats"
    await library.restore("cat")
    assert library.workflows["cat"].title == "Dogs"


async def test_any_earlier_version_can_be_chosen(library: Library) -> None:
    await library.add("cat", graph("third"), replace=True)
    newest, oldest = library.earlier["cat"]

    before, after, restored = await library.restore("cat", oldest)

    assert restored == oldest < newest
    assert before is not None
    assert (words(before), words(after)) == ("third", "first")
    assert words(library.workflows["cat"]) == "first"
    assert newest in library.earlier["cat"]
    assert oldest not in library.earlier["cat"]


async def test_restoring_costs_no_version(library: Library) -> None:
    for number in range(12):
        await library.add("cat", graph(f"number {number}"), replace=True)

    await library.restore("cat")

    assert len(library.earlier["cat"]) == 10


async def test_what_was_removed_comes_back_with_its_settings(library: Library) -> None:
    before = library.workflows["cat"]

    removed = await library.remove("cat")
    gone, files = dict(library.workflows), {path.name for path in library.folder.iterdir()}
    instead, after, _ = await library.restore("cat")

    assert removed is not None
    assert (removed.graph, removed.sidecar) == (before.graph, before.sidecar)
    assert instead is None
    assert (after.graph, after.sidecar) == (before.graph, before.sidecar)
    assert gone.keys() == {"plain"}
    assert files == {".earlier", "plain.json"}
    assert library.workflows["cat"].graph == before.graph
    assert library.workflows["cat"].sidecar == before.sidecar


async def test_a_workflow_whose_file_is_broken_can_be_removed(library: Library) -> None:
    (library.folder / "cat.json").write_text("{ broken")

    await library.remove("cat")

    assert library.problems == {}
    assert library.workflows.keys() == {"plain"}


NEVER = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda it: it.remove("dog"), "There is no workflow named dog."),
        (lambda it: it.configure("dog", titled("x")), "There is no workflow named dog."),
        (lambda it: it.rename("dog", "wolf"), "There is no workflow named dog."),
        (lambda it: it.restore("dog"), "There is no such earlier version of dog."),
        (lambda it: it.restore("plain"), "There is no such earlier version of plain."),
        (lambda it: it.restore("cat", NEVER), "There is no such earlier version of cat."),
        (lambda it: it.rename("cat", "plain"), "There is a workflow named plain already."),
        (
            lambda it: it.rename("cat", "PLAIN"),
            "There is a workflow named plain; only its case differs.",
        ),
        (lambda it: it.rename("cat", "cat"), "cat is its name already."),
    ],
)
async def test_what_cannot_be_is_refused_and_changes_nothing(
    library: Library, act: Callable[[Library], Awaitable[Any]], told: str
) -> None:
    before = snapshot(library.folder)

    with pytest.raises(LibraryError) as caught:
        await act(library)

    assert str(caught.value) == told
    assert snapshot(library.folder) == before
