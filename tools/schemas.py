"""Make tools/schemas/: what kubeconform holds the charts' rendered objects against, without a network.

Custom kinds come from the CRDs in the Go modules of the pinned projects, Kubernetes' own kinds from its OpenAPI document;
`go mod download` fetches them and checks them against Go's checksum database. Every schema is strict: an unknown field is
an error. What a CRD repeats (a pod's fields, for the most part) is written once, below `$defs`, and prose is left out.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Schema = dict[str, Any]

HERE = Path(__file__).parent
KUBERNETES = "k8s.io/kubernetes@v1.35.4"
ENVOY = "charts/gateway-helm/charts/crds/crds/generated/gateway.envoyproxy.io"
# (Go module, CRD below it, version): the versions that k8s/install installs, where they are published as modules. A file of
# several CRDs is followed by the wanted one's kind. Envoy Gateway, for samples, is of the version that KServe 0.20 names.
CRDS = [
    ("github.com/kserve/kserve@v0.20.0", "config/crd/full/serving.kserve.io_inferenceservices.yaml", "v1beta1"),
    ("github.com/kserve/kserve@v0.20.0", "config/crd/full/serving.kserve.io_servingruntimes.yaml", "v1alpha1"),
    ("sigs.k8s.io/gateway-api@v1.3.0", "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml", "v1"),
    ("sigs.k8s.io/gateway-api@v1.3.0", "config/crd/standard/gateway.networking.k8s.io_grpcroutes.yaml", "v1"),
    ("sigs.k8s.io/gateway-api@v1.3.0", "config/crd/standard/gateway.networking.k8s.io_gateways.yaml", "v1"),
    ("github.com/projectcontour/contour@v1.33.8", "examples/contour/01-crds.yaml HTTPProxy", "v1"),
    ("github.com/envoyproxy/gateway@v1.8.1", f"{ENVOY}_securitypolicies.yaml", "v1alpha1"),
    ("github.com/envoyproxy/gateway@v1.8.1", f"{ENVOY}_clienttrafficpolicies.yaml", "v1alpha1"),
    ("github.com/kedacore/keda/v2@v2.18.0", "config/crd/bases/keda.sh_scaledobjects.yaml", "v1alpha1"),
    ("github.com/kubeflow/trainer/v2@v2.3.0", "manifests/base/crds/trainer.kubeflow.org_trainjobs.yaml", "v1alpha1"),
    ("github.com/kubeflow/trainer/v2@v2.3.0", "manifests/base/crds/trainer.kubeflow.org_trainingruntimes.yaml", "v1alpha1"),
    (
        "github.com/prometheus-operator/prometheus-operator@v0.85.0",
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "v1",
    ),
    (
        "github.com/prometheus-operator/prometheus-operator@v0.85.0",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
        "v1",
    ),
    (
        "github.com/prometheus-operator/prometheus-operator@v0.85.0",
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
        "v1",
    ),
]
# (group as kubeconform names it, version, kind): definitions of Kubernetes' OpenAPI document.
BUILT_IN = [
    ("", "v1", "ConfigMap"),
    ("", "v1", "PersistentVolumeClaim"),
    ("", "v1", "Pod"),
    ("", "v1", "Secret"),
    ("", "v1", "Service"),
    ("", "v1", "ServiceAccount"),
    ("apps", "v1", "Deployment"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler"),
    ("batch", "v1", "CronJob"),
    ("batch", "v1", "Job"),
    ("networking", "v1", "NetworkPolicy"),
    ("policy", "v1", "PodDisruptionBudget"),
    ("rbac", "v1", "Role"),
    ("rbac", "v1", "RoleBinding"),
]
METADATA = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
PROSE = {"description", "example", "default", "title", "externalDocs"}
INT_OR_STRING: Schema = {"type": ["integer", "string"]}
SHARED_BYTES = 200  # a part that is repeated and longer than this is written once


def main(argv: list[str] | None = None) -> int:
    """Write the folder anew."""
    parser = argparse.ArgumentParser(description="Make tools/schemas/ from the pinned projects' own files.")
    parser.parse_args(argv)
    to = HERE / "schemas"
    to.mkdir(exist_ok=True)
    for old in to.glob("*.json"):
        old.unlink()
    for name, schema in [*_custom(), *_built_in()]:
        (to / name).write_text(json.dumps(schema, separators=(",", ":"), sort_keys=True) + "\n")
    return 0


def _custom() -> Iterator[tuple[str, Schema]]:
    for module, path, version in CRDS:
        file, _, kind = path.partition(" ")
        found = [crd["spec"] for crd in yaml.load_all((_module(module) / file).read_text(), yaml.CSafeLoader) if crd]
        [spec] = [spec for spec in found if kind in ("", spec["names"]["kind"])]
        [schema] = [v["schema"]["openAPIV3Schema"] for v in spec["versions"] if v["name"] == version]
        strict = _strict(schema, root=True)
        yield f"{spec['names']['kind'].lower()}-{spec['group'].split('.')[0]}-{version}.json", _share(strict)


def _built_in() -> Iterator[tuple[str, Schema]]:
    document = json.loads((_module(KUBERNETES) / "api/openapi-spec/swagger.json").read_text())["definitions"]
    needed: dict[str, Schema] = {}

    def take(name: str) -> None:
        if name not in needed:
            needed[name] = _strict(document[name])
            for reference in _references(needed[name]):
                take(reference.rsplit("/", 1)[1])

    for group, version, kind in BUILT_IN:
        name = f"io.k8s.api.{group or 'core'}.{version}.{kind}"
        take(name)
        suffix = f"{group}-{version}" if group else version
        yield f"{kind.lower()}-{suffix}.json", {"$ref": f"kubernetes.json#/$defs/{name}"}
    yield "kubernetes.json", {"$defs": needed}


def _module(module: str) -> Path:
    done = subprocess.run(["go", "mod", "download", "-json", module], stdout=subprocess.PIPE, check=False, text=True, cwd="/")
    facts = json.loads(done.stdout)
    if done.returncode:
        raise SystemExit(f"schemas: go mod download {module}: {facts.get('Error')}")
    return Path(facts["Dir"])


def _strict(schema: Schema, root: bool = False) -> Schema:
    """JSON Schema of an OpenAPI one, with every field that it does not name refused."""
    if schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
        return INT_OR_STRING
    reference = schema.get("$ref", "")
    if reference.endswith((".api.resource.Quantity", ".util.intstr.IntOrString")):
        return {"type": ["number", "string"]}
    if reference:
        return {"$ref": reference.replace("#/definitions/", "#/$defs/")}
    strict: Schema = {k: v for k, v in schema.items() if k not in PROSE and not k.startswith("x-") and k != "format"}
    if "properties" in strict:
        strict["properties"] = {name: _strict(part) for name, part in schema["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(strict.get(key), dict):
            strict[key] = _strict(schema[key])
    for key in ("anyOf", "oneOf", "allOf"):
        # Rules between named fields: making them strict too would let each of them refuse the others' fields.
        if key in strict:
            strict[key] = [{k: v for k, v in part.items() if k not in PROSE} for part in schema[key]]
    if "properties" in strict and "additionalProperties" not in strict and not schema.get("x-kubernetes-preserve-unknown-fields"):
        strict["additionalProperties"] = False
    if root:
        strict["properties"]["metadata"] = {"$ref": f"kubernetes.json#/$defs/{METADATA}"}
    return strict


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for part in schema.values():
            yield from _references(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _references(part)


def _share(schema: Schema) -> Schema:
    """The same schema with each long part that it repeats below `$defs`, once."""
    seen: Counter[str] = Counter()

    def count(part: Any) -> None:
        if isinstance(part, dict):
            text = json.dumps(part, sort_keys=True)
            seen[text] += 1
            if seen[text] > 1:
                return  # its parts are counted with the first one
            for inner in part.values():
                count(inner)
        elif isinstance(part, list):
            for inner in part:
                count(inner)

    def is_schema(part: Schema) -> bool:
        return isinstance(part.get("type"), str | list)  # and not a map of fields, one of which is called type

    count(schema)
    shared: dict[str, Schema] = {}

    def replace(part: Any, top: bool = False) -> Any:
        if isinstance(part, list):
            return [replace(inner) for inner in part]
        if not isinstance(part, dict):
            return part
        text = json.dumps(part, sort_keys=True)
        if top or seen[text] < 2 or len(text) < SHARED_BYTES or not is_schema(part):
            return {key: replace(inner) for key, inner in part.items()}
        name = hashlib.sha256(text.encode()).hexdigest()[:12]
        if name not in shared:
            shared[name] = {key: replace(inner) for key, inner in part.items()}
        return {"$ref": f"#/$defs/{name}"}

    return {**replace(schema, top=True), "$defs": shared}


if __name__ == "__main__":
    sys.exit(main())
