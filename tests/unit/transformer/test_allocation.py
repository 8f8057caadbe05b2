"""In processes of their own, as it changes the whole of one."""

import subprocess
import sys

from transformer.allocation import TRIM_EVERY_S

LARGE = """
from psutil import Process
from transformer.allocation import return_large_buffers
return_large_buffers()
b = bytearray(b"x") * (20 << 20)  # its return would raise glibc's own threshold to 20 MiB
del b
kept = [bytearray(b"x") * (4 << 20) for _ in range(10)]
before = Process().memory_info().rss
del kept[:-1]  # the last one is on top of a heap, if they are in one, and none below it could go
print((before - Process().memory_info().rss) >> 20)
"""

SMALL = f"""
import asyncio
from psutil import Process
from transformer.allocation import return_free_pages
async def main():
    pieces = [bytearray(b"x") * 1000 for _ in range(40_000)]
    kept = pieces[99::100]
    del pieces
    before = Process().memory_info().rss
    trimming = asyncio.create_task(return_free_pages())
    await asyncio.sleep({TRIM_EVERY_S} + 1)
    print((before - Process().memory_info().rss) >> 20)
    assert len(kept) == 400
    trimming.cancel()
asyncio.run(main())
"""

THREADS = """
import ctypes
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from transformer.allocation import return_large_buffers
return_large_buffers()
together = Barrier(8)
def fill(_):
    together.wait()
    return [bytearray(1000) for _ in range(1000)]
with ThreadPoolExecutor(8) as pool:
    kept = list(pool.map(fill, range(8)))
    libc = ctypes.CDLL(None)
    libc.fdopen.restype = ctypes.c_void_p
    libc.malloc_info(0, ctypes.c_void_p(libc.fdopen(1, b"w")))
    libc.fflush(None)
"""


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_a_large_buffer_goes_back_when_it_is_freed() -> None:
    assert int(run(LARGE)) >= 35  # of nine times 4 MiB


def test_what_is_free_between_pieces_goes_back_soon() -> None:
    assert int(run(SMALL)) >= 30  # of 38 MiB, whose pages with the 400 that stay are 1.6


def test_threads_share_one_heap() -> None:
    assert run(THREADS).count("<heap nr=") == 1
