"""How the process gets and gives back the memory of large bodies."""

import ctypes

M_MMAP_THRESHOLD = -3  # of malloc.h
LARGE_BYTES = 1 << 20


def return_large_buffers() -> None:
    """Have glibc map what is large on its own, so that it goes back to the system when it is freed.

    By default glibc takes larger and larger buffers from its heaps once one was freed, and keeps them: after 64 MB bodies from
    eight clients at once the edge held 50 to 130 MB more, for good or for minutes. Without glibc nothing is changed.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
