"""Renaming, names that clash or lead out of the folder, and disks that refuse."""

import errno
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from comfy.errors import ComfyError, LibraryError, WorkflowFileError
from comfy.library import Library
from tests.comfy.folders import filled, graph, loaded, snapshot, titled, words

Act = Callable[[Library], Awaitable[Any]]


@pytest.fixture
async def library(tmp_path: Path) -> Library:
    return await filled(tmp_path / "workflows")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# Renaming


@pytest.mark.parametrize("new", ["dog", "Cat"], ids=["another name", "another case"])
async def test_a_new_name_takes_settings_and_earlier_versions_along(
    library: Library, new: str
) -> None:
    before = library.workflows["cat"]

    await library.rename("cat", new)

    again = await loaded(library.folder)
    assert names(library.folder) == {f"{new}.json", f"{new}.yaml", "plain.json", ".earlier"}
    assert again.workflows.keys() == library.workflows.keys() == {new, "plain"}
    assert again.workflows[new].graph == before.graph
    assert again.workflows[new].sidecar == before.sidecar
    assert library.earlier.keys() == {new}
    await library.restore(new)
    assert words(library.workflows[new]) == "first"


async def test_a_workflow_without_settings_or_versions_is_renamed_too(library: Library) -> None:
    await library.rename("plain", "simple")

    assert names(library.folder) == {"cat.json", "cat.yaml", "simple.json", ".earlier"}
    assert words(library.workflows["simple"]) == "plain"


@pytest.mark.parametrize("new", ["../x", "con", "", "x" * 101, ".hidden", "a/b", "a\x00"])
async def test_a_new_name_that_cannot_be_used_changes_nothing(library: Library, new: str) -> None:
    before = snapshot(library.folder.parent)

    with pytest.raises(WorkflowFileError):
        await library.rename("cat", new)

    assert snapshot(library.folder.parent) == before


@pytest.mark.parametrize("new", ["cat", "CAT"], ids=["the same", "another case"])
async def test_a_name_whose_workflow_was_removed_stays_free_for_its_return(
    library: Library, new: str
) -> None:
    await library.remove("cat")
    before = snapshot(library.folder)

    with pytest.raises(LibraryError, match=rf"^A removed workflow was named {new}\. Take another"):
        await library.rename("plain", new)

    assert snapshot(library.folder) == before


async def test_a_file_that_came_since_the_last_look_is_not_written_over(library: Library) -> None:
    (library.folder / "new.json").write_text(json.dumps(graph("by hand")))
    before = snapshot(library.folder)

    with pytest.raises(LibraryError):
        await library.rename("cat", "new")

    assert snapshot(library.folder) == before


async def test_settings_that_lie_under_a_new_name_are_not_put_on(library: Library) -> None:
    (library.folder / "new.yaml").write_text("title: Another's")

    try:
        await library.rename("plain", "new")
    except LibraryError:
        return

    assert library.workflows["new"].title == "new"


async def test_what_is_left_under_a_new_name_keeps_the_rename_whole(library: Library) -> None:
    """As a full disk leaves it: settings without a graph are no version."""
    left = library.folder / ".earlier" / "dog"
    left.mkdir()
    (left / "20260101T000000.000000Z.yaml").write_text("title: Dogs")
    before = snapshot(library.folder)

    try:
        await library.rename("cat", "dog")
    except LibraryError:
        assert snapshot(library.folder) == before
    else:
        assert library.earlier.keys() == {"dog"}


# Names that clash


async def test_a_version_does_not_come_back_beside_a_name_of_another_case(
    library: Library,
) -> None:
    """On Windows and macOS the one would be written over the other."""
    await library.remove("cat")
    await library.add("Cat", graph("another"))
    before = snapshot(library.folder)

    with pytest.raises(LibraryError):
        await library.restore("cat")

    assert snapshot(library.folder) == before


@pytest.mark.parametrize(
    "act",
    [
        lambda it: it.remove("../outside"),
        lambda it: it.configure("../outside", titled("Oops")),
        lambda it: it.rename("../outside", "inside"),
        lambda it: it.restore("../outside"),
        lambda it: it.add("../outside", graph(), replace=True),
    ],
    ids=["remove", "configure", "rename", "restore", "add"],
)
async def test_no_name_leads_out_of_the_folder(library: Library, act: Act) -> None:
    (library.folder.parent / "outside.json").write_text(json.dumps(graph("outside")))
    before = snapshot(library.folder.parent)

    with pytest.raises(ComfyError):
        await act(library)

    assert snapshot(library.folder.parent) == before


# Disks


CHANGES: dict[str, tuple[Act, int]] = {
    "add": (lambda it: it.add("dog", graph("a dog")), 1),
    "replace": (lambda it: it.add("cat", graph("third"), replace=True), 4),
    "configure": (lambda it: it.configure("cat", titled("Dogs")), 1),
    "rename": (lambda it: it.rename("cat", "dog"), 4),
    "remove": (lambda it: it.remove("cat"), 2),
    "restore": (lambda it: it.restore("cat"), 4),
}
POINTS = [(name, point) for name, (_, writes) in CHANGES.items() for point in range(writes)]


@pytest.mark.parametrize(
    ("name", "point"), POINTS, ids=[f"{name}, write {point + 1}" for name, point in POINTS]
)
async def test_a_disk_that_fills_up_leaves_every_byte_as_it_was(
    library: Library, monkeypatch: pytest.MonkeyPatch, name: str, point: int
) -> None:
    act, _ = CHANGES[name]
    before, workflows = snapshot(library.folder), dict(library.workflows)
    earlier, left = dict(library.earlier), iter(range(point))

    def full(_: int) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LibraryError) as caught:
        await act(library)

    assert str(caught.value) == ("The workflows folder cannot be changed: No space left on device.")
    assert snapshot(library.folder) == before
    assert library.workflows == workflows
    assert library.earlier == earlier


@pytest.mark.parametrize("name", CHANGES)
async def test_every_change_is_safe_on_the_disk_before_it_counts(
    library: Library, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    act, writes = CHANGES[name]
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)

    await act(library)

    assert len(synced) == writes


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)
@pytest.mark.parametrize("name", CHANGES)
async def test_a_folder_that_is_read_only_stays_as_it_was(library: Library, name: str) -> None:
    before = snapshot(library.folder)
    folders = [library.folder, *(path for path in library.folder.rglob("*") if path.is_dir())]
    for each in folders:
        each.chmod(0o555)

    try:
        with pytest.raises(LibraryError, match=r"cannot be changed: Permission denied\.$"):
            await CHANGES[name][0](library)
    finally:
        for each in folders:
            each.chmod(0o755)

    assert snapshot(library.folder) == before


async def test_a_folder_that_is_gone_is_told_and_not_made(library: Library) -> None:
    elsewhere = library.folder.rename(library.folder.parent / "elsewhere")

    with pytest.raises(LibraryError, match=r"cannot be changed: No such file or directory\.$"):
        await library.add("dog", graph())

    assert not library.folder.exists()
    assert names(elsewhere) == {"cat.json", "cat.yaml", "plain.json", ".earlier"}


@pytest.mark.parametrize("name", CHANGES)
async def test_no_change_leaves_a_file_of_its_own_behind(library: Library, name: str) -> None:
    await CHANGES[name][0](library)

    files = [path for path in library.folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".yaml"}
    assert (await loaded(library.folder)).problems == {}


async def test_what_a_crash_left_behind_is_no_workflow_and_no_obstacle(library: Library) -> None:
    (library.folder / ".cat.yaml.new").write_text("title: Ha")
    (library.folder / ".cat.json.new").write_text("{")

    await library.refresh()
    problems = library.problems
    await library.add("cat", graph("third"), replace=True)

    assert problems == {}
    assert words((await loaded(library.folder)).workflows["cat"]) == "third"
    assert names(library.folder) == {"cat.json", "cat.yaml", "plain.json", ".earlier"}
