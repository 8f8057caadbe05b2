"""Learning rates over a phase."""

import math

from training.config import PhaseConfig


def learning_rate(phase: PhaseConfig, step: int, steps: int, epoch: int = 0) -> float:
    """Return the learning rate of one of an epoch's `steps`: a linear warm-up to the phase's rate, then a cosine to 0.

    Warm-up's first step has one step's part of the rate, its last all of it (Goyal et al. 2017, section 2.2).
    """
    done = epoch + step / steps
    if done < phase.warmup_epochs:
        return phase.learning_rate * min(1.0, (done + 1 / steps) / phase.warmup_epochs)
    return cosine(phase.learning_rate, done - phase.warmup_epochs, phase.epochs - phase.warmup_epochs)


def cosine(rate: float, done: float, total: float) -> float:
    """Return the learning rate after `done` of `total` epochs: from `rate` to 0 (Loshchilov & Hutter 2017, eq. 5, one cycle)."""
    return rate * 0.5 * (1 + math.cos(math.pi * done / total))
