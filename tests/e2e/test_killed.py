"""A pod that is killed in one of its parts, under load: what clients lose, and how soon it serves again.

One pod, so that nobody steps in: the bounds are those of docs/kubernetes.md#how-a-pod-ends, whose
table is what they log (--log-cli-level INFO).
"""

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.cluster import run, state, wait_until
from tests.e2e.load import Load
from tests.e2e.releases import Archives, Release

logger = logging.getLogger(__name__)

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

RATE = 5.0  # requests a second of each protocol
BEFORE, AFTER = 60, 60  # requests before the kill, and answered ones after the last failure
FOUND_S = 20.0  # a worker that hangs is found by then
SERVING, EDGE = "kserve-container", "transformer-container"

# Run in the container: what a process of it may do to the others.
FIND = """
import os, signal, sys, time
def found(word):
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try: line = open(f'/proc/{pid}/cmdline').read().replace(chr(0), ' ')
        except OSError: continue
        if word in line and int(pid) != os.getpid(): yield int(pid)
java, workers = list(found('org.pytorch.serve')), sorted(found('model_service_worker'))
"""
KILLS = {
    "Java killed": (SERVING, "os.kill(java[0], signal.SIGKILL)"),
    "a worker killed": (SERVING, "os.kill(workers[0], signal.SIGKILL)"),
    "a worker stopped": (SERVING, "os.kill(workers[0], signal.SIGSTOP)"),
    "all workers stopped": (SERVING, "[os.kill(pid, signal.SIGSTOP) for pid in workers]"),
    "the edge told to end": (EDGE, "os.kill(1, signal.SIGTERM)"),
    # Java is made the first to go, and the container's memory is filled by processes that are smaller than it.
    "out of memory": (
        SERVING,
        (
            "open(f'/proc/{java[0]}/oom_score_adj', 'w').write('1000')\n"
            "while os.path.exists(f'/proc/{java[0]}') and (os.fork() or [b'x' * (16 << 20), time.sleep(60), os._exit(0)]): "
            "time.sleep(0.02)"
        ),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Bound:
    """The most that may be lost: requests of those sent meanwhile, and seconds until the last failure."""

    failed: int
    seconds: float


# On two cores with nothing else to do, doubled, but for stopped workers; all are of 10 requests a second.
BOUNDS = {
    "the pod deleted": Bound(100, 10),
    "Java killed": Bound(100, 10),
    "a worker killed": Bound(2, 5),
    "a worker stopped": Bound(10, 15),
    "all workers stopped": Bound(250, 25),
    "the edge told to end": Bound(100, 12),
    "out of memory": Bound(150, 15),
}


@pytest.fixture
def load(release: Release, archives: Archives) -> Iterator[Load]:
    """A load of few requests on one pod with two workers."""
    release.upgrade({"workers": 2, "resources": {"serving": {"limits": {"memory": "1536Mi"}}}})
    release.wait_ready()
    release.wait_gone()
    with Load(release.target, archives.picture, rate=RATE) as running:
        running.wait_for(BEFORE)
        yield running


@pytest.mark.parametrize("part", BOUNDS)
def test_a_part_that_is_killed_costs_no_more_than_this(part: str, release: Release, load: Load) -> None:
    [pod] = release.pods()
    before = len(load.outcomes)
    assert load.failures == []
    killed = time.monotonic()
    if part in KILLS:
        container, action = KILLS[part]
        command = ("exec", pod["metadata"]["name"], "--container", container, "--", "python", "-c", FIND + action)
        run("kubectl", "--namespace", release.namespace, *command, check=False, timeout_s=60)  # it may go with what it kills
    else:
        release.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false")

    def whole_again() -> bool:
        if time.monotonic() < killed + FOUND_S:
            return False  # what a stopped worker holds has not ended yet
        ended = load.outcomes[before:]
        return len(ended) > AFTER and all(not outcome.error for outcome in ended[-AFTER:])

    wait_until(whole_again, 180, f"{AFTER} answers in a row", lambda: state(release.namespace))
    release.wait_ready()
    failures = [outcome for outcome in load.failures if outcome.ended > killed]
    last = max((outcome.ended for outcome in failures), default=killed)
    [pod] = release.pods()
    statuses = pod["status"]["containerStatuses"]
    measured = {
        "part": part,
        "failed": len(failures),
        "of": len(load.outcomes) - before,
        "seconds": round(last - killed, 1),
        "restarts": {one["name"]: one["restartCount"] for one in statuses},
        "words": [
            one.get("lastState", {}).get("terminated", {}).get("message", "")[:200] for one in pod["status"]["containerStatuses"]
        ],
    }
    logger.info("%s", json.dumps(measured))
    assert len(failures) <= BOUNDS[part].failed, measured
    assert last - killed <= BOUNDS[part].seconds, measured
    if part == "out of memory":
        ended = json.dumps([one.get("lastState") for one in statuses])
        assert "OOMKilled" in ended or "the memory limit" in ended


def test_a_start_without_memory_enough_is_named(release: Release) -> None:
    """The pod says how much it needs where it can; where the kernel ends the whole container, its state does."""
    before = release.values
    release.upgrade({"workers": 1, "resources": {"serving": {"requests": {"memory": "64Mi"}, "limits": {"memory": "120Mi"}}}})
    try:

        def words() -> str:
            ended = [
                one.get("lastState", {}).get("terminated", {}) or one["state"].get("terminated", {})
                for pod in release.pods()
                for one in pod["status"].get("containerStatuses", [])
                if one["name"] == SERVING and pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == "120Mi"
            ]
            return " ".join(f"{one.get('reason')}: {one.get('message', '')}" for one in ended if one)

        wait_until(words, 120, "the container has ended", lambda: state(release.namespace))
        assert "serve.memory" in words() or "OOM" in words(), words()
    finally:
        release.values = before
        release.upgrade()
        release.wait_ready()
