"""A track that is not found: a moment of it changes nothing, and a canary that is gone has no share left."""

from dataclasses import replace
from typing import Any

import pytest

from rollout.absence import ABSENCE_LASTS_S, is_gone
from rollout.evidence import Evidence
from rollout.plan import Pods, Share, State
from tests.unit.rollout.machine import GOOD, PLAN, World

AWAY: dict[str, Any] = {"canary": "", "canary_args": (), "percent": None, "restarts": {}}
NOTHING = AWAY | {"stable": "", "stable_args": ()}


@pytest.fixture
def world() -> World:
    return World().until(1)


def test_gone_is_what_stays_away() -> None:
    state = State(0.0, 0.0, Evidence.begin(), absent=5.0)
    assert not is_gone(state, 5.0 + ABSENCE_LASTS_S - 1)
    assert is_gone(state, 5.0 + ABSENCE_LASTS_S)
    assert not is_gone(replace(state, absent=None), 100.0)


@pytest.mark.parametrize("away", [AWAY, NOTHING])
def test_a_moment_changes_nothing_and_an_old_restart_is_not_new_after_it(world: World, away: dict[str, Any]) -> None:
    world.state = replace(world.state, restarts={"p": 1})
    for _ in range(4):
        world.turn(seconds=2, **away)
        assert world.state.held.endswith("was not found")
    world.turn(GOOD, restarts={"p": 1})
    assert (world.state.phase, world.state.percent, world.moved) == ("stepping", 50, [])


@pytest.mark.parametrize("phase", ["stepping", "paused", "promoting"])
def test_the_share_of_a_canary_that_is_gone_goes_to_the_stable_release(world: World, phase: str) -> None:
    if phase != "stepping":
        world.turn(order="pause" if phase == "paused" else "promote", pods=Pods(2, 2, 1))
    world.moved.clear()
    for _ in range(6):
        world.turn(seconds=2, **AWAY)
    assert world.state.phase == "superseded"
    assert world.state.reason == "the canary was taken away; its share goes to the stable release"
    assert (world.moved, world.state.target) == ([Share(0)], 0)


def test_weights_that_are_somebody_else_s_stay_theirs(world: World) -> None:
    world.seen = replace(world.seen, percent=30.0)
    world.turn()
    for _ in range(6):
        world.turn(seconds=2, **AWAY)
    assert (world.state.reason, world.moved) == ("the canary was taken away; the weights stay as they are", [])


def test_a_stable_release_that_is_gone_is_called_so(world: World) -> None:
    for _ in range(6):
        world.turn(seconds=2, **NOTHING)
    assert world.state.reason == "the stable release was taken away; the weights stay as they are"
    assert world.moved == []


def test_in_knative_mode_the_release_is_gone() -> None:
    world = World(replace(PLAN, stable="roofs-00001", knative=True)).until(1)
    for _ in range(6):
        world.turn(seconds=2, **NOTHING)
    assert world.state.reason == "the release was taken away; the weights stay as they are"


def test_a_rollback_under_way_is_finished_although_the_canary_is_gone(world: World) -> None:
    world.turn(failure="ends again and again")
    world.seen = replace(world.seen, percent=50.0)  # the write was lost
    world.moved.clear()
    for _ in range(6):
        world.turn(seconds=2, **AWAY)
    assert (world.state.phase, world.moved) == ("rolled-back", [Share(0)])
