"""A canary whose last pod was taken away and did not fail."""

from dataclasses import replace

import pytest

from rollout.plan import Pods, Share
from rollout.run import Loop
from tests.unit.rollout.conftest import at
from tests.unit.rollout.machine import BAD, GOOD, PLAN, World
from tests.unit.rollout.test_tracks import when
from tests.unit.rollout.world import CANARY, RECORD, pod_of
from tests.unit.rollout.world import World as Release

DRAINED = {"pods": Pods(2, 1, 0), "replaced": "pod b is not ready", "unready": "pod b is not ready"}


@pytest.fixture
def machine() -> World:
    return World().until(step=0)


def test_the_stable_release_gets_the_requests_until_the_next_pod_is_ready(machine: World) -> None:
    machine.turn(**DRAINED)
    assert (machine.moved, machine.state.phase) == ([Share(0)], "stepping")
    assert machine.turn(**DRAINED).held == "its next pod is not ready: pod b is not ready"
    assert machine.state.percent == 0
    machine.turn(seconds=70.0, **DRAINED)  # 80 s of the 100 s that it has
    machine.turn()
    assert machine.moved == [Share(0), Share(5)]
    began = machine.turn()
    assert (began.percent, began.requests, began.since, began.step) == (5, 0, machine.seen.now, 0)
    machine.until(step=1)


def test_a_pod_that_does_not_come_back_is_rolled_back(machine: World) -> None:
    machine.turn(**DRAINED)
    machine.turn(seconds=99.0, **DRAINED)
    assert machine.state.phase == "stepping"
    machine.turn(seconds=1.0, **DRAINED)
    assert (machine.state.phase, machine.state.percent, machine.state.target) == ("rolled-back", 0, 0)
    assert "no other was ready within 100 s: pod b is not ready" in machine.state.reason


def test_a_next_pod_that_fails_or_is_never_ready_is_rolled_back(machine: World) -> None:
    crashed = World().until(step=0)
    for one in (machine, crashed):
        one.turn(**DRAINED)
        one.turn(**DRAINED)
    assert crashed.turn(**DRAINED, failure="it ends again and again").phase == "rolled-back"
    lost = DRAINED | {"replaced": ""}  # it was ready between two looks
    assert machine.turn(**lost).phase == "stepping"
    assert machine.turn(seconds=100.0, **lost).phase == "rolled-back"


def test_what_is_no_replacement_is_rolled_back_at_once(machine: World) -> None:
    assert machine.turn(**DRAINED | {"replaced": ""}).phase == "rolled-back"
    promoting = World().until(step=2, phase="promoting", share=100)
    assert promoting.turn(**DRAINED).phase == "rolled-back"
    alarmed = World().until(step=0)
    for _ in range(3):  # one look wins a limited part
        alarmed.turn(BAD, **DRAINED)
    assert (alarmed.state.phase, alarmed.state.reason[:6]) == ("rolled-back", "errors")


def test_a_paused_release_waits_to_be_resumed(machine: World) -> None:
    machine.turn(order="pause")
    machine.turn(**DRAINED)
    machine.turn(**DRAINED)
    machine.turn()
    machine.turn()
    assert (machine.moved, machine.state.phase) == ([Share(0)], "paused")
    machine.turn(order="resume")
    assert machine.moved == [Share(0), Share(5)]


def test_knative_keeps_the_requests_and_so_the_share(machine: World) -> None:
    machine.plan = replace(PLAN, knative=True)
    starting = {"replaced": "pod b is not ready"}
    assert machine.turn(**starting).held == "its next pod is not ready: pod b is not ready"
    machine.turn(GOOD)
    machine.turn(seconds=200.0, **starting)
    assert (machine.moved, machine.state.phase, machine.state.target) == ([], "stepping", 5)
    assert machine.turn(seconds=100.0, **starting).phase == "rolled-back"


def test_a_drain_of_the_canary_s_node_on_the_way_is_no_rollback(world: Release) -> None:
    loop = Loop(world.cluster, world.order, world.now, "one")
    world.until(loop, lambda: RECORD in world.api.objects and world.state["percent"] == 10)
    drained = next(pod for pod in world.api.pods if pod["metadata"]["name"] == "roofs-canary-1")
    drained["metadata"]["deletionTimestamp"] = when(world.now)
    starting = pod_of("roofs-canary", CANARY, 2)
    world.api.pods.append(at(starting, False, when(world.now + 1), when(world.now + 2)))
    world.turn(loop)
    assert world.percent == 0
    world.turn(loop)
    assert world.state["held"].startswith("its next pod is not ready: pod roofs-canary-2")
    world.api.pods.remove(drained)  # the world's next pod takes its name
    world.api.pods.remove(starting)
    record = world.end(loop)
    assert record["state"]["phase"] == "promoted"
    told = [entry["what"] for entry in record["history"]]
    assert "the canary's last pod was taken away: no requests until the next one is ready" in told
    assert "the canary's next pod is ready; its step begins anew" in told
