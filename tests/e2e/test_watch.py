"""Prometheus, led by its operator to the pods of a release by the chart's own PodMonitor and PrometheusRule, answers every query.

Two pods and a canary's: what they count adds up, and what a pod counted that has ended is not lost.
"""

import base64
import json
import time
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.cluster import kubectl, state, wait_until
from tests.e2e.load import Load
from tests.e2e.operators import MONITORING, ask, operators
from tests.e2e.releases import Archives, Release, base_values
from watch import queries as q
from watch.alerts import ALERTS
from watch.boards import BOARDS
from watch.queries import Query, fill

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

SCRAPED_S = 5
VALUES = {
    "replicas": 2,
    "edge": {"cacheImages": 100},
    "metrics": {"podMonitor": {"enabled": True, "interval": f"{SCRAPED_S}s"}},
    "alerts": {"enabled": True},
    "canary": {"enabled": True, "archive": "pvc://models/v2", "trafficPercent": 30, "shadowPercent": 50},
}
IMAGES = "visor_drift_images_total"
PANELS = [
    pytest.param(query, id=f"{board.name}-{panel.title}-{query.name}")
    for board in BOARDS
    for panel in board.panels()
    for query in panel.queries
    if not query.external  # the kubelet's, which this Prometheus does not scrape
]


@pytest.fixture(scope="module")
def release(namespace: str, archives: Archives) -> Iterator[Release]:
    """A release of two pods and a canary, which has been asked for everything that is counted."""
    with operators():
        made = Release("digits", namespace, base_values(archives))
        made.upgrade(VALUES)
        made.wait_ready()
        wait_until(lambda: len(scraped(made)) == 3, 120, "three pods are scraped", lambda: state(namespace))
        with Load(made.target, archives.picture, rate=3.0) as load:
            for _ in range(10):
                go_wrong(made, archives.picture)
                time.sleep(2)
            load.wait_for(60)
        assert load.failures == []
        time.sleep(2 * SCRAPED_S)
        yield made
        made.helm("uninstall", "--ignore-not-found", "--wait")


def go_wrong(release: Release, picture: bytes) -> None:
    """A damaged picture, a request that is none and one whose microsecond is up, to each pod."""
    data = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(picture).decode()]}
    late = {"inputs": [data], "parameters": {"timeout": 1}}
    for pod in (*release.pods(), *release.pods(release.canary)):
        url = f"http://{pod['status']['podIP']}:8080/v2"
        infer = f"{url}/models/{release.target.model}/infer"
        raw = {"Inference-Header-Content-Length": "0"}
        codes = [
            httpx.post(infer, content=b"no picture", headers=raw).status_code,
            httpx.post(infer, content=b"no request").status_code,
            httpx.post(infer, json=late).status_code,
            httpx.get(f"{url}/nowhere").status_code,
        ]
        assert codes == [400, 400, 504, 404]


def filled(release: Release, text: str, window: str = "5m") -> str:
    """A query about the release, as a dashboard asks it."""
    return fill(text, selector=f'namespace="{release.namespace}",pod=~"{release.name}(-canary)?-predictor-.*"', window=window)


def scraped(release: Release) -> set[str]:
    """The pods that Prometheus knows."""
    return {labels["pod"] for labels, _ in ask(filled(release, q.series("visor_build_info")))}


def counted(release: Release) -> float:
    """The images that the release's pods say they have counted by score."""
    total = 0.0
    for pod in (*release.pods(), *release.pods(release.canary)):
        page = httpx.get(f"http://{pod['status']['podIP']}:8080/metrics").text
        for family in text_string_to_metric_families(page):
            total += sum(s.value for s in family.samples if s.name == IMAGES and s.labels["figure"] == "score")
    return total


@pytest.mark.parametrize("query", PANELS)
def test_a_panel_s_query_returns_series_of_real_pods(release: Release, query: Query) -> None:
    series = ask(filled(release, query.text))
    assert series, query.text
    assert all(set(labels) == set(query.by) for labels, _ in series)


def test_the_canary_s_numbers_stand_beside_the_stable_ones(release: Release) -> None:
    shares = ask(filled(release, q.tracked("visor_request_seconds_count", ())))
    assert {(labels["track"], labels["version"]) for labels, _ in shares} == {("stable", "1"), ("canary", "2")}


def test_prometheus_has_loaded_the_release_s_alerts(release: Release) -> None:
    service = f"/api/v1/namespaces/{MONITORING}/services/prometheus-operated:9090/proxy"

    def loaded() -> list[str]:
        groups = json.loads(kubectl("get", "--raw", f"{service}/api/v1/rules"))["data"]["groups"]
        rules = [rule for group in groups if group["name"] == f"{release.namespace}-{release.name}" for rule in group["rules"]]
        assert all(rule["health"] != "err" for rule in rules), rules
        return [rule["name"] for rule in rules]

    wait_until(lambda: loaded() == [alert.name for alert in ALERTS], 120, "the rules are loaded", lambda: str(loaded()))


# The last one, as it ends a pod.
def test_pods_add_up_and_a_pod_that_ends_loses_nothing(release: Release) -> None:
    of_score = q.series(IMAGES, 'figure="score"')
    query = filled(release, f"sum ({of_score})")
    [(_, now)] = ask(query)
    assert now == counted(release) > 60
    window = filled(release, f"sum ({q.images(window='15m')})")
    [(_, before)] = ask(window)
    ending = release.pods()[0]["metadata"]["name"]
    release.kubectl("delete", "pod", ending)
    release.wait_ready()
    wait_until(lambda: ending not in scraped(release), 120, "the pod is no longer scraped", lambda: state(release.namespace))
    [(_, after)] = ask(window)
    # `increase` adds up to half a scrape's time at both ends, most where a series is young; a lost pod would be a third.
    assert after == pytest.approx(before, rel=0.1)
