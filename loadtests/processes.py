"""What a server's processes on this machine use, from its first process: CPU time, and memory over a run."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import psutil

EVERY_S = 2.0


def tree(pid: int) -> list[psutil.Process]:
    """List the process and its descendants that live now; none where it has ended or may not be looked at."""
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    return []


def spent_seconds(processes: Sequence[psutil.Process]) -> float:
    """Sum up user and system time of processes up to now, with that of children that they have waited for."""
    total = 0.0
    for process in processes:
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def cpu_seconds(pid: int) -> float:
    """Sum up the CPU time of a tree up to now."""
    return spent_seconds(tree(pid))


def own_cpu_seconds() -> float:
    """Return this process' own CPU time up to now."""
    return time.process_time()


def resident_bytes(pid: int) -> int:
    """Sum up the resident memory of a tree; pages that several processes share count in each."""
    total = 0
    for process in tree(pid):
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def cores() -> int:
    """Count the CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def memory_watched(pid: int | None, now: Callable[[], float]) -> Iterator[list[tuple[float, int]]]:
    """Note a tree's memory every EVERY_S until the block's end, as (seconds by `now`, bytes); nothing without a process."""
    import gevent  # of locust's users: bench has asyncio's

    noted: list[tuple[float, int]] = []

    def note() -> None:
        while True:
            if size := resident_bytes(pid or 0):
                noted.append((now(), size))
            gevent.sleep(EVERY_S)

    greenlet = gevent.spawn(note) if pid else None
    try:
        yield noted
    finally:
        if greenlet:
            greenlet.kill()
