"""Who may use a workflow, where, and what a member can never set in it."""

import json
from typing import Any

import pytest

from bot.config import Limits
from bot.errors import UserError
from bot.jobs import Request
from bot.requests import Author, Wish, build, check_allowed, may_use, target_nodes
from comfy.errors import ParameterError
from comfy.workflow import Allowed, Sidecar, Workflow
from tests.bot.builders import NODES, NOW, a_workflow
from tests.graphs import a_graph

MEMBER = Author(interaction_id=1, user_id=2, channel_id=3, guild_id=4, roles=frozenset({5, 6}))
MODERATOR = Author(interaction_id=1, user_id=2, channel_id=3, guild_id=4, privileged=True)


def built(workflow: Workflow, author: Author = MEMBER, **wish: Any) -> Request:
    return build(workflow, Wish(**wish), author, Limits(), NODES, NOW)


def refusal(workflow: Workflow, author: Author = MEMBER, **wish: Any) -> str:
    with pytest.raises((UserError, ParameterError)) as caught:
        built(workflow, author, **wish)
    return str(caught.value)


def decided(**data: Any) -> Workflow:
    return Workflow.of("txt2img", a_graph(), Sidecar.model_validate(data, strict=False))


def overrides(node: str, **inputs: Any) -> str:
    return json.dumps({node: {"inputs": inputs}})


# Who and where


@pytest.mark.parametrize("author", [MEMBER, MODERATOR], ids=["member", "moderator"])
def test_a_workflow_that_is_off_runs_for_nobody(author: Author) -> None:
    workflow = decided(enabled=False)

    text = refusal(workflow, author, prompt="a cat")

    assert text == "txt2img is switched off. A moderator can switch it on again."
    assert not may_use(workflow, author)


@pytest.mark.parametrize(
    ("roles", "fits"),
    [([], True), ([5], True), ([9, 6], True), ([9], False), ([4], False)],
    ids=["anybody", "one", "one of two", "another", "not a role"],
)
def test_one_of_the_allowed_roles_is_enough(roles: list[int], fits: bool) -> None:
    assert may_use(decided(allow={"roles": roles}), MEMBER) is fits


def test_who_lacks_the_role_is_told_which() -> None:
    workflow = decided(allow={"roles": [7, 8]})

    assert refusal(workflow, prompt="a cat") == "txt2img is only for <@&7>, <@&8>."


@pytest.mark.parametrize(
    ("channels", "author", "fits"),
    [
        ([3], MEMBER, True),
        ([9, 3], MEMBER, True),
        ([9], MEMBER, False),
        ([9], Author(interaction_id=1, user_id=2, channel_id=3, guild_id=4, parent_id=9), True),
        ([9], Author(interaction_id=1, user_id=2, channel_id=3, guild_id=4, parent_id=8), False),
        ([9], Author(interaction_id=1, user_id=2, channel_id=9, guild_id=None), True),
    ],
    ids=["here", "one of two", "elsewhere", "a thread of it", "a thread elsewhere", "private"],
)
def test_a_workflow_works_in_its_channels_and_their_threads(
    channels: list[int], author: Author, fits: bool
) -> None:
    assert may_use(decided(allow={"channels": channels}), author) is fits


def test_a_channel_that_is_not_allowed_is_answered_with_those_that_are() -> None:
    workflow = decided(allow={"channels": [7, 8]})

    assert refusal(workflow, prompt="a cat") == "txt2img works only in <#7>, <#8>."


def test_role_and_channel_must_both_fit() -> None:
    assert may_use(decided(allow={"roles": [5], "channels": [3]}), MEMBER)
    assert not may_use(decided(allow={"roles": [5], "channels": [9]}), MEMBER)
    assert not may_use(decided(allow={"roles": [9], "channels": [3]}), MEMBER)


def test_in_direct_messages_nobody_has_a_role() -> None:
    alone = Author(interaction_id=1, user_id=2, channel_id=3, guild_id=None)

    with pytest.raises(UserError, match="only for"):
        check_allowed(decided(allow=Allowed(roles=[5]).model_dump()), alone)


# Hidden parameters


@pytest.mark.parametrize(
    "wish",
    [
        {"settings": "cfg=9"},
        {"values": {"cfg": 9.0}},
        {"overrides": overrides("3", cfg=9.0)},
        {"prompt": "a cat", "settings": "steps=9 cfg=9"},
    ],
    ids=["settings", "option", "overrides", "among others"],
)
def test_a_hidden_parameter_cannot_be_set(wish: dict[str, Any]) -> None:
    built(a_workflow(), **wish)  # it can, where it is open
    text = refusal(a_workflow(cfg={"hidden": True}), **wish)

    assert "cfg" in text
    assert "`cfg`," not in text


@pytest.mark.parametrize("author", [MEMBER, MODERATOR], ids=["member", "moderator"])
def test_a_hidden_text_takes_no_prompt(author: Author) -> None:
    workflow = a_workflow(text={"hidden": True})

    assert refusal(workflow, author, prompt="a cat") == (
        "*txt2img* takes no prompt: its text is fixed."
    )
    assert refusal(workflow, author, prompt="a cat", node="6") == (
        "Target node 6 is not a text input node"
    )
    assert refusal(workflow, settings="text=cat").startswith("*txt2img* has no `text`.")
    assert built(workflow).graph["6"]["inputs"]["text"] == "a castle"


def test_a_hidden_text_is_no_node_that_can_be_named() -> None:
    assert target_nodes(a_workflow(negative={"hidden": True})) == ["6"]
    assert refusal(a_workflow(negative={"hidden": True}), prompt="a cat", node="7") == (
        "Target node 7 is not a text input node"
    )


def test_a_text_of_two_inputs_is_hidden_as_a_whole() -> None:
    graph = a_graph()
    graph["6"] = {
        "class_type": "CLIPTextEncodeSDXL",
        "inputs": {"text_g": "a", "text_l": "b", "clip": ["4", 1]},
    }

    text = refusal(a_workflow(graph, text={"hidden": True}), prompt="a cat", node="6")

    assert text == "Target node 6 is not a text input node"


def test_a_moderators_overrides_reach_what_is_hidden() -> None:
    workflow = a_workflow(cfg={"hidden": True, "max": 10}, text={"hidden": True})

    request = built(workflow, MODERATOR, overrides=overrides("3", cfg=9.0))
    text = built(workflow, MODERATOR, overrides=overrides("6", text="a cat"))

    assert request.graph["3"]["inputs"]["cfg"] == 9.0
    assert text.graph["6"]["inputs"]["text"] == "a cat"
    assert "between 0 and 10" in refusal(workflow, MODERATOR, overrides=overrides("3", cfg=11))


def test_a_hidden_seed_is_still_drawn() -> None:
    workflow = a_workflow(seed={"hidden": True})

    drawn = {built(workflow).graph["3"]["inputs"]["seed"] for _ in range(3)}

    assert len(drawn) == 3
    assert "seed" in refusal(workflow, values={"seed": "7"})


def test_a_hidden_parameter_keeps_its_default() -> None:
    workflow = a_workflow(cfg={"hidden": True, "default": 3.5})

    assert built(workflow).graph["3"]["inputs"]["cfg"] == 3.5


def test_a_hidden_parameter_is_not_shown() -> None:
    shown = built(a_workflow(cfg={"hidden": True})).settings

    assert "steps" in shown
    assert "cfg" not in shown


def test_hidden_sizes_count_for_the_budget() -> None:
    workflow = a_workflow(
        a_graph(n5={"width": 16384, "height": 16384}),
        width={"hidden": True},
        height={"hidden": True},
    )

    assert "is too large" in refusal(workflow, prompt="a cat")


def test_a_limit_binds_what_runs_when_nobody_says_anything() -> None:
    """`/workflow limit steps max:12` on a graph that holds 20."""
    workflow = a_workflow(steps={"max": 12})

    assert built(workflow).graph["3"]["inputs"]["steps"] <= 12
