"""Every alert of the chart, as helm renders it, fires when it has to and is silent else: judged by Prometheus's own promtool.

`make alerts-test` runs these alone. Where there is no promtool they are left out, but in CI, which has it (`make prometheus`).
"""

import json
import math
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.alert_cases import CANARY, CASES, IDLE, UP, Case, drifted
from tests.charts.checks import ROOT
from tests.charts.visor_values import REQUIRED
from tools.watch import parts_of
from watch import queries as q
from watch.alerts import ALERTS, group
from watch.boards import DRIFT

PROMTOOL = shutil.which("promtool")
ON = [*REQUIRED, "--set", "alerts.enabled=true"]
KNOWN = sorted({alert.name for alert in ALERTS})
WHERE = {"namespace": "ns", "release": "roofs"}

pytestmark = pytest.mark.skipif(
    PROMTOOL is None and not os.environ.get("CI"), reason="no promtool; `make prometheus` installs it"
)


def rules(render: Any, *args: str) -> Any:
    """The rules of the release `roofs` in `ns`."""
    [spec] = [item["spec"] for item in render(*ON, *args) if item["kind"] == "PrometheusRule"]
    return spec


def sets(*values: str) -> list[str]:
    """Values as helm's arguments."""
    return [part for value in values for part in ("--set", value)]


def promtool(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL, "CI has promtool: `make prometheus`"
    return subprocess.run([PROMTOOL, *args], cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def judge(folder: Path, made: Any, tests: list[Any]) -> subprocess.CompletedProcess[str]:
    """Let promtool test rules."""
    (folder / "rules.yaml").write_text(json.dumps(made))
    cases = {"rule_files": ["rules.yaml"], "evaluation_interval": tests[0]["interval"], "tests": tests}
    (folder / "cases.yaml").write_text(json.dumps(cases))
    return promtool(folder, "test", "rules", "cases.yaml")


def bare(made: Any) -> Any:
    """The rules without what they say to people, which promtool would want in each case."""
    return {"groups": [{**each, "rules": [rule | {"annotations": {}} for rule in each["rules"]]} for each in made["groups"]]}


def written(case: Case) -> Any:
    """A case as promtool reads it: each alert either fires or is silent."""
    fires = {name: [labels | WHERE for alert, labels in case.fires if alert == name] for name in KNOWN}
    expected = [
        {"eval_time": case.at, "alertname": name, "exp_alerts": [{"exp_labels": labels} for labels in found]}
        for name, found in fires.items()
    ]
    series = [{"series": name, "values": values} for name, values in (case.up | case.series).items()]
    return {"name": case.name, "interval": case.interval, "input_series": series, "alert_rule_test": expected}


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.name))
def test_alerts_fire_or_are_silent(render: Any, tmp_path: Path, case: Case) -> None:
    done = judge(tmp_path, bare(rules(render, *sets(*case.values))), [written(case)])
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    windowed = {(alert.name, *sorted(alert.labels.items())) for alert in ALERTS}
    fired = {
        (name, *sorted((key, value) for key, value in labels.items() if key in ("promise", "window")))
        for case in CASES
        for name, labels in case.fires
    }
    assert fired == windowed


def test_promtool_notices_an_alert_that_does_not_fire(render: Any, tmp_path: Path) -> None:
    """So that the cases above do not pass for another reason."""
    made = bare(rules(render, "--set", "slo.errorRate=0.06"))
    [case] = [each for each in CASES if each.name.startswith("2 % of the requests fail")]
    assert judge(tmp_path, made, [written(case)]).returncode == 1


def test_what_alerts_say(render: Any, tmp_path: Path) -> None:
    made = rules(render)
    for each in made["groups"]:
        each["rules"] = [rule for rule in each["rules"] if rule["alert"] in ("VisorDrift", "VisorRefusing")]
    [moved] = [case for case in CASES if case.name == "one figure has moved"]
    test = written(moved)
    test["alert_rule_test"] = [each for each in test["alert_rule_test"] if each["alertname"] == "VisorDrift"]
    test["alert_rule_test"][0]["exp_alerts"][0]["exp_annotations"] = {
        "summary": f"Images of roofs 1 have drifted: brightness (index {index(600, 600, 0):.4g})",
        "description": "In the last 1d images are no longer like those of the calibration split, on which the rule was fitted: "
        "what its report says, and a bound on missed images where it has one, holds for such images alone.",
        "runbook_url": "https://example.com/visor/docs/runbooks.md#visordrift",
    }
    done = judge(tmp_path, made, [test])
    assert done.returncode == 0, done.stdout + done.stderr


def index(*counts: float, reference: tuple[int, ...] = (100, 100, 100)) -> float:
    """The population stability index of counts, bin by bin, smoothed as `watch/psi.py` says."""
    found = 0.0
    for n, m in zip(counts, reference, strict=True):
        live = (n + 0.5) / (sum(counts) + 0.5 * len(counts))
        then = (m + 0.5) / (sum(reference) + 0.5 * len(reference))
        found += (live - then) * math.log(live / then)
    return found


@pytest.mark.parametrize("counts", [(600, 600, 0), (400, 400, 400), (7, 1193, 3), (0, 0, 60)])
def test_the_index_and_its_limit_are_what_arithmetic_says(tmp_path: Path, counts: tuple[int, int, int]) -> None:
    """Over 2 h, of counters that grow evenly, so that `increase` is exact."""
    series = drifted(score=tuple(f"0+{count / 120}x120" for count in counts))
    here = 'namespace="ns"'
    of_model = '{model="roofs", version="1", figure="score"}'
    expected = {q.psi("2h"): index(*counts), q.psi_limit("2h"): 12 * (1 / sum(counts) + 1 / 300) + 0.05}
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f"abs({q.fill(text, selector=here)} - {value!r}) < bool 1e-9",
                "eval_time": "2h",
                "exp_samples": [{"labels": of_model, "value": 1}],
            }
            for text, value in expected.items()
        ],
    }
    done = judge(tmp_path, {"groups": []}, [test])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("title", ["Index", "Limit"])
def test_a_window_without_images_has_no_index_and_no_limit(tmp_path: Path, title: str) -> None:
    """Of constant figures the index would be large and the limit without end."""
    [panel] = [panel for panel in DRIFT.panels() if panel.title == title]
    series = drifted(width=("0x120", "900x120", "0x120"))
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": q.fill(panel.queries[0].text, selector='namespace="ns"', window="1h"),
                "eval_time": "2h",
                "exp_samples": [],
            }
        ],
    }
    done = judge(tmp_path, {"groups": []}, [test])
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_rules(render: Any, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules(render, *sets(*CANARY))))
    done = promtool(tmp_path, "check", "rules", "rules.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


def test_the_chart_s_rules_are_the_code_s(render: Any) -> None:
    """Filled in by the template from its defaults, which are the SLO's of loadtests/slo.yaml."""
    slo = yaml.safe_load((ROOT / "loadtests/slo.yaml").read_text())
    values = yaml.safe_load((ROOT / "charts/visor/values.yaml").read_text())
    assert values["slo"] == {"latencyMs": slo["latency_ms"], "errorRate": slo["error_rate"]}
    tracks = {"selector": "(-canary)?", "stable": "", "canary": "-canary"}
    parts = parts_of(values) | {name: f'namespace="ns",pod=~"roofs{track}{q.OF_PODS}"' for name, track in tracks.items()}
    expected = group("ns-roofs", ALERTS, parts, values["alerts"]["runbooks"])
    for rule in expected["rules"]:
        rule["labels"] |= WHERE
    assert rules(render, *sets(*CANARY))["groups"] == [expected]


@pytest.mark.parametrize(
    ("latency", "bounds"),
    [
        ("p99=1000", None),
        ("p99=9400", {"0.1", "0.25", "9.4"}),
        ("p99=10000", {"0.1", "0.25", "10.0"}),
        ("p50=50", {"0.05", "0.25", "0.5"}),
    ],
)
def test_a_latency_is_a_bucket_s_bound_or_refused(helm: Any, latency: str, bounds: set[str] | None) -> None:
    done = helm("template", "roofs", "charts/visor", *ON, "--set", f"slo.latencyMs.{latency}")
    if bounds is None:
        assert "slo.latencyMs.p99 1000 is no bound of visor_request_seconds' buckets" in done.stderr
    else:
        assert set(re.findall(r'le=\\"([\d.]+)\\"', done.stdout)) == bounds


def test_a_release_that_scales_to_zero_may_have_no_pod(render: Any) -> None:
    knative = ["--set", "mode=Knative"]
    names = {rule["alert"] for rule in rules(render, *knative)["groups"][0]["rules"]}
    assert names == set(KNOWN) - {"VisorDown", "VisorCanaryDown"}
    kept = rules(render, *knative, "--set", "knative.minScale=1")["groups"][0]["rules"]
    assert {rule["alert"] for rule in kept} == set(KNOWN) - {"VisorCanaryDown"}


def test_cases_are_of_a_release_that_is_up() -> None:
    down = {"VisorDown", "VisorCanaryDown"}
    assert all(
        case.up.items() >= UP.items() or down & dict(case.fires).keys() or case.at == "4m" or case.values == IDLE
        for case in CASES
    )
