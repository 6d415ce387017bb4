"""Takes the README's pictures: starts the demo and does in headless Chromium what a person does.

    uv run --group pictures python docs/take_pictures.py [--server URL] [--to FOLDER]

Needs a Chromium or Chrome on the PATH. The pictures land in `docs/pictures`.
"""

import argparse
import asyncio
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright, expect

from bot.languages import Language, language

HERE = Path(__file__).parent
EXAMPLES = HERE / "examples"
MEMBER, MODERATOR = "Alice", "Mia (mod)"
PICTURE = "img[src*=blob], .media-gallery img, article img"
SHOWN = "[...document.querySelectorAll('.media-gallery img, article img')]"
QUIET = ("--no-sandbox", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run", "--disable-quic")  # fmt: skip


@asynccontextmanager
async def demo(server: str | None = None, language: str = "en-US") -> AsyncIterator[str]:
    """The address of a running demo."""
    flags = ["--language", language, *(["--server", server] if server else [])]
    command = [sys.executable, "-m", "bot", "demo", "--no-browser", *flags]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            while not (
                found := re.search(r"http://\S+", (await process.stdout.readline()).decode())
            ):
                pass
        yield found[0]
    finally:
        process.terminate()
        await process.wait()


async def command(page: Page, name: str, /, **options: str | Path) -> None:
    """Type a slash command the way a person does; a path is a file to upload."""
    await begin(page, name)
    for option, value in options.items():
        await fill(page, option, value)
    sent = page.locator("#channel-composer-input")
    while not await sent.is_visible():  # a click may only close the suggestions
        await page.get_by_role("button", name=re.compile("^send", re.IGNORECASE)).last.click()
        await page.wait_for_timeout(500)


async def begin(page: Page, name: str) -> None:
    await page.locator("#channel-composer-input").click()
    await page.keyboard.type(f"/{name}", delay=20)
    await page.get_by_role("option", name=f"/{name}").first.wait_for()
    await page.keyboard.press("Enter")


async def fill(page: Page, option: str, value: str | Path) -> None:
    field = page.locator(f'input[data-option="{option}"]')
    if not await field.count():
        more = page.get_by_text(re.compile(r"^\+\d+ more$"))
        if await more.count():
            await more.click()
        named = page.locator("[role=option]", has_text=re.compile(rf"^{option}\b"))
        await named.first.click()
    if isinstance(value, Path):
        await field.set_input_files(value)
        await page.get_by_text(value.name).last.wait_for()
        return
    await field.press_sequentially(value, delay=10)
    await page.wait_for_timeout(300)


async def look_as(page: Page, person: str) -> None:
    await page.locator("#viewer-picker").select_option(label=person)
    await page.wait_for_timeout(500)


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


async def pictures(page: Page, number: int, t: Language) -> None:
    """Until so many stand there, and nothing is at work."""
    await expect(page.locator(PICTURE)).to_have_count(number)
    await expect(page.get_by_role("button", name=t("Cancel"), exact=True)).to_have_count(0)


async def click(page: Page, label: str) -> None:
    """The newest button of that name in a message."""
    await page.wait_for_timeout(500)
    await page.get_by_role("button", name=label, exact=True).last.click()


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
        pictures = await page.locator(PICTURE).count()
        await command(page, "generate", workflow=name, prompt="a harbour in the evening")
        await expect(page.locator(PICTURE)).to_have_count(pictures + 1)
    await take(page, folder / "9-poster.png")


async def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--server")
    arguments.add_argument("--to", type=Path, default=HERE / "pictures")
    chosen = arguments.parse_args()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"), args=QUIET
        )
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
        await browser.close()


@asynccontextmanager
async def opened(browser: Browser, url: str) -> AsyncIterator[Page]:
    page = await browser.new_page(viewport={"width": 1000, "height": 820})
    page.set_default_timeout(20_000)
    expect.set_options(timeout=20_000)
    await page.goto(url)
    yield page
    await page.close()


if __name__ == "__main__":
    asyncio.run(main())
