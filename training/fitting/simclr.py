"""Pretraining without labels by SimCLR (Chen, Kornblith, Norouzi & Hinton 2020, arXiv 2002.05709).

Two random views of an image are to have features nearer to each other than to those of any other image in the batch. As
in `training.fitting.fit`, every random number is drawn from (seed, epoch) or (seed, epoch, image), so the same config, data
and machine give the same bytes, interrupted or not.
"""

import copy
import logging
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import DataLoader, Dataset

from handlers.arrays import Int64
from handlers.decode import to_batch
from handlers.networks import Classifier
from training.config import Config, PretrainConfig
from training.errors import DataError, RunError
from training.fitting.batches import Images
from training.fitting.checkpoint import Epoch, State
from training.fitting.schedules import cosine
from training.fitting.torch_setup import deterministic, keep_freed_memory
from training.fitting.views import Views
from training.progress import Remaining, show_progress

logger = logging.getLogger(__name__)


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Compute the normalised temperature-scaled cross entropy (section 2.1, eq. 1), its mean over all 2N views: a scalar.

    first, second: (N, D) float, projections of two views of the same N images; their lengths do not matter. A view's positive is
    the other view of its image, its negatives are the 2 (N - 1) views of the other images.
    """
    views = normalize(torch.cat([first, second]), dim=1)  # (2N, D)
    similarity = views @ views.T / temperature  # (2N, 2N)
    similarity = similarity.masked_fill(torch.eye(len(views), dtype=torch.bool, device=views.device), -math.inf)
    positives = torch.arange(len(views), device=views.device).roll(len(first))  # of view i, i + N modulo 2N
    return cross_entropy(similarity, positives)


class Contrastive(nn.Module):
    """A network without its head, followed by the projection g, which the loss compares and which is not kept (section 2.1)."""

    def __init__(self, network: Classifier, dimensions: int) -> None:
        super().__init__()
        self.stages = network.stages
        channels = network.head.in_features
        self.projection = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, dimensions))

    def forward(self, images: Tensor) -> Tensor:
        """Project images, (N, 3, H, W) float32, normalised → (N, D)."""
        maps = images
        for stage in self.stages:
            maps = stage(maps)
        projections: Tensor = self.projection(maps.mean(dim=(2, 3)))
        return projections


def pretrain(
    network: Classifier,
    images: Images,
    config: Config,
    state: State | None = None,
    save: Callable[[State], None] | None = None,
    probe: Callable[[], float] | None = None,
) -> State:
    """Pretrain the network's stages in place, from `state` on if one is given; no label is looked at, and the head stays.

    `save` is called with the new state after each epoch. `probe` is called every `probe_every` epochs and after the last, in
    evaluation mode; what it returns is the epoch's `probe_accuracy`. Raises DataError (fewer than two images, so no
    negative) and RunError (the loss is no longer finite).
    """
    settings = config.pretrain
    if len(images) < 2:
        raise DataError(f"SimCLR compares images with each other, and the training split holds {len(images)}; add images")
    keep_freed_memory()
    with deterministic(config.fit.threads):
        torch.manual_seed(config.seed)  # for the projection
        model = Contrastive(network, settings.projection).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
        state = state or State(weights=_copy(model), best={})
        model.load_state_dict(state.weights)
        if state.optimizer:
            optimizer.load_state_dict(state.optimizer)
        remaining = Remaining()
        for number in range(state.epoch, settings.epochs):
            model.train()
            said = f"epoch {number + 1} of {settings.epochs}"
            loss = _run_epoch(model, optimizer, images, config, number, said + remaining.words(settings.epochs - number))
            epoch: Epoch = {"epoch": number + 1, "loss": loss}
            if not math.isfinite(loss):
                raise RunError(
                    f"the loss is {loss} after epoch {number + 1}; lower pretrain.learning_rate, and pretrain with --fresh, as "
                    "the run's folder belongs to the config that it was begun with"
                )
            if probe and ((number + 1) % settings.probe_every == 0 or number + 1 == settings.epochs):
                model.eval()
                epoch["probe_accuracy"] = probe()
            remaining.count()
            figures = ", ".join(f"{name} {epoch[name]:.4f}" for name in list(epoch)[1:])
            logger.info("%s: %s%s", said, figures, remaining.words(settings.epochs - number - 1))
            state = State(
                weights=_copy(model),
                best={},
                epoch=number + 1,
                optimizer=copy.deepcopy(optimizer.state_dict()),  # which is live otherwise
                history=[*state.history, epoch],
            )
            if save:
                save(state)
    network.eval()
    return state


def _run_epoch(
    model: Contrastive, optimizer: torch.optim.Optimizer, images: Images, config: Config, number: int, said: str
) -> float:
    """The epoch's mean loss."""
    settings = config.pretrain
    batches = _batches(images, config, number)
    loss_sum, count = 0.0, 0
    for step, (first, second) in enumerate(show_progress(batches, len(batches), said)):
        # first, second: (B, 3, H, W) float32. They go through together, so that BatchNorm's statistics tell no view from another.
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(settings, number + step / len(batches))
        both = torch.cat([first, second]).contiguous(memory_format=torch.channels_last)
        ours, theirs = model(both).chunk(2)  # (B, D) each
        loss = nt_xent(ours, theirs, settings.temperature)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        loss_sum += loss.item() * len(first)
        count += len(first)
    return loss_sum / count


def learning_rate(config: PretrainConfig, done: float) -> float:
    """Return the learning rate after `done` epochs: linear from 0 over the warm-up, then half a cosine to 0 (section 2.2)."""
    if done < config.warmup_epochs:
        return config.learning_rate * done / config.warmup_epochs
    return cosine(config.learning_rate, done - config.warmup_epochs, config.epochs - config.warmup_epochs)


class _Pairs(Dataset[list[Tensor]]):
    """One epoch's images by position: indexed by (B,) positions, it gives two batches of views, normalised."""

    def __init__(self, images: Images, config: Config, epoch: int) -> None:
        self._images, self._config, self._epoch = images, config, epoch
        self._views = Views(config.pretrain.views, *images.pixels.shape[1:3])

    def __getitem__(self, positions: Int64) -> list[Tensor]:
        pixels, seed = self._images.pixels[self._images.rows[positions]], (self._config.seed, self._epoch)
        with torch.random.fork_rng(devices=[]):
            pair = [
                [self._views.view(image, *seed, int(position), which) for image, position in zip(pixels, positions, strict=True)]
                for which in (0, 1)
            ]
        return [torch.from_numpy(to_batch(views, self._config.preprocessing)) for views in pair]


def _batches(images: Images, config: Config, epoch: int) -> DataLoader[list[Tensor]]:
    """All images in the order of (seed, epoch), in batches of about the same size; the same whatever the number of workers."""
    order = np.random.default_rng([config.seed, epoch]).permutation(len(images))
    return DataLoader(
        _Pairs(images, config, epoch),
        batch_size=None,  # the sampler gives whole batches
        sampler=np.array_split(order, math.ceil(len(order) / config.pretrain.batch_size)),
        num_workers=config.fit.workers,
        generator=torch.Generator(),
    )


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
