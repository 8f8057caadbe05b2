"""Drift references for tests, whose bins are said and not fitted."""

from collections.abc import Sequence

import numpy as np

from handlers.drift import PICTURE, SCORE, Reference, axis_name


def make_reference(counts: Sequence[Sequence[int]], *, effect: float = 0.1) -> Reference:
    """Make a reference of as many figures as `counts` has rows (seven or more), each the reference images by bin of a figure.

    Of figure n, edges are 0, 1, 2, ... and the quantile is 20 + n. Axes are those of the first features of `small_cnn`.
    """
    axes = len(counts) - 1 - len(PICTURE)
    return Reference(
        figures=(SCORE, *PICTURE, *(axis_name(number + 1) for number in range(axes))),
        edges=tuple(np.arange(len(row) - 1, dtype=np.float32) for row in counts),
        counts=tuple(np.array(row) for row in counts),
        class_counts=tuple(np.array([row]) for row in counts),
        images=sum(counts[0]),
        limit_quantiles=20.0 + np.arange(len(counts)),
        effect=effect,
        centre=np.zeros(128, np.float32),
        axes=np.eye(axes, 128, dtype=np.float32),
    )


LARGEST = make_reference([[24] * 10] * 19)
"""Of as many figures and bins as a reference has at most."""
