"""The losses against torch's, torchvision's and a naive loop; class weights by arithmetic."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torchvision.ops import sigmoid_focal_loss

from training.errors import DataError
from training.fitting.losses import Loss, class_weights

RNG = torch.Generator().manual_seed(0)
LOGITS = 3 * torch.randn(12, 4, generator=RNG)
LABELS = torch.arange(12) % 4
WEIGHT = torch.tensor([0.3, 1.0, 2.0, 0.7])
MIXED = torch.softmax(torch.randn(12, 4, generator=RNG), dim=1)


def naive(logits, targets, weight, gamma, smoothing):
    """Image by image and class by class, in Python's floats."""
    total = scale = 0.0
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        peak = max(row)
        sum_exp = sum(math.exp(value - peak) for value in row)
        for c, value in enumerate(row):
            log_p = value - peak - math.log(sum_exp)
            smooth = (1 - smoothing) * target[c] + smoothing / len(row)
            total -= weight[c] * smooth * (1 - math.exp(log_p)) ** gamma * log_p
            scale += weight[c] * target[c]
    return total / scale


@pytest.mark.parametrize("gamma", [0, 0.5, 2])
@pytest.mark.parametrize("smoothing", [0, 0.1])
def test_whole_and_mixed_labels_are_as_in_a_naive_loop(gamma, smoothing):
    loss = Loss(WEIGHT, gamma, smoothing)
    whole = torch.eye(4)[LABELS]
    assert loss.mean(LOGITS, LABELS).item() == pytest.approx(naive(LOGITS, whole, WEIGHT.tolist(), gamma, smoothing), rel=1e-6)
    assert loss.mean(LOGITS, MIXED).item() == pytest.approx(naive(LOGITS, MIXED, WEIGHT.tolist(), gamma, smoothing), rel=1e-6)


def test_without_focus_it_is_torchs_cross_entropy():
    assert torch.equal(Loss(WEIGHT, 0, 0.1).mean(LOGITS, LABELS), cross_entropy(LOGITS, LABELS, WEIGHT, label_smoothing=0.1))
    even = Loss(torch.ones(4), 0, 0.1).mean(LOGITS, MIXED)
    assert even.item() == pytest.approx(cross_entropy(LOGITS, MIXED, label_smoothing=0.1).item(), rel=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 1, 2, 5])
def test_of_two_classes_it_is_torchvisions_focal_loss(gamma):
    # softmax([0, x]) is sigmoid(x); torchvision's gradient is another implementation's too.
    margin = torch.linspace(-6, 6, 20, dtype=torch.float64, requires_grad=True)
    labels = torch.arange(20) % 2
    ours = Loss(torch.ones(2, dtype=torch.float64), gamma).mean(torch.stack([torch.zeros_like(margin), margin], 1), labels)
    theirs = sigmoid_focal_loss(margin, labels.double(), alpha=-1, gamma=gamma, reduction="mean")
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-6)
    (our_gradient,), (their_gradient,) = torch.autograd.grad(ours, margin), torch.autograd.grad(theirs, margin)
    np.testing.assert_allclose(our_gradient, their_gradient, atol=1e-6)


def test_focus_makes_sure_answers_count_less_and_none_breaks_the_gradient():
    logits = torch.tensor([[100.0, -100.0], [-100.0, 100.0]], requires_grad=True)
    loss = Loss(torch.ones(2), 0.5).mean(logits, torch.tensor([0, 0]))
    assert loss.item() == pytest.approx(100)  # (0 + 200) / 2
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(gradient).all()


def test_balanced_weights_give_every_class_the_same_sum():
    labels = np.array([0] * 6 + [1] * 3 + [2])
    assert class_weights(labels, 3, "balanced").tolist() == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    assert class_weights(labels, 3, "none").tolist() == class_weights(labels, 3, "sampled").tolist() == [1, 1, 1]


def test_a_class_without_images_is_named():
    with pytest.raises(DataError, match="class 1, 3 of 4"):
        class_weights(np.array([0, 2, 2]), 4, "balanced")
