"""Training as a Job: interrupted, resumed, and served by a second release."""

import json

import pytest

from tests.e2e.cluster import CHARTS, apply, items, run, state, wait_until
from tests.e2e.load import call_many
from tests.e2e.releases import CLAIM, Archives, Release, base_values, folder_of, image, make_volume
from tests.integration.running import ROOT, Workspace

CONFIG = ROOT / "training/configs/digits.yaml"


@pytest.mark.timeout(900)
def test_a_job_that_is_interrupted_writes_an_archive_that_a_release_serves(
    namespace: str, archives: Archives, workspace: Workspace
) -> None:
    make_volume(namespace, "home", folder_of(namespace) / "home")
    key = (workspace.path / "keys" / "visor.key").read_text()
    apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "signing", "namespace": namespace},
            "stringData": {"visor.key": key},
        }
    )
    values = {
        "image": image("training"),
        "config": {"text": CONFIG.read_text()},
        "home": {"existingClaim": "home"},
        "modelStore": {"pvc": {"claim": CLAIM, "subPath": "trained"}},
        "signing": {"secretName": "signing"},
        "resources": {"requests": {"cpu": "100m", "memory": "1Gi"}},
    }
    run(
        "helm",
        "install",
        "training",
        str(CHARTS / "visor-training"),
        "--namespace",
        namespace,
        "--values",
        "-",
        stdin=json.dumps(values),
    )

    def logs() -> str:
        return run(
            "kubectl", "logs", "--namespace", namespace, "--selector", "batch.kubernetes.io/job-name", "--tail", "-1", check=False
        )

    wait_until(lambda: "epoch 2" in logs(), 300, "two epochs", lambda: state(namespace) + logs())
    [pod] = items("pods", namespace, "batch.kubernetes.io/job-name")
    run("kubectl", "delete", "pod", pod["metadata"]["name"], "--namespace", namespace)
    wait_until(
        lambda: any(job.get("status", {}).get("succeeded") for job in items("jobs", namespace)),
        600,
        "the Job has succeeded",
        lambda: state(namespace) + logs(),
    )
    assert "going on after epoch" in logs()

    release = Release("trained", namespace, base_values(archives))
    release.upgrade({"archive": {"uri": f"pvc://{CLAIM}/trained/digits/1"}})
    release.wait_ready()
    release.wait_routed()
    outcomes = call_many(release.target, archives.picture, 4)
    assert {(outcome.version, outcome.error) for outcome in outcomes} == {("1", "")}
