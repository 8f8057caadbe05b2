"""What must not serve does not, says why, and takes nothing else down."""

import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from archives.files import sha256
from tests.e2e.cluster import ROOT, get, items, run, state, wait_until
from tests.e2e.load import Load, call_many
from tests.e2e.releases import CLAIM, MODEL, TAG, Archives, Release, base_values, folder_of
from tests.integration.running import Workspace

TAMPERED = "pvc://models/tampered"


# What lies at archive.uri, the version whose digest the release asks for, if one, and what its pods say.
REFUSED = {
    "tampered": (TAMPERED, None, "archive.refused", "its bytes are not the ones that were signed"),
    "unsigned": ("pvc://models/unsigned", None, "archive.refused", "has no signature"),
    "renamed": ("pvc://models/renamed", None, "archive.unexpected", "so it was renamed"),
    "rolled back": ("pvc://models/rolled-back", None, "archive.unexpected", "where version 9 belongs"),
    "older": ("pvc://models/v1", "v2", "archive.unexpected", "which was asked for"),
    # The kubelet makes what is missing, as an empty folder.
    "wrong path": ("pvc://models/v77", None, "archive.missing", "below /mnt/models (archive.uri pvc://models/v77) after 20 s"),
}
SAID_S = 30


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


def ended_after_s(release: Release) -> float:
    """Seconds from a serving container's first start to its end."""
    [pod] = release.pods()
    [container] = [c for c in pod["status"]["containerStatuses"] if c["name"] == "kserve-container"]
    ended = container["lastState"].get("terminated") or container["state"]["terminated"]
    start, end = (datetime.fromisoformat(ended[key]) for key in ("startedAt", "finishedAt"))
    return (end - start).total_seconds()


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
    assert ended_after_s(release) <= SAID_S
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


@pytest.fixture
def early(namespace: str, archives: Archives) -> Iterator[Release]:
    """A release of an archive that is not on the volume yet, nor any folder of its model's."""
    made = Release("early", namespace, base_values(archives))
    made.upgrade({"archive": {"uri": f"pvc://{CLAIM}/{MODEL}/1"}})
    yield made
    run("helm", "uninstall", made.name, "--namespace", namespace, "--wait")


def put(namespace: str, store: Path, check: bool = True) -> str:
    """Put the first version of the archive on the volume, as a user does; what is said."""
    image = f"localhost/visor-transformer:{TAG}"
    script = str(ROOT / "k8s/put-archive")
    return run(
        script, "--namespace", namespace, "--store", str(store), "--image", image, f"{MODEL}/1", check=check, timeout_s=120
    )


def test_a_folder_that_was_missing_is_put_later_and_served(early: Release, workspace: Workspace, archives: Archives) -> None:
    """The kubelet has made it, as root, and those above it; the pod's own mount of it is another folder by now."""
    made = folder_of(early.namespace) / CLAIM / MODEL
    wait_until(lambda: (made / "1").is_dir(), 60, "the kubelet has made the folder")
    assert (made.stat().st_uid, (made / "1").stat().st_uid) == (0, 0)
    assert put(early.namespace, workspace.store).startswith(f"pvc://{CLAIM}/{MODEL}/1")
    early.wait_ready(timeout_s=120)
    outcomes = call_many(early.target, archives.picture, 4)
    assert [(outcome.error, outcome.version) for outcome in outcomes] == [("", "1")] * 4


def test_a_folder_that_root_filled_is_named_with_who_may_have_made_it(namespace: str, workspace: Workspace) -> None:
    release = Release("wrong", namespace, {})
    made = folder_of(namespace) / CLAIM / MODEL
    shutil.rmtree(made, ignore_errors=True)
    (made / "8").mkdir(parents=True, mode=0o755)
    (made / "8" / "another.mar").touch()
    made.chmod(0o755)
    said = put(release.namespace, workspace.store, check=False)
    assert f"/{MODEL} of the claim 'models' cannot be written" in said
    assert "the kubelet makes a missing folder as root for a pod whose archive.uri is wrong or early" in said
    assert "i/o timeout" not in said
    shutil.rmtree(made)
