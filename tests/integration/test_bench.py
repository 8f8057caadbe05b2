"""The bench, quickly: the bare loop and visor in each of its protocols, on a small archive."""

import json
import os
import re
from pathlib import Path

import psutil
import pytest

from loadtests.bench import backends, console, path, shadow
from loadtests.bench.__main__ import main
from tests.integration.running import Workspace


def test_visor_is_measured_beside_the_bare_loop(
    workspace: Workspace, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    flags = ["--archive", str(archive), "--public-key", str(workspace.public_key), "--out", str(tmp_path), "--workers", "1"]
    assert main(["--quick", "--servers", "visor", *flags]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results["rows"]) == {"bare", "visor, V2 binary", "visor, V2 JSON", "visor, V2 gRPC"}
    assert results["failed"] == {}
    for row in results["rows"].values():
        best = row["best"]
        assert best["failures"] == 0
        assert 0 < best["p50_ms"] <= best["p95_ms"] <= best["p99_ms"]
        assert min(best["throughput_per_s"], best["cpu_s_per_request"], best["memory_mb"], best["start_s"]) > 0
    assert "| visor, V2 gRPC |" in capsys.readouterr().out
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before


def test_the_path_of_one_request_is_taken_apart(workspace: Workspace, archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    assert path.main(["--archive", str(archive), "--public-key", str(workspace.public_key), "--count", "20"]) == 0
    printed = capsys.readouterr().out
    ways, stages = ({row[0]: [float(cell) for cell in row[1:]] for row in table_of(part)} for part in printed.split("\n\n")[:2])
    assert {path.BARE, path.WORKER, path.TORCHSERVE, path.STARLETTE, path.EXPLAINED, "V2 binary", "V2 gRPC"} <= ways.keys()
    assert all(0 < low <= middle <= high for low, middle, high in ways.values())
    assert stages.keys() == {name for name, _, _ in path.STAGES}
    low, binary = stages["all of V2 binary over the bare loop"][1], ways["V2 binary"][0]
    assert low == pytest.approx(binary - ways[path.BARE][0], abs=0.011)  # each was rounded to 0.01
    assert "costs" in printed.splitlines()[-1]
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before


def test_backends_are_measured_beside_eager_torch(
    workspace: Workspace, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert backends.main(["--archive", str(archive), "--public-key", str(workspace.public_key), "--rounds", "2"]) == 0
    head, table, machine = capsys.readouterr().out.split("\n\n")
    assert head.startswith("digits, JPEGs of ")
    rows = {row[0]: [float(cell) for cell in row[1:]] for row in table_of(table)}
    assert {backends.EAGER, backends.AS_BUILT, "torch", "openvino-int8"} == rows.keys()  # what the archive has
    eager = rows[backends.EAGER][0]
    for milliseconds, times in rows.values():
        rounding = 0.005 * (1 + (1 + eager / milliseconds) / milliseconds)  # of each of the three figures to 0.01
        assert times == pytest.approx(eager / milliseconds, abs=1.1 * rounding)
    assert "openvino" in machine
    assert backends.main(["--archive", str(archive), "--public-key", str(archive)]) == 2
    assert "backends: " in capsys.readouterr().err


def test_a_shadow_is_measured_by_pairs_of_turns(workspace: Workspace, archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, cpus = {process.pid for process in psutil.Process().children(recursive=True)}, os.sched_getaffinity(0)
    flags = ["--archive", str(archive), "--public-key", str(workspace.public_key), "--load", "0.3"]
    assert shadow.main([*flags, "--rounds", "2", "--turn-s", "1", "--percent", "50"]) == 0
    head, table, images, _ = capsys.readouterr().out.split("\n\n")
    assert "30% of one worker's capacity, 2 rounds" in head
    rows = {row[0]: row[1:] for row in table_of(table)}
    assert rows.keys() == {"p50, ms", "CPU a request, ms"}
    assert all(float(cell) > 0 for row in rows.values() for cell in row[:3])
    assert "agreed" in images
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before
    assert os.sched_getaffinity(0) == cpus


def test_the_console_is_measured_beside_the_bare_call(
    workspace: Workspace, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    flags = ["--archive", str(archive), "--public-key", str(workspace.public_key)]
    assert console.main([*flags, "--rounds", "2", "--turn-s", "0.5"]) in (0, 1)  # a machine that does other work is not timed
    head, table, bars, machine = capsys.readouterr().out.split("\n\n")
    assert "2 rounds" in head
    rows = {row[0]: [float(cell) for cell in row[1:]] for row in table_of(table)}
    assert rows.keys() == {"1", "8"}
    assert all(bare > 0 and more > 0 for bare, more, _, *_ in rows.values())
    assert bars.startswith("Bars: ")
    assert "fastapi" in machine
    assert console.main([*flags, "--soak-s", "8"]) in (
        0,
        1,
    )  # in seconds caches still fill: whether memory grows is for half an hour
    said = re.fullmatch(
        r"(\d+) requests at 10/s in 8 s, 0 failed; memory \d+ MiB at first, \d+ at last, \S+ MiB/min .*", soaked(capsys)
    )
    assert said is not None
    assert 50 <= int(said[1]) <= 110  # Poisson's 80, within 3.3 of its standard deviations
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before


def soaked(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.splitlines()[0]


def table_of(markdown: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines()[2:]]
