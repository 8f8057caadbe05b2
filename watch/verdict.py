"""Whether a window of images has drifted from an archive's reference, by which figures, and whether other labels explain it.

Where classes come in other shares and the pictures of each class are as before (label shift), each figure's shares of bins are
a mixture of those of the classes, with the new class shares in the place of the old. So the shares that fit best are found, as
Saerens, Latinne and Decaestecker (2002) find them from answers, and what still differs is the pictures' own (covariate shift).
The shares found lie between the old ones and the window's own, the nearer to the old the smaller the reference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from handlers.arrays import Float64, Floats, Ints
from handlers.drift import Reference
from watch.psi import psi
from watch.psi import shares as smoothed

Word = Literal["calm", "pictures", "labels", "unclear"]
ROUNDS, SETTLED = 2000, 1e-7
"""Most rounds of the search for class shares, and the change of a share at which it ends before."""
LOOSEST = 1.5
"""Greatest multiple of a figure's limit that `left_limit` may be for what is below it to say anything: where a class of few
reference images gets a large share, hardly anything is above it."""


@dataclass(frozen=True)
class Figure:
    """One figure of a window. `psi`: its PSI; `limit`: the PSI above which it has moved; `unexplained`: the PSI that is left
    beside a reference whose classes have the window's shares, and `left_limit`: the limit of that.
    """

    name: str
    psi: float
    limit: float
    unexplained: float
    left_limit: float

    @property
    def moved(self) -> bool:
        """Whether it differs from the reference by more than chance and the least effect."""
        return self.psi > self.limit

    @property
    def ratio(self) -> float:
        """PSI as a multiple of the limit."""
        return self.psi / self.limit

    @property
    def explained(self) -> bool:
        """Whether other class shares leave nothing above the limit."""
        return self.unexplained <= self.left_limit

    @property
    def loose(self) -> bool:
        """Whether the limit beside other class shares is so high that being below it says nothing."""
        return self.left_limit > LOOSEST * self.limit


@dataclass(frozen=True)
class Verdict:
    """What is said of a window of `images`. `figures`: in the reference's order; `before`: the reference's class shares, (K,);
    `shares`: those that fit the window best, which are not looked for where nothing moved.
    """

    images: int
    figures: tuple[Figure, ...]
    shares: Float64
    before: Float64

    @property
    def moved(self) -> list[Figure]:
        """The figures that moved, the one that is furthest above its limit first."""
        return sorted((figure for figure in self.figures if figure.moved), key=lambda figure: -figure.ratio)

    @property
    def word(self) -> Word:
        """What moved: "pictures" where other class shares leave something above its limit, "labels" where they do not, "unclear"
        where they do not and a limit is loose.
        """
        if not self.moved:
            return "calm"
        if not all(figure.explained for figure in self.figures):
            return "pictures"
        return "unclear" if any(figure.loose for figure in self.figures) else "labels"


def judge(reference: Reference, live: Sequence[Ints]) -> Verdict:
    """Compare a window with the reference. live: the window's images by bin of each figure, one at least."""
    images, sizes = int(live[0].sum()), reference.class_counts[0].sum(axis=1)  # (K,)
    limits = reference.limits(images).tolist()
    psis = [psi(counted, other) for counted, other in zip(reference.counts, live, strict=True)]
    before = shares = np.asarray(sizes / sizes.sum())
    left, left_limits = psis, limits
    if any(one > limit for one, limit in zip(psis, limits, strict=True)):
        shares, present = class_shares(reference, live), sizes > 0
        # A mixture of classes, each with its own number of reference images, varies as so many images together do.
        worth = 1 / float((shares[present] ** 2 / sizes[present]).sum())
        of_each = shares[present] / sizes[present] * worth
        left = [psi(of_each @ counted[present], other) for counted, other in zip(reference.class_counts, live, strict=True)]
        left_limits = (reference.limit_quantiles * (1 / images + 1 / worth) + reference.effect).tolist()
    figures = map(Figure, reference.figures, psis, limits, left, left_limits)
    return Verdict(images, tuple(figures), shares, before)


def class_shares(reference: Reference, live: Sequence[Ints]) -> Float64:
    """Find the class shares w, (K,), under which the window is most likely: Σ over figures and bins of n_b log Σ_k w_k p_kb is
    greatest, by expectation-maximisation. p_kb: the share of bin b among the reference images of class k.

    Each figure counts by itself, as if it were of other images. w is drawn towards the reference's class shares, as p_kb are
    those of few images, smoothed: of 240 images half of one class it says 26 % where 20 % are right (docs/drift.md). live: as
    `judge` has it.
    """
    sizes = reference.class_counts[0].sum(axis=1)
    known = _of_classes(reference)  # (K, all bins)
    counted = np.concatenate(live).astype(np.float64)
    weights: Float64 = sizes / sizes.sum()
    for _ in range(ROUNDS):
        of_class = weights[:, None] * known
        new = np.asarray((of_class / of_class.sum(axis=0) * counted).sum(axis=1) / counted.sum())
        settled = float(np.abs(new - weights).max()) < SETTLED
        weights = new
        if settled:
            break
    return weights


def _of_classes(reference: Reference) -> Floats:
    """The share of each bin among the reference images of each class, of all figures side by side: (K, bins).

    A bin that holds no image of a class counts half an image of it, so that no live image is impossible.
    """
    return np.concatenate([smoothed(counts) for counts in reference.class_counts], axis=1)


def count(bins: Ints, reference: Reference) -> list[Ints]:
    """Count images by bin of each figure, as `judge` takes them. bins: (N, F)."""
    return [np.bincount(bins[:, n], minlength=len(counted)) for n, counted in enumerate(reference.counts)]


def unusual(bins: Ints, reference: Reference, verdict: Verdict) -> Floats:
    """Tell how much each image is of what is new, (N,): Σ ln(q / r) of its bins' shares among the window and the reference.

    Over the figures that moved, or over all where none did. bins: (N, F).
    """
    moved = {figure.name for figure in verdict.moved} or set(reference.figures)
    total = np.zeros(len(bins))
    for n, (name, counts) in enumerate(zip(reference.figures, count(bins, reference), strict=True)):
        if name in moved:
            total += np.log(smoothed(counts) / smoothed(reference.counts[n]))[bins[:, n]]
    return total
