"""One look at a whole release: ready, waiting, or failed."""

import copy

import pytest

from rollout.canary import State
from rollout.release import Found, carries, read_release
from tests.unit.rollout.conftest import ARCHIVE, URI, crashing, ended, make_pod, make_route, make_service, shared_rules

OLD = "pvc://models/roofs/1"
DIGEST = "ab" * 32
MODE, SCALER = "serving.kserve.io/deploymentMode", "serving.kserve.io/autoscalerClass"
RESOURCES = {"requests": {"cpu": "0.5", "memory": "1024Mi"}}


def service_of(mode="Standard", scaler="external", **predictor):
    service = make_service()
    service["metadata"]["annotations"] = {MODE: mode, SCALER: scaler}
    service["spec"]["predictor"] |= {"annotations": {"team": "roofs"}, "labels": {"visor.io/track": "stable"}, **predictor}
    service["spec"]["predictor"]["model"] |= {"args": [f"--digest={DIGEST}"], "resources": RESOURCES, "runtime": "roofs"}
    return service


def runtime():
    containers = [
        {"name": "kserve-container", "image": "a:1", "args": ["--models=/mnt/models"], "env": [{"name": "A", "value": "1"}]},
        {"name": "transformer-container", "image": "b:1", "args": ["--name={{.Name}}"], "resources": {"limits": {"cpu": "1"}}},
    ]
    return {"spec": {"containers": containers, "volumes": [{"name": "work", "emptyDir": {}}]}}


def template(archive=ARCHIVE):
    """As KServe and the API server write it: merged, with quantities of their own form, and defaults."""
    return {
        "metadata": {"annotations": {URI: archive, "team": "roofs"}, "labels": {"visor.io/track": "stable", "app": "x"}},
        "spec": {
            "containers": [
                {
                    "name": "kserve-container",
                    "image": "a:1",
                    "args": ["--models=/mnt/models", f"--digest={DIGEST}"],
                    "env": [{"name": "A", "value": "1"}],
                    "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}},
                    "terminationMessagePath": "/dev/termination-log",
                },
                {"name": "transformer-container", "image": "b:1", "args": ["--name=x"], "resources": {"limits": {"cpu": "1"}}},
            ],
            "volumes": [{"name": "work", "emptyDir": {}}, {"name": "model"}],
            "restartPolicy": "Always",
        },
    }


def deployment(replicas=2, generation=9, observed=None, archive=ARCHIVE, conditions=(), **status):
    """With so many replicas, all of them new and available."""
    counts = {"replicas": replicas, "updatedReplicas": replicas, "availableReplicas": replicas} | status
    return {
        "metadata": {"generation": generation},
        "spec": {"replicas": replicas, "template": template(archive)},
        "status": {"observedGeneration": observed or generation, "conditions": list(conditions), **counts},
    }


def pod(*containers, ready=True, archive=ARCHIVE, digest=DIGEST, team="roofs", **metadata):
    made = make_pod(*containers, ready=ready, archive=archive, **metadata)
    made["metadata"]["annotations"]["team"] = team
    made["spec"] = {"containers": [{"args": ["--models=/mnt/models", f"--digest={digest}"]}]}
    return made


def route(accepted="True", resolved="True", observed=1, reason="R"):
    made = make_route("HTTPRoute", *shared_rules())
    conditions = [
        {"type": kind, "status": status, "observedGeneration": observed, "reason": reason, "message": "why"}
        for kind, status in (("Accepted", accepted), ("ResolvedRefs", resolved))
    ]
    made["spec"]["parentRefs"] = [{"name": "gateway"}]
    made["status"] = {"parents": [{"parentRef": {"name": "gateway"}, "conditions": conditions}]}
    return made


def seen(service=None, workload=None, pods=None, routes=None, **more):
    return Found(
        service or service_of(),
        runtime(),
        workload or deployment(),
        [pod(), pod()] if pods is None else pods,
        [route()] if routes is None else routes,
        **more,
    )


def read(*args, archive=None, digest=None, handed_on=False, **kwargs):
    return read_release(seen(*args, **kwargs), archive, digest, handed_on)


def test_it_is_ready_with_all_pods_and_routes():
    assert read(archive=ARCHIVE, digest=DIGEST) == State()


def test_a_scaler_s_step_does_not_matter():
    """KServe writes the Deployment's generation into the InferenceService's status: 2 and 12 here, and never the same again."""
    service = service_of()
    service["metadata"]["generation"], service["status"]["observedGeneration"] = 2, 12
    assert read(service, deployment(replicas=3, generation=12), [pod()] * 3).ready


def test_kserve_s_own_number_of_pods_is_waited_for():
    service = service_of(scaler="none", minReplicas=3)
    assert "number of pods" in read(service).waiting
    assert read(service, deployment(replicas=3), [pod()] * 3).ready
    assert read(service_of(scaler="external", minReplicas=3)).ready


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"service": make_service(archive=OLD)}, f"its storageUri is {OLD} and not {ARCHIVE}"),
        ({"workload": deployment(archive=OLD)}, "KServe has not handed on its archive yet"),
        ({"workload": deployment(observed=8)}, "not looked at yet"),
        ({"workload": deployment(updatedReplicas=1)}, "1 of 2 pods are new, 2 available, 1 old"),
        ({"workload": deployment(replicas=2, replicas_there=3)}, ""),
        ({"workload": deployment(availableReplicas=1), "pods": [pod(), pod(ready=False)]}, "pod roofs-canary-1 is not ready"),
        ({"workload": deployment(replicas=0), "pods": []}, "scaled to no pod"),
        ({"pods": [pod(), pod(archive=OLD)]}, "1 of its pods are of another archive, digest or template"),
        ({"pods": [pod(), pod(digest="cd" * 32)]}, "1 of its pods are of another"),
        ({"pods": [pod(), pod(team="walls")]}, "1 of its pods are of another"),
        (
            {"routes": [route(accepted="False", reason="NoMatchingParent")]},
            "HTTPRoute roofs: not Accepted by the gateway gateway: No",
        ),
        ({"routes": [route(resolved="False", reason="BackendNotFound")]}, "not ResolvedRefs by the gateway gateway: Ba"),
        ({"routes": [route(observed=0)]}, "HTTPRoute roofs: the gateway gateway has not looked at it yet"),
        ({"routes": [{**route(), "status": {}}]}, "HTTPRoute roofs: no gateway has looked at it yet"),
    ],
)
def test_it_is_waited_for(change, why):
    change = dict(change)
    if not why:  # a third pod of the template before
        change["workload"] = deployment()
        change["workload"]["status"]["replicas"] = 3
        why = "2 of 2 pods are new, 2 available, 1 old"
    state = read(**change, archive=ARCHIVE)
    assert why in state.waiting
    assert not state.failure


def test_a_gateway_that_says_nothing_of_backends_has_taken_the_route():
    taken = route()
    del taken["status"]["parents"][0]["conditions"][1]
    assert read(routes=[taken]).ready


def test_what_does_not_exist_is_waited_for():
    assert read_release(Found(None), None, None).waiting == "it does not exist"
    assert "no pods of it yet" in read_release(Found(service_of()), None, None).waiting
    gone = service_of()
    gone["metadata"]["deletionTimestamp"] = "2026-11-21T10:00:00Z"
    assert read(gone).waiting == "it is being deleted"


def test_another_digest_is_waited_for():
    assert f"ask for {DIGEST} and not for the digest {'0' * 64}" in read(digest="0" * 64).waiting
    service = service_of()
    service["spec"]["predictor"]["model"]["args"] = []
    assert f"ask for no digest and not for the digest {DIGEST}" in read(service, digest=DIGEST).waiting


def changed(path, value):
    service, its_runtime = service_of(), runtime()
    place = {"service": service["spec"]["predictor"], "runtime": its_runtime["spec"]}
    *way, last = path
    target = place
    for step in way:
        target = target[step]
    target[last] = value
    return service, its_runtime


@pytest.mark.parametrize(
    ("path", "value", "what"),
    [
        (("service", "annotations"), {"team": "roofs", "restarted": "now"}, "annotations"),
        (("service", "labels"), {"visor.io/track": "canary"}, "labels"),
        (("service", "nodeSelector"), {"disk": "ssd"}, "nodeSelector"),
        (("service", "terminationGracePeriodSeconds"), 90, "terminationGracePeriodSeconds"),
        (("service", "model", "resources"), {"requests": {"cpu": "501m"}}, "container kserve-container"),
        (("runtime", "containers", 0, "image"), "a:2", "container kserve-container"),
        (("runtime", "containers", 0, "env"), [{"name": "A", "value": "2"}], "container kserve-container"),
        (("runtime", "containers", 1, "args"), ["--max-queue=7"], "container transformer-container"),
        (("runtime", "containers", 1, "resources"), {"limits": {"cpu": "2"}}, "container transformer-container"),
        (("runtime", "volumes"), [{"name": "work", "emptyDir": {"sizeLimit": "1Gi"}}], "volumes"),
    ],
)
def test_a_template_that_lacks_what_is_named_is_of_before(path, value, what):
    """Two pods that roll: the Deployment still says that all is done, as KServe has not looked yet."""
    service, its_runtime = changed(path, value)
    look = Found(service, its_runtime, deployment(), [pod(), pod()], [route()])
    assert read_release(look, None, None).waiting == f"KServe has not handed on its {what} yet"
    # What it does not hand on at all holds nobody up for ever.
    if what != "annotations":
        assert read_release(look, None, None, handed_on=True).ready


def test_what_kserve_keeps_back_is_not_waited_for():
    kept = {"team": "roofs", URI: "other", "autoscaling.knative.dev/min-scale": "1"}
    service = service_of(annotations=kept, labels={"networking.kserve.io/visibility": "cluster-local"})
    assert read(service).ready


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"pods": [pod(), pod(crashing(), ready=False)]}, "visor: archive.refused: the signature does not fit"),
        (
            {"workload": deployment(conditions=[{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}])},
            "its pods cannot be made: exceeded quota",
        ),
    ],
)
def test_what_will_not_get_ready_is_a_failure(change, why):
    assert why in read(**change).failure


def test_kserve_s_refusal_is_a_failure():
    service = service_of()
    service["status"]["modelStatus"] = {"transitionStatus": "InvalidSpec", "lastFailureInfo": {"message": "no runtime roofs"}}
    assert read(service).failure == "KServe refuses its specification: no runtime roofs"


def test_a_crash_of_the_release_before_is_none():
    assert read(pods=[pod(), pod(crashing(), archive=OLD, ready=False)]).failure == ""


def test_a_crash_of_an_earlier_template_is_none():
    """Of the same archive, with too little memory: it stays until a pod of the new template is ready."""
    before = pod(crashing(), ready=False)
    before["metadata"] |= {"creationTimestamp": "2026-11-29T17:00:00Z", "labels": {"pod-template-hash": "a"}}
    now = pod(ready=False)
    now["metadata"] |= {"creationTimestamp": "2026-11-29T17:01:00Z", "labels": {"pod-template-hash": "b"}}
    assert read(pods=[before, now], workload=deployment(replicas=1, updatedReplicas=1, availableReplicas=0)).failure == ""
    assert "archive.refused" in read(pods=[before]).failure


def test_that_a_quota_leaves_no_room_is_no_failure_while_a_pod_is_leaving():
    refused = deployment(conditions=[{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}])
    leaving = pod()
    leaving["metadata"]["deletionTimestamp"] = "2026-11-29T17:00:00Z"
    assert read(pods=[pod(), leaving], workload=refused).waiting == "its pods cannot be made: exceeded quota"
    assert read(pods=[pod()], workload=refused).failure == "its pods cannot be made: exceeded quota"
    assert read(pods=[pod(), ended(pod())], workload=refused).failure == "its pods cannot be made: exceeded quota"


def test_an_evicted_pod_of_the_release_before_is_not_waited_for():
    assert read(pods=[pod(), ended(pod(archive=OLD))]).ready
    assert read(pods=[pod(), pod(archive=OLD)]).waiting == "1 of its pods are of another archive, digest or template"


def knative(created="roofs-2", ready="roofs-2", observed=3, status="True"):
    conditions = [{"type": "Ready", "status": status, "reason": "R", "message": "why"}]
    return {
        "metadata": {"generation": 3},
        "spec": {"template": template()},
        "status": {
            "observedGeneration": observed,
            "latestCreatedRevisionName": created,
            "latestReadyRevisionName": ready,
            "conditions": conditions,
        },
    }


@pytest.mark.parametrize(
    ("workload", "why"),
    [
        (knative(), ""),  # scaled to zero, it serves all the same
        (knative(observed=2), "Knative has not looked at it yet"),
        (knative(ready="roofs-1"), "revision roofs-2 is not ready yet, roofs-1 is the last that was"),
        (knative(status="Unknown"), "Knative: R why"),
    ],
)
def test_knative_s_revisions(workload, why):
    state = read(service_of(mode="Knative"), workload, pods=[], routes=[])
    assert state == State(why)


def test_a_crash_of_the_newest_revision_is_a_failure():
    labels = {"serving.knative.dev/revision": "roofs-2"}
    crash = pod(crashing(), ready=False)
    other = copy.deepcopy(crash)
    crash["metadata"]["labels"] |= labels
    other["metadata"]["labels"] |= {"serving.knative.dev/revision": "roofs-1"}
    service = service_of(mode="Knative")
    assert "archive.refused" in read(service, knative(ready="roofs-1"), pods=[crash], routes=[]).failure
    assert read(service, knative(), pods=[other], routes=[]).ready


@pytest.mark.parametrize(
    ("actual", "wanted", "holds"),
    [
        ("500m", "0.5", True),
        ("500m", 0.5, True),
        ("1Gi", "1024Mi", True),
        ("1k", "1000", True),
        ("1Ki", "1k", False),
        ("2", 1, False),
        (None, 0, False),
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": 1}, {"b": {}}, True),
        ([{"name": "x", "value": "1"}, {"name": "y"}], [{"name": "y"}], True),
        ([{"name": "x", "value": "1"}], [{"name": "x", "value": "2"}], False),
        ("text", ["text"], False),
        ("v1", "v1", True),
        ("v1", "v2", False),
    ],
)
def test_a_value_carries_another(actual, wanted, holds):
    assert carries(actual, wanted) is holds
