"""`python -m tools.site`: build the documentation's site out of docs/ and what else is a page, without a network."""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from loadtests.peers.environment import make
from tools.site.staging import LinkBroken, Site, tracked

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
OURS = ("site.css", "site.js", "iframe-worker.js")
LOG = "decisions-log/"
"""The folder whose pages need no line of their own in the navigation."""


class SiteBroken(Exception):
    """The site cannot be built; the message says what to mend."""


def main(argv: list[str] | None = None) -> int:
    """Build the site, and say where it is."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.site",
        description="Build the documentation's site. Its generator has an environment of its own, which the first call makes "
        "with a network; a build needs none.",
        epilog="Exit codes: 0 the site is there; 1 a link leads nowhere, a page is in no menu, or the generator warns; "
        "2 a mistyped command line.",
    )
    parser.add_argument("--out", type=Path, default=ROOT / "build/site", help="folder of the site, which is replaced")
    out = parser.parse_args(argv).out
    try:
        build(ROOT, out)
    except (LinkBroken, SiteBroken) as err:
        sys.stderr.write(f"site: {err}\n")
        return 1
    sys.stdout.write(f"{out / 'index.html'}\n")
    return 0


def build(root: Path, out: Path) -> None:
    """Build a checkout's site; what was at `out` stays until it is whole. Raises LinkBroken and SiteBroken."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".site-", dir=out.parent) as name:
        work = Path(name).resolve()
        stage(root, work)
        made = generate(work)
        shutil.rmtree(out, ignore_errors=True)
        made.replace(out)


def generate(work: Path) -> Path:
    """Make HTML of what is staged in a folder, and return where. Raises SiteBroken, also for a warning."""
    zensical = make("site", HERE / "requirements.txt").parent / "zensical"
    command = [str(zensical), "build", "--strict", "--clean", "--config-file", str(work / "zensical.toml")]
    done = subprocess.run(command, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0 or re.search("warning", done.stdout, re.IGNORECASE):
        said = re.sub(r"\x1b\[[\d;]*m", "", done.stdout).split("\nTraceback ")[0].strip()
        raise SiteBroken(f"zensical ended with {done.returncode}:\n{said}")
    return work / "site"


def stage(root: Path, work: Path) -> None:
    """Write the generator's settings and all pages into a folder. Raises LinkBroken, and SiteBroken for a page in no menu."""
    staged = Site(root, tracked(root)).gather()
    log = [name for name in staged if name.startswith(LOG) and name != f"{LOG}index.md"]
    settings = (HERE / "zensical.toml").read_text().replace(f'"{LOG}*.md"', ", ".join(f'"{one}"' for one in log))
    listed = set(re.findall(r'"([\w/-]+\.md)"', settings))
    pages = {name for name in staged if name.endswith(".md") and not name.startswith("source/")}
    if listed != pages:
        missing = [f"no line for {one}" for one in sorted(pages - listed)] + [f"no page {one}" for one in sorted(listed - pages)]
        raise SiteBroken(f"the menu in tools/site/zensical.toml: {'; '.join(missing)}")
    (work / "zensical.toml").write_text(settings)
    for name, content in staged.items():
        file = work / "pages" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    for name in OURS:
        shutil.copy(HERE / name, work / "pages")


if __name__ == "__main__":
    sys.exit(main())
