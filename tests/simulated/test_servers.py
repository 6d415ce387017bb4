"""/server and /limits: what admins see of the ComfyUI servers, and how they steer them."""

import pytest

from bot.jobs import JobState as S
from tests.fakes.comfyui import FakeComfyUI
from tests.simulated.lab import Lab, told_by, until, words


async def test_the_list_tells_what_each_server_holds(lab: Lab, comfyui: FakeComfyUI) -> None:
    free = await lab.told(lab.mod, "server list")
    comfyui.hold()
    await lab.ask(lab.alice, "generate", workflow="txt2img", prompt="a cat")
    await comfyui.held.wait()

    busy = await lab.told(lab.mod, "server list")

    assert free == "### Servers\n**local** · 0 jobs on it"
    assert "**local** · 1 job on it · has loaded sd\\_xl\\_base" in busy


async def test_a_paused_server_ends_what_it_has_and_begins_nothing(
    lab: Lab, comfyui: FakeComfyUI
) -> None:
    comfyui.hold()
    await lab.ask(lab.alice, "generate", workflow="postcard", prompt="a cat")
    await comfyui.held.wait()

    told = await lab.told(lab.mod, "server pause", server="local")
    await lab.ask(lab.bob, "generate", workflow="postcard", prompt="a dog")
    comfyui.finish()

    assert told == "local gets no new jobs. 1 job on it still ends."
    (job,) = await lab.ended(lab.alice)
    assert job.state is S.POSTED
    assert "paused" in await lab.told(lab.mod, "server list")
    (waiting,) = await lab.bot.store.recent(lab.bob.id, 1)
    assert waiting.state is S.PENDING


async def test_a_server_that_is_resumed_works_again(lab: Lab) -> None:
    await lab.told(lab.mod, "server pause", server="local")
    await lab.ask(lab.bob, "generate", workflow="postcard", prompt="a dog")

    told = await lab.told(lab.mod, "server resume", server="local")

    assert told == "local gets jobs again."
    (job,) = await lab.ended(lab.bob)
    assert job.state is S.POSTED


async def test_a_pause_outlives_a_restart(lab: Lab) -> None:
    await lab.bot.store.pause_server("local", paused=True)

    lab.bot.runner.hear("paused")

    await until(lambda: lab.bot.servers["local"].paused)


async def test_models_are_unloaded(lab: Lab, comfyui: FakeComfyUI) -> None:
    told = await lab.told(lab.mod, "server free", server="local")

    assert told == "local unloads its models as soon as nothing runs."
    assert ("POST", "/free") in comfyui.requests


async def test_what_runs_is_stopped_and_its_person_told(lab: Lab, comfyui: FakeComfyUI) -> None:
    comfyui.hold()
    await lab.ask(lab.alice, "generate", workflow="postcard", prompt="a cat")
    await comfyui.held.wait()

    told = await lab.told(lab.mod, "server interrupt", server="local")
    comfyui.finish()

    assert told == "local is told to stop what runs."
    (job,) = await lab.ended(lab.alice)
    assert job.state is S.CANCELLED
    await until(lambda: "Cancelled." in words(lab.message(job)))


async def test_nothing_runs_is_said_so(lab: Lab) -> None:
    assert await lab.told(lab.mod, "server interrupt", server="local") == "Nothing runs on local."


@pytest.mark.parametrize("command", ["pause", "resume", "free", "interrupt"])
async def test_an_unknown_server_is_named(lab: Lab, command: str) -> None:
    told = await lab.told(lab.mod, f"server {command}", server="gpu9")

    assert told == "There is no server named gpu9. There is: local."


@pytest.mark.parametrize("command", ["free", "interrupt"])
async def test_a_server_that_does_not_answer_is_told(
    lab: Lab, comfyui: FakeComfyUI, command: str
) -> None:
    comfyui.refuse()

    told = await lab.told(lab.mod, f"server {command}", server="local")

    assert told.startswith("local did not do it: ")


async def test_a_member_steers_no_server(lab: Lab) -> None:
    await lab.let(lab.alice, "server")

    refused = told_by(await lab.alice.slash(lab.channel, "server pause", server="local"))

    assert "You need the permission Manage Server for this." in refused
    assert not lab.bot.servers["local"].paused


async def test_limits_tell_what_is_allowed_and_who_used_most(lab: Lab) -> None:
    await lab.ask(lab.alice, "generate", workflow="postcard", prompt="a cat")
    await lab.ended(lab.alice)

    told = await lab.told(lab.mod, "limits")

    assert "One person's open jobs: 5" in told
    assert "Jobs in line: 0 of 1000" in told
    assert f"<@{lab.alice.id}>" in told
