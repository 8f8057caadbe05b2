"""`visor compare` and `visor promote` of a trained, archived run: the figures are the evaluation's, the latency is measured."""

import json
from pathlib import Path

import pytest

from tests.integration.running import Workspace


def test_a_run_is_compared_and_promoted(own: Workspace, archive: Path, tmp_path: Path) -> None:
    bounds = ["--max-latency-ms", "10000"]
    said = own.ok("compare", "runs/digits", *bounds, "--out", str(tmp_path))
    assert "That is runs/digits." in said
    [run] = json.loads((tmp_path / "compare.json").read_text())["runs"]
    measured = json.loads((own.home / "digits/metrics.json").read_text())
    figures = {name: figure["value"] for name, figure in run["figures"].items()}
    assert figures["fnr"] is None  # no label of digits is the bad one
    assert figures == pytest.approx(
        {
            "accuracy": measured["accuracy"],
            "macro_f1": measured["macro"]["f1"],
            "fnr": None,
            "ece": measured["calibration"]["ece_after"],
            "expected_cost": measured["decision"]["expected_cost_with_review"],
        },
        abs=2e-6,
    )
    assert run["archive"]["bytes"] == archive.stat().st_size
    latencies = run["archive"]["latency_ms"]
    assert list(latencies) == [run["archive"]["backend"]] == [run["backend"]]
    assert all(latency > 0 for latency in latencies.values())

    assert own.visor("promote", "digits", "--max-latency-ms", "0.0001").returncode == 1
    assert "is the champion now: there is no champion" in own.ok("promote", "digits", *bounds)
    said = own.ok("compare", "runs/digits", "--no-archives")
    assert "runs/digits (champion, chosen)" in said
