"""A canary in Standard mode: its share, its moves by kubectl and by helm, and no request lost in any of them."""

from collections.abc import Iterator

import httpx
import pytest
from scipy.stats import binom

from tests.e2e.cluster import items, kubectl, wait_until
from tests.e2e.load import Load, call_many
from tests.e2e.releases import Archives, Release

PERCENT = 20
CALLS = 500
LOAD, AFTER = 1_600, 400  # requests in all, and after the transition
CANARY = {"canary": {"enabled": True, "archive": "pvc://models/v2", "trafficPercent": PERCENT}}
NONE = {"archive": {"uri": "pvc://models/v1"}, "canary": {"enabled": False, "archive": "", "trafficPercent": 0}}
# Two replicas, so that one can be deleted.
pytestmark = pytest.mark.timeout(900)


def settle(release: Release, archives: Archives, versions: set[str]) -> None:
    """Return once the gateway sends requests to just these versions."""
    release.wait_ready()
    wait_until(
        lambda: {outcome.version for outcome in call_many(release.target, archives.picture, 40)} == versions, 60,
        f"versions {sorted(versions)} answer",
    )  # fmt: skip


@pytest.fixture
def stable(release: Release, archives: Archives) -> Release:
    """The release with version 1 alone, whatever the test before left."""
    release.upgrade(NONE, {"replicas": 2}, args=("--force-conflicts",))
    settle(release, archives, {"1"})
    return release


@pytest.fixture
def canaried(stable: Release, archives: Archives) -> Release:
    """The release with version 2 as a canary."""
    stable.upgrade(CANARY)
    settle(stable, archives, {"1", "2"})
    return stable


@pytest.fixture
def load(release: Release, archives: Archives) -> Iterator[Load]:
    """Ten requests a second of each protocol, from before the transition until long after it."""
    with Load(release.target, archives.picture) as running:
        running.wait_for(100)
        yield running


def finish(release: Release, load: Load, last: set[str]) -> None:
    """Let the old pods end and the load come to its number; nothing failed, and the last answers are of these versions."""
    release.wait_gone()
    mark = max(len(load.outcomes), LOAD - AFTER)
    load.wait_for(mark + AFTER)
    assert load.failures == []
    assert set(load.versions(since=mark)) == last
    assert len({outcome.label for outcome in load.outcomes}) == 1


def test_gets_its_share_of_either_protocol_by_one_route_and_is_told_from_the_stable_release(
    canaried: Release, archives: Archives
) -> None:
    assert items("grpcroutes", canaried.namespace) == []
    with Load(canaried.target, archives.picture) as load:
        load.wait_for(CALLS)
    assert load.failures == []
    for protocol in ("rest", "grpc"):
        outcomes = [outcome for outcome in load.outcomes if outcome.protocol == protocol]
        low, high = binom.interval(0.999, len(outcomes), PERCENT / 100)
        assert low <= sum(outcome.version == "2" for outcome in outcomes) <= high
        assert {(outcome.version, outcome.track) for outcome in outcomes} == {("1", "stable"), ("2", "canary")}

    forced = call_many(canaried.target, archives.picture, 20, headers={"x-visor-canary": "true"})
    assert {(outcome.version, outcome.track, outcome.error) for outcome in forced} == {("2", "canary", "")}

    address = canaried.pods(canaried.canary)[0]["status"]["podIP"]
    metrics = httpx.get(f"http://{address}:8080/metrics").text
    assert 'track="canary"' in metrics
    assert "visor_decisions_total{" in metrics
    assert 'version="1"' not in metrics


def test_promoted_by_kubectl_without_a_lost_request(canaried: Release, load: Load) -> None:
    canaried.set_weights(50, 50)
    load.wait_for(len(load.outcomes) + 200)
    canaried.patch("inferenceservice", canaried.canary, {"spec": {"predictor": {"minReplicas": 2}}})
    ready = "--for=jsonpath={.status.readyReplicas}=2"
    canaried.kubectl("wait", f"deployment/{canaried.canary}-predictor", ready, "--timeout", "180s")
    canaried.set_weights(0, 100)
    canaried.patch("inferenceservice", canaried.name, {"spec": {"predictor": {"model": {"storageUri": "pvc://models/v2"}}}})
    canaried.wait_ready()
    canaried.set_weights(100, 0)
    finish(canaried, load, {"2"})


def test_rolled_back_by_kubectl_without_a_lost_request(canaried: Release, load: Load) -> None:
    canaried.set_weights(100, 0)
    load.wait_for(len(load.outcomes) + 200)
    kubectl("--namespace", canaried.namespace, "delete", "inferenceservice", canaried.canary)
    finish(canaried, load, {"1"})


def test_upgraded_by_helm_while_pods_are_deleted_without_a_lost_request(canaried: Release, load: Load) -> None:
    pod = canaried.pods()[0]["metadata"]["name"]
    canaried.kubectl("delete", "pod", pod)
    canaried.wait_ready()
    canaried.upgrade({"canary": {"trafficPercent": 0}})  # a gateway may forget the canary before it hears of the new shares
    canaried.wait_ready()
    canaried.upgrade({"archive": {"uri": "pvc://models/v2"}}, {"canary": NONE["canary"]})
    canaried.wait_ready()
    finish(canaried, load, {"2"})
