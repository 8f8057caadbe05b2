"""Make docs/pages/ anew: pictures of the demo's pages, as a laptop and a phone show them."""

import argparse
import io
import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tools import browser
from tools.browser import Browser, Scheme

FOLDER = Path(__file__).parents[1] / "docs/pages"
QUALITY = 70  # of WebP: letters stay sharp


@dataclass(frozen=True)
class Shot:
    """A picture of a page of a run's folder, from the element with the id `part` on, or from its top. Sizes are in pixels."""

    name: str
    page: str
    width: int
    scheme: Scheme
    height: int
    part: str = ""


SHOTS = (
    Shot("report", "report.html", 1280, "light", 1000),
    Shot("report-confusions", "report.html", 1280, "light", 520, "confusions"),
    Shot("report-plots", "report.html", 1280, "dark", 1000, "plots"),
    Shot("report-errors", "report.html", 1280, "light", 900, "gallery-2"),
    Shot("report-phone", "report.html", 360, "dark", 1000),
    Shot("card", "model-card.html", 1280, "light", 900),
    Shot("data", "data.html", 1280, "dark", 1000),
    Shot("data-phone", "data.html", 360, "light", 1000, "images"),
    Shot("compare", "compare/compare.html", 1280, "light", 1000),
    Shot("compare-phone", "compare/compare.html", 360, "dark", 1000, "group-1"),
)


def take(tab: Browser, page: Path, shot: Shot) -> bytes:
    """Take a shot of a page as WebP."""
    tab.open(browser.address(page), shot.width, shot.scheme)
    top = 0
    if shot.part:
        top = int(tab.evaluate(f"document.getElementById('{shot.part}').getBoundingClientRect().top + scrollY")) - 24
    picture = Image.open(io.BytesIO(tab.screenshot(top + shot.height)))
    buffer = io.BytesIO()
    picture.crop((0, max(0, top), *picture.size)).convert("RGB").save(buffer, "WEBP", quality=QUALITY, method=6)
    return buffer.getvalue()


def main(argv: list[str] | None = None) -> int:
    """Take all shots of a run's pages."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.screenshots",
        description="Make the pictures of docs/pages.md anew, with a Chromium on the PATH (or the environment's CHROMIUM).",
    )
    parser.add_argument(
        "run",
        type=Path,
        help="folder of a run, with data.html of `visor data report` and compare/ of `visor compare --out` in it",
    )
    run = parser.parse_args(argv).run
    if missing := sorted({shot.page for shot in SHOTS if not (run / shot.page).is_file()}):
        parser.error(f"{run} lacks {', '.join(missing)}; docs/pages.md has the commands that make them")
    chromium = browser.find()
    if chromium is None:
        parser.error("no Chromium is on the PATH; `make browser` installs one")
    FOLDER.mkdir(exist_ok=True)
    with browser.started(chromium) as tab:
        for shot in SHOTS:
            path = FOLDER / f"{shot.name}.webp"
            path.write_bytes(take(tab, run / shot.page, shot))
            sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
