"""The allocator's settings: the memory of large requests goes back to the system once it is freed."""

import asyncio
import ctypes

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
"""The parameters' numbers in malloc.h."""

LARGE_BYTES = 1 << 20
"""Buffers of this size and above are mapped on their own."""

TRIM_EVERY_S = 1.0


def return_large_buffers() -> None:
    """Have glibc map each large buffer on its own, so that it goes back when it is freed, and all threads share one heap.

    By default glibc takes larger and larger buffers from its heaps once one was freed, and keeps them: after 64 MB bodies from
    eight clients at once the edge held 50 to 130 MB more, for good or for minutes. Of a heap for each thread some MB stay in
    each. With another C library nothing changes.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
        mallopt(M_ARENA_MAX, 1)


async def return_free_pages() -> None:
    """Have glibc give free pages within its heap back, every TRIM_EVERY_S and without an end; nothing with another C library.

    Whatever has freed them: gRPC's core has buffers of its own for what it refuses, of which the edge kept 70 MiB until the next
    large request. Where little is free it takes 0.1 to 0.4 ms of a thread.
    """
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        while True:
            await asyncio.sleep(TRIM_EVERY_S)
            await asyncio.to_thread(trim, 0)  # ctypes lets others run meanwhile
