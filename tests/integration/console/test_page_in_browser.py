"""The console's page in a real Chromium, before two real servers: what a person does, on a laptop and on a phone.

axe finds no serious fault on any page, nothing is wider than the window, and nothing is asked of another host.
"""

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Page, expect

from console.access.keys import add_key
from console.page import words
from tests.integration.console.consoles import Console, running
from tests.integration.running import ROOT, Server, Workspace, picture, start_server, stop_server
from tests.unit.console.page.test_releases import record

Scheme = Literal["light", "dark"]
LOOKS: tuple[tuple[int, Scheme], ...] = ((1280, "light"), (360, "dark"), (1280, "dark"), (360, "light"))
"""Widths in pixels and colours: what each page is looked at by."""
SCRIPT = "<img src=x onerror=alert(1)>.png"
FORMULA = "=HYPERLINK(1).png"
WAIT_MS = 30_000


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two records of releases, one of which has a tag in a sentence."""
    folder = tmp_path_factory.mktemp("releases")
    (folder / "roofs.json").write_text(json.dumps(record().to_json()))
    (folder / "cracks.json").write_text(json.dumps(record("rolled-back", canary_errors=200).to_json()))
    return folder


@pytest.fixture(scope="module")
def console(server: Server, flagging: Server, records: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """A console without keys before the models `eights` and `digits`."""
    servers = f"http://{flagging.rest},http://{server.rest}"
    with running(tmp_path_factory.mktemp("console"), servers=servers, releases=str(records)) as found:
        yield found


@pytest.fixture
def page(browser: Browser, console: Console) -> Iterator[Page]:
    """The page, on a laptop."""
    with opened(browser, console.url) as found:
        yield found


@contextmanager
def opened(browser: Browser, url: str, width: int = 1280, scheme: Scheme = "light") -> Iterator[Page]:
    """A new window, which must raise no error, ask no other host, and break no policy."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, base_url=url)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
    page.on("dialog", lambda dialog: wrong.append(f"dialog {dialog.message}"))
    page.on("request", lambda one: None if one.url.startswith((url, "data:", "blob:")) else wrong.append(one.url))
    page.set_default_timeout(WAIT_MS)
    page.goto("/")
    yield page
    context.close()
    assert wrong == []


def judge(page: Page, axe: str) -> None:
    """Hold a page to what all must keep."""
    page.evaluate(f"{axe}; 0")
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']}).then(result => result.violations)")
    serious = [
        f"{one['id']}: {[node['target'] for node in one['nodes'][:3]]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0


def choose(page: Page, *files: Path | FilePayload, place: str = "#file") -> None:
    page.set_input_files(place, list(files))  # type: ignore[arg-type]


def payload(name: str, content: bytes) -> FilePayload:
    return {"name": name, "mimeType": "image/png", "buffer": content}


def answered(page: Page) -> None:
    page.wait_for_selector("#answer article")


@pytest.fixture(scope="module")
def eight(images: dict[Path, str]) -> Path:
    """A picture."""
    return next(iter(images))


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_a_picture_gets_its_decision_and_the_picture_of_why(
    browser: Browser, console: Console, axe: str, eight: Path, width: int, scheme: Scheme
) -> None:
    told = httpx.post(
        f"{console.url}/predict?model=eights", content=eight.read_bytes(), headers={"content-type": "image/png"}
    ).json()
    with opened(browser, console.url, width, scheme) as page:
        judge(page, axe)
        choose(page, eight)
        answered(page)
        expect(page.locator("#decision")).to_have_text(re.compile(rf"{told['decision']}\s+{told['label']}"))
        done = {"flag": "Flagged: score", "pass": "Passed: score", "review": "For a person: score"}[told["decision"]]
        expect(page.locator(".rule")).to_contain_text(done)
        expect(page.locator(".rule")).to_contain_text("The score is the probability of 8.")
        assert page.locator("svg.scale .zone-flag").count() == 1
        shares = page.locator(".bars .figure").all_text_contents()
        assert shares[0] == words.percent(told["confidence"])
        expect(page.locator("article")).to_contain_text(told["digest"])
        expect(page.locator("article")).to_contain_text("at most 20 % are missed")
        assert set(page.locator(".chips li").all_text_contents()) == set(told["prediction_set"])
        assert page.evaluate("[...document.querySelectorAll('.layers img')].map(image => image.naturalWidth > 100)") == [
            True,
            True,
        ]
        judge(page, axe)


def test_the_sliders_fade_the_map_and_weigh_other_thresholds(page: Page, console: Console, eight: Path) -> None:
    choose(page, eight)
    answered(page)
    layer = page.locator("[data-layer]")
    page.locator("#opacity").fill("25")
    assert layer.evaluate("image => getComputedStyle(image).opacity") == "0.25"
    expect(page.locator("output")).to_have_text("25 %")

    metadata = httpx.get(f"{console.url}/models").json()
    curve = next(model["curve"] for model in metadata["models"] if model["name"] == "eights")
    slider = page.locator("#threshold")
    slider.focus()
    page.keyboard.press("Home")
    expect(page.locator("[data-shown=missed]")).to_have_text("0 %")
    expect(page.locator("[data-shown=outcome]")).to_have_text("flag")
    expect(page.locator("[data-shown=said]")).to_contain_text("The promise of at most 20 % missed holds.")
    page.keyboard.press("End")
    last = max(curve, key=lambda point: point["threshold"])
    expect(page.locator("[data-shown=missed]")).to_have_text(words.percent(last["missed"]))
    expect(page.locator("[data-shown=said]")).to_contain_text("no longer covers it")
    page.keyboard.press("ArrowLeft")
    said = slider.get_attribute("aria-valuetext")
    assert said == page.locator("[data-shown=said]").text_content()

    page.keyboard.press("End")
    page.locator("[data-again]").click()
    expect(page.locator("article")).to_contain_text("does not cover this answer, as the threshold is above its bound")
    expect(page.locator(".rule")).to_contain_text("your threshold")


def test_pictures_come_by_drop_by_paste_and_from_a_camera(page: Page, eight: Path) -> None:
    assert page.locator("#photo").get_attribute("capture") == "environment"
    give = """([kind, bytes]) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(bytes)], kind + ".png", { type: "image/png" }));
      const event = kind === "drop" ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
        : new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
      document.body.dispatchEvent(event);
    }"""
    for kind in ("drop", "paste"):
        page.evaluate(give, [kind, list(eight.read_bytes())])
        expect(page.locator("figcaption")).to_contain_text(f"{kind}.png")


def test_the_model_is_chosen_and_doubt_is_said_without_positive_labels(page: Page, eight: Path) -> None:
    choose(page, eight)
    answered(page)
    page.select_option("#model", "digits")
    expect(page.locator("#lineage + dl")).to_contain_text("digits, version 1")
    expect(page.locator(".rule")).to_contain_text("The score is the confidence of the label.")
    assert page.locator("#threshold").count() == 0


def test_what_browsers_do_not_show_comes_decoded(page: Page, tmp_path: Path, eight: Path) -> None:
    tiff = tmp_path / "scan.tiff"
    Image.open(eight).convert("RGB").save(tiff)
    for photo in (tiff, ROOT / "tests/heic/plain.heic"):
        choose(page, photo)
        expect(page.locator("figcaption")).to_contain_text(photo.name)
        assert page.evaluate("document.querySelector('.layers img').decode().then(() => true)")


def test_errors_and_names_are_text(page: Page, eight: Path) -> None:
    choose(page, payload(SCRIPT, eight.read_bytes()))
    expect(page.locator("figcaption")).to_contain_text(SCRIPT)
    choose(page, payload("page.jpg", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"))
    expect(page.locator("#state.error")).to_contain_text("image.unsupported: SVG is not read")
    assert page.locator("#answer article").count() == 0


def zipped(**files: bytes) -> bytes:
    """A ZIP, deflated."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return file.getvalue()


@pytest.fixture
def batch(page: Page, images: dict[Path, str]) -> Page:
    """The page of a batch that has been answered: five files, two of them in a ZIP."""
    one, two, three, four = (path.read_bytes() for path in list(images)[:4])
    files = (
        payload(SCRIPT, one),
        payload(FORMULA, two),
        payload("broken.png", b"no picture"),
        payload("more.zip", zipped(**{"north/a.png": three, "b.png": four})),
    )
    page.goto("/batch")
    choose(page, *files, place="#files")
    expect(page.locator("#state")).to_have_text("5 pictures answered.")
    return page


def test_a_batch_is_a_table_to_sort_filter_and_look_into(batch: Page, axe: str) -> None:
    names = batch.locator("#rows th")
    assert names.all_text_contents() == [SCRIPT, FORMULA, "broken.png", "more.zip/north/a.png", "more.zip/b.png"]
    expect(batch.locator("#rows tr", has_text="broken.png")).to_contain_text("image.undecodable")
    batch.locator("th[data-by=name] button").click()
    expect(batch.locator("th[aria-sort=ascending]")).to_have_text("File")
    assert names.all_text_contents() == [SCRIPT, FORMULA, "broken.png", "more.zip/b.png", "more.zip/north/a.png"]
    batch.locator("th[data-by=score] button").click()
    batch.locator("th[data-by=score] button").click()
    scores = [float(text.lstrip("<> ")) for text in batch.locator("#rows td[data-name=Score]").all_text_contents() if text]
    assert scores == sorted(scores, reverse=True)
    assert names.all_text_contents()[-1] == "broken.png"  # what has no score is last
    batch.locator("#filters label", has_text="error").click()
    assert "broken.png" not in names.all_text_contents()
    judge(batch, axe)

    batch.get_by_role("button", name="more.zip/north/a.png").click()
    batch.wait_for_selector("dialog article")
    assert batch.evaluate("document.querySelector('dialog .layers img').decode().then(() => true)")
    judge(batch, axe)
    batch.keyboard.press("Escape")
    expect(batch.locator("dialog")).to_be_hidden()


def test_a_batch_on_a_phone_is_as_wide_as_the_phone(
    browser: Browser, console: Console, axe: str, images: dict[Path, str]
) -> None:
    with opened(browser, console.url, 360, "dark") as page:
        page.goto("/batch")
        judge(page, axe)
        choose(page, *list(images)[:3], place="#files")
        expect(page.locator("#state")).to_have_text("3 pictures answered.")
        judge(page, axe)


def test_the_csv_has_every_answer_and_no_formula(batch: Page) -> None:
    with batch.expect_download() as download:
        batch.get_by_role("button", name="Download CSV").click()
    text = download.value.path().read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["name"] for row in rows] == [SCRIPT, f"'{FORMULA}", "broken.png", "more.zip/north/a.png", "more.zip/b.png"]
    assert rows[2]["error"].startswith("image.undecodable: ")
    assert rows[2]["score"] == ""
    assert all(0 <= float(row["score"]) <= 1 for row in rows if row["score"])
    assert not any(value.startswith(("=", "+", "-", "@")) for row in rows for value in row.values())


@pytest.mark.parametrize(("width", "scheme"), LOOKS[:2])
def test_releases_are_shown_as_their_records_tell(
    browser: Browser, console: Console, axe: str, width: int, scheme: Scheme
) -> None:
    with opened(browser, console.url, width, scheme) as page:
        page.get_by_role("link", name="Releases").click()
        expect(page.locator("#fresh article")).to_have_count(2)
        cracks, roofs = page.locator("#fresh article").all()
        expect(cracks.locator("h2").first).to_have_text("cracks rolled-back")
        expect(cracks.locator("tr", has=page.get_by_role("rowheader", name="errors"))).to_contain_text("alarm")
        expect(cracks).to_contain_text("200 of 400")
        expect(roofs.locator("li[aria-current=step]")).to_have_text("50 %")
        expect(roofs).to_contain_text("the share goes to <b>50</b> %")
        judge(page, axe)


@pytest.fixture(scope="module")
def drifted(workspace: Workspace, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """A console before a server of its own, which was asked for pictures of one kind and size and for nothing else."""
    folder = tmp_path_factory.mktemp("drifted")
    server = start_server(workspace, str(archive), folder / "server.log", "--workers", "1")
    with running(folder, servers=f"http://{server.rest}") as found:
        for _ in range(30):
            bright = picture("PNG", 40, 9)
            httpx.post(f"{found.url}/predict", content=bright, headers={"content-type": "image/png"}).raise_for_status()
        yield found
    stop_server(server)


@pytest.mark.parametrize(("width", "scheme"), LOOKS[:2])
def test_drift_is_shown_of_what_the_servers_counted(
    browser: Browser, drifted: Console, axe: str, width: int, scheme: Scheme
) -> None:
    with opened(browser, drifted.url, width, scheme) as page:
        page.get_by_role("link", name="Drift").click()
        expect(page.locator("main")).to_contain_text("No Prometheus is set")
        digits = page.locator("#fresh > section", has_text="digits, version 1")
        expect(digits.locator("h2")).to_contain_text("drifted")
        expect(digits.locator("section[aria-label=width]")).to_contain_text("moved")
        judge(page, axe)


def test_the_api_is_described_and_can_be_tried(page: Page) -> None:
    page.get_by_role("link", name="API").click()
    expect(page.locator(".opblock-summary-path", has_text="/batch_predict")).to_be_visible()
    page.locator("#operations-predict-predict_predict_post").click()
    expect(page.get_by_role("button", name="Try it out")).to_be_visible()


def test_without_records_and_without_a_server_the_pages_say_so(browser: Browser, tmp_path: Path) -> None:
    with running(tmp_path, servers="http://127.0.0.1:9") as lonely, opened(browser, lonely.url) as page:
        expect(page.locator("main")).to_contain_text("cannot be reached")
        page.goto("/releases")
        expect(page.locator("main")).to_contain_text("No record of releases")
        page.goto("/drift")
        expect(page.locator("main")).to_contain_text("does not answer")


def test_a_person_signs_in_asks_and_signs_out(browser: Browser, flagging: Server, axe: str, eight: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    secret = add_key(keys, "anna", ["predict"])
    with running(tmp_path, servers=f"http://{flagging.rest}", keys_file=str(keys)) as closed, opened(browser, closed.url) as page:
        page.goto("/batch")
        expect(page).to_have_title("Sign in · visor")
        judge(page, axe)
        page.get_by_label("API key").fill("vck_wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("does not know this key")
        page.get_by_label("API key").fill(secret)
        page.keyboard.press("Enter")
        expect(page).to_have_title("Batch · visor")
        assert page.evaluate("document.cookie") == ""  # no script reads it
        page.get_by_role("link", name="Picture").click()
        choose(page, eight)
        answered(page)
        page.get_by_role("button", name="Sign out").click()
        expect(page).to_have_title("Sign in · visor")
        assert page.goto("/")
        expect(page).to_have_title("Sign in · visor")
        assert secret not in closed.log.read_text()


def test_keys_alone_reach_all_of_it(page: Page, eight: Path) -> None:
    choose(page, eight)
    answered(page)
    name: Callable[[], str] = lambda: page.evaluate(  # noqa: E731
        "(document.activeElement.id || document.activeElement.dataset.again !== undefined && 'again' "
        "|| document.activeElement.textContent).trim()"
    )
    page.locator(".skip").focus()
    reached = [name()]
    while reached[-1] != "again":
        assert len(reached) < 30
        page.keyboard.press("Tab")
        reached.append(name())
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert reached[0] == "Skip to the content"
    assert {"Picture", "Batch", "Releases", "Drift", "API", "model", "file", "photo", "opacity", "threshold", "again"} <= set(
        reached
    )
