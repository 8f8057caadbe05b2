"""The training loop, to be read from top to bottom: phases of epochs of batches, best weights kept.

The same config, data and machine give the same bytes: every random number is drawn from (seed, epoch) or (seed, epoch,
image), PyTorch is held to deterministic algorithms, and the number of threads, which orders sums, is the config's.
"""

import copy
import dataclasses
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from handlers.decode import to_batch
from handlers.networks import Classifier
from training.augment import augment, generator
from training.checkpoint import Epoch, State
from training.config import Config, PhaseConfig
from training.errors import ConfigError, DataError, RunError
from training.machine import deterministic, keep_freed_memory
from training.progress import track

logger = logging.getLogger(__name__)

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Images:
    """Some images of a pixel cache. pixels: (M, H, W, 3) uint8, the whole cache; rows: (N,), which of it; labels: (N,)."""

    pixels: npt.NDArray[np.uint8]
    rows: Int64
    labels: Int64

    def __len__(self) -> int:
        return len(self.rows)


def fit(
    model: Classifier,
    train: Images,
    val: Images,
    config: Config,
    state: State | None = None,
    save: Callable[[State], None] | None = None,
) -> State:
    """Fit the model in place, from `state` on if one is given, and leave it with its best weights.

    `save` is called with the new state after each epoch and at the end. Raises ConfigError (a phase that does not fit the
    network), DataError (a class without training images) and RunError (the loss is no longer finite).
    """
    settings = config.fit
    phases = [(phase, _learning_stages(model, phase)) for phase in settings.phases]
    weight = class_weights(train.labels, model.head.out_features, settings.class_weights)  # (K,)
    keep_freed_memory()
    # Convolutions on a CPU take half the time when a pixel's channels lie side by side [EfficientNet-Lite0: 27 → 15 ms].
    model.to(memory_format=torch.channels_last)
    state = state or State(weights=_copy(model), best=_copy(model))
    with deterministic(settings.threads):
        for number, (phase, learning) in enumerate(phases):
            if number < state.phase:
                continue
            # A phase starts from the best weights so far; an interrupted one goes on from its last.
            model.load_state_dict(state.weights if state.epoch else state.best)
            optimizer = _freeze_all_but(model, learning, phase, settings.weight_decay)
            if state.optimizer:
                optimizer.load_state_dict(state.optimizer)

            while state.epoch < phase.epochs and state.stale < settings.patience:
                count = len(state.history)  # epochs done, over all phases
                torch.manual_seed(_seed(config.seed, count))  # for dropout
                _set_modes(model, learning)
                batches = _batches(train, config, count)
                loss_sum, hits = 0.0, 0
                for step, (images, labels) in enumerate(track(batches, len(batches), f"epoch {count + 1}")):
                    # images: (B, 3, H, W) float32; labels: (B,) int64
                    for group in optimizer.param_groups:
                        group["lr"] = cosine(phase.learning_rate, state.epoch + step / len(batches), phase.epochs)
                    logits, _ = model(images.contiguous(memory_format=torch.channels_last))  # (B, K)
                    loss = cross_entropy(logits, labels, weight, label_smoothing=settings.label_smoothing)
                    optimizer.zero_grad()
                    torch.autograd.backward(loss)  # reaches the learning stages alone: nothing below them asks for a gradient
                    optimizer.step()
                    loss_sum += loss.item() * len(labels)
                    hits += int((logits.argmax(dim=1) == labels).sum())

                val_loss, val_accuracy = validate(model, val, config, weight)
                epoch: Epoch = {
                    "epoch": count + 1,
                    "phase": number + 1,
                    "train_loss": loss_sum / len(train),
                    "train_accuracy": hits / len(train),
                    "val_loss": val_loss,
                    "val_accuracy": val_accuracy,
                }
                if not (math.isfinite(loss_sum) and math.isfinite(val_loss)):
                    raise RunError(
                        f"the loss is {val_loss} after epoch {count + 1}; lower the learning rate of phase {number + 1}"
                    )
                weights = _copy(model)
                better = val_loss < state.best_loss
                state = State(
                    weights=weights,
                    best=weights if better else state.best,
                    best_loss=val_loss if better else state.best_loss,
                    phase=number,
                    epoch=state.epoch + 1,
                    stale=0 if better else state.stale + 1,
                    optimizer=copy.deepcopy(optimizer.state_dict()),  # which is live otherwise
                    history=[*state.history, epoch],
                )
                logger.info(
                    "epoch %d (phase %d): train loss %.4f, validation loss %.4f, accuracy %.4f%s",
                    *(count + 1, number + 1, epoch["train_loss"], val_loss, val_accuracy, ", best so far" if better else ""),
                )
                if save:
                    save(state)

            state = dataclasses.replace(state, phase=number + 1, epoch=0, stale=0, optimizer=None)
        model.load_state_dict(state.best)
        model.requires_grad_(True).eval()
    if save:
        save(state)
    return state


@torch.no_grad()
def validate(model: Classifier, images: Images, config: Config, weight: Tensor) -> tuple[float, float]:
    """Weighted mean cross-entropy, without label smoothing, and accuracy. weight: (K,) float32."""
    model.eval()
    loss, scale, hits = 0.0, 0.0, 0
    for part in _split(np.arange(len(images)), config.fit.batch_size):
        batch = torch.from_numpy(to_batch(list(images.pixels[images.rows[part]]), config.preprocessing))  # (B, 3, H, W)
        labels = torch.from_numpy(images.labels[part])  # (B,)
        logits, _ = model(batch.contiguous(memory_format=torch.channels_last))  # (B, K)
        loss += cross_entropy(logits, labels, weight, reduction="sum").item()
        scale += weight[labels].sum().item()
        hits += int((logits.argmax(dim=1) == labels).sum())
    return loss / scale, hits / len(images)


def class_weights(labels: Int64, classes: int, kind: str) -> Tensor:
    """(K,) float32: all 1, or "balanced", N / (K n_k), so that every class weighs the same in sum (King & Zeng 2001)."""
    counts = np.bincount(labels, minlength=classes)
    if missing := [str(label) for label in np.flatnonzero(counts == 0)]:
        raise DataError(f"no training image has class {', '.join(missing)} of {classes}; add some, or change data.splits")
    balanced = len(labels) / (classes * counts)
    return torch.tensor(balanced if kind == "balanced" else np.ones(classes), dtype=torch.float32)


def cosine(rate: float, done: float, total: float) -> float:
    """The learning rate after `done` of `total` epochs: from `rate` to 0 (Loshchilov & Hutter 2017, eq. 5, one cycle)."""
    return rate * 0.5 * (1 + math.cos(math.pi * done / total))


class _TrainingBatches(Dataset[tuple[Tensor, Tensor]]):
    """One epoch's training images by position: indexed by (B,) positions, it gives a batch, augmented and normalised."""

    def __init__(self, images: Images, config: Config, epoch: int) -> None:
        self._images, self._config, self._epoch = images, config, epoch

    def __getitem__(self, positions: Int64) -> tuple[Tensor, Tensor]:
        generators = [generator(self._config.seed, self._epoch, int(position)) for position in positions]
        pixels = augment(self._images.pixels[self._images.rows[positions]], self._config.augment, generators)
        return torch.from_numpy(to_batch(list(pixels), self._config.preprocessing)), torch.from_numpy(
            self._images.labels[positions]
        )


def _batches(images: Images, config: Config, epoch: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """All training images in the order of (seed, epoch), in batches; the same ones whatever the number of workers."""
    order = np.random.default_rng([config.seed, epoch]).permutation(len(images))
    return DataLoader(
        _TrainingBatches(images, config, epoch),
        batch_size=None,  # the sampler gives whole batches
        sampler=_split(order, config.fit.batch_size),
        num_workers=config.fit.workers,
        generator=torch.Generator(),  # its own, so that the global one belongs to dropout alone
    )


def _split(order: Int64, size: int) -> list[Int64]:
    """Batches of `size` or a little less, all about equal: a last batch of one image would upset BatchNorm."""
    return np.array_split(order, math.ceil(len(order) / size))


def _learning_stages(model: Classifier, phase: PhaseConfig) -> list[nn.Module]:
    """The stages, from the end, that learn in a phase."""
    count = len(model.stages) if phase.unfreeze == "all" else phase.unfreeze
    if not 0 <= count <= len(model.stages):
        raise ConfigError(
            f"fit.phases: unfreeze must be from 0 to {len(model.stages)}, the network's stages, or all; got {count}"
        )
    return list(model.stages)[len(model.stages) - count :]


def _freeze_all_but(model: Classifier, learning: Sequence[nn.Module], phase: PhaseConfig, decay: float) -> torch.optim.AdamW:
    model.requires_grad_(False)
    modules = [*learning, model.head]
    for module in modules:
        module.requires_grad_(True)
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return torch.optim.AdamW(parameters, lr=phase.learning_rate, weight_decay=decay)


def _set_modes(model: Classifier, learning: Sequence[nn.Module]) -> None:
    """Training mode where something learns; the frozen stages' BatchNorm keeps the statistics that it came with."""
    model.eval()
    for module in [*learning, model.dropout]:
        module.train()


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
