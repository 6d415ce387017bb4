"""What one request can make of itself: choices in braces, several jobs, kept settings, limits."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.config import Limits
from bot.errors import UserError
from bot.requests import SEVERAL_MAX, Usage, check_limits, several
from bot.wishes import Wish, permuted
from comfy.parameters import Parameter
from comfy.workflow import Workflow
from tests.bot.builders import NODES, a_workflow
from tests.graphs import PLAIN, a_graph

# Mostly what means something in a prompt, so that short texts hold it in every order.
marks = st.text(st.sampled_from("{}|\\ab ") | st.characters(exclude_categories=["Cs"]), max_size=30)
sides = st.text(st.sampled_from("ab, ({"), max_size=5).filter(lambda text: "{" not in text)


def made(wishes: Iterator[Wish]) -> list[str | None]:
    return [each.prompt for each in wishes]


def parameter(name: str, workflow: Workflow | None = None) -> Parameter:
    return (workflow or a_workflow()).parameters(NODES)[name]


def overriding(**inputs: Any) -> str:
    """Inputs of the sampler, as people type them."""
    return json.dumps({"3": {"inputs": inputs}})


def one_picture() -> Workflow:
    """Its size comes from a picture, so that it makes one at a time."""
    graph = a_graph()
    graph["10"] = {"class_type": "LoadImage", "inputs": {"image": "example.png"}}
    graph["11"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["10", 0], "vae": ["4", 2]}}
    graph["3"]["inputs"]["latent_image"] = ["11", 0]
    return a_workflow(graph, "img2img")


# Choices in braces


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a cat", ["a cat"]),
        ("", [""]),
        ("a {red|blue} cat", ["a red cat", "a blue cat"]),
        ("{a|b} {1|2}", ["a 1", "a 2", "b 1", "b 2"]),
        ("{a|b|c}{1|2}", ["a1", "a2", "b1", "b2", "c1", "c2"]),
        ("a {|very }big cat", ["a big cat", "a very big cat"]),
        ("{a|a}", ["a", "a"]),
        ("{one\nline|another}", ["one\nline", "another"]),
        ("a|b", ["a|b"]),
        ("a {cat}", ["a {cat}"]),
        ("{}", ["{}"]),
        ("{a|b", ["{a|b"]),
        ("a|b}", ["a|b}"]),
        (r"\{a|b\}", ["{a|b}"]),
        (r"\{a|b}", ["{a|b}"]),
        (r"{a|b\}", ["{a|b}"]),
        (r"\{a\} {b|c}", ["{a} b", "{a} c"]),
        (r"C:\cats {a|b}", [r"C:\cats a", r"C:\cats b"]),
        ("{a|{b|c}}", ["{a|b}", "{a|c}"]),
    ],
)
def test_each_choice_makes_a_prompt_and_several_braces_multiply(
    prompt: str, prompts: list[str]
) -> None:
    assert list(permuted(prompt)) == prompts


@given(sides, st.lists(sides, min_size=2, max_size=5), sides)
def test_there_are_as_many_prompts_as_choices_and_each_stands_between_the_sides(
    before: str, choices: list[str], after: str
) -> None:
    prompt = f"{before}{{{'|'.join(choices)}}}{after}"

    assert list(permuted(prompt)) == [f"{before}{each}{after}" for each in choices]


def test_what_is_far_too_much_is_not_made_before_somebody_takes_it() -> None:
    prompts = permuted("{a|b|c|d|e|f|g|h|i|j}" * 30)

    assert next(prompts) == "a" * 30


# Several jobs of one request


def test_without_choices_there_is_one_job() -> None:
    assert list(several(a_workflow(), Wish(prompt="a cat"))) == [Wish(prompt="a cat")]


def test_without_a_prompt_there_is_one_job_too() -> None:
    assert made(several(a_workflow(PLAIN), Wish())) == [None]


def test_each_choice_is_a_job_that_keeps_all_the_rest() -> None:
    wish = Wish(workflow="txt2img", prompt="{a|b}", values={"steps": 3}, private=True)

    first, second = several(a_workflow(), wish)

    assert (first.prompt, second.prompt) == ("a", "b")
    for each in (first, second):
        assert (each.workflow, each.values, each.private) == ("txt2img", {"steps": 3}, True)


def test_a_batch_stays_where_the_workflow_makes_several_pictures() -> None:
    (only,) = several(a_workflow(), Wish(prompt="a", values={"batch": 4}))

    assert only.values == {"batch": 4}


def test_a_batch_makes_as_many_jobs_where_the_workflow_makes_one_picture() -> None:
    wishes = list(several(one_picture(), Wish(prompt="a", values={"batch": 3, "steps": 5})))

    assert [(each.prompt, each.values) for each in wishes] == [("a", {"steps": 5})] * 3


def test_a_hidden_batch_makes_jobs_too() -> None:
    workflow = a_workflow(batch={"hidden": True})

    assert len(list(several(workflow, Wish(prompt="a", values={"batch": 3})))) == 3


def test_choices_and_batch_multiply_with_the_same_prompts_together() -> None:
    wishes = several(one_picture(), Wish(prompt="{a|b}", values={"batch": 2}))

    assert made(wishes) == ["a", "a", "b", "b"]


def test_a_batch_of_one_is_no_value_of_a_workflow_that_has_none() -> None:
    assert list(several(one_picture(), Wish(values={"batch": 1}))) == [Wish()]


@pytest.mark.parametrize("batch", [0, -1, SEVERAL_MAX + 1, 10**9, "3", 1.5])
def test_a_batch_that_is_no_number_of_jobs_is_refused(batch: Any) -> None:
    with pytest.raises(UserError) as caught:
        list(several(one_picture(), Wish(prompt="a", values={"batch": batch})))

    assert str(caught.value) == "`batch` must be between 1 and 100."


def test_the_wish_that_was_several_is_not_changed() -> None:
    wish = Wish(prompt="{a|b}", values={"batch": 2})

    list(several(one_picture(), wish))

    assert wish == Wish(prompt="{a|b}", values={"batch": 2})


# One value of a wish


def test_a_value_takes_the_place_of_the_one_before() -> None:
    wish = Wish(values={"steps": 3, "cfg": 5}).setting(parameter("steps"), 8)

    assert wish.values == {"steps": 8, "cfg": 5}


def test_a_value_of_none_says_nothing() -> None:
    assert Wish(values={"steps": 3, "cfg": 5}).setting(parameter("steps"), None).values == {
        "cfg": 5
    }


def test_a_value_takes_the_place_of_an_override_of_the_same_input() -> None:
    wish = Wish(overrides=overriding(steps=3, cfg=5)).setting(parameter("steps"), 8)

    assert wish.values == {"steps": 8}
    assert json.loads(wish.overrides or "") == {"3": {"inputs": {"cfg": 5}}}


def test_no_override_stays_where_the_last_one_goes() -> None:
    assert Wish(overrides=overriding(steps=3)).setting(parameter("steps"), None) == Wish()


def test_an_override_keeps_its_letters() -> None:
    typed = json.dumps({"6": {"inputs": {"text": "猫"}}, "3": {"inputs": {"seed": 1}}})

    kept = Wish(overrides=typed).setting(parameter("seed"), None).overrides or ""

    assert kept == '{"6": {"inputs": {"text": "猫"}}}'


# Settings that are kept


def test_what_a_wish_leaves_open_is_as_in_the_preset() -> None:
    preset = Wish(workflow="flux", values={"steps": 8, "cfg": 3}, overrides="{}")

    wish = Wish(prompt="a cat", values={"steps": 20}, private=True).based_on(preset)

    assert wish == Wish(
        workflow="flux",
        prompt="a cat",
        values={"steps": 20, "cfg": 3},
        overrides="{}",
        private=True,
    )


def test_what_a_wish_names_itself_stays() -> None:
    wish = Wish(workflow="txt2img", values={"seed": 5}, overrides=overriding(cfg=1))

    assert wish.based_on(Wish(workflow="flux", overrides=overriding(cfg=9))) == wish


def test_a_preset_holds_the_settings_and_nothing_about_one_picture() -> None:
    wish = Wish(
        workflow="txt2img",
        prompt="a secret",
        node="6",
        values={"seed": 5, "steps": 8, "negative": "blurry"},
        files={"image": "0" * 32 + ".png"},
        private=True,
        parent="a job",
        relation="again",
    )

    kept = Wish(workflow="txt2img", values={"steps": 8, "negative": "blurry"})
    used = {"seed": 5, "steps": 8, "cfg": 7.0, "negative": "blurry"}
    assert wish.as_preset(a_workflow().parameters({}).values(), used) == kept


# Limits of a day, and what is left


@pytest.mark.parametrize(("today", "left"), [(0, 3), (1, 2), (3, 0), (7, 0)])
def test_a_refusal_says_how_many_pictures_are_left_of_the_day(today: int, left: int) -> None:
    with pytest.raises(UserError) as caught:
        check_limits(Limits(jobs_per_day=3), Usage(today=today), 4)

    assert f"and {left} of them are left." in str(caught.value)


@given(
    most=st.integers(1, 30),
    usage=st.builds(
        Usage,
        mine=st.integers(0, 30),
        pending=st.integers(0, 30),
        today=st.integers(0, 30),
        gpu_seconds=st.floats(0, 100),
    ),
    asked=st.integers(1, 30),
)
def test_what_is_let_through_is_within_every_limit(most: int, usage: Usage, asked: int) -> None:
    limits = Limits(jobs_per_user=most, queue=most, jobs_per_day=most, gpu_seconds_per_day=most)
    within = max(usage.mine, usage.pending, usage.today) + asked <= most
    within = within and usage.gpu_seconds < most

    try:
        check_limits(limits, usage, asked)
    except UserError:
        assert not within
    else:
        assert within
