"""Releases of the chart as a user makes them, in namespaces with restricted Pod Security and a volume of archives."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.cluster import (
    CHARTS,
    DOMAIN,
    GATEWAY,
    HOME,
    KNATIVE_GATEWAY,
    apply,
    kubectl,
    run,
    state,
    wait_rollout,
    wait_until,
)
from tests.e2e.load import Target

TAG = os.environ.get("TAG", "dev")
CLAIM = "models"
MODEL = "digits"
MADE_HERE = "visor.io/e2e"
VOLUME_OF = "visor.io/e2e-namespace"
Values = dict[str, Any]


@dataclass(frozen=True)
class Archives:
    """What lies on the volume.

    `folder` holds v1 and v2, two versions of one model; tampered, v2 with one byte changed; unsigned, v1 without its signature;
    renamed, v1 under another model's name; and rolled-back, v1 where version 9 belongs.
    """

    folder: Path
    public_key: str
    picture: bytes


def merge(base: Values, *others: Values) -> Values:
    """Values laid over values, as helm does it."""
    merged = dict(base)
    for other in others:
        for key, value in other.items():
            known = merged.get(key)
            merged[key] = merge(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged


def image(name: str) -> Values:
    """An image that was loaded into the node and cannot be pulled."""
    return {"repository": f"localhost/visor-{name}", "tag": TAG, "pullPolicy": "Never"}


@dataclass
class Release:
    """One release; `values` are those of its last upgrade."""

    name: str
    namespace: str
    values: Values

    @property
    def canary(self) -> str:
        """The canary's InferenceService."""
        return f"{self.name}-canary"

    @property
    def target(self) -> Target:
        """Its route at the gateway."""
        if self.values.get("mode") == "Knative":
            return Target(KNATIVE_GATEWAY, f"{self.name}-predictor.{self.namespace}.{DOMAIN}", MODEL)
        return Target(GATEWAY, f"{self.name}-{self.namespace}.{DOMAIN}", MODEL)

    def helm(self, command: str, *args: str, stdin: str | None = None, check: bool = True) -> str:
        """A helm command on this release."""
        return run("helm", command, self.name, *args, "--namespace", self.namespace, stdin=stdin, check=check)

    def upgrade(self, *changes: Values, args: tuple[str, ...] = (), check: bool = True, chart: Path = CHARTS / "visor") -> str:
        """`helm upgrade --install` with these values over the last ones, which are kept when it succeeds."""
        values = merge(self.values, *changes)
        output = self.helm("upgrade", str(chart), "--install", "--values", "-", *args, stdin=json.dumps(values), check=check)
        self.values = values
        return output

    def wait_ready(self, name: str | None = None, timeout_s: float = 180) -> None:
        """Return once it serves what it names on all of its pods, and the gateway has taken its routes."""
        wait_rollout(name or self.name, self.namespace, timeout_s)

    def kubectl(self, *args: str, check: bool = True) -> str:
        """A kubectl command in the release's namespace."""
        return kubectl("--namespace", self.namespace, *args, check=check)

    def ready_pods(self, service: str | None = None) -> int:
        """How many of those pods take requests."""
        conditions = [{c["type"]: c["status"] for c in pod["status"].get("conditions", [])} for pod in self.pods(service)]
        return sum(condition.get("Ready") == "True" for condition in conditions)

    def pods(self, service: str | None = None) -> list[dict[str, Any]]:
        """The pods of one of its InferenceServices that are not on their way out."""
        selector = f"serving.kserve.io/inferenceservice={service or self.name}"
        return [pod for pod in self._pods("--selector", selector) if "deletionTimestamp" not in pod["metadata"]]

    def wait_gone(self, timeout_s: float = 180) -> None:
        """Return once every pod of the namespace that is on its way out has gone."""
        wait_until(
            lambda: not any("deletionTimestamp" in pod["metadata"] for pod in self._pods()), timeout_s, "the old pods are gone",
            lambda: state(self.namespace),
        )  # fmt: skip

    def _pods(self, *args: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", "pods", *args, "--output", "json"))["items"]
        return items

    def patch(self, kind: str, name: str, change: object) -> None:
        """`kubectl patch`: a list is a JSON patch, a dict a merge patch, as the documentation shows both."""
        form = "json" if isinstance(change, list) else "merge"
        self.kubectl("patch", kind, name, f"--type={form}", "--patch", json.dumps(change))

    def set_weights(self, stable: int, canary: int) -> None:
        """The documented kubectl command that moves the canary's share of REST and of gRPC."""
        path = "/spec/rules/{}/backendRefs/{}/weight"
        weights = [(rule, n, weight) for rule in range(2) for n, weight in enumerate((stable, canary))]
        change = [{"op": "replace", "path": path.format(rule, n), "value": weight} for rule, n, weight in weights]
        self.patch("httproute", self.name, change)


def base_values(archives: Archives) -> Values:
    """What every release here has in common: small requests, for a machine of two cores."""
    return {
        "archive": {"uri": f"pvc://{CLAIM}/v1", "publicKey": archives.public_key},
        "images": {"serving": image("serving"), "transformer": image("transformer")},
        "resources": {
            "serving": {"requests": {"cpu": "100m"}, "limits": {"cpu": "1"}},
            "transformer": {"requests": {"cpu": "50m"}},
        },
    }


def make_volume(namespace: str, claim: str, host_folder: Path) -> None:
    """A bound claim of a volume on a folder of the node, where the pods' user may write.

    Bound before any pod asks for it: the scheduler looks at a pod that came too early again only after minutes.
    """
    host_folder.mkdir(parents=True, exist_ok=True)
    for path in (host_folder, *host_folder.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o644)
    capacity = {"storage": "1Gi"}
    common = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    name = f"{namespace}-{claim}"
    made = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "labels": {VOLUME_OF: namespace}},
        "spec": {
            **common,
            "capacity": capacity,
            "hostPath": {"path": str(host_folder)},
            "claimRef": {"name": claim, "namespace": namespace},
        },
    }
    claimed = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": claim, "namespace": namespace},
        "spec": {**common, "volumeName": name, "resources": {"requests": capacity}},
    }
    apply(made, claimed)
    kubectl("wait", "--for", "jsonpath={.status.phase}=Bound", f"pvc/{claim}", "--namespace", namespace, "--timeout", "60s")


@contextmanager
def namespace_of(name: str, archives: Archives) -> Iterator[str]:
    """A new, empty namespace that accepts restricted pods only, with the archives on a volume.

    Afterwards it is on its way out, for which the next module need not wait; `remove_all` does.
    """
    remove(name)
    shutil.copytree(archives.folder, folder_of(name) / CLAIM)
    labels = {"pod-security.kubernetes.io/enforce": "restricted", MADE_HERE: "true"}
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    make_volume(name, CLAIM, folder_of(name) / CLAIM)
    try:
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


def folder_of(namespace: str) -> Path:
    """Where a namespace's volumes lie on the node."""
    return HOME / "e2e" / namespace


def remove(namespace: str) -> None:
    """Delete a namespace with all in it, its volumes and their files; what is not there is no error."""
    kubectl("delete", "namespace", namespace, "--ignore-not-found", "--wait", "--timeout", "180s")
    kubectl("delete", "persistentvolume", "--selector", f"{VOLUME_OF}={namespace}", "--wait", "--timeout", "60s")
    shutil.rmtree(folder_of(namespace), ignore_errors=True)


def remove_all() -> None:
    """Delete every namespace that tests made, as `remove` does."""
    made = kubectl("get", "namespaces", "--selector", MADE_HERE, "--output", "jsonpath={.items[*].metadata.name}")
    for namespace in made.split():
        remove(namespace)
