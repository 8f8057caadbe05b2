"""A record that another loop goes on with: which step it is at in other steps, and whose record it is."""

from dataclasses import replace

import pytest

from rollout.evidence import Evidence
from rollout.plan import Phase, Plan, State, Step
from rollout.record import Record
from rollout.setup import Order, gates_of
from rollout.succession import gone_on, is_under_way, replanned, same

PLAN = Plan("pvc://m/1", "pvc://m/2", (Step(5, 60, 100), Step(100, 0, 0)), stable_args=("a",), canary_args=("b",))


def steps(*percents: int) -> tuple[Step, ...]:
    return tuple(Step(percent, 60, 100) for percent in percents)


def state(phase: Phase = "stepping", step: int = 0, percent: float = 0.0, target: int = 0) -> State:
    return State(0.0, percent, Evidence.begin(), phase=phase, step=step, target=target, since=5.0, requests=7)


@pytest.mark.parametrize(
    ("was", "number", "new", "percent"),
    [
        ((5, 25, 50, 100), 1, (50, 100), 50),
        ((5, 25, 50, 100), 1, (5, 25, 100), 25),
        ((5, 25, 50, 100), 2, (5, 25, 100), 25),  # not the last, which is entered by proof
        ((5, 25, 50, 100), 3, (50, 100), 100),
        ((5, 25, 50, 100), 3, (5, 50), 50),
        ((5, 25, 50, 100), 2, (5, 25), 25),
        ((0, 5, 100), 0, (5, 100), 5),
        ((5, 100), 0, (0, 5, 100), 5),
    ],
)
def test_a_step_is_found_by_its_share(was: tuple[int, ...], number: int, new: tuple[int, ...], percent: int) -> None:
    before = state(step=number, percent=was[number], target=was[number])
    after = replanned(steps(*new), steps(*was), before, 90.0)
    assert steps(*new)[after.step].percent == after.target == percent
    kept = percent == was[number]
    assert (after.since, after.requests) == ((5.0, 7) if kept else (90.0, 0))


def test_what_stands_still_keeps_its_share_and_what_waits_its_first_step() -> None:
    was, new = steps(0, 5, 100), steps(5, 50, 100)
    paused = replanned(new, was, state("paused"), 90.0)
    assert (paused.step, paused.target) == (0, 0)
    promoting = replanned(steps(50, 100), steps(5, 25, 100), state("promoting", 2, 100, 100), 90.0)
    assert (promoting.step, promoting.target) == (1, 100)
    waiting = replanned(new, was, state("waiting"), 90.0)
    assert (waiting.phase, waiting.step, waiting.target) == ("waiting", 0, 0)
    before = state(step=1)
    assert replanned(tuple(replace(step, seconds=1) for step in was), was, before, 90.0) is before


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({}, True),
        ({"steps": steps(50, 100)}, True),
        ({"canary_args": ("c",)}, False),
        ({"stable_args": ("c",)}, False),
        ({"attempt": 2}, False),
        ({"stable": "pvc://m/2", "stable_args": ("b",)}, False),
    ],
)
def test_a_release_is_its_archives_and_arguments(change: dict[str, object], is_same: bool) -> None:
    plan = replace(PLAN, **change)  # type: ignore[arg-type]
    assert same(Record(PLAN, state()), plan) == is_same
    promoting = replace(state("paused"), promoting=True)
    assert same(Record(PLAN, promoting), plan) == (is_same or "stable" in change)


def test_what_is_under_way_is_known_without_its_tracks() -> None:
    order = Order("roofs", "demo", "http://p", PLAN.steps, archive=PLAN.canary)
    assert is_under_way(Record(PLAN, state()), order)
    assert is_under_way(Record(PLAN, state("rolled-back", 0, 5.0, 0)), order)
    assert not is_under_way(Record(PLAN, state("rolled-back", 0, 0.0, 0)), order)
    assert not is_under_way(Record(PLAN, state()), replace(order, archive="pvc://m/3"))
    assert not is_under_way(Record(PLAN, state()), replace(order, attempt=2))


def test_margins_are_taken_before_the_first_request_alone() -> None:
    order = Order("roofs", "demo", "http://p", PLAN.steps, margins={"errors": 0.03})
    waiting = gone_on(Record(PLAN, state("waiting")), PLAN, order, 90.0)
    assert waiting.state.evidence.tests["errors"].gate.margin == 0.03
    assert waiting.history == ()
    own = replace(state(), evidence=Evidence.begin(gates_of(replace(order, margins={}))))
    told = gone_on(Record(PLAN, own), PLAN, order, 90.0)
    assert told.state.evidence.tests["errors"].gate.margin == 0.005
    assert [entry.what.partition(" (")[0] for entry in told.history] == [
        "margins or alpha have changed, and this release goes on with its own"
    ]
    assert gone_on(told, PLAN, order, 91.0) == told
    assert gone_on(Record(PLAN, own), PLAN, replace(order, margins={}), 90.0).history == ()
