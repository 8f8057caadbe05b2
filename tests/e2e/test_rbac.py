"""The roles in k8s/samples: each group does what it is for, and no more, as the API server decides."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import pytest
import yaml

from tests.e2e.cluster import CHARTS, ROOT, apply, get, kubectl, run, wait_until

CHART = CHARTS / "visor"
NAMESPACE = "visor-rbac"
SAMPLES = ["rbac-viewer.yaml", "rbac-releaser.yaml", "rbac-deployer.yaml", "releaser-policy.yaml"]
ROUTES = ("httproute/digits", "grpcroute/digits-grpc")
# A canary whose archive is nowhere and a gate that is not run: roles are about the objects, not about what they make.
RELEASE: dict[str, Any] = {
    "archive": {"uri": "pvc://models/1", "publicKeyConfigMap": {"name": "visor-public-key"}},
    "canary": {"enabled": True, "archive": "pvc://models/2", "trafficPercent": 10},
    "route": {"grpcHostnames": ["grpc.example.com"]},  # so that there are both kinds
    "resources": {"serving": {"requests": {"cpu": "10m"}}, "transformer": {"requests": {"cpu": "10m"}}},
}


def manifests() -> list[dict[str, Any]]:
    """The samples' objects, their bindings in this module's namespace."""
    found = []
    for name in SAMPLES:
        for item in yaml.safe_load_all((ROOT / "k8s/samples" / name).read_text()):
            if item["kind"] == "RoleBinding":
                item["metadata"]["namespace"] = NAMESPACE
            found.append(item)
    return found


@pytest.fixture(scope="module", autouse=True)
def namespace() -> Iterator[None]:
    """A namespace with the roles bound in it."""
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait")
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}, *manifests())
    try:
        yield
    finally:
        kubectl(
            "delete",
            "--ignore-not-found",
            "--filename",
            "-",
            stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests()}),
        )
        kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait")


@pytest.fixture(scope="module")
def release() -> Iterator[None]:
    """A release with a canary, installed and removed by a deployer."""
    impersonated = ("--namespace", NAMESPACE, "--kube-as-user", "someone", "--kube-as-group", "visor-deployers")
    run("helm", "install", "digits", str(CHART), "--no-hooks", "--values", "-", *impersonated, stdin=json.dumps(RELEASE))
    yield
    run("helm", "uninstall", "digits", "--no-hooks", "--wait", *impersonated)


def allowed(group: str, verbs: Iterable[str], kinds: Iterable[str], namespace: str = NAMESPACE) -> set[tuple[str, str]]:
    """Which verbs on which kinds the API server allows a member of a group. A kind, known to it or not, is
    RESOURCE[/SUBRESOURCE][.GROUP]; `kubectl auth can-i` takes a subresource for a name."""
    asked = list(product(verbs, kinds))
    reviews = []
    for verb, kind in asked:
        resource, _, api_group = kind.partition(".")
        resource, _, subresource = resource.partition("/")
        attributes = {"namespace": namespace, "verb": verb, "group": api_group, "resource": resource, "subresource": subresource}
        spec = {"user": "someone", "groups": [group], "resourceAttributes": attributes}
        reviews.append({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec})
    template = '{{.status.allowed}}{{printf "\\n"}}'
    answers = kubectl(
        "create",
        "--filename",
        "-",
        "--output",
        "go-template",
        "--template",
        template,
        stdin="\n---\n".join(map(json.dumps, reviews)),
    ).split()
    return {pair for pair, answer in zip(asked, answers, strict=True) if answer == "true"}


RELEASER = ("--as", "someone", "--as-group", "visor-releasers")
DEPLOYER = ("--as", "someone", "--as-group", "visor-deployers")
GATE = ("--as", f"system:serviceaccount:{NAMESPACE}:digits-canary-gate")
MOVER = ("--as", f"system:serviceaccount:{NAMESPACE}:digits-rollout")


def patch(what: str, *changes: dict[str, Any], who: tuple[str, ...] = RELEASER) -> str:
    """A JSON patch by a releaser, or by who is named; what kubectl says about it."""
    return kubectl("patch", what, "--namespace", NAMESPACE, "--type", "json", "--patch", json.dumps(changes), *who, check=False)


def replace(path: str, value: object) -> dict[str, Any]:
    return {"op": "replace", "path": path, "value": value}


ISVC, HTTP, GRPC = (
    "inferenceservices.serving.kserve.io",
    "httproutes.gateway.networking.k8s.io",
    "grpcroutes.gateway.networking.k8s.io",
)
LOOK, CHANGE = ("get", "list", "watch"), ("create", "update", "patch", "delete")


@pytest.mark.parametrize("group", ["visor-viewers", "visor-releasers"])  # the releasers have the viewers' role too
def test_viewers_look(group: str) -> None:
    kinds = (ISVC, HTTP, GRPC, "pods", "events", "deployments.apps", "horizontalpodautoscalers.autoscaling")
    assert allowed(group, LOOK, kinds) == set(product(LOOK, kinds))
    assert allowed(group, ["get"], ["pods/log"])
    assert allowed(group, LOOK, kinds, "kube-system") == set()
    assert allowed(group, LOOK, ["secrets", "configmaps"]) == set()


def test_viewers_change_nothing() -> None:
    kinds = (
        ISVC,
        HTTP,
        GRPC,
        "servingruntimes.serving.kserve.io",
        "pods",
        "pods/exec",
        "deployments.apps",
        "deployments/scale.apps",
    )
    assert allowed("visor-viewers", CHANGE, kinds) == set()


def test_releasers_patch_three_kinds_and_make_or_remove_none() -> None:
    kinds = (ISVC, HTTP, GRPC)
    assert allowed("visor-releasers", CHANGE, kinds) == {("patch", kind) for kind in kinds}
    others = ("servingruntimes.serving.kserve.io", "deployments.apps", "pods", "pods/exec", "configmaps", "secrets")
    assert allowed("visor-releasers", CHANGE, others) == set()


def test_deployers_do_what_the_chart_and_helm_need() -> None:
    kinds = {"secrets", "pods"}
    for values in sorted((CHART / "ci").glob("*-values.yaml")):
        upgrade = ("--is-upgrade",) if "Knative" in values.read_text() else ()
        text = run("helm", "template", "digits", str(CHART), "--namespace", NAMESPACE, "--values", str(values), *upgrade)
        rendered = [item for item in yaml.safe_load_all(text) if item]
        kinds |= {f"{item['kind'].lower()}s.{group(item['apiVersion'])}".rstrip(".") for item in rendered}
    assert {"inferenceservices.serving.kserve.io", "scaledobjects.keda.sh", "podmonitors.monitoring.coreos.com"} <= kinds
    kinds = {kind.replace("networkpolicys", "networkpolicies") for kind in kinds}
    verbs = ("get", "create", "patch", "delete")
    assert allowed("visor-deployers", verbs, kinds) == set(product(verbs, kinds))


def group(version: str) -> str:
    """`serving.kserve.io/v1beta1` → `serving.kserve.io`, `v1` → nothing."""
    return version.rpartition("/")[0]


def test_deployers_stay_in_their_namespace() -> None:
    assert allowed("visor-deployers", (*LOOK, *CHANGE), [ISVC, "secrets", "pods"], "default") == set()
    beyond = ("namespaces", "clusterroles.rbac.authorization.k8s.io", "persistentvolumes", "pods/exec", "nodes")
    assert allowed("visor-deployers", CHANGE, beyond) == set()


@pytest.mark.usefixtures("release")
def test_a_deployer_hands_on_no_more_than_they_have() -> None:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "more", "namespace": NAMESPACE},
        "rules": [{"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]}],
    }
    assert "is attempting to grant RBAC permissions not currently held" in kubectl(
        "create", "--filename", "-", *DEPLOYER, stdin=json.dumps(role), check=False
    )


@contextmanager
def granted(template: str, values: dict[str, Any]) -> Iterator[None]:
    """What a template of the chart grants its Job, made by a deployer, as helm makes it; without the Job."""
    text = run(
        "helm", "template", "digits", str(CHART), "--namespace", NAMESPACE, "--show-only", f"templates/{template}.yaml",
        "--values", "-", stdin=json.dumps(values),
    )  # fmt: skip
    made = [item for item in yaml.safe_load_all(text) if item and item["kind"] != "Job"]
    assert {"ServiceAccount", "Role", "RoleBinding"} <= {item["kind"] for item in made}
    objects = "\n---\n".join(map(json.dumps, made))
    kubectl("create", "--namespace", NAMESPACE, "--filename", "-", *DEPLOYER, stdin=objects)
    yield
    kubectl("delete", "--namespace", NAMESPACE, "--filename", "-", stdin=objects)


@pytest.fixture
def gate(release: None) -> Iterator[None]:  # noqa: ARG001
    """What the chart grants its gate, for the gate's time."""
    with granted("canary-gate", RELEASE):
        yield


@pytest.fixture
def rollout(release: None) -> Iterator[None]:  # noqa: ARG001
    """What the chart grants the Job that releases by evidence."""
    by_evidence = {"enabled": True, "prometheus": "http://prometheus:9090"}
    with granted("rollout", {**RELEASE, "canary": {**RELEASE["canary"], "rollout": by_evidence}}):
        yield


@pytest.mark.usefixtures("policy", "rollout")
def test_a_release_by_evidence_moves_weights_archives_digests_and_pods_and_nothing_else() -> None:
    for route in ROUTES:
        assert "patched" in patch(route, replace("/spec/rules/0/backendRefs/1/weight", 40), who=MOVER)
        assert "denied request: visor-releasers may" in patch(route, replace("/spec/hostnames/0", "other.example.com"), who=MOVER)
    for change in (
        replace("/spec/predictor/model/storageUri", "pvc://models/2"),
        {"op": "add", "path": "/spec/predictor/model/args", "value": [f"--digest={'a' * 64}"]},
        replace("/spec/predictor/minReplicas", 5),
    ):
        assert "patched" in patch("inferenceservice/digits", change, who=MOVER)
    for change in (
        replace("/spec/predictor/model/runtime", "other"),
        replace("/spec/predictor/serviceAccountName", "other"),
        {"op": "add", "path": "/spec/predictor/model/image", "value": "other"},
        {"op": "add", "path": "/metadata/annotations/team", "value": "other"},
    ):
        assert "denied request: visor-releasers may" in patch("inferenceservice/digits", change, who=MOVER)
    assert "patched" in patch("configmap/digits-rollout", {"op": "add", "path": "/data", "value": {"order": "x"}}, who=MOVER)
    assert "forbidden" in patch("configmap/other", {"op": "add", "path": "/data", "value": {}}, who=MOVER)
    for verb, kind in (("delete", "inferenceservices"), ("get", "secrets"), ("create", "configmaps"), ("delete", "pods")):
        assert kubectl("auth", "can-i", verb, kind, "--namespace", NAMESPACE, *MOVER, check=False).strip().endswith("no")


@pytest.mark.usefixtures("policy", "gate")
def test_the_gate_moves_weights_and_changes_nothing_else_of_a_route() -> None:
    for route in ROUTES:
        assert "patched" in patch(route, replace("/spec/rules/0/backendRefs/1/weight", 40), who=GATE)
        for change in (
            replace("/spec/hostnames/0", "other.example.com"),
            replace("/spec/rules/0/backendRefs/0/name", "other"),
            {"op": "add", "path": "/metadata/labels/team", "value": "other"},
        ):
            assert "denied request: visor-releasers may" in patch(route, change, who=GATE)
    assert "forbidden" in patch("inferenceservice/digits-canary", replace("/spec/predictor/minReplicas", 3), who=GATE)


@pytest.fixture
def policy(release: None) -> None:  # noqa: ARG001
    """The releasers' policy in force, which takes the API server a moment."""
    other = replace("/spec/hostnames/0", "other.example.com")
    wait_until(lambda: "denied request" in patch(ROUTES[0], other), 30, "the policy is in force")


@pytest.mark.usefixtures("policy")
def test_releasers_move_weights() -> None:
    for route in ROUTES:
        weights = [replace(f"/spec/rules/0/backendRefs/{n}/weight", weight) for n, weight in enumerate((70, 30))]
        assert "patched" in patch(route, *weights)
        backends = get(*route.split("/"), NAMESPACE)["spec"]["rules"][0]["backendRefs"]
        assert [backend["weight"] for backend in backends] == [70, 30]


@pytest.mark.usefixtures("policy")
def test_releasers_move_archives_and_a_revision_s_share() -> None:
    for change in (
        replace("/spec/predictor/model/storageUri", "pvc://models/2"),
        {"op": "add", "path": "/spec/predictor/canaryTrafficPercent", "value": 20},
        {"op": "remove", "path": "/spec/predictor/canaryTrafficPercent"},
    ):
        assert "patched" in patch("inferenceservice/digits", change)
    assert get("inferenceservice", "digits", NAMESPACE)["spec"]["predictor"]["model"]["storageUri"] == "pvc://models/2"


@pytest.mark.usefixtures("policy")
@pytest.mark.parametrize(
    "change",
    [
        replace("/spec/rules/0/backendRefs/0/name", "other"),
        replace("/spec/rules/0/backendRefs/0/port", 8080),
        replace("/spec/hostnames/0", "other.example.com"),
        {"op": "remove", "path": "/spec/hostnames"},
        {"op": "remove", "path": "/spec/rules/1"},
        {"op": "remove", "path": "/spec/rules/0/backendRefs/1"},
        {"op": "add", "path": "/spec/rules/0/backendRefs/-", "value": {"name": "other", "port": 80}},
        {"op": "add", "path": "/spec/rules/-", "value": {"backendRefs": [{"name": "other", "port": 80}]}},
        {"op": "add", "path": "/metadata/labels/team", "value": "other"},
    ],
    ids=lambda change: f"{change['op']} {change['path']}",
)
def test_releasers_change_nothing_else_of_a_route(change: dict[str, Any]) -> None:
    for route in ROUTES:
        before = get(*route.split("/"), NAMESPACE)
        assert "denied request: visor-releasers may" in patch(route, change)
        assert get(*route.split("/"), NAMESPACE)["spec"] == before["spec"]


@pytest.mark.usefixtures("policy")
@pytest.mark.parametrize(
    "change",
    [
        replace("/spec/predictor/minReplicas", 3),
        replace("/spec/predictor/model/runtime", "other"),
        replace("/spec/predictor/serviceAccountName", "other"),
        {"op": "add", "path": "/spec/predictor/model/image", "value": "other"},
        {"op": "remove", "path": "/spec/predictor/securityContext"},
        {"op": "remove", "path": "/spec/predictor/model/resources"},
        {"op": "add", "path": "/spec/transformer", "value": {"containers": [{"name": "other", "image": "other"}]}},
        replace("/metadata/annotations/serving.kserve.io~1autoscalerClass", "hpa"),
    ],
    ids=lambda change: f"{change['op']} {change['path']}",
)
def test_releasers_change_nothing_else_of_an_inference_service(change: dict[str, Any]) -> None:
    assert "denied request: visor-releasers may" in patch("inferenceservice/digits", change)
