"""A pod's two containers as processes, for the tests of what happens to them: `python -m visor.pod`, and the edge beside it."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.integration.cgroups import enter

READY_TIMEOUT_S = 240.0
ROOT = Path(__file__).parents[2]
ALLOCATOR = dict(re.findall(r"\b(PYTHONMALLOC)=(\w+)", (ROOT / "docker/transformer/Dockerfile").read_text()))
"""The edge's environment in its image, as far as memory is concerned."""
assert ALLOCATOR


@dataclass
class Pod:
    """What the two containers share, and their processes. `ports`: inference, management, metrics, REST, gRPC."""

    folder: Path
    ports: list[int]
    public_key: Path
    serving: "subprocess.Popen[bytes] | None" = None
    edge: "subprocess.Popen[bytes] | None" = None

    @property
    def models(self) -> Path:
        return self.folder / "models"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def rest(self) -> str:
        return f"http://127.0.0.1:{self.ports[3]}"

    @property
    def log(self) -> str:
        return (self.folder / "serving.log").read_text()

    @property
    def last_words(self) -> str:
        return (self.folder / "termination-log").read_text()

    def start_serving(self, *more: str, cgroup: Path | None = None) -> "subprocess.Popen[bytes]":
        """Start the serving container's command. `cgroup`: the control group to start it in."""
        (self.folder / "termination-log").touch()
        inference, management, metrics, rest, grpc = map(str, self.ports)
        flags = ["--models", str(self.models), "--public-key", str(self.public_key), "--work", str(self.work), "--workers", "1"]
        flags += ["--inference-port", inference, "--management-port", management, "--metrics-port", metrics]
        flags += [
            "--edge-port",
            rest,
            grpc,
            "--termination-log",
            str(self.folder / "termination-log"),
            "--wait-s",
            "60",
            "--linger-s",
            "0",
        ]
        with (self.folder / "serving.log").open("wb") as log:
            command = [*enter(cgroup), sys.executable, "-m", "visor.pod", *flags, *more]
            self.serving = subprocess.Popen(command, stdout=log, stderr=log)
        return self.serving

    def start_edge(self, *more: str, cgroup: Path | None = None) -> "subprocess.Popen[bytes]":
        """Start the transformer container's command. `cgroup`: the control group to start it in."""
        inference, management, _, rest, grpc = map(str, self.ports)
        flags = ["--archive", str(self.work / "archive"), "--host", "127.0.0.1", "--http-port", rest, "--grpc-port", grpc]
        flags += ["--torchserve", f"http://127.0.0.1:{inference}", "--management", f"http://127.0.0.1:{management}"]
        flags += ["--worker-sockets", str(self.work / "torchserve" / "workers")]
        flags += ["--torchserve-keys", str(self.work / "torchserve-keys.json")]
        with (self.folder / "edge.log").open("wb") as log:
            command = [*enter(cgroup), sys.executable, "-m", "transformer", *flags, *more]
            self.edge = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **ALLOCATOR})
        return self.edge

    def wait_ready(self) -> None:
        """Return once the edge finds TorchServe ready."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.rest}/v2/health/ready").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            assert self.serving is not None
            assert self.serving.poll() is None, self.log
            time.sleep(0.1)
        raise AssertionError(f"the pod was not ready:\n{self.log}\n{(self.folder / 'edge.log').read_text()}")

    def check(self) -> int:
        """The exit code of the liveness probe."""
        command = [sys.executable, "-m", "visor.pod", "--check", "--inference-port", str(self.ports[0])]
        return subprocess.run(command, check=False).returncode

    def infer(self, images: list[bytes]) -> httpx.Response:
        """Ask the edge about pictures, with heat maps, in one binary request."""
        data = b"".join(len(image).to_bytes(4, "little") + image for image in images)
        tensor = {"name": "image", "datatype": "BYTES", "shape": [len(images)], "parameters": {"binary_data_size": len(data)}}
        head = json.dumps({"inputs": [tensor], "parameters": {"explain": True}}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        return httpx.post(f"{self.rest}/v2/models/digits/infer", content=head + data, headers=headers, timeout=60)


def wait_until(condition: Callable[[], bool]) -> None:
    """Return once it holds."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
