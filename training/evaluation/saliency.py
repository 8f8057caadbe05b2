"""Heat maps against masks (the pointing game, the energy inside), and heat maps over pictures."""

from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from PIL import Image

from handlers.arrays import Bools, Float32, UInt8

COLOURS = "turbo"  # told apart from roofs, leaves and skin alike
STRONGEST = 0.55  # opacity where the heat map is 1; the picture stays readable under it
OUTLINE = (255, 0, 255)
DASH = 4
"""Pixels, black and white in turns, so that the line is seen on any picture."""
FULL_LOGITS = 20.0
"""Evidence in logits that is drawn at full strength, in every picture alike: of flagged roofs the peak was 10 to 33, of doubtful
ones 0.005 to 17 (EfficientNet-Lite0), which all looked the same when each was drawn by its own peak."""


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


def enlarge(heatmap: Float32, height: int, width: int) -> Float32:
    """Scale a heat map to a picture's size, bilinearly between the centres of its cells. (h, w) → (height, width) float32."""
    image = Image.fromarray(np.ascontiguousarray(heatmap, dtype=np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)


def strength(heatmap: Float32, peak: float | None) -> Float32:
    """Put a heat map on the fixed scale: 1 is FULL_LOGITS of evidence or more. (h, w) in [0, 1] → (h, w) in [0, 1].

    `peak`: the evidence in logits where the heat map is 1; None where it is not known, and the map stays on its own scale.
    """
    return heatmap if peak is None else np.minimum(heatmap * np.float32(peak / FULL_LOGITS), np.float32(1.0))


def overlay(image: UInt8, heatmap: Float32) -> UInt8:
    """Lay the heat map over the picture, the warmer the more opaque. image: (H, W, 3); heatmap: (h, w) → (H, W, 3) uint8."""
    heat = enlarge(heatmap, *image.shape[:2]).clip(0.0, 1.0)
    colour = colormaps[COLOURS](heat)[:, :, :3] * 255.0
    opacity = STRONGEST * heat[:, :, None]
    return np.asarray(np.rint(image * (1.0 - opacity) + colour * opacity), dtype=np.uint8)


def outline(image: UInt8, mask: Bools) -> UInt8:
    """Draw the mask's edge into the picture, one pixel wide outside. image: (H, W, 3); mask: (H, W)."""
    return np.where(_edge(mask)[:, :, None], np.array(OUTLINE, dtype=np.uint8), image)


def encircle(image: UInt8, heatmap: Float32) -> UInt8:
    """Draw in dashes around where the evidence is at least half of its peak, however weak that is. Shapes as of `overlay`."""
    heat = enlarge(heatmap, *image.shape[:2])
    turns = np.indices(heat.shape).sum(axis=0) // DASH % 2
    dashes = (255 * turns[:, :, None]).astype(np.uint8)
    return np.where(_edge((heat >= heat.max() / 2) & (heat > 0))[:, :, None], dashes, image)


def _edge(mask: Bools) -> Bools:
    """The pixels beside a mask, (H, W)."""
    padded = np.pad(mask, 1)
    near = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    return np.asarray(near & ~mask)
