"""reference.npz: what the served backend makes of images without drift."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from handlers import decision
from handlers.arrays import Float32, Int64
from handlers.backends import Backend
from handlers.drift import Reference
from handlers.spec import Spec
from training.data.manifest import Sample, Split
from training.data.pixels import Pictures
from training.data.splits import evenly_spaced
from training.evaluation import drift
from training.evaluation.answers import describe_all, infer_all, samples_of, spread

ROWS = 500
"""Images at most that axes are found with and the reference is checked with, and whose features are kept."""
AXES = 12  # docs/decisions-log/drift-by-psi.md


@dataclass(frozen=True)
class Calibrating:
    """The calibration split's answers. probs: (M, K), calibrated; truth: (M,), classes; features: (M, C), pooled."""

    samples: Sequence[Sample]
    probs: Float32
    truth: Int64
    features: Float32


def fit(spec: Spec, backend: Backend, pictures: Pictures, calibrating: Calibrating) -> drift.Fitted:
    """Fit the drift reference of a spec that is calibrated. Raises DataUnreadable, DataChanged."""

    def infer(split: Split) -> tuple[Sequence[Sample], Float32, Float32]:
        chosen = spread(samples_of(pictures.manifest, split), ROWS)
        return chosen, *infer_all(chosen, spec, backend, pictures, f"features of {split}")

    def seen(samples: Sequence[Sample], probs: Float32, features: Float32, split: Split) -> drift.Seen:
        described = describe_all(samples, spec, pictures.root, f"figures of {split}")
        return drift.Seen(described, features, decision.scores(probs, spec))

    _, _, trained_on = infer("train")
    checked, logits, features = infer("val")
    calibration = seen(calibrating.samples, calibrating.probs, calibrating.features, "calibration")
    validation = seen(checked, decision.calibrated(logits, spec), features, "val")
    return drift.fit(trained_on, calibration, calibrating.truth, validation, AXES, len(spec.labels))


def file(calibrating: Calibrating, reference: Reference) -> bytes:
    """Write reference.npz.

    Of at most ROWS images of the calibration split, evenly spaced, because paths sort by class: `features` (N, C)
    float16, `probabilities` (N, K), `labels` (N,); `rows` (N,), their places in `runs.REFERENCE_ROWS`. And
    the arrays of `handlers.drift.Reference`, of all of the split.
    """
    rows = evenly_spaced(len(calibrating.truth), ROWS)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        features=calibrating.features[rows].astype(np.float16),
        probabilities=calibrating.probs[rows],
        labels=calibrating.truth[rows],
        rows=np.arange(len(rows)),
        **reference.arrays,
    )
    return buffer.getvalue()
