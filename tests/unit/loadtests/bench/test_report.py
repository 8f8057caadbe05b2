"""A run's table, JSON and pictures, of figures made by hand."""

import io
import json
from pathlib import Path

from PIL import Image

from loadtests.bench.figures import Load, Round
from loadtests.bench.growth import curve, until_failure
from loadtests.bench.report import Results, save, to_json, to_markdown

BARE = [
    Round(p50_ms=10.0, p95_ms=11.0, p99_ms=12.0, throughput_per_s=180.0, cpu_s_per_request=0.011, memory_mb=100.0, start_s=1.0),
    Round(p50_ms=9.0, p95_ms=13.0, p99_ms=15.0, throughput_per_s=200.0, cpu_s_per_request=0.010, memory_mb=101.0, start_s=0.9),
]
VISOR = [
    Round(11.0, 12.0, 13.0, 11.5, 14.0, 16.0, 190.0, 0.0105, 320.0, 4.0),
    Round(11.5, 12.0, 12.5, 11.0, 15.0, 17.0, 185.0, 0.0104, 322.0, 4.2, failures=2),
]
RESULTS = Results(
    settings={"network": "resnet18"},
    machine={"cpu": "a CPU"},
    rounds={"bare": BARE, "visor, V2 binary": VISOR},
    failed={"kserve, V2 binary": "Refused: 500"},
    curves=[curve("visor, V2 binary", "images", [(1, 1, Load([0.01], 0.01)), (4, 4, Load([0.02, 0.02], 0.04))])],
)


def cells(markdown: str, row: str) -> list[str]:
    (line,) = [line for line in markdown.splitlines() if line.startswith(f"| {row} |")][:1]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_has_the_best_of_each_figure_and_its_ratio_to_bare() -> None:
    markdown = to_markdown(RESULTS)
    head = cells(markdown, "server")
    visor = dict(zip(head, cells(markdown, "visor, V2 binary"), strict=True))
    assert (visor["p50 ms"], visor["p99 ms"], visor["images/s"]) == ("11.00", "12.50", "190.0")
    assert (visor["CPU ms/image"], visor["open p50 ms"], visor["failures"]) == ("10.4", "11.0", "2")
    assert (visor["throughput / bare"], visor["p50 - bare ms"]) == ("0.95", "2.00")
    bare = dict(zip(head, cells(markdown, "bare"), strict=True))
    assert (bare["p50 ms"], bare["open p50 ms"], bare["throughput / bare"]) == ("9.00", "", "1.00")


def test_what_failed_is_said_with_its_reason() -> None:
    assert "kserve, V2 binary has no figures: Refused: 500" in to_markdown(RESULTS)
    assert json.loads(to_json(RESULTS))["failed"] == {"kserve, V2 binary": "Refused: 500"}


def test_growth_counts_images_and_not_requests() -> None:
    assert "| visor, V2 binary | 10.0 (100.0) | 20.0 (200.0) |" in to_markdown(RESULTS)


def test_a_curve_ends_before_the_first_failure() -> None:
    good, bad = Load([0.1], 1.0), Load([0.1], 1.0, failures=1)
    assert [x for x, _, _ in until_failure([(1, 1, good), (2, 1, good), (4, 1, bad), (8, 1, good)])] == [1, 2]
    assert until_failure([(1, 1, Load([], 1.0))]) == []


def test_json_has_every_round() -> None:
    rows = json.loads(to_json(RESULTS))["rows"]
    assert [one["p50_ms"] for one in rows["bare"]["rounds"]] == [10.0, 9.0]
    assert rows["bare"]["best"]["p50_ms"] == 9.0


def test_everything_is_saved(tmp_path: Path) -> None:
    save(RESULTS, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"results.json", "results.md", "latency.png", "cost.png", "growth-images.png"}
    for name in names:
        if name.endswith(".png"):
            image = Image.open(io.BytesIO((tmp_path / "out" / name).read_bytes()))
            assert min(image.size) > 100
            assert len(set(image.convert("L").get_flattened_data())) > 10  # something is drawn
