"""Grad-CAM (Selvaraju et al. 2017) for networks that end in global average pooling and a linear layer."""

import numpy as np

from handlers.arrays import Float32, Floats, Ints


def evidence(maps: Floats, heads: Floats) -> Float32:
    """Compute the positive evidence of each place, in the network's own logits, in closed form, without a backward pass.

    For y_c = w_c · GAP(A) + b the gradient dy_c/dA_k is w_ck / (h w) everywhere, so Grad-CAM's weights alpha_k (eq. 1)
    are w_ck / (h w) and its map (eq. 2) is ReLU(sum_k w_ck A_k) up to that constant. Without the constant, the mean of
    sum_k w_ck A_k over all places is the logit less its bias, so a place's value is what the logit would be if all places were
    like it.

    maps: (N, C, h, w), the input of the pooling; heads: (N, C), an item's row of the linear layer, or a mean of rows.
    Returns (N, h, w) float32, 0 or more.
    """
    n, c, h, w = maps.shape
    rows = heads.astype(np.float32, copy=False)[:, None, :]  # (N, 1, C)
    raw = np.matmul(rows, maps.astype(np.float32, copy=False).reshape(n, c, h * w)).reshape(n, h, w)
    return np.asarray(np.maximum(raw, 0.0), dtype=np.float32)


def gradcam(maps: Floats, weight: Floats, targets: Ints) -> Float32:
    """Compute the heat maps of one class for each item. weight: (K, C), the linear layer's; targets: (N,), a class per item.

    Returns (N, h, w) float32 in [0, 1], the maximum 1 where any evidence is positive, else all 0.
    """
    return scale(evidence(maps, weight[targets]))


def scale(raw: Floats) -> Float32:
    """Apply ReLU, then divide each map by its own maximum. raw: (N, h, w) → (N, h, w) float32 in [0, 1]."""
    positive = np.maximum(raw, 0.0)
    peak = positive.max(axis=(1, 2), keepdims=True)
    return np.asarray(np.divide(positive, peak, out=np.zeros_like(positive), where=peak > 0), dtype=np.float32)
