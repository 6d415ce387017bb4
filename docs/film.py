"""Makes the README's film, an animated GIF of the demo: a member asks, waits and gets a picture.

    uv run --group pictures python docs/film.py [--to FILE]

Needs a Chromium or Chrome on the PATH. What is typed is as fast as it was; the wait is shortened.
"""

import argparse
import asyncio
import io
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from playwright.async_api import Page, expect

from bot.languages import language
from comfy.standin import Pace, StandIn
from tests.browser.page import (
    MEMBER,
    MODERATOR,
    begin,
    chromium,
    command,
    demo,
    fill,
    look_as,
    opened,
    pictures,
    send,
)

HERE = Path(__file__).parent
LANDSCAPE = HERE / "examples" / "landscape.json"  # a result of it fits on the screen
PAINTER = Pace(node=0.1, step=0.5)  # slow enough for several steps of the bar
SCREEN = (744, 748)
DISCORD_ONLY = """() => document
    .querySelectorAll("[data-workbench]").forEach(each => each.style.display = "none")"""
KEY = 60  # milliseconds from one key to the next
FRAME = 0.12  # seconds at least
FASTER = 3  # times, while people wait
LAST = 3.0  # seconds
LOOK_DOWN = """() => {
    const messages = document.querySelector("#channel-timeline");
    const left = messages.scrollHeight - messages.scrollTop - messages.clientHeight;
    messages.scrollTo(0, messages.scrollHeight);
    const pictures = [...messages.querySelectorAll("img")];
    const loading = messages.innerText.includes("Gallery item");
    return left < 2 && !loading && pictures.every(each => each.naturalWidth);
}"""


class Frame(NamedTuple):
    at: float
    picture: bytes

    def hurried(self, since: float) -> "Frame":
        waited = max(0, self.at - since)
        return self._replace(at=self.at - waited + waited / FASTER)


@asynccontextmanager
async def filmed(page: Page) -> AsyncIterator[list[Frame]]:
    frames: list[Frame] = []

    async def film() -> None:
        while True:
            at = time.monotonic()
            still = await page.evaluate(LOOK_DOWN)
            picture = await page.screenshot(caret="initial", animations="disabled")
            if still and await page.evaluate(LOOK_DOWN):
                frames.append(Frame(at, picture))
            await asyncio.sleep(at + FRAME - time.monotonic())

    filming = asyncio.create_task(film())
    yield frames
    filming.cancel()
    await asyncio.gather(filming, return_exceptions=True)


async def act(page: Page) -> list[Frame]:
    """Ben has asked already, so that there is a line to wait in."""
    await look_as(page, MODERATOR)
    await command(page, "workflow add", file=LANDSCAPE)
    await expect(page.get_by_text("landscape is added").last).to_be_visible()
    await command(page, "workflow default", workflow="landscape")
    await look_as(page, "Ben")
    await command(page, "generate", prompt="a fox in the snow")
    await look_as(page, MEMBER)
    await page.evaluate(DISCORD_ONLY)
    async with filmed(page) as frames:
        await begin(page, "generate", KEY)
        await fill(page, "prompt", "a lighthouse in a storm", KEY)
        await send(page)
        asked = time.monotonic()
        await pictures(page, 2, language("en-US"))
        await page.wait_for_timeout(1000)
    return [each.hurried(asked) for each in frames]


def save(frames: Sequence[Frame], to: Path) -> None:
    shown = [frames[0]]
    shown += [new for old, new in itertools.pairwise(frames) if old.picture != new.picture]
    ends = [*(each.at for each in shown[1:]), shown[-1].at + LAST]
    times = [round(1000 * (end - each.at)) for each, end in zip(shown, ends, strict=True)]
    images = [Image.open(io.BytesIO(each.picture)).convert("RGB") for each in shown]
    first, *others = [each.quantize(dither=Image.Dither.NONE) for each in images]
    first.save(to, save_all=True, append_images=others, duration=times, loop=0, optimize=False)
    seconds, size = sum(times) / 1000, to.stat().st_size / 1e6
    print(f"{to}: {len(images)} frames, {seconds:.1f} s, {size:.2f} MB")


async def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--to", type=Path, default=HERE / "pictures" / "demo.gif")
    chosen = arguments.parse_args()
    async with (
        StandIn(pace=PAINTER, version="0.28.0") as painter,
        chromium() as browser,
        demo(painter.url) as url,
        opened(browser, url, *SCREEN) as page,
    ):
        frames = await act(page)
    await asyncio.to_thread(save, frames, chosen.to)


if __name__ == "__main__":
    asyncio.run(main())
