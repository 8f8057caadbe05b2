"""`rollout wait` and `make deploy`: right after whatever has scaled the pods, not before the last pod has changed, and with a
reason where a release does not come."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import ENVIRONMENT, ROOT, apply, get, kubectl, run, wait_rollout, wait_until
from tests.e2e.load import call_many
from tests.e2e.releases import TAG, Archives, Release, base_values
from tests.integration.running import Workspace

pytestmark = pytest.mark.timeout(900)
SCALED = {"autoscaling": {"enabled": True, "minReplicas": 1, "maxReplicas": 3}}


@pytest.fixture
def checkout(tmp_path: Path, workspace: Workspace) -> Path:
    """This checkout, with the keys of the tests' archives."""
    place = tmp_path / "checkout"
    place.mkdir()
    for entry in ROOT.iterdir():
        if entry.name not in ("keys", "local.mk"):
            (place / entry.name).symlink_to(entry)
    (place / "keys").symlink_to(workspace.public_key.parent)
    return place


def deploy(checkout: Path, release: Release, *helm: str) -> str:
    """`make deploy` as a user types it, of an archive that is there."""
    variables = {
        "VENV": sys.prefix, "RELEASE": release.name, "NAMESPACE": release.namespace, "TAG": TAG,
        "ARCHIVE": release.values["archive"]["uri"], "HELM_ARGS": " ".join(helm),
    }  # fmt: skip
    command = ["make", "--no-print-directory", "--assume-old", "setup", "deploy", *(f"{k}={v}" for k, v in variables.items())]
    done = subprocess.run(command, cwd=checkout, env=ENVIRONMENT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


def generations(release: Release) -> tuple[int, int]:
    """What `helm --wait` compares: the InferenceService's generation, and the one that KServe writes into its status."""
    service = get("inferenceservice", release.name, release.namespace)
    return service["metadata"]["generation"], service["status"]["observedGeneration"]


def test_make_deploy_after_a_scaler_s_step(release: Release, checkout: Path, archives: Archives) -> None:
    release.upgrade(SCALED)
    release.wait_ready()
    release.patch("hpa", release.name, {"spec": {"minReplicas": 2}})
    wait_until(lambda: release.ready_pods() == 2, 120, "the scaler has added a pod")
    release.wait_ready(timeout_s=30)
    small = "--reset-then-reuse-values --force-conflicts"
    said = deploy(checkout, release, small)
    named, observed = generations(release)
    assert observed > named
    assert "is ready" in said
    assert [outcome.error for outcome in call_many(release.target, archives.picture, 4)] == [""] * 4


def test_helm_s_own_waiting_as_the_docs_have_it(release: Release) -> None:
    """After a scaler's step: which flags roll back a release that serves, and which a canary that the gate refuses alone."""
    named, observed = generations(release)
    assert observed > named  # as the test before leaves it, and so for ever
    for wait in ((), ("--wait=hookOnly",)):
        said = release.upgrade(args=("--rollback-on-failure", *wait, "--timeout", "5s"), check=False)
        assert "latest observed generation" in said
    release.upgrade(args=("--rollback-on-failure", "--wait=legacy", "--timeout", "60s"))
    before = release.values
    canary = {"enabled": True, "archive": "pvc://models/tampered", "trafficPercent": 20, "readyTimeoutSeconds": 90}
    legacy = ("--rollback-on-failure", "--wait=legacy", "--timeout", "120s")
    assert "has been rolled back" in release.upgrade({"canary": canary}, args=legacy, check=False)
    release.values = before
    wait_until(lambda: not get("inferenceservice", release.canary, release.namespace), 60, "the canary is gone")
    release.upgrade({"autoscaling": {"enabled": False}}, args=("--force-conflicts",))
    release.wait_ready()


def test_a_scale_by_hand_and_a_restart_do_not_matter(release: Release) -> None:
    """KServe undoes both where nothing but it scales, so that each adds to the Deployment's generation alone."""
    release.upgrade({"replicas": 1})
    release.wait_ready()
    release.kubectl("scale", f"deployment/{release.name}-predictor", "--replicas", "2")
    release.kubectl("rollout", "restart", f"deployment/{release.name}-predictor")
    wait_until(lambda: len(release.pods()) == 1, 120, "KServe has undone it")
    release.wait_ready(timeout_s=60)
    named, observed = generations(release)
    assert observed > named


def test_it_is_not_too_early_for_pods_that_roll(release: Release) -> None:
    """New annotations alone, of two pods: the archive is the same, and KServe and the Deployment say Ready all the while."""
    release.upgrade({"replicas": 2})
    release.wait_ready()
    for number in ("1", "2"):
        release.upgrade({"podAnnotations": {"restarted": number}})
        said = wait_rollout(release.name, release.namespace)
        assert [pod["metadata"]["annotations"]["restarted"] for pod in release.pods()] == [number] * 2
        assert release.ready_pods() == 2
        assert "waiting for" in said
    release.upgrade({"replicas": 1})
    release.wait_ready()
    assert len(release.pods()) == 1


def test_a_changed_runtime_is_waited_for_and_what_is_handed_on_holds_nobody_up(release: Release) -> None:
    """The chart applies the InferenceService before the ServingRuntime, of which it says nothing."""
    release.upgrade({"edge": {"maxQueue": 77}})
    said = wait_rollout(release.name, release.namespace)
    arguments = [argument for pod in release.pods() for c in pod["spec"]["containers"] for argument in c.get("args", [])]
    assert "--max-queue=77" in arguments
    assert "is ready" in said
    # Nothing is missing from the template, so that the next wait has nothing to wait for.
    assert "waiting" not in wait_rollout(release.name, release.namespace, timeout_s=5)


def refused(name: str, namespace: str, timeout_s: float) -> str:
    """What `rollout wait` says of a release that does not come."""
    command = [sys.executable, "-m", "rollout", "wait", name, "--namespace", namespace, "--timeout-s", f"{timeout_s:g}"]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 1, done.stderr
    return done.stderr.strip().splitlines()[-1]


@pytest.fixture
def other(namespace: str, archives: Archives) -> Iterator[Release]:
    """Another release, which does not come."""
    made = Release("other", namespace, base_values(archives))
    yield made
    run("helm", "uninstall", made.name, "--namespace", namespace, "--ignore-not-found", "--wait")
    made.kubectl("delete", "resourcequota", "--all")


WRONG = {
    "claim": ({"archive": {"uri": "pvc://nowhere/v1"}}, 60, 'persistentvolumeclaim "nowhere" not found'),
    "no room": ({"nodeSelector": {"no-node": "has-this"}}, 10, "was not ready within 10 s"),
    "secret": ({"edge": {"token": {"secretName": "no-secret"}}}, 20, 'secret "no-secret" not found'),
    "path": (
        {"archive": {"uri": "pvc://models/v77"}},
        120,
        "archive.missing: no .mar lies below /mnt/models (archive.uri pvc://mod",
    ),
    "image": ({"images": {"serving": {"tag": "none"}}}, 10, "ErrImageNeverPull"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_does_not_come_says_why(wrong: str, other: Release) -> None:
    values, timeout_s, words = WRONG[wrong]
    other.upgrade(values)
    assert words in refused(other.name, other.namespace, timeout_s)


def test_a_quota_is_named_by_its_refusal_and_kserve_s_word_by_its_own(other: Release) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full", "namespace": other.namespace}}
    apply(quota | {"spec": {"hard": {"pods": "0"}}})
    other.upgrade()
    assert "its pods cannot be made" in (said := refused(other.name, other.namespace, 60))
    assert "exceeded quota: full" in said
    kubectl("delete", "servingruntime", other.name, "--namespace", other.namespace)
    other.patch("inferenceservice", other.name, {"spec": {"predictor": {"minReplicas": 2}}})

    def status() -> str:
        return str(get("inferenceservice", other.name, other.namespace)["status"]["modelStatus"]["transitionStatus"])

    wait_until(lambda: status() == "InvalidSpec", 30, "KServe refuses")
    assert "KServe refuses its specification" in refused(other.name, other.namespace, 60)


def test_no_warning_event_of_a_normal_start_is_ours(release: Release) -> None:
    """The best of three, as the machine is shared. KServe's own (`the object has been modified`) are about no pod."""
    shown = []
    for number in range(3):
        release.upgrade({"podAnnotations": {"restarted": f"for events {number}"}})
        release.wait_ready()
        [pod] = release.pods()
        about = f"type=Warning,involvedObject.name={pod['metadata']['name']}"
        shown.append(release.kubectl("get", "events", "--field-selector", about, "--output", "jsonpath={.items[*].message}"))
        if not shown[-1]:
            break
    assert not shown[-1], shown
