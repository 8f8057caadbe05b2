"""TorchServe's worker, started as TorchServe starts it: it knows torch from nowhere, and is quiet about requests."""

import os
import signal
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from visor.serving.launch import server_home
from visor.serving.worker import HANG_VARIABLE, MEMORY_VARIABLE, SOCKETS_VARIABLE, TOO_LARGE

SITE = Path(str(find_spec("ts").origin)).parents[1]  # type: ignore[union-attr]
HANDLER = """
import sys
import zlib
from pathlib import Path

class Handler:
    def initialize(self, context):
        self.loaded = sorted(name for name in sys.modules if name.split(".")[0] == "torch")
        self.mapped = "libtorch" in Path("/proc/self/maps").read_text()
        try:
            import torch
            self.importable = hasattr(torch, "matmul")
        except ImportError:
            self.importable = False

    def handle(self, data, context):
        if data[0]["body"] == b"much":
            raise MemoryError
        return [f"{self.loaded} {self.mapped} {self.importable} {zlib.crc32(row['body'])}" for row in data]

    def answer(self, body, headers):
        while headers.get("hang"):
            pass
        return 200, str(zlib.crc32(body))
"""

# Within the worker's buffer, an empty one, and one of many system calls.
BODIES = (b"x" * 100, b"", bytes(range(256)) * 4000)


def framed(*parts: bytes) -> bytes:
    """Each part with its length before it, as TorchServe's protocol wants it."""
    return b"".join(struct.pack("!i", len(part)) + part for part in parts)


def receive(connection: socket.socket, until: bytes) -> bytes:
    data = b""
    while not data.endswith(until):
        chunk = connection.recv(4096)
        assert chunk, data
        data += chunk
    return data


def predict_request(body: bytes) -> bytes:
    """The message for one image, with one header."""
    header = framed(b"content-type", b"application/octet-stream") + struct.pack("!i", -1)
    item = framed(b"body", b"application/octet-stream", body) + struct.pack("!i", -1)
    return b"I" + framed(b"id") + header + item + struct.pack("!i", -1)


def ask_directly(worker: "Worker", body: bytes, headers: bytes = b"{}") -> bytes:
    """What the edge does: the answer, with its status before it; nothing where the worker ends meanwhile."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(worker.sockets / str(worker.process.pid)))
        connection.sendall(struct.pack("!II", len(headers), len(body)) + headers + body)
        return connection.recv(4096)


@dataclass
class Worker:
    """A worker that has loaded HANDLER; `connection` is TorchServe's, `sockets` the edge's folder."""

    process: "subprocess.Popen[str]"
    connection: socket.socket
    sockets: Path


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    home = server_home(SITE, tmp_path / "server")
    code = home / "ts" / "model_service_worker.py"
    sockets, model = tmp_path / "s", tmp_path / "model"
    sockets.mkdir()
    model.mkdir()
    (model / "handler.py").write_text(HANDLER)
    (model / "MAR-INF").mkdir()
    (model / "MAR-INF" / "MANIFEST.json").write_text('{"model": {"handler": "handler.py", "modelName": "m"}}')
    address = tmp_path / "worker.sock.9000"
    # The command and the environment of TorchServe's WorkerLifeCycle and EnvironmentUtils.
    metrics = str(home / "ts" / "configs" / "metrics.yaml")
    options = ["--sock-type", "unix", "--sock-name", str(address), "--metrics-config", metrics]
    process = subprocess.Popen(
        [sys.executable, str(code), *options],
        cwd=model,
        env={
            **os.environ,
            "PYTHONPATH": f"{model}:{home}",
            SOCKETS_VARIABLE: str(sockets),
            HANG_VARIABLE: "1",
            MEMORY_VARIABLE: str(32 << 20),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    with process, process.stdout as log, socket.socket(socket.AF_UNIX) as connection:
        try:
            started = next((line for line in log if "Torch worker started" in line), None)
            assert started is not None
            connection.settimeout(60)
            connection.connect(str(address))
            load = b"L" + framed(b"m", str(model).encode()) + struct.pack("!i", 1) + framed(b"handler.py")
            connection.sendall(load + struct.pack("!i", -1) + framed(b"") + b"\x01")
            assert struct.pack("!i", 200) in receive(connection, struct.pack("!i", -1))
            while not (sockets / str(process.pid)).exists():  # just after that answer
                assert process.poll() is None
            yield Worker(process, connection, sockets)
        finally:
            process.kill()


def test_the_worker_serves_without_torch_and_leaves_its_name_to_torch(worker: Worker) -> None:
    torch_is_installed = find_spec("torch") is not None
    for body in BODIES:
        worker.connection.sendall(predict_request(body))
        answer = receive(worker.connection, struct.pack("!i", -1))
        assert f"[] False {torch_is_installed} {zlib.crc32(body)}".encode() in answer
        # And the edge, in turns with TorchServe.
        text = str(zlib.crc32(body)).encode()
        assert ask_directly(worker, body) == struct.pack("!II", 200, len(text)) + text
    worker.connection.close()  # which ends it
    assert worker.process.stdout is not None
    said = worker.process.stdout.read()
    assert "Frontend disconnected." in said
    assert "Backend received inference" not in said
    assert "[METRICS]" not in said


def test_what_java_brings_and_does_not_fit_is_refused_and_the_worker_lives(worker: Worker) -> None:
    for body in (bytes(64 << 20), b"much"):
        worker.connection.sendall(predict_request(body))
        answer = receive(worker.connection, struct.pack("!i", -1))
        assert TOO_LARGE.encode() in answer
        assert struct.pack("!i", 400) in answer
    worker.connection.sendall(predict_request(b"little"))
    assert str(zlib.crc32(b"little")).encode() in receive(worker.connection, struct.pack("!i", -1))
    assert worker.process.poll() is None


def test_a_worker_that_hangs_is_ended(worker: Worker) -> None:
    assert ask_directly(worker, b"x", b'{"hang": true}') == b""
    assert worker.process.wait(60) == -signal.SIGALRM
