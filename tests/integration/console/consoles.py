"""Consoles as processes."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from visor.serving.ports import free_ports

START_S = 60.0


@dataclass(frozen=True)
class Console:
    """A running console. `log`: the file of its standard error."""

    url: str
    log: Path
    process: "subprocess.Popen[bytes]"


@contextmanager
def running(folder: Path, **environment: str) -> Iterator[Console]:
    """Run `python -m console` with these settings until the block ends."""
    [port] = free_ports(1)
    log = folder / f"console-{port}.log"
    settings = {f"VISOR_CONSOLE_{name.upper()}": value for name, value in environment.items()}
    own = {name: value for name, value in os.environ.items() if not name.startswith("VISOR_CONSOLE_")}
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "console", "--port", str(port)],
            cwd=folder,
            env={**own, **settings},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + START_S
        while not _lives(url):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield Console(url, log, process)
    finally:
        process.terminate()
        process.wait(30)


def _lives(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/live").status_code == 200
    except httpx.TransportError:
        return False
