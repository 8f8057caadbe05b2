"""Releases in Knative mode, one speaking REST and one gRPC, since a pod has one port there."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from scipy.stats import binom

from tests.e2e.cluster import get, run, state, wait_until
from tests.e2e.load import Load, call_many
from tests.e2e.releases import Archives, Release, base_values

PERCENT = 20
CALLS = 500
LOAD = 800  # of each of the two releases: 1,600 in a transition
PROTOCOLS = ("rest", "grpc")
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def releases(namespace: str, archives: Archives) -> Iterator[dict[str, Release]]:
    """A release for each protocol, Ready."""
    made = {protocol: Release(protocol, namespace, base_values(archives)) for protocol in PROTOCOLS}
    for protocol, release in made.items():
        release.upgrade({"mode": "Knative", "protocol": protocol, "knative": {"minScale": 1, "maxScale": 2, "window": "10s"}})
    for release in made.values():
        release.wait_ready()
    for protocol, release in made.items():
        wait_until(
            lambda release=release, protocol=protocol: not errors(release, protocol, archives, 1), 60, f"{protocol} answers"
        )
    yield made
    for release in made.values():
        run("helm", "uninstall", release.name, "--namespace", namespace, "--wait")


def errors(release: Release, protocol: str, archives: Archives, count: int) -> list[str]:
    """What went wrong in so many calls."""
    outcomes = call_many(release.target, archives.picture, count, protocols=(protocol,))
    return [outcome.error for outcome in outcomes if outcome.error]


@pytest.fixture
def stable(releases: dict[str, Release], archives: Archives) -> dict[str, Release]:
    """Both releases with version 1 alone."""
    for release in releases.values():
        release.upgrade({"archive": {"uri": "pvc://models/v1"}, "canary": {"enabled": False}}, args=("--force-conflicts",))
    settle(releases, archives, {"1"})
    return releases


@pytest.fixture
def canaried(stable: dict[str, Release], archives: Archives) -> dict[str, Release]:
    """Both releases with version 2 as a canary."""
    for release in stable.values():
        release.upgrade({"canary": {"enabled": True, "archive": "pvc://models/v2", "trafficPercent": PERCENT}})
    settle(stable, archives, {"1", "2"})
    return stable


def settle(releases: dict[str, Release], archives: Archives, versions: set[str]) -> None:
    """Return once both send requests to just these versions."""
    for protocol, release in releases.items():
        release.wait_ready()

        def seen(protocol: str = protocol, release: Release = release) -> bool:
            return {o.version for o in call_many(release.target, archives.picture, 40, protocols=(protocol,))} == versions

        wait_until(seen, 120, f"{protocol}: versions {sorted(versions)} answer", lambda: state(releases["rest"].namespace))


def loads(releases: dict[str, Release], archives: Archives, stack: ExitStack) -> list[Load]:
    """Ten requests a second to each release, under way."""
    made = [
        stack.enter_context(Load(releases[protocol].target, archives.picture, protocols=(protocol,))) for protocol in PROTOCOLS
    ]
    for load in made:
        load.wait_for(50)
    return made


def finish(running: list[Load], version: str) -> None:
    """Let the loads come to their number; nothing failed, and this version gave the last answers."""
    for load in running:
        load.wait_for(LOAD - 100)
        wait_until(
            lambda load=load: set(load.versions(since=len(load.outcomes) - 20)) == {version}, 120, "the change has reached all"
        )
        mark = len(load.outcomes)
        load.wait_for(mark + 100)
        assert load.failures == []
        assert set(load.versions(since=mark)) == {version}


def test_answers_with_decision_and_heat_map(releases: dict[str, Release], archives: Archives) -> None:
    for protocol, release in releases.items():
        assert errors(release, protocol, archives, 4) == []


def test_a_canary_gets_its_share(canaried: dict[str, Release], archives: Archives) -> None:
    low, high = binom.interval(0.999, CALLS, PERCENT / 100)
    outcomes = [o for p, r in canaried.items() for o in call_many(r.target, archives.picture, CALLS // 2, protocols=(p,))]
    assert [outcome for outcome in outcomes if outcome.error] == []
    assert low <= sum(outcome.version == "2" for outcome in outcomes) <= high


def test_promoted_by_kubectl_without_a_lost_request(canaried: dict[str, Release], archives: Archives) -> None:
    with ExitStack() as stack:
        running = loads(canaried, archives, stack)
        for release in canaried.values():
            release.patch("inferenceservice", release.name, [{"op": "remove", "path": "/spec/predictor/canaryTrafficPercent"}])
        finish(running, "2")


def test_rolled_back_by_kubectl_without_a_lost_request(canaried: dict[str, Release], archives: Archives) -> None:
    with ExitStack() as stack:
        running = loads(canaried, archives, stack)
        for release in canaried.values():
            release.patch("inferenceservice", release.name, {"spec": {"predictor": {"canaryTrafficPercent": 0}}})
        finish(running, "1")


def test_upgraded_by_helm_while_pods_are_deleted_without_a_lost_request(stable: dict[str, Release], archives: Archives) -> None:
    for release in stable.values():
        release.upgrade({"knative": {"minScale": 2}})
        wait_until(lambda release=release: release.ready_pods() >= 2, 180, "two pods")
        release.wait_ready()
    with ExitStack() as stack:
        running = loads(stable, archives, stack)
        for release in stable.values():
            release.kubectl("delete", "pod", release.pods()[0]["metadata"]["name"])
        for release in stable.values():
            release.wait_ready()
            release.upgrade({"archive": {"uri": "pvc://models/v2"}, "knative": {"minScale": 1}})
        finish(running, "2")


@pytest.mark.full
def test_scales_to_zero_and_back_without_a_lost_request(stable: dict[str, Release], archives: Archives) -> None:
    for release in stable.values():
        release.upgrade({"knative": {"minScale": 0}})
        release.wait_ready()
    for protocol, release in stable.items():
        wait_until(lambda release=release: not release.pods(), 240, "no pod is left")
        assert errors(release, protocol, archives, 10) == []
        assert release.pods()
        assert get("inferenceservice", release.name, release.namespace)
