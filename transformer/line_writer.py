"""A writer of lines with a thread of its own, so that a slow reader, or none, does not hold up the event loop.

A pipe without a reader takes 64 KiB, and then a write to it blocks, which in an event loop would be the end of all answers.
"""

import os
import threading
from collections import deque

PAUSE_S = 0.1  # between two writes, each of all lines that came meanwhile
MAX_LINES = 10_000  # about 4 MB
CLOSE_S = 1.0


class LineWriter:
    """A file to a logger. Lines that come while it is full are lost, and it logs their number once there is room again."""

    def __init__(self, descriptor: int, max_lines: int = MAX_LINES) -> None:
        self._descriptor = descriptor
        self._max_lines = max_lines
        self._lines: deque[bytes] = deque()
        self._lost = 0
        self._closing = threading.Event()
        # A daemon: a write that blocks for ever does not keep the process.
        self._thread = threading.Thread(target=self._run, name="lines", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> int:
        """Take a line, which the thread writes soon."""
        if len(self._lines) < self._max_lines:
            self._lines.append(line)
        else:
            self._lost += 1
        return len(line)

    def flush(self) -> None:
        """Do nothing: the thread writes all lines soon."""

    def close(self) -> None:
        """Write the lines that are left, unless the reader does not take them."""
        self._closing.set()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while not self._closing.wait(PAUSE_S):
            self._write_out()
        self._write_out()

    def _write_out(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        lost, self._lost = self._lost, 0
        if lost:
            lines.append(b'{"event":"lines of the request log were lost","level":"warning","count":%d}\n' % lost)
        data = memoryview(b"".join(lines))
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            return  # the reader has gone
