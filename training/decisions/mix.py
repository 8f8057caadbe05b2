"""The labels' shares: those that a network was trained for, those of the images that it is calibrated on, those to come."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from handlers.arrays import Float64, Ints
from training.config import Config, DecisionConfig
from training.data.manifest import Manifest
from training.errors import ConfigError, DataError

UNEQUAL = 1.1
"""Ratio of two labels' odds up to which they count as equal: it moves no probability by more than 2.4 points."""


@dataclass(frozen=True)
class Mix:
    """`shares`: the labels' among the training images; `trained_for`: those that the loss made of them. Both (K,), of sum 1."""

    shares: Float64
    trained_for: Float64

    @property
    def shift(self) -> Float64:
        """What puts the odds back, (K,), of mean 0: log shares - log trained_for, to be added to the logits.

        It is Bayes' rule for the same images under another prior (Saerens, Latinne, Decaestecker 2002, eq. 2.4).
        """
        return between(self.trained_for, self.shares)

    @property
    def moved(self) -> bool:
        """Whether the network was trained for other odds than those of its images, by more than UNEQUAL."""
        return is_moved(self.shift)


def is_moved(shift: Float64) -> bool:
    """Tell whether log-odds that are put back change those of two labels by more than UNEQUAL. shift: (K,)."""
    return bool(np.ptp(shift) > np.log(UNEQUAL))


def of_training(config: Config, manifest: Manifest) -> Mix:
    """Find the mix of a run. Weights and sampling make the labels count the same; without either, they count as they come."""
    labels = [sample.label for sample in manifest.samples if sample.split == "train"]
    counts = np.array([max(1, labels.count(label)) for label in manifest.labels], dtype=np.float64)
    shares = counts / counts.sum()
    even = np.full(len(counts), 1 / len(counts))
    return Mix(shares, shares if config.fit.class_weights == "none" else even)


def settled(wanted: DecisionConfig, mixture: Mix) -> DecisionConfig:
    """Settle `calibration: auto`. Nothing else of the config changes.

    "vector" where the network was trained for other odds than those of its images, which one temperature cannot put back, and
    for any two labels without prediction sets: slopes and bias of few images stay close to the network's own, and sets would
    take half of the calibration split from them. Else "temperature".
    """
    if wanted.calibration != "auto":
        return wanted
    two = len(mixture.shares) == 2 and wanted.set_coverage is None
    return wanted.model_copy(update={"calibration": "vector" if mixture.moved or two else "temperature"})


def to_come(labels: Sequence[str], config: DecisionConfig) -> Float64 | None:
    """Return the stated shares of the images to come, (K,), None where none are stated.

    Raises ConfigError where they are not one for each label.
    """
    if config.prevalence is None:
        return None
    if set(config.prevalence) != set(labels):
        raise ConfigError(
            f"decision.prevalence must give each label its share, and nothing else a share: it names "
            f"{sorted(config.prevalence)}, the data's labels are {list(labels)}"
        )
    shares = np.array([config.prevalence[label] for label in labels], dtype=np.float64)
    return np.asarray(shares / shares.sum())


def shares_of(truth: Ints, labels: Sequence[str]) -> Float64:
    """Return the labels' shares of the calibration images, (K,). Raises DataError where a label has none. truth: (N,)."""
    counts = np.bincount(truth, minlength=len(labels))
    if missing := [label for label, n in zip(labels, counts, strict=True) if not n]:
        raise DataError(
            f"decision.prevalence needs calibration images of each label, there is none of {', '.join(missing)}; give "
            "data.splits.calibration a larger share"
        )
    return np.asarray(counts / counts.sum())


def between(before: Float64, after: Float64) -> Float64:
    """Return what is added to the logits when the labels' shares change, (K,), of mean 0. before, after: (K,)."""
    shift = np.log(after) - np.log(before)
    return np.asarray(shift - shift.mean())


def weights(truth: Ints, shares: Sequence[float] | Float64 | None) -> Float64:
    """Compute the weight of each image with which the labels have these shares, (N,), of mean 1; all 1 for None.

    Labels without an image leave their share to the others. truth: (N,), classes; shares: (K,).
    """
    if shares is None:
        return np.ones(len(truth))
    wanted = np.asarray(shares, dtype=np.float64)
    counts = np.bincount(truth, minlength=len(wanted))
    found = (wanted / np.maximum(counts, 1))[truth]
    return np.asarray(found * len(truth) / found.sum())
