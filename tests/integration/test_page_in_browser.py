"""The page at `/` in a real Chromium, on a laptop and on a phone: a picture gets the server's answer, axe finds no fault.

Where there is no Chromium this is left out, but in CI, which installs one (`make browser`).
"""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from drawing.heat import encircle
from tests.integration.running import Server, Workspace
from tools.browser import Browser


def text(tab: Browser, element: str) -> str:
    return str(tab.evaluate(f"document.getElementById('{element}').textContent"))


def choose(tab: Browser, picture: Path) -> str:
    """Choose a picture as a person does; what the page says once it has asked."""
    root = tab.call("DOM.getDocument")["root"]["nodeId"]
    node = tab.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    tab.call("DOM.setFileInputFiles", files=[str(picture)], nodeId=node)
    deadline = time.monotonic() + 60
    while not (said := text(tab, "state")) or said.startswith("Asking"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return said


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (360, "light"), (360, "dark")])
def test_a_picture_gets_the_servers_answer(
    tab: Browser, axe: str, workspace: Workspace, server: Server, images: dict[Path, str], width: int, scheme: str
) -> None:
    picture = next(iter(images))
    told = json.loads(workspace.ok("predict", str(picture), "--url", f"http://{server.rest}", "--json"))
    tab.open(f"http://{server.rest}/", width, scheme)
    assert tab.violations(axe) == []
    assert choose(tab, picture) == "Answered."
    assert text(tab, "decision") == f"{told['label']}, confidence {100 * told['confidence']:.1f} %: {told['decision']}"
    assert f"the threshold {told['threshold']:#.3g}." in text(tab, "rule")
    rows = tab.evaluate("[...document.querySelectorAll('#probabilities th')].map(cell => cell.textContent)")
    assert rows == sorted(told["probabilities"], key=lambda label: -told["probabilities"][label])
    assert told["archive_digest"] in text(tab, "origin")
    whole = tab.evaluate("document.getElementById('picture').toDataURL()")
    tab.evaluate("document.getElementById('shown').click()")
    assert tab.evaluate("document.getElementById('picture').toDataURL()") != whole  # without the map
    assert tab.violations(axe) == []
    assert tab.overflow() == 0
    assert {url.removeprefix(f"http://{server.rest}/") for url in tab.asked} == {
        "page/page.css", "page/page.js", "v2/repository/index",
    }  # fmt: skip


def test_dashes_go_around_half_of_the_peak_as_in_drawings(tab: Browser, server: Server) -> None:
    """`encircle` of the page and of `visor predict --explain` on the same maps, pixel by pixel."""
    tab.open(f"http://{server.rest}/", 360)
    generator = np.random.default_rng(0)
    for values in (*generator.random((3, 9, 14)), np.zeros((9, 14)), np.ones((9, 14))):
        heat = values.astype(np.float32)
        picture = generator.integers(0, 256, (*heat.shape, 3), dtype=np.uint8)
        seen = np.dstack([picture, np.full(heat.shape, 255, dtype=np.uint8)])
        drawn = tab.evaluate(
            f"(() => {{ const seen = {{ width: {heat.shape[1]}, height: {heat.shape[0]}, "
            f"data: new Uint8ClampedArray({seen.ravel().tolist()}) }}; "
            f"encircle(seen, new Float32Array({heat.ravel().tolist()})); return [...seen.data]; }})()"
        )
        expected = np.dstack([encircle(picture, heat), seen[:, :, 3]])
        assert np.array_equal(np.array(drawn, dtype=np.uint8).reshape(seen.shape), expected)


def test_an_error_is_shown_as_its_sentence(tab: Browser, server: Server, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    tab.open(f"http://{server.rest}/", 360)
    assert choose(tab, broken) == "image.undecodable: 10 bytes are not a whole image: no header of an image"
    assert tab.evaluate("document.getElementById('answer').hidden")


def test_a_token_that_no_header_holds_is_told_so(tab: Browser, server: Server) -> None:
    tab.open(f"http://{server.rest}/", 360)
    deadline = time.monotonic() + 60
    while tab.evaluate("document.getElementById('choice').hidden"):  # what it then says would take the sentence's place
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for token in ("a b", "\u201cabc\u201d"):
        tab.evaluate(f"document.getElementById('token').value = {json.dumps(token)}")
        tab.evaluate("document.getElementById('access').requestSubmit()")
        assert text(tab, "state").startswith("This token has spaces or other characters")
        assert tab.evaluate("document.getElementById('token').value") == ""


def test_keys_alone_reach_all_of_it(tab: Browser, server: Server, images: dict[Path, str]) -> None:
    tab.open(f"http://{server.rest}/", 1280)
    choose(tab, next(iter(images)))
    reached = []
    for _ in range(5):
        for kind in ("keyDown", "keyUp"):
            tab.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        reached.append(tab.evaluate("document.activeElement.id || document.activeElement.textContent"))
        assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert reached == ["Protocol", "OpenAPI", "model", "file", "shown"]
