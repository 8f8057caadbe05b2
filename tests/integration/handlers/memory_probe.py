"""Decodes pictures under a memory limit of its own and says what each of them took: `python memory_probe.py FOLDER`.

The folder holds `cases.json`, a list of {"file" or "pixels": [height, width], "side", "fit"?, "resize"?, "alone"?}; each line of
the output is one case's {"peak_mib", "seconds", "limit", "error" or "digest"}. A picture that takes too much fails in here and
harms nothing else.
"""

import hashlib
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from handlers.decode import decode, from_pixels
from handlers.spec import Limits, Preprocessing

LIMIT = 1 << 30
"""Bytes that the pictures may take beside what Python and its libraries have taken by then."""


def status(name: str) -> int:
    """A value of this process's /proc status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def measure(folder: Path, case: dict[str, Any]) -> dict[str, Any]:
    how = {name: case[name] for name in ("fit", "resize", "interpolation") if name in case}
    side = case["side"]
    preprocessing = Preprocessing(height=side, width=side, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), **how)
    # The picture itself has come with the request, and is the edge's to bound.
    data = (folder / case["file"]).read_bytes() if "file" in case else b""
    pixels = np.ones((*case["pixels"], 3), np.uint8) if "pixels" in case else None
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    before, start = status("VmRSS"), time.perf_counter()
    try:
        result = (
            decode(data, preprocessing, Limits(), case.get("alone", False))
            if pixels is None
            else from_pixels(pixels, preprocessing, Limits())
        )
        found = {"digest": hashlib.sha256(result.tobytes()).hexdigest()}
    except Exception as err:
        found = {"error": f"{type(err).__name__} {err}"}
    limit = resource.getrlimit(resource.RLIMIT_DATA)
    return {"limit": limit, "peak_mib": (status("VmHWM") - before) / (1 << 20), "seconds": time.perf_counter() - start, **found}


if __name__ == "__main__":
    where = Path(sys.argv[1])
    most = status("VmSize") + LIMIT
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for one in json.loads((where / "cases.json").read_text()):
        sys.stdout.write(json.dumps(measure(where, one)) + "\n")
        sys.stdout.flush()
