"""From a member's words to a finished graph, or to a sentence that says why not."""

import json
from copy import deepcopy
from typing import Any

import pytest

from bot.config import Limits
from bot.errors import UserError
from bot.jobs import Request
from bot.requests import PROMPT_MAX, Author, Usage, Wish, build, check_limits, target_nodes
from comfy.errors import ParameterError
from comfy.graph import Graph
from comfy.workflow import Workflow
from tests.bot.builders import NODES, NOW, a_workflow
from tests.graphs import PLAIN, TXT2IMG, a_graph

MEMBER = Author(interaction_id=1, user_id=2, channel_id=3, guild_id=4)
MODERATOR = Author(interaction_id=1, user_id=2, channel_id=3, guild_id=None, privileged=True)


def built(
    workflow: Workflow | None = None,
    *,
    author: Author = MEMBER,
    limits: Limits = Limits(),  # noqa: B008  (it is frozen)
    nodes: Any = NODES,
    **wish: Any,
) -> Request:
    return build(workflow or a_workflow(), Wish(**wish), author, limits, nodes, NOW)


def refusal(workflow: Workflow | None = None, **wish: Any) -> str:
    with pytest.raises((UserError, ParameterError)) as caught:
        built(workflow, **wish)
    return str(caught.value)


def inputs(request: Request, node_id: str) -> dict[str, Any]:
    found: dict[str, Any] = request.graph[node_id]["inputs"]
    return found


# What becomes of a request


def test_a_prompt_goes_to_the_positive_text() -> None:
    request = built(prompt="  a cat\non a mat ")

    assert inputs(request, "6")["text"] == "a cat\non a mat"
    assert inputs(request, "7")["text"] == "blurry"
    assert request.text == "a cat\non a mat"


def test_a_request_tells_who_asked_for_what_and_when() -> None:
    request = built(prompt="a cat")

    who = (request.interaction_id, request.user_id, request.channel_id, request.guild_id)
    assert who == (1, 2, 3, 4)
    assert (request.workflow, request.created_at) == ("txt2img", NOW)
    assert len(request.id) == 36


def test_without_a_prompt_the_text_of_the_workflow_stays() -> None:
    request = built()

    assert inputs(request, "6")["text"] == request.text == "a castle"


def test_a_workflow_without_any_text_can_be_run() -> None:
    request = built(a_workflow(PLAIN))

    assert request.text == ""
    assert request.settings == {}


def test_the_values_are_shown_without_texts_and_pictures() -> None:
    request = built(a_workflow(with_picture()), prompt="a cat", values={"steps": 30, "seed": 5})

    assert request.settings == {
        "negative": "blurry",
        "seed": 5,
        "steps": 30,
        "cfg": 7.0,
        "sampler": "euler",
        "scheduler": "normal",
        "width": 512,
        "height": 512,
        "batch": 1,
        "model": "sd_xl_base_1.0.safetensors",
    }


def test_every_saver_writes_into_the_folder_of_the_job() -> None:
    graph = a_graph()
    graph["12:5"] = deepcopy(graph["9"])

    request = built(a_workflow(graph), prompt="a cat")

    assert inputs(request, "9")["filename_prefix"] == f"comfycord/{request.id}/9"
    assert inputs(request, "12:5")["filename_prefix"] == f"comfycord/{request.id}/12_5"


def test_the_graph_of_the_workflow_is_never_changed() -> None:
    workflow = a_workflow()

    request = built(
        workflow,
        author=MODERATOR,
        prompt="a cat",
        values={"steps": 3},
        settings="cfg=3",
        overrides='{"3": {"inputs": {"denoise": 0.5}}}',
    )

    assert workflow.graph == TXT2IMG
    assert request.graph != TXT2IMG


def test_two_requests_share_nothing() -> None:
    workflow = a_workflow()

    one, other = built(workflow), built(workflow)

    assert one.id != other.id
    assert one.graph["6"]["inputs"] is not other.graph["6"]["inputs"]


# Seeds


def test_a_seed_that_is_left_out_is_drawn() -> None:
    seeds = {inputs(built(), "3")["seed"] for _ in range(20)}

    assert len(seeds) > 1
    assert all(0 <= seed <= 2**53 for seed in seeds)


@pytest.mark.parametrize(
    "wish",
    [
        {"values": {"seed": 42}},
        {"settings": "seed=42"},
        {"overrides": '{"3": {"inputs": {"seed": 42}}}'},
    ],
    ids=["option", "settings", "overrides"],
)
def test_a_seed_that_is_given_stays(wish: dict[str, Any]) -> None:
    assert inputs(built(**wish), "3")["seed"] == 42


def test_a_seed_that_the_sidecar_sets_stays() -> None:
    workflow = a_workflow(seed={"default": 99})

    assert inputs(built(workflow), "3")["seed"] == 99


def test_a_seed_that_the_sidecar_sets_to_the_graphs_own_stays() -> None:
    seed = a_graph()["3"]["inputs"]["seed"]

    assert inputs(built(a_workflow(seed={"default": seed})), "3")["seed"] == seed


def test_a_range_for_the_seed_leaves_it_random() -> None:
    """Though the graph's own seed is outside."""
    workflow = a_workflow(a_graph(n3={"seed": 2**40}), seed={"max": 1_000_000})

    seeds = {inputs(built(workflow), "3")["seed"] for _ in range(20)}

    assert len(seeds) > 1
    assert seeds <= set(range(1_000_001))


def test_a_drawn_seed_drives_every_sampler_and_keeps_to_its_range() -> None:
    graph = a_graph()
    graph["13"] = deepcopy(graph["3"])
    graph["13"]["inputs"]["latent_image"] = ["3", 0]
    graph["8"]["inputs"]["samples"] = ["13", 0]

    request = built(a_workflow(graph, seed={"min": 5, "max": 6}), nodes={})

    assert inputs(request, "3")["seed"] == inputs(request, "13")["seed"]
    assert inputs(request, "3")["seed"] in (5, 6)


def test_a_drawn_seed_is_one_that_can_be_typed_again() -> None:
    workflow = a_workflow(seed={"min": -1_000_000, "max": 10})

    seeds = {inputs(built(workflow, nodes={}), "3")["seed"] for _ in range(50)}

    assert seeds <= set(range(11))


# Values


def test_values_go_where_the_parameters_are() -> None:
    given = {"steps": 30, "cfg": 4.5, "width": 640, "height": 832, "batch": 2, "negative": "rain"}

    request = built(values=given)

    assert inputs(request, "3")["steps"] == 30
    assert inputs(request, "3")["cfg"] == 4.5
    assert inputs(request, "5") == {"width": 640, "height": 832, "batch_size": 2}
    assert inputs(request, "7")["text"] == "rain"


def test_an_option_that_was_left_out_changes_nothing() -> None:
    assert inputs(built(values={"steps": None}), "3")["steps"] == 20


def test_defaults_of_the_sidecar_come_before_those_of_the_graph() -> None:
    workflow = a_workflow(steps={"default": 12}, cfg={"max": 9})

    assert inputs(built(workflow), "3")["steps"] == 12
    assert inputs(built(workflow, values={"steps": 9}), "3")["steps"] == 9
    assert inputs(built(workflow), "3")["cfg"] == 7.0


def test_limits_of_the_sidecar_hold_for_what_nobody_sets() -> None:
    workflow = a_workflow(steps={"max": 5}, cfg={"min": 19})

    request = built(workflow)

    assert inputs(request, "3")["steps"] == request.settings["steps"] == 5
    assert inputs(request, "3")["cfg"] == request.settings["cfg"] == 19


def test_limits_of_the_sidecar_hold_for_every_input_of_a_parameter() -> None:
    graph = a_graph(n3={"denoise": 0.4})
    graph["13"] = deepcopy(graph["3"])
    graph["13"]["inputs"]["denoise"] = 1.0
    both = {"targets": [("3", "denoise"), ("13", "denoise")], "max": 0.5}

    request = built(a_workflow(graph, detail=both))

    assert inputs(request, "3")["denoise"] == 0.4
    assert inputs(request, "13")["denoise"] <= 0.5


def test_a_fraction_as_limit_makes_no_fraction_of_a_whole_number() -> None:
    workflow = a_workflow(steps={"max": 12.5})

    assert inputs(built(workflow), "3")["steps"] == 12


def test_settings_are_words_with_quotes_for_spaces() -> None:
    request = built(settings='  steps=8 sampler=DPMPP_2M negative="fog and rain"\tcfg=2.5 ')

    assert inputs(request, "3")["steps"] == 8
    assert inputs(request, "3")["sampler_name"] == "dpmpp_2m"
    assert inputs(request, "3")["cfg"] == 2.5
    assert inputs(request, "7")["text"] == "fog and rain"


def test_a_setting_may_be_empty_and_hold_equals_signs() -> None:
    assert inputs(built(settings='negative=""'), "7")["text"] == ""
    assert inputs(built(settings="negative=a=b"), "7")["text"] == "a=b"


def test_an_option_outdoes_a_setting() -> None:
    assert inputs(built(settings="steps=8", values={"steps": 9}), "3")["steps"] == 9


SETTINGS_LOOK_LIKE = '`settings` looks like `steps=20 sampler=euler`, with "…" for spaces.'


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ({"settings": "steps"}, SETTINGS_LOOK_LIKE),
        ({"settings": "=5"}, SETTINGS_LOOK_LIKE),
        ({"settings": "steps = 5"}, SETTINGS_LOOK_LIKE),
        ({"settings": 'negative="rain'}, '`settings` has a `"` that is never closed.'),
        (
            {"settings": "colour=red"},
            "*txt2img* has no `colour`. It has: `text`, `negative`, `seed`, `steps`, `cfg`, "
            "`sampler`, `scheduler`, `width`, `height`, `batch`, `model`.",
        ),
        ({"values": {"steps": "a lot"}}, "`steps` takes a whole number, not 'a lot'."),
        ({"values": {"width": 1}}, "`width` must be between 16 and 16384, not 1."),
        ({"values": {"seed": -1}}, f"`seed` must be between 0 and {2**64 - 1}, not -1."),
        (
            {"values": {"negative": "a \ud83d"}},
            "`negative` holds a broken character. Type it again.",
        ),
    ],
    ids=[
        "no equals", "no name", "spaces", "open quote", "unknown", "word", "too small", "seed",
        "lone surrogate",
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_with_what_is_allowed(wish: dict[str, Any], expected: str) -> None:
    assert refusal(**wish) == expected


def test_limits_of_the_sidecar_are_limits() -> None:
    workflow = a_workflow(steps={"max": 30})

    assert refusal(workflow, values={"steps": 31}).endswith("between 1 and 30, not 31.")


def test_a_picture_is_not_set_by_its_name() -> None:
    graph = {"1": {"class_type": "LoadImage", "inputs": {"image": "other.png"}}}

    text = refusal(a_workflow(graph, "copy"), settings="image=somebody-elses.png")

    assert text == "`image` is a file, which cannot be typed. Attach one."


# Where a prompt goes


def test_node_says_where_the_prompt_goes() -> None:
    request = built(prompt="a cat", node="7")

    assert inputs(request, "7")["text"] == "a cat"
    assert inputs(request, "6")["text"] == "a castle"


def test_node_may_name_a_text_that_the_bot_did_not_find() -> None:
    graph = a_graph()
    graph["10"] = {"class_type": "PrimitiveString", "inputs": {"value": "a note", "text": "x"}}

    request = built(a_workflow(graph), prompt="a cat", node="10")

    assert inputs(request, "10") == {"value": "a cat", "text": "x"}
    assert inputs(request, "6")["text"] == "a castle"


def test_node_sets_both_texts_of_an_encoder_that_has_two() -> None:
    graph = a_graph()
    texts = {"text_g": "old", "text_l": "old", "clip": ["4", 1]}
    graph["6"] = {"class_type": "CLIPTextEncodeSDXL", "inputs": texts}

    request = built(a_workflow(graph), prompt="a cat", node="6")

    assert (inputs(request, "6")["text_g"], inputs(request, "6")["text_l"]) == ("a cat", "a cat")


@pytest.mark.parametrize("node", ["41", "5", ""], ids=["unknown", "no text", "empty"])
def test_a_node_that_takes_no_text_is_refused(node: str) -> None:
    assert refusal(prompt="a cat", node=node) == f"Target node {node} is not a text input node"


def test_a_node_without_a_prompt_is_refused() -> None:
    assert refusal(node="6") == "`node` says where the prompt goes, so it needs a `prompt` too."


def test_the_nodes_that_can_be_named_are_those_that_hold_texts() -> None:
    graph = a_graph()
    graph["20"] = {"class_type": "PrimitiveStringMultiline", "inputs": {"value": "a text"}}
    graph["21"] = {"class_type": "PrimitiveInt", "inputs": {"value": 4}}
    graph["22"] = {"class_type": "CLIPTextEncodeSDXL", "inputs": {"text_g": "a", "text_l": "b"}}

    assert target_nodes(a_workflow(graph)) == ["6", "7", "20", "22"]


@pytest.mark.parametrize("class_type", ["CLIPTextEncode", "Text Multiline"])
def test_the_last_resort_for_a_prompt_is_the_first_text_node(class_type: str) -> None:
    graph: Graph = {
        **a_graph(PLAIN),
        "10": {"class_type": class_type, "inputs": {"text": "one"}},
        "11": {"class_type": class_type, "inputs": {"text": "two"}},
    }

    request = built(a_workflow(graph), prompt="a cat")

    assert (inputs(request, "10")["text"], inputs(request, "11")["text"]) == ("a cat", "two")
    assert request.text == "a cat"


def test_the_last_resort_for_a_prompt_is_never_the_negative() -> None:
    graph = {"7": deepcopy(TXT2IMG["7"]), **a_graph(n3={"positive": ["11", 0]})}
    graph["10"] = {"class_type": "CLIPTextEncode", "inputs": {"text": "on a hill"}}
    both = {"conditioning_1": ["6", 0], "conditioning_2": ["10", 0]}
    graph["11"] = {"class_type": "ConditioningCombine", "inputs": both}

    request = built(a_workflow(graph), prompt="a cat")

    assert [inputs(request, each)["text"] for each in ("7", "6")] == ["blurry", "a cat"]


def test_a_prompt_for_a_workflow_without_text_is_refused() -> None:
    text = refusal(a_workflow(PLAIN), prompt="a cat")

    assert text == "No suitable text input node found in workflow"


def test_a_text_that_the_sidecar_declares_takes_the_prompt() -> None:
    graph = a_graph(PLAIN)
    graph["10"] = {"class_type": "PrimitiveString", "inputs": {"value": "hello"}}
    workflow = a_workflow(graph, text={"targets": [["10", "value"]]})

    assert inputs(built(workflow, prompt="a cat"), "10")["value"] == "a cat"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", "The prompt is empty. Say what the picture should show."),
        (" \n\t", "The prompt is empty. Say what the picture should show."),
        ("\x00", "The prompt is empty. Say what the picture should show."),
        (
            "a" * (PROMPT_MAX + 1),
            "The prompt has 6001 characters, and 6000 is the most.",
        ),
        ("a cat \ud83d", "The prompt holds a broken character. Type it again."),
    ],
    ids=["empty", "blank", "only NUL", "too long", "lone surrogate"],
)
def test_a_bad_prompt_is_refused(prompt: str, expected: str) -> None:
    assert refusal(prompt=prompt) == expected


@pytest.mark.parametrize(
    ("prompt", "text"),
    [("a\x00 cat", "a cat"), ("c" * PROMPT_MAX, "c" * PROMPT_MAX), ("🐈 кошка", "🐈 кошка")],
    ids=["NUL inside", "as long as can be", "any letter"],
)
def test_other_prompts_are_taken(prompt: str, text: str) -> None:
    assert inputs(built(prompt=prompt), "6")["text"] == text


# Overrides


def overriding(node_id: str, **values: Any) -> str:
    return json.dumps({node_id: {"inputs": values}})


def test_overrides_set_several_nodes_at_once() -> None:
    both = {"3": {"inputs": {"steps": 9}}, "6": {"inputs": {"text": "a dog"}}}

    request = built(overrides=json.dumps(both))

    assert inputs(request, "3")["steps"] == 9
    assert inputs(request, "6")["text"] == request.text == "a dog"


def test_a_prompt_outdoes_overrides_and_they_outdo_values() -> None:
    both = {"3": {"inputs": {"steps": 9}}, "6": {"inputs": {"text": "a dog"}}}

    request = built(prompt="a cat", values={"steps": 8}, overrides=json.dumps(both))

    assert inputs(request, "3")["steps"] == 9
    assert inputs(request, "6")["text"] == "a cat"


def test_members_reach_declared_parameters_only() -> None:
    text = refusal(overrides=overriding("3", denoise=0.5))

    assert text == "`overrides`: 3.denoise cannot be set from Discord. `/workflows` shows what can."


def test_moderators_reach_every_plain_value() -> None:
    request = built(author=MODERATOR, overrides=overriding("3", denoise=0.5))

    assert inputs(request, "3")["denoise"] == 0.5


@pytest.mark.parametrize(
    "overrides",
    [
        overriding("9", filename_prefix="../../etc/x"),
        overriding("3", model="flux"),
        overriding("3", colour="red"),
    ],
    ids=["file name", "link", "no such input"],
)
def test_nobody_reaches_files_links_or_what_is_not_there(overrides: str) -> None:
    with pytest.raises(ParameterError, match="cannot be set from Discord"):
        built(author=MODERATOR, overrides=overrides)


NOT_JSON = '`overrides` is not valid JSON. It looks like {"6": {"inputs": {"text": "a cat"}}}.'


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ("{", NOT_JSON),
        ('{"3": {"inputs": {"cfg": NaN}}}', NOT_JSON),
        (
            '{"3": {"inputs": {"cfg": 1, "cfg": 2}}}',
            "`overrides` names something twice. Say it once.",
        ),
        ("[" * 100_000, NOT_JSON),
        ("[]", '`overrides` looks like {"6": {"inputs": {"text": "a cat"}}}.'),
        ('{"77": {"inputs": {}}}', "`overrides`: this workflow has no node '77'."),
        ('{"3": {}}', '`overrides`: node 3 takes {"inputs": {…}} and nothing else.'),
        (
            '{"3": {"inputs": {}, "class_type": "X"}}',
            '`overrides`: node 3 takes {"inputs": {…}} and nothing else.',
        ),
        (
            '{"3": {"inputs": {"steps": ["4", 0]}}}',
            "`steps` takes one value, not a list or an object.",
        ),
        (
            '{"7": {"inputs": {"text": "\\ud800"}}}',
            "`negative` holds a broken character. Type it again.",
        ),
    ],
    ids=[
        "cut off", "not a number", "a key twice", "too deep", "a list", "no such node",
        "no inputs", "another class", "a link", "lone surrogate",
    ],
)  # fmt: skip
def test_wrong_overrides_are_refused(overrides: str, expected: str) -> None:
    assert refusal(overrides=overrides) == expected


# Limits


def test_a_picture_as_large_as_the_budget_is_taken() -> None:
    request = built(
        values={"width": 1024, "height": 1024, "batch": 2}, limits=Limits(pixels=2 * 1024**2)
    )

    assert inputs(request, "5")["batch_size"] == 2


def test_a_picture_beyond_the_budget_is_refused() -> None:
    text = refusal(
        values={"width": 1024, "height": 1024, "batch": 3}, limits=Limits(pixels=2 * 1024**2)
    )

    assert text == (
        "1024 x 1024 x 3 is too large: at most 2,097,152 pixels in all. Make it smaller."
    )


def test_the_budget_counts_overrides_too_and_one_picture_where_there_is_no_batch() -> None:
    graph = a_graph()
    del graph["5"]["inputs"]["batch_size"]

    text = refusal(a_workflow(graph), overrides=overriding("5", width=16384, height=16384))

    assert text.startswith("16384 x 16384 x 1 is too large")


def test_the_budget_counts_every_node_that_a_parameter_drives() -> None:
    graph = a_graph()
    graph["20"] = deepcopy(graph["5"])
    workflow = a_workflow(
        graph,
        width={"targets": [["5", "width"], ["20", "width"]]},
        height={"targets": [["5", "height"], ["20", "height"]]},
    )

    text = refusal(workflow, overrides=overriding("20", width=16384, height=16384))

    assert text.startswith("16384 x 16384 x 1 is too large")


def test_a_size_that_comes_from_a_picture_has_no_budget() -> None:
    graph = with_picture()
    graph["3"]["inputs"]["latent_image"] = ["11", 0]

    request = built(a_workflow(graph), prompt="a cat", values={"strength": 0.4})

    assert inputs(request, "3")["denoise"] == 0.4
    assert "width" not in request.settings


LIMITS: dict[str, tuple[Limits, Usage, Usage, str]] = {
    "open jobs": (
        Limits(jobs_per_user=2),
        Usage(mine=1),
        Usage(mine=2),
        "You have 2 jobs waiting or running, and 2 is the most. "
        "Try again when one of them is done.",
    ),
    "jobs of a day": (
        Limits(jobs_per_day=20),
        Usage(today=19),
        Usage(today=20),
        "You may ask for 20 pictures in 24 hours, and 0 of them are left. Try again later.",
    ),
    "GPU time of a day": (
        Limits(gpu_seconds_per_day=600),
        Usage(gpu_seconds=599.9),
        Usage(gpu_seconds=600.0),
        "You may use 600 seconds of GPU time in 24 hours, and 0 of them are left. Try again later.",
    ),
    "the queue": (
        Limits(queue=10),
        Usage(pending=9),
        Usage(pending=10),
        "The queue is full (10 jobs wait). Try again in a few minutes.",
    ),
}


@pytest.mark.parametrize(
    ("limits", "below", "reached", "sentence"), LIMITS.values(), ids=LIMITS.keys()
)
def test_a_limit_that_is_reached_is_told_with_what_is_left(
    limits: Limits, below: Usage, reached: Usage, sentence: str
) -> None:
    check_limits(limits, below)

    with pytest.raises(UserError) as caught:
        check_limits(limits, reached)

    assert str(caught.value) == sentence


SEVERAL: dict[str, tuple[Limits, Usage, str]] = {
    "open jobs": (
        Limits(jobs_per_user=5),
        Usage(mine=2),
        "This makes 4 jobs, and you may have 3 more waiting or running.",
    ),
    "jobs of a day": (
        Limits(jobs_per_day=20),
        Usage(today=17),
        "You may ask for 20 pictures in 24 hours, and 3 of them are left. Try again later.",
    ),
    "the queue": (
        Limits(queue=10),
        Usage(pending=7),
        "The queue is full (7 jobs wait). Try again in a few minutes.",
    ),
}


@pytest.mark.parametrize(("limits", "usage", "sentence"), SEVERAL.values(), ids=SEVERAL.keys())
def test_several_jobs_at_once_need_room_for_all_of_them(
    limits: Limits, usage: Usage, sentence: str
) -> None:
    check_limits(limits, usage, 3)

    with pytest.raises(UserError) as caught:
        check_limits(limits, usage, 4)

    assert str(caught.value) == sentence


def test_without_limits_of_a_day_a_day_has_none() -> None:
    check_limits(Limits(), Usage(today=10**6, gpu_seconds=1e9))


def with_picture() -> Graph:
    graph = a_graph()
    graph["10"] = {"class_type": "LoadImage", "inputs": {"image": "example.png"}}
    graph["11"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["10", 0], "vae": ["4", 2]}}
    return graph
