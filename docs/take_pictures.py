"""Takes the README's pictures: starts the demo and does in headless Chromium what a person does.

    uv run --group pictures python docs/take_pictures.py [--server URL] [--to FOLDER]

Needs a Chromium or Chrome on the PATH. The pictures land in `docs/pictures`.
"""

import argparse
import asyncio
import re
from pathlib import Path

from playwright.async_api import Page, expect

from bot.languages import Language, language
from tests.browser.page import (
    MEMBER,
    MODERATOR,
    PICTURE,
    begin,
    chromium,
    click,
    command,
    demo,
    fill,
    look_as,
    opened,
    pictures,
)

HERE = Path(__file__).parent
EXAMPLES = HERE / "examples"
SHOWN = "[...document.querySelectorAll('.media-gallery img, article img')]"


async def shoot(page: Page, path: Path) -> None:
    await page.screenshot(path=path)
    print(path)


async def to_the_end(page: Page) -> None:
    await page.locator("#message-list, main").last.hover()
    await page.mouse.wheel(0, 100_000)
    await page.wait_for_timeout(800)


async def take(page: Page, path: Path) -> None:
    """The newest messages, once their pictures are there."""
    await to_the_end(page)
    await page.wait_for_function(f"{SHOWN}.every(each => each.naturalWidth)")
    await shoot(page, path)


async def member(page: Page, folder: Path, *, painted: bool) -> None:
    """The README's story. *painted*: by the stand-in, whose progress is slow enough to see."""
    await command(page, "workflows")
    await expect(page.get_by_text("runs one of them").last).to_be_visible()
    await take(page, folder / "1-workflows.png")
    await command(page, "generate", prompt="a lighthouse in a storm")
    if painted:
        await expect(page.get_by_text(re.compile(r"[3-9]\d%")).last).to_be_visible()
        await take(page, folder / "2-progress.png")
    await pictures(page, 1, language("en-US"))
    await take(page, folder / "3-result.png")
    await command(page, "status")
    await expect(page.get_by_text("completed in").last).to_be_visible()
    await take(page, folder / "4-status.png")


async def evening(page: Page, folder: Path, t: Language) -> None:
    """What people do with a picture: again, edit, vary, send it on, look back, ask in private."""
    await command(page, "generate", workflow="txt2img", prompt="a fox in the snow")
    await expect(page.get_by_text(re.compile(r"[3-9]\d%")).last).to_be_visible()
    await take(page, folder / "10-watch.png")
    await pictures(page, 1, t)
    await click(page, t("Again"))
    await pictures(page, 2, t)
    await click(page, t("Edit"))
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("prompt").fill("a fox in the rain")
    await page.wait_for_timeout(300)
    await shoot(page, folder / "11-edit.png")
    while await dialog.is_visible():  # a page that changes loses a click
        await dialog.get_by_role("button", name="Submit").click()
        await page.wait_for_timeout(1500)
    await click(page, t("Run"))
    await pictures(page, 3, t)
    await take(page, folder / "12-result.png")
    await click(page, t("Vary"))
    await expect(page.get_by_text(t("How much may it change?")).last).to_be_visible()
    await take(page, folder / "13-vary.png")
    await click(page, t("A little"))
    await pictures(page, 5, t)  # the question shows the picture too
    await click(page, t("Send to…"))
    await choose(page, "upscale")
    await pictures(page, 7, t)
    await command(
        page, "generate", workflow="img2img", prompt="a kite", image=EXAMPLES / "kite.png"
    )
    await pictures(page, 8, t)
    await take(page, folder / "14-input.png")
    await command(page, "generate", prompt="a {red|blue} kite")
    await expect(page.get_by_text(t("This makes {number} jobs:", number=2)).last).to_be_visible()
    await take(page, folder / "15-several.png")
    await click(page, t("Run all {number}", number=2))
    for _ in range(3):  # a progress that is just shown loses a click
        await click(page, t("Cancel"))
        await page.wait_for_timeout(1000)
        if await page.get_by_text(t("Cancelled.")).count():
            break
    await expect(page.get_by_text(t("Cancelled.")).last).to_be_visible()
    await command(page, "queue")
    await expect(page.get_by_text(t("Queue"), exact=True).last).to_be_visible()
    await command(page, "history")
    await expect(page.get_by_text(t("Show again here…")).last).to_be_visible()
    await take(page, folder / "16-history.png")
    before = await page.locator(PICTURE).count()
    await command(page, "generate", workflow="txt2img", prompt="a surprise", private="True")
    await pictures(page, before + 1, t)
    await take(page, folder / "17-private.png")
    await click(page, t("Delete"))
    await pictures(page, before, t)


async def choose(page: Page, option: str) -> None:
    """In the newest select of a message, with the keyboard: the page may hide its menu."""
    await to_the_end(page)
    select = page.locator(".select-trigger").last
    await select.press("Enter")
    for _ in range(10):
        await page.wait_for_timeout(300)
        if option in (await select.get_attribute("aria-activedescendant") or ""):
            break
        await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")


async def moderator(page: Page, folder: Path) -> None:
    """The moderators' guide: three files in, a parameter hidden, one replaced and restored."""
    await look_as(page, MODERATOR)
    for file in ("landscape.json", "kite.png", "poster.json"):
        await command(page, "workflow add", file=EXAMPLES / file)
        await expect(page.get_by_text(f"{Path(file).stem} is added").last).to_be_visible()
    await take(page, folder / "5-add.png")
    await command(page, "workflow test", workflow="poster")
    await expect(page.get_by_text("local can run it").last).to_be_visible()
    await command(page, "workflow hide", workflow="poster", parameter="cfg")
    await expect(page.get_by_text("is hidden").last).to_be_visible()
    await command(page, "workflow limit", workflow="poster", parameter="steps", max="30")
    await expect(page.get_by_text("1 to 30").last).to_be_visible()
    await command(
        page, "workflow add", file=EXAMPLES / "landscape.json", name="poster", replace="True"
    )
    await expect(page.get_by_text("poster is replaced").last).to_be_visible()
    await take(page, folder / "6-replace.png")
    await command(page, "workflow restore", workflow="poster")
    await expect(page.get_by_text("is again as it was").last).to_be_visible()
    await command(page, "workflow show", workflow="poster")
    await expect(page.get_by_text("Changes", exact=True).last).to_be_visible()
    await take(page, folder / "7-show.png")
    await look_as(page, MEMBER)
    await begin(page, "generate")
    await fill(page, "workflow", "poster")
    await fill(page, "settings", "s")
    await page.locator("[role=option]", has_text="sampler=").first.wait_for()
    await shoot(page, folder / "8-settings.png")
    await page.keyboard.press("Escape")
    await page.reload()
    for name in ("landscape", "kite", "poster"):
        before = await page.locator(PICTURE).count()
        await command(page, "generate", workflow=name, prompt="a harbour in the evening")
        await expect(page.locator(PICTURE)).to_have_count(before + 1)
    await take(page, folder / "9-poster.png")


async def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--server")
    arguments.add_argument("--to", type=Path, default=HERE / "pictures")
    chosen = arguments.parse_args()
    async with chromium() as browser:
        async with demo(chosen.server) as url, opened(browser, url) as page:
            await member(page, chosen.to, painted=chosen.server is None)
        if chosen.server is not None:
            return
        async with demo() as url, opened(browser, url) as page:
            await moderator(page, chosen.to)
        for code, folder in (("en-US", chosen.to), ("zh-CN", chosen.to / "zh-CN")):
            folder.mkdir(exist_ok=True)
            async with demo(language=code) as url, opened(browser, url) as page:
                await evening(page, folder, language(code))


if __name__ == "__main__":
    asyncio.run(main())
