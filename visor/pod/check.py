"""What Kubernetes's probes ask of a serving container. Each probe is a process of its own, so this imports next to nothing."""

import contextlib
import http.client
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from visor.serving import loopback

FAILED = 1
TIMEOUT_S = 5.0
POLL_S = 0.2
# Files in the folder that the pod's containers share: why the archive was refused, and what is waited for while it is.
REFUSAL, WAITING = "refusal", "waiting"


def check(port: int, edge_ports: Sequence[int], work: Path, wait_s: float = 0.0) -> int:
    """Check that TorchServe answers: 0 if so, else 1; Kubernetes makes an event of what it prints.

    For `wait_s` it asks again, unless the archive is refused, and gives the edge the rest to listen, which it need not.
    """
    deadline = time.monotonic() + wait_s
    refusal = work / REFUSAL
    while not is_alive(port):
        if refusal.exists() or time.monotonic() + POLL_S >= deadline:
            print(_why_silent(port, work))
            return FAILED
        time.sleep(POLL_S)
    while time.monotonic() + POLL_S < deadline and not _listens(edge_ports[0]):
        time.sleep(POLL_S)
    return 0


def _why_silent(port: int, work: Path) -> str:
    for name in (REFUSAL, WAITING):
        with contextlib.suppress(FileNotFoundError):
            return (work / name).read_text()
    return f"TorchServe does not answer on 127.0.0.1:{port}"


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), POLL_S):
        return True
    return False


def is_alive(port: int) -> bool:
    """Whether TorchServe answers /ping, with any status: a worker that is started again is no reason to stop the others."""
    try:
        loopback.get(port, "/ping", TIMEOUT_S)
    except (OSError, http.client.HTTPException):
        return False
    return True
