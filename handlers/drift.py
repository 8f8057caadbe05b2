"""How one image differs from others, in a few figures, each counted into a bin of what calibration images had.

A pod remembers nothing: the bins of each answer are counted by who asks, and counts add up over pods, restarts and windows.
What they are compared with is the archive's `reference.npz`, which `training.evaluation.drift` fits.
"""

import io
import logging
import zipfile
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import ceil, sqrt
from pathlib import Path
from typing import Any, Self

import numpy as np

from handlers.arrays import Float32, Float64, Floats, Int64, Ints, UInt8
from handlers.errors import ArchiveBroken

logger = logging.getLogger(__name__)
REFERENCE = "reference.npz"
"""The file's name, in a run's folder as in an archive."""
RULE = 1
"""Number of the figures' formulas, which goes up with any change of them: bins of one rule cannot be held against another's."""
SCORE = "score"
PICTURE = ("brightness", "contrast", "sharpness", "saturation", "width", "height")
"""The figures of `describe`, in its order."""
BINS = 10
"""Bins that a figure has at most."""
SAMPLES = 56
"""Places along the picture's shorter side that are looked at, at most [224 x 224: every fourth; all take ten times as long]."""
EMPTY = 0.5
"""Images that each bin counts beside its own, so that an empty bin has a logarithm."""
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""ITU-R BT.601: shares of red, green and blue in what is seen as brightness."""
Rows = Floats | Sequence[Sequence[float]]
"""Figures of images, a row each."""


def axis_name(number: int) -> str:
    """Name the figure of a principal axis, the first of which is number 1."""
    return f"axis_{number:02}"


def pool(maps: Floats) -> Float32:
    """Compute the network's pooled features, the mean of each map. maps: (N, C, h, w) → (N, C) float32."""
    n, c, h, w = maps.shape
    # As a product it takes a quarter of the time of `mean` over two axes; of one image, the same sums come sooner by `dot`.
    flat = maps.reshape(n, c, h * w)
    pooled = flat[0].dot(_equal_parts(h * w))[None] if n == 1 else flat @ _equal_parts(h * w)
    return np.asarray(pooled, dtype=np.float32)


@cache
def _equal_parts(count: int) -> Float32:
    return np.full(count, 1 / count, dtype=np.float32)


def describe(pixels: UInt8, sides: tuple[int, int]) -> tuple[float, ...]:
    """Compute the figures of a picture, by the names of PICTURE. pixels: (H, W, 3) uint8 RGB, the network's input.

    `sides`: width and height of the upright picture itself. The others are of every s-th pixel of the network's input along both
    sides, s = min(H, W) / 56 rounded up. With Y = 0.299 R + 0.587 G + 0.114 B (BT.601) of each, and grey levels of 0 to 255:

    brightness  mean Y
    contrast    standard deviation σ of Y
    sharpness   mean of |G - G'|, G' being of the pixel one to the right and one below, divided by max(σ, 1): so that neither
                light nor contrast enters
    saturation  Σ (max(R, G, B) - min(R, G, B)) / Σ max(R, G, B), 0 for a black picture: light does not enter
    """
    step = ceil(min(pixels.shape[:2]) / SAMPLES)
    next_to = pixels[1::step, 1::step, 1]
    # Few calls, all on one array: after a network has been through the processor's cache, each call costs more than its numbers.
    # Sums of whole numbers are exact in float32: of a network's input of at most 1024 x 1024 they are below 2^24.
    rows = np.empty((7, *next_to.shape), dtype=np.float32)
    rows[:3] = pixels[:-1:step, :-1:step].transpose(2, 0, 1)
    rows[3] = next_to
    rows = rows.reshape(7, -1)  # R, G, B, |G - G'|, max(R, G, B), min(R, G, B), Y
    np.subtract(rows[1], rows[3], out=rows[3])
    np.abs(rows[3], out=rows[3])
    np.maximum.reduce(rows[:3], out=rows[4])
    np.minimum.reduce(rows[:3], out=rows[5])
    luma = LUMA.dot(rows[:3], out=rows[6])
    steps, lit, unlit, light = np.add.reduce(rows[3:], axis=1).tolist()
    places = luma.size
    brightness = light / places
    luma -= brightness
    contrast = sqrt(float(luma.dot(luma)) / places)
    return (brightness, contrast, steps / places / max(contrast, 1.0), (lit - unlit) / lit if lit else 0.0, *sides)


def measure(pictures: Rows, pooled: Floats, scores: Sequence[float] | Floats, centre: Float32, axes: Float32) -> Float32:
    """Compute the figures of N images, (N, F): score, those of `describe`, and along each axis (f - centre) · axis.

    pictures: N × (6,), of `describe`; pooled: (N, C), of `pool`; scores: (N,), what decides; centre: (C,); axes: (A, C).
    """
    own = 1 + len(PICTURE)
    values = np.empty((len(scores), own + len(axes)), dtype=np.float32)
    values[:, :own] = [(score, *one) for score, one in zip(scores, pictures, strict=True)]
    values[:, own:] = (pooled - centre).dot(axes.T)
    return values


def shares(counts: Ints | Floats) -> Floats:
    """Compute the bins' smoothed shares. (B,) or (N, B) → the same, (n_b + 0.5) / (N + 0.5 B)."""
    smoothed = np.asarray(counts, dtype=np.float64) + EMPTY
    return np.asarray(smoothed / smoothed.sum(axis=-1, keepdims=True))


@dataclass(frozen=True)
class Reference:
    """What images without drift are like, figure by figure.

    `figures`: (F) names, in the order of everything else; `edges`: of each, the ascending inner edges of its bins, float32, at
    most nine; `counts`: how many of the `images` reference images fell into each bin, one more than edges; `class_counts`: the
    same by true class, (K, bins) each. `centre`: (C,) and `axes`: (A, C), of the network's pooled features.

    Bin b holds values x with edges[b - 1] < x <= edges[b]. A value that many images share has a bin of its own, whose lower edge
    is the next smaller float32: so a figure that is always the same has three bins, below, same and above.

    A figure's PSI over N images is an alarm above limit_quantiles · (1/N + 1/images) + effect: `limit_quantiles`, (F,), of the
    null law at the level that all figures share out; `effect`, the least PSI beyond chance that is worth an alarm.
    """

    figures: tuple[str, ...]
    edges: tuple[Float32, ...]
    counts: tuple[Int64, ...]
    class_counts: tuple[Int64, ...]
    images: int
    limit_quantiles: Float64
    effect: float
    centre: Float32
    axes: Float32

    def bins(self, pictures: Rows, pooled: Floats, scores: Sequence[float] | Floats) -> list[tuple[int, ...]]:
        """Return the bin of each figure of N images. pictures: N × (6,), of `describe`; pooled: (N, C); scores: (N,)."""
        values = measure(pictures, pooled, scores, self.centre, self.axes)
        return [tuple(map(bisect_left, self._edges, row)) for row in values.tolist()]

    def limits(self, images: int) -> Float64:
        """Return each figure's limit for a window of so many images, (F,)."""
        return np.asarray(self.limit_quantiles * (1 / images + 1 / self.images) + self.effect)

    @cached_property
    def _edges(self) -> tuple["array[float]", ...]:
        """The edges in the form that one number is looked up in soonest."""
        return tuple(array("f", edges) for edges in self.edges)

    @property
    def arrays(self) -> dict[str, Any]:
        """What reference.npz holds of it: what has a bin or an edge in it is padded to ten bins, by 0 and by infinity."""
        edges = [np.pad(own, (0, BINS - 1 - len(own)), constant_values=np.inf) for own in self.edges]
        counts = [np.pad(counted, (0, BINS - len(counted))) for counted in self.counts]
        by_class = [np.pad(counted, ((0, 0), (0, BINS - counted.shape[1]))) for counted in self.class_counts]
        return {
            "rule": np.int64(RULE),
            "figures": np.array(self.figures),
            "edges": np.stack(edges),  # (F, 9) float32
            "counts": np.stack(counts),  # (F, 10) int64
            "class_counts": np.stack(by_class, axis=1),  # (K, F, 10) int64
            "images": np.int64(self.images),
            "limit_quantiles": self.limit_quantiles,  # (F,) float64
            "effect": np.float64(self.effect),
            "centre": self.centre,
            "axes": self.axes,
        }

    @classmethod
    def read(cls, source: bytes | Path) -> Self | None:
        """Read reference.npz, its bytes or its path; None where it has no figures that this code counts: it is of an archive from
        before figures were counted, or of another rule. Such an archive is served as ever, without figures.

        Raises ArchiveBroken where it cannot be read or its arrays do not fit each other.
        """
        if isinstance(source, Path) and not source.exists():
            return None
        try:
            with np.load(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
                if "figures" not in file:
                    return None
                rule = int(file["rule"]) if "rule" in file else 1  # the first archives with figures have no number
                if rule != RULE:
                    logger.warning(
                        "%s has images' figures by rule %d and this version of visor by rule %d: none are counted; serve it "
                        "with the version that built it to see drift",
                        REFERENCE,
                        rule,
                        RULE,
                    )
                    return None
                return cls._of(file)
        except (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, zipfile.BadZipFile) as err:
            raise ArchiveBroken(f"reference.npz cannot be read: {err}; build the archive again") from err

    @classmethod
    def _of(cls, file: Any) -> Self:
        figures = tuple(str(name) for name in file["figures"])
        table, counts, by_class = file["edges"], file["counts"], file["class_counts"]
        centre, axes, quantiles = file["centre"], file["axes"], file["limit_quantiles"]
        wanted = (SCORE, *PICTURE, *(axis_name(number + 1) for number in range(len(axes))))
        many = len(wanted)
        shapes = (table.shape, counts.shape, by_class.shape[1:], quantiles.shape, axes.shape)
        if figures != wanted or shapes != ((many, BINS - 1), (many, BINS), (many, BINS), (many,), (len(axes), len(centre))):
            raise ValueError(f"figures {figures} and arrays of {shapes} do not fit each other")
        lengths = [int(np.isfinite(row).sum()) for row in table]
        return cls(
            figures,
            tuple(row[:length].astype(np.float32) for row, length in zip(table, lengths, strict=True)),
            tuple(row[: length + 1].astype(np.int64) for row, length in zip(counts, lengths, strict=True)),
            tuple(by_class[:, n, : length + 1].astype(np.int64) for n, length in enumerate(lengths)),
            int(file["images"]),
            quantiles.astype(np.float64),
            float(file["effect"]),
            centre.astype(np.float32),
            axes.astype(np.float32),
        )
