"""The console's chart in front of a release: who has a key is answered through the gateway, and reviews outlive the pod."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from console.access.keys import add_key
from rollout.evidence import Evidence
from rollout.plan import Plan, State, Step
from rollout.record import Record
from tests.e2e.cluster import CHARTS, DOMAIN, GATEWAY, apply, gateway_inside, get, items, kubectl, run, state, wait_until
from tests.e2e.releases import CLAIM, Archives, Release, folder_of, image, make_volume

PODS = "app.kubernetes.io/component=console"


@dataclass(frozen=True)
class Console:
    """A console at the gateway, and the key of somebody who may do everything."""

    namespace: str
    key: str

    def ask(self, method: str, path: str, *, key: str | None = "", **more: Any) -> httpx.Response:
        """Ask through the gateway. `key`: another one than the console's own; None for none."""
        headers = {"host": f"console-{self.namespace}.{DOMAIN}", **more.pop("headers", {})}
        if key is not None:
            headers["authorization"] = f"Bearer {key or self.key}"
        return httpx.request(method, f"http://{GATEWAY}{path}", headers=headers, timeout=60, **more)

    def pod(self) -> dict[str, Any]:
        """Its one pod that is not on its way out."""
        [pod] = [pod for pod in items("pods", self.namespace, PODS) if "deletionTimestamp" not in pod["metadata"]]
        return pod

    def wait_ready(self) -> None:
        """Return once the Deployment has rolled out and the gateway leads to it."""
        done = kubectl("rollout", "status", "deployment/console", "--namespace", self.namespace, "--timeout", "180s", check=False)
        assert "successfully rolled out" in done, f"{done}\n{state(self.namespace)}\n{self.logs()}"
        wait_until(
            lambda: self.ask("GET", "/health/ready", key=None).status_code == 200, 60, "the gateway leads there", self.logs
        )

    def logs(self) -> str:
        """What its containers said."""
        return kubectl("logs", "--namespace", self.namespace, "--selector", PODS, "--all-containers", "--tail", "40", check=False)


@pytest.fixture(scope="module")
def console(namespace: str, release: Release, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """The chart, installed in front of the release's gateway as its owner would, with a closed network."""
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    console = Console(namespace, add_key(keys, "owner", {"admin"}))
    make_volume(namespace, "console", folder_of(namespace) / "console")
    record = Record(Plan(f"pvc://{CLAIM}/v1", f"pvc://{CLAIM}/v2", (Step(100, 60, 10),)), State(0.0, 0.0, Evidence.begin()))
    secret, known = {"name": "keys", "namespace": namespace}, {"name": "digits-rollout", "namespace": namespace}
    apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": secret, "stringData": {"keys.json": keys.read_text()}},
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": known,
            "data": {"record.json": json.dumps(record.to_json())},
        },
    )
    values = {
        "image": image("console"),
        "servers": [{"url": f"http://{gateway_inside()}", "host": release.target.host}],
        "keys": {"secretName": "keys"},
        "persistence": {"existingClaim": "console"},
        "releases": ["digits"],
        "resources": {"requests": {"cpu": "50m"}},
        "networkPolicy": {"enabled": True, "ingressNamespaces": ["kserve"], "egress": "dns", "egressNamespaces": ["kserve"]},
    }
    chart = ("console", str(CHARTS / "visor-console"), "--namespace", namespace)
    run("helm", "upgrade", "--install", *chart, "--values", "-", stdin=json.dumps(values))
    console.wait_ready()
    yield console
    run("helm", "uninstall", "console", "--namespace", namespace, "--ignore-not-found", "--wait")


def test_who_has_a_key_is_answered_through_the_gateway(console: Console, archives: Archives, tmp_path: Path) -> None:
    png = {"headers": {"content-type": "image/png"}, "content": archives.picture}
    answer = console.ask("POST", "/predict", params={"explain": True}, **png)
    assert answer.status_code == 200, f"{answer.text}\n{console.logs()}"
    told = answer.json()
    assert (told["model"], told["version"], told["error"]) == ("digits", "1", None)
    assert told["label"] in told["probabilities"]
    assert told["heatmap"]
    for key, status in ((None, 401), ("vck_of_nobody", 401), (add_key(tmp_path / "other.json", "other", {"admin"}), 401)):
        refused = console.ask("POST", "/predict", key=key, **png)
        assert (refused.status_code, refused.json()["error"]["code"]) == (status, "console.unauthenticated")
    # The page: a browser without a key is led to the sign-in, and one with a key sees it.
    first = console.ask("GET", "/", key=None, headers={"accept": "text/html"})
    assert first.status_code == 303, first.text
    assert console.ask("GET", "/sign-in", key=None).text.count("<form") == 1
    page = console.ask("GET", "/")
    assert (page.status_code, page.headers["content-type"].split(";")[0]) == (200, "text/html")
    assert "digits" in page.text
    assert "Succeeded" in run("helm", "test", "console", "--namespace", console.namespace, "--logs")


def test_the_release_s_record_is_shown_without_rights_in_the_cluster(console: Console) -> None:
    shown = console.ask("GET", "/releases")
    assert shown.status_code == 200
    assert "digits" in shown.text
    assert "cannot be read" not in shown.text
    assert "waiting at 0 %" in shown.text or "at 0 %" in shown.text
    [container] = console.pod()["spec"]["containers"]
    assert not [mount for mount in container["volumeMounts"] if "serviceaccount" in mount["mountPath"]]


def test_metrics_are_the_pods_own_and_not_the_gateway_s(console: Console) -> None:
    outside = console.ask("GET", "/metrics", key=None)
    assert (outside.status_code, httpx.URL(outside.headers["location"]).path) == (302, "/")
    inside = httpx.get(f"http://{console.pod()['status']['podIP']}:8090/metrics")
    assert inside.status_code == 200
    assert "visor_console_" in inside.text


def test_the_network_policy_is_of_the_pod_and_of_the_ways_that_it_needs(console: Console) -> None:
    """As the API server keeps it: the stand-in's network enforces none."""
    policy = get("networkpolicy", "console", console.namespace)["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= console.pod()["metadata"]["labels"].items()
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    [ingress], [dns, servers] = policy["ingress"], policy["egress"]
    assert ingress["ports"] == [{"port": 8090, "protocol": "TCP"}]
    assert {port["port"] for port in dns["ports"]} == {53, 5353}
    [expression] = servers["to"][0]["namespaceSelector"]["matchExpressions"]
    assert expression["values"] == ["kserve"]


def test_reviews_outlive_the_pod(console: Console, archives: Archives) -> None:
    def png(grey: int) -> bytes:
        out = io.BytesIO()
        Image.new("L", (28, 28), grey).save(out, "png")
        return out.getvalue()

    pictures = [archives.picture, png(30), png(220)]
    for picture in pictures:
        offered = console.ask("POST", "/reviews/items", headers={"content-type": "image/png"}, content=picture)
        assert offered.status_code == 200, f"{offered.text}\n{console.logs()}"
        assert offered.json()["queued"]

    def held() -> Any:
        item = console.ask("POST", "/reviews/next")
        return item.json() if item.status_code == 200 else None

    wait_until(held, 30, "a picture waits for a person", console.logs)
    item = held()
    labelled = console.ask("POST", f"/reviews/{item['id']}/label", json={"label": item["labels"][3]})
    assert labelled.status_code == 200, labelled.text
    before = console.pod()["metadata"]
    kubectl("delete", "pod", before["name"], "--namespace", console.namespace, "--wait")
    console.wait_ready()
    assert console.pod()["metadata"]["uid"] != before["uid"]

    tasks = console.ask("GET", "/reviews/export").json()
    assert len(tasks) == 1, tasks
    assert item["labels"][3] in json.dumps(tasks[0])
    other = held()
    assert other["id"] != item["id"]
    shown = console.ask("GET", f"/{other['picture']}")
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/jpeg")
