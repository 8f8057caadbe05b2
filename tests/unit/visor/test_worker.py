"""TorchServe's worker, started as TorchServe starts it, knows torch from nowhere."""

import os
import socket
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from visor import torchserve

SITE = Path(str(find_spec("ts").origin)).parents[1]  # type: ignore[union-attr]
HANDLER = """
import sys
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
        return [f"{self.loaded} {self.mapped} {self.importable}"]
"""


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
                item = framed(b"body", b"application/octet-stream", b"x") + struct.pack("!i", -1)
                request = framed(b"id") + struct.pack("!i", -1) + item
                connection.sendall(b"I" + request + struct.pack("!i", -1))
                answer = receive(connection, struct.pack("!i", -1))
        finally:
            process.kill()
    torch_is_installed = find_spec("torch") is not None
    assert f"[] False {torch_is_installed}".encode() in answer
