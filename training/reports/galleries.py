"""Which answers the report shows, and their pictures: the worst errors, and some right ones to compare them with."""

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from drawing.heat import FULL_LOGITS, encircle, outline, overlay, strength
from handlers.arrays import Bools, Ints, UInt8
from handlers.decision import scores
from handlers.decode import decode
from handlers.predictor import Answer
from handlers.spec import Spec
from training.data.manifest import Sample
from training.data.masks import read_mask
from training.data.splits import evenly_spaced
from training.reports.confusions import confusions
from training.reports.evaluation import Case, Gallery, Shown
from training.reports.pages import Picture

WORST, WORST_OF_CLASS, CLASSES, RIGHT = 8, 4, 12, 4
SMALLEST = 160  # pixels; a smaller picture is shown with each of its pixels as a square


def show(samples: Sequence[Sample], answers: Sequence[Answer], truth: Ints, spec: Spec, root: Path) -> Shown:
    """Choose what the report shows of single images; arguments and errors as of `galleries`."""
    return Shown(
        galleries(samples, answers, truth, spec, root),
        confusions(samples, answers, truth, spec, root),
        scale(answers),
        masked=any(sample.mask for sample in samples),
    )


def scale(answers: Sequence[Answer]) -> Picture | None:
    """Draw the heat maps' colours from none to the strongest, and say what that is; None where no answer has a heat map."""
    drawn = [answer for answer in answers if answer.heatmap is not None]
    if not drawn:
        return None
    ramp = np.tile(np.linspace(0, 1, 256, dtype=np.float32), (12, 1))
    buffer = io.BytesIO()
    Image.fromarray(overlay(np.full((12, 256, 3), 255, dtype=np.uint8), ramp)).save(buffer, "PNG")
    known = all(answer.heatmap_peak is not None for answer in drawn)
    strongest = f"{FULL_LOGITS:g} logits or more" if known else "the map's own peak"
    return Picture(buffer.getvalue(), f"colours from none of the evidence to {strongest}", strongest)


def galleries(samples: Sequence[Sample], answers: Sequence[Answer], truth: Ints, spec: Spec, root: Path) -> list[Gallery]:
    """Choose the answers that a person should look at. answers: one a sample; truth: (N,), classes; `root`: the data set's.

    With positive labels: the worst false negatives and false positives at the threshold, and some images rightly at or above it.
    Without: the surest errors of each class that has any, and some right answers. Each error comes with a right answer of the
    same label, where there is one. Raises DataUnreadable.
    """
    score = np.concatenate([scores(answer.probabilities[None], spec) for answer in answers])

    def evenly(rows: Ints) -> Ints:
        return rows[evenly_spaced(len(rows), RIGHT)]

    def case(row: int) -> Case:
        return _case(samples[row], answers[row], float(score[row]), spec, root)

    def cases(rows: Iterable[int]) -> list[Case]:
        return [case(row) for row in rows]

    def errors(rows: Iterable[int], right: Bools) -> list[Case]:
        """Each with a right answer beside it; `right`: (N,), which answers are. They change from one to the next."""
        found = []
        for n, row in enumerate(rows):
            alike = evenly(np.flatnonzero(right & (truth == truth[row])))
            found.append(replace(case(row), right=case(alike[n % len(alike)]) if len(alike) else None))
        return found

    if spec.decision.positive:
        names, positive = " or ".join(spec.decision.positive), np.isin(truth, spec.positive_index)
        flagged = score >= spec.decision.threshold
        missed, alarms = np.flatnonzero(positive & ~flagged), np.flatnonzero(~positive & flagged)
        return [
            Gallery(
                "Worst false negatives",
                f"Images labelled {names} below the threshold, the lowest score first.",
                f"None: every test image labelled {names} reaches the threshold.",
                errors(missed[np.argsort(score[missed], kind="stable")][:WORST], positive == flagged),
            ),
            Gallery(
                "Worst false positives",
                "Other images that reach the threshold, the highest score first.",
                "None: no other test image reaches the threshold.",
                errors(alarms[np.argsort(-score[alarms], kind="stable")][:WORST], positive == flagged),
            ),
            Gallery(
                "At or above the threshold, rightly",
                f"Some images labelled {names} at or above the threshold, taken evenly from the split.",
                "None.",
                cases(evenly(np.flatnonzero(positive & flagged))),
            ),
        ]
    right = np.array([answer.label for answer in answers]) == np.array(spec.labels)[truth]
    worst: list[Gallery] = []
    for k in np.unique(truth[~right])[:CLASSES]:
        wrong = np.flatnonzero(~right & (truth == k))
        surest = wrong[np.argsort(-score[wrong], kind="stable")][:WORST_OF_CLASS]
        title = f"Worst errors: {spec.labels[k]}"
        worst.append(Gallery(title, f"{len(wrong)} in all, the surest first.", "None.", errors(surest, right)))
    return [
        *(worst or [Gallery("Worst errors", "Images with another label than their own.", "None.", [])]),
        Gallery("Right", "Some right answers, taken evenly from the split.", "None.", cases(evenly(np.flatnonzero(right)))),
    ]


def _case(sample: Sample, answer: Answer, score: float, spec: Spec, root: Path) -> Case:
    view = decode((root / sample.path).read_bytes(), spec.preprocessing, spec.limits)
    mask = read_mask(sample, spec, root)
    times = math.ceil(SMALLEST / min(view.shape[:2]))
    large = view.repeat(times, axis=0).repeat(times, axis=1)
    pictures = [Picture(_jpeg(large), f"{sample.path}, as the network sees it", "the picture")]
    if answer.heatmap is not None:
        seen = f"evidence for {answer.heatmap_label}"
        if answer.heatmap_peak is not None:
            seen += f", at most {answer.heatmap_peak:.1f} logits (full colour from {FULL_LOGITS:g})"
        drawn = encircle(overlay(large, strength(answer.heatmap, answer.heatmap_peak)), answer.heatmap)
        pictures.append(Picture(_jpeg(drawn), f"heat map over the picture: {seen}", seen))
    if mask is not None:
        edge = outline(large, mask.repeat(times, axis=0).repeat(times, axis=1))
        pictures.append(Picture(_jpeg(edge), "the picture with the outline of its mask", "the mask"))
    return Case(sample.path, sample.label, answer.label, answer.confidence, score, answer.decision, tuple(pictures))


def _jpeg(image: UInt8) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=88, subsampling=0)
    return buffer.getvalue()
