"""decode → infer → decide → explain for a batch, in that order; a bad image is an error of its own item."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from handlers import decision, gradcam
from handlers.arrays import Float32, UInt8
from handlers.backends import Backend
from handlers.decision import Outcome
from handlers.decode import decode, from_pixels, to_batch
from handlers.errors import ImageTooLarge, VisorError, without_traceback
from handlers.memory import is_out_of_memory
from handlers.spec import Spec


@dataclass(frozen=True)
class Item:
    """One image and the options of its request. `image`: encoded bytes, or (h, w, 3) uint8 RGB pixels."""

    image: bytes | UInt8
    explain: bool = False
    threshold: float | None = None


@dataclass(frozen=True)
class Answer:
    """One image's answer. `probabilities`: (K,) float32, calibrated; `heatmap`: (h, w) float32 in [0, 1], of `heatmap_label`."""

    label: str
    confidence: float
    probabilities: Float32
    decision: Outcome
    threshold: float
    heatmap: Float32 | None = None
    heatmap_label: str | None = None


@dataclass
class Stages:
    """The seconds that a batch spent in each stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - start


def predict(
    items: Sequence[Item], spec: Spec, backend: Backend, stages: Stages | None = None, alone: bool = False
) -> list[Answer | VisorError]:
    """Answer each item, in order, by an Answer or by its own error. `alone`: as `handlers.decode.decode` has it."""
    stages = stages or Stages()
    results: list[Answer | VisorError | None] = [None] * len(items)
    images: list[UInt8] = []
    rows: list[int] = []  # which item each image of the batch came from
    with stages.measure("decode"):
        for row, item in enumerate(items):
            try:
                images.append(_prepare(item, spec, alone))
                rows.append(row)
            except VisorError as err:
                results[row] = without_traceback(err)
    if images:
        answers = _answer_in_memory(images, [items[row] for row in rows], spec, backend, stages)
        for row, answer in zip(rows, answers, strict=True):
            results[row] = answer
    return [result for result in results if result is not None]


def _answer_in_memory(
    images: list[UInt8], items: list[Item], spec: Spec, backend: Backend, stages: Stages
) -> list[Answer | VisorError]:
    """Answer the images together or, where there is no memory for that, one by one; what is too large alone says so."""
    try:
        return list(_answer(images, items, spec, backend, stages))
    except Exception as err:
        if not is_out_of_memory(err):
            raise
    # Here, where what the attempt held is free again.
    if len(images) == 1:
        return [ImageTooLarge("there was no memory to answer the image; send a smaller one, or fewer at once")]
    return [
        result
        for n in range(len(images))
        for result in _answer_in_memory(images[n : n + 1], items[n : n + 1], spec, backend, stages)
    ]


def _answer(images: list[UInt8], items: list[Item], spec: Spec, backend: Backend, stages: Stages) -> list[Answer]:
    with stages.measure("infer"):
        logits, maps = backend.infer(to_batch(images, spec.preprocessing))  # (N, K), (N, C, h, w)
    with stages.measure("decide"):
        probs = decision.calibrated(logits, spec)
        thresholds = [decision.check_threshold(item.threshold, spec) for item in items]
        outcomes = [
            decision.decide(score[None], threshold, spec)[0]
            for score, threshold in zip(decision.scores(probs, spec), thresholds, strict=True)
        ]
    heatmaps: list[Float32 | None] = [None] * len(items)
    targets = decision.explained_class(probs, outcomes, spec)
    with stages.measure("explain"):
        for n, item in enumerate(items):
            if item.explain:  # one by one, as a choice of rows would copy their maps
                [heatmaps[n]] = gradcam.gradcam(maps[n : n + 1], backend.head, targets[n : n + 1])
    best = probs.argmax(axis=1)
    return [
        Answer(
            label=spec.labels[best[n]],
            confidence=float(probs[n, best[n]]),
            probabilities=probs[n],
            decision=outcomes[n],
            threshold=thresholds[n],
            heatmap=heatmaps[n],
            heatmap_label=spec.labels[targets[n]] if items[n].explain else None,
        )
        for n in range(len(items))
    ]


def _prepare(item: Item, spec: Spec, alone: bool) -> UInt8:
    decision.check_threshold(item.threshold, spec)
    if isinstance(item.image, bytes | bytearray):
        return decode(bytes(item.image), spec.preprocessing, spec.limits, alone)
    return from_pixels(item.image, spec.preprocessing, spec.limits)
