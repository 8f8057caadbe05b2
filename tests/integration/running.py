"""visor's commands as processes: a workspace to run them in, and a server with what it started."""

import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from PIL import Image

from tests.integration.cgroups import enter

ROOT = Path(__file__).parents[2]
READY_TIMEOUT_S = 240.0
STOP_TIMEOUT_S = 240.0  # beside an image that is being written, MLflow's store waits for the disk: 60 s were not enough
# What a developer's own shell may say is not for these tests.
OWN = ("MLFLOW_TRACKING_URI", "VISOR_HOME", "VISOR_STORE", "VISOR_KEY", "VISOR_PUBLIC_KEY", "SOURCE_DATE_EPOCH")
BeginHome = Callable[[Path], Path]  # the fixture `begin_home`
# Enough training for answers that differ from image to image; how good they get is not what these tests are about.
QUICK = [
    "--set", "fit.phases=[{epochs: 2, learning_rate: 0.003, unfreeze: all}]",
    "--set", "preprocessing.height=16", "--set", "preprocessing.width=16",
]  # fmt: skip


@dataclass(frozen=True)
class Workspace:
    """A folder with a home, a model store and keys, and the command line that works in it."""

    path: Path

    @property
    def home(self) -> Path:
        return self.path / "runs"

    @property
    def store(self) -> Path:
        return self.path / "model-store"

    @property
    def public_key(self) -> Path:
        return self.path / "keys" / "visor.pub"

    def visor(
        self, *arguments: str, env: dict[str, str] | None = None, timeout: float = 480
    ) -> "subprocess.CompletedProcess[str]":
        """Run a visor command in this workspace's folder, whatever its outcome."""
        return subprocess.run(
            [sys.executable, "-P", "-m", "visor.cli", *arguments],  # as `visor`: no folder here is taken for a package of ours
            cwd=self.path,
            env={**{key: value for key, value in os.environ.items() if key not in OWN}, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def ok(self, *arguments: str) -> str:
        """Run a visor command that must succeed; its standard output."""
        done = self.visor(*arguments)
        assert done.returncode == 0, f"visor {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def shell(text: str, folder: Path, *, timeout: float = 480, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a document's commands as a reader's shell would, but that the first failure, or a name without a value, ends it."""
    told = {key: value for key, value in os.environ.items() if key not in OWN}
    path = f"{Path(sys.executable).parent}:{told['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env={**told, "PATH": path, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"{text}\n{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def is_worker(process: psutil.Process) -> bool:
    """Whether a process is one of TorchServe's workers; one that has ended meanwhile, a zombie too, is none."""
    try:
        return any("model_service_worker" in part for part in process.cmdline())
    except psutil.NoSuchProcess:
        return False


@dataclass
class Server:
    """A running `visor serve`."""

    process: "subprocess.Popen[str]"
    rest: str
    grpc: str
    log: Path

    def family(self) -> list[psutil.Process]:
        """The processes that it started: Java and the workers."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def workers(self) -> set[int]:
        """The process ids of TorchServe's workers, without those that a worker forks for a moment."""
        found = {}
        for child in self.family():
            with suppress(psutil.NoSuchProcess):
                found.update({child.pid: child.ppid()} if is_worker(child) else {})
        return {pid for pid, parent in found.items() if parent not in found}

    def torchserve_config(self) -> Path:
        """The file that TorchServe was told its configuration in; its folder is the run's own."""
        (path,) = {Path(part) for child in self.family() for part in child.cmdline() if part.endswith("config.properties")}
        return path


def picture(form: str, width: int, height: int, mode: str = "RGB", **options: Any) -> bytes:
    """An encoded picture of one colour."""
    file = io.BytesIO()
    Image.new(mode, (width, height)).save(file, form, **options)
    return file.getvalue()


def ask(rest: str, body: bytes, timeout_s: float = 60.0) -> httpx.Response:
    """Ask the model `digits` about one encoded picture."""
    headers = {"Inference-Header-Content-Length": "0"}
    return httpx.post(f"http://{rest}/v2/models/digits/infer", content=body, headers=headers, timeout=timeout_s)


def copy_without_weights(workspace: Workspace, run: Path) -> Path:
    """Copy the run `digits` with weights that nothing can load, for torch: as if the network's code had changed since."""
    shutil.copytree(workspace.home / "digits", run)
    (run / "model.safetensors").write_bytes(b"not weights")
    (run / "exports.json").unlink()
    for name, changes in (
        ("run.json", {"weights_digest": hashlib.sha256(b"not weights").hexdigest()}),
        ("spec.json", {"backend": "torch"}),
    ):
        (run / name).write_text(json.dumps(json.loads((run / name).read_text()) | changes))
    return run


def start_server(
    workspace: Workspace, archive: str, log: Path, *arguments: str, cgroup: Path | None = None, env: dict[str, str] | None = None
) -> Server:
    """Start `visor serve` on free ports, in this control group, and return once it says that it is ready.

    `env`: what its environment has beside this process's.
    """
    command = [*enter(cgroup), sys.executable, "-P", "-m", "visor.cli", "serve", archive, "--port", "0", *arguments]
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=workspace.path, stdout=file, stderr=subprocess.STDOUT, text=True, env={**os.environ, **(env or {})}
        )
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        text = log.read_text()
        rest, grpc = re.search(r"REST +http://([^/\s]+)", text), re.search(r"gRPC +(\S+)", text)
        if rest and grpc:
            return Server(process, rest[1], grpc[1], log)
        if process.poll() is not None:
            break
        time.sleep(0.1)
    process.kill()
    process.wait()
    raise AssertionError(f"visor serve was not ready:\n{log.read_text()}")


def stop_server(server: Server) -> None:
    """End a server as a user would, and make sure of it."""
    server.process.send_signal(signal.SIGTERM)
    try:
        server.process.wait(30)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()
