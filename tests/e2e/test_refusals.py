"""What must not serve does not, says why, and takes nothing else down."""

from collections.abc import Iterator

import pytest

from archives.files import sha256
from tests.e2e.cluster import get, items, run, state, wait_until
from tests.e2e.load import Load, call_many
from tests.e2e.releases import Archives, Release, base_values

TAMPERED = "pvc://models/tampered"


# What lies at archive.uri, the version whose digest the release asks for, if one, and what its pods say.
REFUSED = {
    "tampered": (TAMPERED, None, "archive.refused", "its bytes are not the ones that were signed"),
    "unsigned": ("pvc://models/unsigned", None, "archive.refused", "has no signature"),
    "renamed": ("pvc://models/renamed", None, "archive.unexpected", "so it was renamed"),
    "rolled back": ("pvc://models/rolled-back", None, "archive.unexpected", "where version 9 belongs"),
    "older": ("pvc://models/v1", "v2", "archive.unexpected", "which was asked for"),
}


@pytest.fixture(params=REFUSED)
def refused(request: pytest.FixtureRequest, namespace: str, archives: Archives) -> Iterator[tuple[Release, str, str]]:
    """A release of an archive that no pod may serve, with the code and words that it is refused with."""
    uri, asked, code, words = REFUSED[request.param]
    made = Release("refused", namespace, base_values(archives))
    digest = sha256(archives.folder / asked / "digits.mar") if asked else ""
    made.upgrade({"archive": {"uri": uri, "digest": digest}})
    yield made, code, words
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


def test_what_must_not_serve_is_refused_and_never_serves(refused: tuple[Release, str, str], archives: Archives) -> None:
    release, code, words = refused
    wait_until(
        lambda: any(c["restartCount"] for pod in release.pods() for c in pod["status"].get("containerStatuses", [])),
        120,
        "the container has ended once",
        lambda: state(release.namespace),
    )
    for place, said in refusals(release).items():
        assert f"visor: {code}: " in said, place
        assert words in said, place
    assert all(outcome.error for outcome in call_many(release.target, archives.picture, 4))
    conditions = {
        c["type"]: c["status"] for c in get("inferenceservice", release.name, release.namespace)["status"]["conditions"]
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
    rules = get("httproute", release.name, release.namespace)["spec"]["rules"][:2]
    assert [[ref["weight"] for ref in rule["backendRefs"]] for rule in rules] == [[100, 0], [100, 0]]  # REST's and gRPC's
    # What the gate was granted went with it; its log stays.
    granted = items("serviceaccounts,roles,rolebindings", release.namespace, f"app.kubernetes.io/instance={release.name}")
    assert "canary-gate" not in "".join(item["metadata"]["name"] for item in granted)
    release.values = before
    release.helm("rollback")
    wait_until(lambda: not get("inferenceservice", release.canary, release.namespace), 60, "the canary is gone")
    assert [outcome.error for outcome in call_many(release.target, archives.picture, 4)] == [""] * 4
