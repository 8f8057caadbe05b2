"""A split's images are answered by the code that serves: logits and pooled features, or the answers that clients would get."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from handlers.arrays import Float32, Float64, Int64
from handlers.backends import Backend
from handlers.decode import to_batch
from handlers.drift import describe, pool
from handlers.errors import VisorError
from handlers.predictor import Answer, Item, predict
from handlers.spec import Spec
from training.data.manifest import Manifest, Sample, Split
from training.data.pixels import Pictures, read_sample, view_good
from training.data.splits import evenly_spaced
from training.errors import DataError, DataUnreadable
from training.progress import show_progress

T = TypeVar("T")

BATCH = 32


def samples_of(manifest: Manifest, split: Split) -> Sequence[Sample]:
    """Return the split's samples, at least one. Raises DataError."""
    samples = manifest.samples_of(split)
    if not samples:
        raise DataError(f"the {split} split has no image; give data.splits.{split} a larger share or the data set more images")
    return samples


def classes_of(samples: Sequence[Sample], labels: Sequence[str]) -> Int64:
    """Return the true classes, (N,), as indices of `labels`."""
    return np.array([labels.index(sample.label) for sample in samples], dtype=np.int64)


def spread(samples: Sequence[T], count: int) -> list[T]:
    """Take at most `count` of the samples, evenly spaced, because paths sort by class; always the same ones."""
    return [samples[row] for row in evenly_spaced(len(samples), count)]


def infer_all(samples: Sequence[Sample], spec: Spec, backend: Backend, pictures: Pictures, what: str) -> tuple[Float32, Float32]:
    """Compute logits (N, K) and pooled features (N, C), by the same decoding as in serving. `what` names the progress bar.

    Raises DataUnreadable, DataChanged.
    """
    logits, features = [], []
    images = pictures.of(samples, spec.preprocessing, spec.limits, what)
    while batch := list(islice(images, BATCH)):
        batch_logits, maps = backend.infer(to_batch(batch, spec.preprocessing))
        logits.append(batch_logits)
        features.append(pool(maps))
    return np.concatenate(logits), np.concatenate(features)


def describe_all(samples: Sequence[Sample], spec: Spec, root: Path, what: str) -> Float64:
    """Compute the figures of `handlers.drift.describe` of each picture, (N, 6). `what` names the progress bar.

    From the files, as pictures that are kept at the network's size do not know their sides. Raises DataUnreadable, DataChanged.
    """
    views = view_good(root, samples, spec.preprocessing, spec.limits, what)
    return np.array([describe(seen.pixels, seen.sides) for seen in views])


def answer_all(samples: Sequence[Sample], spec: Spec, backend: Backend, root: Path, what: str) -> tuple[Float32, list[Answer]]:
    """Compute logits (N, K) and the answers that serving gives, heat maps included. `what` names the progress bar.

    Raises DataUnreadable, DataChanged.
    """
    recorder = _Recorder(backend)
    results: list[Answer | VisorError] = []
    starts = range(0, len(samples), BATCH)
    for start in show_progress(starts, len(starts), what):
        batch = samples[start : start + BATCH]
        results += predict([Item(read_sample(root, sample), explain=True) for sample in batch], spec, recorder)
    bad = [f"{sample.path}: {r}" for sample, r in zip(samples, results, strict=True) if isinstance(r, VisorError)]
    if bad:
        raise DataUnreadable(f"{root} holds {len(bad)} images that cannot be answered: " + "; ".join(bad))
    return np.concatenate(recorder.logits), [result for result in results if isinstance(result, Answer)]


class _Recorder:
    """A backend that keeps the logits, which answers do not carry, for the numbers before scaling."""

    def __init__(self, backend: Backend) -> None:
        self.head = backend.head
        self.logits: list[Float32] = []
        self._backend = backend

    def infer(self, batch: Float32) -> tuple[Float32, Float32]:
        logits, maps = self._backend.infer(batch)
        self.logits.append(logits)
        return logits, maps
