"""The workflows folder: what loads, what is refused and why, and that a good version stays."""

import asyncio
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

import comfy.library
from comfy.errors import WorkflowFileError
from comfy.library import Library, read_workflow
from tests.fakes.recordings import graph_of

GRAPH = graph_of("a1_txt2img_success")
SHIPPED = Path(__file__).parents[2] / "workflows"


def write(folder: Path, name: str, graph: Any = GRAPH, sidecar: str | None = None) -> None:
    (folder / f"{name}.json").write_text(graph if isinstance(graph, str) else json.dumps(graph))
    if sidecar is not None:
        (folder / f"{name}.yaml").write_text(sidecar)


async def loaded(folder: Path) -> Library:
    library = Library(folder)
    await library.refresh()
    return library


async def test_the_workflows_that_ship_load_without_a_complaint() -> None:
    library = await loaded(SHIPPED)

    assert library.workflows.keys() == {"flux", "img2img", "postcard", "txt2img", "upscale"}
    assert library.problems == {}
    assert all(each.sidecar.description for each in library.workflows.values())


async def test_a_file_and_its_sidecar_become_one_workflow(tmp_path: Path) -> None:
    write(tmp_path, "a cat", sidecar="title: Cats\nparameters:\n  steps:\n    max: 30\n")

    library = await loaded(tmp_path)

    workflow = library.workflows["a cat"]
    assert workflow.title == "Cats"
    assert workflow.parameters({})["steps"].max == 30
    assert workflow.graph == GRAPH


async def test_a_workflow_without_sidecar_is_called_by_its_file(tmp_path: Path) -> None:
    write(tmp_path, "plain")

    library = await loaded(tmp_path)

    assert library.workflows["plain"].title == "plain"
    assert library.workflows["plain"].parameters({})["steps"].max == 10000


async def test_a_file_that_breaks_keeps_its_last_good_version_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "cat")
    library = await loaded(tmp_path)
    good = library.workflows["cat"]

    write(tmp_path, "cat", graph="{ broken")
    await library.refresh()

    assert library.workflows["cat"] is good
    assert library.problems["cat.json"].startswith("is not JSON")
    (record,) = caplog.records
    assert record.getMessage() == (
        f"workflow cat.json {library.problems['cat.json']} Its last good version stays."
    )


async def test_a_file_that_was_never_good_is_only_a_problem(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "cat", graph="{ broken")

    library = await loaded(tmp_path)

    assert library.workflows == {}
    assert library.problems.keys() == {"cat.json"}
    (record,) = caplog.records
    assert record.getMessage() == f"workflow cat.json {library.problems['cat.json']}"


async def test_a_file_that_is_mended_loads_again(tmp_path: Path) -> None:
    write(tmp_path, "cat", graph="{ broken")
    library = await loaded(tmp_path)

    write(tmp_path, "cat")
    await library.refresh()

    assert library.problems == {}
    assert library.workflows.keys() == {"cat"}


async def test_a_broken_file_does_not_touch_the_others(tmp_path: Path) -> None:
    write(tmp_path, "bad", graph="{ broken")
    write(tmp_path, "good")

    library = await loaded(tmp_path)

    assert library.workflows.keys() == {"good"}


async def test_a_broken_sidecar_does_not_touch_the_other_workflows(tmp_path: Path) -> None:
    write(tmp_path, "bad", sidecar="title: 2024-13-45")
    write(tmp_path, "good")

    library = await loaded(tmp_path)

    assert library.workflows.keys() == {"good"}
    assert library.problems == {"bad.json": "has a sidecar that is not plain YAML."}


async def test_a_file_that_is_removed_is_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    write(tmp_path, "cat")
    library = await loaded(tmp_path)

    (tmp_path / "cat.json").unlink()
    await library.refresh()

    assert library.workflows == {}
    assert library.problems == {}
    assert "workflow cat is gone" in caplog.text


async def test_a_file_that_did_not_change_is_not_read_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    write(tmp_path, "cat")
    library = await loaded(tmp_path)
    first = library.workflows["cat"]

    await library.refresh()

    assert library.workflows["cat"] is first
    assert caplog.text.count("workflow cat loaded") == 1


async def test_a_sidecar_that_appears_or_changes_is_read(tmp_path: Path) -> None:
    write(tmp_path, "cat")
    library = await loaded(tmp_path)

    write(tmp_path, "cat", sidecar="title: One cat")
    await library.refresh()
    first = library.workflows["cat"].title
    write(tmp_path, "cat", sidecar="title: Two big cats")
    await library.refresh()

    assert (first, library.workflows["cat"].title) == ("One cat", "Two big cats")


async def test_a_sidecar_that_breaks_keeps_the_last_good_version(tmp_path: Path) -> None:
    write(tmp_path, "cat", sidecar="title: Cats")
    library = await loaded(tmp_path)

    write(tmp_path, "cat", sidecar="titel: Cats and more")
    await library.refresh()

    assert library.workflows["cat"].title == "Cats"
    assert library.problems == {"cat.json": "has a sidecar with an unknown key `titel`."}


async def test_a_file_that_cannot_be_read_is_a_problem_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "cat.json").mkdir()

    library = await loaded(tmp_path)

    assert library.problems == {"cat.json": "cannot be read (Is a directory)."}


async def test_a_link_to_nothing_is_a_problem_with_a_reason(tmp_path: Path) -> None:
    os.symlink(tmp_path / "nothing", tmp_path / "cat.json")

    library = await loaded(tmp_path)

    assert library.problems == {"cat.json": "cannot be read (No such file or directory)."}


async def test_a_folder_that_is_not_there_yet_holds_no_workflows(tmp_path: Path) -> None:
    library = await loaded(tmp_path / "later")
    empty = library.workflows

    (tmp_path / "later").mkdir()
    write(tmp_path / "later", "cat")
    await library.refresh()

    assert empty == {}
    assert library.workflows.keys() == {"cat"}


async def test_workflows_outlast_a_folder_that_goes_away_for_a_while(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "workflows", tmp_path / "elsewhere"
    folder.mkdir()
    write(folder, "cat")
    library = await loaded(folder)
    good = library.workflows["cat"]

    folder.rename(elsewhere)
    with pytest.raises(OSError, match="is not there or not readable"):
        await library.refresh()
    meanwhile = library.workflows
    elsewhere.rename(folder)
    await library.refresh()

    assert meanwhile == library.workflows == {"cat": good}


async def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "lonely.yaml").write_text("title: Nobody's")

    library = await loaded(tmp_path)

    assert library.workflows == library.problems == {}


async def test_marks_that_editors_on_windows_write_are_read(tmp_path: Path) -> None:
    (tmp_path / "cat.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(GRAPH, indent=1).encode())
    (tmp_path / "cat.yaml").write_bytes(b"\xef\xbb\xbftitle: Cats\r\n")

    library = await loaded(tmp_path)

    assert library.problems == {}
    assert library.workflows["cat"].title == "Cats"


def test_a_sidecar_in_another_encoding_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "cat")
    (tmp_path / "cat.yaml").write_bytes("title: Katzengedöns".encode("utf-16"))

    with pytest.raises(WorkflowFileError, match=r"^has a sidecar that is not UTF-8 text\.$"):
        read_workflow(tmp_path / "cat.json")


def test_a_graph_in_utf_16_is_read(tmp_path: Path) -> None:
    (tmp_path / "cat.json").write_bytes(json.dumps(GRAPH).encode("utf-16"))

    assert read_workflow(tmp_path / "cat.json").graph == GRAPH


def test_the_editors_format_in_the_folder_is_a_problem_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "cat.json").write_text('{"nodes": [], "links": []}')

    with pytest.raises(WorkflowFileError, match=r"is in the editor's format\. Add it in Discord"):
        read_workflow(tmp_path / "cat.json")


def test_a_file_with_a_name_that_cannot_be_used_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "a'b.json"
    path.write_text(json.dumps(GRAPH))

    with pytest.raises(WorkflowFileError, match=r"^has a name that cannot be used\."):
        read_workflow(path)


# Watching


class Watched(Library):
    """Fails to look once, and tells when it has looked again."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.failures: list[Exception] = [OSError("disk is away")]
        self.looked = asyncio.Event()

    async def refresh(self) -> None:
        if self.failures:
            raise self.failures.pop()
        await super().refresh()
        self.looked.set()


async def test_watching_goes_on_after_a_folder_could_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(comfy.library, "_POLL", 0.0)
    write(tmp_path, "cat")
    library = Watched(tmp_path)

    watching = asyncio.create_task(library.watch())
    await asyncio.wait_for(library.looked.wait(), 20)
    watching.cancel()
    await asyncio.wait({watching})

    assert library.workflows.keys() == {"cat"}
    assert "cannot be read: disk is away" in caplog.text


async def test_watching_goes_on_after_a_bug_and_tells_each_trouble_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(comfy.library, "_POLL", 0.0)
    library = Watched(tmp_path)
    library.failures = [OSError("gone"), *[OSError("away")] * 3, ZeroDivisionError("a bug")]

    watching = asyncio.create_task(library.watch())
    await asyncio.wait_for(library.looked.wait(), 20)
    watching.cancel()
    await asyncio.wait({watching})

    assert [each.getMessage() for each in caplog.records] == [
        "the workflows folder could not be looked at",
        "the workflows folder cannot be read: away",
        "the workflows folder cannot be read: gone",
    ]
