"""The edge's startup probe: it waits rather than fails, and imports next to nothing."""

import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from transformer.check import FAILED, main, parse_args


class Edge(ThreadingHTTPServer):
    """An edge that lives, and is ready from a moment on."""

    def __init__(self, ready_at: float) -> None:
        self.asked: list[str] = []
        edge = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                edge.asked.append(self.path)
                good = self.path == "/v2/health/live" or time.monotonic() >= ready_at
                self.send_response(200 if good else 503)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,)).start()


def check(edge: Edge, wait_s: float) -> int:
    try:
        return main(["--http-port", str(edge.server_port), "--wait-s", str(wait_s)])
    finally:
        edge.shutdown()
        edge.server_close()


def test_it_waits_until_the_edge_is_ready() -> None:
    ready_at = time.monotonic() + 0.5
    edge = Edge(ready_at)
    assert check(edge, 30) == 0
    assert ready_at <= time.monotonic() < ready_at + 15
    assert set(edge.asked) == {"/v2/health/ready"}


def test_an_edge_that_lives_has_started_though_it_is_not_ready() -> None:
    edge = Edge(ready_at=float("inf"))
    assert check(edge, 0.5) == 0
    assert edge.asked[-1] == "/v2/health/live"


def test_nobody_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    edge = Edge(0)
    edge.shutdown()
    edge.server_close()
    assert main(["--http-port", str(edge.server_port)]) == FAILED
    assert capsys.readouterr().out == f"the edge does not answer on 127.0.0.1:{edge.server_port}\n"


def test_a_mistyped_flag_is_an_error() -> None:
    with pytest.raises(SystemExit, match="2"):
        parse_args(["--wait", "x", "--nothing"])


def test_it_imports_little() -> None:
    script = "import sys; import transformer.check; print([n for n in ('asyncio', 'grpc', 'numpy') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
