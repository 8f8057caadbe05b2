"""A release in miniature: an API server, a Prometheus and traffic, over real HTTP, with a clock of the test's own.

Traffic goes by the weights that the routes have: what the loop writes decides who counts.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

from rollout.cluster import Cluster
from rollout.plan import Step
from rollout.run import Loop
from rollout.setup import Order
from tests.unit.rollout.conftest import NAMESPACE, MiniApi, make_pod, make_route, route_path, shared_rules

STABLE, CANARY = "pvc://models/roofs/1", "pvc://models/roofs/2"
DIGESTS = {STABLE: "11", CANARY: "22"}
STEPS = (Step(10, 60, 50), Step(50, 60, 50), Step(100, 10, 0))
RECORD = f"/api/v1/namespaces/{NAMESPACE}/configmaps/roofs-rollout"
RUNTIME = f"/apis/serving.kserve.io/v1alpha1/namespaces/{NAMESPACE}/servingruntimes/roofs"
BORN = "2026-11-30T00:00:00Z"
START = 1_800_000_000.0  # later than the pods
PER_TURN = 400


def service_of(name: str, archive: str, replicas: int = 1) -> dict[str, Any]:
    """An InferenceService as Helm applied it and KServe defaulted it."""
    digest = DIGESTS[archive]
    fields = {"f:spec": {"f:predictor": {"f:minReplicas": {}, "f:model": {"f:args": {}, "f:storageUri": {}, "f:runtime": {}}}}}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "generation": 1,
            "resourceVersion": "7",
            "annotations": {"serving.kserve.io/autoscalerClass": "none"},
            "managedFields": [{"manager": "helm", "operation": "Apply", "time": BORN, "fieldsV1": fields}],
        },
        "spec": {
            "predictor": {
                "minReplicas": replicas,
                "maxReplicas": 9,
                "model": {"storageUri": archive, "args": [f"--digest={digest}"], "runtime": "roofs", "resources": {}},
            }
        },
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }


def service_at(name: str) -> str:
    return f"/apis/serving.kserve.io/v1beta1/namespaces/{NAMESPACE}/inferenceservices/{name}"


def pod_of(service: str, archive: str, number: int = 1, restarts: int = 0, *containers: dict[str, Any]) -> dict[str, Any]:
    pod = make_pod(
        *(containers or [{"name": "kserve-container", "restartCount": restarts}]),
        ready=not containers,
        archive=archive,
        name=f"{service}-{number}",
        creationTimestamp=BORN,
    )
    pod["metadata"]["labels"] = {"serving.kserve.io/inferenceservice": service}
    return pod


class World:
    """A release and its traffic. `wrong`: the share of the canary's requests that fail; `older`: whether edges draw no images."""

    def __init__(self, api: MiniApi, cluster: Cluster) -> None:
        self.api, self.cluster = api, cluster
        self.now, self.wrong, self.deaf, self.older = START, 0.0, False, False
        self.counts = {"roofs-1": [0, 0], "roofs-canary-1": [0, 0]}  # requests and failures
        self.unscraped: set[str] = set()
        self.drifts = {"roofs": False, "roofs-canary": False}
        self.url = ""
        api.objects.update(
            {
                route_path("HTTPRoute"): make_route("HTTPRoute", *shared_rules(ports=(80, 8081))),
                service_at("roofs"): service_of("roofs", STABLE),
                service_at("roofs-canary"): service_of("roofs-canary", CANARY),
                RUNTIME: {"metadata": {"name": "roofs"}, "spec": {}},
            }
        )
        del api.objects[route_path("GRPCRoute")]
        api.pods = [pod_of("roofs", STABLE), pod_of("roofs-canary", CANARY)]

    @property
    def order(self) -> Order:
        return Order("roofs", NAMESPACE, self.url, STEPS, every_s=10.0, ready_s=100.0)

    @property
    def percent(self) -> int:
        """The canary's weight."""
        [first, second, *_] = self.api.weights("HTTPRoute")
        assert first == second
        return int(first[1] or 0)

    @property
    def record(self) -> dict[str, Any]:
        return dict(json.loads(self.api.objects[RECORD]["data"]["record.json"]))

    @property
    def state(self) -> dict[str, Any]:
        return dict(self.record["state"])

    def traffic(self) -> None:
        """Ten seconds pass, with requests by the weights."""
        self.now += 10
        ours = PER_TURN * self.percent // 100
        for pod, count, wrong in (("roofs-canary-1", ours, self.wrong), ("roofs-1", PER_TURN - ours, 0.0)):
            self.counts[pod][0] += count
            self.counts[pod][1] += round(count * wrong)

    def kserve(self) -> None:
        """KServe follows what its objects say at once; requests go to the first pod of each."""
        for name in ("roofs", "roofs-canary"):
            service = self.api.objects.get(service_at(name))
            if service is None:
                continue
            model, wanted = service["spec"]["predictor"]["model"], service["spec"]["predictor"]["minReplicas"]
            container = {"name": "kserve-container", "args": model["args"]}
            there = {pod["metadata"]["name"]: pod for pod in self.api.pods}
            for number in range(1, wanted + 1):
                made = pod_of(name, model["storageUri"], number)
                known = there.get(f"{name}-{number}", made)
                kept = known if known["metadata"]["annotations"] == made["metadata"]["annotations"] else made
                there[f"{name}-{number}"] = {**kept, "spec": {"containers": [container]}}
                self.counts.setdefault(f"{name}-{number}", [0, 0])
            self.api.pods = list(there.values())
            template = {**pod_of(name, model["storageUri"]), "spec": {"containers": [container]}}
            self.api.objects[f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}-predictor"] = {
                "metadata": {"generation": 1},
                "spec": {"replicas": wanted, "template": template},
                "status": {"observedGeneration": 1} | dict.fromkeys(("updatedReplicas", "replicas", "availableReplicas"), wanted),
            }

    def turn(self, loop: Loop) -> bool:
        self.traffic()
        self.kserve()
        return loop.turn(self.now)

    def until(self, loop: Loop, done: Callable[[], bool], turns: int = 60) -> None:
        for _ in range(turns):
            if done():
                return
            self.turn(loop)
        raise AssertionError(self.record["state"])

    def end(self, loop: Loop | None = None, turns: int = 60) -> dict[str, Any]:
        """Go on to the release's end; the record."""
        loop = loop or Loop(self.cluster, self.order, self.now, "one")
        for _ in range(turns):
            if self.turn(loop):
                return self.record
        raise AssertionError(self.record["state"])

    def series(self, query: str) -> list[dict[str, Any]]:
        found = re.search(r'pod=~"([^"]*)"', query)
        assert found
        if "visor_drift" in query:
            return self.drift(query, found[1].split("|"))
        if "increase(visor_drawn" in query:
            answered = sum(self.counts[pod][0] - self.counts[pod][1] for pod in found[1].split("|") if pod in self.counts)
            return [] if self.older else [{"metric": {}, "value": [self.now, str(answered)]}]
        series: list[tuple[dict[str, str], int]] = []
        for pod in set(found[1].split("|")) & self.counts.keys() - self.unscraped:
            count, failed = self.counts[pod]
            for code, number in (("200", count - failed), ("500", failed)):
                series.append(({"__name__": "visor_request_seconds_count", "code": code, "pod": pod}, number))
            bucket = {"__name__": "visor_request_seconds_bucket", "code": "200", "pod": pod}
            series += [({**bucket, "le": le}, count - failed) for le in ("0.1", "0.5", "+Inf")]
            series.append(({"__name__": "visor_decisions_total", "decision": "pass", "pod": pod}, count - failed))
            if not self.older:
                drawn = {"pass": count - failed, "flag": 0, "review": 0, "rejected": 0}
                series += [({"__name__": "visor_drawn_images_total", "result": one, "pod": pod}, n) for one, n in drawn.items()]
            series.append(({"__name__": "visor_build_info", "pod": pod}, 1))
        if query.startswith("sum"):
            return [{"metric": {}, "value": [self.now, "40"]}]
        return [{"metric": labels, "value": [self.now, str(value)]} for labels, value in series]

    def drift(self, query: str, pods: list[str]) -> list[dict[str, Any]]:
        """Images by ten bins, of which one is fuller where they have drifted, and what an archive says of its reference."""
        [name] = {pod.rpartition("-")[0] for pod in pods}
        images = sum(sum(self.counts[pod]) for pod in pods if pod in self.counts)
        bins = {str(number): images / 10 for number in range(10)}
        if self.drifts[name]:
            bins["9"] += images
        if query.startswith("sum"):
            return [{"metric": {"figure": "score", "bin": n}, "value": [self.now, str(count)]} for n, count in bins.items()]
        series: list[tuple[dict[str, str], float]] = [
            ({"__name__": "visor_drift_reference_share", "figure": "score", "bin": n}, 0.1) for n in bins
        ]
        series += [({"__name__": "visor_drift_limit_quantile", "figure": "score"}, 29.6)]
        series += [({"__name__": "visor_drift_reference_images"}, 240.0), ({"__name__": "visor_drift_effect"}, 0.025)]
        return [{"metric": labels, "value": [self.now, str(value)]} for labels, value in series]


@contextmanager
def started(api: MiniApi, cluster: Cluster) -> Iterator[World]:
    """A release whose Prometheus answers until the block ends."""
    made = World(api, cluster)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["query"][0]
            found = {"status": "success", "data": {"resultType": "vector", "result": made.series(query)}}
            text = json.dumps(found).encode()
            self.send_response(503 if made.deaf else 200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield made
        server.shutdown()
        thread.join()
