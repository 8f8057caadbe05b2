"""What chance alone would do: intervals of rates, exact tests, and corrections for many of them at a time.

Images of one group (`data.group_pattern`) go together, so every function takes groups where there are any, and counts them.
"""

import math
from collections.abc import Hashable, Sequence

import numpy as np
from scipy.stats import binom, binomtest

from handlers.arrays import Bools, Float64, Floats, Int64, Ints

Groups = Sequence[Hashable]
"""The group of each image, (N,)."""
FLIPS = 9_999
BLOCK = 1 << 22
"""Signs that are drawn at a time, a byte each."""
# Sums of the same costs in another order differ in their last bits.
SAME = 1e-9


def wilson(count: float, n: float) -> tuple[float, float] | None:
    """Compute the interval of 95 % for a share of `count` of n (Wilson 1927); None where n is 0.

    Neither need be whole: `rate_interval` counts images that go together as fewer.
    """
    if n == 0:
        return None
    z, share = 1.959963984540054, count / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return max(0.0, middle - half) if count else 0.0, min(1.0, middle + half) if count < n else 1.0


def rate_interval(hits: Bools, groups: Groups | None = None, weights: Floats | None = None) -> tuple[float, float] | None:
    """Compute the interval of 95 % for a rate. hits: (N,); weights: (N,), all alike without; None where there is no image.

    With groups, Wilson's interval counts the effective number of images, N divided by the design effect: the variance of the
    rate over groups (Kish 1965, section 5.4; linearised) by that of N images drawn one by one (Korn, Graubard 1998, section
    2). It is not less than the number of groups and not more than N. Where all images hit or none does, groups have no
    variance to be seen, and the number of groups counts. With weights the same variance is that of the weighted rate, which no
    number of groups bounds; where all images hit or none does, (sum w)² / (sum w²) of the groups' weights counts (Kish).
    """
    n = len(hits)
    if not n or (groups is None and weights is None):
        return wilson(int(hits.sum()), n)
    w = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    numbers = np.arange(n) if groups is None else number(groups)
    sums, share = np.bincount(numbers, w), float(np.average(hits, weights=w))
    total = len(sums)
    least = float(total) if weights is None else float(sums.sum() ** 2 / np.square(sums).sum())
    if total < 2 or hits.all() or not hits.any():
        effective = least
    else:
        residual = np.bincount(numbers, w * (hits - share))
        variance = total / (total - 1) * float((residual**2).sum()) / w.sum() ** 2
        effective = min(n, share * (1 - share) / variance) if variance else float(n)
        effective = effective if weights is not None else max(total, effective)
    return wilson(share * effective, effective)


def rate_limits(hits: Bools, groups: Groups | None = None, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the two one-sided limits of a rate, each at this confidence: (0, 1) where there is no image.

    Without groups they are exact (Clopper, Pearson 1934). With groups they bound the mean of the groups' shares by
    `hoeffding_bentkus`.
    """
    n = len(hits)
    if not n:
        return 0.0, 1.0
    if groups is None:
        interval = binomtest(int(hits.sum()), n).proportion_ci(2 * confidence - 1, method="exact")
        return float(interval.low), float(interval.high)
    shares = group_shares(hits, groups)
    return 1 - _upper(1 - shares, 1 - confidence), _upper(shares, 1 - confidence)


def _upper(losses: Floats, delta: float) -> float:
    """The largest mean that `hoeffding_bentkus` does not reject, by bisection; it falls as the mean that it tests rises."""
    low, high = float(losses.mean()), 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if float(hoeffding_bentkus(losses.sum(), len(losses), middle)) <= delta else (middle, high)
    return high


def hoeffding_bentkus(total: Floats | float, n: int, level: float) -> Float64:
    """Test whether n independent losses in [0, 1] have a mean above `level`; returns p-values of their sums `total`, any shape.

    min(exp(-n h(min(mean, level), level)), e P(Bin(n, level) <= ceil(total))), h being the relative entropy of two coins:
    Bates, Angelopoulos, Lei, Malik, Jordan 2021, "Distribution-Free, Risk-Controlling Prediction Sets", Theorem 4 and
    section 3.1.2; Learn then Test (Angelopoulos et al. 2021, arXiv 2110.01052), Proposition 1.
    """
    summed = np.asarray(total, dtype=np.float64)
    mean = np.minimum(summed / n, level)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = np.where(mean > 0, mean * np.log(mean / level), 0.0)
        entropy = entropy + np.where(mean < 1, (1 - mean) * np.log((1 - mean) / (1 - level)), 0.0)
    bentkus = math.e * binom.cdf(np.ceil(summed - SAME), n, level)
    return np.asarray(np.minimum(1.0, np.minimum(np.exp(-n * entropy), bentkus)), dtype=np.float64)


def exceeds(hits: Bools, level: float, groups: Groups | None = None) -> float:
    """Test whether a rate is at most `level`; returns the one-sided p-value of a rate as high as the hits'. hits: (N,).

    Without groups it is the exact binomial one. With groups the mean of the groups' shares is tested by `hoeffding_bentkus`.
    """
    n = len(hits)
    if not n:
        return 1.0
    if groups is None:
        return float(binom.sf(int(hits.sum()) - 1, n, level))
    shares = group_shares(hits, groups)
    return float(hoeffding_bentkus((1 - shares).sum(), len(shares), 1 - level))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number: those at most `a` hold together with a family-wise error of `a` (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, so_far = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        so_far = max(so_far, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = so_far
    return adjusted


def sign_flips(differences: Floats, groups: Groups | None = None, flips: int = FLIPS, seed: int = 0) -> tuple[float, float]:
    """Test whether paired differences, (N,), lean to neither side; returns the one-sided p-values (below 0, above 0).

    Where both of a pair are alike, the signs of whole groups may be flipped (Fisher 1935; Ernst 2004, section 3). The p-value
    is the share of all flips whose sum is as extreme or, where these are more than `flips`, of so many random ones and the
    observed one (Phipson, Smyth 2010). Groups without a difference say nothing. Of differences that are all of one size, it is
    McNemar's exact test.
    """
    sums = np.asarray(differences if groups is None else np.bincount(number(groups), weights=differences), dtype=np.float64)
    sums = sums[np.abs(sums) > SAME * np.abs(sums).max(initial=0.0)]
    if not len(sums):
        return 1.0, 1.0
    observed, slack = sums.sum(), SAME * np.abs(sums).sum()
    if 2 ** len(sums) <= flips:
        every = (np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums))) & 1  # (2^G, G)
        flipped = every @ (2 * sums) - observed
        return float((flipped <= observed + slack).mean()), float((flipped >= observed - slack).mean())
    generator, rows, below, above = np.random.default_rng(seed), max(1, BLOCK // len(sums)), 1, 1
    for start in range(0, flips, rows):
        flipped = generator.integers(0, 2, (min(rows, flips - start), len(sums)), dtype=np.int8) @ (2 * sums) - observed
        below += int((flipped <= observed + slack).sum())
        above += int((flipped >= observed - slack).sum())
    return below / (flips + 1), above / (flips + 1)


def number(groups: Groups) -> Int64:
    """Number the groups in the order in which they come: (N,), from 0."""
    numbers = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    return np.array([numbers[group] for group in groups], dtype=np.int64)


def group_shares(hits: Bools, groups: Groups) -> Float64:
    """Compute the share of hits in each group, (G,), in the order in which they come. hits: (N,)."""
    numbers = number(groups)
    return np.asarray(np.bincount(numbers, weights=hits) / np.bincount(numbers), dtype=np.float64)


def only(groups: Groups | None, rows: Bools | Ints) -> Groups | None:
    """Return the groups of some images, None where there are none. rows: a mask, (N,), or indices."""
    if groups is None:
        return None
    return [groups[row] for row in (np.flatnonzero(rows) if rows.dtype == bool else rows).tolist()]
