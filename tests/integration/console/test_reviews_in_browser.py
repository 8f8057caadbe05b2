"""The review page in a real Chromium: two people at once, labels by keys, skip, undo, the heat map, on a laptop and a phone."""

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from console.access.keys import add_key
from tests.integration.console.consoles import Console, running
from tests.integration.console.test_page_in_browser import LOOKS, judge, opened
from tests.integration.running import Server

PICTURES = 6


@pytest.fixture
def console(flagging: Server, tmp_path: Path) -> Iterator[Console]:
    """A console with keys of two reviewers before the model `eights`, in whose queue each picture is."""
    keys = tmp_path / "keys.json"
    for name in ("anna", "ben"):
        (tmp_path / name).write_text(add_key(keys, name, ["admin"]))
    with running(tmp_path, servers=f"http://{flagging.rest}", keys_file=str(keys), audit_share="1") as found:
        rng = np.random.default_rng(0)
        headers = {"Authorization": f"Bearer {(tmp_path / 'anna').read_text()}"}
        for _ in range(PICTURES):
            file = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (48, 48, 3), dtype=np.uint8)).save(file, "PNG")
            httpx.post(
                f"{found.url}/predict", content=file.getvalue(), headers={**headers, "Content-Type": "image/png"}, timeout=60
            ).raise_for_status()
        yield found


def sign_in(page: Page, key: str) -> None:
    page.goto("/sign-in")
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Review").click()
    expect(page.locator("#picture")).to_be_visible()


def exported(console: Console, tmp_path: Path) -> dict[int, str]:
    """The labels that are kept, by item."""
    headers = {"Authorization": f"Bearer {(tmp_path / 'anna').read_text()}"}
    tasks = httpx.get(f"{console.url}/reviews/export", headers=headers).json()
    return {task["id"]: task["annotations"][0]["result"][0]["value"]["choices"][0] for task in tasks}


def item(page: Page) -> int:
    """The number of the picture that is shown, once it is shown."""
    expect(page.locator("#picture")).not_to_have_js_property("naturalWidth", 0)
    return int(str(page.locator("#picture").get_attribute("src")).split("/")[1])


def press(page: Page, key: str, said: str) -> None:
    """Press a key that is answered so, and another picture is shown."""
    before = str(page.locator("#picture").get_attribute("src"))
    page.keyboard.press(key)
    expect(page.locator("#state")).to_contain_text(said)
    expect(page.locator("#picture")).not_to_have_attribute("src", before)


def test_two_people_label_at_once_skip_and_undo(browser: Browser, console: Console, tmp_path: Path) -> None:
    with opened(browser, console.url) as anna, opened(browser, console.url) as ben:
        sign_in(anna, (tmp_path / "anna").read_text())
        sign_in(ben, (tmp_path / "ben").read_text())
        first, second = item(anna), item(ben)
        assert first != second
        labels = [text.split()[0] for text in anna.locator("#labels button").all_inner_texts()]
        assert len(labels) == 10

        press(anna, "1", f"Labelled {labels[0]}.")
        third = item(anna)
        assert third not in (first, second)
        press(ben, "s", "Skipped.")
        fourth = item(ben)
        assert fourth not in (first, second, third)
        assert exported(console, tmp_path) == {first: labels[0]}

        press(anna, "u", "Undone")
        assert item(anna) == first
        assert exported(console, tmp_path) == {}
        press(anna, "2", f"Labelled {labels[1]}.")
        ben.get_by_role("button", name=f"{labels[9]}", exact=False).last.click()  # the tenth has no key
        expect(ben.locator("#state")).to_contain_text(f"Labelled {labels[9]}.")
        assert exported(console, tmp_path) == {first: labels[1], fourth: labels[9]}

        for _ in range(PICTURES):  # until nothing waits for anybody
            for page in (anna, ben):
                if page.locator("#item").is_visible():
                    before = item(page)
                    page.keyboard.press("3")
                    expect(page.locator("#picture")).not_to_have_attribute("src", f"reviews/{before}/picture")
                    expect(page.locator("#state")).to_contain_text("Labelled")
        expect(anna.locator("#state")).to_contain_text("No picture waits for you")
        assert len(exported(console, tmp_path)) == PICTURES
        anna.get_by_role("button", name="Compute").click()
        expect(anna.locator("#figures tr").first).to_contain_text("eights 1")


def test_the_map_comes_and_goes_by_a_key_and_keys_can_be_turned_off(browser: Browser, console: Console, tmp_path: Path) -> None:
    with opened(browser, console.url) as page:
        sign_in(page, (tmp_path / "anna").read_text())
        held = item(page)
        page.keyboard.press("m")
        expect(page.locator("#map")).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#picture")).to_have_attribute(
            "src", f"reviews/{held}/map?window={page.evaluate('sessionStorage.window')}"
        )
        assert item(page) == held
        page.keyboard.press("m")
        expect(page.locator("#map")).to_have_attribute("aria-pressed", "false")
        page.keyboard.press("?")
        page.get_by_label("Single keys work on this page").uncheck()
        page.keyboard.press("1")
        assert exported(console, tmp_path) == {}
        page.reload()  # the same picture is still this window's, and keys are still off
        expect(page.locator("#picture")).to_be_visible()
        assert item(page) == held
        page.keyboard.press("1")
        assert exported(console, tmp_path) == {}


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_everybody_can_use_it(browser: Browser, console: Console, axe: str, tmp_path: Path, width: int, scheme) -> None:
    with opened(browser, console.url, width, scheme) as page:
        sign_in(page, (tmp_path / "anna").read_text())
        item(page)
        page.locator("#help summary").click()
        judge(page, axe)
        if (width, scheme) in LOOKS[:2]:
            page.screenshot(path=tmp_path / f"reviews-{width}.png", full_page=True)
