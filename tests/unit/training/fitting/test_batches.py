"""Which images an epoch sees, in which batches; and mixing against torchvision's words, image by image."""

import numpy as np
import pytest
import torch

from handlers.decode import to_batch
from tests.unit.training.fitting.test_fit import make_config, reds_and_blues
from training.config import AugmentConfig
from training.errors import ConfigError
from training.fitting.batches import Images, draw, load, mix, plan
from training.fitting.distributed import Group

TRAIN = reds_and_blues(30)
RARE = np.array([0] * 90 + [1] * 8 + [2] * 2)
ONES = torch.ones(2)


def test_an_epoch_sees_every_image_once_in_an_order_of_its_own():
    first, again, next_one = (draw(TRAIN.labels, make_config(), epoch) for epoch in (0, 0, 1))
    assert sorted(first) == list(range(30))
    assert first.tolist() == again.tolist() != next_one.tolist()


def test_sampled_classes_come_equally_often_and_every_time_of_an_image_has_a_key_of_its_own():
    config = make_config(class_weights="sampled")
    drawn = np.concatenate([draw(RARE, config, epoch) % 100 for epoch in range(60)])
    counts = np.bincount(RARE[drawn])
    # 6,000 draws of probability 1/3 each: a standard deviation of 37; within a class, all images alike.
    assert np.abs(counts - 2000).max() < 4 * 37
    of_the_rarest = np.bincount(drawn[RARE[drawn] == 2])[98:]
    assert abs(of_the_rarest[0] - of_the_rarest[1]) < 4 * np.sqrt(counts[2])
    keys = draw(RARE, config, 0)
    assert len(set(keys)) == len(keys) == 100
    times = np.bincount(keys % 100)
    assert sorted(keys) == sorted(position + 100 * time for position in range(100) for time in range(times[position]))
    assert keys.tolist() == draw(RARE, config, 0).tolist() != draw(RARE, config, 1).tolist()


def test_an_image_that_comes_twice_is_augmented_anew():
    images = Images(TRAIN.pixels, TRAIN.rows[:2], np.array([0, 1]))
    config = make_config(class_weights="sampled", augment={"rotate_degrees": 30}, batch_size=2)
    epoch = next(epoch for epoch in range(9) if len(set(draw(images.labels, config, epoch) % 2)) == 1)
    ((pixels, _),) = load(images, plan(images, config, epoch, ONES), config, epoch, 2)
    assert not torch.equal(pixels[0], pixels[1])


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_shares_of_a_step_add_up_over_batches_and_processes(accumulate, size):
    config, weight = make_config(accumulate=accumulate, batch_size=8), torch.tensor([0.5, 3.0])
    plans = [plan(TRAIN, config, 0, weight, Group(rank, size)) for rank in range(size)]
    whole = plan(TRAIN, config, 0, weight)
    seen = []
    for steps in zip(*plans, strict=True):
        assert sum(batch.share for step in steps for batch in step.batches) == pytest.approx(1)
        keys = [key for step in steps for batch in step.batches for key in batch.keys]
        assert len(keys) == steps[0].images
        for step in steps:
            for batch in step.batches:
                weights = weight[TRAIN.labels[batch.keys]].sum() / weight[TRAIN.labels[keys]].sum()
                assert batch.share == pytest.approx(weights.item())
        seen += keys
    assert sorted(seen) == list(range(30))
    assert len(whole) == -(-30 // (8 * accumulate))
    if accumulate == 1:
        assert all(batch.share == 1.0 for step in whole for batch in step.batches)


def test_a_batch_that_leaves_a_process_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"fit\.batch_size 2 leaves none of 2 images to process 2 of 3; make it larger"):
        plan(TRAIN, make_config(batch_size=2), 0, ONES, Group(2, 3))


def batch_of(count=6):
    pixels = torch.from_numpy(to_batch(list(TRAIN.pixels[:count]), make_config().preprocessing))
    return pixels, torch.arange(count) % 3


def test_mixup_is_a_weighted_sum_of_two_images_and_of_their_labels():
    pixels, labels = batch_of()
    mixed, targets = mix(pixels, labels, AugmentConfig(mixup=0.4), 3, 5)
    share = targets[0, 0].item()  # of image 0, class 0; its partner is image 5, class 2
    assert 0 < share < 1
    for image in range(6):
        partner = (image - 1) % 6
        expected = share * pixels[image] + (1 - share) * pixels[partner]
        np.testing.assert_allclose(mixed[image], expected, atol=1e-6)
        wanted = np.zeros(3)
        wanted[labels[image]] += share
        wanted[labels[partner]] += 1 - share
        np.testing.assert_allclose(targets[image], wanted, atol=1e-6)


def test_cutmix_replaces_one_rectangle_and_shares_labels_by_its_area():
    pixels, labels = batch_of()
    for number in range(4):
        mixed, targets = mix(pixels, labels, AugmentConfig(cutmix=1.0), 3, number)
        cut = (mixed[0] != pixels[0]).any(dim=0)  # (H, W)
        rows, columns = (np.flatnonzero(cut.any(dim=axis)) for axis in (1, 0))
        if len(rows):
            assert cut.sum() == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        assert torch.equal(mixed[0][:, cut], pixels[5][:, cut])
        assert targets[0].tolist() == pytest.approx([1 - cut.sum().item() / 256, 0, cut.sum().item() / 256])


def test_with_both_either_is_taken_and_the_number_decides():
    pixels, labels = batch_of()
    both = AugmentConfig(mixup=1.0, cutmix=1.0)
    results = [mix(pixels, labels, both, 3, number)[0] for number in range(20)]
    again = [mix(pixels, labels, both, 3, number)[0] for number in range(20)]
    assert all(torch.equal(one, other) for one, other in zip(results, again, strict=True))
    # CutMix leaves every pixel one of two values, mixup none.
    cut = [bool(((one[0] == pixels[0]) | (one[0] == pixels[5])).all()) for one in results]
    assert 4 <= sum(cut) <= 16


def test_mixing_leaves_the_global_generator_alone_and_none_leaves_all():
    pixels, labels = batch_of()
    before = torch.get_rng_state()
    mix(pixels, labels, AugmentConfig(mixup=1.0), 3, 0)
    assert torch.equal(before, torch.get_rng_state())
    assert mix(pixels, labels, AugmentConfig(), 3, 0) == (pixels, labels)
