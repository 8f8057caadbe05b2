"""An epoch's training images: which ones, in what order and batches, augmented and mixed.

Every random number is drawn from (seed, epoch), (seed, epoch, image) or (seed, epoch, batch): the same ones after an
interruption, and whatever the number of workers that prepare batches.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

from handlers.arrays import Int64, UInt8
from handlers.decode import to_batch
from handlers.errors import counted
from training.config import AugmentConfig, Config
from training.errors import ConfigError
from training.fitting.augment import augment, generator
from training.fitting.distributed import ALONE, Group
from training.fitting.seeds import seed_of


@dataclass(frozen=True)
class Images:
    """Some images of a pixel cache. pixels: (M, H, W, 3) uint8, the whole cache; rows: (N,), rows of the cache; labels: (N,)."""

    pixels: UInt8
    rows: Int64
    labels: Int64

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Batch:
    """The images that one process computes at a time. keys: (B,), as `draw` numbers images; `number` counts the epoch's batches.

    `share` is the sum of the images' class weights divided by that of the whole step: the batch's mean loss is multiplied by it.
    """

    keys: Int64
    number: int
    share: float


@dataclass(frozen=True)
class Step:
    """One step of the optimiser: this process's batches, and the number of images over all processes."""

    batches: tuple[Batch, ...]
    images: int


def plan(images: Images, config: Config, epoch: int, weight: Tensor, group: Group = ALONE) -> list[Step]:
    """Plan the epoch's steps. weight: (K,) float32, the loss's. Raises ConfigError (a batch with fewer images than processes).

    A step is `accumulate` batches of `batch_size`, of each of which every process takes its part: together they have the
    images, and the sum of their gradients is the gradient, of a single process with one batch of all of them.
    """
    per_image = weight.numpy()[images.labels].astype(np.float64)
    numbers = iter(range(len(images)))

    def part(batch: Int64, whole: float) -> Batch:
        keys = np.array_split(batch, group.size)[group.rank]
        if not len(keys):
            raise ConfigError(
                f"fit.batch_size {config.fit.batch_size} leaves none of {counted(len(batch), 'image')} to process {group.rank} "
                f"of {group.size}; make it larger, or start fewer processes"
            )
        return Batch(keys, next(numbers), float(per_image[keys % len(images)].sum()) / whole)

    steps = []
    for keys in split(draw(images.labels, config, epoch), config.fit.batch_size * config.fit.accumulate):
        whole = float(per_image[keys % len(images)].sum())
        steps.append(Step(tuple(part(batch, whole) for batch in split(keys, config.fit.batch_size)), len(keys)))
    return steps


def draw(labels: Int64, config: Config, epoch: int) -> Int64:
    """Draw the N images that an epoch sees, in order: (N,) keys, an image's position plus N for each time it came before.

    All of them once, or with class_weights "sampled" drawn with replacement, each class with the same probability.
    """
    count = len(labels)
    if config.fit.class_weights != "sampled":
        return np.random.default_rng([config.seed, epoch]).permutation(count)
    chances = 1.0 / np.bincount(labels)[labels]
    seeded = torch.Generator().manual_seed(seed_of(config.seed, epoch))
    drawn = np.array(list(WeightedRandomSampler(chances.tolist(), count, generator=seeded)), dtype=np.int64)
    before = np.zeros(count, dtype=np.int64)
    for place, position in enumerate(drawn):
        drawn[place] += count * before[position]  # so that each time an image comes, it is augmented anew
        before[position] += 1
    return drawn


def load(images: Images, steps: Sequence[Step], config: Config, epoch: int, classes: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Load the steps' batches: (B, 3, H, W) float32, augmented and normalised, and (B,) int64 labels or (B, K) mixed ones."""
    batches = [batch for step in steps for batch in step.batches]
    return iter(
        DataLoader(
            _TrainingBatches(images, config, epoch, classes),
            batch_size=None,  # the sampler gives whole batches
            sampler=batches,
            num_workers=config.fit.workers,
            generator=torch.Generator(),  # its own, so that the global one belongs to dropout alone
        )
    )


class _TrainingBatches(Dataset[tuple[Tensor, Tensor]]):
    """One epoch's training images, indexed by Batch."""

    def __init__(self, images: Images, config: Config, epoch: int, classes: int) -> None:
        self._images, self._config, self._epoch, self._classes = images, config, epoch, classes

    def __getitem__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        config, positions = self._config, batch.keys % len(self._images)
        generators = [generator(config.seed, self._epoch, int(key)) for key in batch.keys]
        changed = augment(self._images.pixels[self._images.rows[positions]], config.augment, generators)
        pixels = torch.from_numpy(to_batch(list(changed), config.preprocessing))
        labels = torch.from_numpy(self._images.labels[positions])
        return mix(pixels, labels, config.augment, self._classes, seed_of(config.seed, self._epoch, batch.number))


def mix(pixels: Tensor, labels: Tensor, config: AugmentConfig, classes: int, number: int) -> tuple[Tensor, Tensor]:
    """Mix a batch by mixup (Zhang et al. 2018), CutMix (Yun et al. 2019) or, with both on, one of them by chance.

    pixels: (B, 3, H, W); labels: (B,) int64, of which mixing makes (B, K) float32; number: seeds what is drawn.
    """
    if not config.mixup and not config.cutmix:
        return pixels, labels
    from torchvision.transforms import v2  # loads torch's compiler, 3 s of a CPU

    changes: list[v2.Transform] = []
    if config.mixup:
        changes.append(v2.MixUp(alpha=config.mixup, num_classes=classes))
    if config.cutmix:
        changes.append(v2.CutMix(alpha=config.cutmix, num_classes=classes))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number)
        mixed: tuple[Tensor, Tensor] = v2.RandomChoice(changes)(pixels, labels)
    return mixed


def split(order: Int64, size: int) -> list[Int64]:
    """Split an order into about equal batches of at most `size`: a last batch of one image would upset BatchNorm."""
    return np.array_split(order, math.ceil(len(order) / size))
