"""Consoles as processes, in front of a real server."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from console.settings import PREFIX

READY_S, STOP_S = 60.0, 60.0


@dataclass(frozen=True)
class Console:
    """A running `visor console serve`. `log`: what it has written to both of its outputs."""

    process: "subprocess.Popen[bytes]"
    url: str
    log: Path


def environment() -> dict[str, str]:
    """This process's environment without what a developer's own console is told."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}


@contextmanager
def running(folder: Path, *flags: str, env: dict[str, str] | None = None, **settings: str) -> Iterator[Console]:
    """Run `visor console serve` with these flags in a folder, on a free port, until the block's end.

    `settings`: by their names in `console.settings`, given by the environment.
    """
    log = folder / f"console-{time.monotonic_ns()}.log"
    told = {f"{PREFIX}{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-P", "-m", "visor.cli", "console", "serve", "--port", "0", *flags]
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=folder, env={**environment(), **told, **(env or {})}, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + READY_S
        while not (found := re.search(r"^console +(http://\S+)/$", log.read_text(), re.MULTILINE)):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield Console(process, found[1], log)
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
