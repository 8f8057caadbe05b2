"""A process and all that it started: its CPU time, its memory, its end."""

import subprocess
from collections.abc import Sequence
from contextlib import suppress

import psutil

from loadtests.processes import spent_seconds as cpu_seconds
from loadtests.processes import tree

__all__ = ["cpu_seconds", "memory_bytes", "stop", "tree"]

STOP_TIMEOUT_S, KILL_TIMEOUT_S = 30.0, 10.0


def memory_bytes(processes: Sequence[psutil.Process]) -> int:
    """Memory of processes: pages that several share are counted once, divided among them (PSS)."""
    total = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a server by SIGTERM, and after STOP_TIMEOUT_S by SIGKILL, it and what is left of its tree."""
    started = tree(process.pid)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT_S)
    for left in started:
        with suppress(psutil.NoSuchProcess):  # psutil knows a process by its start too, so a pid that is another's now is safe
            left.kill()
    process.wait()
    for pipe in filter(None, (process.stdin, process.stdout)):
        pipe.close()
    psutil.wait_procs(started, KILL_TIMEOUT_S)
