"""The population stability index (PSI) of two counts by bin, and what it stays below where nothing drifts."""

import numpy as np
from scipy.stats import chi2

from handlers.arrays import Floats, Ints
from handlers.drift import shares as shares

LEVEL = 0.01
"""Chance of an alarm on any figure of one window of independent images where nothing drifts."""
EFFECT = 0.025
"""Least PSI beyond chance that is worth an alarm: docs/drift.md has what it finds. A shift of a figure by a sixth of its standard
deviation has so much; one that is found is larger, by what chance explains."""


def psi(reference: Ints | Floats, live: Ints | Floats) -> float:
    """Compute Σ (q - r) ln(q / r), with r and q the `shares` of the reference and of the live images. reference, live: (B,)."""
    r, q = shares(reference), shares(live)
    return float(((q - r) * np.log(q / r)).sum())


def null_quantile(counts: Ints, figures: int, level: float = LEVEL) -> float:
    """Compute what PSI / (1/N + 1/M) exceeds with chance level / figures where N live and M reference images are of one kind.

    It follows χ²(B - 1) (Yurdakul 2018), B being the bins that hold reference images, two at least; the level is shared out among
    the figures (Bonferroni). counts: (bins,), the reference's.
    """
    return float(chi2.isf(level / figures, max(int(np.count_nonzero(counts)), 2) - 1))
