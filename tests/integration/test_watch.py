"""A real Prometheus scrapes a real server: every query of every panel and alert returns series, and the page draws them.

Where there is no Prometheus these are left out, but in CI, which has it (`make prometheus`).
"""

import asyncio
import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import psutil
import pytest

from console.page import counts, drift
from tests.integration import test_notebook
from tests.integration.running import ROOT, STOP_TIMEOUT_S, Server, Workspace, ask, start_server, stop_server
from tools import browser, watch
from tools.watch import Prometheus, parts_of
from visor.serving.ports import free_ports
from watch import queries as q
from watch.alerts import ALERTS
from watch.boards import BOARDS
from watch.queries import Query, fill

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None and not os.environ.get("CI"), reason="no Prometheus: `make prometheus`"
)

ROUNDS = 6
"""Seconds in which each kind of request is sent once, while Prometheus scrapes every second."""
PARTS = parts_of(
    {
        "slo": {"latencyMs": {"p50": 100, "p95": 250, "p99": 500}, "errorRate": 0.001},
        "alerts": {
            "minRequests": 1,
            "minImages": 1,
            "noTraffic": "1s",
            "decisions": {"window": "1h", "reviewShare": 0.3, "rejectedShare": 0.1},
            "drift": {"window": "1h", "minImages": 1, "leastEffect": 0},
        },
    }
) | {"selector": watch.SELECTOR, "stable": watch.SELECTOR, "canary": watch.SELECTOR, "window": "1m"}


@pytest.fixture(scope="module")
def served(workspace: Workspace, archive: Path) -> Iterator[Server]:
    """A server that keeps answers, so that its cache is asked, too, and that asks a canary about all images."""
    asked = start_server(workspace, str(archive), workspace.path / "asked.log", "--workers", "1", "--track", "canary")
    shadow = workspace.path / "watched.json"
    shadow.write_text(json.dumps({"percent": 100}))
    flags = ("--cache-images", "100", "--shadow-url", f"http://{asked.rest}", "--shadow-file", str(shadow))
    running = start_server(workspace, str(archive), workspace.path / "watched.log", *flags)
    yield running
    stop_server(running)
    stop_server(asked)


@pytest.fixture(scope="module")
def prometheus(served: Server) -> Iterator[Prometheus]:
    """Prometheus beside it, as `make watch` runs it."""
    with watch.started([served.rest], *free_ports(1), interval_s=1) as running:
        yield running


@pytest.fixture(scope="module")
def asked(served: Server, prometheus: Prometheus, images: dict[Path, str]) -> int:
    """Requests of all kinds for some seconds; how many images were answered."""
    while not found(prometheus, fill(q.series("visor_build_info"), **PARTS)):
        time.sleep(0.1)
    pictures = [path.read_bytes() for path in images]
    url, answered = f"http://{served.rest}/v2/models/digits/infer", 0
    for place in range(ROUNDS):
        for picture in (pictures[place % len(pictures)], pictures[0]):  # one of them is kept from before
            assert ask(served.rest, picture).status_code == 200
            answered += 1
        assert ask(served.rest, b"no picture").status_code == 400
        assert httpx.post(url, content=b"no request").status_code == 400
        data = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(pictures[-1]).decode()]}
        late = httpx.post(url, json={"inputs": [data], "parameters": {"timeout": 1}})  # a microsecond
        assert late.status_code == 504
        assert httpx.get(f"http://{served.rest}/v2/nowhere").status_code == 404
        time.sleep(1)
    time.sleep(2)  # two scrapes
    return answered


def found(prometheus: Prometheus, query: str) -> list[tuple[dict[str, str], float]]:
    """What Prometheus answers to an instant query: labels and value of each series; a number alone has no labels."""
    answer = httpx.get(f"http://{prometheus.address}/api/v1/query", params={"query": query}).json()
    assert answer["status"] == "success", f"{query}: {answer}"
    if answer["data"]["resultType"] == "scalar":
        return [({}, float(answer["data"]["result"][1]))]
    return [(series["metric"], float(series["value"][1])) for series in answer["data"]["result"]]


PANELS = [
    pytest.param(query, id=f"{board.name}-{panel.title}-{query.name}")
    for board in BOARDS
    for panel in board.panels()
    for query in panel.queries
    if not query.external  # the kubelet's
]


@pytest.mark.parametrize("query", PANELS)
def test_a_panel_s_query_returns_series(prometheus: Prometheus, asked: int, query: Query) -> None:
    assert asked
    series = found(prometheus, fill(query.text, **PARTS))
    assert series, query.text
    assert all(value == value for _, value in series), query.text  # no NaN
    outside = {"track", "namespace", "pod"}  # what only a release's pods have
    assert all(set(labels) | outside >= set(query.by) and set(labels) <= set(query.by) for labels, _ in series)


def sides(expression: str) -> Iterator[str]:
    """What an alert compares: both sides of each of its conditions; of `absent`, what has to be absent.

    Nothing is 15 minutes old here, so not what was then; and no network answers NaN: of that alert, all codes of images.
    """
    for condition in re.split(" and ", expression.replace(',code="image.unanswerable"', "")):
        now = re.sub(r" or \(.* unless .* offset .*\)$", "", condition)
        yield from (re.sub(r"^absent\((.*)\)$", r"\1", side) for side in re.split(" (?:>=|>|==) ", now))


SERVED = [alert for alert in ALERTS if alert.needs != "canary"]
"""The alerts of one server."""


@pytest.mark.parametrize("expression", sorted({side for alert in SERVED for side in sides(alert.expression)}))
def test_an_alert_s_query_returns_series(prometheus: Prometheus, asked: int, expression: str) -> None:
    assert asked
    assert found(prometheus, fill(expression, **PARTS))


def test_prometheus_has_loaded_every_alert(prometheus: Prometheus) -> None:
    groups = httpx.get(f"http://{prometheus.address}/api/v1/rules").json()["data"]["groups"]
    assert [rule["name"] for rule in groups[0]["rules"]] == [alert.name for alert in SERVED]


@pytest.mark.usefixtures("asked")
def test_the_console_sees_drift_by_prometheus_as_by_the_server(prometheus: Prometheus, served: Server) -> None:
    samples, troubles = asyncio.run(counts.of_prometheus(f"http://{prometheus.address}", "1h"))
    assert troubles == []
    [window] = [one for one in drift.windows(samples) if one.figures]
    [own] = drift.windows(counts.parsed(httpx.get(f"http://{served.rest}/metrics").text))
    assert (window.model, window.version) == (own.model, own.version)
    assert {figure.name for figure in window.figures} == {figure.name for figure in own.figures}
    assert window.images > 0


def test_each_answered_image_is_in_one_bin_of_each_figure(prometheus: Prometheus, asked: int) -> None:
    counted = found(prometheus, f"sum by (figure) ({fill(q.series('visor_drift_images_total'), **PARTS)})")
    assert {value for _, value in counted} == {asked}
    assert {"score", "brightness", "width"} <= {labels["figure"] for labels, _ in counted}


def test_a_target_that_is_gone_is_an_alert_before_it_fires(served: Server, asked: int) -> None:
    """Prometheus beside nobody."""
    assert served
    assert asked
    nobody, port = free_ports(2)
    with watch.started([f"127.0.0.1:{nobody}"], port, interval_s=1) as alone:
        query = fill(next(alert.expression for alert in ALERTS if alert.name == "VisorDown"), **PARTS)
        assert found(alone, query) == [({}, 0.0)]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_where_the_page_is_and_ends_what_it_began(ending: signal.Signals, tmp_path: Path) -> None:
    nobody, port = free_ports(2)
    command = [
        sys.executable,
        "-m",
        "tools.watch",
        f"127.0.0.1:{nobody}",
        "--port",
        str(port),
        "--storage",
        str(tmp_path / "kept"),
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        page = process.stdout.readline().split()[-1]
        assert "visor: watch" in httpx.get(page).text
        [child] = psutil.Process(process.pid).children()
        process.send_signal(ending)
        assert process.wait(30) == 0
    assert not child.is_running()
    assert (tmp_path / "kept/wal").is_dir()


def test_a_port_that_another_prometheus_has_is_refused(prometheus: Prometheus, capsys: Any) -> None:
    port = prometheus.address.rpartition(":")[2]
    assert watch.main(["--port", port]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert f"port {port} cannot be had (Address already in use)" in said.err
    assert httpx.get(prometheus.page).status_code == 200  # it runs on


def test_a_free_port_can_be_asked_for() -> None:
    with watch.started(["127.0.0.1:1"], 0) as running:
        assert not running.address.endswith(":0")
        assert httpx.get(running.page).status_code == 200


def test_a_prometheus_that_ends_by_itself_leaves_its_last_words() -> None:
    command = [sys.executable, "-m", "tools.watch", "127.0.0.1:1", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline()
        [child] = psutil.Process(process.pid).children()
        child.terminate()
        _, said = process.communicate(timeout=STOP_TIMEOUT_S)
        assert process.returncode == 1
    assert "Prometheus has ended by itself, with exit code 0:" in said
    assert "See you next time!" in said


@pytest.mark.parametrize("interval", ["0", "-5", "61", "1.5"])
def test_an_interval_that_prometheus_or_the_alerts_cannot_have_is_refused(interval: str, capsys: Any) -> None:
    with pytest.raises(SystemExit, match="2"):
        watch.main(["--interval", interval])
    assert "--interval" in capsys.readouterr().err


def test_without_prometheus_the_command_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert watch.main([]) == 1
    assert "make prometheus" in capsys.readouterr().err


def test_the_page_asks_what_the_boards_ask(prometheus: Prometheus) -> None:
    text = httpx.get(prometheus.page).text
    [data] = re.findall(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)
    boards = json.loads(data)
    assert [board["title"] for board in boards] == [board.title for board in BOARDS]
    queries = [query["text"] for board in boards for panel in board["panels"] for query in panel["queries"]]
    assert queries == [fill(str(case.values[0].text), selector=watch.SELECTOR) for case in PANELS]


@pytest.mark.skipif(browser.find() is None and not os.environ.get("CI"), reason="no Chromium; `make browser` installs one")
@pytest.mark.parametrize(("interval", "window"), [(5, 120), (60, 240)])
def test_the_page_s_rates_look_at_four_scrapes_at_least(interval: int, window: int) -> None:
    """Of the last hour a thirtieth, which is two minutes, where that is enough."""
    chromium = browser.find()
    assert chromium, "CI has a Chromium: `make browser`"
    with watch.started(["127.0.0.1:1"], 0, interval) as running, browser.started(chromium) as tab:
        tab.open(running.page, browser.WIDTHS[0])
        while "as of" not in str(tab.evaluate("document.getElementById('state').textContent")):
            time.sleep(0.1)
        urls = tab.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
        asked = [url for url in urls if "visor_request_seconds_bucket" in url]
        assert asked
        assert {found for url in asked for found in re.findall(r"\[(\d+)s\]", unquote(url))} == {str(window)}


@pytest.mark.skipif(browser.find() is None and not os.environ.get("CI"), reason="no Chromium; `make browser` installs one")
def test_the_page_draws_every_panel_and_asks_nobody_else(prometheus: Prometheus, asked: int) -> None:
    assert asked
    chromium = browser.find()
    assert chromium, "CI has a Chromium: `make browser`"
    with browser.started(chromium) as tab:
        for width in browser.WIDTHS:
            tab.open(prometheus.page, width)
            for _ in range(100):
                if "as of" in (state := str(tab.evaluate("document.getElementById('state').textContent"))):
                    break
                time.sleep(0.1)
            assert "as of" in state
            drawn, panels = tab.evaluate(
                "[document.querySelectorAll('section svg').length, document.querySelectorAll('section').length]"
            )
            assert drawn == panels == sum(1 for board in BOARDS for panel in board.panels() if not panel.queries[0].external)
            assert all(url.startswith(f"http://{prometheus.address}/api/v1/") for url in tab.asked)
            assert tab.overflow() == 0


def test_the_notebook_reads_the_same_queries(
    prometheus: Prometheus, asked: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asked
    monkeypatch.setenv("PROMETHEUS", f"http://{prometheus.address}")
    monkeypatch.setenv("WINDOW", "5m")
    printed, shows = test_notebook.run("watch.ipynb", tmp_path)
    assert shows
    assert all(board.title in printed for board in BOARDS)
    assert len(re.findall(r"^(?:score|brightness|axis_\d+) +\d+\.\d\d of its limit", printed, re.MULTILINE)) > 2
    assert "p95" in printed
