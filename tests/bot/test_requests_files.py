"""What of a wish is kept with its request, and which inputs take which files."""

from typing import Any

import pytest

from bot.config import Limits
from bot.errors import UserError
from bot.jobs import Request
from bot.requests import Author, build
from bot.wishes import Wish
from comfy.errors import ParameterError
from comfy.graph import Graph, InputRef
from comfy.nodes import NodeTypes, parse_object_info
from comfy.standin import MODELS
from comfy.standin_info import object_info
from comfy.workflow import Sidecar, Workflow
from tests.bot.builders import NOW, a_workflow
from tests.graphs import a_graph

MEMBER = Author(interaction_id=1, user_id=2, channel_id=3, guild_id=4)
STRANGER = Author(interaction_id=1, user_id=2, channel_id=3, guild_id=4, by_token=True)
# A server that has these pictures in its folder, and one that has not answered yet.
HAS: NodeTypes = parse_object_info(object_info(MODELS, ("example.png",), modern=True))
LACKS: NodeTypes = parse_object_info(object_info(MODELS, ("other.png",), modern=True))
MINE, ANOTHER = "a" * 32 + ".png", "b" * 32 + ".png"


def with_pictures(*names: str) -> Graph:
    """One picture goes through the sampler for each of *names*."""
    graph = a_graph()
    before: Any = None
    for number, name in enumerate(names):
        loader, encoder = f"1{number}", f"2{number}"
        graph[loader] = {"class_type": "LoadImage", "inputs": {"image": name}}
        pixels: Any = [loader, 0]
        if before is not None:
            both = {"image1": before, "image2": pixels}
            graph[f"3{number}"] = {"class_type": "ImageBatch", "inputs": both}
            pixels = [f"3{number}", 0]
        graph[encoder] = {"class_type": "VAEEncode", "inputs": {"pixels": pixels, "vae": ["4", 2]}}
        graph["3"]["inputs"]["latent_image"] = [encoder, 0]
        before = pixels
    return graph


def copying(**image: Any) -> Workflow:
    return a_workflow(with_pictures("example.png"), "copy", **({"image": image} if image else {}))


def built(
    workflow: Workflow | None = None,
    *,
    nodes: NodeTypes = HAS,
    author: Author = MEMBER,
    **wish: Any,
) -> Request:
    return build(workflow or copying(), Wish(**wish), author, Limits(), nodes, NOW)


def refusal(workflow: Workflow | None = None, **so: Any) -> str:
    with pytest.raises(UserError) as caught:
        built(workflow, **so)
    return str(caught.value)


# Files


def test_a_file_goes_to_the_input_that_takes_it() -> None:
    request = built(files={"image": MINE})

    assert request.uploads == {InputRef("10", "image"): MINE}
    assert request.graph["10"]["inputs"]["image"] == "example.png"  # until it is sent
    assert request.wish.files == {"image": MINE}


def test_a_file_goes_to_every_input_of_its_parameter() -> None:
    targets = [["10", "image"], ["11", "image"]]
    workflow = a_workflow(with_pictures("a.png", "b.png"), image={"targets": targets})

    request = built(workflow, files={"image": MINE})

    assert request.uploads == {InputRef(node, "image"): MINE for node in ("10", "11")}


def test_two_files_go_to_their_own_inputs() -> None:
    second = {"targets": [["11", "image"]]}
    workflow = a_workflow(
        with_pictures("a.png", "b.png"), image={"targets": [["10", "image"]]}, mask=second
    )

    request = built(workflow, files={"mask": ANOTHER, "image": MINE})

    assert request.uploads == {InputRef("10", "image"): MINE, InputRef("11", "image"): ANOTHER}


def two_declared() -> Workflow:
    return a_workflow(
        with_pictures("example.png", "example.png"),
        image={"targets": [["10", "image"]]},
        image_2={"targets": [["11", "image"]]},
    )


def test_a_second_picture_that_is_found_takes_a_file() -> None:
    request = built(
        a_workflow(with_pictures("a.png", "b.png")), files={"image": MINE, "image_2": ANOTHER}
    )

    assert request.uploads == {InputRef("10", "image"): MINE, InputRef("11", "image"): ANOTHER}


def test_a_second_picture_that_the_sidecar_declares_takes_a_file() -> None:
    request = built(two_declared(), files={"image_2": ANOTHER})

    assert request.uploads == {InputRef("11", "image"): ANOTHER}


def test_nobody_names_a_file_for_a_declared_second_picture() -> None:
    with pytest.raises((UserError, ParameterError)):
        built(two_declared(), nodes={}, settings="image_2=comfycord/another-job/secret.png")


def test_a_file_that_every_server_has_may_be_left_out() -> None:
    request = built()

    assert request.uploads == {}
    assert request.graph["10"]["inputs"]["image"] == "example.png"


def test_a_file_that_the_server_lacks_is_needed() -> None:
    assert refusal(nodes=LACKS) == "*copy* needs a file: give `image`."
    assert built(nodes=LACKS, files={"image": MINE}).uploads


def test_while_no_server_has_answered_a_file_may_be_left_out() -> None:
    assert built(nodes={}).uploads == {}


@pytest.mark.parametrize(
    ("workflow", "expected"),
    [
        (copying(), "*copy* takes no `video`. It takes `image`."),
        (a_workflow(), "*txt2img* takes no `video`. It takes no files."),
    ],
    ids=["another", "none"],
)
def test_a_file_that_the_workflow_does_not_take_is_refused(
    workflow: Workflow, expected: str
) -> None:
    assert refusal(workflow, files={"video": MINE}) == expected


@pytest.mark.parametrize("name", ["text", "steps", "model"])
def test_a_file_is_no_value_of_another_parameter(name: str) -> None:
    assert refusal(files={name: MINE}) == f"*copy* takes no `{name}`. It takes `image`."


def test_a_file_that_a_moderator_fixed_is_not_given_and_not_needed() -> None:
    fixed = copying(hidden=True)

    assert refusal(fixed, files={"image": MINE}) == "*copy* takes no `image`. It takes no files."
    assert built(fixed, nodes=LACKS).uploads == {}


@pytest.mark.parametrize("how", ["values", "settings", "overrides"])
def test_nobody_names_a_file_by_typing(how: str) -> None:
    typed: dict[str, Any] = {
        "values": {"image": "other.png"},
        "settings": "image=other.png",
        "overrides": '{"10": {"inputs": {"image": "other.png"}}}',
    }

    with pytest.raises(
        (UserError, ParameterError), match=r"cannot be typed|cannot be set from Discord"
    ):
        built(**{how: typed[how]})


# The wish that is kept


def test_the_wish_is_kept_as_it_can_be_made_again() -> None:
    request = built(
        a_workflow(),
        prompt="  a cat ",
        node="6",
        values={"steps": 30, "cfg": None},
        settings='sampler=euler steps=9 negative="fog and rain"',
        overrides='{"3": {"inputs": {"cfg": 5}}}',
    )

    assert request.wish == Wish(
        workflow="txt2img",
        prompt="a cat",
        node="6",
        values={"sampler": "euler", "steps": 30, "negative": "fog and rain"},
        overrides='{"3": {"inputs": {"cfg": 5}}}',
    )


def test_a_kept_wish_makes_the_same_request_but_for_what_is_drawn() -> None:
    first = built(
        prompt="a cat",
        values={"seed": "18446744073709551615", "steps": 3},
        settings="cfg=2.5",
        files={"image": MINE},
    )

    again = build(copying(), Wish.from_json(first.wish.to_json()), MEMBER, Limits(), HAS, NOW)

    assert again.wish == first.wish
    assert again.id != first.id
    assert (again.settings, again.text, again.uploads) == (
        first.settings, first.text, first.uploads
    )  # fmt: skip
    assert again.graph["3"] == first.graph["3"]


def test_a_seed_that_was_drawn_is_drawn_again() -> None:
    first = built(prompt="a cat")

    seeds = {
        build(copying(), first.wish, MEMBER, Limits(), HAS, NOW).settings["seed"] for _ in range(9)
    }

    assert len(seeds) > 1


def test_what_a_job_descends_from_is_kept() -> None:
    request = built(prompt="a cat", parent="another job", relation="variation")

    assert (request.wish.parent, request.wish.relation) == ("another job", "variation")


# Where the answer goes


@pytest.mark.parametrize(
    ("author", "private", "by_token"),
    [(MEMBER, False, False), (MEMBER, True, True), (STRANGER, False, True)],
    ids=["ordinary", "private", "where the bot is no member"],
)
def test_a_private_answer_and_one_among_strangers_go_by_token(
    author: Author, private: bool, by_token: bool
) -> None:
    request = built(author=author, private=private)

    assert (request.by_token, request.wish.private) == (by_token, private)


@pytest.mark.parametrize("keep", [True, False])
def test_a_moderator_decides_whether_files_keep_their_workflow(keep: bool) -> None:
    sidecar = Sidecar.model_validate({"keep_metadata": keep})
    workflow = Workflow.of("copy", with_pictures("example.png"), sidecar)

    assert built(workflow).keep_metadata is keep
