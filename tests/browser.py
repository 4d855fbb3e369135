"""A page in headless Chromium, watched for whatever must not happen on it."""

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
REQUIRED = "LOCALGRAD_REQUIRE_BROWSER"


@contextmanager
def chromium() -> Iterator:
    """A browser: $CHROMIUM, one on the PATH, or the one that playwright has installed.

    Without one the test is skipped, or fails where $LOCALGRAD_REQUIRE_BROWSER is set.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("playwright is not installed")
    with sync_playwright() as playwright:
        found = [os.environ.get("CHROMIUM"), *map(shutil.which, NAMES)]
        path = next(filter(None, found), playwright.chromium.executable_path)
        if not os.path.exists(path):
            _missing(f"no browser: set CHROMIUM, or install one of {', '.join(NAMES)}")
        browser = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        yield browser
        browser.close()


def _missing(reason: str) -> None:
    if os.environ.get(REQUIRED):
        pytest.fail(f"{reason} ({REQUIRED} is set)")
    pytest.skip(reason)


@contextmanager
def opened(browser, path, theme="light", size=(1280, 800)) -> Iterator:
    """A tab with a file in it. Whatever it prints, raises or asks the network for is an error."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=theme
    )
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-ready]", timeout=60_000)
    yield page
    context.close()
    assert said == []
    assert asked == [path.as_uri()]


def pixel(page, x: float, y: float) -> tuple[int, ...]:
    """The colour on the screen at a point of the window."""
    from PIL import Image

    clip = {"x": round(x), "y": round(y), "width": 1, "height": 1}
    return Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB").getpixel((0, 0))
