"""How errors are worded for people."""

import pytest

from bot.errors import UserError, explain, explain_failure, explain_refusal
from comfy.errors import (
    AccessDenied,
    NodeError,
    ParameterError,
    PromptRefused,
    ServerUnavailable,
    WorkflowFileError,
)
from comfy.models import Ending, Failure, HistoryEntry
from comfy.nodes import InputType, NodeType
from comfy.phrases import Phrase, say
from tests.graphs import CHECKPOINT, a_graph

NOBODY_ANSWERS = "No ComfyUI server answers right now. Try again in a minute."


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (UserError("The queue is full."), "The queue is full."),
        (ParameterError("`steps` takes a whole number."), "`steps` takes a whole number."),
        (ServerUnavailable("http://10.0.0.7:8188 does not answer"), NOBODY_ANSWERS),
        (AccessDenied("http://10.0.0.7:8188 wants a login"), NOBODY_ANSWERS),
        (
            PromptRefused("/home/ann/ComfyUI: no", "x"),
            "ComfyUI refused this workflow. An admin finds the reason in the log.",
        ),
        (WorkflowFileError("is empty."), "The file is empty."),
        (ZeroDivisionError("ours"), None),
    ],
    ids=["user", "parameter", "unavailable", "denied", "refused", "file", "bug"],
)
def test_an_error_is_worded_without_what_is_not_for_people(
    error: BaseException, text: str | None
) -> None:
    assert explain(error) == text


def test_a_sentence_can_still_be_said_in_other_languages() -> None:
    sentence = say("{number} jobs are too many.", number=9)

    told = explain(UserError(sentence))
    of_file = explain(WorkflowFileError(sentence))

    assert told is sentence
    assert isinstance(of_file, Phrase)
    assert (of_file, of_file.values["complaint"]) == (f"The file {sentence}", sentence)


@pytest.mark.parametrize("kind", ["missing_node_type", "invalid_prompt"])
def test_a_missing_node_is_the_whole_reason(kind: str) -> None:
    refusal = PromptRefused("refused", kind)

    text = explain_refusal(refusal, a_graph(), {})

    assert text == "The server lacks a custom node that this workflow needs. Ask a moderator."


def test_a_request_that_is_too_large_can_be_made_smaller() -> None:
    text = explain_refusal(PromptRefused("refused", "too_large"), a_graph(), {})

    assert text == "This request is too large for the server. Make it smaller."


def test_a_server_that_is_too_old_is_for_its_admin_to_update() -> None:
    text = explain_refusal(PromptRefused("refused", "too_old"), a_graph(), {})

    assert text == (
        "The server's ComfyUI is too old for me. An admin must update it to 0.3.45 or later."
    )


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("value_not_in_list", "is not available on the server"),
        ("required_input_missing", "is missing"),
        ("invalid_input_type", "has the wrong type"),
        ("value_smaller_than_min", "is too small"),
        ("value_bigger_than_max", "is too large"),
        ("custom_validation_failed", "is not accepted"),
    ],
)
def test_a_refusal_names_input_node_and_value(kind: str, words: str) -> None:
    complaint = NodeError("4", "CheckpointLoaderSimple", "ckpt_name", kind, "/home/ann/models")
    refusal = PromptRefused("refused", "prompt_outputs_failed_validation", (complaint,))

    text = explain_refusal(refusal, a_graph(), {})

    assert text == (
        f"`ckpt_name` of *CheckpointLoaderSimple* (`{CHECKPOINT}`) {words}. "
        "Ask a moderator to look at it."
    )


def test_the_nearest_model_that_the_server_has_is_named() -> None:
    name = "CheckpointLoaderSimple"
    offered = InputType("ckpt_name", "COMBO", choices=("flux.sft", "sd_xl_base_1.1.safetensors"))
    nodes = {name: NodeType(name, name, {"ckpt_name": offered})}
    complaint = NodeError("4", name, "ckpt_name", "value_not_in_list", "")
    refusal = PromptRefused("refused", "prompt_outputs_failed_validation", (complaint,))

    text = explain_refusal(refusal, a_graph(), nodes)

    assert "The closest is `sd_xl_base_1.1.safetensors`." in text


@pytest.mark.parametrize(
    ("kind", "low", "high", "words"),
    [
        ("value_bigger_than_max", 1, 10000, "is too large: 1 to 10000"),
        ("value_smaller_than_min", 0.0, 0.25, "is too small: 0 to 0.25"),
        ("value_bigger_than_max", 0, 2**64 - 1, "is too large: 0 to 18446744073709551615"),
        ("value_smaller_than_min", 1, None, "is too small: at least 1"),
        ("value_bigger_than_max", None, 0, "is too large: at most 0"),
        ("value_bigger_than_max", None, None, "is too large"),
        ("invalid_input_type", 1, 10000, "has the wrong type"),
    ],
    ids=["both", "fractions", "a seed", "no largest", "no smallest", "not told", "not a number"],
)
def test_a_number_beyond_its_range_is_told_the_range(
    kind: str, low: float | None, high: float | None, words: str
) -> None:
    complaint = NodeError("3", "KSampler", "steps", kind, "", low, high)
    graph = a_graph(n3={"steps": 100000})

    text = explain_refusal(PromptRefused("", "", (complaint,)), graph, {})

    assert text == f"`steps` of *Sampling* (`100000`) {words}. Ask a moderator to look at it."


def test_a_refused_value_is_short_and_harmless() -> None:
    graph = a_graph(n3={"sampler_name": "`**x**\n " * 1000})
    complaint = NodeError("3", "KSampler", "sampler_name", "value_not_in_list", "")

    text = explain_refusal(PromptRefused("", "", (complaint,)), graph, {})

    shown = ("'**x** " * 1000)[:80]
    assert text == (
        f"`sampler_name` of *Sampling* (`{shown}`) is not available on the server. "
        "Ask a moderator to look at it."
    )


def test_a_refusal_shows_no_value_of_a_link_or_of_a_node_that_is_not_there() -> None:
    linked = NodeError("8", "VAEDecode", "vae", "required_input_missing", "")
    gone = NodeError("77", "VAEDecode", "vae", "required_input_missing", "")

    refusals = [PromptRefused("", "", (each,)) for each in (linked, gone)]
    texts = [explain_refusal(each, a_graph(), {}) for each in refusals]

    assert texts == [
        "`vae` of *VAEDecode* is missing. Ask a moderator to look at it.",
        "`vae` of *77* is missing. Ask a moderator to look at it.",
    ]


def test_the_first_complaint_that_people_understand_counts() -> None:
    strange = NodeError("9", "SaveImage", "", "exception_during_validation", "boom")
    plain = NodeError("5", "EmptyLatentImage", "width", "value_smaller_than_min", "")

    text = explain_refusal(PromptRefused("", "", (strange, plain)), a_graph(), {})

    assert text.startswith("`width` of *EmptyLatentImage* (`512`) is too small.")


def test_a_refusal_without_a_plain_reason_is_told_all_the_same() -> None:
    strange = NodeError("9", "SaveImage", "", "exception_during_validation", "boom")

    text = explain_refusal(PromptRefused("", "", (strange,)), a_graph(), {})

    assert text == "ComfyUI refused this workflow. A moderator can look at it in ComfyUI."


def failure(kind: str, message: str, node_id: str = "3") -> Failure:
    return Failure(node_id, "KSampler", kind, message)


@pytest.mark.parametrize(
    ("ending", "why", "text"),
    [
        (Ending.INTERRUPTED, None, "Somebody stopped this job on the server."),
        (Ending.ERROR, None, "ComfyUI could not run this workflow."),
        (
            Ending.ERROR,
            failure("torch.OutOfMemoryError", "/home/ann: allocation failed"),
            "The server ran out of memory. Try a smaller size or fewer pictures.",
        ),
        (
            Ending.ERROR,
            failure("ValueError", "/home/ann/models is broken"),
            "The node *Sampling* failed. A moderator finds the reason in the log.",
        ),
        (
            Ending.ERROR,
            failure("ValueError", "boom", "77"),
            "The node *77* failed. A moderator finds the reason in the log.",
        ),
    ],
    ids=["interrupted", "no reason", "memory", "a node", "a node that is not there"],
)
def test_a_failure_is_worded_without_what_is_not_for_people(
    ending: Ending, why: Failure | None, text: str
) -> None:
    entry = HistoryEntry("prompt", ending, failure=why)

    assert explain_failure(entry, a_graph()) == text
