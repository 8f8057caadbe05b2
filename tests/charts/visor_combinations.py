"""Combinations of charts/visor's values that once installed wrongly, and their kinds: what each ends as.

By name, values as a values file gives them, which are not those of `--set`: numbers there are floats, and a null takes the
default away. PLAIN of visor_values.py lies below each.
"""

from typing import Any

from tests.charts.checks import Values

CANARY = {"enabled": True, "archive": "pvc://models/roofs/2"}
KEDA = {"enabled": True, "serverAddress": "http://prometheus:9090"}
MONITOR = {"metrics": {"podMonitor": {"enabled": True}}}
AROUND: Values = {
    "canary": CANARY,
    "networkPolicy": {"enabled": True},
    "podDisruptionBudget": {"enabled": True},
    **MONITOR,
}
SPREAD = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
CLASSES: list[Any] = [{"name": "a"}, {"name": "b"}]

RENDERED: dict[str, Values] = {
    # a null is the default, or nothing where nothing is a choice
    "no canary at all": {"canary": None},
    "no route at all": {"route": None},
    "no gateway at all": {"route": {"gateway": None}},
    "no rollout at all": {"rollout": None},
    "no surge": {"rollout": {"maxSurge": None}},
    "no images at all": {"images": None},
    "no edge at all": {"edge": None},
    "no token at all": {"edge": {"token": None}},
    "no probes at all": {"probes": None},
    "no threshold of failures": {"probes": {"liveness": {"failureThreshold": None}}},
    "no metrics at all": {"metrics": None},
    "no resources at all": {"resources": None},
    "no resources of the edge": {"resources": {"transformer": None}},
    "no limit of the CPU": {"resources": {"serving": {"limits": {"cpu": None}}}},
    "no contexts": {"podSecurityContext": None, "containerSecurityContext": None},
    "no contexts and a canary": {"podSecurityContext": None, "containerSecurityContext": None, "canary": CANARY},
    "users of the platform's": {
        "podSecurityContext": {"runAsUser": None, "runAsGroup": None},
        "containerSecurityContext": {"runAsUser": None, "runAsGroup": None},
    },
    "no labels": {"extraLabels": None, "podLabels": None, "podAnnotations": None},
    "no service account": {"serviceAccount": None},
    "no policy": {"networkPolicy": None, "podDisruptionBudget": None},
    "no scaler": {"autoscaling": None, "keda": None, "knative": None},
    "no global values": {"global": None},
    # large and small numbers
    "large integers": {
        "edge": {"maxQueue": 1_000_000, "cacheImages": 2_000_000},
        "workers": 1_000_000,
        "hangSeconds": 1_000_000,
        "timeoutSeconds": 99_999,
        "terminationGracePeriodSeconds": 2_000_000,
        "replicas": 1_000_000,
        "canary": {**CANARY, "readyTimeoutSeconds": 1_000_000, "replicas": 1_000_000},
        "probes": {"startupTimeoutSeconds": 1_000_000},
    },
    "large scaler": {"autoscaling": {"enabled": True, "minReplicas": 1_000_000, "maxReplicas": 2_000_000}, "canary": CANARY},
    "large KEDA": {"keda": {**KEDA, "maxReplicas": 2_000_000, "pollingIntervalSeconds": 1_000_000, "threshold": 1_000_000}},
    "large Knative": {"mode": "Knative", "knative": {"target": 1_000_000, "maxScale": 1_000_000}},
    "whole and half thresholds": {"keda": {**KEDA, "threshold": 2.5}},
    # selectors hold
    "labels of all": {**AROUND, "extraLabels": {"team": "roofs", "app.kubernetes.io/part-of": "vision", "empty": ""}},
    "labels twice": {
        "metrics": {"podMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
        "extraLabels": {"release": "all"},
        "podLabels": {"release": "pod"},
    },
    "other name": {**AROUND, "nameOverride": "Classifier_1"},
    "other full name": {**AROUND, "fullnameOverride": "leaves"},
    "own scrape annotations": {"podAnnotations": {"prometheus.io/port": "9090", "x/braces": "{{ .x }}\nline"}},
    # around the pods
    "minimum of pods": {"podDisruptionBudget": {"enabled": True, "minAvailable": 1}},
    "minimum in percent": {"podDisruptionBudget": {"enabled": True, "minAvailable": "50%", "maxUnavailable": None}},
    "no pod may go": {"podDisruptionBudget": {"enabled": True, "maxUnavailable": 0}},
    "policy for everything": {
        "protocol": "grpc",
        "networkPolicy": {
            "enabled": True,
            "egress": "dns",
            "ingressNamespaces": ["kserve"],
            "ingressCIDRs": ["10.0.0.0/8", "fd00::/8"],
            "metricsNamespaces": ["monitoring"],
            "dnsNamespaces": [],
            "extraEgress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 443}]}],
        },
    },
    "policy for a shadow": {
        "protocol": "grpc",
        "canary": {**CANARY, "shadowPercent": 20},
        "networkPolicy": {"enabled": True, "egress": "dns", "ingressNamespaces": ["kserve"], "metricsNamespaces": ["monitoring"]},
    },
    "half a percent": {"canary": {**CANARY, "shadowPercent": 0.5}},
    "policy in Knative": {"mode": "Knative", "networkPolicy": {"enabled": True, "ingressNamespaces": ["knative-serving"]}},
    "spread in both modes": {"mode": "Knative", "topologySpreadConstraints": [SPREAD]},
    "spread by labels of its own": {"topologySpreadConstraints": [{**SPREAD, "labelSelector": {"matchLabels": {"a": "b"}}}]},
    "monitor with all": {
        "metrics": {
            "podMonitor": {
                "enabled": True,
                "interval": "1m30s",
                "scrapeTimeout": "1m",
                "annotations": {"a": "b"},
                "relabelings": [{"targetLabel": "cluster", "replacement": "east"}],
                "metricRelabelings": [{"action": "drop", "sourceLabels": ["__name__"], "regex": "visor_stage_.*"}],
            }
        }
    },
    "roles of others": {"canary": CANARY, "rbac": {"create": False}},
    # pods of more parts
    "more parts": {
        "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}, {"name": "cache", "emptyDir": {"sizeLimit": "1Gi"}}],
        "extraVolumeMounts": {
            "serving": [{"name": "ca", "mountPath": "/etc/ca", "readOnly": True}],
            "transformer": [{"name": "cache", "mountPath": "/cache"}],
        },
        "extraContainers": [{"name": "proxy", "image": "localhost/proxy:1", "resources": {"limits": {"memory": "64Mi"}}}],
        "initContainers": [{"name": "fetch", "image": "localhost/fetch:1"}],
    },
    "images of a mirror": {"global": {"imageRegistry": "mirror:5000/team", "imagePullSecrets": ["a", {"name": "b"}], "x": 1}},
    "secrets twice": {"global": {"imagePullSecrets": CLASSES}, "imagePullSecrets": CLASSES},
    "bounded disks": {
        "emptyDirs": {"work": "10Gi", "tmp": "512Mi"},
        "resources": {"serving": {"requests": {"ephemeral-storage": "1Gi"}, "limits": {"ephemeral-storage": "8Gi"}}},
    },
    "a device": {"resources": {"serving": {"requests": {"example.com/fpga": 1}, "limits": {"example.com/fpga": 1}}}},
    "a root's pod": {
        "podSecurityContext": {"runAsNonRoot": False, "runAsUser": 0},
        "containerSecurityContext": {"runAsNonRoot": False, "runAsUser": 0, "allowPrivilegeEscalation": True, "privileged": True},
    },
}

REFUSED: dict[str, tuple[Values, str]] = {
    "no surge and none less": ({"rollout": {"maxSurge": 0, "maxUnavailable": "0%"}}, "no pod could ever be replaced"),
    "CPU above its limit": (
        {"resources": {"serving": {"requests": {"cpu": 3}}}},
        "requests 3 of cpu, which is above its limit of 2",
    ),
    "memory above its limit": (
        {"resources": {"transformer": {"requests": {"memory": "1G"}, "limits": {"memory": "512Mi"}}}},
        "above its limit of 512Mi",
    ),
    "a scaler of no request": (
        {"autoscaling": {"enabled": True}, "resources": {"serving": {"requests": None, "limits": {"cpu": None}}}},
        "resources.serving.requests.cpu, which is not set",
    ),
    "a device without a limit": ({"resources": {"serving": {"requests": {"example.com/fpga": 1}}}}, "needs a limit of the same"),
    "no topology": (
        {"topologySpreadConstraints": [{**SPREAD, "topologyKey": ""}]},
        "at '/topologySpreadConstraints/0/topologyKey'",
    ),
    "fewest domains of a wish": (
        {"topologySpreadConstraints": [{**SPREAD, "whenUnsatisfiable": "ScheduleAnyway", "minDomains": 2}]},
        "whenUnsatisfiable",
    ),
    "an image in capitals": ({"images": {"serving": {"repository": "Visor"}}}, "'Visor' does not match pattern"),
    "a mirror in capitals": ({"global": {"imageRegistry": "mirror/Team"}}, "'mirror/Team' does not match pattern"),
    "a label of two words": ({"podLabels": {"tier": "a b"}}, "'a b' does not match pattern"),
    "a label with an end": ({"extraLabels": {"tier": "a-"}}, "'a-' does not match pattern"),
    "a long label": ({"extraLabels": {"tier": "a" * 64}}, "does not match pattern"),
    "a node's label of two words": ({"nodeSelector": {"pool": "a b"}}, "'a b' does not match pattern"),
    "a name of two words": ({"nameOverride": "a b"}, "'a b' does not match pattern"),
    "a full name in capitals": ({"fullnameOverride": "Roofs"}, 'the name "Roofs" must begin with a letter'),
    "a gateway without a name": ({"route": {"gateway": {"name": ""}}}, "say which Gateway the routes attach to"),
    "no name of the gateway": ({"route": {"gateway": {"name": None}}}, "at '/route/gateway': missing property 'name'"),
    "a canary of nothing": ({"canary": {**CANARY, "archive": None}}, "canary.enabled needs canary.archive"),
    "no archive": ({"archive": None}, "archive.uri is required"),
    "no address": ({"archive": {"uri": None}}, "archive.uri is required"),
    "a selector moved": (
        {**AROUND, "extraLabels": {"app.kubernetes.io/name": "other"}},
        "may not set app.kubernetes.io/name",
    ),
    "a track moved": ({**AROUND, "podLabels": {"visor.io/track": "other"}}, "may not set visor.io/track"),
    "KServe's label moved": (
        {"podLabels": {"serving.kserve.io/inferenceservice": "x"}},
        "may not set serving.kserve.io/inferenceservice",
    ),
    "KServe's address moved": (
        {"podAnnotations": {"internal.serving.kserve.io/storage-initializer-sourceuri": "pvc://x"}},
        "podAnnotations may not set internal.serving.kserve.io",
    ),
    "requests longer than the end": ({"timeoutSeconds": 600, "terminationGracePeriodSeconds": 30}, "cuts it after"),
    "a time that routes cannot say": ({"timeoutSeconds": 1_000_000}, "at '/timeoutSeconds': maximum"),
    "a scrape longer than its interval": (
        {"metrics": {"podMonitor": {"interval": "15s", "scrapeTimeout": "16s"}}},
        "above its interval 15s",
    ),
    "no interval": ({"metrics": {"podMonitor": {"interval": ""}}}, "at '/metrics/podMonitor/interval'"),
    "an interval in words": ({"metrics": {"podMonitor": {"interval": "1 minute"}}}, "'1 minute' does not match pattern"),
    "a load of nothing": ({"keda": {**KEDA, "threshold": 0}}, "at '/keda/threshold'"),
    "a Prometheus and a line": ({"keda": {"enabled": True, "serverAddress": "http://x\n  evil: 1"}}, "at '/keda/serverAddress'"),
    "root and not": ({"containerSecurityContext": {"runAsUser": 0}}, "has runAsUser 0, which is root"),
    "privilege without escalation": ({"containerSecurityContext": {"privileged": True}}, "imply allowPrivilegeEscalation"),
    "an administrator without escalation": (
        {"containerSecurityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}},
        "imply allowPrivilegeEscalation",
    ),
    "a profile of no name": (
        {"podSecurityContext": {"seccompProfile": {"type": "Localhost"}}},
        "missing property 'localhostProfile'",
    ),
    "a value and its source": (
        {"extraEnv": {"serving": [{"name": "A", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]}},
        "'not' failed",
    ),
    "a variable of two words": ({"extraEnv": {"serving": [{"name": "A B"}]}}, "'A B' does not match pattern"),
    "a volume twice": ({"extraVolumes": [{"name": "work", "emptyDir": {}}]}, "a second volume work"),
    "a mount of nothing": ({"extraVolumeMounts": {"serving": [{"name": "ca", "mountPath": "/ca"}]}}, "no volume of that name"),
    "two mounts in one place": (
        {"extraVolumeMounts": {"serving": [{"name": "work", "mountPath": "/mnt/models"}]}},
        "a second volume at /mnt/models",
    ),
    "a container twice": ({"initContainers": [{"name": "storage-initializer"}]}, "a second container storage-initializer"),
    "a tolerated value of all": ({"tolerations": [{"operator": "Exists", "value": "x"}]}, "at '/tolerations/0/value'"),
    "a time without its effect": ({"tolerations": [{"operator": "Exists", "tolerationSeconds": 1}]}, "missing property 'effect'"),
    "a window that Knative refuses": ({"mode": "Knative", "knative": {"window": "5s"}}, "Knative takes 6s to 1h"),
    "an address without a prefix": (
        {"networkPolicy": {"enabled": True, "ingressCIDRs": ["10.0.0.1"]}},
        "at '/networkPolicy/ingressCIDRs/0'",
    ),
}
