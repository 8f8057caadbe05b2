"""Deletion and insertion on a network whose answer is arithmetic; ranks by counting, areas against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import auc

from tests.unit.networks import random_network, write_weights
from tests.unit.specs import make_spec
from training.evaluation.faithfulness import STEPS, area, curves, heatmaps, rank_correlation, remove, shuffled


class Counter:
    """A network whose logit for "red" is the share of white pixels in the left upper quarter, on a steep scale."""

    head = np.zeros((2, 1), dtype=np.float32)

    def infer(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        share = (batch[:, 0, :4, :4] > 0.95).mean(axis=(1, 2))
        logits = np.stack([8 * share - 4, -(8 * share - 4)], axis=1).astype(np.float32)
        return logits, np.ones((len(batch), 1, 1, 1), dtype=np.float32)


SPEC = make_spec(("red", "calm"))


def test_removing_goes_from_the_warmest_on():
    image, fill = np.full((2, 2, 3), 255, np.uint8), np.zeros((2, 2, 3), np.uint8)
    steps = remove(image, np.array([[0.1, 0.9], [0.9, 0.2]], dtype=np.float32), fill, steps=4)
    assert [(step[:, :, 0] == 0).astype(int).tolist() for step in steps] == [
        [[0, 0], [0, 0]],
        [[0, 1], [0, 0]],
        [[0, 1], [1, 0]],
        [[0, 1], [1, 1]],
        [[1, 1], [1, 1]],
    ]
    assert (image == 255).all()


def test_a_map_of_the_evidence_deletes_early():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:4, :4] = 255
    right, wrong = np.zeros((2, 2), np.float32), np.zeros((2, 2), np.float32)
    right[0, 0] = wrong[1, 1] = 1
    good, bad = curves(image, right, 0, Counter(), SPEC), curves(image, wrong, 0, Counter(), SPEC)
    for one in (good, bad):
        assert len(one.deletion) == len(one.insertion) == STEPS + 1
        assert one.deletion[0] == one.insertion[-1] == pytest.approx(1 / (1 + np.exp(-8)))
        assert one.deletion[-1] == pytest.approx(1 / (1 + np.exp(8)))
    # the quarter is gone after 3 of 10 steps of 6.4 pixels: what is left of its 16 pixels is 16, 10, 3, 0, ...
    left = np.array([16, 10, 3] + [0] * 8) / 16
    np.testing.assert_allclose(good.deletion, 1 / (1 + np.exp(-(16 * left - 8))), atol=1e-6)
    assert good.deletion_auc < 0.3 < bad.deletion_auc


def test_a_map_of_the_evidence_inserts_early():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:4:2, :4:2] = image[1:4:2, 1:4:2] = 255  # dots that the blur takes the white from
    right, wrong = np.zeros((2, 2), np.float32), np.zeros((2, 2), np.float32)
    right[0, 0] = wrong[1, 1] = 1
    good, bad = (curves(image, heatmap, 0, Counter(), SPEC) for heatmap in (right, wrong))
    assert good.insertion[0] == bad.insertion[0] == pytest.approx(1 / (1 + np.exp(8)))
    assert good.insertion[-1] == bad.insertion[-1] == pytest.approx(0.5)  # 8 of 16 pixels are white
    assert good.insertion_auc > bad.insertion_auc + 0.2


def test_areas_are_scikit_learns_and_ranks_are_counted():
    rng = np.random.default_rng(0)
    curve = rng.random(11)
    assert area(curve) == pytest.approx(auc(np.linspace(0, 1, 11), curve), abs=1e-9)
    one, other = np.round(rng.random((5, 5)), 1).astype(np.float32), rng.random((5, 5)).astype(np.float32)
    ranks = [[(flat < v).sum() + ((flat == v).sum() - 1) / 2 for v in flat] for flat in (one.ravel(), other.ravel())]
    assert rank_correlation(one, other) == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-9)
    assert rank_correlation(np.zeros((2, 2), np.float32), one) is None


def test_shuffling_keeps_each_tensors_numbers_and_is_the_same_again():
    weights = random_network("small_cnn", 3, 8, 8).state_dict()
    whole, head = shuffled(weights, head_only=False), shuffled(weights, head_only=True)
    for name, value in weights.items():
        assert torch.equal(whole[name].flatten().sort().values, value.flatten().sort().values)
        assert torch.equal(head[name], value) == (not name.startswith("head."))
    assert not torch.equal(whole["stages.0.0.weight"], weights["stages.0.0.weight"])
    assert all(torch.equal(value, shuffled(weights, head_only=False)[name]) for name, value in whole.items())


def test_heat_maps_are_the_served_ones(tmp_path):
    from handlers.backends import TorchBackend
    from handlers.predictor import Item, predict

    spec = make_spec(("a", "b", "c"))
    backend = TorchBackend(write_weights(tmp_path, random_network("small_cnn", 3, 8, 8)), spec)
    images = [np.random.default_rng(n).integers(0, 255, (8, 8, 3)).astype(np.uint8) for n in range(5)]
    answers = predict([Item(image, explain=True) for image in images], spec, backend)
    targets = np.array([spec.labels.index(answer.heatmap_label) for answer in answers])
    found = heatmaps(images, targets, backend, spec, batch=2)
    np.testing.assert_allclose(found, [answer.heatmap for answer in answers], atol=1e-6)
