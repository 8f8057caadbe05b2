"""HEICs with changed bytes are answered or refused, quickly and in little memory, and end no process."""

import json
import subprocess
import sys
from pathlib import Path

from tests.volume import SOAK

PROBE = Path(__file__).with_name("heic_probe.py")
SMALL = ("plain", "plain-420", "grey", "clear", "ten-bits", "exif", "display-p3", "two", "tile")
COUNT = 60_000 if SOAK else 3_000
PEAK_MIB, SECONDS = 64, 5.0


def test_changed_bytes_end_no_process(tmp_path: Path) -> None:
    for name in SMALL:
        (tmp_path / f"{name}.heic").write_bytes((Path(__file__).parents[2] / f"heic/{name}.heic").read_bytes())
    done = subprocess.run([sys.executable, PROBE, tmp_path, "2", str(COUNT)], capture_output=True, text=True, check=False)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, len(results)) == (0, len(SMALL) + COUNT), done.stderr[-500:]
    assert [result["name"] for result in results[: len(SMALL)] if result["error"]] == []
    changed = results[len(SMALL) :]
    assert {result["error"].split()[0] for result in changed if result["error"]} <= {
        "ImageUndecodable",
        "ImageUnsupported",
        "ImageTooLarge",
        "ImageEmpty",
    }
    assert sum(result["error"] is None for result in changed) > COUNT / 20  # so that the decoder was asked, too
    assert max(result["peak_mib"] for result in results) < PEAK_MIB
    assert max(result["seconds"] for result in results) < SECONDS
