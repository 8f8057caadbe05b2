"""k8s/samples as a cluster takes them, and the way without Helm: an archive put on a volume, served by the plain sample."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from archives.files import sha256
from tests.e2e.cluster import DOMAIN, GATEWAY, ROOT, apply, kubectl, run, wait_rollout
from tests.e2e.load import Target, call_many
from tests.e2e.releases import MADE_HERE, MODEL, TAG, VOLUME_OF, Archives, folder_of, remove
from tests.integration.running import Workspace

NAMESPACE = "visor-samples"
VOLUME = folder_of(NAMESPACE)
IMAGE = f"localhost/visor-transformer:{TAG}"
SAMPLES = {path.stem: path for path in (ROOT / "k8s/samples").glob("*.yaml")}


def sample(name: str) -> list[dict[str, Any]]:
    """A sample's objects, in this module's namespace, its volume in a folder of this module's own."""
    found = [item for item in yaml.safe_load_all(SAMPLES[name].read_text()) if isinstance(item, dict)]
    for item in found:
        if item["kind"] == "Namespace":
            item["metadata"]["name"] = NAMESPACE
            item["metadata"].setdefault("labels", {})[MADE_HERE] = "true"
        elif item["kind"] == "PersistentVolume":
            item["metadata"]["name"] = NAMESPACE
            item["metadata"].setdefault("labels", {})[VOLUME_OF] = NAMESPACE
            item["spec"]["hostPath"]["path"] = str(VOLUME)
        elif not item["kind"].startswith(("Cluster", "ValidatingAdmission")):
            item["metadata"]["namespace"] = NAMESPACE
        if item["kind"] == "PersistentVolumeClaim" and "volumeName" in item["spec"]:
            item["spec"]["volumeName"] = NAMESPACE
    return found


@pytest.fixture(scope="module", autouse=True)
def namespace() -> Iterator[None]:
    """The sample namespace, with the sample volume."""
    remove(NAMESPACE)
    VOLUME.mkdir(parents=True)
    VOLUME.chmod(0o777)  # the sample's header has it owned by the pods' user instead, which needs root
    apply(*sample("namespace"), *sample("archives-hostpath"))
    try:
        yield
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--wait=false")


# One is a patch, and two are of Envoy Gateway's kinds, which this cluster has not.
ELSEWHERE = {"canary-weights", "envoy-gateway-jwt", "envoy-gateway-mtls"}


@pytest.mark.parametrize("name", sorted(set(SAMPLES) - ELSEWHERE))
def test_the_api_server_takes_a_sample(name: str) -> None:
    items = sample(name)
    for item in items:
        item["metadata"]["name"] += "-try"
    text = "\n---\n".join(map(json.dumps, items))
    shown = kubectl("create", "--dry-run=server", "--filename", "-", stdin=text).splitlines()
    assert len(shown) == len(items)
    assert all(line.endswith("-try created (server dry run)") for line in shown)


def put(store: Path, archive: str, check: bool = True) -> tuple[str, str]:
    """The address that k8s/put-archive prints, and the rest of what it prints."""
    said = run(
        str(ROOT / "k8s/put-archive"), "--namespace", NAMESPACE, "--store", str(store), "--image", IMAGE, archive, check=check
    )
    address, _, rest = said.strip().partition("\n")
    return address, rest


def test_an_archive_is_put_on_the_volume_once_and_never_changed(workspace: Workspace, archives: Archives, tmp_path: Path) -> None:
    first, second = (sha256(workspace.store / MODEL / version / f"{MODEL}.mar") for version in ("1", "2"))
    assert put(workspace.store, MODEL) == (f"pvc://models/{MODEL}/2", second)
    assert put(workspace.store, f"{MODEL}/1") == (f"pvc://models/{MODEL}/1", first)
    there = VOLUME / MODEL / "1" / f"{MODEL}.mar"
    assert there.read_bytes() == (archives.folder / "v1" / there.name).read_bytes()
    modified = there.stat().st_mtime_ns
    assert put(workspace.store, f"{MODEL}/1") == (f"pvc://models/{MODEL}/1", first)
    other = Path(shutil.copytree(workspace.store / MODEL, tmp_path / MODEL)) / "1" / there.name
    other.write_bytes(b"other")
    assert "holds other files" in "\n".join(put(tmp_path, f"{MODEL}/1", check=False))
    assert there.stat().st_mtime_ns == modified


def test_the_plain_inference_service_answers(workspace: Workspace, archives: Archives) -> None:
    address, _ = put(workspace.store, f"{MODEL}/1")
    [key] = sample("public-key")
    key["data"]["visor.pub"] = archives.public_key
    runtime, service = sample("inference-service")
    for container in runtime["spec"]["containers"]:
        container["image"] = container["image"].replace(":dev", f":{TAG}")
    predictor = service["spec"]["predictor"]
    predictor["model"]["storageUri"] = address
    predictor["model"]["resources"]["requests"]["cpu"] = "100m"
    apply(key, runtime, service)
    name = service["metadata"]["name"]
    wait_rollout(name, NAMESPACE)
    target = Target(GATEWAY, f"{name}-{NAMESPACE}.{DOMAIN}", MODEL)
    outcomes = call_many(target, archives.picture, 4)
    assert [outcome.error for outcome in outcomes] == [""] * 4
    assert {outcome.protocol for outcome in outcomes} == {"rest", "grpc"}
