"""Heat maps over pictures: their size, their scale of evidence, their colours, and lines around what speaks most."""

import numpy as np
from PIL import Image

from drawing.colours import TURBO
from handlers.arrays import Bools, Float32, UInt8

STRONGEST = 0.55  # opacity where the heat map is 1; the picture stays readable under it
OUTLINE = (255, 0, 255)
DASH = 4
"""Pixels, black and white in turns, so that the line is seen on any picture."""
FULL_LOGITS = 20.0
"""Evidence in logits that is drawn at full strength, in every picture alike: of flagged roofs the peak was 10 to 33, of doubtful
ones 0.005 to 17 (EfficientNet-Lite0), which all looked the same when each was drawn by its own peak."""


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
    colour = TURBO[np.minimum((heat * 256).astype(np.intp), 255)]
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
