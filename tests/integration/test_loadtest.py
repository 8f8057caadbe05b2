"""`python -m loadtests` and the locustfile against a real server, and against one that answers wrong and slowly."""

import csv
import itertools
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import grpc
import psutil
import pytest

from tests.integration.running import ROOT, Server, Workspace

# Bounds for a machine that others use, too: the default ones are promises, not tests.
SLO = """
latency_ms: {p50: 1000, p95: 3000, p99: 6000}
error_rate: 0
throughput_per_s: 6
overload: {goodput: 0.9, refused_p99_ms: 50, recovery_s: 5}
"""
IMPOSSIBLE = SLO.replace("p50: 1000, p95: 3000, p99: 6000", "p50: 0.1, p95: 0.2, p99: 0.3").replace("per_s: 6", "per_s: 5000")
SERVICE_S = 0.2


@pytest.fixture(scope="module")
def pictures(images: dict[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of real pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    for path in images:
        shutil.copy(path, folder)
    return folder


def python(*arguments: str, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """A Python command that finds loadtests/ wherever it runs."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=480,
        check=False,
    )


def loadtest(
    folder: Path, pictures: Path, *arguments: str, slo: str = SLO, cwd: Path = ROOT
) -> "subprocess.CompletedProcess[str]":
    """One load test whose report goes into `folder`."""
    (folder / "slo.yaml").write_text(slo)
    places = ["--pictures", str(pictures), "--slo", str(folder / "slo.yaml"), "--out", str(folder)]
    return python("-m", "loadtests", *places, *arguments, cwd=cwd)


def samples(folder: Path) -> list[dict[str, str]]:
    """The raw samples that a load test left."""
    with (folder / "samples.csv").open() as file:
        return list(csv.DictReader(file))


def to(server: Server) -> list[str]:
    return ["--url", f"http://{server.rest}", "--grpc", server.grpc]


def test_a_low_rate_meets_the_slo_over_every_protocol(server: Server, pictures: Path, tmp_path: Path) -> None:
    """12 requests a second for 4 s, the protocols in turn; every second one with a heat map."""
    done = loadtest(tmp_path, pictures, *to(server), "--rate", "12", "--duration", "4", "--arrivals", "even", "--explain", "0.5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The SLO is met." in done.stdout
    tree = json.loads((tmp_path / "report.json").read_text())
    assert {name: figures["requests"] for name, figures in tree["figures"].items()} == {
        "grpc": 16, "rest-binary": 16, "rest-json": 16, "all protocols": 48,
    }  # fmt: skip
    assert tree["figures"]["all protocols"]["failures"] == {}
    assert tree["settings"]["model"] == "digits"
    assert "SLO is <span" in (tmp_path / "report.html").read_text()


def test_bounds_below_what_is_possible_are_all_named(server: Server, pictures: Path, tmp_path: Path) -> None:
    done = loadtest(tmp_path, pictures, *to(server), "--loop", "closed", "--users", "3", "--duration", "2", slo=IMPOSSIBLE)
    assert done.returncode == 1, done.stdout + done.stderr
    violated = re.findall(r"^violated: (.+?) [\d.]+ [<>]", done.stdout, re.MULTILINE)
    protocols = ["grpc", "rest-binary", "rest-json"]
    expected = [f"{name}: {measure} ms" for name in protocols for measure in ("p50", "p95", "p99")]
    assert violated == [*expected, "all protocols: throughput per s"]


def test_a_wrong_models_name_is_an_error_rate(server: Server, pictures: Path, tmp_path: Path) -> None:
    done = loadtest(tmp_path, pictures, *to(server), "--model", "roofs", "--rate", "12", "--duration", "2")
    assert done.returncode == 1
    failures = json.loads((tmp_path / "report.json").read_text())["figures"]["all protocols"]["failures"]
    assert list(failures) == ["model.not_found"]
    for name in ("grpc", "rest-binary", "rest-json"):
        assert f"violated: {name}: error rate 1 > 0" in done.stdout


def test_a_closed_loop_asks_again_once_it_is_answered(server: Server, pictures: Path, tmp_path: Path) -> None:
    done = loadtest(tmp_path, pictures, *to(server), "--loop", "closed", "--users", "3", "--duration", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = samples(tmp_path)
    for protocol in ("grpc", "rest-binary", "rest-json"):
        own = sorted((float(row["sent_s"]), float(row["ended_s"])) for row in rows if row["protocol"] == protocol)
        assert len(own) > 3
        assert all(ended <= sent for (_, ended), (sent, _) in itertools.pairwise(own)), "one user, one request at a time"


def test_an_overload_is_offered_and_measured(server: Server, pictures: Path, tmp_path: Path) -> None:
    """How much of it this shared machine answers is for a quiet one to say; here, that it is offered, refused and over."""
    shape = ["--shape", "overload", "--duration", "10", "--arrivals", "even"]
    done = loadtest(tmp_path, pictures, *to(server), *shape, "--timeout", "60")  # beside an image's build, 10 s passed
    assert done.returncode in (0, 1), done.stderr
    overload = json.loads((tmp_path / "report.json").read_text())["overload"]
    assert overload["offered"] == pytest.approx(3 * 8 * overload["capacity_per_s"], rel=0.02)  # 3 times the capacity, 8 of 10 s
    assert overload["goodput_per_s"] > 0
    assert overload["refused"] > 0
    assert overload["failed"] == 0, done.stdout


def test_the_capacity_is_searched_and_measured(server: Server, pictures: Path, tmp_path: Path) -> None:
    """Which it is, a shared machine does not say; here, that rates are searched by the SLO and the server's CPU time is seen."""
    done = loadtest(tmp_path, pictures, *to(server), "--find-capacity", "--duration", "1", "--pid", str(server.process.pid))
    assert done.returncode in (0, 1), done.stderr
    found = json.loads((tmp_path / "report.json").read_text())["capacity"]
    rates = [step["rate"] for step in found["steps"] if not step["violated"]]
    assert found["per_s"] == max(rates, default=0)
    assert 1 < len(found["steps"]) <= 12
    # A request of 8 x 8 pixels took 0.99 ms of a quiet machine's CPU; one whose server is not seen takes none.
    assert all(step["server_cpu_s"] > 0.0001 for step in found["steps"])
    assert 0 < found["busy"] < 1.5


def test_a_soak_at_a_rate_watches_the_servers_memory(server: Server, pictures: Path, tmp_path: Path) -> None:
    places = [*to(server), "--pid", str(server.process.pid)]
    done = loadtest(tmp_path, pictures, *places, "--soak", "--rate", "9", "--duration", "12")
    assert done.returncode in (0, 1), done.stderr
    soak = json.loads((tmp_path / "report.json").read_text())["soak"]
    assert len(soak["memory"]) >= 5
    assert min(size for _, size in soak["memory"]) > 100 << 20  # edge, Java and workers
    assert len(soak["windows"]) > 20
    assert "MiB at first" in done.stdout


def test_nobody_at_the_address_is_no_test(pictures: Path, tmp_path: Path) -> None:
    done = loadtest(tmp_path, pictures, "--url", "http://127.0.0.1:9")
    assert done.returncode == 2
    assert done.stderr.startswith("loadtests: loadtest.target: 127.0.0.1:9 does not say which models it has")


def test_without_an_address_the_newest_archive_is_served_and_stopped(
    workspace: Workspace, archive: Path, pictures: Path, tmp_path: Path
) -> None:
    newest = tmp_path / "model-store/digits/1/digits.mar"  # a store of its own: other tests write into the workspace's
    older = tmp_path / "model-store/a/2/a.mar"
    shutil.copytree(archive.parent, newest.parent)  # with its signature
    older.parent.mkdir(parents=True)
    older.touch()
    os.utime(older, (0, 0))
    shutil.copytree(workspace.path / "keys", tmp_path / "keys")
    done = loadtest(tmp_path, pictures, "--rate", "9", "--duration", "2", "--protocol", "grpc", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    started = re.search(r"visor serve (\S+) answers on \S+ and \S+, process (\d+)", done.stderr)
    assert started
    assert tmp_path / started[1] == newest
    assert not psutil.pid_exists(int(started[2]))


def test_locusts_own_command_sends_the_same(server: Server, pictures: Path) -> None:
    arguments = ["--host", f"http://{server.rest}", "--grpc", server.grpc, "--pictures", str(pictures)]
    done = python(
        "-m", "locust", "-f", "loadtests/locustfile.py", "--headless", "--users", "3", "--spawn-rate", "3", "--run-time", "3s",
        "--stop-timeout", "5", "--json", "--only-summary", *arguments,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    stats = {row["method"]: row for row in json.loads(done.stdout)}
    assert set(stats) == {"grpc", "rest-binary", "rest-json"}
    assert all(row["num_requests"] > 0 and row["num_failures"] == 0 for row in stats.values())


class Wrong(BaseHTTPRequestHandler):
    """One request at a time, SERVICE_S each, answered with a decision that there is none of."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(SERVICE_S)
        values = {"label": ["4"], "decision": ["maybe"], "error": [""]}
        outputs = [{"name": name, "datatype": "BYTES", "shape": [1], "data": data} for name, data in values.items()]
        answer = json.dumps({"id": request["id"], "model_name": "digits", "outputs": outputs}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def wrong() -> Iterator[str]:
    """The address of a server that is wrong, slow, and has a status of 200."""
    server = HTTPServer(("127.0.0.1", 0), Wrong)
    server.request_queue_size = 64
    server.socket.listen(64)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_slow_server_cannot_hide_its_queue_nor_a_wrong_answer(wrong: str, pictures: Path, tmp_path: Path) -> None:
    """Ten a second for 2 s at a server of five a second: number n is due after n / 10 s and answered after (n + 1) / 5 s."""
    arguments = [
        "--model",
        "digits",
        "--protocol",
        "rest-json",
        "--rate",
        "10",
        "--duration",
        "2",
        "--arrivals",
        "even",
        "--explain",
        "0",
    ]
    done = loadtest(tmp_path, pictures, "--url", wrong, *arguments)
    assert done.returncode == 1
    assert "failed: 20 of payload.decision" in done.stdout
    waits = sorted(float(row["ended_s"]) - float(row["due_s"]) for row in samples(tmp_path))
    assert len(waits) == 20
    assert SERVICE_S <= waits[0] < 1
    assert 20 * SERVICE_S - 1.9 <= waits[-1] < 4  # 2.1 s, where a closed loop sees 0.2 s


SLOW_S = 2.0


class Full(grpc.GenericRpcHandler):
    """Every `slow_every`th call takes SLOW_S, the others are refused at once."""

    def __init__(self, slow_every: float) -> None:
        self._slow_every = slow_every
        self._numbers = itertools.count(1)

    def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(self._answer)

    def _answer(self, _: bytes, context: grpc.ServicerContext) -> None:
        if next(self._numbers) % self._slow_every:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "server.overloaded: full")
        time.sleep(SLOW_S)
        context.abort(grpc.StatusCode.UNAVAILABLE, "model.not_ready: none")


@contextmanager
def full(slow_every: float, **options: int) -> Iterator[str]:
    """The gRPC address of such a server; `options`: gRPC's own."""
    channel_options = [(f"grpc.{name}", value) for name, value in options.items()]
    server = grpc.server(ThreadPoolExecutor(64), [Full(slow_every)], options=channel_options)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_a_refusal_is_seen_when_it_comes_whatever_else_is_in_flight(pictures: Path, tmp_path: Path) -> None:
    """Forty calls within a second, twenty of them in flight at once: more than gevent's pool has threads by itself."""
    with full(slow_every=2) as address:
        places = ["--grpc", address, "--model", "digits"]
        done = loadtest(tmp_path, pictures, *places, "--rate", "40", "--duration", "1", "--arrivals", "even")
    assert done.returncode == 1, done.stderr
    rows = samples(tmp_path)
    seconds = {
        failure: [float(row["ended_s"]) - float(row["sent_s"]) for row in rows if row["failure"] == failure]
        for failure in ("server.overloaded", "model.not_ready")
    }
    assert [len(own) for own in seconds.values()] == [20, 20]
    assert max(seconds["server.overloaded"]) < SLOW_S / 2
    assert min(seconds["model.not_ready"]) >= SLOW_S
    assert {row["refused"] for row in rows if row["failure"] == "server.overloaded"} == {"True"}
    assert {row["refused"] for row in rows if row["failure"] == "model.not_ready"} == {"False"}


def test_a_connection_that_the_server_ends_costs_no_call(pictures: Path, tmp_path: Path) -> None:
    """Each of 16 connections lives for 50 ms, so that many a call leaves just as its connection ends."""
    with full(slow_every=math.inf, max_connection_age_ms=50) as address:
        places = ["--grpc", address, "--model", "digits"]
        done = loadtest(tmp_path, pictures, *places, "--loop", "closed", "--users", "16", "--duration", "4")
    assert done.returncode == 1, done.stderr
    assert Counter(row["failure"] for row in samples(tmp_path)).keys() == {"server.overloaded"}
