"""The training loop, to be read from top to bottom: phases of epochs of batches, best weights kept.

The same config, data and machine give the same bytes: every random number is drawn from (seed, epoch) or (seed, epoch,
image), PyTorch is held to deterministic algorithms, and the number of threads, which orders sums, is the config's.
"""

import copy
import dataclasses
import logging
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from handlers.decode import to_batch
from handlers.networks import Classifier
from training.config import Config, FitConfig, PhaseConfig
from training.errors import ConfigError, RunError
from training.fitting.batches import Images, Step, load, plan, split
from training.fitting.checkpoint import Epoch, State
from training.fitting.distributed import ALONE, Group, synchronised
from training.fitting.losses import Loss, class_weights
from training.fitting.schedules import learning_rate
from training.fitting.seeds import seed_of
from training.fitting.torch_setup import autocast, deterministic, device_of, keep_freed_memory
from training.progress import Remaining, show_progress

logger = logging.getLogger(__name__)


def fit(
    model: Classifier,
    train: Images,
    val: Images,
    config: Config,
    state: State | None = None,
    save: Callable[[State], None] | None = None,
    group: Group = ALONE,
) -> State:
    """Fit the model in place, from `state` on if one is given, and leave it with its best weights, on the CPU.

    `save` is called with the new state after each epoch and at the end. `group`: the processes that fit together; the first
    one's `state` counts, and it alone saves. Raises ConfigError (a phase that does not fit the network, a device that is not
    there), DataError (a class without training images) and RunError (the loss is no longer finite).
    """
    settings = config.fit
    phases = [(phase, learning_stages(model, phase)) for phase in settings.phases]
    device = device_of(settings.device)
    loss, judging = _losses(train, model.head.out_features, settings, device)
    keep_freed_memory()
    # Convolutions on a CPU take half the time when a pixel's channels lie side by side [EfficientNet-Lite0: 27 → 15 ms].
    model.to(device).to(memory_format=torch.channels_last)
    state = group.share(state or State(weights=_copy(model), best=_copy(model)))
    with deterministic(settings.threads), synchronised(model, group):
        for number, (phase, learning) in enumerate(phases):
            if number < state.phase:
                continue
            # A phase starts from the best weights so far; an interrupted one goes on from its last.
            model.load_state_dict(state.weights if state.epoch else state.best)
            optimizer = _freeze_all_but(model, learning, phase, settings.weight_decay)
            if state.optimizer:
                optimizer.load_state_dict(state.optimizer)
            average = _average(model, settings.ema_decay, state.average)
            remaining = Remaining()  # anew in each phase, as another part of the network learns
            later = sum(other.epochs for other in settings.phases[number + 1 :])

            while state.epoch < phase.epochs and state.stale < settings.patience:
                count = len(state.history)  # epochs done, over all phases
                left = phase.epochs - state.epoch + later  # at most: patience may end a phase sooner
                torch.manual_seed(seed_of(config.seed, count, *([group.rank] if group.rank else [])))  # for dropout
                set_modes(model, learning)
                steps = plan(train, config, count, loss.weight.cpu(), group)
                batches = load(train, steps, config, count, len(loss.weight))
                loss_sum, hits = 0.0, 0.0
                said = f"epoch {count + 1} of {count + left}"
                shown = show_progress(steps, len(steps), said + remaining.words(left)) if group.leads else steps
                for place, step in enumerate(shown):
                    for options in optimizer.param_groups:
                        options["lr"] = learning_rate(phase, place, len(steps), state.epoch)
                    optimizer.zero_grad()
                    step_loss, step_hits = _backward(model, step, batches, loss, settings)
                    loss_sum, hits = loss_sum + step_loss * step.images, hits + step_hits
                    parameters = optimizer.param_groups[0]["params"]
                    group.add_gradients(parameters)
                    if settings.clip_norm is not None:
                        nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
                    optimizer.step()
                    if average:
                        average.update_parameters(model)

                judged = average.module if average else model
                val_loss, val_accuracy = validate(judged, val, config, judging, group)
                loss_sum, hits = group.add(loss_sum, hits)
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
                        f"the loss is {val_loss} after epoch {count + 1}; lower fit.phases.{number}.learning_rate, and train "
                        "with --fresh, as the run's folder belongs to the config that it was begun with"
                    )
                weights = _copy(model)
                better = val_loss < state.best_loss
                state = State(
                    weights=weights,
                    best=state.best if not better else _copy(judged) if average else weights,
                    best_loss=val_loss if better else state.best_loss,
                    phase=number,
                    epoch=state.epoch + 1,
                    stale=0 if better else state.stale + 1,
                    optimizer=copy.deepcopy(optimizer.state_dict()),  # which is live otherwise
                    average=_copy(average) if average else None,
                    history=[*state.history, epoch],
                )
                remaining.count()
                if group.leads:
                    logger.info(
                        "%s (phase %d): train loss %.4f, validation loss %.4f, accuracy %.4f%s%s",
                        *(said, number + 1, epoch["train_loss"], val_loss, val_accuracy, ", best so far" if better else ""),
                        remaining.words(left - 1),
                    )
                if save and group.leads:
                    save(state)

            state = dataclasses.replace(state, phase=number + 1, epoch=0, stale=0, optimizer=None, average=None)
        model.load_state_dict(state.best)
        model.requires_grad_(True).eval().cpu()
    if save and group.leads:
        save(state)
    return state


def _backward(
    model: Classifier, step: Step, batches: Iterator[tuple[Tensor, Tensor]], loss: Loss, settings: FitConfig
) -> tuple[float, float]:
    """Add the gradient of this process's batches of a step; returns their part of its mean loss, and how many are right."""
    device = loss.weight.device
    loss_sum, hits = 0.0, 0
    for batch in step.batches:
        images, targets = (tensor.to(device) for tensor in next(batches))  # (B, 3, H, W) float32; (B,) int64 or (B, K) float32
        with autocast(settings.precision, device):
            logits, _ = model(images.contiguous(memory_format=torch.channels_last))  # (B, K)
        part = loss.mean(logits.float(), targets) * batch.share
        torch.autograd.backward(part)  # reaches the learning stages alone: nothing below them asks for a gradient
        loss_sum += part.item()
        labels = targets if targets.ndim == 1 else targets.argmax(dim=1)  # of mixed images, the larger part's
        hits += int((logits.argmax(dim=1) == labels).sum())
    return loss_sum, hits


@torch.no_grad()
def validate(model: nn.Module, images: Images, config: Config, weight: Tensor, group: Group = ALONE) -> tuple[float, float]:
    """Compute the weighted mean cross-entropy, without label smoothing or focal weights, and accuracy. weight: (K,) float32."""
    model.eval()
    device = weight.device
    loss, scale, hits = 0.0, 0.0, 0
    for part in split(np.arange(len(images)), config.fit.batch_size)[group.rank :: group.size]:
        pixels = torch.from_numpy(to_batch(list(images.pixels[images.rows[part]]), config.preprocessing))  # (B, 3, H, W)
        labels = torch.from_numpy(images.labels[part]).to(device)  # (B,)
        logits, _ = model(pixels.to(device).contiguous(memory_format=torch.channels_last))  # (B, K)
        loss += cross_entropy(logits, labels, weight, reduction="sum").item()
        scale += weight[labels].sum().item()
        hits += int((logits.argmax(dim=1) == labels).sum())
    loss, scale, right = group.add(loss, scale, hits)
    return loss / scale, right / len(images)


def _losses(train: Images, classes: int, settings: FitConfig, device: torch.device) -> tuple[Loss, Tensor]:
    """What is minimised, and the weight (K,) of the validation, by which images that are sampled evenly count evenly too."""
    kind = settings.class_weights
    weight, judging = (
        class_weights(train.labels, classes, one).to(device) for one in (kind, "balanced" if kind == "sampled" else kind)
    )
    return Loss(weight, settings.focal_gamma, settings.label_smoothing), judging


def _average(model: Classifier, decay: float | None, state: dict[str, Tensor] | None) -> AveragedModel | None:
    """The moving average of weights and BatchNorm's statistics over a phase's steps, from its first on; None without a decay."""
    if decay is None:
        return None
    change = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    average = AveragedModel(model, multi_avg_fn=change, use_buffers=True)
    if state:
        average.load_state_dict(state)
    return average


def learning_stages(model: Classifier, phase: PhaseConfig) -> list[nn.Module]:
    """Return the stages, from the end, that learn in a phase. Raises ConfigError where the network has fewer."""
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


def set_modes(model: Classifier, learning: Sequence[nn.Module]) -> None:
    """Set training mode where something learns; the frozen stages' BatchNorm keeps the statistics that it came with."""
    model.eval()
    for module in [*learning, model.dropout]:
        module.train()


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
