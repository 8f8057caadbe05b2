"""The closed form against arithmetic, and against Grad-CAM as its paper writes it, by autograd, on every network."""

import copy

import numpy as np
import pytest
import torch

from handlers.gradcam import evidence, gradcam, scale
from handlers.networks import NETWORKS, Classifier, build


def autograd_gradcam(model: Classifier, images: torch.Tensor, targets: list[int]) -> np.ndarray:
    """Selvaraju et al. 2017, eq. 1 and 2, image by image: gradient, its mean over space, weighted sum, ReLU; in float64."""
    with torch.no_grad():
        features = model.features(images).double()
    precise = copy.deepcopy(model).double()
    heatmaps = []
    for image, target in zip(features, targets, strict=True):
        maps = image[None].requires_grad_(True)
        (gradient,) = torch.autograd.grad(precise.classify(maps)[0, target], maps)
        alpha = gradient.mean(dim=(2, 3))
        heatmap = torch.relu(sum(alpha[0, k] * maps[0, k] for k in range(maps.shape[1])))
        peak = heatmap.max()
        heatmaps.append((heatmap / peak if peak > 0 else heatmap).detach().numpy())
    return np.stack(heatmaps)


@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_closed_form_is_autograds_gradcam(network):
    torch.manual_seed(3)
    model = build(network, classes=4).eval()
    torch.nn.init.normal_(model.head.weight)
    images, targets = torch.randn(3, 3, 64, 96), [2, 0, 3]
    with torch.inference_mode():
        _, maps = model(images)
    closed = gradcam(maps.numpy(), model.head.weight.detach().numpy(), np.array(targets))
    assert closed.dtype == np.float32
    assert closed.shape == (3, *maps.shape[2:])
    assert closed.max() == 1.0
    np.testing.assert_allclose(closed, autograd_gradcam(model, images, targets), atol=1e-5)


MAPS = np.array([[[[1.0, 2.0], [0.0, 4.0]], [[1.0, 0.0], [3.0, 1.0]]]])  # (1, 2, 2, 2)
WEIGHT = np.array([[1.0, -1.0], [2.0, 1.0], [-1.0, -1.0]])  # (3, 2)


def test_two_by_two_by_hand():
    # class 0: A0 - A1 = [[0, 2], [-3, 3]], ReLU, over its maximum 3
    np.testing.assert_allclose(gradcam(MAPS, WEIGHT, np.array([0])), [[[0, 2 / 3], [0, 1]]], rtol=1e-6)


def test_the_evidence_is_in_logits_and_of_a_mean_of_heads():
    # class 0: [[0, 2], [-3, 3]], of mean 0.5, the logit without its bias; ReLU
    np.testing.assert_array_equal(evidence(MAPS, WEIGHT[:1]), [[[0, 2], [0, 3]]])
    assert MAPS.mean(axis=(2, 3))[0] @ WEIGHT[0] == 0.5
    # three quarters of class 0 and one of class 1: [[0, 2], [-3, 3]] * 0.75 + [[3, 4], [3, 9]] * 0.25
    shares = np.array([[0.75, 0.25, 0.0]])
    np.testing.assert_allclose(evidence(MAPS, shares @ WEIGHT), [[[0.75, 2.5], [0.0, 4.5]]])


def test_each_item_has_its_own_target():
    # class 1: 2 A0 + A1 = [[3, 4], [3, 9]]
    both = gradcam(np.repeat(MAPS, 2, axis=0), WEIGHT, np.array([1, 0]))
    np.testing.assert_allclose(both, [[[3 / 9, 4 / 9], [3 / 9, 1]], [[0, 2 / 3], [0, 1]]], rtol=1e-6)


def test_negative_evidence_alone_gives_zeros_and_no_warning():
    heatmap = gradcam(MAPS, WEIGHT, np.array([2]))
    assert heatmap.shape == (1, 2, 2)
    assert not heatmap.any()


def test_each_map_is_scaled_by_its_own_maximum():
    np.testing.assert_allclose(scale(np.array([[[1.0, 2.0]], [[-1.0, 10.0]]])), [[[0.5, 1.0]], [[0.0, 1.0]]])
