"""Start `edge_process` and read where it listens."""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any


def begin(*arguments: str, within: Sequence[str] = (), **how: Any) -> tuple["subprocess.Popen[bytes]", tuple[int, int, int]]:
    """Start it; the process, and the edge's pid, HTTP and gRPC port. `within`: a command before its own; `how`: as of Popen."""
    process = subprocess.Popen(
        [*within, sys.executable, "-m", "tests.integration.transformer.edge_process", *arguments],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        **how,
    )
    assert process.stdout is not None
    pid, http, grpc = map(int, process.stdout.readline().split())
    return process, (pid, http, grpc)
