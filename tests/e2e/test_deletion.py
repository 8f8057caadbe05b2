"""What a deleted or evicted pod costs: nothing where there are two, the time until its successor where it is the only one."""

import json

from tests.e2e.cluster import kubectl, wait_until
from tests.e2e.load import Load
from tests.e2e.releases import Archives, Release

REQUESTS = 2_000


def delete_one(release: Release) -> None:
    """Delete a pod, as `kubectl delete pod` does."""
    release.kubectl("delete", "pod", release.pods()[0]["metadata"]["name"], "--wait=false")


def evict_one(release: Release) -> str:
    """Ask for a pod's eviction, as `kubectl drain` does; what the API server says."""
    name = release.pods()[0]["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": release.namespace}}
    path = f"/api/v1/namespaces/{release.namespace}/pods/{name}/eviction"
    return kubectl("create", "--raw", path, "--filename", "-", stdin=json.dumps(eviction), check=False)


def test_two_pods_lose_no_request_when_one_is_deleted(release: Release, archives: Archives) -> None:
    release.upgrade({"replicas": 2})
    release.wait_ready()
    wait_until(lambda: release.ready_pods() == 2, 120, "two pods")
    with Load(release.target, archives.picture, limit=REQUESTS) as load:
        load.wait_for(200)
        delete_one(release)
        load.wait_for(REQUESTS)
    assert load.failures == []
    assert len(load.outcomes) == REQUESTS


def test_the_only_pod_is_missed_until_its_successor_is_ready(release: Release, archives: Archives) -> None:
    release.upgrade({"replicas": 1})
    release.wait_ready()
    wait_until(lambda: len(release.pods()) == 1, 120, "one pod")
    release.wait_gone()
    with Load(release.target, archives.picture) as load:
        load.wait_for(200)
        delete_one(release)
        wait_until(lambda: release.ready_pods() == 0, 60, "the only pod is on its way out")
        wait_until(lambda: release.ready_pods() == 1, 180, "its successor is ready")
        load.wait_for(len(load.outcomes) + 100)  # the gateway hears of it
        mark = len(load.outcomes)
        load.wait_for(mark + 200)
    assert load.failures != []
    assert [outcome for outcome in load.outcomes[mark:] if outcome.error] == []
    for outcome in load.failures:  # refused as a whole, in words that a client may try again by
        assert "503" in outcome.error or "UNAVAILABLE" in outcome.error or "no healthy upstream" in outcome.error


def test_a_drain_waits_for_a_second_pod_where_one_has_to_stay(release: Release) -> None:
    release.upgrade({"replicas": 1, "podDisruptionBudget": {"enabled": True, "minAvailable": 1}})
    release.wait_ready()
    wait_until(lambda: release.ready_pods() == 1, 120, "one pod")
    wait_until(lambda: "disruption budget" in evict_one(release), 60, "the eviction is refused")
    assert release.ready_pods() == 1
    release.upgrade({"replicas": 2})
    release.wait_ready()
    wait_until(lambda: "Success" in evict_one(release), 60, "the eviction is granted")
