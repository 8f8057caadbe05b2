"""charts/visor by its own tools: unit tests, schemas of its objects, Pod Security, package and notes."""

import re
import subprocess
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from archives.signing import fingerprint, make_keys
from tests.charts.checks import ROOT, Values, kubeconform, restricted
from tests.charts.visor_values import REQUIRED
from transformer.grpc.messages import SERVICE, service_descriptor

CHART = ROOT / "charts" / "visor"
CASES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
CANARY = ["--set", "canary.enabled=true,canary.archive=pvc://models/roofs/2"]


def case(name: str) -> list[str]:
    """The arguments of one of the chart's own examples."""
    return ["--values", str(CHART / "ci" / f"{name}-values.yaml")]


def read(path: str) -> Any:
    return yaml.safe_load((CHART / path).read_text())


def test_helm_unittest(tools: Path) -> None:
    done = subprocess.run([tools / "helm-unittest", "--strict", CHART], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Tests: +\d{3} passed", done.stdout), done.stdout


def test_objects_of_an_upgrade_to_a_canary_are_what_their_kinds_allow(render: Any, tools: Path) -> None:
    """Those of the chart's own examples: `make lint`, which also lints them."""
    code, said = kubeconform(tools, render(*case("knative"), "--is-upgrade", *CANARY))
    assert code == 0, said


@pytest.mark.parametrize(
    "kind", ["InferenceService", "ServingRuntime", "HTTPRoute", "GRPCRoute", "Job", "HorizontalPodAutoscaler"]
)
def test_kubeconform_notices_an_unknown_field(render: Any, tools: Path, kind: str) -> None:
    name = "full" if kind in ("HorizontalPodAutoscaler", "GRPCRoute") else "canary"
    objects = [item for item in render(*case(name)) if item["kind"] == kind][:1]
    objects[0]["spec"]["replcias"] = 1
    code, said = kubeconform(tools, objects)
    assert code == 1
    assert "replcias" in said


def pods(objects: list[Values]) -> Iterator[tuple[str, Values]]:
    """The pods that a release makes, KServe's put together as KServe does."""
    runtimes = {item["metadata"]["name"]: item["spec"] for item in objects if item["kind"] == "ServingRuntime"}
    for item in objects:
        name = f"{item['kind']} {item['metadata']['name']}"
        if item["kind"] == "Pod":
            yield name, item["spec"]
        elif item["kind"] == "Job":
            yield name, item["spec"]["template"]["spec"]
        elif item["kind"] == "InferenceService":
            predictor = item["spec"]["predictor"]
            runtime = runtimes[predictor["model"]["runtime"]]
            yield name, {**predictor, "containers": runtime["containers"], "volumes": runtime["volumes"]}


@pytest.mark.parametrize("name", CASES)
def test_restricted_pod_security_accepts_the_pods(render: Any, name: str) -> None:
    found = dict(pods(render(*case(name))))
    assert {kind.split()[0] for kind in found} >= {"InferenceService", "Pod"}
    assert {pod: list(restricted(spec)) for pod, spec in found.items()} == {pod: [] for pod in found}
    for spec in found.values():
        assert all(container["securityContext"]["readOnlyRootFilesystem"] for container in spec["containers"])


def test_a_platform_may_choose_the_pods_user(render: Any) -> None:
    unset = [
        f"{context}.{key}=null"
        for context in ("podSecurityContext", "containerSecurityContext")
        for key in ("runAsUser", "runAsGroup")
    ]
    for name, spec in pods(render(*case("canary"), "--set", ",".join(unset))):
        assert not {"runAsUser", "runAsGroup"} & set(spec.get("securityContext", {})), name
        assert all(not {"runAsUser", "runAsGroup"} & set(container["securityContext"]) for container in spec["containers"]), name
        assert list(restricted(spec)) == [], name


def test_the_grpc_route_has_every_method_of_the_protocol(render: Any) -> None:
    [route] = [item for item in render(*case("full")) if item["kind"] == "GRPCRoute"]
    methods = {method.name for method in service_descriptor().methods}
    for rule in route["spec"]["rules"]:
        assert {match["method"]["service"] for match in rule["matches"]} == {SERVICE}
        assert {match["method"]["method"] for match in rule["matches"]} == methods


def test_the_http_route_takes_the_protocol_s_calls(render: Any) -> None:
    """A path is matched by its elements, so that the prefix is the service's name whole."""
    [route] = [item for item in render(*case("canary")) if item["kind"] == "HTTPRoute"]
    paths = [match["path"] for rule in route["spec"]["rules"] for match in rule["matches"]]
    assert {"type": "PathPrefix", "value": f"/{SERVICE}"} in paths


def test_the_chart_is_of_the_project_s_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    chart = read("Chart.yaml")
    assert (chart["version"], chart["appVersion"]) == (project["version"], project["version"])


def test_the_package_holds_what_an_installation_needs(helm: Any, tmp_path: Path) -> None:
    assert helm("package", str(CHART), "--destination", str(tmp_path)).returncode == 0
    with tarfile.open(next(tmp_path.glob("*.tgz"))) as package:
        names = {Path(name).relative_to("visor") for name in package.getnames()}
    assert {
        Path(name) for name in ("Chart.yaml", "README.md", "values.yaml", "values.schema.json", "templates/tests/call.yaml")
    } <= names
    assert not [name for name in names if name.parts[0] in ("ci", "tests") or name.name.endswith(".gotmpl")]


def notes(helm: Any, *args: str) -> str:
    done = helm("install", "roofs", str(CHART), "--namespace", "ns", "--dry-run=client", *args)
    assert done.returncode == 0, done.stderr
    return str(done.stdout.split("NOTES:\n")[1])


def test_notes_say_the_next_commands(helm: Any) -> None:
    said = notes(helm, *case("canary"))
    assert "python -m rollout wait roofs --namespace ns" in said
    assert "helm test -n ns roofs" in said
    assert "curl -H 'Host: roofs-ns.example.com'" in said
    assert "kubectl patch -n ns httproute roofs --type=json" in said
    assert "grpcroute" not in said
    for n in range(2):
        for m in range(2):
            assert f'{{"op":"replace","path":"/spec/rules/{n}/backendRefs/{m}/weight","value":50}}' in said
    assert "The header x-visor-canary: true chooses it." in said
    assert "--url grpc://GATEWAY --header 'Host: roofs-ns.example.com'" in said
    assert "with route.gateway.address=HOST:PORT" in said
    assert "--set canary.enabled=false --set archive.uri=pvc://models/roofs/2" in said


def test_notes_follow_the_routes(helm: Any) -> None:
    values = "route.grpcHostnames[0]=grpc.example.org,route.canaryHeader=,route.gateway.address=gateway.kserve:80"
    said = notes(helm, *case("canary"), "--set", values)
    assert said.count("/spec/rules/0/backendRefs/0/weight") == 2
    assert "rules/1" not in said
    assert "kubectl patch -n ns grpcroute roofs-grpc --type=json" in said
    assert "--url grpc://GATEWAY --header 'Host: grpc.example.org'" in said
    assert "The header" not in said
    assert "route.gateway.address" not in said


def test_notes_name_the_key_as_visor_does_and_the_canarys_digest(helm: Any, tmp_path: Path) -> None:
    _, public = make_keys(tmp_path)
    said = notes(helm, "--set", "archive.uri=pvc://models/roofs/1", "--set-file", f"archive.publicKey={public}")
    assert f"\n  {fingerprint(public)}\n" in said
    digest = "0a" * 32
    said = notes(helm, *case("canary"), "--set", f"canary.digest={digest}")
    assert f"--set archive.uri=pvc://models/roofs/2 --set archive.digest={digest}\n" in said


def test_notes_say_where_a_token_is(helm: Any) -> None:
    assert "VISOR_TOKEN" not in notes(helm, *case("pvc"))
    said = notes(helm, *case("pvc"), "--set", "edge.token.secretName=roofs-tokens,edge.token.key=a.b")
    assert """kubectl get secret -n ns roofs-tokens -o go-template='{{index .data "a.b" | base64decode}}'""" in said


def test_notes_say_what_there_is(helm: Any) -> None:
    assert "canary" not in notes(helm, *case("pvc"))
    assert "--url grpc://127.0.0.1:8080" in notes(helm, *case("pvc"), "--set", "protocol=grpc")
    knative = notes(helm, *case("knative"))
    assert "port-forward" not in knative
    assert "curl" not in knative


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
