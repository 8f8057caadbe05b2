"""A canary whose last pod was taken away, by the drain of its node, say, and did not fail. Pure functions.

In Standard mode nobody answers its requests until the next pod is ready: the stable release gets them so long. In Knative mode
the activator keeps them. It has as long for that as it had to get ready for the first time.
"""

from dataclasses import replace

from rollout.plan import Plan, Seen, State

PHASES = ("stepping", "paused")


def is_replaced(state: State, seen: Seen) -> bool:
    """Whether that no pod of the canary is ready is a replacement, and may pass."""
    return state.phase in PHASES and bool(seen.replaced)


def replaced(plan: Plan, state: State, seen: Seen) -> State | None:
    """Step back to no requests until the next pod is ready, then begin the step anew; None where there is nothing to wait for.

    `State.failing` is since when, in these phases.
    """
    waited = state.failing is not None and seen.pods.ready == 0
    if is_replaced(state, seen) or (state.phase in PHASES and waited):
        since = seen.now if state.failing is None else state.failing
        why = seen.replaced or seen.unready
        if seen.now - since >= plan.ready_s:
            told = f"the canary's last pod was taken away, and no other was ready within {plan.ready_s:g} s: {why}"
            return replace(state, phase="rolled-back", target=0, held="", reason=told, failing=None)
        target = state.target if plan.knative else 0
        reason = state.reason if plan.knative else "the canary's last pod was taken away: no requests until the next one is ready"
        return replace(state, failing=since, target=target, held=f"its next pod is not ready: {why}", reason=reason)
    if state.phase not in PHASES or state.failing is None:
        return None
    if state.phase == "paused" or plan.knative:
        return replace(state, failing=None)
    target, told = plan.steps[state.step].percent, "the canary's next pod is ready; its step begins anew"
    return replace(state, failing=None, target=target, since=seen.now, requests=0, held="", reason=told)
