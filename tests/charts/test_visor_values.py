"""charts/visor's values: closed, explained, declared and used."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.checks import ROOT, Values, at, schemas, values_of, with_value

CHART = ROOT / "charts" / "visor"
REQUIRED = ["--set", "archive.uri=pvc://models/roofs/1", "--set", "archive.publicKeyConfigMap.name=keys"]
# Objects of Kubernetes itself, too wide to be written out once more; kubeconform holds them against Kubernetes' schemas.
OPEN = {"properties.affinity.properties.nodeAffinity", "properties.affinity.properties.podAffinity",
        "properties.affinity.properties.podAntiAffinity", "properties.global"}  # fmt: skip


def read(path: str) -> Any:
    return yaml.safe_load((CHART / path).read_text())


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("foo=1", "at '': additional properties 'foo' not allowed"),
        ("canary.percent=10", "at '/canary': additional properties 'percent' not allowed"),
        ("images.serving.name=x", "at '/images/serving': additional properties 'name' not allowed"),
        ("autoscaling.behavior.scaleup.x=1", "at '/autoscaling/behavior': additional properties 'scaleup' not allowed"),
        ("containerSecurityContext.privileged=maybe", "at '/containerSecurityContext/privileged': got string, want boolean"),
        ("mode=RawDeployment", "at '/mode': value must be one of 'Standard', 'Knative'"),
        ("protocol=v1", "at '/protocol': value must be one of"),
        ("archive.uri=models/roofs", "at '/archive/uri': 'models/roofs' does not match pattern"),
        ("archive.publicKey=visor.pub", "at '/archive/publicKey': 'visor.pub' does not match pattern"),
        ("canary.trafficPercent=101", "at '/canary/trafficPercent': maximum: got 101, want 100"),
        ("canary.trafficPercent=-1", "at '/canary/trafficPercent': minimum: got -1, want 0"),
        ("replicas=0", "at '/replicas': minimum: got 0, want 1"),
        ("knative.metric=cpu", "at '/knative/metric': value must be one of 'concurrency', 'rps'"),
        ("images.serving.digest=sha256:12", "at '/images/serving/digest': 'sha256:12' does not match pattern"),
        ("resources.serving.limits.memory=1 GB", "at '/resources/serving/limits/memory': '1 GB' does not match pattern"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused_by_name(helm: Any, setting: str, words: str) -> None:
    done = helm("template", "roofs", str(CHART), *REQUIRED, "--set", setting)
    assert done.returncode == 1
    assert words in done.stderr


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("mode=Knative,autoscaling.behavior.scaleDown.stabilizationWindowSeconds=60", "which Knative mode does not use"),
        ("autoscaling.enabled=true,keda.enabled=true,keda.serverAddress=http://prometheus", "two scalers of one Deployment"),
        ("mode=Knative,canary.enabled=true,canary.archive=pvc://models/roofs/2", "install first, then upgrade"),
    ],
)
def test_settings_that_contradict_each_other_end_with_a_sentence(helm: Any, settings: str, words: str) -> None:
    done = helm("template", "roofs", str(CHART), *REQUIRED, "--set", settings)
    assert done.returncode == 1
    assert words in done.stderr


def test_an_archive_and_a_key_have_no_default(helm: Any) -> None:
    assert "archive.uri is required" in helm("template", "roofs", str(CHART)).stderr
    assert "a public key is required" in helm("template", "roofs", str(CHART), "--set", "archive.uri=pvc://a/b").stderr


def test_the_schema_is_closed() -> None:
    found = dict(schemas(json.loads((CHART / "values.schema.json").read_text())))
    open_ones = {path for path, schema in found.items() if schema.get("additionalProperties", True) is True}
    assert open_ones == OPEN


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


# Another value for each that has one, and what must be on for it to matter; the rest follow from their types.
OTHER: dict[str, Any] = {
    "mode": "Knative",
    "protocol": "rest",
    "fullnameOverride": "leaves",
    "nameOverride": "other",
    "archive.uri": "s3://other/1",
    "archive.publicKey": "-----BEGIN PUBLIC KEY-----\n",
    "archive.publicKeyConfigMap.name": "other",
    "archive.publicKeyConfigMap.key": "other.pub",
    "canary.archive": "pvc://other/2",
    "imagePullSecrets": [{"name": "other"}],
    "edge.requestLog": "errors",
    "extraEnv.serving": [{"name": "A", "value": "b"}],
    "extraEnv.transformer": [{"name": "A", "value": "b"}],
    "autoscaling.behavior": {"scaleDown": {"stabilizationWindowSeconds": 1}},
    "keda.serverAddress": "https://other",
    "keda.threshold": "21",
    "knative.metric": "rps",
    "knative.window": "61s",
    "knative.scaleDownDelay": "1s",
    "knative.scaleToZeroRetention": "1s",
    "probes.readiness": {"periodSeconds": 7, "timeoutSeconds": 7, "failureThreshold": 7},
    "probes.liveness": {"periodSeconds": 7, "timeoutSeconds": 7, "failureThreshold": 7},
    "route.enabled": False,
    "route.hostnames": ["other.example.com"],
    "route.grpcHostnames": ["other.example.com"],
    "route.annotations": {"a": "b"},
    "metrics.podMonitor.interval": "1s",
    "metrics.podMonitor.labels": {"a": "b"},
    "networkPolicy.ingressNamespaces": ["other"],
    "networkPolicy.egress": "dns",
    "networkPolicy.extraEgress": [{"ports": [{"port": 443}]}],
    "serviceAccount.annotations": {"a": "b"},
    "serviceAccount.secrets": ["other"],
    "podSecurityContext": {"runAsUser": 7},
    "containerSecurityContext": {"runAsUser": 7},
    "resources.serving": {"requests": {"cpu": "7"}},
    "resources.transformer": {"requests": {"cpu": "7"}},
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
    "affinity": {"nodeAffinity": {}},
    "nodeSelector": {"a": "b"},
    "tolerations": [{"operator": "Exists"}],
    "extraLabels": {"a": "b"},
    "podLabels": {"a": "b"},
    "podAnnotations": {"a": "b"},
}
for _image in ("serving", "transformer"):
    OTHER[f"images.{_image}.tag"] = "other"
    OTHER[f"images.{_image}.digest"] = f"sha256:{'a' * 64}"
    OTHER[f"images.{_image}.pullPolicy"] = "Always"
PLAIN = {"archive": {"uri": "pvc://models/roofs/1", "publicKeyConfigMap": {"name": "keys"}}}
ALL_ON = {
    **PLAIN,
    "canary": {"enabled": True, "archive": "pvc://models/roofs/2"},
    "autoscaling": {"enabled": True},
    "metrics": {"podMonitor": {"enabled": True}},
    "podDisruptionBudget": {"enabled": True},
    "networkPolicy": {"enabled": True},
}
# Where a value matters only together with, or only without, something else.
BASES: dict[str, Values] = {
    "mode": PLAIN,
    "archive.publicKey": {"archive": {"uri": "pvc://models/roofs/1", "publicKey": "-----BEGIN PUBLIC KEY-----\n\n"}},
    "canary.enabled": {**PLAIN, "canary": {"archive": "pvc://models/roofs/2"}},
    "replicas": PLAIN,
    "route.enabled": PLAIN,
    "networkPolicy.extraEgress": {**PLAIN, "networkPolicy": {"enabled": True, "egress": "dns"}},
    "keda": {**PLAIN, "keda": {"enabled": True, "serverAddress": "http://prometheus"}},
    "keda.enabled": {**PLAIN, "keda": {"serverAddress": "http://prometheus"}},
    "knative": {**PLAIN, "mode": "Knative"},
}


@pytest.mark.parametrize("path", leaves(), ids=".".join)
def test_every_value_changes_what_is_rendered(render: Any, path: tuple[str, ...]) -> None:
    name = ".".join(path)
    base = BASES.get(name, BASES.get(path[0], ALL_ON))
    now = at(base, path) or at(read("values.yaml"), path)
    if name in OTHER:
        other = OTHER[name]
    elif isinstance(now, bool):
        other = not now
    elif isinstance(now, int):
        other = now + 1
    else:
        other = f"{now}other".lstrip(":")
    assert render(values=with_value(base, path, other)) != render(values=base)


def test_the_readme_is_what_helm_docs_makes_of_the_values(tools: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(CHART, tmp_path / "visor"))
    (copy / "README.md").unlink()
    command = [
        str(tools / "helm-docs"),
        "--chart-search-root",
        str(copy),
        "--template-files",
        "README.md.gotmpl",
        "--sort-values-order",
        "file",
    ]
    subprocess.run(command, check=True, capture_output=True)
    assert (copy / "README.md").read_text() == (CHART / "README.md").read_text(), "make chart-docs"
    documented = re.findall(r"^\| ([\w.]+) \| \w+ \| .* \| \S.* \|$", (CHART / "README.md").read_text(), re.MULTILINE)
    assert documented[1:] == [".".join(path) for path in leaves()]  # the first one is the table's head
