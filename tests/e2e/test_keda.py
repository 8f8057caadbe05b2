"""KEDA scales by what Prometheus says of pods that its operator finds by the chart's PodMonitor; none of them is a stand-in.

Two releases of one model in one namespace: what is asked of Prometheus, by KEDA and by a person, is of one of them alone.
"""

import base64
import hashlib
import re
import time
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.cluster import ROOT, get, kubectl, state, wait_until
from tests.e2e.load import Load
from tests.e2e.operators import ADDRESS, ask, operators
from tests.e2e.releases import Archives, Release, Values, base_values
from transformer.declared import SECONDS

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

SCRAPED_S = 5
THRESHOLD = 5  # requests a second that a pod takes
LIGHT, HEAVY = 1.0, 5.0  # requests a second of each of two protocols: below that, and above it
VALUES = {
    "keda": {
        "enabled": True,
        "serverAddress": ADDRESS,
        "threshold": str(THRESHOLD),
        "minReplicas": 1,
        "maxReplicas": 2,
        "pollingIntervalSeconds": 5,
    },
    "metrics": {"podMonitor": {"enabled": True, "interval": f"{SCRAPED_S}s"}},
}
# The five minutes for which an HPA waits by itself would be most of these tests.
BEHAVIOR = {"scaleDown": {"stabilizationWindowSeconds": 15, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}]}}
NAMES = ("digits", "digits-2")  # the one's name begins the other's, as it does its canary's
AT_REST: Values = {"archive": {"uri": "pvc://models/v1"}, "canary": {"enabled": False, "archive": "", "trafficPercent": 0}}


@pytest.fixture(scope="module", autouse=True)
def installed() -> Iterator[None]:
    """KEDA and Prometheus, from before the namespace is made until it is on its way out."""
    with operators():
        yield


@pytest.fixture(scope="module")
def made(namespace: str, archives: Archives) -> Iterator[tuple[Release, Release]]:
    """Two releases that KEDA scales."""
    releases = Release(NAMES[0], namespace, base_values(archives)), Release(NAMES[1], namespace, base_values(archives))
    for release in releases:
        release.upgrade(VALUES)
    for release in releases:
        release.wait_ready()
        hasten(release, release.name)
    yield releases
    for release in releases:
        release.helm("uninstall", "--ignore-not-found", "--wait")


@pytest.fixture
def both(made: tuple[Release, Release]) -> tuple[Release, Release]:
    """The two with version 1, one pod and nothing to do, whatever the test before left."""
    for release in made:
        release.upgrade(AT_REST, args=("--force-conflicts",))
    for release in made:
        release.wait_ready()
        wait_until(
            lambda release=release: at_rest(release), 300, f"{release.name} is at rest", lambda release=release: told(release)
        )
    return made


def at_rest(release: Release) -> bool:
    """Whether KEDA has seen no request for a while, and one pod is left."""
    return load_of(release, release.name) == 0 and wanted(release, release.name) == release.ready_pods() == 1


def hasten(release: Release, name: str) -> None:
    """Have KEDA take a track's pods away soon."""
    release.patch("scaledobject", name, {"spec": {"advanced": {"horizontalPodAutoscalerConfig": {"behavior": BEHAVIOR}}}})


def load_of(release: Release, name: str) -> float | None:
    """The load in requests a second that KEDA told the HPA of a track; nothing before it told any."""
    status = get("hpa", f"keda-hpa-{name}", release.namespace).get("status", {})
    metrics = [metric["external"]["current"] for metric in status.get("currentMetrics") or [] if "external" in metric]
    return sum(quantity(metric["averageValue"]) for metric in metrics) * status["currentReplicas"] if metrics else None


def quantity(text: str) -> float:
    """`2160m` → 2.16."""
    return float(text.removesuffix("m")) / (1000 if text.endswith("m") else 1)


def wanted(release: Release, name: str) -> int:
    """How many pods a track's Deployment is to have."""
    return int(get("deployment", f"{name}-predictor", release.namespace)["spec"]["replicas"])


def told(release: Release) -> str:
    """What KEDA and its HPAs say, and the rest."""
    return kubectl("describe", "scaledobjects,hpa", "--namespace", release.namespace, check=False) + state(release.namespace)


def documented(release: Release) -> list[str]:
    """The queries of docs/kubernetes.md, about this release instead of `roofs` in `demo`."""
    [block] = re.findall(r"```promql\n(.*?)```", (ROOT / "docs/kubernetes.md").read_text(), re.DOTALL)
    queries = [query for query in re.split(r"^#.*\n", block, flags=re.MULTILINE) if query]
    return [query.replace("demo", release.namespace).replace("roofs", release.name) for query in queries]


def share_failed(release: Release, name: str) -> float:
    """Which share of a track's requests its pods failed to answer, as their own pages say."""
    counts = {False: 0.0, True: 0.0}
    for pod in release.pods(name):
        page = httpx.get(f"http://{pod['status']['podIP']}:8080/metrics").text
        for sample in (sample for family in text_string_to_metric_families(page) for sample in family.samples):
            if sample.name == "visor_request_seconds_count":
                counts[sample.labels["code"].startswith("5")] += sample.value
    return counts[True] / sum(counts.values())


def impatient(release: Release, picture: bytes) -> None:
    """A request whose microsecond is up before its answer: 504."""
    data = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(picture).decode()]}
    url = f"http://{release.target.address}/v2/models/{release.target.model}/infer"
    body = {"inputs": [data], "parameters": {"timeout": 1}}
    assert httpx.post(url, headers={"Host": release.target.host}, json=body).status_code == 504


# The first of them, as what it counts is all that these pods have answered.
def test_the_documented_queries_answer_about_one_release(both: tuple[Release, Release], archives: Archives) -> None:
    release, other = both
    tracks = {"stable": release.name, "canary": release.canary}
    other.upgrade({"archive": {"uri": "pvc://models/v2"}})
    release.upgrade({"canary": {"enabled": True, "archive": "pvc://models/v2", "trafficPercent": 50}})
    other.wait_ready()
    latency, failed, decisions, stages, served = documented(release)

    digests = {v: hashlib.sha256((archives.folder / f"v{v}/digits.mar").read_bytes()).hexdigest() for v in ("1", "2")}
    expected = {("stable", "1", digests["1"]): 1.0, ("canary", "2", digests["2"]): 1.0}

    def now_served(query: str) -> dict[tuple[str, str, str], float]:
        return {(made["track"], made["version"], made["archive_digest"]): pods for made, pods in ask(query)}

    wait_until(lambda: now_served(served) == expected, 60, "both tracks are scraped", lambda: str(now_served(served)))
    others, only = documented(other)[-1], {("stable", "2", digests["2"]): 1.0}  # once its pod of version 1 has drained and gone
    wait_until(lambda: now_served(others) == only, 180, "the other release is scraped", lambda: str(now_served(others)))

    with Load(release.target, archives.picture, rate=2.0) as load, Load(other.target, archives.picture, rate=1.0):
        load.wait_for(20)
        for _ in range(80):
            impatient(release, archives.picture)
            time.sleep(0.4)
    assert load.failures == []
    time.sleep(2 * SCRAPED_S)

    found = {made["track"]: share for made, share in ask(failed)}
    assert found == {track: pytest.approx(share_failed(release, name), abs=0.04) for track, name in tracks.items()}
    seconds = {track: sorted(o.seconds for o in load.outcomes if o.track == track) for track in tracks}
    bounds = {made["track"]: bound for made, bound in ask(latency)}
    for track, of_track in seconds.items():
        # What the clients waited is more than the edge's part of it, and a bucket of its histogram is as exact as it gets.
        assert 0 < bounds[track] <= min(le for le in SECONDS if le >= of_track[int(0.95 * len(of_track))])
    shares = {(made["track"], made["decision"]): share for made, share in ask(decisions) if share}
    assert list(shares.values()) == pytest.approx([1, 1])  # all are of one picture
    assert {track for track, _ in shares} == set(tracks)
    means = {made["stage"]: mean for made, mean in ask(stages)}
    assert {"queue", "decode", "infer"} <= set(means)
    assert 0 < sum(means.values()) <= np.mean([outcome.seconds for outcome in load.outcomes])


@pytest.mark.parametrize("loaded", [0, 1], ids=NAMES)
def test_load_on_one_release_scales_that_one_alone_and_back_without_a_lost_request(
    both: tuple[Release, Release], archives: Archives, loaded: int
) -> None:
    release, other = both[loaded], both[1 - loaded]
    with Load(release.target, archives.picture, rate=LIGHT) as light:
        with Load(release.target, archives.picture, rate=HEAVY) as heavy:
            wait_until(lambda: release.ready_pods() == 2, 180, "two pods under load", lambda: told(release))
            assert load_of(other, other.name) == 0
            assert wanted(other, other.name) == 1
        wait_until(lambda: len(release.pods()) == 1, 300, "one pod after the load", lambda: told(release))
        light.wait_for(len(light.outcomes) + 20)
    assert heavy.failures == light.failures == []


def test_an_upgrade_keeps_the_pods_that_keda_added(both: tuple[Release, Release], archives: Archives) -> None:
    release, _ = both
    seen: set[tuple[int, bool]] = set()  # pods wanted, and whether two were ready
    with Load(release.target, archives.picture, rate=HEAVY) as load:
        wait_until(lambda: release.ready_pods() == 2, 180, "two pods under load", lambda: told(release))
        release.upgrade({"archive": {"uri": "pvc://models/v2"}})

        def followed() -> bool:
            seen.add((wanted(release, release.name), release.ready_pods() >= 2))
            return set(load.versions(since=len(load.outcomes) - 40)) == {"2"}

        wait_until(followed, 180, "version 2 answers", lambda: told(release))
        release.wait_gone()
        seen.add((wanted(release, release.name), release.ready_pods() >= 2))
    assert load.failures == []
    assert seen == {(2, True)}


def test_a_canary_is_scaled_by_its_share_and_promoted_without_a_lost_request(
    both: tuple[Release, Release], archives: Archives
) -> None:
    release, _ = both
    release.upgrade({"canary": {"enabled": True, "archive": "pvc://models/v2", "trafficPercent": 100}})
    hasten(release, release.canary)
    with Load(release.target, archives.picture, rate=HEAVY) as load:
        wait_until(lambda: release.ready_pods(release.canary) == 2, 180, "two pods of the canary", lambda: told(release))
        assert load_of(release, release.name) == 0
        assert wanted(release, release.name) == 1
        release.upgrade({"archive": {"uri": "pvc://models/v2"}, "canary": {"enabled": False}}, args=("--force-conflicts",))
        wait_until(lambda: release.ready_pods() == 2, 180, "two pods of the promoted archive", lambda: told(release))
        release.wait_gone()
        mark = len(load.outcomes)
        load.wait_for(mark + 100)
    assert load.failures == []
    assert {(outcome.version, outcome.track) for outcome in load.outcomes[mark:]} == {("2", "stable")}
    assert get("scaledobject", release.canary, release.namespace) == {}
