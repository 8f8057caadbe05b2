"""KEDA, and Prometheus with its operator, in the cluster for a while: from their own manifests, in the image `operators`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from tests.e2e.cluster import ROOT, apply, get, kubectl, run, state, wait_until

Object = dict[str, Any]

IMAGE = "localhost/operators:local"
MONITORING = "visor-monitoring"
ADDRESS = f"http://prometheus-operated.{MONITORING}:9090"
# Not the label of the tests' namespaces, which go at the end of each run, whoever made them.
LABEL = "visor.io/e2e-operators"
CRD = "CustomResourceDefinition"


class Manifests(yaml.CSafeLoader):
    """A lone `=` is text, as it is in YAML 1.2: a CRD of Alertmanager's has one."""


Manifests.add_constructor("tag:yaml.org,2002:value", yaml.CSafeLoader.construct_yaml_str)


@contextmanager
def operators() -> Iterator[None]:
    """Install both and remove them again, with the CRDs that the cluster did not have and all objects of those kinds."""
    folder = Path(run(str(ROOT / "tests/e2e/images/operators/build"), timeout_s=3600).strip())
    objects = [*adapted(folder / "keda.yaml"), *adapted(folder / "prometheus.yaml"), *prometheus()]
    for name in ("scaledobjects.keda.sh", "prometheuses.monitoring.coreos.com"):
        there = get("crd", name, "default")
        assert not there or LABEL in there["metadata"].get("labels", {}), f"the cluster has {name} already; remove it first"
    remove()  # what a run left that was killed
    crds = [item for item in objects if item["kind"] == CRD and not get("crd", item["metadata"]["name"], "default")]
    others = [item for item in objects if item["kind"] != CRD]
    try:
        apply(*crds)
        kubectl("wait", "--for", "condition=Established", *(f"crd/{item['metadata']['name']}" for item in crds))
        apply(*(item for item in others if item["kind"] == "Namespace"))
        apply(*others)
        for item in others:
            if item["kind"] == "Deployment":
                name, namespace = item["metadata"]["name"], item["metadata"]["namespace"]
                kubectl("rollout", "status", f"deployment/{name}", "--namespace", namespace, "--timeout", "180s")
        kubectl("wait", "--for", "condition=Available", "apiservice/v1beta1.external.metrics.k8s.io", "--timeout", "60s")
        wait_until(lambda: "success" in answer("vector(1)"), 180, "Prometheus answers", lambda: state(MONITORING))
        yield
    finally:
        remove()


def ask(query: str) -> list[tuple[dict[str, str], float]]:
    """What Prometheus answers to an instant query: each series' labels and value."""
    found = json.loads(answer(query))["data"]["result"]
    return [(series["metric"], float(series["value"][1])) for series in found]


def answer(query: str) -> str:
    """The whole answer as text, or why there is none; through the API server, as no pod's address need be reachable from here."""
    service = f"/api/v1/namespaces/{MONITORING}/services/prometheus-operated:9090/proxy"
    return kubectl("get", "--raw", f"{service}/api/v1/query?query={quote(query, safe='')}", check=False)


def adapted(file: Path) -> list[Object]:
    """A project's own objects, but with our image, our label, and a namespace of their own instead of `default`."""
    text = file.read_text().replace("namespace: default\n", f"namespace: {MONITORING}\n")
    objects = [item for item in yaml.load_all(text, Manifests) if item]
    for item in objects:
        item["metadata"]["labels"] = item["metadata"].get("labels", {}) | {LABEL: "true"}
        if item["kind"] == "Deployment":
            [container] = item["spec"]["template"]["spec"]["containers"]
            container |= {"image": IMAGE, "imagePullPolicy": "Never"}
            container["resources"]["requests"]["cpu"] = "10m"  # the node's two cores are for the releases
            if item["metadata"]["name"] == "prometheus-operator":  # which is to make nothing outside of its namespace
                container |= {"command": ["/bin/operator"], "args": [f"--prometheus-config-reloader={IMAGE}"]}
    return objects


def prometheus() -> list[Object]:
    """A Prometheus that takes every PodMonitor and PrometheusRule of the cluster, as that of k8s/prometheus-values.yaml does."""
    named: Object = {"name": "visor-e2e-prometheus", "labels": {LABEL: "true"}}
    here = {**named, "namespace": MONITORING}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": named["name"]}
    account = {"kind": "ServiceAccount", "name": named["name"], "namespace": MONITORING}
    user = {"runAsNonRoot": True, "runAsUser": 65532, "fsGroup": 65532}
    spec = {
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "serviceAccountName": named["name"],
        "podMonitorSelector": {},
        "podMonitorNamespaceSelector": {},
        "ruleSelector": {},
        "ruleNamespaceSelector": {},
        "resources": {"requests": {"cpu": "10m"}},
        "securityContext": user,
    }
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    rbac = "rbac.authorization.k8s.io/v1"
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": MONITORING, "labels": {LABEL: "true"}}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": here},
        {"apiVersion": rbac, "kind": "ClusterRole", "metadata": named, "rules": rules},
        {"apiVersion": rbac, "kind": "ClusterRoleBinding", "metadata": named, "roleRef": role, "subjects": [account]},
        {"apiVersion": "monitoring.coreos.com/v1", "kind": "Prometheus", "metadata": here, "spec": spec},
    ]


def remove() -> None:
    """Delete all that carries the label, and wait until it has gone; KEDA's objects while KEDA runs and lets go of them."""
    if get("crd", "scaledobjects.keda.sh", "default"):
        kubectl("delete", "scaledobjects.keda.sh", "--all", "--all-namespaces", "--timeout", "60s")
    # The API of external metrics before what answers it: no namespace goes while a part of the API does not answer.
    for kinds in ("apiservices,validatingwebhookconfigurations", "namespaces", "clusterroles,clusterrolebindings,crds"):
        kubectl("delete", kinds, "--selector", LABEL, "--ignore-not-found", "--timeout", "180s")
    kubectl("delete", "rolebindings", "--namespace", "kube-system", "--selector", LABEL, "--ignore-not-found")
