"""Every page in a real Chromium, as on a laptop and on a phone, light and dark: axe finds no serious fault, nothing is cut off.

Where there is no Chromium this is left out, but in CI, which installs one (`make browser`).
"""

import io
import re
from pathlib import Path

import pytest
from PIL import Image

from tests.unit.test_pages import PAGES
from tools import browser, screenshots
from tools.browser import Browser

LOOKS: tuple[tuple[int, browser.Scheme], ...] = ((1280, "light"), (360, "dark"))
"""Widths in pixels and colours. A width decides what lies where, a scheme what has which colour: so all of both are seen."""
KINDS = (
    "evaluation with a positive label",
    "evaluation of many labels",
    "model card",
    "comparison",
    "data set",
    "drift",
    "overload",
)
"""One of each kind of page; those that differ in words alone are `tests/unit/test_pages.py`'s."""
NOTHING_DRAWN = 3
"""Colours up to which a picture of a page shows nothing."""


@pytest.mark.parametrize("name", KINDS)
def test_a_page_is_readable_for_all_and_asks_nobody_else(name: str, tab: Browser, axe: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(PAGES[name](tmp_path))
    for width, scheme in LOOKS:
        tab.open(browser.address(page), width, scheme)
        assert tab.violations(axe) == []
        assert tab.asked == []
        assert tab.overflow() == 0
        picture = Image.open(io.BytesIO(tab.screenshot(900)))
        assert picture.width == width
        assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > NOTHING_DRAWN
    assert tab.evaluate("[...document.images].every(image => image.naturalWidth > 0)")


def test_the_columns_that_decide_are_in_sight(tab: Browser, tmp_path: Path) -> None:
    page = tmp_path / "compare.html"
    page.write_text(PAGES["comparison"](tmp_path))
    told = ("expected cost", "cost less champion's", "no cheaper, p", "labels, p", "archive, MB")
    for width in (1100, 360):
        tab.open(browser.address(page), width)
        right = tab.evaluate(
            "Object.fromEntries([...document.querySelectorAll('td[data-name]')].map("
            "cell => [cell.dataset.name, cell.getBoundingClientRect().right]))"
        )
        assert {name: right[name] <= width for name in told} == dict.fromkeys(told, True)
    shown = tab.evaluate("getComputedStyle(document.querySelector('td'), '::before').content")
    assert shown == '"expected cost"'  # on a phone each cell says what it is


def test_faults_would_be_found(tab: Browser, axe: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        '<!doctype html><html lang="en"><title>t</title><main><h1>t</h1><p style="color: #ccc; width: 2000px">pale</p>'
        '<img src="missing.png"></main>'
    )
    tab.open(browser.address(page), 360)
    assert [found.split()[0] for found in tab.violations(axe)] == ["color-contrast", "image-alt"]
    assert tab.overflow() > 1000
    assert [asked.rsplit("/", 1)[1] for asked in tab.asked] == ["missing.png"]
    with pytest.raises(RuntimeError, match="nosuch"):
        tab.evaluate("nosuch()")


def test_screenshots_are_small_pictures_of_what_is_asked_for(tab: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(PAGES["evaluation with a positive label"](tmp_path))
    for shot in screenshots.SHOTS:
        if shot.page == "report.html":
            data = screenshots.take(tab, page, shot)
            picture = Image.open(io.BytesIO(data))
            assert (picture.format, picture.width) == ("WEBP", shot.width)
            assert picture.height <= shot.height
            assert len(data) < 150_000


def test_the_docs_show_what_the_tool_makes() -> None:
    docs = screenshots.FOLDER.parent
    assert {f"{shot.name}.webp" for shot in screenshots.SHOTS} == {path.name for path in screenshots.FOLDER.iterdir()}
    shown = set(re.findall(r"\]\((pages/[\w-]+\.webp)\)", (docs / "pages.md").read_text()))
    assert shown == {f"pages/{shot.name}.webp" for shot in screenshots.SHOTS}
