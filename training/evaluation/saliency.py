"""Heat maps against masks the pointing game and the energy inside."""

from dataclasses import dataclass

import numpy as np

from drawing.heat import enlarge
from handlers.arrays import Bools, Float32


@dataclass(frozen=True)
class PointingGame:
    """The pointing game's result: how often the heat map's maximum fell on the mask.

    `tolerance` is a fraction of the shorter side.
    """

    hits: int
    images: int
    tolerance: float

    def summary(self) -> dict[str, float | int | None]:
        """Return what metrics.json holds. `score` is hits / (hits + misses), null without images."""
        return {
            "score": self.hits / self.images if self.images else None,
            "hits": self.hits,
            "images": self.images,
            "tolerance": self.tolerance,
        }


def points_inside(heatmap: Float32, mask: Bools, tolerance: float) -> bool:
    """Tell whether the heat map's maximum is on the mask or within `tolerance` of it: a hit of the pointing game.

    Zhang et al.: Top-down Neural Attention by Excitation Backprop, ECCV 2016, section 4.1, where the tolerance is 15 pixels.
    heatmap: (h, w) in [0, 1], scaled up to the mask bilinearly; mask: (H, W), of the same view; tolerance: a fraction of
    the mask's shorter side, the radius of the disc that dilates it. A heat map of zeros points nowhere and misses.
    """
    if not mask.any() or not heatmap.any():
        return False
    height, width = mask.shape
    peak = np.unravel_index(enlarge(heatmap, height, width).argmax(), mask.shape)
    distances = np.hypot(*(np.argwhere(mask) - np.array(peak)).T)
    return bool(distances.min() <= tolerance * min(height, width))


def energy_inside(heatmap: Float32, mask: Bools) -> float:
    """Compute the share of the heat map that lies on the mask, 0 for a map of zeros.

    Wang et al.: Score-CAM, CVPRW 2020, section 4.3.

    heatmap: (h, w) in [0, 1], scaled up to the mask bilinearly; mask: (H, W), of the same view.
    """
    heat = enlarge(heatmap, *mask.shape).astype(np.float64)
    return float(heat[mask].sum() / heat.sum()) if heat.any() else 0.0


def chance_inside(mask: Bools, tolerance: float, probes: int = 16) -> float:
    """Estimate how often a random point would hit in the pointing game, by probes x probes points, evenly spaced."""
    height, width = mask.shape
    y, x = ((np.arange(probes) + 0.5) * (side / probes) - 0.5 for side in mask.shape)
    points = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 1, 2)
    distances = np.hypot(*np.moveaxis(points - np.argwhere(mask), -1, 0)).min(axis=1)
    return float((distances <= tolerance * min(height, width)).mean())
