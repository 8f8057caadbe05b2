"""Batches of one image, found out as a fit would: by BatchNorm itself."""

import pytest
import torch

from handlers import networks
from tests.unit.configs import make_config
from training.config import Config
from training.errors import BatchTooSmall, ConfigError
from training.fitting.rehearsal import bytes_to_write, check_batches, smallest_batch


def config_of(
    network: str = "resnet18", side: int = 32, batch_size: int = 1, unfreeze: object = "all", accumulate: int = 1
) -> Config:
    return make_config(
        model={"network": network},
        preprocessing={"height": side, "width": side, "mean": [0.5] * 3, "std": [0.5] * 3},
        fit={
            "phases": [{"epochs": 1, "learning_rate": 0.1, "unfreeze": unfreeze}],
            "batch_size": batch_size,
            "accumulate": accumulate,
        },
    )


@pytest.mark.parametrize(
    ("images", "batch_size", "accumulate", "smallest"),
    # By hand, the last: 5 → 3 and 2, of which 3 → 2 and 1.
    [(10, 4, 1, 3), (5, 2, 1, 1), (6, 2, 1, 2), (7, 32, 1, 7), (7, 3, 2, 2), (8, 1, 1, 1), (5, 2, 2, 1)],
)
def test_the_smallest_batch_by_hand(images: int, batch_size: int, accumulate: int, smallest: int) -> None:
    assert smallest_batch(images, config_of(batch_size=batch_size, accumulate=accumulate).fit) == smallest


@pytest.mark.parametrize(
    ("batch_size", "images", "advice"), [(1, 40, "set fit.batch_size to 2"), (2, 5, "set fit.batch_size to 3")]
)
def test_a_batch_of_one_is_refused_where_batchnorm_would_refuse_it(batch_size: int, images: int, advice: str) -> None:
    said = rf"^config.batch: fit.batch_size {batch_size} makes a batch of one of {images} .*resnet18 at 32 x 32.*{advice}"
    with pytest.raises(BatchTooSmall, match=said):
        check_batches(config_of(batch_size=batch_size), 2, images)
    with pytest.raises(ValueError, match="more than 1 value per channel"):  # which the fit would have ended with
        networks.build("resnet18", 2).train()(torch.zeros(1, 3, 32, 32))


def test_the_size_that_is_advised_is_enough() -> None:
    check_batches(config_of(batch_size=2), 2, 40)
    check_batches(config_of(batch_size=3), 2, 5)


def test_a_batch_of_one_is_fine_where_the_network_takes_it() -> None:
    check_batches(config_of(side=64), 2, 40)  # maps of 2 x 2
    check_batches(config_of(unfreeze=0), 2, 40)  # frozen stages keep their statistics
    check_batches(config_of("small_cnn"), 2, 40)
    check_batches(config_of("vit_tiny_patch16"), 2, 40)


def test_more_stages_than_there_are_is_said_here_too() -> None:
    with pytest.raises(ConfigError, match="from 0 to 5"):
        check_batches(config_of(unfreeze=9, batch_size=8), 2, 40)


def test_no_weight_is_made_to_know_how_many_bytes_they_take() -> None:
    weights = sum(tensor.numel() * 4 for tensor in networks.build("small_cnn", 2).parameters())
    assert 12 * weights <= bytes_to_write(config_of("small_cnn"), 2) <= 13 * weights
