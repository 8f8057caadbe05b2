"""Selective classification: what is gained when the least sure answers go to a person.

Geifman, El-Yaniv: Selective Classification for Deep Neural Networks, NIPS 2017; Chow 1970.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from handlers.arrays import Bools, Float64, Floats

COVERAGES: Sequence[float] = (0.8, 0.9, 0.95, 1.0)
"""At which the metrics state the risk."""
SAME = 1e-9  # of an image: sums of the same weights in another order differ in their last bits
LAST = 1e-9
"""Beyond 1, so that a band which holds every score above the threshold holds 1 too."""


@dataclass(frozen=True)
class RiskCoverage:
    """The risk-coverage curve. risk: (N,), the error rate among the n surest of N images, for n from 1 to N."""

    risk: Float64

    @property
    def coverage(self) -> Float64:
        """The shares of images that are answered, n / N: (N,)."""
        return np.arange(1, len(self.risk) + 1) / len(self.risk)

    @property
    def aurc(self) -> float:
        """The area under the curve, which is the mean of the N risks (Geifman, Uziel, El-Yaniv 2019, section 2)."""
        return float(self.risk.mean())

    def at(self, coverage: float) -> float:
        """Return the error rate when this share of the images, rounded up, is answered."""
        return float(self.risk[max(0, int(np.ceil(coverage * len(self.risk) - 1e-9)) - 1)])


def risk_coverage(certainty: Floats, wrong: Bools) -> RiskCoverage:
    """Compute the curve over images from the surest on. Among equally sure images, errors count as if the order were random.

    certainty: (N,), the more the surer; wrong: (N,).
    """
    _, group = np.unique(-np.asarray(certainty, dtype=np.float64), return_inverse=True)
    mean = np.bincount(group, wrong) / np.bincount(group)
    return RiskCoverage(np.cumsum(mean[np.sort(group)]) / np.arange(1, len(wrong) + 1))


def least(wrong: Bools) -> RiskCoverage:
    """Compute the curve of an oracle that ranks every error last. The AURC in excess of the oracle's is the E-AURC."""
    return risk_coverage(-wrong.astype(np.float64), wrong)


def doubt(score: Floats, threshold: float) -> Float64:
    """Compute how near each score is to the other decision, (N,): min((1 - t) s, t (1 - s)), the risk of the answer at the costs
    for which t is the Bayes threshold, c_fn = 1 - t and c_fp = t. Chow's rule asks a person where this is large."""
    s = np.asarray(score, dtype=np.float64)
    return np.minimum((1.0 - threshold) * s, threshold * (1.0 - s))


def budget_band(score: Floats, threshold: float, budget: float, weights: Floats | None = None) -> tuple[float, float]:
    """Find the review band [low, high) around the threshold: the images in most doubt, at most a share `budget` of them all.

    Of equally doubtful images all or none are inside. The band's ends lie in the middle between the images inside and those
    outside, and hold the threshold between them; the upper end is above 1 where a score of 1 is inside. score: (N,), weights:
    (N,), all alike without.
    """
    s = np.asarray(score, dtype=np.float64)
    w = np.ones(len(s)) if weights is None else np.asarray(weights, dtype=np.float64)
    risk = doubt(s, threshold)
    _, level = np.unique(-risk, return_inverse=True)  # 0 for the most doubtful
    inside = (np.cumsum(np.bincount(level, w)) <= budget * w.sum() + SAME * len(s))[level]
    low, high = s[inside & (s < threshold)], s[inside & (s >= threshold)]
    under, over = s[~inside & (s < threshold)], s[~inside & (s >= threshold)]
    start = _between(max(under, default=-low.min()), low.min()) if len(low) else threshold
    end = _between(high.max(), min(over, default=2.0 + 2 * LAST - high.max())) if len(high) else threshold
    return float(start), float(end)


def budget_threshold(confidence: Floats, budget: float, weights: Floats | None = None) -> float:
    """Find the largest threshold below which at most a share `budget` of the images lies. confidence, weights: (N,)."""
    order = np.argsort(confidence, kind="stable")
    w = np.ones(len(confidence)) if weights is None else np.asarray(weights, dtype=np.float64)[order]
    inside = int((np.cumsum(w) <= budget * w.sum() + SAME * len(w)).sum())
    return float(np.asarray(confidence)[order][min(inside, len(w) - 1)])


def _between(low: float, high: float) -> float:
    """The middle, above low where anything is: of two floats that are neighbours, the upper one."""
    middle = (low + high) / 2
    return middle if middle > low else high
