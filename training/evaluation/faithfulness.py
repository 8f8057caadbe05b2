"""How good heat maps are where no mask says what they should show: by what the network itself does.

Deletion and insertion: Petsiuk, Das, Saenko: RISE, BMVC 2018, section 4.3. Sanity check by randomised weights: Adebayo et
al.: Sanity Checks for Saliency Maps, NeurIPS 2018, section 3.1.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageFilter
from scipy.stats import spearmanr

from drawing.heat import enlarge
from handlers import decision, gradcam
from handlers.arrays import Float32, Float64, Int64, UInt8
from handlers.backends import Backend
from handlers.decode import to_batch
from handlers.spec import Spec

STEPS = 10
BLUR = 0.05
"""Standard deviation of the blur that insertion starts from, as a fraction of the shorter side: RISE's 11 of 224 pixels."""


@dataclass(frozen=True)
class Curves:
    """Probability of the explained class after each of STEPS + 1 steps, (STEPS + 1,) each, from no change to all."""

    deletion: Float64
    insertion: Float64

    @property
    def deletion_auc(self) -> float:
        """Area under the deletion curve, from 0 to 1; the lower, the more the class rests on what the map shows first."""
        return area(self.deletion)

    @property
    def insertion_auc(self) -> float:
        """Area under the insertion curve, from 0 to 1; the higher, the sooner what the map shows first brings the class back."""
        return area(self.insertion)


def area(curve: Float64) -> float:
    """Compute the area under a curve by trapezoids, over a width of 1. curve: (M,), evenly spaced."""
    return float(np.trapezoid(curve, dx=1.0 / (len(curve) - 1)))


def remove(image: UInt8, heatmap: Float32, fill: UInt8, steps: int = STEPS) -> list[UInt8]:
    """Replace ever more of the image's pixels by `fill`'s, the warmest first: steps + 1 images, the first untouched.

    image, fill: (H, W, 3) uint8; heatmap: (h, w). Pixels as warm as each other go from the top left on.
    """
    height, width = image.shape[:2]
    order = np.argsort(-enlarge(heatmap, height, width).ravel(), kind="stable")
    flat, other, images = image.reshape(-1, 3).copy(), fill.reshape(-1, 3), [image]
    for start, end in zip(_cuts(len(order), steps)[:-1], _cuts(len(order), steps)[1:], strict=True):
        flat[order[start:end]] = other[order[start:end]]
        images.append(flat.reshape(image.shape).copy())
    return images


def curves(image: UInt8, heatmap: Float32, target: int, backend: Backend, spec: Spec) -> Curves:
    """Delete the warmest pixels first, to the network's mean colour; insert them into the blurred image. image: (H, W, 3)."""
    colour = np.rint(np.array(spec.preprocessing.mean) * 255.0).clip(0, 255).astype(np.uint8)
    radius = BLUR * min(image.shape[:2])
    blurred = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)), dtype=np.uint8)
    deleted = remove(image, heatmap, np.broadcast_to(colour, image.shape))
    inserted = remove(blurred, heatmap, image)
    logits, _ = backend.infer(to_batch(deleted + inserted, spec.preprocessing))
    probs = decision.calibrated(logits, spec)[:, target].astype(np.float64)
    return Curves(probs[: len(deleted)], probs[len(deleted) :])


def shuffled(weights: Mapping[str, torch.Tensor], head_only: bool, seed: int = 0) -> dict[str, torch.Tensor]:
    """Shuffle the numbers within each tensor of the weights: what was learnt is gone, their sizes stay.

    `head_only`: the last layer alone, the first step of Adebayo's cascade.
    """
    generator = torch.Generator().manual_seed(seed)

    def shuffle(value: torch.Tensor) -> torch.Tensor:
        return value.flatten()[torch.randperm(value.numel(), generator=generator)].reshape(value.shape)

    return {
        name: shuffle(value) if value.is_floating_point() and (not head_only or name.startswith("head.")) else value
        for name, value in weights.items()
    }


def heatmaps(images: list[UInt8], targets: Int64, backend: Backend, spec: Spec, batch: int = 32) -> Float32:
    """Compute the heat maps of these classes, (N, h, w), as they are served. images: N of (H, W, 3); targets: (N,)."""
    found = []
    for start in range(0, len(images), batch):
        _, maps = backend.infer(to_batch(images[start : start + batch], spec.preprocessing))
        found.append(gradcam.gradcam(maps, backend.head, targets[start : start + batch]))
    return np.concatenate(found)


def rank_correlation(one: Float32, other: Float32) -> float | None:
    """Compute Spearman's rank correlation over the places of two maps, (h, w) each; None where a map is flat."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(spearmanr(one.ravel(), other.ravel()).statistic)


def _cuts(total: int, steps: int) -> list[int]:
    return [round(total * step / steps) for step in range(steps + 1)]
