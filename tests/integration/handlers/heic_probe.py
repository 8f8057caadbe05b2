"""Decodes HEICs with changed bytes under a memory limit of its own: `python heic_probe.py FOLDER SEED COUNT`.

Each line of the output is what one of them came to: {"name", "seconds", "peak_mib", "error"}, "error" being null where it was
decoded. A file that ends the process ends it in here.
"""

import json
import random
import resource
import sys
import time
from pathlib import Path

from handlers.decode import decode
from handlers.spec import Limits, Preprocessing

LIMIT = 1 << 30
"""Bytes that the files may take beside what Python and its libraries have taken by then."""
VIEW = Preprocessing(height=32, width=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def status(name: str) -> int:
    """A value of this process's /proc status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def changed(data: bytes, draw: random.Random) -> bytes:
    """Up to eight bytes become others, most of them in the boxes; a file in four is cut, too."""
    found = bytearray(data)
    for _ in range(draw.randint(1, 8)):
        at = draw.randrange(len(found) if draw.random() < 0.4 else min(len(found), 700))
        found[at] = draw.choice((0, 1, 127, 128, 255, draw.randrange(256), found[at] ^ 1 << draw.randrange(8)))
    return bytes(found[: draw.randrange(len(found))] if draw.random() < 0.25 else found)


def attempt(name: str, data: bytes) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    before, start = status("VmRSS"), time.perf_counter()
    error = None
    try:
        decode(data, VIEW, Limits(), alone=True)
    except Exception as err:
        error = f"{type(err).__name__} {err}"
    peak = (status("VmHWM") - before) / (1 << 20)
    line = {"name": name, "seconds": time.perf_counter() - start, "peak_mib": peak, "error": error}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    files = {path.name: path.read_bytes() for path in sorted(Path(sys.argv[1]).glob("*.heic"))}
    most = status("VmSize") + LIMIT
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for whole, content in files.items():
        attempt(whole, content)
    chance = random.Random(int(sys.argv[2]))
    for _ in range(int(sys.argv[3])):
        chosen = chance.choice(sorted(files))
        attempt(f"{chosen}, changed", changed(files[chosen], chance))
