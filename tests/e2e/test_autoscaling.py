"""The chart's own HorizontalPodAutoscaler: load adds a replica, its end removes one, and nobody notices."""

import pytest

from tests.e2e.cluster import get, kubectl, wait_until
from tests.e2e.load import Load
from tests.e2e.releases import Archives, Release

AUTOSCALING = {
    "enabled": True,
    "minReplicas": 1,
    "maxReplicas": 2,
    "targetCPUUtilizationPercentage": 60,
    "behavior": {
        "scaleUp": {"stabilizationWindowSeconds": 0},
        "scaleDown": {"stabilizationWindowSeconds": 15, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}]},
    },
}
LIGHT, HEAVY = 1.0, 25.0  # requests a second of each protocol


@pytest.mark.full
@pytest.mark.timeout(900)
def test_load_adds_a_replica_and_its_end_removes_it_without_a_lost_request(release: Release, archives: Archives) -> None:
    release.upgrade({"autoscaling": AUTOSCALING})
    release.wait_ready()

    def hpa() -> str:
        return kubectl("describe", "hpa", "--namespace", release.namespace)

    def active() -> bool:
        conditions = get("hpa", release.name, release.namespace).get("status", {}).get("conditions", [])
        return any(c["type"] == "ScalingActive" and c["status"] == "True" for c in conditions)

    scaler = get("hpa", release.name, release.namespace)
    assert scaler["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 15
    wait_until(active, 120, "the scaler has metrics", hpa)
    wait_until(lambda: release.ready_pods() == 1, 120, "one replica at rest", hpa)
    with Load(release.target, archives.picture, rate=LIGHT) as light:
        with Load(release.target, archives.picture, rate=HEAVY) as heavy:
            wait_until(lambda: release.ready_pods() == 2, 180, "two replicas under load", hpa)
        wait_until(lambda: len(release.pods()) == 1, 240, "one replica after the load", hpa)
        light.wait_for(len(light.outcomes) + 20)
    assert heavy.failures == []
    assert light.failures == []
    assert len(heavy.outcomes) > 100
