"""A track that is not there: for a moment, or gone. Pure functions."""

from dataclasses import replace

from rollout.plan import FINAL, Plan, Seen, State

# A track that is not found for a moment may be one that is being replaced, or an API server that has just started.
ABSENCE_LASTS_S = 10.0


def is_gone(state: State, now: float) -> bool:
    """Whether one of the tracks has been away for so long that it is gone."""
    return state.absent is not None and now - state.absent >= ABSENCE_LASTS_S


def name_gone(plan: Plan, seen: Seen) -> str:
    """Name the track that is not there; "" where both are."""
    if plan.knative:
        return "" if seen.canary else "the release"
    if not seen.stable:
        return "the stable release"
    return "" if seen.canary else "the canary"


def missed(plan: Plan, state: State, seen: Seen, gone: str) -> State:
    """A track that stays away ends the release. Without a canary its share answers nobody, and goes to the stable release."""
    state = replace(state, absent=seen.now if state.absent is None else state.absent)
    if state.phase in FINAL:
        return state
    if not is_gone(state, seen.now):
        return replace(state, held=f"{gone} was not found")
    ours = bool(seen.stable) and not plan.knative and state.phase != "yielded"
    share = "its share goes to the stable release" if ours else "the weights stay as they are"
    return replace(
        state, phase="superseded", target=0 if ours else state.target, held="", reason=f"{gone} was taken away; {share}"
    )
