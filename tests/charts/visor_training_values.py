"""What the tests of values know of charts/visor-training alone."""

from typing import Any

import yaml

from tests.charts.checks import ROOT, ChartValues, Values

CHART = ROOT / "charts" / "visor-training"
LEAST = CHART / "ci" / "pvc-values.yaml"
# Objects of Kubernetes itself, too wide to be written out once more; kubeconform holds them against Kubernetes' schemas.
OPEN = {f"definitions.affinity.properties.{kind}" for kind in ("nodeAffinity", "podAffinity", "podAntiAffinity")} | {
    "properties.extraVolumes.items",
    "properties.global",
}
REFUSED = [
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
    ("scoring.digest=roofs", "at '/scoring/digest': 'roofs' does not match pattern"),
    ("cronJob.concurrencyPolicy=Allow", "at '/cronJob/concurrencyPolicy': value must be one of 'Forbid', 'Replace'"),
    ("cronJob.schedule=daily", "at '/cronJob/schedule': 'daily' does not match pattern"),
    ("job.backoffLimit=-1", "at '/job/backoffLimit': minimum: got -1, want 0"),
    ("trainJob.nodes=0", "at '/trainJob/nodes': minimum: got 0, want 1"),
    ("home.size=20 GB", "at '/home/size': '20 GB' does not match pattern"),
    ("mlflow.server.port=80", "at '/mlflow/server/port': minimum: got 80, want 1,024"),
    ("image.repository=localhost/Visor", "at '/image/repository': 'localhost/Visor' does not match pattern"),
    ("nameOverride=a b", "at '/nameOverride': 'a b' does not match pattern"),
    ("podLabels.a b=c", "at '/podLabels': additional properties 'a b' not allowed"),
    ("podLabels.tier=a b", "at '/podLabels/tier': 'a b' does not match pattern"),
    ("podLabels.app\\.kubernetes\\.io/component=mlflow", "podLabels sets app.kubernetes.io/component, by which Services and"),
    ("extraLabels.app\\.kubernetes\\.io/name=other", "extraLabels sets app.kubernetes.io/name, by which Services and"),
    ("containerSecurityContext.privileged=maybe", "at '/containerSecurityContext/privileged': got string, want boolean"),
]  # fmt: skip

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
SCORING: Values = yaml.safe_load((CHART / "ci" / "score-values.yaml").read_text())
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
    "signing.passphrase.key": {**PLAIN, "signing": {"secretName": "signing", "passphrase": {"secretName": "words"}}},
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
    "mlflow.server.resources": {"requests": {"cpu": "50m"}},
    "job.activeDeadlineSeconds": 7,
    "job.ttlSecondsAfterFinished": 7,
    "cronJob.schedule": "1 1 1 1 1",
    "cronJob.timeZone": "Etc/UTC",
    "cronJob.concurrencyPolicy": "Replace",
    "trainJob.runtimeRef.kind": "TrainingRuntime",
    "resources": {"requests": {"cpu": "50m"}},
    "scoring.archive": "other/7",
    "scoring.digest": "a" * 64,
    "scoring.threshold": 0.75,
    "scoring.ttlSecondsAfterFinished": 7,
    "scoring.resources": {"requests": {"cpu": "50m"}},
    "signing.resources": {"requests": {"cpu": "50m"}},
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

VISOR_TRAINING = ChartValues(
    CHART, ["--values", str(LEAST)], OPEN, REFUSED, BASES, ALL_ON, OTHER, instead={"data.source": WITH_S3}
)
