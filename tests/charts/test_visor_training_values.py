"""charts/visor-training's values: a closed schema, every value explained, used and refused where it cannot be."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.checks import ROOT, Values, at, renderer, schemas, values_of, with_value

CHART = ROOT / "charts" / "visor-training"
LEAST = CHART / "ci" / "pvc-values.yaml"
# Objects of Kubernetes itself, too wide to be written out once more; kubeconform holds them against Kubernetes' schemas.
OPEN = {f"definitions.affinity.properties.{kind}" for kind in ("nodeAffinity", "podAffinity", "podAntiAffinity")} | {
    "properties.extraVolumes.items",
    "properties.global",
}


@pytest.fixture(scope="session")
def render(helm: Any) -> Any:
    return renderer(helm, CHART)


def read(path: str) -> Any:
    return yaml.safe_load((CHART / path).read_text())


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("foo=1", "at '': additional properties 'foo' not allowed"),
        ("data.gcs.uri=gs://x", "at '/data': additional properties 'gcs' not allowed"),
        ("data.source=folder", "at '/data/source': value must be one of 'builtin', 'pvc', 's3'"),
        ("data.s3.uri=gs://pictures", "at '/data/s3/uri': 'gs://pictures' does not match pattern"),
        ("data.pvc.path=../etc", "at '/data/pvc/path': 'not' failed"),
        ("data.pvc.path=/etc", "at '/data/pvc/path': '/etc' does not match pattern"),
        ("modelStore.s3.uri=models", "at '/modelStore/s3/uri': 'models' does not match pattern"),
        ("s3.endpoint=minio:9000", "at '/s3/endpoint': 'minio:9000' does not match pattern"),
        ("backend=onnx", "at '/backend': value must be one of"),
        ("set={seed}", "at '/set/0': 'seed' does not match pattern"),
        ("cronJob.concurrencyPolicy=Allow", "at '/cronJob/concurrencyPolicy': value must be one of 'Forbid', 'Replace'"),
        ("cronJob.schedule=daily", "at '/cronJob/schedule': 'daily' does not match pattern"),
        ("job.backoffLimit=-1", "at '/job/backoffLimit': minimum: got -1, want 0"),
        ("trainJob.nodes=0", "at '/trainJob/nodes': minimum: got 0, want 1"),
        ("home.size=20 GB", "at '/home/size': '20 GB' does not match pattern"),
        ("mlflow.server.port=80", "at '/mlflow/server/port': minimum: got 80, want 1,024"),
        ("containerSecurityContext.privileged=maybe", "at '/containerSecurityContext/privileged': got string, want boolean"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused_by_name(helm: Any, setting: str, words: str) -> None:
    done = helm("template", "roofs", str(CHART), "--values", str(LEAST), "--set", setting)
    assert done.returncode == 1
    assert words in done.stderr


def test_the_schema_is_closed() -> None:
    found = dict(schemas(json.loads((CHART / "values.schema.json").read_text())))
    assert {path for path, schema in found.items() if schema.get("additionalProperties", True) is True} == OPEN


def leaves() -> list[tuple[str, ...]]:
    text = (CHART / "values.yaml").read_text()
    return list(values_of(yaml.compose(text), text.splitlines()))


def test_every_value_is_in_the_schema_and_the_other_way_round() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    explained = {".".join(path) for path in leaves()}

    def check(values: Values, part: Values, path: str) -> None:
        if path in explained:  # below it are Kubernetes' own fields, and not all of them have a default
            return
        part = schema["definitions"][part["$ref"].rsplit("/", 1)[1]] if "$ref" in part else part
        assert set(part["properties"]) - {"global"} == set(values), path
        for key, value in values.items():
            check(value, part["properties"][key], f"{path}.{key}".strip("."))

    check(read("values.yaml"), schema, "")


PLAIN: Values = {
    "config": {"text": "name: tiny\n"},
    "modelStore": {"pvc": {"claim": "models"}},
    "signing": {"secretName": "signing"},
}
ALL_ON: Values = {
    **PLAIN,
    "cronJob": {"enabled": True},
    "mlflow": {"server": {"enabled": True}},
    "networkPolicy": {"enabled": True},
}
WITH_CLAIM: Values = {**PLAIN, "data": {"source": "pvc", "pvc": {"claim": "pictures"}}}
WITH_S3: Values = {**PLAIN, "data": {"source": "s3", "s3": {"uri": "s3://pictures"}}}
TRAIN_JOB: Values = {**PLAIN, "trainJob": {"enabled": True}}
SCORING: Values = read("ci/score-values.yaml")
WITH_DATABASE: Values = {**PLAIN, "mlflow": {"server": {"enabled": True, "backend": {"secretName": "database"}}}}
# Where a value matters only together with, or only without, something else.
BASES: dict[str, Values] = {
    "config.text": PLAIN,
    "config.configMap.name": {**PLAIN, "config": {"configMap": {"name": "mine"}}},
    "config.configMap.key": {**PLAIN, "config": {"configMap": {"name": "mine"}}},
    "data.source": WITH_CLAIM,
    "data.pvc.claim": WITH_CLAIM,
    "data.pvc.path": WITH_CLAIM,
    "data.s3.uri": WITH_S3,
    "modelStore.s3.uri": {**PLAIN, "modelStore": {"s3": {"uri": "s3://models"}}},
    "mlflow.trackingUri": PLAIN,
    "mlflow.server.backend.key": WITH_DATABASE,
    "networkPolicy.extraEgress": {**PLAIN, "networkPolicy": {"enabled": True, "egress": "dns"}},
    "scoring": SCORING,
    "trainJob": TRAIN_JOB,
    "trainJob.enabled": PLAIN,
    "trainJob.nodes": {**TRAIN_JOB, "home": {"existingClaim": "shared"}},
}
OTHER: dict[str, Any] = {
    "nameOverride": "other",
    "fullnameOverride": "other",
    "image.tag": "other",
    "image.digest": f"sha256:{'a' * 64}",
    "image.pullPolicy": "Always",
    "imagePullSecrets": [{"name": "other"}],
    "config.text": "name: other\n",
    "set": ["seed=1"],
    "backend": "torch",
    "data.source": "s3",
    "data.s3.uri": "s3://other",
    "home.accessModes": ["ReadWriteMany"],
    "home.size": "7Gi",
    "home.storageClassName": "other",
    "modelStore.s3.uri": "s3://other",
    "s3.endpoint": "http://other",
    "mlflow.trackingUri": "http://other",
    "mlflow.server.artifacts.uri": "s3://other",
    "mlflow.server.persistence.size": "7Gi",
    "mlflow.server.persistence.storageClassName": "other",
    "mlflow.server.persistence.accessModes": ["ReadWriteMany"],
    "mlflow.server.allowedHosts": ["other"],
    "mlflow.server.allowedOrigins": ["https://other"],
    "mlflow.server.resources": {"requests": {"cpu": "7"}},
    "job.activeDeadlineSeconds": 7,
    "job.ttlSecondsAfterFinished": 7,
    "cronJob.schedule": "1 1 1 1 1",
    "cronJob.timeZone": "Etc/UTC",
    "cronJob.concurrencyPolicy": "Replace",
    "trainJob.runtimeRef.kind": "TrainingRuntime",
    "resources": {"requests": {"cpu": "7"}},
    "scoring.archive": "other/7",
    "scoring.threshold": 0.75,
    "scoring.ttlSecondsAfterFinished": 7,
    "scoring.resources": {"requests": {"cpu": "7"}},
    "sharedMemory": "1Gi",
    "extraEnv": [{"name": "A", "value": "b"}],
    "extraVolumes": [{"name": "a", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "a", "mountPath": "/a"}],
    "networkPolicy.ingressNamespaces": ["other"],
    "networkPolicy.egress": "dns",
    "networkPolicy.extraEgress": [{"ports": [{"port": 443}]}],
    "podSecurityContext": {"runAsUser": 7},
    "containerSecurityContext": {"runAsUser": 7},
}
for _place in ("", "mlflow.server."):
    OTHER[f"{_place}affinity"] = {"nodeAffinity": {}}
    OTHER[f"{_place}tolerations"] = [{"operator": "Exists"}]
for _strings in (
    "serviceAccount.annotations",
    "nodeSelector",
    "mlflow.server.nodeSelector",
    "extraLabels",
    "podLabels",
    "podAnnotations",
):
    OTHER[_strings] = {"a": "b"}


@pytest.mark.parametrize("path", leaves(), ids=".".join)
def test_every_value_changes_what_is_rendered(render: Any, path: tuple[str, ...]) -> None:
    name = ".".join(path)
    base = BASES.get(name, BASES.get(path[0], ALL_ON))
    changed = base
    if name == "data.source":
        changed = with_value(with_value(base, ("data", "pvc", "claim"), ""), ("data", "s3", "uri"), "s3://pictures")
    now = at(base, path) or at(read("values.yaml"), path)
    if name in OTHER:
        other = OTHER[name]
    elif isinstance(now, bool):
        other = not now
    elif isinstance(now, int):
        other = now + 1
    else:
        other = f"{now}other"
    assert render(values=with_value(changed, path, other)) != render(values=base)


def test_the_readme_is_what_helm_docs_makes_of_the_values(tools: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(CHART, tmp_path / "visor-training"))
    (copy / "README.md").unlink()
    command = [str(tools / "helm-docs"), "--chart-search-root", str(copy), "--template-files", "README.md.gotmpl"]
    subprocess.run([*command, "--sort-values-order", "file"], check=True, capture_output=True)
    assert (copy / "README.md").read_text() == (CHART / "README.md").read_text(), "make chart-docs"
    documented = re.findall(r"^\| ([\w.]+) \| \w+ \| .* \| \S.* \|$", (CHART / "README.md").read_text(), re.MULTILINE)
    assert documented[1:] == [".".join(path) for path in leaves()]  # the first one is the table's head
