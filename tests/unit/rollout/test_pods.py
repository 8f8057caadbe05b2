"""What pods say about themselves."""

import pytest

from rollout.pods import archive_of, describe, failures, is_ready, is_starting, live, why_replaced
from tests.unit.rollout.conftest import ARCHIVE, at, crashing, ended, make_pod

CREATING = {"name": "kserve-container", "state": {"waiting": {"reason": "ContainerCreating"}}}
PULLING = {"name": "kserve-container", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
PROBE = "Startup probe failed: waiting for an archive below /mnt/models"


def unscheduled(message):
    pod = make_pod(ready=False)
    pod["status"] = {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]}
    return pod


def test_pods_on_their_way_out_are_left_out():
    there = make_pod()
    assert live([make_pod(deletionTimestamp="2026-11-21T10:00:00Z"), there]) == [there]
    assert archive_of(there) == ARCHIVE
    assert is_ready(there)
    assert not is_ready(make_pod(ready=False))
    assert not is_ready({"metadata": {"name": "new"}})


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_pods_that_have_ended_are_left_out(phase):
    there = make_pod()
    gone = ended(make_pod())
    gone["status"]["phase"] = phase
    there["status"]["phase"] = "Running"
    assert live([gone, there]) == [there]


BEFORE, AFTER = "2026-11-30T00:00:01Z", "2026-11-30T00:05:00Z"
GONE = {"deletionTimestamp": AFTER}
TERMINATED = {"name": "kserve-container", "restartCount": 0, "state": {"terminated": {"exitCode": 1}}}
INITIALISED = {"name": "storage-initializer", "restartCount": 0, "state": {"terminated": {"exitCode": 0}}}


def initialised():
    pod = at(make_pod(), False, BEFORE)
    pod["status"]["initContainerStatuses"] = [INITIALISED]
    return pod


@pytest.mark.parametrize(
    ("pod", "starting"),
    [
        (at(make_pod(), False, BEFORE), True),
        (initialised(), True),
        ({"metadata": {"name": "new"}}, True),
        (unscheduled("0/1 nodes are available: 1 Insufficient cpu."), True),
        (make_pod(CREATING, ready=False), True),
        (at(make_pod(), True, AFTER), False),
        (at(make_pod(), False, AFTER), False),  # it was ready, as its container was running before it was not
        (make_pod(TERMINATED, ready=False), False),
        (make_pod(crashing() | {"restartCount": 1}, ready=False), False),
    ],
)
def test_a_pod_that_starts_is_told_from_one_that_has_lost_its_readiness(pod, starting):
    assert is_starting(pod) is starting


NEXT = "pod roofs-canary-1 is not ready"


@pytest.mark.parametrize(
    ("pods", "why"),
    [
        ([at(make_pod(), True, AFTER)], ""),
        ([at(make_pod(), False, AFTER)], ""),
        ([at(make_pod(**GONE), False, AFTER), at(make_pod(), False, BEFORE)], NEXT),  # drained
        ([ended(make_pod()), at(make_pod(), False, BEFORE)], NEXT),  # evicted by its kubelet
        ([at(make_pod(), False, AFTER, DisruptionTarget="True"), at(make_pod(), False, BEFORE)], NEXT),
        ([at(make_pod(), False, AFTER, DisruptionTarget="False")], ""),
        ([at(make_pod(), True, AFTER, DisruptionTarget="True")], ""),  # it still serves
        ([at(make_pod(), False, BEFORE), at(make_pod(), False, AFTER)], ""),
        ([at(make_pod(**GONE), True, AFTER)], "it has no pod"),
        ([], "it has no pod"),
    ],
)
def test_a_pod_that_was_taken_away_has_not_failed(pods, why):
    assert why_replaced(pods) == why


@pytest.mark.parametrize(
    ("pod", "sentences"),
    [
        (make_pod(), []),
        (make_pod(PULLING), []),
        (unscheduled("0/1 nodes are available: 1 Insufficient cpu."), []),  # a node may be added
        (unscheduled('0/1 nodes are available: persistentvolumeclaim "x" not found.'), ['persistentvolumeclaim "x" not found']),
        (make_pod(crashing()), ["kserve-container of pod roofs-canary-1 ends again and again: visor: archive.refused: "]),
    ],
)
def test_what_will_not_get_ready_says_why(pod, sentences):
    said = list(failures(pod))
    assert len(said) == len(sentences)
    assert all(sentence in one for sentence, one in zip(sentences, said, strict=True))


@pytest.mark.parametrize(
    ("pod", "warnings", "said"),
    [
        (make_pod(ready=False), {}, "pod roofs-canary-1 is not ready"),
        (make_pod(ready=False), {"roofs-canary-1": PROBE}, f"pod roofs-canary-1 is not ready: {PROBE}"),
        (make_pod(ready=False), {"another": PROBE}, "pod roofs-canary-1 is not ready"),
        (make_pod(CREATING), {}, "kserve-container of pod roofs-canary-1: ContainerCreating"),
        # A Secret that is not there is in an event alone.
        (make_pod(CREATING), {"roofs-canary-1": 'secret "x" not found'}, 'pod roofs-canary-1 is not ready: secret "x" not found'),
        (make_pod(PULLING), {"roofs-canary-1": "x"}, "kserve-container of pod roofs-canary-1: ImagePullBackOff no such image"),
        (unscheduled("1 Insufficient cpu."), {}, "pod roofs-canary-1: 1 Insufficient cpu."),
    ],
)
def test_what_is_waited_for_is_said(pod, warnings, said):
    assert describe(pod, warnings) == said
