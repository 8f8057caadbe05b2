"""A writer of lines with a thread of its own, so that a slow reader, or none, does not hold up the event loop.

A pipe without a reader takes 64 KiB, and then a write to it blocks, which in an event loop would be the end of all answers.
"""

import atexit
import os
import threading
import time
from collections import deque
from functools import cache

PAUSE_S = 0.1  # between two writes, each of all lines that came meanwhile
MAX_LINES = 10_000  # about 4 MB
CLOSE_S = 1.0
STANDARD_ERROR = 2  # its descriptor


@cache
def standard_error() -> "LineWriter":
    """The process's one writer to standard error; what it has taken is written before the process ends, if anybody reads it."""
    writer = LineWriter(STANDARD_ERROR)
    atexit.register(writer.close)
    return writer


class LineWriter:
    """A file to a logger. Lines that come while it is full are lost, and it logs their number once there is room again.

    `lost`: all that were lost since the start.
    """

    def __init__(self, descriptor: int, max_lines: int = MAX_LINES) -> None:
        self._descriptor = descriptor
        self._max_lines = max_lines
        self._lines: deque[bytes] = deque()
        self.lost = self._told = 0
        self._writing = False
        self._closing = threading.Event()
        # A daemon: a write that blocks for ever does not keep the process.
        self._thread = threading.Thread(target=self._run, name="lines", daemon=True)
        self._thread.start()

    def write(self, line: bytes | str) -> int:
        """Take a line, which the thread writes soon."""
        if len(self._lines) < self._max_lines:
            self._lines.append(line.encode(errors="backslashreplace") if isinstance(line, str) else line)
        else:
            self.lost += 1
        return len(line)

    def flush(self) -> None:
        """Do nothing: the thread writes all lines soon."""

    def drain(self) -> None:
        """Wait until all lines are written, unless the reader does not take them."""
        deadline = time.monotonic() + CLOSE_S
        while (self._lines or self._writing) and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(PAUSE_S / 10)

    def close(self) -> None:
        """Write the lines that are left, unless the reader does not take them."""
        self._closing.set()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while not self._closing.wait(PAUSE_S):
            self._write_out()
        self._write_out()

    def _write_out(self) -> None:
        self._writing = True
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        lost, self._told = self.lost - self._told, self.lost
        if lost:
            lines.append(b'{"event":"lines of the log were lost","level":"warning","count":%d}\n' % lost)
        data = memoryview(b"".join(lines))
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            pass  # the reader has gone
        self._writing = False
