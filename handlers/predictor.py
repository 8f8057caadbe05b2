"""decode → infer → decide → explain for a batch, in that order; a bad image is an error of its own item."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from handlers import decision, gradcam
from handlers.arrays import Bools, Float32, Floats, UInt8
from handlers.backends import Backend
from handlers.decision import Outcome, Rule
from handlers.decode import View, from_pixels, seen_box, to_batch, view
from handlers.drift import Reference, describe, pool
from handlers.errors import ImageTooLarge, ImageUnanswerable, VisorError, without_traceback
from handlers.memory import is_out_of_memory
from handlers.spec import Box, Spec


@dataclass(frozen=True)
class Item:
    """One image and the options of its request. `image`: encoded bytes, or (h, w, 3) uint8 RGB pixels.

    `threshold`, `group`: the request's, as `handlers.decision.rule_of` takes them; None for the archive's threshold.
    """

    image: bytes | UInt8
    explain: bool = False
    threshold: float | None = None
    group: str | None = None


@dataclass(frozen=True)
class Answer:
    """One image's answer. `probabilities`: (K,) float32, calibrated, of which score and prediction set follow.

    Of an item with `explain`, else None: `heatmap`, (h, w) float32 in [0, 1], the evidence of which `explained_shares` says
    whose it is; `heatmap_label`, the label that most of it is of; `heatmap_peak`, the evidence in the network's own logits,
    before scaling, where the heat map is 1; `heatmap_box`, the part of the upright picture that it shows.

    `drift`: the bin of each figure of the drift reference, None where the archive has none.
    """

    label: str
    confidence: float
    probabilities: Float32
    decision: Outcome
    threshold: float
    heatmap: Float32 | None = None
    heatmap_label: str | None = None
    heatmap_peak: float | None = None
    heatmap_box: Box | None = None
    drift: tuple[int, ...] | None = None


@dataclass(frozen=True)
class _Prepared:
    """An item that was read: what the network sees of its picture, and what decides about it."""

    view: View
    rule: Rule
    explain: bool


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
    items: Sequence[Item],
    spec: Spec,
    backend: Backend,
    stages: Stages | None = None,
    alone: bool = False,
    reference: Reference | None = None,
) -> list[Answer | VisorError]:
    """Answer each item, in order, by an Answer or by its own error.

    `alone`: as `handlers.decode.decode` has it; `reference`: the archive's, whose bins the answers then have.
    """
    stages = stages or Stages()
    results: list[Answer | VisorError | None] = [None] * len(items)
    prepared: list[_Prepared] = []
    rows: list[int] = []  # which item each image of the batch came from
    with stages.measure("decode"):
        for row, item in enumerate(items):
            try:
                prepared.append(_prepare(item, spec, alone))
                rows.append(row)
            except VisorError as err:
                results[row] = without_traceback(err)
    if prepared:
        answers = _answer_in_memory(prepared, spec, backend, reference, stages)
        for row, answer in zip(rows, answers, strict=True):
            results[row] = answer
    return [result for result in results if result is not None]


def _answer_in_memory(
    items: list[_Prepared], spec: Spec, backend: Backend, reference: Reference | None, stages: Stages
) -> list[Answer | VisorError]:
    """Answer the images together or, where there is no memory for that, one by one; what is too large alone says so."""
    try:
        return _answer(items, spec, backend, reference, stages)
    except Exception as err:
        if not is_out_of_memory(err):
            raise
    # Here, where what the attempt held is free again.
    if len(items) == 1:
        return [ImageTooLarge("there was no memory to answer the image; send a smaller one, or fewer at once")]
    return [result for item in items for result in _answer_in_memory([item], spec, backend, reference, stages)]


def _answer(
    items: list[_Prepared], spec: Spec, backend: Backend, reference: Reference | None, stages: Stages
) -> list[Answer | VisorError]:
    with stages.measure("infer"):
        logits, maps = backend.infer(to_batch([item.view.pixels for item in items], spec.preprocessing))  # (N, K), (N, C, h, w)
    with stages.measure("decide"):
        sound: Bools = np.asarray(np.isfinite(logits).all(axis=1))
        probs = decision.calibrated(logits if sound.all() else np.where(sound[:, None], logits, 0.0), spec)
        scores = decision.scores(probs, spec).tolist()
        outcomes = [item.rule.decide(score) for item, score in zip(items, scores, strict=True)]
        bins: Sequence[tuple[int, ...] | None] = _bins(items, scores, maps, reference) if reference else [None] * len(items)
    best = probs.argmax(axis=1)
    answers: list[Answer | VisorError] = []
    with stages.measure("explain"):
        for n, item in enumerate(items):
            if not sound[n]:
                answers.append(ImageUnanswerable("the network answers NaN or infinity to this image, of which nothing follows"))
                continue
            answer = Answer(
                label=spec.labels[best[n]],
                confidence=float(probs[n, best[n]]),
                probabilities=probs[n],
                decision=outcomes[n],
                threshold=item.rule.threshold,
                drift=bins[n],
            )
            # One by one, as a choice of rows would copy their maps.
            answers.append(_explained(answer, maps[n : n + 1], item.view.box, spec, backend) if item.explain else answer)
    return answers


def _bins(items: list[_Prepared], scores: Sequence[float], maps: Floats, reference: Reference) -> list[tuple[int, ...]]:
    pictures = [describe(item.view.pixels, item.view.sides) for item in items]
    return reference.bins(pictures, pool(maps), scores)


def _explained(answer: Answer, maps: Floats, box: Box, spec: Spec, backend: Backend) -> Answer:
    """Add the heat map to an answer. maps: (1, C, h, w)."""
    shares = decision.explained_shares(answer.probabilities, answer.decision, spec)
    raw = gradcam.evidence(maps, shares[None] @ backend.head)
    return replace(
        answer,
        heatmap=gradcam.scale(raw)[0],
        heatmap_label=spec.labels[shares.argmax()],
        heatmap_peak=float(raw.max()),
        heatmap_box=box,
    )


def _prepare(item: Item, spec: Spec, alone: bool) -> _Prepared:
    rule = decision.rule_of(spec, item.threshold, item.group)
    if isinstance(item.image, bytes | bytearray):
        seen = view(bytes(item.image), spec.preprocessing, spec.limits, alone)
    else:
        height, width = item.image.shape[:2]
        pixels = from_pixels(item.image, spec.preprocessing, spec.limits)
        seen = View(pixels, seen_box(width, height, spec.preprocessing), (width, height))
    return _Prepared(seen, rule, item.explain)
