"""What becomes of a record when another loop goes on with it, perhaps with other steps and margins. Pure functions."""

from collections.abc import Sequence
from dataclasses import replace

from rollout.evidence import Evidence
from rollout.plan import ALL, FINAL, Plan, State, Step
from rollout.record import Record
from rollout.setup import Order, gates_of
from rollout.steps import to_step


def same(known: Record, plan: Plan) -> bool:
    """Whether a record is of this plan: the same archives and arguments, the stable ones of which may be the canary's by now."""
    was, canary = known.plan, (plan.canary, plan.canary_args)
    adopts = known.state.promoting or known.state.phase in ("promoting", "promoted", "rolled-back")
    stable = (plan.stable, plan.stable_args) in ((was.stable, was.stable_args), *([canary] if adopts else []))
    return (was.canary, was.canary_args, was.attempt) == (*canary, plan.attempt) and stable


def is_under_way(known: Record, order: Order) -> bool:
    """Whether a record is of a release that the order means and that has something left to do, its tracks there or not."""
    state = known.state
    to_do = state.phase not in FINAL or state.target == 0 != state.percent
    return to_do and order.archive in (None, known.plan.canary) and order.attempt == known.plan.attempt


def gone_on(known: Record, plan: Plan, order: Order, now: float) -> Record:
    """The record as this plan and order go on with it; what they change is told."""
    there = replace(known.plan, steps=plan.steps, ready_s=plan.ready_s)
    if known.state.phase in FINAL:
        return replace(known, plan=there, state=replace(known.state, step=min(known.state.step, len(plan.steps) - 1)))
    state = replanned(plan.steps, known.plan.steps, known.state, now)
    after = replace(known, plan=there, state=state)
    if state.reason != known.state.reason:
        after = after.told(now, state.reason)
    return _judged_anew(after, order, now)


def replanned(steps: Sequence[Step], was: Sequence[Step], state: State, now: float) -> State:
    """The state where the steps have changed: at the first that has at least the share of the one that is under way.

    A step of 100 % is taken up by one of 100 % alone, as what comes before it is the proof.
    """
    if [step.percent for step in steps] == [step.percent for step in was]:
        return state
    percent = was[state.step].percent
    allowed = [number for number, step in enumerate(steps) if step.percent < ALL or percent == ALL]
    number = next((number for number in allowed if steps[number].percent >= percent), allowed[-1])
    if state.phase == "waiting":
        return replace(state, step=0)
    if state.phase != "stepping" or steps[number].percent == percent:
        return replace(state, step=number)
    return to_step(steps, state, now, number, "the steps have changed; ")


def _judged_anew(known: Record, order: Order, now: float) -> Record:
    """Other margins are taken before the first request alone: evidence that was gathered by some cannot be read by others."""
    evidence = known.state.evidence
    gates = {gate.name: gate for gate in gates_of(order)}
    differs = [
        f"{name} {100 * test.gate.margin:g} points"
        for name, test in evidence.tests.items()
        if name in gates and gates[name].margin != test.gate.margin
    ] + ([f"alpha {evidence.alpha:g}"] if evidence.alpha != order.alpha else [])
    if known.state.phase == "waiting" and (differs or gates.keys() != evidence.tests.keys()):
        return replace(known, state=replace(known.state, evidence=Evidence.begin(list(gates.values()), order.alpha)))
    told = (
        f"margins or alpha have changed, and this release goes on with its own ({', '.join(differs)}); a new attempt takes them"
    )
    return known if not differs or any(entry.what == told for entry in known.history) else known.told(now, told)
