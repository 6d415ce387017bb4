"""What Discord is told to draw."""

from pathlib import Path
from typing import Any

import pytest
from discord import ui

from bot.cards import (
    failure_card,
    layout,
    progress_card,
    result_card,
    stamp,
    status_lines,
    waiting_card,
)
from bot.jobs import JobState
from bot.languages import language
from bot.spool import SpooledFile
from comfy.events import Executing, Progress
from comfy.models import OutputFile
from comfy.progress import RunProgress
from tests.bot.builders import NOW, a_job, a_request
from tests.graphs import TXT2IMG

S = JobState
CONTAINER, TEXT, GALLERY, FILE, ROW, BUTTON = 17, 10, 12, 13, 1, 2
GREY, BLUE, GREEN, RED = 0x80848E, 0x5865F2, 0x3BA55D, 0xED4245
HEAD = "**txt2img** for <@30>\n> a cat"
FACTS = "txt2img · seed 7 · 512 x 768 · 20 steps · `1b4e28ba`"
UNIX = int(NOW.timestamp())
ENGLISH = language("en-US")


def container(card: ui.LayoutView) -> dict[str, Any]:
    (only,) = card.to_components()
    assert only["type"] == CONTAINER
    return only


def parts(card: ui.LayoutView) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = container(card)["components"]
    return found


def texts(card: ui.LayoutView) -> list[str]:
    return [each["content"] for each in parts(card) if each["type"] == TEXT]


def file(name: str) -> SpooledFile:
    return SpooledFile(Path("/nowhere") / name, name, 1)


# Waiting and running


def test_a_waiting_job_shows_its_place_and_can_be_cancelled() -> None:
    card = waiting_card(a_job(), 3, server_up=True)

    job_id = a_request().id
    assert [each["type"] for each in parts(card)] == [TEXT, TEXT, TEXT, ROW]
    assert texts(card) == [HEAD, "Queued, 3rd in line.", f"-# {FACTS}"]
    (button,) = parts(card)[-1]["components"]
    assert (button["type"], button["label"]) == (BUTTON, "Cancel")
    assert button["custom_id"] == f"job:{job_id}:cancel"
    assert container(card)["accent_color"] == GREY


def test_a_waiting_job_says_so_when_no_server_answers() -> None:
    card = waiting_card(a_job(), 1, server_up=False)

    assert texts(card)[1] == (
        "Queued, 1st in line. No ComfyUI server answers right now; it starts as soon as one does."
    )


def test_a_card_lives_as_long_as_its_message() -> None:
    assert waiting_card(a_job(), 1, server_up=True).timeout is None
    assert layout().to_components() == []


def test_a_job_in_the_queue_of_a_server_is_next() -> None:
    job = a_job(S.QUEUED, server="gpu-1", submitted_at=NOW)

    card = progress_card(job, RunProgress.of(TXT2IMG))

    assert texts(card)[1] == f"Next on gpu-1 · started <t:{UNIX}:R>"
    assert container(card)["accent_color"] == GREY


def test_a_running_job_shows_how_far_it_is_and_what_runs() -> None:
    job = a_job(S.RUNNING, server="gpu-1", submitted_at=NOW)
    progress = RunProgress.of(TXT2IMG).after(Progress("p", "3", 13, 20))

    card = progress_card(job, progress)

    assert texts(card) == [
        HEAD,
        f"▰▰▰▰▰▰▱▱▱▱▱▱ 50% · Sampling\n-# running on gpu-1 · started <t:{UNIX}:R>",
        "-# txt2img · seed 7 · 512 x 768 · 20 steps · gpu-1 · `1b4e28ba`",
    ]
    assert parts(card)[-1]["type"] == ROW
    assert container(card)["accent_color"] == BLUE


def test_before_its_first_node_a_running_job_is_at_nothing() -> None:
    card = progress_card(a_job(S.RUNNING, server="gpu-1"), RunProgress.of(TXT2IMG))

    assert texts(card)[1] == "▱▱▱▱▱▱▱▱▱▱▱▱ 0%\n-# running on gpu-1"


def test_the_title_of_a_node_is_somebodys_words() -> None:
    graph = {"1": {"class_type": "X", "inputs": {}, "_meta": {"title": "**@everyone**"}}}
    job = a_job(S.RUNNING, server="a", request=a_request(graph=graph))

    card = progress_card(job, RunProgress.of(graph).after(Executing("p", "1")))

    assert r"\*\*@" + "\u200b" + r"everyone\*\*" in texts(card)[1]


# Results


def test_pictures_come_in_a_gallery_and_other_files_below_it() -> None:
    job = a_job(S.EXECUTED, server="gpu-1", seconds=4.2)
    files = [file("1.png"), file("2.flac"), file("3.WEBP"), file("4.mp4"), file("5.glb")]

    card = result_card(job, 0, 1, files, [])

    kinds = [TEXT, GALLERY, FILE, FILE, TEXT, ROW, ROW]
    assert [each["type"] for each in parts(card)] == kinds
    shown = [each["media"]["url"] for each in parts(card)[1]["items"]]
    assert shown == ["attachment://1.png", "attachment://3.WEBP", "attachment://4.mp4"]
    below = [each["file"]["url"] for each in parts(card)[2:4]]
    assert below == ["attachment://2.flac", "attachment://5.glb"]
    assert texts(card) == [
        HEAD,
        "-# txt2img · seed 7 · 512 x 768 · 20 steps · 4.2 s · gpu-1 · `1b4e28ba`",
    ]
    assert container(card)["accent_color"] == GREEN


def test_a_result_without_pictures_has_no_gallery() -> None:
    card = result_card(a_job(S.EXECUTED), 0, 1, [], [])

    assert [each["type"] for each in parts(card)] == [TEXT, TEXT, ROW, ROW]


def test_texts_of_a_result_are_quoted_and_at_most_five() -> None:
    job = a_job(S.EXECUTED, texts=("one\n# two", " ", *"abcdef"))

    card = result_card(job, 0, 1, [file("1.png")], [])

    assert texts(card)[1:-1] == [r"> one \# two", "> a", "> b", "> c"]


def test_a_text_that_only_repeats_the_prompt_is_not_shown() -> None:
    job = a_job(S.EXECUTED, texts=("a cat ", "a dog"))

    card = result_card(job, 0, 1, [file("1.png")], [])

    assert texts(card)[1:-1] == ["> a dog"]


def test_later_parts_repeat_no_texts_and_say_which_part_they_are() -> None:
    job = a_job(S.EXECUTED, texts=("a text",), outputs=(OutputFile("9", "x.png"),) * 11)

    card = result_card(job, 1, 2, [file("11.png")], [])

    assert texts(card) == [HEAD, f"-# part 2 of 2 · {FACTS}"]


def test_what_was_left_out_is_said() -> None:
    job = a_job(S.EXECUTED, note="one node was not run")

    card = result_card(job, 0, 1, [], ["a.png (30.0 MB) is too large to be posted here."])

    assert texts(card)[1] == (
        "-# ⚠ a.png (30.0 MB) is too large to be posted here.\n-# ⚠ one node was not run"
    )


@pytest.mark.parametrize(
    ("many", "kinds"),
    [(0, ">>⚠"), (5, ">⚠"), (10, "⚠"), (30, "⚠")],
    ids=["texts only", "some files", "many files", "too many files"],
)
def test_a_result_is_never_longer_than_discord_takes(many: int, kinds: str) -> None:
    request = a_request(text="_" * 300, workflow="_" * 100)
    job = a_job(S.EXECUTED, texts=("_" * 600,) * 5, note="x" * 200, request=request)
    left_out = ["\\_" * 80 + " (30.0 MB) is too large to be posted here."] * many

    card = result_card(job, 0, 1, [], left_out)

    first, *between, facts = texts(card)
    assert card.content_length() <= 4000
    assert first.startswith("**\\_")
    assert "".join(each.removeprefix("-# ")[0] for each in between) == kinds
    assert facts.endswith("`1b4e28ba`")


# Ends that are no result


@pytest.mark.parametrize("state", [S.FAILED, S.EXPIRED], ids=str)
def test_a_failure_tells_its_reason_and_offers_no_cancel(state: S) -> None:
    card = failure_card(a_job(state, note="The GPU ran out of memory."))

    assert texts(card) == [
        HEAD,
        "**It did not work.** The GPU ran out of memory.",
        f"-# {FACTS}",
    ]
    assert [each["type"] for each in parts(card)] == [TEXT] * 3 + [ROW]
    assert "cancel" not in str(parts(card)[-1])
    assert container(card)["accent_color"] == RED


def test_a_cancelled_job_did_not_fail() -> None:
    card = failure_card(a_job(S.CANCELLED, note="never shown"))

    assert texts(card)[1] == "Cancelled."
    assert container(card)["accent_color"] == GREY


# Facts


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "txt2img · `1b4e28ba`"),
        ({"seed": 0}, "txt2img · seed 0 · `1b4e28ba`"),
        ({"width": 512}, "txt2img · `1b4e28ba`"),
        ({"steps": "auto"}, "txt2img · `1b4e28ba`"),
    ],
    ids=["nothing", "seed of nought", "half a size", "steps from elsewhere"],
)
def test_only_known_facts_are_shown(settings: dict[str, Any], expected: str) -> None:
    job = a_job(request=a_request(settings=settings))

    assert texts(waiting_card(job, 1, server_up=True))[2] == f"-# {expected}"


def test_words_of_people_are_harmless_on_a_card() -> None:
    request = a_request(text="@everyone\n**hi**", workflow="my_flow")

    card = waiting_card(a_job(request=request), 1, server_up=True)

    assert texts(card)[0] == ("**my\\_flow** for <@30>\n> @\u200beveryone \\*\\*hi\\*\\*")


def test_without_a_text_the_card_quotes_nothing() -> None:
    card = waiting_card(a_job(request=a_request(text="")), 1, server_up=True)

    assert texts(card)[0] == "**txt2img** for <@30>"


# /status


def test_a_waiting_job_in_two_lines() -> None:
    assert status_lines(a_job(), ENGLISH, 2) == (
        f"**pending, 2nd in line** · <t:{UNIX}:R>\n-# a cat · {FACTS}"
    )


def test_a_place_is_told_of_waiting_jobs_only() -> None:
    assert status_lines(a_job(S.RUNNING), ENGLISH, 2).startswith("**running** ·")


def test_a_posted_job_links_to_its_message_and_tells_how_long_it_took() -> None:
    lines = status_lines(a_job(S.POSTED, message_id=99, seconds=65.0), ENGLISH)

    assert lines.startswith(
        f"**completed in 1 min 5 s** · <t:{UNIX}:R>"
        " · [go to it](https://discord.com/channels/10/20/99)\n"
    )


def test_a_link_into_a_direct_message_has_no_server() -> None:
    job = a_job(message_id=99, request=a_request(guild_id=None))

    assert "(https://discord.com/channels/@me/20/99)" in status_lines(job, ENGLISH)


def test_a_failed_job_tells_why() -> None:
    lines = status_lines(a_job(S.FAILED, note="No luck.", request=a_request(text="")), ENGLISH)

    assert lines == f"**error** · <t:{UNIX}:R>\n-# {FACTS}\n-# No luck."


def test_a_moment_is_shown_in_everybodys_own_time() -> None:
    assert stamp(NOW) == f"<t:{UNIX}:R>"
