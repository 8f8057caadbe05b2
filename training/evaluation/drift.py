"""What images without drift look like to the network: axes, deciles, and whether validation images already seem to drift.

Axes come from training images and deciles from calibration images: both from the same ones would give false alarms
(docs/decisions-log/drift-by-psi.md).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import chi2

from handlers.arrays import Float32, Float64, Floats

LEVEL = 0.01
"""Chance of an alarm on any axis where nothing drifts."""
BINS = 10


@dataclass(frozen=True)
class Reference:
    """The drift reference. `centre`: (C,) and `axes`: (A, C), of training images; `deciles`: (A, 9), of calibration images along
    each axis, ascending; `psi`: (A,), of the validation images; `limit`: what the largest of them exceeds with chance LEVEL where
    nothing drifts.

    A picture's features f have the coordinates (f - centre) @ axes.T.
    """

    centre: Float32
    axes: Float32
    deciles: Float32
    psi: Float32
    limit: float
    images: int
    validation_images: int

    @property
    def arrays(self) -> dict[str, Any]:
        """What reference.npz holds of it."""
        limit = np.float32(self.limit)
        return {"centre": self.centre, "axes": self.axes, "deciles": self.deciles, "psi": self.psi, "psi_limit": limit}

    @property
    def summary(self) -> dict[str, Any]:
        """What metrics.json says of it."""
        return {
            "axes": len(self.axes),
            "images": self.images,
            "validation_images": self.validation_images,
            "largest_psi": round(float(self.psi.max(initial=0.0)), 6),
            "limit": round(self.limit, 6),
        }

    @property
    def notes(self) -> list[str]:
        """A warning where validation images look like drift, before any live image was seen."""
        if self.psi.max(initial=0.0) <= self.limit:
            return []
        told = f"PSI {self.psi.max():.3f}, above the {self.limit:.3f} of images that are alike"
        return [f"Drift reference: validation images differ from calibration images ({told}); do groups of images explain it?"]


def fit(training: Floats, calibration: Floats, validation: Floats, count: int) -> Reference:
    """Fit the reference from pooled features, (N, C) of each split: at most `count` principal axes, those that vary.

    In float64, so that what is kept in float32 does not depend on the number of threads.
    """
    centre = training.astype(np.float64).mean(axis=0)
    _, sizes, axes = np.linalg.svd(training - centre, full_matrices=False)
    axes = axes[:count][sizes[:count] > 1e-6 * max(sizes[0], 1e-12)]
    # A direction and its opposite are one axis: the largest component is positive.
    axes *= np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1))
    here, there = (calibration - centre) @ axes.T, (validation - centre) @ axes.T  # (M, A), (N, A)
    deciles = np.quantile(here, np.linspace(0, 1, BINS + 1)[1:-1], axis=0).T
    found = [
        psi(counts(column, edges), counts(other, edges)) for column, other, edges in zip(here.T, there.T, deciles, strict=True)
    ]
    return Reference(
        centre.astype(np.float32),
        axes.astype(np.float32),
        deciles.astype(np.float32),
        np.array(found, dtype=np.float32),
        limit(len(here), len(there), max(len(axes), 1)),
        len(here),
        len(there),
    )


def counts(values: Floats, edges: Floats) -> Float64:
    """Count the values below the first edge, from each edge up to the next, and from the last on. (len(edges) + 1,)."""
    return np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1).astype(np.float64)


def psi(reference: Floats, live: Floats) -> float:
    """Compute the population stability index of two counts by bin, Σ (q - p) ln(q / p); an empty bin counts half an image."""
    p, q = (np.maximum(counted, 0.5) / max(counted.sum(), 1.0) for counted in (reference, live))
    return float(((q - p) * np.log(q / p)).sum())


def limit(reference: int, live: int, axes: int) -> float:
    """Return what the largest PSI of `axes` axes exceeds with chance LEVEL at most, without drift.

    PSI follows χ²(9) (1/N + 1/M) (Yurdakul 2018); the chance is shared out among the axes (Bonferroni).
    """
    return float(chi2.isf(LEVEL / axes, BINS - 1) * (1 / reference + 1 / live))
