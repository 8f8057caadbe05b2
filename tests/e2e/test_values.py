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
    made = []
    for number, (name, spec) in enumerate(pods(objects)):
        if not name.startswith("InferenceService"):
            continue
        [service] = [item for item in objects if f"{item['kind']} {item['metadata']['name']}" == name]
        serving = {**spec["containers"][0], "resources": spec["model"]["resources"]}
        metadata = {
            "name": f"pod-{number}",
            "labels": {**service["metadata"]["labels"], **spec.get("labels", {})},
            "annotations": spec.get("annotations", {}),
        }
        whole = {**{key: spec[key] for key in kept if key in spec}, "containers": [serving, *spec["containers"][1:]]}
        made.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": whole})
    return made


@pytest.mark.parametrize("name", RENDERED)
def test_the_api_server_takes_what_is_rendered(anywhere: str, name: str) -> None:
    values = json.dumps(over(PLAIN, RENDERED[name]))
    text = run("helm", "template", "roofs", str(CHARTS / "visor"), "--namespace", anywhere, "--values", "-", stdin=values)
    objects = [item for item in yaml.safe_load_all(text) if item and item["kind"] not in ABSENT]
    for item in (*objects, *as_pods(objects)):
        kubectl("apply", "--server-side", "--dry-run=server", "--namespace", anywhere, "--filename", "-", stdin=json.dumps(item))
