"""One look at a canary: ready, waiting, or failed."""

import pytest

from rollout.canary import State, read_state
from tests.unit.rollout.conftest import ARCHIVE, crashing, ended, make_pod, make_service

OLD = "pvc://models/roofs/1"
LOADING = {"name": "kserve-container", "state": {"running": {}}}
PULLING = {"name": "kserve-container", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}


@pytest.mark.parametrize("archive", [ARCHIVE, None])
def test_it_is_ready_with_a_ready_pod_of_its_archive(archive):
    assert read_state(make_service(), [make_pod()], archive) == State()
    assert read_state(make_service(), [make_pod(), make_pod(LOADING, ready=False)], archive).ready


def test_old_pods_that_end_do_not_count():
    pods = [make_pod(archive=OLD, deletionTimestamp="2026-11-21T10:00:00Z"), make_pod()]
    assert read_state(make_service(), pods, ARCHIVE).ready


def test_evicted_pods_do_not_count_and_hide_no_crash():
    evicted = [ended(make_pod()), ended(make_pod(archive=OLD))]
    assert read_state(make_service(), [*evicted, make_pod()], ARCHIVE).ready
    assert read_state(make_service(), evicted, ARCHIVE) == State("it has no pod")
    assert "archive.refused" in read_state(make_service(), [*evicted, make_pod(crashing(), ready=False)], ARCHIVE).failure


@pytest.mark.parametrize(
    ("service", "pods", "why"),
    [
        (None, [], "does not exist"),
        (make_service(archive=OLD), [make_pod(archive=OLD)], f"its storageUri is {OLD} and not {ARCHIVE}"),
        (make_service(), [], "it has no pod"),
        (make_service(), [make_pod(deletionTimestamp="2026-11-21T10:00:00Z")], "it has no pod"),
        # KServe says Ready while nothing but the archive before is served.
        (make_service(), [make_pod(archive=OLD)], "it has no pod"),
        (make_service(), [make_pod(archive=OLD), make_pod()], "1 of its pods still serve another archive"),
        (make_service(), [make_pod(LOADING, ready=False)], "pod roofs-canary-1 is not ready"),
        (make_service(), [make_pod(PULLING, ready=False)], "kserve-container of pod roofs-canary-1: ImagePullBackOff no such"),
        (make_service(ready=False), [make_pod()], "KServe: NotYet"),
        ({"metadata": {}, "spec": {"predictor": {"model": {"storageUri": ARCHIVE}}}}, [], "KServe: not ready"),
    ],
)
def test_it_is_waited_for(service, pods, why):
    seen = read_state(service, pods, ARCHIVE)
    assert why in seen.waiting
    assert not seen.failure
    assert not seen.ready


def test_a_pod_without_a_node_says_so():
    pod = make_pod(ready=False)
    message = "0/1 nodes are available: 1 Insufficient cpu."
    pod["status"] = {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]}
    assert message in read_state(make_service(), [pod], ARCHIVE).waiting


@pytest.mark.parametrize(
    ("container", "why"),
    [
        (crashing(), "visor: archive.refused: the signature does not fit"),
        (crashing(message=""), "Error with exit code 1"),
    ],
)
def test_a_container_that_crashes_is_a_failure_in_its_own_words(container, why):
    # The ready pod is of the archive before: what is served does not hide what fails.
    seen = read_state(make_service(), [make_pod(archive=OLD), make_pod(LOADING, container, ready=False)], ARCHIVE)
    assert seen == State(failure=f"kserve-container of pod roofs-canary-1 ends again and again: {why}")


def test_a_failing_pod_of_another_archive_is_no_failure():
    assert read_state(make_service(), [make_pod(crashing(), archive=OLD, ready=False)], ARCHIVE).failure == ""


def test_an_init_container_counts_too():
    pod = make_pod(ready=False)
    pod["status"]["initContainerStatuses"] = [{**crashing("no such bucket"), "name": "storage-initializer"}]
    assert read_state(make_service(), [pod], ARCHIVE).failure.startswith("storage-initializer of pod roofs-canary-1")


@pytest.mark.parametrize(
    ("info", "why"),
    [
        ({"reason": "RuntimeNotRecognized", "message": "no runtime roofs"}, "no runtime roofs"),
        ({"reason": "RuntimeDisabled"}, "RuntimeDisabled"),
        (None, "does not say why"),
    ],
)
def test_a_specification_that_kserve_refuses_is_a_failure(info, why):
    status = {"transitionStatus": "InvalidSpec"} | ({"lastFailureInfo": info} if info else {})
    seen = read_state(make_service(ready=False, modelStatus=status), [], ARCHIVE)
    assert why in seen.failure


def test_an_old_failure_that_kserve_keeps_is_none():
    status = {"transitionStatus": "UpToDate", "lastFailureInfo": {"message": "archive.refused"}}
    assert read_state(make_service(modelStatus=status), [make_pod()], ARCHIVE).ready
