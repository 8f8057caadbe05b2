"""In a process of its own, as it changes the whole of one."""

import subprocess
import sys

PROGRAM = """
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


def test_a_large_buffer_goes_back_when_it_is_freed() -> None:
    returned = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    assert int(returned) >= 35  # of nine times 4 MiB
