"""Start `visor serve` of the newest archive when no address is given, by visor's own command line."""

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loadtests.errors import ServerFailed

STORE, KEY = Path("model-store"), Path("keys/visor.pub")
CONFIG = Path(__file__).parents[1] / "training/configs/digits.yaml"
QUICK = "fit.phases=[{epochs: 2, learning_rate: 0.003, unfreeze: all}]"
READY_TIMEOUT_S, STOP_TIMEOUT_S = 120.0, 30.0
ANNOUNCED = re.compile(r"REST +http://(?P<rest>[^/\s]+)/v2/models/(?P<model>\S+)\s+gRPC +(?P<grpc>\S+)")


@dataclass(frozen=True)
class LocalServer:
    """Describes a running server: its addresses, HOST:PORT each, its model, and its process id."""

    rest: str
    grpc: str
    model: str
    pid: int


def visor(*arguments: str, folder: Path | None = None) -> str:
    """Run a visor command and return its standard output. Raises ServerFailed with the end of its error output."""
    done = subprocess.run(
        [sys.executable, "-m", "visor.cli", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ServerFailed(f"visor {' '.join(arguments)} ended with {done.returncode}: {done.stderr[-500:].strip()}")
    return done.stdout


def newest_archive(store: Path = STORE) -> Path | None:
    """Find the archive that was written last, of any name and version."""
    return max(store.glob("*/*/*.mar"), key=lambda path: path.stat().st_mtime, default=None)


def quick_archive(folder: Path) -> tuple[Path, Path]:
    """Train a small network on scikit-learn's digits for two epochs (half a minute); return its archive and its public key."""
    visor("train", str(CONFIG), "--set", QUICK, "--home", str(folder / "runs"))
    visor("keys", folder=folder)
    visor("archive", str(folder / "runs/digits"), "--store", str(STORE), folder=folder)
    archive = newest_archive(folder / STORE)
    if archive is None:
        raise ServerFailed(f"visor archive left nothing in {folder / STORE}")
    return archive, folder / KEY


@contextmanager
def serving(archive: Path, public_key: Path, *flags: str) -> Iterator[LocalServer]:
    """Run `visor serve` on free ports of loopback until the block's end. `flags`: more of its own. Raises ServerFailed."""
    command = [sys.executable, "-m", "visor.cli", "serve", str(archive), "--public-key", str(public_key), "--port", "0", *flags]
    with tempfile.NamedTemporaryFile("w+", prefix="visor-serve-", suffix=".log") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield _wait_ready(process, Path(log.name))
        finally:
            _stop(process)


def _wait_ready(process: "subprocess.Popen[bytes]", log: Path) -> LocalServer:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        if found := ANNOUNCED.search(log.read_text()):
            return LocalServer(found["rest"], found["grpc"], found["model"], process.pid)
        time.sleep(0.1)
    raise ServerFailed(f"visor serve was not ready: {log.read_text()[-1000:].strip()}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the server as a user would, and kill it where that does not work."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
