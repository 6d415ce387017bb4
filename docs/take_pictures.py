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

from playwright.async_api import Page, async_playwright, expect

HERE = Path(__file__).parent
QUIET = ("--no-sandbox", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run", "--disable-quic")  # fmt: skip


@asynccontextmanager
async def demo(server: str | None) -> AsyncIterator[str]:
    """The address of a running demo."""
    flags = ["--server", server] if server else []
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


async def command(page: Page, name: str, option: str = "", value: str = "") -> None:
    """Type a slash command the way a person does."""
    await page.locator("#channel-composer-input").click()
    await page.keyboard.type(f"/{name}", delay=20)
    await page.get_by_role("option", name=f"/{name}").first.wait_for()
    await page.keyboard.press("Enter")
    if option:
        await page.get_by_role("option", name=option).first.click()
        await page.keyboard.type(value, delay=10)
    await page.get_by_role("button", name=re.compile("send", re.IGNORECASE)).last.click()


async def take(page: Page, path: Path) -> None:
    """The newest messages, once their pictures are there."""
    await page.locator("#message-list, main").last.hover()
    await page.mouse.wheel(0, 100_000)
    await page.wait_for_timeout(800)
    await page.screenshot(path=path)
    print(path)


async def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--server")
    arguments.add_argument("--to", type=Path, default=HERE / "pictures")
    chosen = arguments.parse_args()
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    async with demo(chosen.server) as url, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=browser_path, args=QUIET)
        page = await browser.new_page(viewport={"width": 1000, "height": 820})
        page.set_default_timeout(15_000)
        await page.goto(url)
        await command(page, "workflows")
        await expect(page.get_by_text("runs one of them").last).to_be_visible()
        await take(page, chosen.to / "1-workflows.png")
        await command(page, "generate", "prompt", "a lighthouse in a storm")
        if chosen.server is None:
            await expect(page.get_by_text(re.compile(r"[3-9]\d%")).last).to_be_visible()
            await take(page, chosen.to / "2-progress.png")
        await page.locator("img[src*=blob], .media-gallery img, article img").last.wait_for()
        await take(page, chosen.to / "3-result.png")
        await command(page, "status")
        await expect(page.get_by_text("completed in").last).to_be_visible()
        await take(page, chosen.to / "4-status.png")
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
