"""What must not serve does not, says why, and takes nothing else down."""

from collections.abc import Iterator

import pytest

from tests.e2e.cluster import get, run, state, wait_until
from tests.e2e.load import Load, call_many
from tests.e2e.releases import Archives, Release, base_values

TAMPERED = "pvc://models/tampered"


@pytest.fixture
def tampered(namespace: str, archives: Archives) -> Iterator[Release]:
    """A release of a tampered archive."""
    made = Release("tampered", namespace, base_values(archives))
    made.upgrade({"archive": {"uri": TAMPERED}})
    yield made
    run("helm", "uninstall", made.name, "--namespace", namespace, "--wait")


def refusals(release: Release) -> dict[str, str]:
    """Where a release says why its archive is refused: a pod's event, its container's last words, its log."""
    events = release.kubectl("get", "events", "--field-selector", "reason=Unhealthy", "--output", "jsonpath={.items[*].message}")
    [pod] = release.pods()
    [container] = [c for c in pod["status"].get("containerStatuses", []) if c["name"] == "kserve-container"]
    words = container["lastState"].get("terminated", container["state"].get("terminated", {})).get("message", "")
    previous = ("--previous",) if container["restartCount"] else ()
    log = release.kubectl("logs", pod["metadata"]["name"], "--container", "kserve-container", *previous)
    return {"event": events, "last words": words, "log": log}


def test_a_tampered_archive_is_refused_and_never_serves(tampered: Release, archives: Archives) -> None:
    wait_until(
        lambda: any(c["restartCount"] for pod in tampered.pods() for c in pod["status"].get("containerStatuses", [])),
        120,
        "the container has ended once",
        lambda: state(tampered.namespace),
    )
    for place, said in refusals(tampered).items():
        assert "visor: archive.refused: " in said, place
        assert "its bytes are not the ones that were signed" in said, place
    assert all(outcome.error for outcome in call_many(tampered.target, archives.picture, 4))
    conditions = {
        c["type"]: c["status"] for c in get("inferenceservice", tampered.name, tampered.namespace)["status"]["conditions"]
    }
    assert conditions["Ready"] == "False"


def test_a_canary_that_cannot_start_leaves_the_stable_release_untouched(release: Release, archives: Archives) -> None:
    pods = {pod["metadata"]["name"] for pod in release.pods()}
    canary = {"enabled": True, "archive": TAMPERED, "trafficPercent": 20, "readyTimeoutSeconds": 120}
    with Load(release.target, archives.picture) as load:
        before = release.values
        said = release.upgrade({"canary": canary}, args=("--timeout", "180s"), check=False)
        load.wait_for(len(load.outcomes) + 200)
    assert "failed" in said
    log = release.kubectl("logs", "--selector", "app.kubernetes.io/component=canary-gate", "--tail", "20")
    assert "archive.refused" in log
    assert load.failures == []
    assert set(load.versions()) == {"1"}
    assert {pod["metadata"]["name"] for pod in release.pods()} == pods
    for kind, name in release.routes:
        weights = [ref["weight"] for ref in get(kind, name, release.namespace)["spec"]["rules"][0]["backendRefs"]]
        assert weights == [100, 0]
    release.values = before
    release.helm("rollback")
    wait_until(lambda: not get("inferenceservice", release.canary, release.namespace), 60, "the canary is gone")
    assert [outcome.error for outcome in call_many(release.target, archives.picture, 4)] == [""] * 4
