"""An edge that stood still, as it does with its machine: what was sent meanwhile is there at once, and all of it is answered."""

import os
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.integration.transformer.edges import begin

REQUEST = (
    b"POST /v2/models/roofs/infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    b"Content-Type: image/png\r\nContent-Length: 1\r\n\r\nx"
)
INFER_S = 0.02  # of each of two workers: 40 images in 0.4 s, so that 64 may wait, and two are with each worker
CLIENTS = 120
STOP_S = 1.2  # of which a second counts: 140 may wait


@pytest.fixture
def edge() -> Iterator[tuple[int, int]]:
    """A running edge's process and port."""
    process, (pid, port, _) = begin(str(INFER_S), stderr=subprocess.DEVNULL)
    try:
        yield pid, port
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.communicate(timeout=30)


def ask(pid: int, port: int, count: int, stop_s: float = 0.0) -> Counter[str]:
    """Ask as so many clients at once, of an edge that is stopped for so long meanwhile; how many answers have each status."""
    with ExitStack() as stack:
        if stop_s:
            os.kill(pid, signal.SIGSTOP)
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 30)) for _ in range(count)]
        for client in clients:
            client.sendall(REQUEST)
        time.sleep(stop_s)
        os.kill(pid, signal.SIGCONT)
        return Counter(client.makefile("rb").readline().split()[1].decode() for client in clients)


def test_what_came_while_the_edge_stood_still_is_answered(edge: tuple[int, int]) -> None:
    assert ask(*edge, 20) == {"200": 20}  # what an image takes is known
    refused = ask(*edge, 2 * CLIENTS)["503"]
    assert refused >= CLIENTS / 2, "so many at once are too many where nobody stood still"
    assert ask(*edge, CLIENTS, STOP_S) == {"200": CLIENTS}
