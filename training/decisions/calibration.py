"""How honest probabilities are: reliability, the errors of calibration, likelihood and Brier score.

Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017; Kumar, Liang, Ma: Verified Uncertainty
Calibration, NeurIPS 2019; Bröcker, Smith: Increasing the Reliability of Reliability Diagrams, Weather and Forecasting 2007.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from handlers.arrays import Bools, Float64, Floats, Int64, Ints

BINS = 15  # Guo et al. 2017, section 5
DRAWS, SURE = 400, 0.95  # of images from honest scores; the share of the draws within `by_chance`


@dataclass(frozen=True)
class Reliability:
    """Equal-width bins of a score, ((m - 1) / M, m / M]; each field is (M,), the means NaN where a bin is empty.

    `count`: images; `share`: of the images' weights; `confidence`: the mean score; `accuracy`: the share in which what the score
    is the probability of came true; `noise`: the variance of accuracy - confidence, an unbiased estimate, NaN of one image.
    """

    count: Int64
    confidence: Float64
    accuracy: Float64
    share: Float64
    noise: Float64

    @property
    def ece(self) -> float:
        """Expected calibration error, Guo et al. 2017, eq. 3: the sum over m of |B_m| / n · |acc(B_m) - conf(B_m)|.

        Of few images in a bin it is too large: an honest score's is not 0.
        """
        filled = self.count > 0
        return float((self.share * np.abs(self.accuracy - self.confidence))[filled].sum())

    @property
    def error(self) -> float:
        """Root mean square of the bins' gaps, debiased, 0 where no more is left than noise (Kumar et al. 2019, section 4.1).

        The gap's square is too large by its noise, which is taken off; bins of one image tell no noise and are left out.
        """
        told = self.count > 1
        square = (self.accuracy - self.confidence) ** 2 - self.noise
        return float(np.sqrt(max(0.0, (self.share * square)[told].sum() / max(self.share[told].sum(), 1e-300))))


def reliability(probs: Floats, truth: Ints, bins: int = BINS) -> Reliability:
    """Compare confidence with accuracy of the predicted class, bin by bin. probs: (N, K); truth: (N,)."""
    return reliability_of(probs.max(axis=1), probs.argmax(axis=1) == truth, bins)


def reliability_of(score: Floats, event: Bools, bins: int = BINS, weights: Floats | None = None) -> Reliability:
    """Compare a score with what it is the probability of, bin by bin. score, event: (N,); weights: (N,), all alike without."""
    s = np.asarray(score, dtype=np.float64)
    w = np.ones(len(s)) if weights is None else np.asarray(weights, dtype=np.float64)
    bin_of = np.clip(np.ceil(s * bins).astype(int) - 1, 0, bins - 1)
    count, total = np.bincount(bin_of, minlength=bins), np.bincount(bin_of, w, bins)
    divisor = np.where(count > 0, total, np.nan)
    gap = event - s
    mean = np.bincount(bin_of, w * gap, bins) / divisor
    spread = np.bincount(bin_of, (w * (gap - mean[bin_of])) ** 2, bins) / divisor**2
    return Reliability(
        count=count,
        confidence=np.bincount(bin_of, w * s, bins) / divisor,
        accuracy=np.bincount(bin_of, w * event, bins) / divisor,
        share=total / total.sum(),
        noise=spread * count / np.where(count > 1, count - 1.0, np.nan),
    )


def by_chance(score: Floats, weights: Floats | None = None, bins: int = BINS, seed: int = 0) -> float:
    """Find the `Reliability.error` that perfectly honest scores of these values stay within in 95 % of draws (Bröcker, Smith).

    What comes true is drawn DRAWS times with the scores as its probabilities. A larger error is more than chance explains.
    score, weights: (N,).
    """
    rng, s = np.random.default_rng(seed), np.asarray(score, dtype=np.float64)
    errors = [reliability_of(s, rng.random(len(s)) < s, bins, weights).error for _ in range(DRAWS)]
    return float(np.quantile(errors, SURE))


def ece(probs: Floats, truth: Ints, bins: int = BINS) -> float:
    """Compute the expected calibration error over equal-width bins, see Reliability.ece. probs: (N, K); truth: (N,)."""
    return reliability(probs, truth, bins).ece


def nll(logits: Floats, truth: Ints, temperature: float = 1.0, weights: Floats | None = None) -> float:
    """Compute the mean negative log-likelihood in nats, from the logits, so that no probability rounds to 0. logits: (N, K)."""
    z = np.asarray(logits, dtype=np.float64) / temperature
    return float(np.average(logsumexp(z, axis=1) - z[np.arange(len(z)), truth], weights=weights))


def side_losses(logits: Floats, inside: Bools, event: Bools) -> Float64:
    """Compute each image's negative log-likelihood in nats of whether the truth is among some of the labels, (N,).

    logits: (N, K), scaled; inside: (N, K), the labels whose probabilities add up to the score; event: (N,), whether it is true.
    """
    z = np.asarray(logits, dtype=np.float64)
    with np.errstate(divide="ignore"):
        told = logsumexp(np.where(inside == event[:, None], z, -np.inf), axis=1)
    return np.asarray(logsumexp(z, axis=1) - told)
