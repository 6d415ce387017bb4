"""The demo's page in headless Chromium, and what a person does there.

The tests beside it use it, and docs/take_pictures.py and docs/film.py.
"""

import asyncio
import contextlib
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, Page, TimeoutError, async_playwright, expect

from bot.languages import Language

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = ("--no-sandbox", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run", "--disable-quic")  # fmt: skip
PATIENCE = 20_000  # milliseconds, also on a machine with much to do
MEMBER, MODERATOR = "Alice", "Mia (mod)"
PICTURE = "img[src*=blob], .media-gallery img, article img"


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        await browser.close()


@asynccontextmanager
async def demo(server: str | None = None, language: str = "en-US") -> AsyncIterator[str]:
    """The address of a running demo."""
    flags = ["--language", language, *(["--server", server] if server else [])]
    command = [sys.executable, "-m", "bot", "demo", "--no-browser", *flags]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            address = await _told(process.stdout)
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _told(lines: asyncio.StreamReader) -> str:
    async for line in lines:
        if found := re.search(r"http://\S+", line.decode()):
            return found[0]
    raise RuntimeError("The demo ended before it told its address.")


@asynccontextmanager
async def opened(
    browser: Browser, url: str, width: int = 1000, height: int = 820
) -> AsyncIterator[Page]:
    page = await browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    await page.goto(url)
    yield page
    await page.close()


async def command(page: Page, name: str, /, **options: str | Path) -> None:
    """Type a slash command the way a person does; a path is a file to upload."""
    await begin(page, name)
    for option, value in options.items():
        await fill(page, option, value)
    await send(page)


async def begin(page: Page, name: str, pace: float = 20) -> None:
    """*pace*: milliseconds from one key to the next."""
    await page.locator("#channel-composer-input").click()
    await page.keyboard.type(f"/{name}", delay=pace)
    await page.get_by_role("option", name=f"/{name}").first.wait_for()
    await page.keyboard.press("Enter")


async def fill(page: Page, option: str, value: str | Path, pace: float = 10) -> None:
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
    await field.press_sequentially(value, delay=pace)
    await page.wait_for_timeout(300)


async def send(page: Page) -> None:
    sent = page.locator("#channel-composer-input")
    while not await sent.is_visible():  # a click may only close the suggestions
        await page.get_by_role("button", name=re.compile("^send", re.IGNORECASE)).last.click()
        with contextlib.suppress(TimeoutError):
            await sent.wait_for(timeout=500)


async def look_as(page: Page, person: str) -> None:
    await page.locator("#viewer-picker").select_option(label=person)
    await page.wait_for_timeout(500)


async def click(page: Page, label: str) -> None:
    """The newest button of that name in a message."""
    await page.wait_for_timeout(500)
    await page.get_by_role("button", name=label, exact=True).last.click()


async def pictures(page: Page, number: int, t: Language) -> None:
    """Until so many stand there, and nothing is at work."""
    await expect(page.locator(PICTURE)).to_have_count(number)
    await expect(page.get_by_role("button", name=t("Cancel"), exact=True)).to_have_count(0)
