"""How a release stands, from its record: as text, JSON, Prometheus metrics, and as values for Helm. Pure functions."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rollout.errors import RolloutBusy
from rollout.plan import ALL
from rollout.record import Record, sentence

SETTLED = ("promoted", "rolled-back", "aborted")
"""Ends after which the record knows which archive the stable release has."""
SHOWN = 10
"""The last things that happened, of which the text tells."""


def text(name: str, known: Record, now: float) -> str:
    """Tell how a release stands. `now`: seconds since the epoch."""
    plan, state = known.plan, known.state
    lines = [f"{name}: {sentence(known)}", f"  {plan.canary} is to take the place of {plan.stable}"]
    for number, step in enumerate(plan.steps):
        mark = ">" if number == state.step else " "
        share = f"{step.percent} %" if step.percent else "shadow"
        lines.append(f"  {mark} {share:6}  {step.seconds:g} s and {step.requests} of the canary's requests at least")
    lines += [f"  {finding.words}" for finding in state.evidence.findings(_share(known))]
    if known.holder:
        lines.append(f"  moved by {known.holder}, which said so {max(now - known.held_at, 0):.0f} s ago")
    lines += [f"  {_clock(entry.at)}  {entry.what}" for entry in known.history[-SHOWN:]]
    return "\n".join(lines)


def to_json(known: Record) -> dict[str, Any]:
    """The record, with what each gate knows in figures and words."""
    findings = [
        asdict(finding) | {"alarm": finding.alarm, "words": finding.words}
        for finding in known.state.evidence.findings(_share(known))
    ]
    return {**known.to_json(), "sentence": sentence(known), "findings": findings}


def values(known: Record) -> dict[str, Any]:
    """The chart's values that say what the cluster has after this release: the archive that serves, and no canary.

    Raises RolloutBusy while the stable release may have either archive: values would bring the old one back.
    """
    plan = known.plan
    if (known.state.promoting or known.state.phase == "promoting") and known.state.phase not in SETTLED:
        raise RolloutBusy(f"{plan.canary} is being promoted ({known.state.phase}); its values are known once that has ended")
    promoted = known.state.phase == "promoted"
    found: dict[str, Any] = {"canary": {"enabled": False}}
    if promoted:
        found["archive"] = {"uri": plan.canary, "digest": _digest(plan.canary_args)}
    return found


def metrics(name: str, namespace: str, known: Record) -> str:
    """The figures as Prometheus metrics, in its text format."""
    labels = f'namespace="{namespace}",release="{name}"'
    state = known.state
    lines = [
        "# HELP visor_rollout_phase The phase of a release by evidence; its value is 1.",
        "# TYPE visor_rollout_phase gauge",
        f'visor_rollout_phase{{{labels},phase="{state.phase}"}} 1',
        "# HELP visor_rollout_percent The canary's share of the requests, percent.",
        "# TYPE visor_rollout_percent gauge",
        f"visor_rollout_percent{{{labels}}} {state.percent:g}",
    ]
    findings = state.evidence.findings(_share(known))
    for metric, about in (
        ("evidence", "What a bet against a canary that is no worse has made of 1, by gate."),
        ("evidence_limit", "What is an alarm."),
        ("difference_upper", "The canary's share of a gate's events is at most this above the stable release's."),
        ("canary_events", "Events of the canary, by gate."),
        ("canary_total", "Of how many."),
    ):
        lines += [f"# HELP visor_rollout_{metric} {about}", f"# TYPE visor_rollout_{metric} gauge"]
        for one in findings:
            value = {
                "evidence": one.grown,
                "evidence_limit": one.limit,
                "difference_upper": one.upper,
                "canary_events": one.canary.events,
                "canary_total": one.canary.total,
            }[metric]
            lines.append(f'visor_rollout_{metric}{{{labels},gate="{one.gate.name}"}} {value:.9g}')
    return "\n".join(lines) + "\n"


def _share(known: Record) -> float | None:
    """The canary's part of the requests to come, where there is one to compare."""
    percent = known.plan.steps[known.state.step].percent
    return percent / ALL if 0 < percent < ALL else None


def _digest(arguments: tuple[str, ...]) -> str:
    return next((one.removeprefix("--digest=") for one in arguments if one.startswith("--digest=")), "")


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
