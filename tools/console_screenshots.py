"""Make docs/console/ anew: pictures of the console's page, as a laptop and a phone show them."""

import argparse
import io
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tools import browser
from tools.browser import Scheme
from tools.screenshots import QUALITY

FOLDER = Path(__file__).parents[1] / "docs/console"
PICTURES = 14
"""Pictures of the batch that is shown."""


@dataclass(frozen=True)
class Shot:
    """A picture of a page, from the element `part` on, or from its top. Sizes are in pixels. `ready`: makes the page so."""

    name: str
    address: str
    width: int
    scheme: Scheme
    height: int
    ready: Callable[[Page, list[Path]], None]
    part: str = ""


def _nothing(_: Page, __: list[Path]) -> None:
    """Show the page as it comes."""


def _ask(page: Page, pictures: list[Path]) -> None:
    page.set_input_files("#file", pictures[0])
    page.wait_for_selector("#answer article")


def _weigh(page: Page, pictures: list[Path]) -> None:
    _ask(page, pictures)
    slider = page.locator("#threshold")
    slider.fill(str(int(slider.get_attribute("max") or 0) * 2 // 3))


def _batch(page: Page, pictures: list[Path]) -> None:
    page.set_input_files("#files", pictures[:PICTURES])
    page.wait_for_function("/answered\\.$/.test(document.getElementById('state').textContent)")
    page.get_by_role("button", name="Score").click()


SHOTS = (
    Shot("start", "/", 1280, "light", 640, _nothing),
    Shot("picture", "/", 1280, "light", 1000, _ask),
    Shot("picture-phone", "/", 360, "dark", 1500, _ask),
    Shot("threshold", "/", 1280, "dark", 640, _weigh, "#other"),
    Shot("batch", "batch", 1280, "light", 900, _batch),
    Shot("batch-phone", "batch", 360, "dark", 1000, _batch),
    Shot("releases", "releases", 1280, "dark", 1000, _nothing),
    Shot("releases-phone", "releases", 360, "light", 1000, _nothing),
    Shot("drift", "drift", 1280, "light", 1000, _nothing),
)


def take(chromium: Browser, url: str, pictures: list[Path], shot: Shot) -> bytes:
    """Take a shot of a page as WebP."""
    context = chromium.new_context(
        base_url=url, viewport={"width": shot.width, "height": shot.height}, color_scheme=shot.scheme, reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto(shot.address)
    shot.ready(page, pictures)
    top = (
        page.locator(shot.part).evaluate("part => part.closest('.card').getBoundingClientRect().top + scrollY - 16")
        if shot.part
        else 0
    )
    whole = page.screenshot(full_page=True)
    context.close()
    picture = Image.open(io.BytesIO(whole))
    buffer = io.BytesIO()
    cut = picture.crop((0, int(top), shot.width, min(picture.height, int(top) + shot.height)))
    cut.convert("RGB").save(buffer, "WEBP", quality=QUALITY, method=6)
    return buffer.getvalue()


def main(argv: list[str] | None = None) -> int:
    """Take all shots of a running console."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.console_screenshots",
        description="Make the pictures of docs/console-page.md anew, with a Chromium on the PATH (or the environment's CHROMIUM) "
        "of a console without keys that runs before a server of roofs and knows a release.",
    )
    parser.add_argument("url", help="address of the console")
    parser.add_argument("pictures", type=Path, help=f"folder of pictures: the first one is asked about, {PICTURES} are the batch")
    args = parser.parse_args(argv)
    pictures = sorted(path for path in args.pictures.iterdir() if path.is_file())
    if not pictures:
        parser.error(f"{args.pictures} has no pictures")
    path = browser.find()
    if path is None:
        parser.error("no Chromium is on the PATH; `make browser` installs one")
    FOLDER.mkdir(exist_ok=True)
    flags = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=flags)
        for shot in SHOTS:
            place = FOLDER / f"{shot.name}.webp"
            place.write_bytes(take(chromium, args.url, pictures, shot))
            sys.stdout.write(f"{place}\n")
        chromium.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
