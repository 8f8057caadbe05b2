"""The allocator's settings: the memory of large bodies goes back to the system when it is freed."""

import asyncio
import ctypes
from collections.abc import Callable

M_MMAP_THRESHOLD = -3
"""The parameter's number in malloc.h."""

LARGE_BYTES = 1 << 20
"""Buffers of this size and above are mapped on their own."""

TRIM_BYTES = 32 << 20
"""Bytes given back after which the heaps are looked at: smaller pieces of large requests stay there."""

TRIM_AFTER_S = 1.0


class Trimmer:
    """Has the C library give free pages of its heaps back, some time after much was freed; never more often than that."""

    def __init__(self) -> None:
        self._freed = 0
        self._timer: asyncio.TimerHandle | None = None
        self._trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)

    def note(self, freed: int) -> None:
        """Note that this many bytes were freed."""
        self._freed += freed
        if self._freed >= TRIM_BYTES and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TRIM_AFTER_S, self._run)

    def _run(self) -> None:
        self._freed, self._timer = 0, None
        if self._trim is not None:
            asyncio.get_running_loop().run_in_executor(None, self._trim, 0)  # ctypes lets others run meanwhile


def return_large_buffers() -> None:
    """Have glibc map each large buffer on its own, so that it goes back to the system when it is freed.

    By default glibc takes larger and larger buffers from its heaps once one was freed, and keeps them: after 64 MB bodies from
    eight clients at once the edge held 50 to 130 MB more, for good or for minutes. With another C library nothing changes.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
