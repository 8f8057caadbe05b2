"""A heat map as it was answered, with what is needed to draw it."""

from dataclasses import dataclass

import numpy as np

from handlers.arrays import Float32
from handlers.spec import WHOLE, Box


@dataclass(frozen=True, eq=False)
class HeatMap:
    """A heat map as it was answered. `values`: (h, w) in [0, 1]; `label`: whose evidence it shows most.

    `box`: the part of the upright picture that it shows: x, y, width and height as shares of the picture's sides. `peak`: the
    evidence in logits where it is 1, None where an older server does not say it.
    """

    values: Float32
    label: str
    box: Box = WHOLE
    peak: float | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HeatMap):
            return NotImplemented
        facts = ((one.label, one.box, one.peak) for one in (self, other))
        return np.array_equal(self.values, other.values) and next(facts) == next(facts)

    __hash__ = None  # type: ignore[assignment]  # as an array has none
