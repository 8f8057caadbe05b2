"""TorchServe's worker, started as TorchServe starts it: it knows torch from nowhere, and is quiet about requests."""

import os
import socket
import struct
import subprocess
import sys
import zlib
from importlib.util import find_spec
from pathlib import Path

from visor import torchserve

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
        return [f"{self.loaded} {self.mapped} {self.importable} {zlib.crc32(row['body'])}" for row in data]
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


def test_the_worker_serves_without_torch_and_leaves_its_name_to_torch(tmp_path: Path) -> None:
    home = torchserve.server_home(SITE, tmp_path / "server")
    model = tmp_path / "model"
    model.mkdir()
    (model / "handler.py").write_text(HANDLER)
    (model / "MAR-INF").mkdir()
    (model / "MAR-INF" / "MANIFEST.json").write_text('{"model": {"handler": "handler.py", "modelName": "m"}}')
    address = tmp_path / "worker.sock.9000"
    # The command and the environment of TorchServe's WorkerLifeCycle and EnvironmentUtils.
    metrics = str(home / "ts" / "configs" / "metrics.yaml")
    options = ["--sock-type", "unix", "--sock-name", str(address), "--metrics-config", metrics]
    process = subprocess.Popen(
        [sys.executable, str(home / "ts" / "model_service_worker.py"), *options],
        cwd=model,
        env={**os.environ, "PYTHONPATH": f"{model}:{home}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    with process, process.stdout as log:
        try:
            started = next((line for line in log if "Torch worker started" in line), None)
            assert started is not None
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(60)
                connection.connect(str(address))
                load = b"L" + framed(b"m", str(model).encode()) + struct.pack("!i", 1) + framed(b"handler.py")
                connection.sendall(load + struct.pack("!i", -1) + framed(b"") + b"\x01")
                assert struct.pack("!i", 200) in receive(connection, struct.pack("!i", -1))
                answers = []
                for body in BODIES:
                    connection.sendall(predict_request(body))
                    answers.append(receive(connection, struct.pack("!i", -1)))
            said = log.read()  # what it says between loading and the end of the connection, which ends it too
        finally:
            process.kill()
    torch_is_installed = find_spec("torch") is not None
    for body, answer in zip(BODIES, answers, strict=True):
        assert f"[] False {torch_is_installed} {zlib.crc32(body)}".encode() in answer
    assert "Frontend disconnected." in said
    assert "Backend received inference" not in said
    assert "[METRICS]" not in said
