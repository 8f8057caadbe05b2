"""k8s/: what can be known of it without Docker and the internet, for which it is made."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadtests.capacity import MOST_STEPS
from loadtests.options import SOAK_SECONDS, STEP_SECONDS, parse_options

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
SAMPLES = sorted((K8S / "samples").glob("*.yaml"))
SCRIPTS = ["cluster", "install", "minikube", "put-archive"]
# Kinds that no chart has, so that tools/schemas lacks them; tests/e2e/test_samples.py asks a cluster.
CLUSTER_KINDS = "Namespace,PersistentVolume,ClusterRole,ValidatingAdmissionPolicy,ValidatingAdmissionPolicyBinding"
PINNED = re.compile(r"^v?\d+\.\d+\.\d+$")


def documents(path: Path) -> list[Any]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def objects(path: Path) -> list[dict[str, Any]]:
    """The Kubernetes objects of a sample; a patch has none."""
    return [document for document in documents(path) if isinstance(document, dict)]


def sh(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def ok(*command: str, **environment: str) -> str:
    done = sh(*command, **environment)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def tools() -> Path:
    """Where tools/build put helm and kubeconform."""
    return Path(ok("tools/build").strip())


@pytest.fixture(scope="module")
def kserve() -> Path:
    """KServe's own charts, of the version that k8s/install installs; Go checks them against its checksum database."""
    module = f"github.com/kserve/kserve@{versions()['KSERVE_VERSION']}"
    return Path(json.loads(ok("go", "mod", "download", "-json", module))["Dir"]) / "charts"


def versions() -> dict[str, str]:
    """The versions at the top of k8s/install."""
    return dict(re.findall(r"^([A-Z_]+_VERSION)=(\S+)$", (K8S / "install").read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_says_what_it_needs_and_does(path: Path) -> None:
    comment = "".join(line for line in path.read_text().splitlines(keepends=True)[:12] if line.startswith("#"))
    assert "# Prerequisite: " in comment
    assert "# Effect" in comment
    assert documents(path)


def test_every_sample_is_in_the_folder_s_readme() -> None:
    readme = (K8S / "README.md").read_text()
    assert [path.name for path in SAMPLES if path.name not in readme] == []
    assert [script for script in SCRIPTS if f"`{script}`" not in readme] == []


@pytest.mark.parametrize("path", [path for path in SAMPLES if objects(path)], ids=lambda path: path.stem)
def test_a_sample_is_what_its_kind_allows(path: Path, tools: Path) -> None:
    location = str(ROOT / "tools/schemas/{{.ResourceKind}}{{.KindSuffix}}.json")
    shown = ok(str(tools / "kubeconform"), "-strict", "-summary", "-schema-location", location, "-skip", CLUSTER_KINDS, str(path))
    assert f"{len(objects(path))} resource" in shown


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_the_values_for_kserve_are_ones_that_its_chart_has(kserve: Path) -> None:
    """helm takes a value that no template reads without a word."""
    known = dict(flat(yaml.safe_load((kserve / "kserve-resources/values.yaml").read_text())))
    ours = dict(flat(yaml.safe_load((K8S / "kserve-values.yaml").read_text())))
    assert set(ours) <= set(known)
    same = {key for key, value in ours.items() if known[key] == value}
    assert same == {  # repeated on purpose: the rest of k8s/ is built on them
        "kserve.controller.gateway.domain",
        "kserve.controller.gateway.ingressGateway.kserveGateway",
        "kserve.controller.gateway.ingressGateway.createGateway",
    }


def test_kserve_is_in_standard_mode_behind_the_gateway(kserve: Path, tools: Path) -> None:
    helm = str(tools / "helm")
    values = ("--values", str(K8S / "kserve-values.yaml"))
    text = ok(helm, "template", "kserve-resources", str(kserve / "kserve-resources"), "--namespace", "kserve", *values)
    rendered = {(item["kind"], item["metadata"]["name"]): item for item in yaml.safe_load_all(text) if item}
    settings = rendered["ConfigMap", "inferenceservice-config"]["data"]
    assert json.loads(settings["deploy"])["defaultDeploymentMode"] == "Standard"
    ingress = json.loads(settings["ingress"])
    [gateway] = [item["metadata"] for item in documents(K8S / "gateway.yaml") if item["kind"] == "Gateway"]
    assert ingress["enableGatewayApi"] is True
    assert ingress["kserveIngressGateway"] == f"{gateway['namespace']}/{gateway['name']}"
    assert ingress["disableIstioVirtualHost"] is True
    assert "Gateway" not in {kind for kind, _ in rendered}
    # What k8s/install waits for and restarts.
    assert ("Deployment", "kserve-controller-manager") in rendered


def test_the_gateways_ports_are_those_that_kind_and_minikube_map() -> None:
    [kind] = documents(K8S / "kind.yaml")
    mapped = {(port["containerPort"], port["hostPort"]) for port in kind["nodes"][0]["extraPortMappings"]}
    assert mapped == {(30080, 30080), (30081, 30081)}
    assert re.findall(r"127\.0\.0\.1:(\d+):(\d+)", (K8S / "minikube").read_text()) == [("30080", "30080"), ("30081", "30081")]
    [gateway] = [item for item in documents(K8S / "gateway.yaml") if item["kind"] == "Gateway"]
    assert [listener["port"] for listener in gateway["spec"]["listeners"]] == [30080]
    assert '"nodePort": 30081' in (K8S / "install").read_text()


def test_every_version_is_pinned_and_all_that_is_fetched_names_one() -> None:
    script = (K8S / "install").read_text()
    assert len(versions()) == 9
    assert [name for name, version in versions().items() if not PINNED.match(version)] == []
    # Every pin is used, and every URL of a file carries one.
    assert [name for name in versions() if f"${name}" not in script] == []
    fetched = re.findall(r"https://(?:github\.com|raw\.githubusercontent\.com)/\S+", script)
    assert len(fetched) == 4
    assert [url for url in fetched if "_VERSION" not in url] == []
    [image] = {node["image"] for node in documents(K8S / "kind.yaml")[0]["nodes"]}
    assert re.match(r"^kindest/node:v\d+\.\d+\.\d+@sha256:[0-9a-f]{64}$", image)


def test_the_samples_are_held_against_the_versions_that_are_installed() -> None:
    schemas = (ROOT / "tools/schemas.py").read_text()
    assert f'"github.com/kserve/kserve@{versions()["KSERVE_VERSION"]}"' in schemas
    assert f'"sigs.k8s.io/gateway-api@{versions()["GATEWAY_API_VERSION"]}"' in schemas
    assert f'"github.com/kedacore/keda/v2@v{versions()["KEDA_CHART_VERSION"]}"' in schemas
    assert f'"github.com/projectcontour/contour@{versions()["CONTOUR_VERSION"]}"' in schemas


def test_envoy_gateway_is_of_the_version_that_kserve_names(kserve: Path) -> None:
    [version] = re.findall(r"^ENVOY_GATEWAY_VERSION=(\S+)$", (kserve.parent / "kserve-deps.env").read_text(), re.MULTILINE)
    assert f'"github.com/envoyproxy/gateway@{version}"' in (ROOT / "tools/schemas.py").read_text()
    said = [(K8S / f"samples/envoy-gateway-{name}.yaml").read_text() for name in ("jwt", "mtls")]
    assert all(f"Envoy Gateway {version[1:].rpartition('.')[0]} " in text for text in said)


def test_tls_is_a_listener_beside_the_gateway_s_own() -> None:
    [plain] = [item for item in documents(K8S / "gateway.yaml") if item["kind"] == "Gateway"]
    [secure] = documents(K8S / "samples/gateway-tls.yaml")
    assert secure["metadata"] == plain["metadata"]
    assert secure["spec"]["listeners"][:1] == plain["spec"]["listeners"]
    # Contour gives an HTTPProxy of a TLS host to the one listener of each kind.
    assert [listener["protocol"] for listener in secure["spec"]["listeners"]] == ["HTTP", "HTTPS"]


def test_the_samples_of_who_may_ask_lead_where_the_chart_s_routes_do(tools: Path) -> None:
    chart = ROOT / "charts/visor"
    settings = "archive.uri=pvc://models/roofs/1,archive.publicKeyConfigMap.name=visor-public-key"
    text = ok(str(tools / "helm"), "template", "roofs", str(chart), "--namespace", "demo", "--set", settings)
    [route] = [item for item in yaml.safe_load_all(text) if item and item["kind"].endswith("Route")]
    backends = {(ref["name"], ref["port"]) for rule in route["spec"]["rules"] for ref in rule["backendRefs"]}
    for name in ("contour-jwt", "contour-mtls"):
        [proxy] = documents(K8S / f"samples/{name}.yaml")
        assert [proxy["spec"]["virtualhost"]["fqdn"]] == route["spec"]["hostnames"]
        assert {(one["name"], one["port"]) for route in proxy["spec"]["routes"] for one in route["services"]} == backends
    [policy] = documents(K8S / "samples/envoy-gateway-jwt.yaml")
    targets = {(target["kind"], target["name"]) for target in policy["spec"]["targetRefs"]}
    assert targets == {(route["kind"], route["metadata"]["name"])}


def test_the_patch_of_weights_names_every_rule_that_the_chart_shares_by(tools: Path) -> None:
    values = ROOT / "charts/visor/ci/canary-values.yaml"
    text = ok(str(tools / "helm"), "template", "roofs", str(ROOT / "charts/visor"), "--values", str(values))
    [route] = [item for item in yaml.safe_load_all(text) if item and item["kind"] == "HTTPRoute"]
    for change in yaml.safe_load((K8S / "samples/canary-weights.yaml").read_text()):
        _, _, rules, rule, backends, backend, field = change["path"].split("/")
        weighted = route["spec"][rules][int(rule)][backends][int(backend)]
        if change["op"] == "test":
            assert weighted[field] == change["value"]
        else:
            weighted[field] = change["value"]
    weights = [[backend["weight"] for backend in rule["backendRefs"]] for rule in route["spec"]["rules"]]
    assert weights == [[80, 20], [80, 20], [1], [1]]


def test_the_plain_inference_service_is_the_one_that_the_chart_renders(tools: Path) -> None:
    chart = ROOT / "charts/visor"
    settings = "archive.uri=pvc://models/roofs/1,archive.publicKeyConfigMap.name=visor-public-key,serviceAccount.create=false"
    images = "images.serving.tag=dev,images.transformer.tag=dev"
    text = ok(str(tools / "helm"), "template", "roofs", str(chart), "--set", settings, "--set", images)
    rendered = {item["kind"]: item for item in yaml.safe_load_all(text) if item}
    sample = {item["kind"]: item for item in objects(K8S / "samples/inference-service.yaml")}
    assert sample["ServingRuntime"]["spec"] == rendered["ServingRuntime"]["spec"]
    service = rendered["InferenceService"]["spec"]
    assert service["predictor"].pop("serviceAccountName") == "default"
    assert sample["InferenceService"]["spec"] == service
    assert sample["InferenceService"]["metadata"]["annotations"] == rendered["InferenceService"]["metadata"]["annotations"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_explains_itself(script: str) -> None:
    assert f"usage: k8s/{script}" in ok(str(K8S / script), "--help")


@pytest.mark.parametrize("arguments", [["install", "--knativ"], ["put-archive", "--name", "x"], ["put-archive"]])
def test_a_mistyped_flag_is_an_error(arguments: list[str]) -> None:
    done = sh(str(K8S / arguments[0]), *arguments[1:])
    assert done.returncode == 2
    assert f"usage: k8s/{arguments[0]}" in done.stderr


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        ("leaves", "no archive of leaves"),
        ("roofs/3", "roofs/3 does not hold roofs.mar and roofs.mar.sig"),
        ("roofs/latest", "latest is not a version"),
        ("../roofs", "is not the name of an archive"),
    ],
)
def test_an_archive_that_is_not_there_is_named(archive: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "roofs/1").mkdir(parents=True)
    done = sh(str(K8S / "put-archive"), "--store", str(tmp_path), archive)
    assert done.returncode == 1
    assert words in done.stderr


IN_POD = """#!/bin/sh
# A cluster whose pod has its volume in a folder of this machine.
while [ $# -gt 0 ] && [ "$1" != exec ]; do shift; done
[ $# -gt 0 ] || exit 0
for script; do :; done  # the last argument
exec sh -euc "$(echo "$script" | sed 's#/models/#{models}/#g')"
"""


@pytest.mark.parametrize("statement", [["roofs.mar.provenance.json", "roofs.mar.provenance.json.sig"], []])
def test_an_archive_is_copied_with_what_lies_beside_it(tmp_path: Path, statement: list[str]) -> None:
    (tmp_path / "store/roofs/1").mkdir(parents=True)
    (tmp_path / "models").mkdir()
    names = ["roofs.mar", "roofs.mar.sig", *statement]
    for name in [*names, "roofs.onnx"]:
        (tmp_path / "store/roofs/1" / name).write_text(name)
    (tmp_path / "kubectl").write_text(IN_POD.format(models=tmp_path / "models"))
    (tmp_path / "kubectl").chmod(0o755)
    command = [str(K8S / "put-archive"), "--store", str(tmp_path / "store"), "roofs"]
    for _ in range(2):  # and once more, which finds it there
        assert (
            ok(*command, PATH=f"{tmp_path}:{os.environ['PATH']}")
            == f"pvc://models/roofs/1\n{hashlib.sha256(b'roofs.mar').hexdigest()}\n"
        )
        assert sorted(path.name for path in (tmp_path / "models/roofs/1").iterdir()) == sorted(names)
    (tmp_path / "store/roofs/1" / names[-1]).write_text("another")
    done = sh(*command, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert (done.returncode, "holds other files than" in done.stderr) == (1, True)


def test_what_is_put_is_named_by_address_and_digest(machine: dict[str, str], tmp_path: Path) -> None:
    place = tmp_path / "store/roofs/3"
    place.mkdir(parents=True)
    for name in ("roofs.mar", "roofs.mar.sig"):
        (place / name).write_text(name)
    # A pod that holds both files already.
    (tmp_path / "bin/kubectl").write_text(
        f'#!/bin/sh\ncase "$*" in *exec*) cd {place} && sha256sum roofs.mar roofs.mar.sig;; esac\n'
    )
    done = sh(str(K8S / "put-archive"), "--store", str(tmp_path / "store"), "roofs", **machine)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["pvc://models/roofs/3", hashlib.sha256(b"roofs.mar").hexdigest()]


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine whose kubectl, helm, docker and kind write down how they are called, and succeed."""
    log = tmp_path / "calls"
    for name in ("kubectl", "helm", "docker", "kind", "minikube"):
        stub = tmp_path / "bin" / name
        stub.parent.mkdir(exist_ok=True)
        # What comes through a pipe is read, or the writer would fail.
        stub.write_text(f'#!/bin/sh\n[ ! -p /dev/stdin ] || cat >/dev/null\necho "{name} $*" >>{log}\n')
        stub.chmod(0o755)
    return {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "LOG": str(log)}


@pytest.fixture
def installer(tmp_path: Path) -> str:
    """k8s/install in a copy of the folder, which has no install.lock yet."""
    return str(Path(shutil.copytree(K8S, tmp_path / "k8s", ignore=shutil.ignore_patterns("install.lock"))) / "install")


def calls(machine: dict[str, str]) -> list[str]:
    return Path(machine["LOG"]).read_text().splitlines()


def position(lines: list[str], *words: str) -> int:
    """Where the one call with all these words is."""
    [found] = [n for n, line in enumerate(lines) if all(word in line for word in words)]
    return found


def test_install_builds_in_order_and_waits(machine: dict[str, str], installer: str) -> None:
    ok(installer, **machine)
    lines = calls(machine)
    crds = position(lines, "apply", "gateway-api", "experimental-install.yaml")
    established = position(lines, "wait", "Established", "crd")
    provisioner = position(lines, "rollout status", "contour-gateway-provisioner")
    gateway = position(lines, "wait", "Programmed", "gateway/kserve-ingress-gateway")
    certificates = position(lines, "helm upgrade", "cert-manager")
    definitions = position(lines, "helm upgrade", "kserve-crd")
    controller = position(lines, "helm upgrade", "kserve-resources", "kserve-values.yaml")
    last = position(lines, "rollout status", "kserve-controller-manager")
    assert crds < established < provisioner < gateway < definitions < controller < last
    assert certificates < controller
    assert position(lines, "helm upgrade", "metrics-server", "--kubelet-insecure-tls") < controller
    assert position(lines, "helm upgrade", "kube-prometheus-stack", "prometheus-values.yaml") < controller
    assert all("--wait" in line for line in lines if line.startswith("helm upgrade"))
    assert not any(word in line for line in lines for word in ("knative", "keda"))
    local = [word for line in lines for word in line.split() if word.startswith(str(Path(installer).parent))]
    assert local
    assert [path for path in local if not Path(path).is_file()] == []


def test_install_adds_knative_and_keda_and_tells_a_kserve_that_runs(machine: dict[str, str], installer: str) -> None:
    ok(installer, "--knative", "--keda", **machine)
    lines = calls(machine)
    restart = position(lines, "rollout restart", "kserve-controller-manager")
    for words in (("rollout status", "deployment/webhook"), ("patch service kourier",), ("helm upgrade", "kedacore")):
        assert position(lines, *words) < restart
    assert position(lines, "patch configmap config-features", "knative-features.yaml") < restart
    assert {"kubernetes.podspec-persistent-volume-claim", "kubernetes.podspec-init-containers", "multi-container-probing"} <= set(
        documents(K8S / "knative-features.yaml")[0]["data"]
    )


CURL = """#!/bin/sh
# The real curl, with a server on this machine in the place of the internet's.
exec {curl} $(for word in "$@"; do echo "$word" | sed 's#^https://#http://127.0.0.1:{port}/#'; done)
"""
PULL = """#!/bin/sh
echo "helm $*" >>{log}
[ "$1" = pull ] || exit 0
for folder; do :; done  # the last argument
mkdir -p "$folder" && echo "the chart of $2" >"$folder/${{2##*/}}-1.tgz"
"""


@pytest.fixture
def internet(machine: dict[str, str], tmp_path: Path) -> Iterator[Path]:
    """A folder that a web server on this machine serves to k8s/install's curl: each file that is asked for, as it is there.

    A file that is missing is made when it is first asked for.
    """
    served = tmp_path / "served"

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            place = served / self.path.lstrip("/")
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(f"# what lies at {self.path}\n")
            super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(served))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        curl = shutil.which("curl")
        for name, text in (("curl", CURL.format(curl=curl, port=server.server_port)), ("helm", PULL.format(log=machine["LOG"]))):
            (tmp_path / "bin" / name).write_text(text)
            (tmp_path / "bin" / name).chmod(0o755)
        yield served
        server.shutdown()


def test_lock_fetches_all_and_installs_nothing(machine: dict[str, str], internet: Path, installer: str) -> None:
    (Path(machine["LOG"]).parent / "bin/kubectl").unlink()
    ok(installer, "--lock", **machine)
    assert [line for line in calls(machine) if not line.startswith("helm pull ")] == []
    lines = [line.split("  ") for line in Path(installer).with_name("install.lock").read_text().splitlines() if line[0] != "#"]
    files = {path.relative_to(internet).as_posix(): path.read_bytes() for path in internet.rglob("*.yaml")}
    assert len(files) == 9  # the Gateway API's, five of Contour's, two of Knative's, Kourier's
    assert {address: digest for digest, address in lines if address.endswith(".yaml")} == {
        f"https://{name}": hashlib.sha256(data).hexdigest() for name, data in files.items()
    }
    charts = {address: digest for digest, address in lines if not address.endswith(".yaml")}
    assert set(charts) == {
        f"https://charts.jetstack.io/cert-manager@{versions()['CERT_MANAGER_VERSION']}",
        f"https://kubernetes-sigs.github.io/metrics-server/metrics-server@{versions()['METRICS_SERVER_CHART_VERSION']}",
        f"https://prometheus-community.github.io/helm-charts/kube-prometheus-stack@{versions()['PROMETHEUS_CHART_VERSION']}",
        f"https://kedacore.github.io/charts/keda@{versions()['KEDA_CHART_VERSION']}",
        f"oci://ghcr.io/kserve/charts/kserve-crd@{versions()['KSERVE_VERSION']}",
        f"oci://ghcr.io/kserve/charts/kserve-resources@{versions()['KSERVE_VERSION']}",
    }
    assert charts[f"https://kedacore.github.io/charts/keda@{versions()['KEDA_CHART_VERSION']}"] == (
        hashlib.sha256(b"the chart of keda\n").hexdigest()
    )


def test_what_is_as_locked_is_installed_from_what_was_checked(machine: dict[str, str], internet: Path, installer: str) -> None:
    ok(installer, "--lock", **machine)
    Path(machine["LOG"]).write_text("")
    ok(installer, "--knative", "--keda", **machine)
    lines = calls(machine)
    applied = [line.split("--filename ")[1] for line in lines if line.startswith("kubectl apply")]
    assert [place for place in applied if place.startswith("https://")] == []
    assert len([place for place in applied if Path(place).name in {path.name for path in internet.rglob("*.yaml")}]) == 9
    upgraded = [line for line in lines if line.startswith("helm upgrade")]
    assert len(upgraded) == 6
    assert [line for line in upgraded if ".tgz" not in line or "--repo" in line] == []
    assert not list(Path(installer).parent.glob("*.new"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("serving-core.yaml", "serving-core.yaml has the checksum"),
        ("00-common.yaml", "00-common.yaml has the checksum"),
    ],
)
def test_a_manifest_that_was_changed_is_refused(
    machine: dict[str, str], internet: Path, installer: str, name: str, words: str
) -> None:
    ok(installer, "--lock", **machine)
    [place] = internet.rglob(name)
    place.write_text("kind: Anything\n")
    done = sh(installer, "--knative", **machine)
    assert (done.returncode, words in done.stderr) == (1, True)
    assert "nothing of it was installed" in done.stderr
    assert not [line for line in calls(machine) if "apply" in line and name in line]


@pytest.mark.usefixtures("internet")
def test_a_chart_that_was_changed_or_is_not_in_the_lock_is_refused(machine: dict[str, str], installer: str) -> None:
    ok(installer, "--lock", **machine)
    lock = Path(installer).with_name("install.lock")
    whole = lock.read_text()
    lock.write_text(re.sub(r"^[0-9a-f]{64}(  \S+/cert-manager@)", "0" * 64 + r"\1", whole, flags=re.MULTILINE))
    done = sh(installer, **machine)
    assert (done.returncode, "cert-manager@v1.17.0 has the checksum" in done.stderr) == (1, True)
    lock.write_text("".join(line for line in whole.splitlines(keepends=True) if "/cert-manager@" not in line))
    done = sh(installer, **machine)
    assert (done.returncode, "does not have https://charts.jetstack.io/cert-manager@v1.17.0" in done.stderr) == (1, True)
    assert [line for line in calls(machine) if line.startswith("helm upgrade")] == []


@pytest.mark.usefixtures("internet")
def test_what_cannot_be_fetched_leaves_the_lock_as_it_is(machine: dict[str, str], installer: str, tmp_path: Path) -> None:
    lock = Path(installer).with_name("install.lock")
    lock.write_text("what was\n")
    (tmp_path / "bin/curl").write_text("#!/bin/sh\nexit 22\n")
    done = sh(installer, "--lock", **machine)
    assert (done.returncode, lock.read_text()) == (1, "what was\n")
    assert "experimental-install.yaml cannot be fetched" in done.stderr


def test_without_a_lock_it_says_that_nothing_is_checked(machine: dict[str, str], installer: str) -> None:
    done = sh(installer, **machine)
    assert (done.returncode, "no install.lock: what is fetched is not checked" in done.stderr) == (0, True)


def test_install_without_a_cluster_says_so(machine: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bin/kubectl").write_text("#!/bin/sh\nexit 1\n")
    done = sh(str(K8S / "install"), **machine)
    assert done.returncode == 1
    assert "no cluster answers" in done.stderr


def test_cluster_is_kind_s_where_docker_answers(machine: dict[str, str], installer: str) -> None:
    ok(str(Path(installer).with_name("cluster")), "nowhere", **machine)
    lines = calls(machine)
    assert position(lines, "kind create cluster", "kind.yaml") < position(lines, "helm upgrade", "kserve-resources")
    assert any("knative" in line for line in lines)


def test_cluster_without_docker_is_the_stand_in_s_or_an_error(machine: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bin/docker").write_text("#!/bin/sh\nexit 1\n")
    done = sh(str(K8S / "cluster"), "nowhere", **machine)
    assert done.returncode == 1
    assert "no Docker engine answers" in done.stderr


def test_the_job_of_the_load_tests_is_bounded_and_reaches_the_gateway_alone() -> None:
    job, policy = documents(K8S / "samples/loadtest.yaml")
    assert (job["spec"]["backoffLimit"], job["spec"]["activeDeadlineSeconds"]) == (0, 2400)
    assert job["spec"].keys() & {"parallelism", "completions"} == set()  # one pod, once
    pod = job["spec"]["template"]
    options = parse_options(pod["spec"]["containers"][0]["args"])
    service, namespace = "envoy-kserve-ingress-gateway", "kserve"
    assert (options.rest, options.grpc) == (f"{service}.{namespace}:30080",) * 2
    assert f"{service}.{namespace}:30080" in " ".join((K8S / "gateway.yaml").read_text().split()[:80])
    # A closed loop, and each step of a search, with what it waits for at its end.
    steps_s = (MOST_STEPS + 1) * (options.duration_s + options.timeout_s + 1)
    soak_s = (MOST_STEPS + 1) * (STEP_SECONDS + 1) + SOAK_SECONDS + options.timeout_s
    assert steps_s < job["spec"]["activeDeadlineSeconds"] > soak_s
    assert policy["spec"]["podSelector"]["matchLabels"] == pod["metadata"]["labels"]
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    allowed = {
        place["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]: rule.get("ports")
        for rule in policy["spec"]["egress"]
        for place in rule["to"]
    }
    assert set(allowed) == {namespace, "kube-system"}
    assert {port["port"] for port in allowed["kube-system"]} == {53}


def of_the_loop(data: Path, code: int) -> tuple[int, list[str]]:
    """Run the sample's script, its claim in the folder `data`, where `visor` ends with this code; what lies there then."""
    [sample] = documents(K8S / "samples/reviews-loop.yaml")
    [container] = sample["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    visor = data.parent / "bin/visor"
    visor.parent.mkdir(exist_ok=True)
    # Its arguments: data from-reviews EXPORT --parent FOLDER --out FOLDER.
    visor.write_text(f'#!/bin/sh\n[ {code} != 0 ] || mkdir "$7"\nexit {code}\n')
    visor.chmod(0o755)
    script = container["args"][0].replace("/data/", f"{data}/")
    done = sh(*container["command"], script, PATH=f"{visor.parent}:{os.environ['PATH']}")
    return done.returncode, sorted(path.name for path in (data / "roofs").iterdir())


def test_the_loop_of_reviews_leads_the_training_to_the_newest_version(tmp_path: Path) -> None:
    values = yaml.safe_load((ROOT / "charts/visor-training/ci/reviews-values.yaml").read_text())
    assert values["data"]["pvc"] == {"claim": "pictures", "path": "roofs/current"}
    first = tmp_path / "data/roofs/first"
    first.mkdir(parents=True)
    (first.parent / "current").symlink_to("first")
    assert of_the_loop(tmp_path / "data", 3) == (0, ["current", "first"])  # nothing new
    assert of_the_loop(tmp_path / "data", 1) == (1, ["current", "first"])
    assert (first.parent / "current").readlink() == Path("first")
    for _ in range(2):  # a second time on the same day, too
        code, names = of_the_loop(tmp_path / "data", 0)
        [made] = {*names} - {"current", "first"}
        assert (code, (first.parent / "current").readlink()) == (0, Path(made))
