"""Files and decisions of moderators that no workflow can take, and some that it can: the rest of
what stands in docs/bad-inputs.md of workflow files."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from tests.bot.builders import write_workflow
from tests.comfy.editor_files import file, node
from tests.fakes.hearing import HearingComfyUI
from tests.simulated.bad import is_a_refusal, sent
from tests.simulated.documented import answered, named
from tests.simulated.lab import PICTURE, WITH_SUBGRAPHS, Lab, json_file, txt2img
from tests.simulated.test_uploads import head_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\ntitle: *c\n"
SIDECARS = {
    "86 settings that run a program (`!!python/object`)": (
        "title: !!python/object/apply:os.system [ls]\n",
        "is not plain YAML at line 1.",
    ),
    "86 settings that unfold without end (aliases)": (BOMB, "is not plain YAML"),
    "86 `title: no`, which YAML takes for false": ("title: no\n", "a wrong title"),
    "86 `max: no`, which YAML takes for 0": (
        "parameters: {steps: {max: no}}\n",
        "a wrong parameters.steps.max",
    ),
}
EXPOSED = {
    "82 a parameter for an input that is linked": (
        {"parameter": "detail", "target": "5.model"},
        "5.model is linked to another node, so it has no own value.",
    ),
    "82 a parameter for an input that is not there": (
        {"parameter": "detail", "target": "5.nosuch"},
        "txt2img has no input 5.nosuch. It looks like `3.steps`.",
    ),
    "82 a parameter for the names of files": (
        {"parameter": "detail", "target": "7.filename_prefix"},
        "7.filename_prefix may not be set from Discord: it reaches beyond pictures.",
    ),
    "83 a second parameter for an input": (
        {"parameter": "second", "target": "5.denoise"},
        "5.denoise is set by `first` already. One input has one parameter.",
    ),
}


async def test_a_file_of_fifty_megabytes_is_not_even_downloaded(
    shared: Lab, hearing: HearingComfyUI
) -> None:
    before = shared.files(), sent(hearing)

    told = await shared.manage("add", file=("mine.json", b" " * (50 * 2**20)))

    assert told == "The file is larger than 25 MB."
    assert (shared.files(), sent(hearing)) == before
    answered("74 a file of 50 MB", told)


@pytest.mark.parametrize(
    ("row", "document", "expected"),
    [
        (
            "71 a workflow in the editor's format",
            WITH_SUBGRAPHS,
            "### mine is added",
        ),
        (
            "71 a workflow in the editor's format that saves nothing",
            file(node(1, "EmptyImage")),
            "has no node that saves or shows",
        ),
    ],
    ids=["whole", "saves nothing"],
)
async def test_the_editors_format_is_made_a_graph_or_refused(
    shared: Lab, row: str, document: Any, expected: str
) -> None:
    told = await shared.manage("add", file=json_file(document))

    assert expected in told
    answered(row, head_of(told) if "added" in told else told)
    if "added" in told:
        await shared.manage("remove", workflow="mine")


async def test_line_ends_of_windows_are_read(shared: Lab) -> None:
    lines = json.dumps(PICTURE, indent=2).replace("\n", "\r\n").encode()

    told = await shared.manage("add", file=("mine.json", lines))

    assert shared.bot.library.workflows["mine"].graph == PICTURE
    await shared.manage("remove", workflow="mine")
    answered("84 a file with the line ends of Windows", head_of(told))


@pytest.mark.parametrize(("row", "options", "expected"), named(EXPOSED))
async def test_an_input_that_cannot_be_a_parameter_is_refused_and_changes_nothing(
    shared: Lab, hearing: HearingComfyUI, row: str, options: dict[str, str], expected: str
) -> None:
    if "denoise" in options["target"]:
        await shared.manage("expose", workflow="txt2img", parameter="first", target="5.denoise")
    before = shared.files(), sent(hearing)

    told = await shared.manage("expose", workflow="txt2img", **options)

    assert told == expected
    assert (shared.files(), sent(hearing)) == before
    answered(row, told)


@pytest_asyncio.fixture(loop_scope="module")
async def told_of(shared: Lab) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
    """Gives what moderators read of a workflow with these settings."""
    folder = shared.folder / "workflows"

    async def told(settings: str) -> str:
        write_workflow(folder, "odd", txt2img(), settings)
        await shared.bot.library.refresh()
        (line,) = (
            line
            for line in (await shared.told(shared.mod, "workflows")).splitlines()
            if "odd" in line
        )
        return line.removeprefix("-# ⚠ ")

    yield told
    for each in folder.glob("odd.*"):
        each.unlink()
    await shared.bot.library.refresh()


@pytest.mark.parametrize(("row", "text", "expected"), named(SIDECARS))
async def test_what_is_wrong_with_a_sidecar_is_told_to_moderators(
    shared: Lab, told_of: Callable[[str], Awaitable[str]], row: str, text: str, expected: str
) -> None:
    told = await told_of(text)

    assert expected in told
    assert is_a_refusal(told)
    assert "odd" not in await shared.told(shared.alice, "workflows")
    answered(row, told)


async def test_a_number_that_yaml_takes_for_a_text_is_a_number(
    shared: Lab, told_of: Callable[[str], Awaitable[str]]
) -> None:
    await told_of("parameters: {steps: {max: 1e3}}\n")

    told = await shared.told(shared.alice, "workflows", workflow="odd")

    (line,) = (line for line in told.splitlines() if "`steps`" in line)
    assert line.endswith(" · 1 to 1000")
    answered("86 `max: 1e3` for `steps`, which YAML takes for a text", line)
