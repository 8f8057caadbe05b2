"""An API server in miniature, over real HTTP: the routes that `rollout` calls, with server-side apply's rules for them."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from rollout.cluster import Cluster

if TYPE_CHECKING:
    from tests.unit.rollout.world import World

NAMESPACE = "demo"
ARCHIVE = "pvc://models/roofs/2"
URI = "internal.serving.kserve.io/storage-initializer-sourceuri"


@dataclass
class MiniApi:
    """Objects by their path. `calls`: (method, path) of every request; `refusals`: statuses to answer the next calls of a
    method with; `garbled`: texts to answer them with, as a proxy may, and how many bytes of each were cut
    off, None for the right answer; `applied`: who applied what; `events`: those that were written; `on_patch`: called before each
    patch."""

    objects: dict[str, Any] = field(default_factory=dict)
    pods: list[dict[str, Any]] = field(default_factory=list)
    refusals: dict[str, list[int]] = field(default_factory=lambda: {"GET": [], "PATCH": [], "POST": []})
    garbled: dict[str, list[tuple[str, int] | None]] = field(default_factory=lambda: {"GET": [], "PATCH": [], "POST": []})
    applied: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    on_patch: Callable[[str, dict[str, Any]], None] = lambda _path, _body: None
    url: str = ""

    def get(self, path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        if path == f"/api/v1/namespaces/{NAMESPACE}/pods":
            key, value = query["labelSelector"][0].split("=")
            return 200, {"items": [pod for pod in self.pods if pod["metadata"]["labels"][key] == value]}
        if path in self.objects:
            return 200, self.objects[path]
        if there := [item for name, item in self.objects.items() if name.rpartition("/")[0] == path]:
            return 200, {"items": there}
        return 404, {"message": f"{path} not found"}

    def patch(self, path: str, query: dict[str, list[str]], kind: str, body: dict[str, Any]) -> tuple[int, Any]:
        self.on_patch(path, body)
        present = self.objects[path]
        if "/configmaps/" in path:
            return self.merge(path, present, body)
        if kind != "application/apply-patch+yaml" or query["force"] != ["true"]:
            return 415, {"message": kind}
        if body["metadata"].get("resourceVersion") != present["metadata"].get("resourceVersion"):
            return 409, {"message": "the object has been modified"}
        if "managedFields" in body["metadata"] or "status" in body:
            return 400, {"message": "metadata.managedFields must be nil"}
        self.applied.append((query["fieldManager"][0], body))
        self.objects[path] = {**present, **body, "metadata": {**present["metadata"], "resourceVersion": newer(present)}}
        return 200, self.objects[path]

    def merge(self, path: str, present: dict[str, Any], body: dict[str, Any]) -> tuple[int, Any]:
        """A merge patch of a ConfigMap."""
        metadata = {**present["metadata"], **body.get("metadata", {})}
        if metadata["resourceVersion"] != present["metadata"]["resourceVersion"]:
            return 409, {"message": "the object has been modified"}
        data = (present.get("data") or {}) | body.get("data", {})
        self.objects[path] = {**present, "data": data, "metadata": {**metadata, "resourceVersion": newer(present)}}
        return 200, self.objects[path]

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path.endswith("/events"):
            self.events.append(body)
            return 201, body
        path = f"{path}/{body['metadata']['name']}"
        if path in self.objects:
            return 409, {"message": f"{path} exists"}
        self.objects[path] = {**body, "metadata": {**body["metadata"], "resourceVersion": "1"}}
        return 201, self.objects[path]

    def weights(self, kind: str) -> list[list[int | None]]:
        """Of a route's rules, in order."""
        rules = self.objects[route_path(kind)]["spec"]["rules"]
        return [[backend.get("weight") for backend in rule["backendRefs"]] for rule in rules]


def newer(item: dict[str, Any]) -> str:
    """The next resource version."""
    return str(int(item["metadata"].get("resourceVersion", 0)) + 1)


def handler_of(api: MiniApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer("GET")

        def do_PATCH(self) -> None:
            self.answer("PATCH")

        def do_POST(self) -> None:
            self.answer("POST")

        def answer(self, method: str) -> None:
            parts = urlsplit(self.path)
            api.calls.append((method, parts.path))
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            garbled = api.garbled[method].pop(0) if api.garbled[method] else None
            if garbled:
                status, content = 200, None
            elif api.refusals[method]:
                status, content = api.refusals[method].pop(0), {"message": "User cannot do that"}
            elif method == "GET":
                status, content = api.get(parts.path, parse_qs(parts.query))
            elif method == "POST":
                status, content = api.post(parts.path, json.loads(body))
            else:
                kind = self.headers["Content-Type"]
                status, content = api.patch(parts.path, parse_qs(parts.query), kind, json.loads(body))
            text, cut = garbled or (json.dumps(content), 0)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text.encode()) + cut))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None: ...

    return Handler


def route_path(kind: str) -> str:
    return f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/{kind.lower()}s/roofs"


def service_path() -> str:
    return f"/apis/serving.kserve.io/v1beta1/namespaces/{NAMESPACE}/inferenceservices/roofs-canary"


def make_route(kind: str, *rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": kind,
        "metadata": {
            "name": "roofs",
            "namespace": NAMESPACE,
            "labels": {"app.kubernetes.io/managed-by": "Helm"},
            "annotations": {"meta.helm.sh/release-name": "roofs"},
            "resourceVersion": "41",
            "uid": "1",
            "generation": 1,
            "creationTimestamp": "2026-11-21T10:00:00Z",
            "managedFields": [{"manager": "helm", "operation": "Apply"}],
        },
        "spec": {"hostnames": ["roofs-demo.example.com"], "rules": [{"backendRefs": rule} for rule in rules]},
        "status": {"parents": []},
    }


def backend(name: str, weight: int | None = None, port: int = 80) -> dict[str, Any]:
    return {"name": name, "port": port} | ({} if weight is None else {"weight": weight})


def shared_rules(stable: int = 100, ports: tuple[int, ...] = (80,)) -> list[list[dict[str, Any]]]:
    """As the chart makes them: a rule that shares for each port, then one for each that a header takes to the canary."""
    canary = "roofs-canary-predictor"
    shared = [[backend("roofs-predictor", stable, port), backend(canary, 100 - stable, port)] for port in ports]
    return [*shared, *([backend(canary, port=port)] for port in ports)]


def make_service(ready: bool = True, archive: str = ARCHIVE, **status: Any) -> dict[str, Any]:
    condition = {"type": "Ready", "status": "True"} if ready else {"type": "Ready", "status": "False", "reason": "NotYet"}
    return {
        "metadata": {"name": "roofs-canary", "generation": 7},
        "spec": {"predictor": {"model": {"storageUri": archive}}},
        "status": {"conditions": [{"type": "PredictorReady", "status": "True"}, condition], **status},
    }


def make_pod(*containers: dict[str, Any], ready: bool = True, archive: str = ARCHIVE, **metadata: Any) -> dict[str, Any]:
    labels = {"serving.kserve.io/inferenceservice": "roofs-canary"}
    return {
        "metadata": {"name": "roofs-canary-1", "labels": labels, "annotations": {URI: archive}, **metadata},
        "status": {"conditions": [{"type": "Ready", "status": str(ready)}], "containerStatuses": list(containers)},
    }


def crashing(message: str = "visor: archive.refused: the signature does not fit\n") -> dict[str, Any]:
    return {
        "name": "kserve-container",
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}},
        "lastState": {"terminated": {"reason": "Error", "exitCode": 1, "message": message}},
    }


def at(pod: dict[str, Any], ready: bool, since: str, started: str = "2026-11-30T00:00:03Z", **more: Any) -> dict[str, Any]:
    """A pod of one container that runs, as the kubelet tells since when it is or is not ready. `more`: other conditions."""
    pod["status"] = {
        "phase": "Running",
        "conditions": [
            {"type": "Ready", "status": str(ready), "lastTransitionTime": since},
            *({"type": kind, "status": status} for kind, status in more.items()),
        ],
        "containerStatuses": [{"name": "kserve-container", "restartCount": 0, "state": {"running": {"startedAt": started}}}],
    }
    return pod


def ended(pod: dict[str, Any]) -> dict[str, Any]:
    """A pod after its eviction, as it stays until it is collected."""
    pod["status"] = {
        "phase": "Failed",
        "reason": "Evicted",
        "message": "The node was low on resource: memory.",
        "conditions": [
            {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"},
            {"type": "Ready", "status": "False", "reason": "PodFailed"},
        ],
        "containerStatuses": [{"name": "kserve-container", "state": {"terminated": {"exitCode": 137, "reason": "Error"}}}],
    }
    return pod


@pytest.fixture
def api() -> Iterator[MiniApi]:
    """A ready canary behind two routes that give it nothing yet."""
    api = MiniApi(pods=[make_pod()])
    for kind in ("HTTPRoute", "GRPCRoute"):
        api.objects[route_path(kind)] = make_route(kind, *shared_rules())
    api.objects[service_path()] = make_service()
    with ThreadingHTTPServer(("127.0.0.1", 0), handler_of(api)) as server:
        api.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield api
        server.shutdown()
        thread.join()


@pytest.fixture
def kubeconfig(api: MiniApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's default, as KUBECONFIG sets it when the client is imported."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "mini",
        "contexts": [{"name": "mini", "context": {"cluster": "mini", "user": "mini"}}],
        "clusters": [{"name": "mini", "cluster": {"server": api.url}}],
        "users": [{"name": "mini", "user": {}}],
    }
    (tmp_path / "config").write_text(json.dumps(config))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))


@pytest.fixture
def cluster(kubeconfig: None) -> Iterator[Cluster]:  # noqa: ARG001 - the client reads it
    cluster = Cluster(NAMESPACE)
    yield cluster
    cluster.close()


@pytest.fixture
def world(api: MiniApi, cluster: Cluster) -> Iterator["World"]:
    """A release and its traffic."""
    from tests.unit.rollout.world import started

    with started(api, cluster) as made:
        yield made
