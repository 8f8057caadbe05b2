"""The command against an API server: when weights move, when they do not, and what is said then."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from rollout.__main__ import main, parse_args
from rollout.cluster import Cluster
from rollout.errors import ClusterConflict, ClusterError, NotReady, RouteUnexpected, StartFailed
from rollout.shift import Shift, shift
from tests.unit.rollout.conftest import (
    ARCHIVE,
    crashing,
    make_pod,
    make_route,
    make_service,
    route_path,
    service_path,
    shared_rules,
)

BOTH = ("HTTPRoute", "GRPCRoute")
UNTOUCHED = [[100, 0], [None]]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("rollout.shift.POLL_S", 0.02)
    monkeypatch.setattr("rollout.waiting.POLL_S", 0.02)
    monkeypatch.setattr("rollout.waiting.FAILURE_LASTS_S", 0.2)


def order(percent=20, timeout_s=10.0, archive=ARCHIVE):
    return Shift("roofs-canary", tuple((kind, "roofs") for kind in BOTH), percent, archive, timeout_s, "helm")


def later(seconds, act):
    timer = threading.Timer(seconds, act)
    timer.start()
    return timer


def test_a_ready_canary_gets_its_share_as_helm(api, cluster):
    shift(cluster, order())
    assert [api.weights(kind) for kind in BOTH] == [[[80, 20], [None]]] * 2
    assert [(manager, body["kind"]) for manager, body in api.applied] == [("helm", "HTTPRoute"), ("helm", "GRPCRoute")]


def test_weights_that_are_right_are_not_written(api, cluster):
    shift(cluster, order())
    shift(cluster, order())
    assert len(api.applied) == 2


def test_it_waits_until_the_pods_serve_the_archive(api, cluster):
    api.pods = [make_pod(archive="pvc://models/roofs/1")]
    timer = later(0.3, lambda: api.pods.append(make_pod()))
    last = later(0.6, lambda: api.pods.pop(0))
    start = time.monotonic()
    shift(cluster, order())
    assert time.monotonic() - start >= 0.6
    assert api.weights("HTTPRoute") == [[80, 20], [None]]
    timer.join()
    last.join()


def test_a_failure_ends_it_with_the_containers_words(api, cluster):
    api.pods = [make_pod(crashing(), ready=False)]
    with pytest.raises(StartFailed, match=r"^rollout\.failed: roofs-canary cannot start, .*: visor: archive\.refused: the sig"):
        shift(cluster, order())
    assert [api.weights(kind) for kind in BOTH] == [UNTOUCHED] * 2


def test_a_failure_that_goes_away_is_none(api, cluster):
    api.pods = [make_pod(crashing(), ready=False)]
    timer = later(0.1, lambda: api.pods.__setitem__(0, make_pod()))
    shift(cluster, order())
    timer.join()
    assert api.weights("GRPCRoute") == [[80, 20], [None]]


def test_time_runs_out_with_the_reason(api, cluster):
    api.objects[service_path()] = make_service(ready=False)
    with pytest.raises(NotReady, match=r"^rollout\.timeout: roofs-canary was not ready within 0\.2 s, .*: KServe: NotYet"):
        shift(cluster, order(timeout_s=0.2))
    assert [api.weights(kind) for kind in BOTH] == [UNTOUCHED] * 2


def test_zero_waits_for_nothing(api, cluster):
    for kind in BOTH:
        api.objects[route_path(kind)] = make_route(kind, *shared_rules(stable=50))
    api.pods = [make_pod(crashing(), ready=False)]
    shift(cluster, order(percent=0))
    assert [api.weights(kind) for kind in BOTH] == [UNTOUCHED] * 2


def test_a_wrong_route_is_said_before_any_is_changed(api, cluster):
    del api.objects[route_path("GRPCRoute")]
    with pytest.raises(RouteUnexpected, match="there is no GRPCRoute roofs"):
        shift(cluster, order())
    assert api.weights("HTTPRoute") == UNTOUCHED


def test_who_writes_meanwhile_is_not_overwritten(api, cluster):
    original = api.patch
    written = []

    def write_first(path, *rest):
        if not written:
            written.append(path)
            api.objects[path]["metadata"]["resourceVersion"] = "77"
            api.objects[path]["spec"]["hostnames"] = ["other.example.com"]
        return original(path, *rest)

    api.patch = write_first
    shift(cluster, order())
    assert api.objects[route_path("HTTPRoute")]["spec"]["hostnames"] == ["other.example.com"]
    assert api.weights("HTTPRoute") == [[80, 20], [None]]


def test_a_conflict_that_lasts_is_an_error(api, cluster):
    api.refusals["PATCH"] = [409] * 1000
    with pytest.raises(ClusterConflict, match=r"^rollout\.conflict: .*409"):
        shift(cluster, order(timeout_s=0.2))


def test_an_api_that_is_away_for_a_moment_is_waited_for(api, cluster, monkeypatch):
    seen = []
    original = Cluster.pods

    def away_twice(self, service):
        if len(seen) < 2:
            api.refusals["GET"].append(503)
        seen.append(service)
        return original(self, service)

    monkeypatch.setattr(Cluster, "pods", away_twice)
    api.refusals["PATCH"] = [500]
    shift(cluster, order())
    assert len(seen) == 3
    assert api.weights("HTTPRoute") == [[80, 20], [None]]


def test_a_right_that_is_missing_is_said_at_once(api, cluster):
    api.refusals["GET"] = [403]
    with pytest.raises(ClusterError, match=r"^rollout\.cluster: the Kubernetes API answers 403: User cannot do that"):
        shift(cluster, order(timeout_s=60))


def command(*more):
    flags = ["--namespace", "demo", "--inferenceservice", "roofs-canary", "--canary-percent", "20", "--timeout-s", "5"]
    return ["shift", *flags, *more]


@pytest.mark.usefixtures("kubeconfig")
def test_the_command_moves_what_it_is_told_to(api):
    assert main(command("--grpcroute", "roofs", "--archive", ARCHIVE, "--field-manager", "me")) == 0
    assert api.weights("GRPCRoute") == [[80, 20], [None]]
    assert api.weights("HTTPRoute") == UNTOUCHED
    assert [manager for manager, _ in api.applied] == ["me"]


@pytest.mark.usefixtures("kubeconfig")
def test_its_last_words_are_kubernetes_to_show(api, tmp_path, caplog):
    (tmp_path / "log").touch()
    api.pods = [make_pod(crashing("ä" * 5000), ready=False)]
    assert main(command("--httproute", "roofs", "--termination-log", str(tmp_path / "log"))) == 1
    words = (tmp_path / "log").read_bytes()
    assert words.startswith(b"visor: rollout.failed: roofs-canary cannot start")
    assert len(words) == 4096
    assert "rollout.failed" in caplog.text


@pytest.mark.usefixtures("kubeconfig")
def test_without_kubernetes_there_is_nowhere_to_leave_them(api, tmp_path):
    del api.objects[route_path("HTTPRoute")]
    assert main(command("--httproute", "roofs", "--termination-log", str(tmp_path / "log"))) == 1
    assert not (tmp_path / "log").exists()


def test_no_cluster_is_an_error_that_says_what_to_do(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    assert main(command("--httproute", "roofs")) == 1
    assert "rollout.cluster" in caplog.text
    assert "KUBECONFIG" in caplog.text


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ([], "name a route"),
        (["--httproute", "roofs", "--canary-percent", "101"], "not a percentage"),
        (["--httproute", "roofs", "--percent", "1"], "--percent"),
    ],
)
def test_a_mistyped_command_is_an_error(flags, why, capsys):
    with pytest.raises(SystemExit):
        parse_args(command(*flags))
    assert why in capsys.readouterr().err


def test_sigterm_ends_it(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = f"""
apiVersion: v1
kind: Config
current-context: mini
contexts: [{{name: mini, context: {{cluster: mini, user: mini}}}}]
clusters: [{{name: mini, cluster: {{server: "http://127.0.0.1:{silent.getsockname()[1]}"}}}}]
users: [{{name: mini, user: {{}}}}]
"""
        (tmp_path / "config").write_text(config)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "KUBECONFIG": str(tmp_path / "config")}
        arguments = [sys.executable, "-m", "rollout", *command("--httproute", "roofs")]
        with subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True) as process:
            accepted, _ = silent.accept()  # it asks, and nobody answers
            process.send_signal(signal.SIGTERM)
            process.wait(10)
            accepted.close()
            assert process.returncode == 128 + signal.SIGTERM
            assert not re.search("Traceback", process.stderr.read())
