"""Combinations of values at a real API server, by dry run: each object is taken, and so is each pod that KServe would make."""

import json
from collections.abc import Iterator

import pytest
import yaml

from tests.charts.checks import Values
from tests.charts.test_combinations import over
from tests.charts.test_visor import pods
from tests.charts.visor_combinations import RENDERED
from tests.charts.visor_values import PLAIN
from tests.e2e.cluster import CHARTS, apply, kubectl, run
from tests.e2e.releases import MADE_HERE, remove

NAMESPACE = "visor-values"
# Kinds that no cluster of the tests has.
ABSENT = {"ScaledObject"}


@pytest.fixture(scope="module")
def anywhere() -> Iterator[str]:
    """An empty namespace without any Pod Security."""
    remove(NAMESPACE)
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": {MADE_HERE: "true"}}})
    yield NAMESPACE
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def as_pods(objects: list[Values]) -> list[Values]:
    """The serving pods as objects of their own; what the InferenceService says beside a pod's fields is left out."""
    kept = (
        "containers", "volumes", "initContainers", "securityContext", "topologySpreadConstraints", "affinity", "nodeSelector",
        "tolerations", "terminationGracePeriodSeconds", "automountServiceAccountToken",
    )  # fmt: skip
    services = {item["metadata"]["name"]: item["metadata"] for item in objects if item["kind"] == "InferenceService"}
    made = []
    for name, spec in pods(objects):
        kind, own = name.split()
        if kind == "InferenceService":
            serving = {**spec["containers"][0], "resources": spec["model"]["resources"]}
            metadata = {
                "name": own,
                "labels": {**services[own]["labels"], **spec.get("labels", {})},
                "annotations": spec.get("annotations", {}),
            }
            whole = {**{key: spec[key] for key in kept if key in spec}, "containers": [serving, *spec["containers"][1:]]}
            made.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": whole})
    return made


def test_the_api_server_takes_what_is_rendered(anywhere: str) -> None:
    """All combinations at once, each as a release of its own; kubectl goes on after an error and names the object."""
    everything: list[Values] = []
    for number, (name, values) in enumerate(RENDERED.items()):
        release = f"c{number}"
        text = run(
            "helm", "template", release, str(CHARTS / "visor"), "--namespace", anywhere, "--values", "-",
            stdin=json.dumps(over(PLAIN, values)),
        )  # fmt: skip
        objects = [item for item in yaml.safe_load_all(text) if item and item["kind"] not in ABSENT]
        assert as_pods(objects), name
        everything += [*objects, *as_pods(objects)]
    done = kubectl(
        "apply", "--server-side", "--dry-run=server", "--namespace", anywhere, "--filename", "-",
        stdin=yaml.safe_dump_all(everything), check=False,
    )  # fmt: skip
    refused = [line for line in done.splitlines() if not line.endswith("serverside-applied (server dry run)")]
    assert refused == [], dict(enumerate(RENDERED))
    assert len(done.splitlines()) == len(everything)
