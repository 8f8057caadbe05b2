"""Grad-CAM (Selvaraju et al. 2017) for networks that end in global average pooling and a linear layer."""

import numpy as np

from handlers.arrays import Float32, Floats, Ints


def gradcam(maps: Floats, weight: Floats, targets: Ints) -> Float32:
    """Compute heat maps in closed form, without a backward pass.

    For y_c = w_c · GAP(A) + b the gradient dy_c/dA_k is w_ck / (h w) everywhere, so Grad-CAM's weights alpha_k (eq. 1)
    are w_ck / (h w) and its map (eq. 2) is ReLU(sum_k w_ck A_k) up to that constant, which the scaling to [0, 1] removes.

    maps: (N, C, h, w), the input of the pooling; weight: (K, C), the linear layer's; targets: (N,), a class per item.
    Returns (N, h, w) float32 in [0, 1], the maximum 1 where any evidence is positive, else all 0.
    """
    n, c, h, w = maps.shape
    weights = weight[targets].astype(np.float32, copy=False)[:, None, :]  # (N, 1, C)
    return scale(np.matmul(weights, maps.astype(np.float32, copy=False).reshape(n, c, h * w)).reshape(n, h, w))


def scale(raw: Floats) -> Float32:
    """Apply ReLU, then divide each map by its own maximum. raw: (N, h, w) → (N, h, w) float32 in [0, 1]."""
    positive = np.maximum(raw, 0.0)
    peak = positive.max(axis=(1, 2), keepdims=True)
    return np.asarray(np.divide(positive, peak, out=np.zeros_like(positive), where=peak > 0), dtype=np.float32)
