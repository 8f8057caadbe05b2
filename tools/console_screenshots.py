"""Make docs/console/ anew: pictures of the console's page, as a laptop and a phone show them."""

import argparse
import io
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from rollout.evidence import Evidence
from rollout.gates import Count
from rollout.plan import Plan, State, Step
from rollout.record import Record
from tools import browser
from tools.browser import Scheme
from tools.screenshots import QUALITY

FOLDER = Path(__file__).parents[1] / "docs/console"
BEGAN = 1_795_168_800.0
"""When the simulated release began, in seconds since the epoch."""
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
    slider.fill(str(int(slider.get_attribute("max") or 0) * 5 // 8))
    slider.blur()


def _batch(page: Page, pictures: list[Path]) -> None:
    page.set_input_files("#files", pictures[:PICTURES])
    page.get_by_text(re.compile(r"answered\.$")).wait_for()
    page.locator("th[data-by=score] button").click()


def _review(page: Page, _: list[Path]) -> None:
    """What the batches before left in the queue: pictures to be reviewed, and those drawn at random."""
    page.locator("#picture").wait_for()
    page.keyboard.press("m")
    page.get_by_role("button", name="Compute").click()
    page.locator("#figures tr").first.wait_for()
    page.locator("#picture").evaluate("image => image.decode()")


SHOTS = (
    Shot("start", "/", 1280, "light", 640, _nothing),
    Shot("picture", "/", 1280, "light", 1000, _ask),
    Shot("picture-phone", "/", 360, "dark", 1500, _ask),
    Shot("threshold", "/", 1280, "dark", 545, _weigh, "#other"),
    Shot("batch", "batch", 1280, "light", 900, _batch),
    Shot("batch-phone", "batch", 360, "dark", 1000, _batch),
    Shot("releases", "releases", 1280, "dark", 1000, _nothing),
    Shot("releases-phone", "releases", 360, "light", 1000, _nothing),
    Shot("drift", "drift", 1280, "light", 1000, _nothing),
    Shot("review", "reviews", 1280, "light", 1000, _review),
    Shot("review-phone", "reviews", 360, "dark", 1000, _review),
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


def simulated(seed: int = 0) -> Record:
    """Simulate a release that is at 50 % and whose canary is as good as the stable release; shares of events are made up."""
    generator, evidence = np.random.default_rng(seed), Evidence.begin()
    shares = {
        "errors": 0.0005,
        "refusals": 0.0005,
        "slow": 0.01,
        "slower": 0.01,
        "flagged": 0.2,
        "reviewed": 0.05,
        "disagreement": 0.01,
    }
    for share in (0.1,) * 8 + (0.5,) * 6:
        of = (round(400 * share), round(400 * (1 - share)))
        counts = {
            name: (Count(generator.binomial(of[0], p), of[0]), Count(generator.binomial(of[1], p), of[1]))
            for name, p in shares.items()
        }
        evidence = evidence.look(counts)
    steps = (Step(0, 60, 200), Step(10, 300, 300), Step(50, 300, 1000), Step(100, 60, 0))
    plan = Plan("s3://models/roofs/3", "s3://models/roofs/4", steps)
    state = State(BEGAN, 50.0, evidence, phase="stepping", step=2, since=BEGAN + 480, target=50)
    record = Record(plan, state)
    for after, what in (
        (0, "the shadow begins"),
        (75, "10 % of the requests go to the canary"),
        (480, "50 % of the requests go to the canary"),
    ):
        record = record.told(BEGAN + after, what)
    return record


def main(argv: list[str] | None = None) -> int:
    """Take all shots of a running console."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.console_screenshots",
        description="Make the pictures of docs/console-page.md anew, with a Chromium on the PATH (or the environment's CHROMIUM) "
        "of a console without keys that runs before a server of roofs and knows a release.",
    )
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8090", help="address of the console (default: %(default)s)")
    parser.add_argument(
        "pictures",
        type=Path,
        nargs="?",
        default=Path(),
        help=f"folder of pictures: the first one is asked about, {PICTURES} are the batch",
    )
    parser.add_argument(
        "--record", type=Path, help="write a simulated release's record into this folder, for the console, and end"
    )
    args = parser.parse_args(argv)
    if args.record:
        args.record.mkdir(parents=True, exist_ok=True)
        (args.record / "roofs.json").write_text(json.dumps(simulated().to_json()))
        return 0
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
