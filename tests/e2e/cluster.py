"""kubectl and helm as the tests call them, and where the cluster's gateways answer.

The cluster is the one that KUBECONFIG names, else the local stand-in for kind if there is one, else kubectl's own choice. All of
it answers on loopback.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CHARTS = ROOT / "charts"
HOME = Path(os.environ.get("CLUSTER_HOME") or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "local-cluster")
GATEWAY = "127.0.0.1:30080"
KNATIVE_GATEWAY = "127.0.0.1:30081"
DOMAIN = "example.com"
POLL_S = 1.0  # each look is a process of kubectl's, which costs 0.1 s of a core
ENVIRONMENT = {
    **({"KUBECONFIG": str(HOME / "kubeconfig")} if (HOME / "kubeconfig").exists() else {}),
    **os.environ,
    "PATH": f"{HOME / 'bin/kubernetes'}:{HOME / 'bin/addons'}:{os.environ['PATH']}",
}


def run(*command: str, stdin: str | None = None, check: bool = True, timeout_s: float = 300) -> str:
    """Run a command with the cluster's environment; its standard output. Its standard error is in the assertion."""
    done = subprocess.run(command, env=ENVIRONMENT, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0 or not check, f"{' '.join(command)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout if done.returncode == 0 else done.stdout + done.stderr


def kubectl(*args: str, stdin: str | None = None, check: bool = True) -> str:
    """Run kubectl; its output, with its errors too where they are allowed."""
    return run("kubectl", *args, stdin=stdin, check=check)


def get(kind: str, name: str, namespace: str) -> dict[str, Any]:
    """One object as the API server has it; empty while there is none."""
    text = kubectl("get", kind, name, "--namespace", namespace, "--output", "json", "--ignore-not-found")
    return dict(json.loads(text)) if text else {}


def items(kind: str, namespace: str, selector: str = "") -> list[dict[str, Any]]:
    """All objects of a kind in a namespace, or those that the label selector takes."""
    text = kubectl("get", kind, "--namespace", namespace, "--selector", selector, "--output", "json")
    return list(json.loads(text)["items"])


def apply(*objects: dict[str, Any]) -> None:
    """Create or change objects."""
    kubectl("apply", "--server-side", "--filename", "-", stdin="\n---\n".join(json.dumps(item) for item in objects))


def gateway_inside() -> str:
    """HOST:PORT of the gateway's Envoy for pods: the one of k8s/gateway.yaml, or the stand-in's."""
    ports = {item["metadata"]["name"]: item["spec"]["ports"][0]["port"] for item in items("services", "kserve")}
    name = next(name for name in ("envoy-kserve-ingress-gateway", "gateway") if name in ports)
    return f"{name}.kserve:{ports[name]}"


def wait_rollout(name: str, namespace: str, timeout_s: float = 180) -> str:
    """`python -m rollout wait` as a user types it: return once a release serves; what it logged."""
    command = [sys.executable, "-m", "rollout", "wait", name, "--namespace", namespace, "--timeout-s", f"{timeout_s:g}"]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s + 60, check=False)
    assert done.returncode == 0, f"{done.stderr}\n{state(namespace)}"
    return done.stderr


def wait_until(condition: Callable[[], object], timeout_s: float, what: str, describe: Callable[[], str] = str) -> None:
    """Poll until the condition holds; the assertion says what did not, and `describe` how things stood."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}\n{describe()}"
        time.sleep(POLL_S)


def state(namespace: str) -> str:
    """What a person would look at when a release does not get ready."""
    shown = kubectl("get", "inferenceservices,pods,httproutes", "--namespace", namespace, "--output", "wide", check=False)
    events = kubectl("get", "events", "--namespace", namespace, "--sort-by", ".lastTimestamp", check=False)
    logs = kubectl(
        "logs", "--namespace", namespace, "--selector", "serving.kserve.io/inferenceservice", "--all-containers", "--tail", "15",
        check=False,
    )  # fmt: skip
    return f"{shown}\n{events[-3000:]}\n{logs[-3000:]}"
