"""A fit without numbers: whether the network takes the smallest batch that it will be given, before an image is decoded."""

from collections.abc import Iterator

import numpy as np
import torch

from handlers import networks
from training.config import Config, FitConfig
from training.errors import BatchTooSmall
from training.fitting.batches import split
from training.fitting.fit import learning_stages, set_modes

FORMS = 12
"""Copies of the weights that a run writes at most: two checkpoints of weights, best, AdamW's two moments and an average."""


def check_batches(config: Config, classes: int, images: int) -> None:
    """Run the smallest batch of each phase through the network on PyTorch's device without memory. images: of the training split.

    Raises BatchTooSmall: BatchNorm has no variance over the one value that an image of a 1 x 1 map has; and ConfigError (a phase
    that does not fit the network).
    """
    size = smallest_batch(images, config.fit)
    with torch.device("meta"):
        model = networks.build(config.model.network, classes)
        batch = torch.empty(size, 3, config.preprocessing.height, config.preprocessing.width)
    for number, phase in enumerate(config.fit.phases):
        set_modes(model, learning_stages(model, phase))
        try:
            model(batch)
        except ValueError as err:
            if size > 1:
                raise
            larger = next(_sizes_without_one(images, config.fit), None)
            advice = f"set fit.batch_size to {larger}" if larger else "add images"
            height, width = config.preprocessing.height, config.preprocessing.width
            raise BatchTooSmall(
                f"fit.batch_size {config.fit.batch_size} makes a batch of one of {images} training images, from which "
                f"{config.model.network} at {height} x {width} cannot learn in fit.phases.{number} (BatchNorm over one value); "
                f"{advice}, or make preprocessing.height and width larger"
            ) from err


def smallest_batch(images: int, fit: FitConfig) -> int:
    """Return the number of images in the smallest batch of an epoch, as `training.fitting.batches.plan` splits them."""
    steps = split(np.arange(images), fit.batch_size * fit.accumulate)
    return min(len(batch) for step in steps for batch in split(step, fit.batch_size))


def _sizes_without_one(images: int, fit: FitConfig) -> Iterator[int]:
    sizes = range(fit.batch_size + 1, images + 1)
    return (size for size in sizes if smallest_batch(images, fit.model_copy(update={"batch_size": size})) > 1)


def bytes_to_write(config: Config, classes: int) -> int:
    """Return how many bytes a run's files take at most, beside its pictures: checkpoints, weights, export and their copies."""
    with torch.device("meta"):
        model = networks.build(config.model.network, classes)
    sizes: list[int] = [tensor.numel() * tensor.element_size() for tensor in model.state_dict().values()]
    return FORMS * sum(sizes)
