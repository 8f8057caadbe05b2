"""A split's images through the code that serves: logits and pooled features, or the answers that clients would get."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from handlers.backends import Backend
from handlers.decode import UInt8, decode, to_batch
from handlers.errors import ImageError, VisorError
from handlers.predictor import Answer, Item, predict
from handlers.spec import Spec
from training.data.manifest import Manifest, Sample, Split
from training.errors import DataChanged, DataError, DataUnreadable
from training.progress import track

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
T = TypeVar("T")

BATCH = 32


def samples_of(manifest: Manifest, split: Split) -> Sequence[Sample]:
    """The split's samples, at least one. Raises DataError."""
    samples = manifest.of(split)
    if not samples:
        raise DataError(f"the {split} split has no image; give data.splits.{split} a larger share or the data set more images")
    return samples


def classes_of(samples: Sequence[Sample], labels: Sequence[str]) -> Int64:
    """True classes, (N,), as indices of `labels`."""
    return np.array([labels.index(sample.label) for sample in samples], dtype=np.int64)


def spread(samples: Sequence[T], count: int) -> list[T]:
    """At most `count` of the samples, evenly spaced, because paths sort by class; always the same ones."""
    rows = np.unique(np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int))
    return [samples[row] for row in rows]


def decode_all(samples: Sequence[Sample], spec: Spec, root: Path, what: str) -> list[UInt8]:
    """The images as the network sees them, (H, W, 3) each. `what`: for the progress bar. Raises DataUnreadable, DataChanged."""
    images: list[UInt8] = []
    bad: list[str] = []
    for batch in _batches(samples, what):
        images += _decode(batch, spec, root, bad)
    _refuse(bad)
    return images


def infer_all(samples: Sequence[Sample], spec: Spec, backend: Backend, root: Path, what: str) -> tuple[Float32, Float32]:
    """Logits (N, K) and pooled features (N, C), by the same decoding as in serving. `what`: for the progress bar.

    Raises DataUnreadable, DataChanged.
    """
    logits, features = [], []
    bad: list[str] = []
    for batch in _batches(samples, what):
        images = _decode(batch, spec, root, bad)
        if not bad:
            batch_logits, maps = backend.infer(to_batch(images, spec.preprocessing))
            logits.append(batch_logits)
            features.append(maps.mean(axis=(2, 3)))
    _refuse(bad)
    return np.concatenate(logits), np.concatenate(features)


def answer_all(samples: Sequence[Sample], spec: Spec, backend: Backend, root: Path, what: str) -> tuple[Float32, list[Answer]]:
    """Logits (N, K) and the served answers, heat maps included. `what`: for the progress bar.

    Raises DataUnreadable, DataChanged.
    """
    recorder = _Recorder(backend)
    results: list[Answer | VisorError] = []
    for batch in _batches(samples, what):
        results += predict([Item(_read(root, sample), explain=True) for sample in batch], spec, recorder)
    _refuse(f"{sample.path}: {r}" for sample, r in zip(samples, results, strict=True) if isinstance(r, VisorError))
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


def _batches(samples: Sequence[Sample], what: str) -> Iterator[Sequence[Sample]]:
    starts = range(0, len(samples), BATCH)
    return track((samples[start : start + BATCH] for start in starts), len(starts), what)


def _decode(batch: Sequence[Sample], spec: Spec, root: Path, bad: list[str]) -> list[UInt8]:
    """The images that can be decoded; a sentence on each other one goes to `bad`, so that all of them are named at once."""
    images = []
    for sample in batch:
        try:
            images.append(decode(_read(root, sample), spec.preprocessing, spec.limits))
        except ImageError as err:
            bad.append(f"{sample.path}: {err}")
    return images


def _read(root: Path, sample: Sample) -> bytes:
    """The file's bytes, which must be the manifest's: the numbers are of the images that its digest names."""
    try:
        data = (root / sample.path).read_bytes()
    except OSError as err:
        raise DataChanged(f"{sample.path} cannot be read: {err.strerror}; `visor data verify` names all that is missing") from err
    if hashlib.sha256(data).hexdigest() != sample.sha256:
        raise DataChanged(f"{sample.path} is not the file of the manifest; `visor data verify` names all that changed")
    return data


def _refuse(bad: Iterable[str]) -> None:
    if names := list(bad):
        raise DataUnreadable(f"{len(names)} images cannot be answered: " + "; ".join(names))
