"""Whether an export answers as torch does: both are asked about the test split by the code that serves, and compared."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openvino

from archives.lineage import Parity
from handlers import decision
from handlers.arrays import Float32, Int64
from handlers.backends import WEIGHTS, TorchBackend
from handlers.predictor import Answer
from handlers.spec import BackendName, Spec
from training.data.manifest import Sample
from training.evaluation.answers import answer_all, classes_of, spread
from training.packing.export import Graph

IMAGES = 1000
"""Of the test split, at most, evenly spaced."""
HUGE = 1e30

Answered = tuple[Float32, list[Answer]]
"""Logits (N, K) and the answers, as `training.evaluation.answers.answer_all` gives them."""


@dataclass(frozen=True)
class Bounds:
    """The bounds within which parity holds. Besides, no more positive images may be missed than torch misses.

    Of 200 images, one decision that differs is within the bound of agreement, a second one not.
    """

    probability_difference: float
    decision_agreement: float = 0.995
    accuracy_loss: float = 0.005
    heatmap_correlation: float = 0.95


BOUNDS: dict[BackendName, Bounds] = {
    # Rounding alone [8e-7 on `digits`] stays far below, anything that is wrong far above.
    "openvino": Bounds(probability_difference=1e-3),
    # Eight bits move the probability of single images that are unsure; what is done about them is what counts.
    "openvino-int8": Bounds(probability_difference=1.0),
}


@dataclass(frozen=True)
class Reference:
    """The answers of torch, which exports are compared with."""

    samples: Sequence[Sample]
    answered: Answered


def ask_torch(run: Path, spec: Spec, samples: Sequence[Sample], root: Path) -> Reference:
    """Ask torch about IMAGES of the test split's samples. `root`: the data set's. Raises DataChanged, DataUnreadable."""
    asked = spread(samples, IMAGES)
    return Reference(asked, answer_all(asked, spec, TorchBackend(run, spec), root, "asking torch"))


def measure(run: Path, graph: Graph, backend: BackendName, spec: Spec, reference: Reference, root: Path) -> Parity:
    """Ask the export about the same images and compare. Raises ArchiveBroken (it does not load), DataChanged, DataUnreadable."""
    with tempfile.TemporaryDirectory(prefix="visor-parity-") as folder:
        (Path(folder) / WEIGHTS).symlink_to((run / WEIGHTS).resolve())
        graph.write(Path(folder))
        exported = answer_all(reference.samples, spec, graph.kind(Path(folder), spec), root, f"asking {backend}")
    found = compare(reference.answered, exported, classes_of(reference.samples, spec.labels), spec, backend)
    return found.model_copy(update={"calibration_images": graph.calibration_images})


def compare(reference: Answered, exported: Answered, truth: Int64, spec: Spec, backend: BackendName = "openvino") -> Parity:
    """Compute the figures, and whether parity holds by the backend's BOUNDS. truth: (N,), classes."""
    bounds = BOUNDS[backend]
    theirs, ours = (np.stack([one.probabilities for one in side[1]]) for side in (reference, exported))  # (N, K)
    pairs = list(zip(reference[1], exported[1], strict=True))
    heatmaps = [
        (one.heatmap, other.heatmap)
        for one, other in pairs
        if one.heatmap is not None and other.heatmap is not None and one.heatmap_label == other.heatmap_label
    ]
    positive = np.isin(truth, spec.positive_index)

    def missed(probabilities: Float32) -> float:
        return float((decision.scores(probabilities, spec)[positive] < spec.decision.threshold).mean())

    agreement = sum(one.decision == other.decision for one, other in pairs) / len(pairs)
    probability = _largest([ours - theirs])
    accuracy = {"torch": float((theirs.argmax(1) == truth).mean()), backend: float((ours.argmax(1) == truth).mean())}
    fnr = {"torch": missed(theirs), backend: missed(ours)} if positive.any() else None
    correlation = _mean([_correlation(*both) for both in heatmaps])
    return Parity(
        holds=agreement >= bounds.decision_agreement
        and probability <= bounds.probability_difference
        and round(accuracy["torch"] - accuracy[backend], 9) <= bounds.accuracy_loss
        and (correlation is None or correlation >= bounds.heatmap_correlation)
        and (fnr is None or fnr[backend] <= fnr["torch"]),
        images=len(pairs),
        decision_agreement=agreement,
        max_logit_difference=_largest([exported[0] - reference[0]]),
        max_probability_difference=probability,
        max_heatmap_difference=_largest([ours - theirs for theirs, ours in heatmaps]),
        heatmap_correlation=correlation,
        heatmap_iou=_mean([_overlap(*both) for both in heatmaps]),
        accuracy=accuracy,
        fnr=fnr,
        openvino=openvino.__version__,
    )


def _correlation(one: Float32, other: Float32) -> float | None:
    """Pearson's, over the places of two maps (h, w); 0 where one of them shows nothing, None where both do."""
    if min(np.ptp(one), np.ptp(other)) == 0:
        return None if np.ptp(one) == np.ptp(other) else 0.0
    return float(np.nan_to_num(np.corrcoef(one.ravel(), other.ravel())[0, 1]))


def _overlap(one: Float32, other: Float32) -> float | None:
    """Intersection over union of what is above half of the maximum, which is 1, in two maps (h, w); None of nothing."""
    first, second = one > 0.5, other > 0.5
    union = (first | second).sum()
    return float((first & second).sum() / union) if union else None


def _mean(values: Sequence[float | None]) -> float | None:
    """Of those that are there, to four digits."""
    there = [value for value in values if value is not None]
    return round(float(np.mean(there)), 4) if there else None


def _largest(differences: Sequence[Float32]) -> float:
    """The largest in size, to three digits, and 0 of none; a number that no bound allows where one is NaN or infinite."""
    largest = max((float(np.nan_to_num(np.abs(one).max(), nan=HUGE, posinf=HUGE)) for one in differences), default=0.0)
    return float(f"{largest:.3g}")
