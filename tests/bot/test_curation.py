"""A moderator's decisions as sidecars: what each one changes, and what it refuses."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bot import curation
from bot.errors import UserError
from bot.requests import open_parameters
from comfy.errors import ParameterError
from comfy.graph import Graph
from comfy.nodes import InputType, NodeTypes
from comfy.workflow import Allowed, Sidecar, Workflow
from tests.bot.builders import NODES, a_workflow
from tests.graphs import TXT2IMG, a_graph

KNOWN = (
    "It has: `prompt`, `negative`, `seed`, `steps`, `cfg`, `sampler`, `scheduler`, `width`, "
    "`height`, `batch`, `model`."
)


def with_files() -> Graph:
    """One that repaints a picture, and whose folder is an input."""
    graph = a_graph()
    graph["20"] = {"class_type": "LoadImage", "inputs": {"image": "mine.png"}}
    graph["21"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["20", 0], "vae": ["4", 2]}}
    graph["3"]["inputs"]["latent_image"] = ["21", 0]
    graph["22"] = {"class_type": "CheckpointSave", "inputs": {"strength": 1.0, "model": ["4", 0]}}
    return graph


def told(**parameters: dict[str, Any]) -> dict[str, Any]:
    return {"parameters": parameters}


def said(sidecar: Sidecar) -> dict[str, Any]:
    """Only what it says."""
    return sidecar.model_dump(exclude_defaults=True, mode="json")


def applied(workflow: Workflow, sidecar: Sidecar) -> Workflow:
    return Workflow.of(workflow.name, workflow.graph, sidecar)


def refusal(change: Callable[..., Sidecar], *arguments: Any, **options: Any) -> str:
    with pytest.raises((UserError, ParameterError)) as caught:
        change(*arguments, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def limited(
    workflow: Workflow,
    parameter: str,
    low: float | None = None,
    high: float | None = None,
    default: str | None = None,
    nodes: NodeTypes = NODES,
) -> Sidecar:
    return curation.limited(workflow, parameter, low, high, default, nodes)


# On and off


def test_switching_off_says_so_and_switching_on_says_nothing() -> None:
    off = curation.enabled(a_workflow(), on=False)
    on = curation.enabled(applied(a_workflow(), off), on=True)

    assert said(off) == {"enabled": False}
    assert said(on) == {}


def test_a_change_keeps_everything_else() -> None:
    sidecar = Sidecar.model_validate(
        {
            "title": "Castles",
            "allow": {"roles": [7], "channels": [8]},
            "parameters": {"steps": {"max": 40}, "cfg": {"hidden": True}},
        },
        strict=False,
    )
    workflow = Workflow.of("txt2img", a_graph(), sidecar)
    before = said(sidecar)

    for after in (
        curation.enabled(workflow, on=False),
        curation.described(workflow, None, "Nice", None),
        curation.exposed(workflow, "detail", "3.denoise"),
        curation.hidden(workflow, "negative"),
        limited(workflow, "width", high=512),
        curation.allowed(workflow, 9, None),
    ):
        assert after.parameters["steps"].max == 40
        assert after.parameters["cfg"].hidden
        assert (after.title, after.allow.channels) == ("Castles", [8])
    assert said(workflow.sidecar) == before


# Descriptions


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("Castles", None, None), {"title": "Castles"}),
        ((None, " Paints castles. ", None), {"description": "Paints castles."}),
        (("A", "B", None), {"title": "A", "description": "B"}),
        (("x" * 100, None, None), {"title": "x" * 100}),
        ((None, "x" * 300, None), {"description": "x" * 300}),
        ((None, "How strict", "cfg"), told(cfg={"description": "How strict"})),
        ((None, "What to see", "prompt"), told(text={"description": "What to see"})),
    ],
    ids=["title", "description", "both", "long title", "long text", "parameter", "prompt"],
)
def test_a_description_is_written_down(given: Any, expected: dict[str, Any]) -> None:
    assert said(curation.described(a_workflow(), *given)) == expected


def test_an_empty_description_takes_the_old_one_away() -> None:
    workflow = applied(a_workflow(), Sidecar(title="Castles", description="Paints."))

    assert said(curation.described(workflow, "", " ", None)) == {}
    described = a_workflow(cfg={"description": "How strict"})
    assert said(curation.described(described, None, "", "cfg")) == {}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((None, None, None), "Give a `title`, a `description`, or both."),
        ((None, None, "cfg"), "Give a `title`, a `description`, or both."),
        (("x" * 101, None, None), "A title has at most 100 characters."),
        ((None, "x" * 301, None), "A description has at most 300 characters."),
        (("A", None, "cfg"), "A parameter takes a `description` and no `title`."),
        (("A", "B", "cfg"), "A parameter takes a `description` and no `title`."),
        ((None, "B", "magic"), f"txt2img has no parameter `magic`. {KNOWN}"),
    ],
    ids=["nothing", "only parameter", "title", "text", "title of one", "both of one", "unknown"],
)
def test_a_wrong_description_is_refused(given: Any, expected: str) -> None:
    assert refusal(curation.described, a_workflow(), *given) == expected


# Hide and expose


@pytest.mark.parametrize(
    ("typed", "name"),
    [("cfg", "cfg"), ("prompt", "text"), ("text", "text"), (" Steps ", "steps")],
    ids=["its name", "prompt means text", "text", "as people type"],
)
def test_a_hidden_parameter_is_not_open_until_it_is_exposed_again(typed: str, name: str) -> None:
    workflow = a_workflow()

    hidden = applied(workflow, curation.hidden(workflow, typed))
    again = applied(workflow, curation.exposed(hidden, typed, None))

    assert name in open_parameters(workflow.parameters(NODES))
    assert name not in open_parameters(hidden.parameters(NODES))
    assert said(again.sidecar) == {}


def test_what_is_hidden_already_and_what_is_unknown_cannot_be_hidden() -> None:
    workflow = a_workflow(cfg={"hidden": True}, text={"hidden": True})

    assert refusal(curation.hidden, workflow, "cfg") == "`cfg` is hidden already."
    assert refusal(curation.hidden, workflow, "prompt") == "`prompt` is hidden already."
    assert refusal(curation.hidden, workflow, "magic").startswith("txt2img has no parameter `magic")


def test_an_input_becomes_a_parameter_of_its_own() -> None:
    workflow = a_workflow()

    after = applied(workflow, curation.exposed(workflow, "Detail", "3.denoise"))

    assert said(after.sidecar) == told(detail={"targets": [["3", "denoise"]]})
    parameter = after.parameters(NODES)["detail"]
    assert (parameter.type, parameter.default, parameter.min, parameter.max) == ("FLOAT", 1, 0, 1)


def test_a_parameter_that_moves_to_another_input_keeps_its_description() -> None:
    workflow = a_workflow(detail={"targets": [("3", "denoise")], "description": "How much"})

    after = curation.exposed(workflow, "detail", "3.cfg")

    assert said(after) == told(detail={"targets": [["3", "cfg"]], "description": "How much"})


def test_a_discovered_parameter_gets_another_name_by_its_input() -> None:
    workflow = a_workflow()

    after = applied(workflow, curation.exposed(workflow, "strictness", "3.cfg"))

    names = after.parameters(NODES).keys()
    assert "strictness" in names
    assert "cfg" not in names


@pytest.mark.parametrize(
    ("parameter", "target", "expected"),
    [
        ("cfg", None, "`cfg` is open already. To open another input, give `target`."),
        ("magic", None, f"txt2img has no parameter `magic`. {KNOWN}"),
        ("detail", "3.magic", "txt2img has no input 3.magic. It looks like `3.steps`."),
        ("detail", "99.steps", "txt2img has no input 99.steps. It looks like `3.steps`."),
        ("detail", "steps", "txt2img has no input steps. It looks like `3.steps`."),
        ("detail", "3.model", "3.model is linked to another node, so it has no own value."),
    ],
    ids=["open", "unknown", "no input", "no node", "no dot", "linked"],
)
def test_what_cannot_be_exposed_is_refused(
    parameter: str, target: str | None, expected: str
) -> None:
    assert refusal(curation.exposed, a_workflow(), parameter, target) == expected


@pytest.mark.parametrize(
    "target", ["9.filename_prefix", "20.image", "22.strength"], ids=["folder", "file", "dangerous"]
)
def test_what_reaches_beyond_pictures_is_never_exposed(target: str) -> None:
    workflow = a_workflow(with_files())

    text = refusal(curation.exposed, workflow, "detail", target)

    assert text == f"{target} may not be set from Discord: it reaches beyond pictures."
    assert target not in map(str, curation.targets(workflow))


def test_one_input_has_one_parameter() -> None:
    workflow = a_workflow(detail={"targets": [("3", "denoise")]})

    text = refusal(curation.exposed, workflow, "strength", "3.denoise")

    assert text == "3.denoise is set by `detail` already. One input has one parameter."


@pytest.mark.parametrize(
    "name",
    ["two words", "größe", "3d", "_a", "a-b", "a=b", "x" * 33, "", "a`b"],
    ids=["space", "umlaut", "digit first", "underscore first", "dash", "equals", "long", "empty",
         "tick"],
)  # fmt: skip
def test_a_new_parameter_needs_a_name_that_can_be_typed(name: str) -> None:
    text = refusal(curation.exposed, a_workflow(), name, "3.denoise")

    assert text == "A parameter's name has small letters, digits and _, at most 32 of them."


def test_the_prompt_goes_into_a_text_only() -> None:
    """It is sent as it is typed, and nobody would check it for a number."""
    refusal(curation.exposed, a_workflow(), "prompt", "3.steps")


@pytest.mark.parametrize(
    ("parameter", "target", "expected"),
    [
        ("prompt", "3.steps", "`prompt` is a text, and 3.steps is not. Take another name."),
        ("negative", "3.cfg", "`negative` is a text, and 3.cfg is not. Take another name."),
        ("steps", "6.text", "`steps` is a number, and 6.text is not. Take another name."),
        ("seed", "3.sampler_name", "`seed` is a number, and 3.sampler_name is not. Take another n"),
        ("steps", "3.cfg", "`steps` sets 3.steps already. Take another name for 3.cfg."),
        ("sampler", "3.scheduler", "`sampler` sets 3.sampler_name already. Take another name for"),
    ],
)
def test_a_name_that_means_something_to_the_bot_keeps_its_meaning(
    parameter: str, target: str, expected: str
) -> None:
    assert refusal(curation.exposed, a_workflow(), parameter, target).startswith(expected)


def test_the_prompt_can_move_to_another_text() -> None:
    after = curation.exposed(a_workflow(), "prompt", "7.text")

    assert said(after) == told(text={"targets": [["7", "text"]]})


def test_limits_go_with_an_input_to_its_new_name() -> None:
    workflow = a_workflow(cfg={"max": 9, "hidden": True})

    after = curation.exposed(workflow, "strictness", "3.cfg")

    assert said(after) == told(strictness={"targets": [["3", "cfg"]], "max": 9})


def test_the_targets_are_the_plain_values_that_may_be_set() -> None:
    assert [str(ref) for ref in curation.targets(a_workflow(TXT2IMG))] == [
        "4.ckpt_name", "5.width", "5.height", "5.batch_size", "6.text", "7.text", "3.seed",
        "3.steps", "3.cfg", "3.sampler_name", "3.scheduler", "3.denoise",
    ]  # fmt: skip


def test_a_parameter_of_the_owners_is_found_by_the_name_that_is_shown() -> None:
    workflow = a_workflow(Detail={"targets": [("3", "denoise")]})

    assert "Detail" in workflow.parameters({})
    assert said(curation.hidden(workflow, "Detail"))["parameters"]["Detail"]["hidden"]


# Limits and defaults


@pytest.mark.parametrize(
    ("parameter", "given", "expected"),
    [
        ("steps", {"low": 1.0, "high": 40.0}, {"min": 1, "max": 40}),
        ("steps", {"high": 40.0}, {"max": 40}),
        ("cfg", {"low": 1.5}, {"min": 1.5}),
        ("cfg", {"low": 0.0, "high": 0.0, "default": "0"}, {"min": 0, "max": 0, "default": 0}),
        ("steps", {"default": " 12 "}, {"default": 12}),
        ("cfg", {"default": "7.5"}, {"default": 7.5}),
        ("sampler", {"default": "EULER"}, {"default": "euler"}),
        ("prompt", {"default": "a dog"}, {"default": "a dog"}),
        ("steps", {"low": 5.0, "high": 9.0, "default": "5"}, {"min": 5, "max": 9, "default": 5}),
    ],
    ids=["range", "max", "fraction", "zero", "whole", "float", "choice", "prompt", "all"],
)
def test_a_limit_is_written_down(
    parameter: str, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    after = limited(a_workflow(), parameter, **given)

    name = "text" if parameter == "prompt" else parameter
    assert said(after) == told(**{name: expected})
    applied(a_workflow(), after)


def test_a_fraction_is_a_default_where_the_graph_holds_a_whole_number() -> None:
    workflow = a_workflow(a_graph(n3={"cfg": 8}))

    after = limited(workflow, "cfg", default="7.5")

    assert applied(workflow, after).parameters(NODES)["cfg"].default == 7.5


def test_limits_that_are_left_out_stay() -> None:
    workflow = a_workflow(steps={"min": 2, "max": 40, "default": 10, "description": "How long"})

    after = limited(workflow, "steps", high=30)

    expected = {"min": 2, "max": 30, "default": 10, "description": "How long"}
    assert said(after) == told(steps=expected)


def test_a_default_outside_a_new_range_goes() -> None:
    workflow = a_workflow(steps={"default": 35, "max": 40})

    assert said(limited(workflow, "steps", high=30)) == told(steps={"max": 30})


def test_without_values_limits_and_default_go_and_the_rest_stays() -> None:
    workflow = a_workflow(
        steps={"min": 2, "max": 40, "default": 10, "hidden": True}, cfg={"min": 1, "max": 9}
    )

    steps = limited(workflow, "steps")
    cfg = limited(workflow, "cfg")

    assert said(steps) == told(steps={"hidden": True}, cfg={"min": 1, "max": 9})
    assert "cfg" not in cfg.parameters


@pytest.mark.parametrize(
    ("parameter", "given", "expected"),
    [
        ("steps", {"low": 9.0, "high": 4.0}, "The smallest value (9) is above the largest (4)."),
        ("cfg", {"low": 9.5, "high": 9.25}, "The smallest value (9.5) is above the largest (9.25)"),
        ("prompt", {"low": 1.0}, "`prompt` is no number, so it has no range. It can have a `def"),
        ("sampler", {"high": 1.0}, "`sampler` is no number, so it has no range."),
        ("steps", {"high": 10.0, "default": "11"}, "`steps` must be between 1 and 10, not 11."),
        ("steps", {"default": "0"}, "`steps` must be between 1 and 10000, not 0."),
        ("steps", {"default": "1.5"}, "`steps` takes a whole number, not '1.5'."),
        ("steps", {"default": "many"}, "`steps` takes a whole number, not 'many'."),
        ("sampler", {"default": "magic"}, "`sampler` cannot be 'magic'. It can be: euler, "),
        ("magic", {"high": 1.0}, "txt2img has no parameter `magic`."),
    ],
    ids=["crossed", "crossed fractions", "range of a text", "range of a choice", "above",
         "below the server's", "fraction", "word", "no choice", "unknown"],
)  # fmt: skip
def test_a_wrong_limit_is_refused(parameter: str, given: dict[str, Any], expected: str) -> None:
    assert refusal(limited, a_workflow(), parameter, **given).startswith(expected)


def test_a_new_bound_is_compared_with_the_one_that_is_there() -> None:
    workflow = a_workflow(steps={"min": 10, "max": 40})

    assert refusal(limited, workflow, "steps", high=9.0) == (
        "The smallest value (10) is above the largest (9)."
    )
    assert refusal(limited, workflow, "steps", low=41.0) == (
        "The smallest value (41) is above the largest (40)."
    )


def test_a_default_is_compared_with_the_bounds_that_are_there() -> None:
    workflow = a_workflow(steps={"min": 10, "max": 40})

    assert refusal(limited, workflow, "steps", default="41").endswith("10 and 40, not 41.")
    assert refusal(limited, workflow, "steps", default="41", nodes={}).endswith("not 41.")


def test_a_range_that_the_server_never_takes_is_refused() -> None:
    refusal(limited, a_workflow(), "steps", low=20_000.0)


def test_a_range_of_which_the_server_tells_one_end_is_refused_in_a_sentence() -> None:
    steps = InputType("steps", "INT", min=1)
    nodes = {"KSampler": replace(NODES["KSampler"], inputs={"steps": steps})}

    text = refusal(limited, a_workflow(), "steps", low=0.0, nodes=nodes)

    assert text == "ComfyUI takes 1 to any for `steps`."


def test_the_default_of_a_file_cannot_be_named() -> None:
    """A name reaches other people's uploads and, on older servers, any path."""
    refusal(limited, a_workflow(with_files()), "image", default="../../etc/passwd")


# Who and where


def test_roles_and_channels_add_up_and_are_kept_once() -> None:
    workflow = a_workflow()

    for role, channel in ((1, None), (2, None), (None, 3), (1, 3), (4, 5)):
        workflow = applied(workflow, curation.allowed(workflow, role, channel))

    assert workflow.sidecar.allow == Allowed(roles=[1, 2, 4], channels=[3, 5])


def test_without_role_and_channel_everybody_may_everywhere() -> None:
    workflow = applied(a_workflow(), Sidecar(allow=Allowed(roles=[1], channels=[2])))

    assert said(curation.allowed(workflow, None, None)) == {}
