"""Training as a Job: interrupted, resumed, served by a second release, and asked about a folder by an Indexed Job."""

import json

import pyarrow.parquet
import pytest

from tests.e2e.cluster import CHARTS, apply, items, run, state, wait_until
from tests.e2e.load import call_many
from tests.e2e.releases import CLAIM, Archives, Release, base_values, folder_of, image, make_volume
from tests.integration.running import ROOT, Workspace

CONFIG = ROOT / "training/configs/digits.yaml"


@pytest.mark.timeout(1200)
def test_a_job_that_is_interrupted_writes_an_archive_that_a_release_serves(
    namespace: str, archives: Archives, workspace: Workspace
) -> None:
    make_volume(namespace, "home", folder_of(namespace) / "home")
    for name, data in {"signing": {"visor.key": locked(workspace, "two words")}, "words": {"passphrase": "two words\n"}}.items():
        meta = {"name": name, "namespace": namespace}
        apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": data})
    values = {
        "image": image("training"),
        "config": {"text": CONFIG.read_text()},
        "home": {"existingClaim": "home"},
        "modelStore": {"pvc": {"claim": CLAIM, "subPath": "trained"}},
        "signing": {"secretName": "signing", "passphrase": {"secretName": "words"}},
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

    def logs(container: str = "train") -> str:
        of = ("--namespace", namespace, "--selector", "batch.kubernetes.io/job-name", "--container", container)
        return run("kubectl", "logs", *of, "--tail", "-1", "--ignore-errors", check=False)

    wait_until(lambda: "epoch 2" in logs(), 300, "two epochs", lambda: state(namespace) + logs())
    [pod] = items("pods", namespace, "batch.kubernetes.io/job-name")
    run("kubectl", "delete", "pod", pod["metadata"]["name"], "--namespace", namespace)
    wait_until(
        lambda: any(job.get("status", {}).get("succeeded") for job in items("jobs", namespace)),
        600,
        "the Job has succeeded",
        lambda: state(namespace) + logs() + logs("deliver"),
    )
    assert "going on after epoch" in logs()
    assert "digits version 1, archive " in logs("deliver")

    release = Release("trained", namespace, base_values(archives))
    release.upgrade({"archive": {"uri": f"pvc://{CLAIM}/trained/digits/1"}})
    release.wait_ready()
    outcomes = call_many(release.target, archives.picture, 4)
    assert {(outcome.version, outcome.error) for outcome in outcomes} == {("1", "")}

    score(namespace, workspace)


def locked(workspace: Workspace, passphrase: str) -> str:
    """The workspace's private key, encrypted by OpenSSL."""
    command = ["openssl", "pkcs8", "-topk8", "-v2", "aes256", "-in", str(workspace.path / "keys/visor.key")]
    return run(*command, "-passout", f"pass:{passphrase}")


def score(namespace: str, workspace: Workspace) -> None:
    """The images that it was trained on, in two shards: a row for each, in the listing's order, and none is an error."""
    make_volume(namespace, "scores", folder_of(namespace) / "scores")
    values = {
        "image": image("training"),
        "job": {"enabled": False},
        "modelStore": {"pvc": {"claim": CLAIM, "subPath": "trained"}},
        "scoring": {
            "enabled": True,
            "archive": "digits/1",
            "publicKey": workspace.public_key.read_text(),
            "images": {"claim": "home", "path": "data/digits"},
            "output": {"claim": "scores", "path": "digits"},
            "shards": 2,
            "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}},
        },
    }
    command = ["helm", "install", "scoring", str(CHARTS / "visor-training"), "--namespace", namespace, "--values", "-"]
    run(*command, stdin=json.dumps(values))

    def succeeded() -> list[int]:
        jobs = [job for job in items("jobs", namespace) if job["spec"].get("completionMode") == "Indexed"]
        return [job.get("status", {}).get("succeeded", 0) for job in jobs]

    wait_until(lambda: succeeded() == [2], 300, "both shards are done", lambda: state(namespace))
    table = pyarrow.parquet.read_table(folder_of(namespace) / "scores" / "digits")
    data = folder_of(namespace) / "home" / "data" / "digits"
    listed = sorted(path.relative_to(data).as_posix() for path in data.rglob("*.png"))
    assert table["path"].to_pylist() == listed
    assert len(listed) == 1797
    assert table["error"].null_count == len(listed)
