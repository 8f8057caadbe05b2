"""The serving container's command line, its liveness probe and its last words."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from visor.errors import ServeError, ServerEnded
from visor.pod import intake
from visor.pod.__main__ import FAILED, MESSAGE_CHARACTERS, leave_message, main, parse_args
from visor.pod.check import WAITING
from visor.serving.ports import free_ports


@pytest.fixture
def _signals() -> Iterator[None]:
    """The handlers that a run of the command sets are its own."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def test_flags_are_a_pods_by_default() -> None:
    args = parse_args([])
    assert (args.models, args.public_key, args.work) == (Path("/mnt/models"), Path("/etc/visor/visor.pub"), Path("/run/visor"))
    assert (args.edge_port, args.grace_s, args.workers) == ([8080, 8081], 20.0, None)
    assert (args.inference_port, args.management_port, args.metrics_port) == (8085, 8086, 8082)
    assert args.termination_log == Path("/dev/termination-log")
    assert parse_args(["--edge-port", "9000"]).edge_port == [9000]


def test_a_mistyped_flag_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse_args(["--model", "x", "--worker", "1", "--nothing"])
    assert "--nothing" in capsys.readouterr().err


@pytest.mark.parametrize("given", [["--hang-s", "0"], ["--hang-s", "nan"], ["--picture-memory-mib", "-1"]])
def test_a_number_out_of_range_is_an_error(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse_args(given)
    assert f"{given[1]} is not above 0" in capsys.readouterr().err


@pytest.mark.usefixtures("_signals")
@pytest.mark.parametrize(("error", "lingers_s"), [(ServerEnded("x"), 0), (ServeError("x"), 7)])
def test_only_what_did_not_serve_lingers_for_a_probe(
    error: ServeError, lingers_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    lingered: list[float] = []
    monkeypatch.setattr(intake, "publish_archive", fail)
    monkeypatch.setattr(time, "sleep", lingered.append)
    assert main(["--work", str(tmp_path), "--linger-s", "7"]) == FAILED
    assert lingered == [lingers_s]


@pytest.mark.parametrize("status", [200, 500])
def test_the_check_holds_while_torchserve_answers_whatever(status: int) -> None:
    class Ping(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    asked: list[str] = []
    with HTTPServer(("127.0.0.1", 0), Ping) as server:
        threading.Thread(target=server.handle_request).start()
        assert main(["--check", "--inference-port", str(server.server_port)]) == 0
    assert asked == ["/ping"]


def test_the_check_fails_when_nobody_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_ports(1)[0]
    assert main(["--check", "--work", str(tmp_path), "--inference-port", str(port)]) == FAILED
    assert capsys.readouterr().out == f"TorchServe does not answer on 127.0.0.1:{port}\n"


class Ping(BaseHTTPRequestHandler):
    """TorchServe, as far as a probe asks it."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_the_check_waits_for_a_start_and_then_for_the_edge(tmp_path: Path) -> None:
    """Each failure of a probe is a warning event: a start of less than --check-s makes none, of either container."""
    port, edge = free_ports(2)
    started: list[float] = []

    def start_late() -> None:
        time.sleep(0.5)
        started.append(time.monotonic())
        with HTTPServer(("127.0.0.1", port), Ping) as server:
            server.handle_request()
        time.sleep(0.5)
        with socket.create_server(("127.0.0.1", edge)) as listener:
            started.append(time.monotonic())
            listener.accept()[0].close()

    thread = threading.Thread(target=start_late)
    thread.start()
    command = ["--check", "--check-s", "20", "--work", str(tmp_path), "--inference-port", str(port), "--edge-port", str(edge)]
    assert main(command) == 0
    assert len(started) == 2
    thread.join()


def test_the_check_gives_the_edge_its_time_and_no_more(tmp_path: Path) -> None:
    edge = free_ports(1)[0]
    with HTTPServer(("127.0.0.1", 0), Ping) as server:
        threading.Thread(target=server.handle_request).start()
        start = time.monotonic()
        ports = ["--inference-port", str(server.server_port), "--edge-port", str(edge)]
        assert main(["--check", "--check-s", "1", "--work", str(tmp_path), *ports]) == 0
    assert time.monotonic() - start >= 0.5


def test_a_refusal_ends_the_check_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "refusal").write_text("visor: archive.refused: the signature")
    start = time.monotonic()
    port = free_ports(1)[0]
    assert main(["--check", "--check-s", "60", "--work", str(tmp_path), "--inference-port", str(port)]) == FAILED
    assert time.monotonic() - start < 30
    assert capsys.readouterr().out == "visor: archive.refused: the signature\n"


def test_the_check_says_what_is_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / WAITING).write_text("waiting for an archive below /mnt/models (archive.uri pvc://models/roofs/77)")
    port = free_ports(1)[0]
    assert main(["--check", "--check-s", "0.5", "--work", str(tmp_path), "--inference-port", str(port)]) == FAILED
    assert capsys.readouterr().out == "waiting for an archive below /mnt/models (archive.uri pvc://models/roofs/77)\n"


def test_told_to_stop_while_it_waits_it_says_so(tmp_path: Path) -> None:
    """The kubelet stops a container whose startup probe has given up: that is no success."""
    last_words = tmp_path / "termination-log"
    last_words.touch()
    places = ["--models", str(tmp_path / "models"), "--work", str(tmp_path / "work"), "--termination-log", str(last_words)]
    command = [sys.executable, "-m", "visor.pod", *places, "--wait-s", "300", "--uri", "pvc://models/roofs/77"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as pod:
        assert pod.stderr is not None
        assert "waiting for an archive" in pod.stderr.readline()
        while not (tmp_path / "work" / WAITING).exists():
            time.sleep(0.05)
        pod.send_signal(signal.SIGTERM)
        said = pod.stderr.read()
        assert pod.wait(30) == FAILED
    sentence = f"visor: archive.missing: told to stop while waiting for an archive below {tmp_path}/models (archive.uri pvc://models/roofs/77)"
    assert said == f"{sentence}\n"
    assert last_words.read_text() == sentence


def test_the_check_imports_little() -> None:
    script = "import sys; import visor.pod.__main__; visor.pod.check.is_alive(1); print('asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.usefixtures("_signals")
def test_an_error_is_said_and_left_as_last_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last_words = tmp_path / "termination-log"
    last_words.touch()
    places = ["--models", str(tmp_path / "models"), "--work", str(tmp_path / "work"), "--termination-log", str(last_words)]
    assert main([*places, "--wait-s", "0", "--linger-s", "0"]) == FAILED
    said = capsys.readouterr().err
    assert said.startswith("visor: archive.missing: no .mar lies below")
    assert said == last_words.read_text() + "\n"
    # A probe that comes by meanwhile says it too.
    port = free_ports(1)[0]
    assert main(["--check", "--work", str(tmp_path / "work"), "--inference-port", str(port)]) == FAILED
    assert capsys.readouterr().out == said


@pytest.mark.usefixtures("_signals")
def test_an_error_of_an_earlier_start_is_forgotten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "refusal").write_text("visor: archive.refused: earlier")
    assert main(["--models", str(tmp_path), "--work", str(tmp_path), "--wait-s", "0", "--linger-s", "0"]) == FAILED
    assert (tmp_path / "refusal").read_text() + "\n" == capsys.readouterr().err


def test_last_words_are_written_only_where_kubernetes_looks_for_them(tmp_path: Path) -> None:
    leave_message(tmp_path / "termination-log", "sentence")
    assert list(tmp_path.iterdir()) == []


def test_long_last_words_keep_their_beginning_and_their_end(tmp_path: Path) -> None:
    path = tmp_path / "termination-log"
    path.touch()
    leave_message(path, "visor: serve.failed: " + "x" * 10_000 + " the cause")
    text = path.read_text()
    assert text.startswith("visor: serve.failed: x")
    assert text.endswith("x the cause")
    assert len(text) <= MESSAGE_CHARACTERS + len("\n...\n")
