"""A drift reference by hand."""

import numpy as np

from handlers.drift import PICTURE, SCORE, Reference

BELOW = np.nextafter(np.float32(64), np.float32(0))
EDGES = {
    SCORE: [0.25, 0.5],
    "brightness": [10, 20],
    "contrast": [10, 20],
    "sharpness": [0.5],
    "saturation": [0.25, 0.5],
    "width": [BELOW, 64],
    "height": [BELOW, 64],
    "axis_01": [-1, 1],
    "axis_02": [-1, 1],
}
SPREAD = {1: [6, 6], 2: [4, 4, 4]}


def make_reference() -> Reference:
    """Twelve images, half of each of two classes, 64 pixels wide and high; features of three, along the first two of them."""
    assert tuple(EDGES)[:7] == (SCORE, *PICTURE)
    counts = tuple(np.array([0, 12, 0] if name in ("width", "height") else SPREAD[len(edges)]) for name, edges in EDGES.items())
    return Reference(
        figures=tuple(EDGES),
        edges=tuple(np.array(edges, dtype=np.float32) for edges in EDGES.values()),
        counts=counts,
        class_counts=tuple(np.stack([counted // 2, counted // 2]) for counted in counts),
        images=12,
        limit_quantiles=np.arange(5.0, 14.0),
        effect=0.1,
        centre=np.zeros(3, dtype=np.float32),
        axes=np.eye(3, dtype=np.float32)[:2],
    )
