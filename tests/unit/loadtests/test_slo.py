"""The SLO's file: read whole, and refused with each wrong key by name."""

from pathlib import Path

import pytest

from loadtests.errors import SloInvalid
from loadtests.slo import load_slo

TEXT = """
latency_ms: {p50: 10, p95: 20, p99: 30.5}
error_rate: 0.01
throughput_per_s: 5
overload: {goodput: 0.9, refused_p99_ms: 50, recovery_s: 5}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "slo.yaml"
    path.write_text(text)
    return path


def test_the_file_is_read_with_its_units(tmp_path: Path) -> None:
    slo = load_slo(write(tmp_path, TEXT))
    assert (slo.latency_ms.p50, slo.latency_ms.p95, slo.latency_ms.p99) == (10, 20, 30.5)
    assert (slo.error_rate, slo.throughput_per_s) == (0.01, 5)
    assert (slo.overload.goodput, slo.overload.refused_p99_ms, slo.overload.recovery_s) == (0.9, 50, 5)


def test_the_projects_own_file_is_valid() -> None:
    assert load_slo().latency_ms.p50 > 0


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("p99: 30.5", "p99: 30.5, p75: 15", ["latency_ms.p75: no such key"]),
        ("p99: 30.5", "p99: 15", ["latency_ms", "p50 10 ≤ p95 20 ≤ p99 15 does not hold"]),
        ("p50: 10, ", "", ["latency_ms.p50: Field required"]),
        ("p50: 10", "p50: '10'", ["latency_ms.p50"]),
        ("p50: 10", "p50: .nan", ["latency_ms.p50"]),
        ("error_rate: 0.01", "error_rate: 1", ["error_rate"]),
        ("throughput_per_s: 5\n", "throughput: 5\n", ["throughput: no such key", "throughput_per_s: Field required"]),
        ("overload:", "surge:", ["surge: no such key", "overload: Field required"]),
    ],
)
def test_wrong_keys_and_values_are_named(tmp_path: Path, old: str, new: str, named: list[str]) -> None:
    with pytest.raises(SloInvalid, match=r"^loadtest\.slo: ") as caught:
        load_slo(write(tmp_path, TEXT.replace(old, new)))
    assert all(name in str(caught.value) for name in named), str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SloInvalid, match=r"nothing\.yaml"):
        load_slo(tmp_path / "nothing.yaml")
