"""The machine on its way to a promotion: what is adopted, what a pause or somebody else's weights leave, and what gives up."""

from dataclasses import replace

import pytest

from rollout.plan import Adopt, Pods, Share
from tests.unit.rollout.machine import GOOD, PLAN, World


@pytest.fixture
def world() -> World:
    return World()


def test_a_digest_alone_is_adopted_too() -> None:
    world = World(replace(PLAN, canary=PLAN.stable))
    for _ in range(60):
        world.turn(GOOD)
    assert world.moved[-2:] == [Adopt("pvc://m/1", ("--digest=22",)), Share(0)]
    assert world.state.phase == "promoted"


def test_a_pause_while_promoting_holds_where_it_is_and_resume_goes_on(world: World) -> None:
    world.until(0)
    for order in ("promote", "", "", ""):
        world.turn(order=order, settling="1 of 2 pods are new")
    assert (world.seen.stable, world.state.phase) == ("pvc://m/2", "promoting")
    world.moved.clear()
    world.turn(order="pause")
    for _ in range(20):
        world.turn(GOOD)
    assert (world.state.phase, world.state.percent, world.moved) == ("paused", 100, [])
    world.turn(order="resume")
    assert world.state.phase == "promoting"
    assert world.turn().phase == "promoted"
    assert world.moved == [Share(0)]


def test_a_pause_on_the_way_to_a_share_goes_no_further(world: World) -> None:
    world.until(0)
    world.turn(order="promote", pods=Pods(4, 1, 1))
    assert world.state.target == 100
    world.turn(order="pause")
    world.moved.clear()
    for _ in range(5):
        world.turn(GOOD)
    assert (world.state.phase, world.state.percent, world.moved) == ("paused", 5, [])


def test_somebody_else_s_weights_while_promoting_are_left_and_resume_promotes(world: World) -> None:
    world.until(0)
    for order in ("promote", "", "", ""):
        world.turn(order=order, settling="1 of 2 pods are new")
    world.seen = replace(world.seen, percent=80.0)
    world.moved.clear()
    for _ in range(5):
        assert world.turn(by="kubectl").phase == "yielded"
    assert world.moved == []
    world.turn(order="resume")
    for _ in range(3):
        world.turn()
    assert (world.moved, world.state.phase) == ([Share(100), Share(0)], "promoted")


def test_an_abort_of_a_paused_promotion_gives_the_stable_archive_back(world: World) -> None:
    world.until(0)
    for order in ("promote", "", "", "", "pause", "abort"):
        world.turn(order=order, settling="1 of 2 pods are new")
    assert world.moved[-2:] == [Adopt("pvc://m/1", ("--digest=11",)), Share(0)]


def test_promote_without_a_ready_pod_says_so_and_gives_up(world: World) -> None:
    world.seen = replace(world.seen, pods=Pods(2, 2, 0), unready="it has no pod")
    world.turn(order="promote")
    for _ in range(9):
        world.turn()
    assert world.state.phase == "promoting"
    assert world.state.held.endswith("once 2 pods of it are ready; 0 are: it has no pod")
    world.turn()
    assert world.state.reason == "the canary was not ready within 100 s: it has no pod"
    assert world.state.phase == "rolled-back"
    assert not [move for move in world.moved if isinstance(move, Share)]
