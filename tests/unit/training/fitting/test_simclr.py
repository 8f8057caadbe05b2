import copy
import logging
import math
import re

import numpy as np
import pytest
import torch

from tests.unit import configs
from training.config import PretrainConfig
from training.errors import DataError, RunError
from training.fitting.batches import Images
from training.fitting.pretrained import make_model
from training.fitting.simclr import learning_rate, nt_xent, pretrain


def naive_nt_xent(first, second, temperature):
    """Algorithm 1 of the paper as it stands there, view by view: z[2k] and z[2k + 1] are of image k."""
    z = [vector for pair in zip(first.tolist(), second.tolist(), strict=True) for vector in pair]

    def s(i, j):
        dot = sum(a * b for a, b in zip(z[i], z[j], strict=True))
        return dot / (math.hypot(*z[i]) * math.hypot(*z[j]))

    def pair_loss(i, j):
        others = sum(math.exp(s(i, k) / temperature) for k in range(len(z)) if k != i)
        return -math.log(math.exp(s(i, j) / temperature) / others)

    count = len(z) // 2
    return sum(pair_loss(2 * k, 2 * k + 1) + pair_loss(2 * k + 1, 2 * k) for k in range(count)) / (2 * count)


def projections(count=5, dimensions=7, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(count, dimensions, dtype=torch.float64, generator=rng) for _ in range(2))


@pytest.mark.parametrize("temperature", [0.07, 0.5, 2.0])
@pytest.mark.parametrize("count", [1, 2, 9])
def test_the_loss_is_that_of_a_double_loop_over_the_views(count, temperature):
    first, second = projections(count)
    assert nt_xent(first, second, temperature).item() == pytest.approx(naive_nt_xent(first, second, temperature), abs=1e-6)
    single = nt_xent(first.float(), second.float(), temperature).item()
    assert single == pytest.approx(naive_nt_xent(first, second, temperature), rel=1e-5, abs=1e-6)


def test_the_loss_of_known_pairs_is_arithmetic():
    # Two images on two axes: a positive has similarity 1, each of two negatives 0.
    axes = torch.eye(2, dtype=torch.float64)
    assert nt_xent(axes, 5 * axes, 0.5).item() == pytest.approx(math.log(1 + 2 * math.exp(-2)))
    same = torch.ones(4, 3)  # nothing tells the views apart: one of 7
    assert nt_xent(same, same, 0.1).item() == pytest.approx(math.log(7), rel=1e-6)


def test_the_gradient_is_that_of_finite_differences():
    first, second = (z.requires_grad_() for z in projections(3, 4))
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, 0.5), (first, second))


def test_the_learning_rate_rises_linearly_and_falls_by_a_cosine():
    config = PretrainConfig(epochs=12, warmup_epochs=4, learning_rate=0.1)
    assert [learning_rate(config, done) for done in (0, 1, 4, 8, 12)] == pytest.approx([0, 0.025, 0.1, 0.05, 0])
    assert learning_rate(config, 6) == pytest.approx(0.1 * (1 + math.sqrt(0.5)) / 2)
    assert learning_rate(PretrainConfig(epochs=2, warmup_epochs=0, learning_rate=0.1), 0) == 0.1


def make_config(seed=0, workers=0, **options):
    pretraining = {"epochs": 3, "warmup_epochs": 1, "batch_size": 12, "probe_every": 2, **options}
    return configs.make_config(seed=seed, fit={"workers": workers}, pretrain=pretraining)


def patches(count=24, seed=0):
    """Blocks of colour, each image its own, in a cache with other images in between."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (2 * count, 4, 4, 3), dtype=np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    return Images(pixels, np.sort(rng.permutation(2 * count)[:count]), np.arange(count) % 2)


IMAGES = patches()


def pretrained(config, images=IMAGES, **options):
    network = make_model(config, 2)
    return network, pretrain(network, images, config, **options)


def assert_same(weights, others):
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.fixture(scope="module")
def whole():
    states = []
    network, state = pretrained(make_config(), save=states.append)
    return network, state, states


def test_it_learns_to_tell_images_apart():
    views = {"crop": 0.8, "brightness": 0.1, "contrast": 0.1, "saturation": 0.1, "hue": 0, "grayscale": 0}
    _, state = pretrained(make_config(epochs=6, temperature=0.2, learning_rate=0.01, views=views))
    losses = [epoch["loss"] for epoch in state.history]
    assert losses[0] > 0.6 * math.log(23)  # of 12 images, a view has 23 others
    assert losses[-1] < 0.7 * losses[0]


def test_the_stages_learn_and_the_head_does_not(whole):
    network, state, _ = whole
    before = make_model(make_config(), 2).state_dict()
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("head."), name
        if name.startswith("stages."):
            assert torch.equal(value, state.weights[name])
    assert not network.training


@pytest.mark.parametrize("done", [1, 2])
def test_going_on_from_any_epoch_ends_as_if_never_interrupted(whole, done):
    _, resumed = pretrained(make_config(), state=copy.deepcopy(whole[2][done - 1]))
    assert_same(resumed.weights, whole[1].weights)
    assert resumed.history == whole[1].history


def test_a_finished_pretraining_is_not_done_again(whole):
    network, state = pretrained(make_config(), state=whole[1], save=lambda _: pytest.fail("an epoch was run"))
    assert state is whole[1]
    assert_same(network.state_dict(), whole[0].state_dict())


def test_workers_change_nothing(whole):
    assert_same(pretrained(make_config(workers=1))[1].weights, whole[1].weights)


def test_another_seed_is_another_pretraining(whole):
    other = pretrained(make_config(seed=1))[1].weights
    assert not torch.equal(other["stages.0.0.weight"], whole[1].weights["stages.0.0.weight"])


def test_neither_labels_nor_other_images_of_the_cache_are_looked_at(whole):
    pixels = IMAGES.pixels.copy()
    others = np.setdiff1d(np.arange(len(pixels)), IMAGES.rows)
    pixels[others] = 255 - pixels[others]
    _, state = pretrained(make_config(), Images(pixels, IMAGES.rows, 1 - IMAGES.labels))
    assert_same(state.weights, whole[1].weights)


def test_the_probe_is_asked_every_so_many_epochs_and_at_the_end(whole):
    answers = iter([0.5, 0.75])
    _, state = pretrained(make_config(), probe=lambda: next(answers))
    assert [epoch.get("probe_accuracy") for epoch in state.history] == [None, 0.5, 0.75]
    assert_same(state.weights, whole[1].weights)  # which a look does not change


def test_each_epoch_is_logged(caplog):
    caplog.set_level(logging.INFO, "training.fitting.simclr")
    pretrained(make_config(epochs=2), probe=lambda: 0.5)
    lines = [record.getMessage() for record in caplog.records if record.name == "training.fitting.simclr"]
    assert lines[0].startswith("epoch 1 of 2: loss ")
    assert re.search(r", about [0-9]+ s left$", lines[0])
    assert lines[1].endswith(", probe_accuracy 0.5000")
    assert len(lines) == 2


def test_one_image_has_none_to_be_compared_with():
    with pytest.raises(DataError, match="the training split holds 1; add images"):
        pretrained(make_config(), Images(IMAGES.pixels, IMAGES.rows[:1], IMAGES.labels[:1]))


def test_a_loss_that_is_no_number_stops_the_pretraining():
    with pytest.raises(RunError, match=r"the loss is nan after epoch \d; lower pretrain.learning_rate, .* with --fresh"):
        pretrained(make_config(learning_rate=1e30, epochs=3))
