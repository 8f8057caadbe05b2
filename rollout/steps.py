"""A release by evidence, as a machine: a plan, a state and what was seen make the next state, and what is to be done about it.

Pure functions, without a clock. `advance` decides, `moves` says what the cluster lacks of what was decided: a loop that was
killed between the two finds the same moves again. docs/rollout.md tells what happens when.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from rollout.absence import is_gone, missed, name_gone
from rollout.gates import Count
from rollout.plan import ALL, FINAL, Adopt, Move, Phase, Plan, Pods, Scale, Seen, Share, State, Step
from rollout.replacement import is_replaced, replaced

# A failure of a canary that has no request yet is believed once it lasts, as in rollout/waiting.py.
FAILURE_LASTS_S = 5.0
# A node that starts again takes containers of both tracks with it, which are seen one after the other.
SHAKEN_S = 60.0
MOST_UNDONE = 3
"""Writes of a share that somebody else has undone, after which that one wins."""
REQUESTS, SHADOW = "errors", "disagreement"
"""The gates whose totals are requests, and images of the shadow."""


def advance(plan: Plan, state: State, seen: Seen) -> State:
    """Decide. The first rule that has something to say wins."""
    state = _up_to_now(state, seen)
    if gone := name_gone(plan, seen):
        return missed(plan, state, seen, gone)
    state = _in_force(replace(state, absent=None), seen)
    if state.phase in FINAL:
        return state
    state = _counted(plan, state, seen)
    for rule in (_superseded, _obeyed, _moved_by_others, _broken, _alarmed, replaced):
        if decided := rule(plan, state, seen):
            return replace(decided, restarts=dict(seen.restarts))
    go_on = {"waiting": _wait, "stepping": _step, "promoting": _promote}.get(state.phase)
    return replace(go_on(plan, state, seen) if go_on else state, restarts=dict(seen.restarts))


def moves(plan: Plan, state: State, seen: Seen) -> tuple[Move, ...]:
    """What the cluster lacks of what was decided. Nothing where somebody else is in charge, or once an end was reached."""
    if state.absent is not None:
        left = is_gone(state, seen.now) and state.phase in FINAL and state.target == 0 != state.percent
        if not left or not seen.stable:
            return ()
    elif state.phase in ("yielded", "superseded") or (state.phase in FINAL and state.percent == state.target):
        return ()
    if state.phase in ("rolled-back", "aborted") and not plan.knative and _has_adopted(plan, seen):
        return Adopt(plan.stable, plan.stable_args), Share(0)
    if state.absent is not None:
        return (Share(0),)
    wanted = pods_for(plan, state.target, seen.pods)
    if seen.pods.canary < wanted:
        return (Scale(wanted),)
    if seen.percent != state.target:
        blind = seen.missing and not state.promoting  # a promotion that was ordered asks for no evidence
        waits = state.target > state.percent and (blind or seen.unready or seen.pods.ready < wanted)
        return () if waits else (Share(state.target),)
    if state.phase == "promoting" and not plan.knative and _is_to_adopt(plan, seen):
        return (Adopt(plan.canary, plan.canary_args),)
    return ()


def pods_for(plan: Plan, percent: int, pods: Pods) -> int:
    """How many pods the canary needs for a share: as many for each request as the stable release has. 0: a scaler knows."""
    return 0 if plan.knative or not pods.fixed else math.ceil(pods.stable * percent / ALL)


def _up_to_now(state: State, seen: Seen) -> State:
    """No time is later than now, which a clock that was set back would make of it; and what is remembered of this look."""
    times = {name: min(getattr(state, name), seen.now) for name in ("began", "since")}
    lasting = {name: at and min(at, seen.now) for name in ("failing", "absent", "shaken") if (at := getattr(state, name))}
    state = replace(state, **times, **lasting, promoting=state.promoting or state.phase == "promoting")
    return replace(state, shaken=seen.now) if seen.shaken else state


def _has_adopted(plan: Plan, seen: Seen) -> bool:
    """Whether the stable release has the canary's archive, which was not its own."""
    canary = (plan.canary, plan.canary_args)
    return (seen.stable, seen.stable_args) == canary != (plan.stable, plan.stable_args)


def _is_to_adopt(plan: Plan, seen: Seen) -> bool:
    """Whether the stable release still has to be given the canary's archive."""
    return (seen.stable, seen.stable_args) != (plan.canary, plan.canary_args)


def _in_force(state: State, seen: Seen) -> State:
    """Take in that the share that was wanted is in force now, from which on its step lasts."""
    if seen.percent == state.target != state.percent:
        return replace(state, percent=state.target, since=seen.now if state.since else 0.0, requests=0)
    return state


def _counted(plan: Plan, state: State, seen: Seen) -> State:
    """Take in the counts: as evidence, and for how long the step has been tried."""
    if not seen.counts:
        return state
    had = plan.steps[state.step].percent > 0 and state.failing is not None and state.phase != "waiting"  # its last pod went
    counts = seen.counts if state.percent > 0 or had else _of_nobody(state, seen)
    gate = SHADOW if plan.steps[state.step].percent == 0 else REQUESTS
    counted = counts[gate][0].total if gate in counts else 0
    return replace(state, evidence=state.evidence.look(counts), requests=state.requests + counted)


def _of_nobody(state: State, seen: Seen) -> dict[str, tuple[Count, Count]]:
    """The counts without those of the canary's requests: it has no share, so that somebody chose it for them, by a header."""
    paired = {name for name, test in state.evidence.tests.items() if test.gate.paired}
    return {name: (Count(0, 0), stable) if name in paired else (canary, stable) for name, (canary, stable) in seen.counts.items()}


def _superseded(plan: Plan, state: State, seen: Seen) -> State | None:
    """Somebody has given either track another archive or digest: this release is over, and its share is theirs."""
    what = ""
    if (seen.canary, seen.canary_args) != (plan.canary, plan.canary_args):
        what = _renamed("the canary's", plan.canary, seen.canary, seen.canary_args)
    elif not (
        plan.knative
        or (seen.stable, seen.stable_args) == (plan.stable, plan.stable_args)
        or (state.promoting and _has_adopted(plan, seen))
    ):
        what = _renamed("the stable release's", plan.stable, seen.stable, seen.stable_args)
    return replace(state, phase="superseded", held="", reason=f"{what}; the weights stay as they are") if what else None


def _renamed(whose: str, was: str, archive: str, arguments: Sequence[str]) -> str:
    if archive != was:
        return f"{whose} archive is now {archive}"
    return f"{whose} archive {archive} is now asked for with {' '.join(arguments) or 'no digest'}"


def _obeyed(plan: Plan, state: State, seen: Seen) -> State | None:
    match seen.order:
        case "abort":
            return _end(state, seen, "aborted", "ordered by `visor rollout abort`")
        case "promote":
            told = "ordered by `visor rollout promote`, whatever the evidence says"
            return _to_promote(replace(state, percent=_known(state, seen)), seen, told)
        case "pause":
            told = "ordered by `visor rollout pause`"
            return replace(state, phase="paused", target=round(state.percent), held="", reason=told)
        case "resume" if state.phase in ("paused", "yielded"):
            state = replace(state, percent=_known(state, seen))
            if state.promoting:
                return _to_promote(state, seen, "resumed")
            if not state.since:
                return replace(state, phase="waiting", target=0, held="", reason="resumed")
            return replace(state, phase="stepping", target=plan.steps[state.step].percent, held="", reason="resumed")
    return None


def _moved_by_others(_plan: Plan, state: State, seen: Seen) -> State | None:
    """Whoever writes the share by other means wins, and is named. Between two shares of ours, routes may differ for a moment."""
    if state.phase == "yielded":
        return None
    if seen.undone >= MOST_UNDONE and seen.percent != state.target:
        told = (
            f"{seen.by or 'somebody else'} undid the canary's share of {state.target} % {seen.undone} times, as soon as it was "
            "written; `visor rollout resume` goes on once that one leaves it alone"
        )
        return replace(state, phase="yielded", percent=_known(state, seen), held="", reason=told)
    if seen.percent in (state.percent, state.target):
        return None
    if seen.percent is None and state.percent != state.target:
        return None
    now = "shares that differ from route to route" if seen.percent is None else f"a share of {seen.percent:g} %"
    told = f"{seen.by or 'somebody else'} gave the canary {now}, where it had {state.percent:g} %; `visor rollout resume` goes on"
    return replace(state, phase="yielded", percent=_known(state, seen), held="", reason=told)


def _broken(_plan: Plan, state: State, seen: Seen) -> State | None:
    """What rolls back at once: a canary that fails, that was started again, or whose last pod is not ready any more."""
    if state.phase in ("waiting", "yielded"):
        return None
    again = [pod for pod, count in seen.restarts.items() if count > state.restarts.get(pod, 0)]
    why = seen.failure or seen.drifted
    if not why and again and (state.shaken is None or seen.now - state.shaken > SHAKEN_S):
        why = f"a container of pod {again[0]} ended and was started again"
    if not why and state.percent > 0 and seen.pods.ready == 0 and not is_replaced(state, seen):
        why = f"no pod of the canary is ready any more: {seen.unready}"
    return _end(state, seen, "rolled-back", why) if why else None


def _alarmed(_plan: Plan, state: State, seen: Seen) -> State | None:
    if state.phase not in ("stepping", "paused"):
        return None
    alarms = state.evidence.alarms()
    return _end(state, seen, "rolled-back", "; ".join(alarm.words for alarm in alarms)) if alarms else None


def _wait(plan: Plan, state: State, seen: Seen) -> State:
    """Before the first request: the canary must be ready, and both tracks' pods must be counted."""
    failing = (state.failing or seen.now) if seen.failure else None
    state = replace(state, failing=failing, held=seen.failure or seen.unready or seen.missing)
    if failing is not None and seen.now - failing >= FAILURE_LASTS_S:
        return _end(state, seen, "rolled-back", f"the canary cannot start: {seen.failure}")
    if seen.unready and seen.now - state.began >= plan.ready_s:
        return _end(state, seen, "rolled-back", f"the canary was not ready within {plan.ready_s:g} s: {seen.unready}")
    if state.held or seen.percent != state.target:
        return state
    first = plan.steps[0].percent
    return replace(state, phase="stepping", target=first, since=seen.now, requests=0, reason=begins(plan.steps, 0))


def _step(plan: Plan, state: State, seen: Seen) -> State:
    if held := _held(plan, state, seen):
        return replace(state, held=held)
    if plan.steps[state.step].percent == ALL and not state.proven and _unproven(plan, state):
        last = max((number for number, step in enumerate(plan.steps) if step.percent < ALL), default=state.step)
        if last == state.step:
            return replace(state, held="no step compares the canary with the stable release")
        return to_step(plan.steps, state, seen.now, last, "the canary was not proven, and cannot be at 100 %; back to ")
    state = replace(state, proven=state.proven or proof_is_due(plan.steps, state.step))
    if state.step + 1 == len(plan.steps):
        return _to_promote(state, seen, "every step went by without an alarm, and the evidence is there")
    return to_step(plan.steps, state, seen.now, state.step + 1)


def to_step(steps: Sequence[Step], state: State, now: float, number: int, why: str = "") -> State:
    """Begin a step, for a reason that goes before its name."""
    reason = why + begins(steps, number)
    return replace(state, step=number, target=steps[number].percent, since=now, requests=0, held="", reason=reason)


def _to_promote(state: State, seen: Seen, reason: str) -> State:
    return replace(state, phase="promoting", promoting=True, target=ALL, since=seen.now, held="", reason=reason)


def _held(plan: Plan, state: State, seen: Seen) -> str:
    """Why the next step does not begin; "" where it does."""
    step = plan.steps[state.step]
    if state.percent != state.target:
        return _on_its_way(plan, state, seen)
    if seen.missing or seen.unready:
        return seen.missing or seen.unready
    waits = []
    if state.requests < step.requests:
        what = "images of the shadow" if step.percent == 0 else "requests"
        waits.append(f"{state.requests} of {step.requests} {what}")
    if seen.now - state.since < step.seconds:
        waits.append(f"{seen.now - state.since:.0f} of {step.seconds:g} s")
    if waits:
        return f"this step has had {' and '.join(waits)}"
    if 0 < step.percent < ALL and step.requests and not state.evidence.compared:
        return (
            "nothing could be compared, as requests of both tracks were never counted near to each other: has the stable "
            "release any?"
        )
    if proof_is_due(plan.steps, state.step):
        return _unproven(plan, state, step.percent / ALL)
    return ""


def _unproven(plan: Plan, state: State, share: float | None = None) -> str:
    """What is not yet known to be within its margin; of the shadow nothing is asked where the plan has none, any more."""
    shadowed = any(step.percent == 0 for step in plan.steps)
    findings = [one for one in state.evidence.findings(share) if shadowed or one.gate.name != SHADOW]
    return "; ".join(one.words for one in findings if not one.proven)


def _on_its_way(plan: Plan, state: State, seen: Seen) -> str:
    wanted = pods_for(plan, state.target, seen.pods)
    more = f", once {wanted} pods of it are ready; {seen.pods.ready} are" if seen.pods.ready < wanted else ""
    blind = "" if state.promoting else seen.missing
    more += f": {seen.unready or blind}" if seen.unready or blind else ""
    return f"its share goes from {state.percent:g} to {state.target} %{more}"


def proof_is_due(steps: Sequence[Step], number: int) -> bool:
    """Whether a step is the last one with a comparison: at 100 % the stable release has no requests to compare with."""
    later = steps[number + 1 :]
    return steps[number].percent < ALL and (not later or later[0].percent == ALL)


def compared(steps: Sequence[Step]) -> tuple[int, int]:
    """The first and the last share at which the canary is compared with the stable release, in percent; 0 where none is."""
    shares = [step.percent for step in steps if 0 < step.percent < ALL]
    return (shares[0], shares[-1]) if shares else (0, 0)


def _promote(plan: Plan, state: State, seen: Seen) -> State:
    """All requests to the canary; in Standard mode the stable release then changes its archive, and gets them back."""
    if state.percent != ALL:
        if seen.unready and not seen.pods.ready and seen.now - state.since >= plan.ready_s:
            return _end(state, seen, "rolled-back", f"the canary was not ready within {plan.ready_s:g} s: {seen.unready}")
        return replace(state, held=_on_its_way(plan, state, seen))
    if not plan.knative:
        if _is_to_adopt(plan, seen):
            return replace(state, held="the stable release changes its archive")
        if seen.settling:
            return replace(state, held=f"the stable release changes its archive: {seen.settling}")
    return replace(state, phase="promoted", target=ALL if plan.knative else 0, held="")


def _end(state: State, seen: Seen, phase: Phase, reason: str) -> State:
    """End without requests. A share that was written, and is not in force in all routes yet, may be in some."""
    percent = (state.percent or float(state.target)) if seen.percent is None else seen.percent
    return replace(state, phase=phase, percent=percent, target=0, held="", reason=reason)


def _known(state: State, seen: Seen) -> float:
    return state.percent if seen.percent is None else seen.percent


def begins(steps: Sequence[Step], number: int) -> str:
    """Say that a step begins."""
    percent = steps[number].percent
    return f"step {number + 1} of {len(steps)}: {f'{percent} % of the requests' if percent else 'the shadow'}"
