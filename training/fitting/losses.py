"""What a training minimises: cross-entropy or focal loss, weighted by class, of whole labels or mixed ones."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, one_hot

from handlers.arrays import Int64
from training.errors import DataError

SURE = 1e-7
"""The least 1 - p that is told from 0: below it, a power under 1 has a gradient without bound."""


@dataclass(frozen=True)
class Loss:
    """A weighted mean over images. weight: (K,) float32; `gamma`: of the focal loss, 0 for cross-entropy.

    `smoothing`: the part of each target that is spread over all classes evenly (Szegedy et al. 2016, section 7).
    """

    weight: Tensor
    gamma: float = 0.0
    smoothing: float = 0.0

    def mean(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the mean loss, the sum over images divided by the sum of their weights: a scalar.

        An image costs -sum_c w_c y_c (1 - p_c)^gamma log p_c, for one class of weight 1 the focal loss of Lin et al. 2017,
        eq. 4. logits: (N, K) float32; targets: (N,) int64, or (N, K) float32, rows that sum to 1, as mixing makes them.
        """
        if self.gamma == 0 and targets.ndim == 1:
            return cross_entropy(logits, targets, self.weight, label_smoothing=self.smoothing)
        classes = logits.shape[1]
        whole = one_hot(targets, classes).to(logits.dtype) if targets.ndim == 1 else targets  # (N, K)
        smooth = whole * (1 - self.smoothing) + self.smoothing / classes
        log_p = log_softmax(logits, dim=1)
        unsure = (-torch.expm1(log_p)).clamp(min=SURE) ** self.gamma
        return -(self.weight * smooth * unsure * log_p).sum() / (whole @ self.weight).sum()


def class_weights(labels: Int64, classes: int, kind: str) -> Tensor:
    """Compute class weights, (K,) float32: all 1, or if "balanced" N / (K n_k), so that all count alike (King & Zeng 2001)."""
    counts = np.bincount(labels, minlength=classes)
    if missing := [str(label) for label in np.flatnonzero(counts == 0)]:
        raise DataError(f"no training image has class {', '.join(missing)} of {classes}; add some, or change data.splits")
    balanced = len(labels) / (classes * counts)
    return torch.tensor(balanced if kind == "balanced" else np.ones(classes), dtype=torch.float32)
