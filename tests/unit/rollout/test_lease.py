"""Whether another loop still moves a release, by clocks that need not agree."""

from dataclasses import replace

import pytest

from rollout.errors import RolloutBusy
from rollout.evidence import Evidence
from rollout.lease import LEASE_S, Lease, steady
from rollout.plan import Plan, State, Step
from rollout.record import Record

PLAN = Plan("pvc://m/1", "pvc://m/2", (Step(5, 60, 100),))
KNOWN = Record(PLAN, State(0.0, 0.0, Evidence.begin()), holder="first", held_at=1_000.0)


def test_nobody_s_and_one_s_own_and_an_ended_release_are_free() -> None:
    ended = replace(KNOWN, state=replace(KNOWN.state, phase="aborted"))
    for known in (replace(KNOWN, holder=""), replace(KNOWN, holder="me"), ended):
        assert not Lease("roofs", "me").is_held(known, 1_000.0)


@pytest.mark.parametrize("clock", [1_000.0, 1_000.0 - 3_600])
def test_a_loop_that_says_nothing_is_dead_after_a_lease_whatever_its_clock_says(clock: float) -> None:
    lease = Lease("roofs", "me")
    assert lease.is_held(KNOWN, clock)
    assert lease.is_held(KNOWN, clock + LEASE_S - 1)
    assert not lease.is_held(KNOWN, clock + LEASE_S)


def test_one_that_has_been_silent_for_long_is_dead_at_once() -> None:
    assert not Lease("roofs", "me").is_held(KNOWN, 1_000.0 + LEASE_S)


@pytest.mark.parametrize("again", [1_010.0, 990.0])
def test_one_that_says_something_lives(again: float) -> None:
    lease = Lease("roofs", "me")
    lease.is_held(KNOWN, 1_000.0)
    with pytest.raises(RolloutBusy, match="first moves roofs already"):
        lease.is_held(replace(KNOWN, held_at=again), 1_002.0)


def test_the_clock_goes_on_from_the_time_of_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 5_000.0)
    monkeypatch.setattr("time.monotonic", lambda: 70.0)
    now = steady()
    monkeypatch.setattr("time.time", lambda: 1_400.0)  # it was set back
    monkeypatch.setattr("time.monotonic", lambda: 72.0)
    assert now() == 5_002.0
