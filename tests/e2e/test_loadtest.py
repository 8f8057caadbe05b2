"""The load test as a user starts it, against a release behind the cluster's gateway."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.cluster import ROOT
from tests.e2e.releases import Archives, Release

# The node's two cores hold the cluster, the release and the load, so that its latencies say nothing of a real one; what is
# tried is that every answer comes through the gateway whole, by the routes' host names.
SLO = """
latency_ms: {p50: 2000, p95: 5000, p99: 10000}
error_rate: 0
throughput_per_s: 5
overload: {goodput: 0.9, refused_p99_ms: 50, recovery_s: 5}
"""


@pytest.mark.parametrize(
    "loop", [["--rate", "8", "--arrivals", "even"], ["--loop", "closed", "--users", "3"]], ids=["open", "closed"]
)
def test_a_release_answers_a_load_through_the_gateway(
    release: Release, archives: Archives, loop: list[str], tmp_path: Path
) -> None:
    (tmp_path / "slo.yaml").write_text(SLO)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/digit.png").write_bytes(archives.picture)
    target = release.target
    where = ["--url", f"http://{target.address}", "--grpc", target.address, "--host-header", target.host]
    files = ["--pictures", str(tmp_path / "pictures"), "--slo", str(tmp_path / "slo.yaml"), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "loadtests", *where, *files, *loop, "--duration", "10"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tree = json.loads((tmp_path / "out/report.json").read_text())
    assert tree["settings"]["model"] == target.model  # asked of the release's own index
    figures = tree["figures"]
    assert {name for name, own in figures.items() if own["requests"]} == {"grpc", "rest-binary", "rest-json", "all protocols"}
    assert figures["all protocols"]["failures"] == {}
