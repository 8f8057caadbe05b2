"""What images without drift look like: axes of training images, bins of calibration images, and whether validation images
already seem to drift.

Axes come from training images and bins from calibration images: both from the same ones would give false alarms
(docs/decisions-log/drift-by-psi.md).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from handlers.arrays import Float32, Float64, Floats, Int64, Ints
from handlers.drift import BINS, PICTURE, SCORE, Reference, axis_name, measure
from watch.psi import EFFECT, LEVEL, null_quantile, psi


@dataclass(frozen=True)
class Seen:
    """What is measured of a split's images: `pictures`: (N, 6), of `handlers.drift.describe`; `pooled`: (N, C), the network's
    features; `scores`: (N,), what decides.
    """

    pictures: Floats
    pooled: Floats
    scores: Floats


@dataclass(frozen=True)
class Fitted:
    """A reference, and how validation images look beside it: `psi` and `limits`, (F,) each, of `validation_images`."""

    reference: Reference
    psi: Float64
    limits: Float64
    validation_images: int

    @property
    def summary(self) -> dict[str, Any]:
        """What metrics.json says of it; `figure` is the one that is nearest to its limit, or furthest above it."""
        worst = int((self.psi / self.limits).argmax())
        return {
            "figures": len(self.reference.figures),
            "images": self.reference.images,
            "validation_images": self.validation_images,
            "figure": self.reference.figures[worst],
            "psi": round(float(self.psi[worst]), 6),
            "limit": round(float(self.limits[worst]), 6),
        }

    @property
    def notes(self) -> list[str]:
        """A warning where validation images look like drift, before any live image was seen."""
        if (self.psi <= self.limits).all():
            return []
        told = "{figure} has PSI {psi:.3f}, above the {limit:.3f} of images that are alike".format(**self.summary)
        return [f"Drift reference: validation images differ from calibration images ({told}); do groups of images explain it?"]


def axes_of(features: Floats, count: int) -> tuple[Float32, Float32]:
    """Find the centre, (C,), and at most `count` principal axes, (A, C), of features, (N, C): those along which they vary.

    In float64, so that what is kept in float32 does not depend on the number of threads.
    """
    centre = features.astype(np.float64).mean(axis=0)
    _, sizes, axes = np.linalg.svd(features - centre, full_matrices=False)
    axes = axes[:count][sizes[:count] > 1e-6 * max(sizes[0], 1e-12)]
    # A direction and its opposite are one axis: the largest component is positive.
    axes *= np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1))
    return centre.astype(np.float32), axes.astype(np.float32)


def edges_of(values: Float32) -> Float32:
    """Find the inner edges of a figure's bins, ascending, nine at most. values: (M,), of the reference images.

    They are the deciles that differ. One that is several deciles, a value that many images share, gets a bin of its own, from
    just below it, as far as float32 tells apart also where the processor takes the smallest numbers for 0. Any other is moved
    half-way to the next value that was seen, so that no image is counted otherwise for its last digit.
    """
    deciles = np.quantile(values, np.arange(1, BINS) / BINS, method="inverted_cdf")
    edges, times = np.unique(deciles, return_counts=True)
    shared = edges[times > 1]
    below = np.minimum(np.nextafter(shared, np.float32(-np.inf)), shared - np.finfo(np.float32).tiny)
    known = np.unique(values)
    following = known[np.minimum(np.searchsorted(known, edges) + 1, len(known) - 1)]
    between = edges + (following - edges) / 2
    moved = np.where((times == 1) & (between < following), between, edges)
    return np.union1d(moved, below).astype(np.float32)


def counts_of(values: Floats, edges: Floats) -> Int64:
    """Count the values up to the first edge, above each edge up to the next, and above the last. (len(edges) + 1,)."""
    return np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1).astype(np.int64)


def fit(
    training: Floats,
    calibration: Seen,
    truth: Ints,
    validation: Seen,
    axes: int,
    classes: int,
    level: float = LEVEL,
    effect: float = EFFECT,
) -> Fitted:
    """Fit the reference. training: (N, C) pooled features; truth: (M,), the calibration images' classes; axes: how many at most;
    level, effect: as `watch.psi` has them.
    """
    centre, found = axes_of(training, axes)
    here, there = (measure(seen.pictures, seen.pooled, seen.scores, centre, found) for seen in (calibration, validation))
    edges = tuple(edges_of(column) for column in here.T)
    counts = tuple(counts_of(column, own) for column, own in zip(here.T, edges, strict=True))
    reference = Reference(
        figures=(SCORE, *PICTURE, *(axis_name(number + 1) for number in range(len(found)))),
        edges=edges,
        counts=counts,
        class_counts=tuple(
            np.stack([counts_of(column[truth == k], own) for k in range(classes)])
            for column, own in zip(here.T, edges, strict=True)
        ),
        images=len(here),
        limit_quantiles=np.array([null_quantile(counted, len(edges), level) for counted in counts]),
        effect=effect,
        centre=centre,
        axes=found,
    )
    live = [counts_of(column, own) for column, own in zip(there.T, edges, strict=True)]
    moved = np.array([psi(counted, other) for counted, other in zip(counts, live, strict=True)])
    return Fitted(reference, moved, reference.limits(len(there)), len(there))
