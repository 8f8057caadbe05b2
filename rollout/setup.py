"""What a release by evidence is told: by `visor rollout start`, or by the chart's Job."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

from rollout.errors import PlanRefused
from rollout.evidence import ALPHA
from rollout.gates import GATES, Gate
from rollout.plan import ALL, Step


@dataclass(frozen=True)
class Order:
    """What `visor rollout start` and the chart's Job are told.

    `archive`, `stable_archive`: what canary and stable release must name before it begins, None for whatever they name;
    `prometheus`: its address; `bound_s`: the SLO's bound, a bucket's; `every_s`: between two looks at the counters; `routes`:
    kind and name of each, empty for all that lead to the canary; `manager`: the field manager that owns the release's objects.
    Raises PlanRefused.
    """

    name: str
    namespace: str
    prometheus: str
    steps: tuple[Step, ...]
    margins: Mapping[str, float] = field(default_factory=dict)
    alpha: float = ALPHA
    bound_s: float = 0.5
    every_s: float = 15.0
    ready_s: float = 240.0
    archive: str | None = None
    stable_archive: str | None = None
    attempt: int = 1
    routes: tuple[tuple[str, str], ...] = ()
    manager: str = "helm"

    def __post_init__(self) -> None:
        shares = [step.percent for step in self.steps]
        told = ", ".join(f"{share} %" for share in shares) or "none"
        if not any(0 < share < ALL for share in shares):
            raise PlanRefused(
                f"no step compares the canary with the stable release (steps: {told}), so that it would be promoted without "
                "proof; give one above 0 and below 100 %"
            )
        if any(later <= share for share, later in pairwise(shares)):
            raise PlanRefused(f"the steps go back (steps: {told}); let each step have more than the one before")


def gates_of(order: Order) -> tuple[Gate, ...]:
    """The gates of an order, with its margins; without a shadow, that of disagreement would never be proven, and is left out."""
    shadowed = any(step.percent == 0 for step in order.steps)
    gates = [gate for gate in GATES if gate.paired or shadowed]
    margins = {gate.name: order.margins.get(gate.name, gate.margin) for gate in gates}
    return tuple(replace(gate, margin=margins[gate.name], tolerance=_tolerance(gate, margins[gate.name])) for gate in gates)


def _tolerance(gate: Gate, margin: float) -> float:
    """What is tolerated, as far as the margin allows; without a stable release to compare with, the margin itself."""
    return min(gate.tolerance, margin) if gate.paired else margin
