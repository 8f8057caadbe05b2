"""The command `wait` against an API server: what it reads, when it ends, and what is said then."""

import threading

import pytest

from rollout.__main__ import main, parse_args
from rollout.errors import ClusterError, NotReady, StartFailed
from rollout.wait import Wait, wait
from tests.unit.rollout.conftest import NAMESPACE, crashing, make_route, service_path
from tests.unit.rollout.test_release import ARCHIVE, DIGEST, deployment, knative, pod, route, runtime, service_of

NAME = "roofs-canary"  # any release will do, and the fixtures' pods are this one's
WORKLOAD = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{NAME}-predictor"
KNATIVE = f"/apis/serving.knative.dev/v1/namespaces/{NAMESPACE}/services/{NAME}-predictor"
RUNTIME = f"/apis/serving.kserve.io/v1alpha1/namespaces/{NAMESPACE}/servingruntimes/roofs"
ROUTES = f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/httproutes"
EVENTS = f"/api/v1/namespaces/{NAMESPACE}/events"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("rollout.waiting.POLL_S", 0.02)
    monkeypatch.setattr("rollout.waiting.FAILURE_LASTS_S", 0.2)


@pytest.fixture
def served(api):
    """A release of two pods that serves."""
    other = make_route("HTTPRoute", [{"name": "walls-predictor"}])
    api.objects |= {
        service_path(): service_of(),
        WORKLOAD: deployment(),
        RUNTIME: runtime(),
        ROUTES: {"items": [route(), other]},
        EVENTS: {"items": []},
    }
    api.pods = [pod(), pod()]
    return api


def order(timeout_s=10.0, archive=None, digest=None):
    return Wait(NAME, archive, digest, timeout_s)


def test_what_serves_is_not_waited_for_and_nothing_is_written(served, cluster):
    wait(cluster, order(timeout_s=0))
    wait(cluster, order(timeout_s=0, archive=ARCHIVE, digest=DIGEST))
    assert {method for method, _ in served.calls} == {"GET"}


def test_it_waits_until_the_last_pod_is_there(served, cluster):
    served.objects[WORKLOAD] = deployment(updatedReplicas=1)
    timer = threading.Timer(0.3, lambda: served.objects.__setitem__(WORKLOAD, deployment()))
    timer.start()
    wait(cluster, order())
    assert timer.finished.is_set()


def test_it_gives_kserve_time_to_hand_on_and_no_more(served, cluster, monkeypatch):
    served.objects[service_path()] = service_of(nodeSelector={"disk": "ssd"})
    with pytest.raises(NotReady, match="KServe has not handed on its nodeSelector yet"):
        wait(cluster, order(timeout_s=0.1))
    monkeypatch.setattr("rollout.wait.HANDED_ON_S", 0.2)
    wait(cluster, order())


def test_a_failure_ends_it_with_the_containers_words(served, cluster):
    served.pods = [pod(crashing(), ready=False)]
    with pytest.raises(StartFailed, match=r"^rollout\.failed: roofs-canary cannot start: .*: visor: archive\.refused"):
        wait(cluster, order(timeout_s=60))


def test_time_runs_out_with_the_last_event(served, cluster):
    served.objects[WORKLOAD] = deployment(availableReplicas=1)
    served.pods = [pod(), pod(ready=False)]
    about = {"kind": "Pod", "name": "roofs-canary-1"}
    served.objects[EVENTS] = {
        "items": [
            {"involvedObject": about, "lastTimestamp": "2026-11-21T10:00:05Z", "message": "waiting for an archive"},
            {"involvedObject": about, "eventTime": "2026-11-21T10:00:01Z", "message": "earlier"},
        ]
    }
    with pytest.raises(NotReady, match=r"not ready within 0\.1 s: 2 of 2 pods .*roofs-canary-1 is not ready: waiting for"):
        wait(cluster, order(timeout_s=0.1))


def test_routes_to_others_and_kinds_that_are_not_there_do_not_matter(served, cluster):
    served.objects[ROUTES]["items"][0] = route(accepted="False")
    with pytest.raises(NotReady, match="HTTPRoute roofs: not Accepted"):
        wait(cluster, order(timeout_s=0.1))
    del served.objects[ROUTES]
    wait(cluster, order())


def test_knative_s_service_is_read_and_no_route(served, cluster):
    served.objects[service_path()] = service_of(mode="Knative")
    served.objects[KNATIVE] = knative()
    served.pods = []
    del served.objects[WORKLOAD], served.objects[ROUTES]
    wait(cluster, order())


def test_a_runtime_that_is_not_named_is_not_read(served, cluster):
    service = service_of()
    del service["spec"]["predictor"]["model"]["runtime"]
    served.objects[service_path()] = service
    del served.objects[RUNTIME]
    wait(cluster, order())


def test_no_release_is_said(served, cluster):
    del served.objects[service_path()]
    with pytest.raises(NotReady, match="roofs-canary was not ready within 0 s: it does not exist"):
        wait(cluster, order(timeout_s=0))


def test_an_api_that_is_away_for_a_moment_is_waited_for_and_a_missing_right_is_not(served, cluster):
    served.refusals["GET"] = [503, 500]
    wait(cluster, order())
    served.refusals["GET"] = [403]
    with pytest.raises(ClusterError, match=r"^rollout\.cluster: .* 403"):
        wait(cluster, order(timeout_s=60))


@pytest.mark.usefixtures("kubeconfig", "served")
def test_the_command_s_exit_codes(caplog, capsys):
    flags = ["wait", NAME, "--namespace", NAMESPACE]
    assert main([*flags, "--archive", ARCHIVE, "--digest", DIGEST, "--timeout-s", "1"]) == 0
    assert main([*flags, "--archive", "pvc://models/roofs/1", "--timeout-s", "0"]) == 1
    assert f"rollout.timeout: {NAME} was not ready within 0 s: its storageUri is {ARCHIVE} and not pvc://models/" in caplog.text
    for mistyped in (["wait"], [*flags, "--wait"]):
        with pytest.raises(SystemExit, match="2"):
            parse_args(mistyped)
    assert "required" in capsys.readouterr().err


def test_the_help_says_the_exit_codes(capsys):
    with pytest.raises(SystemExit, match="0"):
        parse_args(["wait", "--help"])
    assert "Exit codes: 0 the release serves; 1 an error" in " ".join(capsys.readouterr().out.split())
