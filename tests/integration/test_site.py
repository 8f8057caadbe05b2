"""The documentation's site: it is built without a network, each link leads somewhere, and a browser asks for nothing else."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import sync_playwright

from loadtests.peers.environment import make
from tests.integration.running import ROOT
from tools import browser
from tools.site.__main__ import HERE, SiteBroken, generate, stage

TIMEOUT_S = 120
NOWHERE = "http://127.0.0.1:1"
"""A proxy that does not answer."""
LOADED = {"script": "src", "img": "src", "source": "srcset", "iframe": "src", "link": "href"}
"""Attributes whose address a browser asks for as it shows a page."""
LOOKED_AT = ("index.html", "tutorial.html", "concepts/decisions.html", "metrics.html", "comparison.html")
WIDE = (
    "charts/visor.html",
    "config.html",
    "console-api.html",
    "developing.html",
    "errors.html",
    "kubernetes.html",
    "python-api.html",
)
"""Pages with wide tables, long names and long lines of code, at whose width alone is looked."""
LOOKS: dict[int, browser.Scheme] = {1280: "light", 360: "dark"}
"""The widths at which they are judged, and the colours."""
SETTLED = """new Promise(done => {
  const wait = () => document.querySelector(".md-typeset table:not([class]):not(.md-typeset__table > table)")
    ? setTimeout(wait, 20) : setTimeout(done, 50)
  wait()
})"""
"""Waits until the theme has put every table into what scrolls."""
WORDS = {"conformal": "decisions.html", "cykooz": "decisions-log/resizer.html"}
"""Words, and a page that has each and that a search has to find."""


@dataclass
class Page(HTMLParser):
    """What a page's HTML has. `ids`: its anchors; `links`: targets of its links; `loaded`: what it loads."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if "id" in given:
            self.ids.add(given["id"])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        address = given.get(LOADED.get(tag, ""))
        if address and given.get("rel") not in {"canonical", "prev", "next"}:
            self.loaded.append(address.split()[0])


def without_network() -> list[str]:
    """What a command is begun with to have no network, where this system lets one do so."""
    command = ["unshare", "--net"]
    may = shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
    return command if may else []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    make("site", HERE / "requirements.txt")  # its one download
    out = tmp_path_factory.mktemp("docs") / "site"
    command = [*without_network(), sys.executable, "-m", "tools.site", "--out", str(out)]
    proxies = {f"{kind}_proxy": NOWHERE for kind in ("http", "https", "all")}
    environment = os.environ | proxies | {name.upper(): NOWHERE for name in proxies}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{out / 'index.html'}\n", "")
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    """Each page of the site, read."""
    found = {}
    for file in sorted(site.rglob("*.html")):
        found[file] = Page()
        found[file].feed(file.read_text())
    return found


def test_every_link_leads_to_a_page_and_an_anchor(site: Path, pages: dict[Path, Page]) -> None:
    broken, looked_at = [], 0
    for file, page in pages.items():
        if file.name == "404.html":  # its links begin at the address of whatever was asked for
            continue
        for target in (*page.links, *page.loaded):
            parts = urlsplit(target)
            if parts.scheme or target.startswith("//"):
                continue
            looked_at += 1
            to = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            to = to / "index.html" if to.is_dir() else to
            known = to.is_file() and to.is_relative_to(site)
            if not known or (parts.fragment and to in pages and unquote(parts.fragment) not in pages[to].ids):
                broken.append(f"{file.relative_to(site)}: {target}")
    assert broken == []
    assert len(pages) > 100
    assert looked_at > 10_000


def test_no_page_loads_anything_of_another_host(site: Path, pages: dict[Path, Page]) -> None:
    loaded = {target for page in pages.values() for target in page.loaded}
    assert {target for target in loaded if urlsplit(target).scheme not in {"", "data"} or target.startswith("//")} == set()
    for style in site.rglob("*.css"):
        assert re.findall(r"url\(\s*['\"]?(?:https?:)?//|@import", style.read_text()) == [], style


def test_the_menu_leads_to_every_page_from_every_other(site: Path, pages: dict[Path, Page]) -> None:
    """But to what is shown because a page links it: samples, tests and folders."""
    wanted = {file for file in pages if file.relative_to(site).parts[0] != "source"} - {site / "404.html"}
    assert len(wanted) > 60
    for file in wanted:
        paths = (urlsplit(target).path for target in pages[file].links if not urlsplit(target).scheme)
        assert wanted - {(file.parent / unquote(path)).resolve() for path in paths if path} <= {file}, file


def test_a_link_to_no_anchor_is_an_error(tmp_path: Path) -> None:
    """The generator's own check, which is held here as strict; that of files is ours, tests/unit/tools/test_site.py."""
    stage(ROOT, tmp_path)
    page = tmp_path / "pages/drift.md"
    page.write_text(page.read_text() + "\n[Somewhere](guide.md#no-such-chapter).\n")
    with pytest.raises(SiteBroken, match=re.escape("[Somewhere](guide.md#no-such-chapter)")):
        generate(tmp_path)


@pytest.fixture(scope="module")
def chromium() -> str:
    """A Chromium's path. Where there is none its tests are left out, but in CI, which installs one."""
    path = browser.find()
    if path is None and not os.environ.get("CI"):
        pytest.skip("no Chromium; `make browser` installs one")
    assert path, "CI has a Chromium: `make browser`"
    return path


def test_the_search_finds_words_in_files_without_a_network(site: Path, chromium: str) -> None:
    flags = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=flags)
        tab = started.new_context(offline=True).new_page()
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        for word, page in WORDS.items():
            tab.goto(browser.address(site / "index.html"))
            tab.keyboard.press("Control+k")
            tab.get_by_role("combobox", name="Search").fill(word)
            results = tab.get_by_role("listbox", name="Search results")
            found = results.locator(f"a[href*='{page}']").filter(has_text=re.compile(word, re.IGNORECASE)).first
            found.wait_for(timeout=30_000)
            found.click()
            tab.wait_for_url(f"**/{page}*")
        started.close()
    assert [address for address in asked if not address.startswith(("file:", "data:", "blob:"))] == []


@pytest.fixture(scope="module")
def tab(tab: browser.Browser) -> browser.Browser:
    """A tab that shows each page as to who comes for the first time: the theme keeps the colours that it has shown."""
    tab.call("Page.addScriptToEvaluateOnNewDocument", source="localStorage.clear()")  # before the page's own scripts
    return tab


@pytest.mark.parametrize("width", LOOKS)
@pytest.mark.parametrize("page", LOOKED_AT)
def test_pages_are_read_by_everybody(site: Path, tab: browser.Browser, axe: str, page: str, width: int) -> None:
    """axe finds no serious fault at a laptop's and a phone's width, and nothing but files is asked for."""
    show(tab, site / page, width)
    assert [address for address in tab.asked if not address.startswith("file:")] == []
    assert tab.evaluate("document.body.dataset.mdColorScheme") == {"light": "default", "dark": "slate"}[LOOKS[width]]
    assert tab.violations(axe) == []


def test_no_page_is_wider_than_a_phone(site: Path, tab: browser.Browser) -> None:
    wide = []
    for page in (*LOOKED_AT, *WIDE):
        show(tab, site / page, 360)
        wide += [page] if tab.overflow() > 0 else []
    assert wide == []


def show(tab: browser.Browser, file: Path, width: int) -> None:
    """Show a page, once the theme is done with it."""
    tab.open(browser.address(file), width, LOOKS[width])
    tab.evaluate(SETTLED)
