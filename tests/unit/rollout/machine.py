"""The machine of a release with a cluster in miniature, without a loop."""

from dataclasses import replace
from typing import Any

from rollout.evidence import Evidence
from rollout.gates import GATES, Count
from rollout.plan import Adopt, Move, Plan, Pods, Scale, Seen, Share, State, Step
from rollout.steps import advance, moves

PAIRED = tuple(gate for gate in GATES if gate.paired)
STEPS = (Step(5, 60, 100), Step(50, 60, 100), Step(100, 60, 0))
PLAN = Plan("pvc://m/1", "pvc://m/2", STEPS, ready_s=100.0, stable_args=("--digest=11",), canary_args=("--digest=22",))
GOOD = {gate.name: (Count(0, 2_000), Count(0, 20_000)) for gate in PAIRED}
"""So many good answers in a look that two looks prove a canary."""
BAD = GOOD | {"errors": (Count(400, 2_000), Count(0, 20_000))}


class World:
    """A cluster in miniature, with a clock: what a move does is seen at the next look."""

    def __init__(self, plan: Plan = PLAN) -> None:
        self.plan = plan
        archives = {
            "stable": plan.stable,
            "canary": plan.canary,
            "stable_args": plan.stable_args,
            "canary_args": plan.canary_args,
        }
        self.seen = Seen(now=1_000.0, percent=0.0, pods=Pods(2, 1, 1), **archives)
        self.state = State(1_000.0, 0.0, Evidence.begin(PAIRED))
        self.moved: list[Move] = []

    def turn(self, counts: dict[str, tuple[Count, Count]] | None = None, seconds: float = 10.0, **once: Any) -> State:
        """One look, and what follows of it. What else is given is seen this once."""
        self.seen = replace(self.seen, now=self.seen.now + seconds)
        seen = replace(self.seen, counts=counts or {}, **once)
        self.state = advance(self.plan, self.state, seen)
        for move in moves(self.plan, self.state, seen):
            self.do(move)
        return self.state

    def do(self, move: Move) -> None:
        self.moved.append(move)
        match move:
            case Share(percent):
                self.seen = replace(self.seen, percent=float(percent), by="helm")
            case Scale(pods):
                self.seen = replace(self.seen, pods=replace(self.seen.pods, canary=pods, ready=pods))
            case Adopt(archive, arguments):
                self.seen = replace(self.seen, stable=archive, stable_args=arguments)

    def until(self, step: int = 0, phase: str = "stepping", share: int | None = None) -> "World":
        """Go on with good counts until a step's share, or another one, is in force."""
        percent = self.plan.steps[step].percent if share is None else share
        for _ in range(200):
            if (self.state.step, self.state.phase, self.state.percent) == (step, phase, percent):
                self.moved.clear()
                return self
            self.turn(GOOD)
        raise AssertionError(self.state)
