"""What the tests of values know of charts/visor alone."""

from typing import Any

from tests.charts.checks import ROOT, ChartValues, Values

REQUIRED = ["--set", "archive.uri=pvc://models/roofs/1", "--set", "archive.publicKeyConfigMap.name=keys"]
# Objects of Kubernetes itself, too wide to be written out once more; kubeconform holds them against Kubernetes' schemas.
OPEN = {"properties.affinity.properties.nodeAffinity", "properties.affinity.properties.podAffinity",
        "properties.affinity.properties.podAntiAffinity", "properties.global"}  # fmt: skip
REFUSED = [
    ("foo=1", "at '': additional properties 'foo' not allowed"),
    ("canary.percent=10", "at '/canary': additional properties 'percent' not allowed"),
    ("images.serving.name=x", "at '/images/serving': additional properties 'name' not allowed"),
    ("autoscaling.behavior.scaleup.x=1", "at '/autoscaling/behavior': additional properties 'scaleup' not allowed"),
    ("containerSecurityContext.privileged=maybe", "at '/containerSecurityContext/privileged': got string, want boolean"),
    ("mode=RawDeployment", "at '/mode': value must be one of 'Standard', 'Knative'"),
    ("protocol=v1", "at '/protocol': value must be one of"),
    ("archive.uri=models/roofs", "at '/archive/uri': 'models/roofs' does not match pattern"),
    ("archive.digest=sha256:12", "at '/archive/digest': 'sha256:12' does not match pattern"),
    ("canary.digest=latest", "at '/canary/digest': 'latest' does not match pattern"),
    ("archive.publicKey=visor.pub", "at '/archive/publicKey': 'visor.pub' does not match pattern"),
    ("keda.serverAddress=http://x evil: 1", "at '/keda/serverAddress': 'http://x evil: 1' does not match pattern"),
    ("canary.trafficPercent=101", "at '/canary/trafficPercent': maximum: got 101, want 100"),
    ("canary.trafficPercent=-1", "at '/canary/trafficPercent': minimum: got -1, want 0"),
    ("replicas=0", "at '/replicas': minimum: got 0, want 1"),
    ("knative.metric=cpu", "at '/knative/metric': value must be one of 'concurrency', 'rps'"),
    ("images.serving.digest=sha256:12", "at '/images/serving/digest': 'sha256:12' does not match pattern"),
    ("edge.token.secretName=Roofs", "at '/edge/token/secretName': 'Roofs' does not match pattern"),
    ("edge.token.key=a b", "at '/edge/token/key': 'a b' does not match pattern"),
    ("route.gateway.address=http://gateway", "at '/route/gateway/address': 'http://gateway' does not match pattern"),
    ("route.canaryHeader=X canary", "at '/route/canaryHeader': 'X canary' does not match pattern"),
    ("route.timeouts.request=soon", "at '/route/timeouts/request': 'soon' does not match pattern"),
    ("resources.serving.limits.memory=1 GB", "at '/resources/serving/limits/memory': '1 GB' does not match pattern"),
]  # fmt: skip

# Another value for each that has one, and what must be on for it to matter; the rest follow from their types.
OTHER: dict[str, Any] = {
    "mode": "Knative",
    "protocol": "rest",
    "fullnameOverride": "leaves",
    "nameOverride": "other",
    "archive.uri": "s3://other/1",
    "archive.digest": "a" * 64,
    "archive.publicKey": "-----BEGIN PUBLIC KEY-----\n",
    "archive.publicKeyConfigMap.name": "other",
    "archive.publicKeyConfigMap.key": "other.pub",
    "canary.archive": "pvc://other/2",
    "canary.digest": "a" * 64,
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
    "route.gateway.port": 443,
    "route.gateway.address": "gateway.kserve:80",
    "route.timeouts": {},
    "route.filters": [{"type": "ExtensionRef", "extensionRef": {"group": "g", "kind": "K", "name": "n"}}],
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
    "edge.token.key": {**PLAIN, "edge": {"token": {"secretName": "roofs-tokens"}}},
    "replicas": PLAIN,
    "route.enabled": PLAIN,
    "networkPolicy.extraEgress": {**PLAIN, "networkPolicy": {"enabled": True, "egress": "dns"}},
    "keda": {**PLAIN, "keda": {"enabled": True, "serverAddress": "http://prometheus"}},
    "keda.enabled": {**PLAIN, "keda": {"serverAddress": "http://prometheus"}},
    "knative": {**PLAIN, "mode": "Knative"},
}

VISOR = ChartValues(ROOT / "charts" / "visor", REQUIRED, OPEN, REFUSED, BASES, ALL_ON, OTHER)
