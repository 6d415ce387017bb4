"""The README's story in a real browser: the demo's page in headless Chromium."""

import re
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

pytest.importorskip(
    "playwright", reason="Playwright is missing: uv run --group pictures pytest tests/browser"
)
from playwright.async_api import ConsoleMessage, Page, expect

from bot.languages import language
from tests.browser.page import (
    CHROMIUM,
    MODERATOR,
    PICTURE,
    chromium,
    click,
    command,
    demo,
    look_as,
    opened,
    pictures,
)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is missing: apt-get install chromium"
)
ENGLISH = language("en-US")


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """Its console may tell of no error, but of a preview that the next one has replaced."""
    errors: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        path = urlsplit(message.location["url"]).path
        if message.type == "error" and not path.startswith(("/favicon.ico", "/api/assets/")):
            errors.append(f"{message.text} {path}")

    async with chromium() as browser, demo() as url, opened(browser, url) as page:
        page.on("console", heard)
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
    assert not errors


async def test_the_demo_does_in_a_browser_what_the_readme_tells(page: Page) -> None:
    await command(page, "workflows")
    await expect_to_read(page, "runs one of them")

    await command(page, "generate", prompt="a lighthouse in a storm")
    await expect_to_read(page, re.compile(r"[1-9]\d?% · Sampling"))
    await pictures(page, 1, ENGLISH)
    await expect_to_be_decoded(page)

    await click(page, "Again")
    await expect_to_read(page, "again of")
    await command(page, "status")
    await expect_to_read(page, "completed in")
    await look_as(page, MODERATOR)
    await command(page, "test_comfy")
    await expect_to_read(page, "I may post pictures here")
    await expect_to_read(page, "ComfyUI 0.28.0")
    await pictures(page, 2, ENGLISH)
    await expect_to_be_decoded(page)


async def expect_to_read(page: Page, words: str | re.Pattern[str]) -> None:
    await expect(page.locator("#channel-timeline").get_by_text(words).last).to_be_visible()


async def expect_to_be_decoded(page: Page) -> None:
    picture = page.locator(PICTURE).last
    await picture.scroll_into_view_if_needed()
    await expect(picture).to_have_js_property("naturalWidth", 1024)
