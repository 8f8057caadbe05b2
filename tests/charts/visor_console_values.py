"""What the tests of values know of charts/visor-console alone."""

from typing import Any

from tests.charts.checks import ROOT, ChartValues, Values

CHART = ROOT / "charts" / "visor-console"
LEAST = CHART / "ci" / "pvc-values.yaml"
# Objects of Kubernetes itself, too wide to be written out once more; kubeconform holds them against Kubernetes' schemas.
OPEN = {f"definitions.affinity.properties.{kind}" for kind in ("nodeAffinity", "podAffinity", "podAntiAffinity")} | {
    "definitions.named",
    "properties.global",
}
REFUSED = [
    ("foo=1", "at '': additional properties 'foo' not allowed"),
    ("servers[0].address=roofs", "at '/servers/0': additional properties 'address' not allowed"),
    ("servers[0].url=roofs", "at '/servers/0/url': 'roofs' does not match pattern"),
    ("servers[1].host=roofs", "at '/servers/1': missing property 'url'"),
    ("servers[0].token.secretName=tokens", "at '/servers/0/token': missing property 'key'"),
    ("servers[0].host=a b", "at '/servers/0/host': 'a b' does not match pattern"),
    ("keys.value=secret", "at '/keys': additional properties 'value' not allowed"),
    ("database.url=postgresql://a:b@c/d", "at '/database': additional properties 'url' not allowed"),
    ("session.secret=words", "at '/session': additional properties 'secret' not allowed"),
    ("pictures.s3.uri=gs://reviews", "at '/pictures/s3/uri': 'gs://reviews' does not match pattern"),
    ("pictures.s3.endpoint=minio:9000", "at '/pictures/s3/endpoint': 'minio:9000' does not match pattern"),
    ("reviews.auditShare=0.001", "at '/reviews/auditShare': '0.001' does not match pattern"),
    ("reviews.keepDays=0", "at '/reviews/keepDays': exclusiveMinimum: got 0, want 0"),
    ("persistence.size=20 GB", "at '/persistence/size': '20 GB' does not match pattern"),
    ("persistence.accessModes={ReadOnlyMany}", "at '/persistence/accessModes/0': value must be one of"),
    ("links.prometheus=prometheus:9090", "at '/links/prometheus': 'prometheus:9090' does not match pattern"),
    ("releases={../etc}", "at '/releases/0': '../etc' does not match pattern"),
    ("releases={roofs,roofs}", "at '/releases': items at 0 and 1 are equal"),
    ("replicas=0", "at '/replicas': minimum: got 0, want 1"),
    ("networkPolicy.egress=none", "at '/networkPolicy/egress': value must be one of 'any', 'dns'"),
    ("networkPolicy.ingressCIDRs={10.0.0.0}", "at '/networkPolicy/ingressCIDRs/0': '10.0.0.0' does not match pattern"),
    ("metrics.serviceMonitor.interval=15", "at '/metrics/serviceMonitor/interval': got number, want string"),
    ("route.hostnames={*.example.com}", "at '/route/hostnames/0': '*.example.com' does not match pattern"),
    ("route.hostnames={a_b}", "at '/route/hostnames/0': 'a_b' does not match pattern"),
    ("route.timeoutSeconds=100000", "at '/route/timeoutSeconds': maximum: got 100,000, want 99,999"),
    ("image.repository=localhost/Visor", "at '/image/repository': 'localhost/Visor' does not match pattern"),
    ("probes.readiness.path=/", "at '/probes/readiness': additional properties 'path' not allowed"),
    ("podLabels.a b=c", "at '/podLabels': additional properties 'a b' not allowed"),
    ("podLabels.app\\.kubernetes\\.io/component=x", "podLabels sets app.kubernetes.io/component, by which the Service and"),
    ("extraLabels.app\\.kubernetes\\.io/name=other", "extraLabels sets app.kubernetes.io/name, by which the Service and"),
    ("containerSecurityContext.privileged=maybe", "at '/containerSecurityContext/privileged': got string, want boolean"),
]  # fmt: skip

SERVERS = [{"url": "http://roofs-predictor.vision"}]
PLAIN: Values = {"servers": SERVERS, "keys": {"secretName": "keys"}}
SHARED: Values = {
    **PLAIN,
    "database": {"secretName": "database"},
    "session": {"secretName": "session"},
    "pictures": {"s3": {"uri": "s3://reviews", "endpoint": "http://minio", "region": "eu", "secretName": "s3"}},
}
SEVERAL: Values = {**SHARED, "replicas": 2}
MONITORED: Values = {**PLAIN, "metrics": {"serviceMonitor": {"enabled": True}}}
CLOSED: Values = {**PLAIN, "networkPolicy": {"enabled": True, "egress": "dns", "egressNamespaces": ["vision"]}}
# Where a value matters only together with, or only without, something else.
BASES: dict[str, Values] = {
    "session.key": SEVERAL,
    "links.mlflowInside": {**PLAIN, "links": {"mlflow": "https://mlflow"}},
    "database.key": SHARED,
    "pictures": SHARED,
    "replicas": SEVERAL,
    "drainSeconds": SEVERAL,
    "podDisruptionBudget": SEVERAL,
    "metrics.serviceMonitor": MONITORED,
    **{
        f"metrics.serviceMonitor.{name}": MONITORED
        for name in ("interval", "scrapeTimeout", "labels", "annotations", "relabelings", "metricRelabelings")
    },
    "networkPolicy.egressNamespaces": CLOSED,
    "networkPolicy.dnsNamespaces": CLOSED,
    "networkPolicy.extraEgress": CLOSED,
    "networkPolicy.enabled": PLAIN,
}
OTHER: dict[str, Any] = {
    "nameOverride": "other",
    "fullnameOverride": "other",
    "image.tag": "other",
    "image.digest": f"sha256:{'a' * 64}",
    "image.pullPolicy": "Always",
    "imagePullSecrets": [{"name": "other"}],
    "servers": [{"url": "http://leaves-predictor.vision"}],
    "pictures.s3.uri": "s3://other",
    "pictures.s3.endpoint": "http://other",
    "reviews.auditShare": 0.5,
    "reviews.keepDays": 7,
    "persistence.size": "7Gi",
    "persistence.storageClassName": "other",
    "persistence.accessModes": ["ReadWriteMany"],
    "links.prometheus": "http://other",
    "links.mlflow": "https://other",
    "links.mlflowInside": "http://other",
    "releases": ["other"],
    "allowedHosts": ["other"],
    "route.hostnames": ["other.example.com"],
    "route.gateway.port": 7,
    "resources": {"requests": {"cpu": "50m"}},
    "tmp": "7Gi",
    "extraEnv": [{"name": "A", "value": "b"}],
    "extraVolumes": [{"name": "a", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "tmp", "mountPath": "/a"}],
    "probes.startupTimeoutSeconds": 62,
    "probes.readiness": {"periodSeconds": 7},
    "probes.liveness": {"periodSeconds": 7},
    "metrics.serviceMonitor.interval": "7s",
    "metrics.serviceMonitor.scrapeTimeout": "7s",
    "metrics.serviceMonitor.relabelings": [{"targetLabel": "a", "replacement": "b"}],
    "metrics.serviceMonitor.metricRelabelings": [{"targetLabel": "a", "replacement": "b"}],
    "networkPolicy.ingressNamespaces": ["other"],
    "networkPolicy.ingressCIDRs": ["10.0.0.0/8"],
    "networkPolicy.egress": "dns",
    "networkPolicy.egressNamespaces": ["vision", "other"],
    "networkPolicy.dnsNamespaces": ["other"],
    "networkPolicy.extraEgress": [{"ports": [{"port": 443}]}],
    "podSecurityContext": {"runAsUser": 7},
    "containerSecurityContext": {"runAsUser": 7},
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
    "affinity": {"nodeAffinity": {}},
    "tolerations": [{"operator": "Exists"}],
}
for _strings in (
    "route.annotations",
    "metrics.serviceMonitor.labels",
    "metrics.serviceMonitor.annotations",
    "serviceAccount.annotations",
    "nodeSelector",
    "extraLabels",
    "podLabels",
    "podAnnotations",
):
    OTHER[_strings] = {"a": "b"}

VISOR_CONSOLE = ChartValues(
    CHART,
    ["--values", str(LEAST)],
    OPEN,
    REFUSED,
    BASES,
    # What `egress: dns` would cut off, but for a way of its own.
    {**PLAIN, "networkPolicy": {"enabled": True, "extraEgress": [{"ports": [{"port": 80}]}]}},
    OTHER,
)
