"""Which of a run's many metrics are shown where there is room for a few."""

import math
from collections.abc import Mapping
from typing import Any

from training.names import flatten

FIGURES = ("accuracy", "decision.fnr", "decision.expected_cost_with_review")
"""What is listed of metrics.json. The cost is the one by which `visor compare` chooses."""


def figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return those of a run's metrics that are listed, FIGURES, by the last part of their names."""
    found = {name.rpartition(".")[2]: value for name, value in flatten(metrics) if name in FIGURES}
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float) and math.isfinite(value)}
