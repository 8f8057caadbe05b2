"""Whose pods the queries of Prometheus count, by the pods' names: KEDA's default one and those that docs show.

`make e2e-full` asks a Prometheus: tests/e2e/test_keda.py.
"""

import re
from typing import Any

import pytest

from tests.charts.checks import ROOT
from tests.charts.visor_values import REQUIRED

POD = re.compile(r'pod=~"([^"]+)"')


def pod_of(service: str) -> str:
    """A pod as a Deployment names it. Kubernetes cuts what comes before the five letters to 58: a long name loses its hash."""
    return f"{service}-predictor-6b5bbddc8b-"[:58] + "h7ztb"


def counted(pattern: str, name: str) -> set[str]:
    """Which pods a matcher of PromQL, which is anchored at both ends, takes of a release, its canary and others beside it."""
    others = {
        pod_of(f"{name}-2"),
        pod_of(f"{name}-2-canary"),
        pod_of(f"flat-{name}"),
        f"{name}-canary-gate-h7ztb",
        f"{name}-test",
    }
    return {pod for pod in {pod_of(name), pod_of(f"{name}-canary")} | others if re.fullmatch(pattern, pod)}


@pytest.mark.parametrize("name", ["roofs", "r" * 40])
def test_keda_scales_a_track_by_the_load_of_its_own_pods(render: Any, name: str) -> None:
    canary = ["--set", "canary.enabled=true,canary.archive=pvc://models/roofs/2", "--set", f"fullnameOverride={name}"]
    keda = ["--set", "keda.enabled=true,keda.serverAddress=http://prometheus:9090"]
    objects = [item for item in render(*REQUIRED, *canary, *keda) if item["kind"] == "ScaledObject"]
    queries = {item["metadata"]["name"]: item["spec"]["triggers"][0]["metadata"]["query"] for item in objects}
    assert set(queries) == {name, f"{name}-canary"}
    for track, query in queries.items():
        [pattern] = POD.findall(query)
        assert counted(pattern, name) == {pod_of(track)}
        assert 'namespace="ns"' in query


NEIGHBOURS = ("roofs-2", "flat-roofs", "roofs-predictor", "roofs-predictor-2", "roofs-canary-2")
"""Other releases of one namespace whose names begin or end as that of `roofs` or of its pods."""


def pods_of(service: str) -> set[str]:
    """Pods of a Deployment, and of a revision in Knative, whose Deployment has `-deployment` in its name."""
    return {pod_of(service), f"{service}-predictor-00001-deployment-6b5bbddc8b-"[:58] + "h7ztb"}


@pytest.mark.parametrize("name", ["roofs", "r" * 33])
def test_alerts_are_about_the_pods_of_one_release(render: Any, name: str) -> None:
    canary = ["--set", "canary.enabled=true,canary.archive=pvc://models/roofs/2", "--set", f"fullnameOverride={name}"]
    [rules] = [
        item["spec"]["groups"][0]["rules"]
        for item in render(*REQUIRED, *canary, "--set", "alerts.enabled=true")
        if item["kind"] == "PrometheusRule"
    ]
    tracks = {"VisorDown": {name}, "VisorCanaryDown": {f"{name}-canary"}}
    others = {each.replace("roofs", name) for each in NEIGHBOURS}
    for rule in rules:
        own = tracks.get(rule["alert"], {name, f"{name}-canary"})
        patterns = set(POD.findall(rule["expr"]))
        assert len(patterns) == 1
        for service in {name, f"{name}-canary"} | others:
            for pod in pods_of(service):
                if len(service) <= 40:  # that of a canary in Knative is a release's own, with a hash in place of its end
                    assert {bool(re.fullmatch(pattern, pod)) for pattern in patterns} == {service in own}, pod


def documented() -> list[str]:
    """The selectors of the documented queries."""
    pages = ("docs/kubernetes.md", "loadtests/README.md")
    blocks = [block for page in pages for block in re.findall(r"```promql\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)]
    return [selector for block in blocks for selector in re.findall(r"\{.*?\}", block)]


@pytest.mark.parametrize("selector", documented())
def test_a_documented_query_is_about_one_release_and_its_canary(selector: str) -> None:
    [pattern] = POD.findall(selector)
    assert counted(pattern, "roofs") == {pod_of("roofs"), pod_of("roofs-canary")}
    assert 'namespace="demo"' in selector
