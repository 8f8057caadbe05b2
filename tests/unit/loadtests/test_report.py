"""A run's result for people and for programs."""

import csv
import json
import math
from pathlib import Path

import pytest

from loadtests import soak
from loadtests.capacity import Capacity, Step
from loadtests.overload import judge_overload, measure
from loadtests.report import Run, save, to_html, to_json, to_text
from loadtests.samples import Sample
from loadtests.slo import load_slo
from loadtests.verdict import judge

SLO = load_slo()
SAMPLES = [
    *(Sample("grpc", n / 10, n / 10, n / 10 + 0.02) for n in range(50)),
    *(Sample("rest-json", n / 10, n / 10, n / 10 + 0.02, "payload.decision" if n >= 25 else "") for n in range(50)),
]
RUN = Run({"target": "REST <there>"}, SAMPLES, SLO, judge(SAMPLES, SLO))


def test_json_names_every_violation_and_has_no_infinity(tmp_path: Path) -> None:
    save(RUN, tmp_path)
    tree = json.loads((tmp_path / "report.json").read_text())
    assert tree["met"] is False
    assert [(v["where"], v["measure"], v["seen"]) for v in tree["violations"]] == [
        ("rest-json", "p95 ms", None),
        ("rest-json", "p99 ms", None),
        ("rest-json", "error rate", 0.5),
    ]
    assert tree["figures"]["rest-json"]["failures"] == {"payload.decision": 25}
    assert tree["figures"]["all protocols"]["requests"] == 100
    assert tree["slo"]["latency_ms"]["p50"] == SLO.latency_ms.p50


def test_samples_are_kept_as_they_are(tmp_path: Path) -> None:
    save(RUN, tmp_path)
    with (tmp_path / "samples.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 100
    assert float(rows[3]["ended_s"]) == SAMPLES[3].ended_s
    assert rows[-1]["failure"] == "payload.decision"


def test_html_stands_alone_and_escapes_what_it_shows() -> None:
    page = to_html(RUN)
    assert page.count('src="data:image/png;base64,iVBOR') == 3
    assert "http://" not in page
    assert "REST &lt;there&gt;" in page
    assert "rest-json: error rate 0.5 &gt; 0.001" in page
    assert 'class="violated">violated<' in page


def test_text_says_all_that_is_violated() -> None:
    lines = to_text(RUN).splitlines()
    assert "failed: 25 of payload.decision" in lines
    assert "violated: rest-json: p95 ms never > 250" in lines
    assert lines[-1] == "The SLO is violated."
    met = SAMPLES[:50]
    assert to_text(Run({}, met, SLO, judge(met, SLO.model_copy(update={"throughput_per_s": 0})))).endswith("The SLO is met.")


def test_a_late_generator_is_told() -> None:
    late = [Sample("grpc", n / 10, n / 10 + 0.03, n / 10 + 0.05) for n in range(50)]
    assert "note: 1 request in 100 left 30 ms late" in to_text(Run({}, late, SLO, []))
    assert "note:" not in to_text(RUN)


def test_an_overload_is_part_of_each_form() -> None:
    figures = measure(SAMPLES, capacity_per_s=20.0, overload_s=5.0, slo=SLO)
    run = Run({}, SAMPLES, SLO, judge_overload(figures, SLO), figures)
    assert figures.goodput == 0.75  # 75 right answers in 5 s, of 20 a second
    assert to_json(run)["overload"]["goodput"] == 0.75
    assert "violated: overload: goodput of capacity 0.75 < 0.9" in to_text(run)
    assert "0.75 of the capacity" in to_html(run)


def test_a_capacity_is_part_of_each_form() -> None:
    steps = (Step(80.0, (), 79.0, 310.0, 0.02, 0.003), Step(120.0, ("grpc: p99 ms 900 > 500",), 95.0, math.inf, 0.02, 0.003))
    run = Run({}, SAMPLES[:50], SLO, [], capacity=Capacity(80.0, steps, 2))
    tree = to_json(run)["capacity"]
    assert (tree["per_s"], tree["steps"][1]["p99_ms"]) == (80.0, None)
    assert tree["busy"] == pytest.approx(79 * 0.023 / 2)
    text = to_text(run)
    assert "80.0 requests/s within the SLO, of 2 rates that were tried" in text
    assert "server 20.0 ms, client 3.0 ms" in text
    assert "0.91 of 2 cores" in text
    assert "grpc: p99 ms 900 &gt; 500" in to_html(run)


def test_a_soak_is_part_of_each_form() -> None:
    memory = [(float(n), (100 + n) << 20) for n in range(5)]
    figures = soak.measure(SAMPLES[:50], memory, 10.0, 5.0)
    run = Run({}, SAMPLES[:50], SLO, soak.judge_soak(figures), soak=figures)
    assert to_json(run)["soak"]["memory"][1] == [1.0, 101 << 20]
    assert "100 MiB at first, 104 at last" in to_text(run)
    assert to_html(run).count('src="data:image/png;base64,iVBOR') == 4
    blind = Run({}, SAMPLES[:50], SLO, [], soak=soak.measure(SAMPLES[:50], [], 10.0, 5.0))
    assert "note: memory is not judged" in to_text(blind)


def test_less_than_the_bound_is_said_and_not_judged() -> None:
    """Five requests a second, all answered right, where the SLO asks for ten answers."""
    samples = [Sample("grpc", n / 5, n / 5, n / 5 + 0.02) for n in range(50)]
    for offered, violated in ((5.0, False), (10.0, False), (10.1, True), (None, True)):
        run = Run({}, samples, SLO, judge(samples, SLO, offered), offered_per_s=offered)
        assert [violation.measure for violation in run.violations] == ["throughput per s"] * violated
        assert any(note.startswith("throughput is not judged") for note in run.notes) is not violated
    run = Run({}, samples, SLO, judge(samples, SLO, 5.0), offered_per_s=5.0)
    note = "throughput is not judged: 5 requests a second were offered, no more than the bound of 10"
    assert to_json(run)["notes"] == [note]
    assert note in to_html(run)
    assert f"note: {note}\nThe SLO is met." in to_text(run)
