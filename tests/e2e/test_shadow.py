"""A shadow in Standard mode: the stable pods begin with it and end it without a restart, and users never see the canary."""

import re
from collections import Counter

import httpx
import pytest

from tests.e2e.cluster import kubectl, wait_until
from tests.e2e.load import call_many
from tests.e2e.releases import Archives, Release

CALLS = 60
SHADOW = {"enabled": True, "archive": "pvc://models/v2", "trafficPercent": 0, "shadowPercent": 100}
POLICY = {"enabled": True, "egress": "dns"}
# The kubelet looks at a pod's ConfigMaps once a minute or so.
FOLLOWED_S = 180
pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]


def metrics(release: Release) -> str:
    """Those of the stable pods, one after the other."""
    addresses = [pod["status"]["podIP"] for pod in release.pods()]
    return "".join(httpx.get(f"http://{address}:8080/metrics").text for address in addresses)


def counted(release: Release) -> Counter[str]:
    """A shadow's images by result, over all stable pods."""
    found = re.findall(r'^visor_shadow_images_total{.*result="(\w+)".*} (\S+)$', metrics(release), re.MULTILINE)
    return sum((Counter({result: int(float(count))}) for result, count in found), Counter())


def test_begins_without_a_restart_and_users_see_nothing_of_a_canary_that_goes(release: Release, archives: Archives) -> None:
    """Both versions are of one network, so that all answers agree."""
    before = {pod["metadata"]["uid"] for pod in release.pods()}
    release.upgrade({"canary": SHADOW, "networkPolicy": POLICY})
    release.wait_ready(release.canary)
    wait_until(lambda: "visor_shadow_images_total" in metrics(release), FOLLOWED_S, "the shadow has begun")
    outcomes = call_many(release.target, archives.picture, CALLS)
    assert {(outcome.version, outcome.error) for outcome in outcomes} == {("1", "")}
    wait_until(lambda: counted(release).total() == CALLS, 30, "all images are compared", lambda: str(counted(release)))
    assert counted(release) == {"agreed": CALLS}

    kubectl("--namespace", release.namespace, "delete", "inferenceservice", release.canary, "--wait")
    release.wait_gone()
    outcomes = call_many(release.target, archives.picture, CALLS)
    assert {(outcome.version, outcome.error) for outcome in outcomes} == {("1", "")}
    wait_until(lambda: counted(release).total() == 2 * CALLS, 60, "none is waited for", lambda: str(counted(release)))
    assert counted(release)["agreed"] == CALLS
    assert {pod["metadata"]["uid"] for pod in release.pods()} == before
