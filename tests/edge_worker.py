"""A worker's socket for the edge in a process of its own, whose handler sleeps for as long as it is asked to.

`python -m tests.edge_worker FOLDER HANG_S`
"""

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from visor.serving.worker import EdgeSocket


class Sleeper:
    """Answers with the number of bytes, after the seconds in the header `sleep`."""

    def answer(self, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
        time.sleep(float(headers.get("sleep", "0")))
        return 200, json.dumps({"bytes": len(body)})


@contextlib.contextmanager
def running(folder: Path, hang_s: float) -> Iterator["subprocess.Popen[str]"]:
    """A worker that listens in `folder`, by its process id."""
    command = [sys.executable, "-m", "tests.edge_worker", str(folder), str(hang_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "listening\n"
            yield process
        finally:
            process.kill()


if __name__ == "__main__":
    edge = EdgeSocket(Path(sys.argv[1]), float(sys.argv[2]))
    edge.open(Sleeper())
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    mine, java = socket.socketpair()  # over which TorchServe never says anything
    edge.serve_until(mine)
