"""What was taken for what, with small examples: a matrix of few labels, the most frequent errors of many."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from handlers.arrays import Ints
from handlers.decode import decode
from handlers.predictor import Answer
from handlers.spec import Spec
from training.data.manifest import Sample
from training.data.splits import evenly_spaced
from training.reports.evaluation import Cell, Confusions, Pair
from training.reports.pages import Picture, share

MOST_LABELS, MOST_PAIRS = 10, 20
"""Labels up to which there is a matrix, and kinds of errors that are listed where there are more."""
OF_ERRORS, OF_RIGHT = 4, 2
"""Examples of each kind of error and of each label's right answers."""
SIDE = 80  # pixels: twice what a page shows, for screens of two pixels a dot
MOST_BYTES = 300_000
"""Size of all examples together, as JPEG; errors come first, the most frequent kinds before others."""


def confusions(samples: Sequence[Sample], answers: Sequence[Answer], truth: Ints, spec: Spec, root: Path) -> Confusions:
    """Count what was taken for what, and choose examples. answers: one a sample; truth: (N,), classes; `root`: the data set's.

    Of errors the surest are shown, of right answers some, taken evenly. Raises DataUnreadable.
    """
    k = len(spec.labels)
    answered = np.array([answer.probabilities.argmax() for answer in answers])
    counts = np.zeros((k, k), dtype=np.int64)
    np.add.at(counts, (truth, answered), 1)
    errors = [(int(t), int(a)) for t, a in np.argwhere((counts > 0) & ~np.eye(k, dtype=bool))]
    errors.sort(key=lambda pair: -counts[pair])
    few = k <= MOST_LABELS
    spent, cells = 0, dict[tuple[int, int], Cell]()
    right = [(t, t) for t in range(k)]
    for t, a in [*errors, *right] if few else errors[:MOST_PAIRS]:
        rows = np.flatnonzero((truth == t) & (answered == a))
        surest = rows[np.argsort([-answers[row].confidence for row in rows.tolist()], kind="stable")]
        chosen = rows[evenly_spaced(len(rows), OF_RIGHT)] if t == a else surest[:OF_ERRORS]
        pictures = []
        for row in chosen.tolist():
            picture = _example(samples[row], answers[row], spec, root)
            if (spent := spent + len(picture.data)) > MOST_BYTES:
                break
            pictures.append(picture)
        cells[t, a] = Cell(len(rows), len(rows) / counts[t].sum() if len(rows) else 0.0, tuple(pictures))
    if few:
        none = Cell(0, 0.0)
        return Confusions(matrix=[(label, [cells.get((t, a), none) for a in range(k)]) for t, label in enumerate(spec.labels)])
    return Confusions(pairs=[Pair(spec.labels[t], spec.labels[a], cell) for (t, a), cell in cells.items()])


def _example(sample: Sample, answer: Answer, spec: Spec, root: Path) -> Picture:
    view = decode((root / sample.path).read_bytes(), spec.preprocessing, spec.limits)
    picture = Image.fromarray(view)
    if (times := SIDE // max(view.shape[:2])) > 1:  # a tiny picture shows its pixels as squares
        picture = Image.fromarray(view.repeat(times, axis=0).repeat(times, axis=1))
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return Picture(buffer.getvalue(), f"{sample.path}: is {sample.label}, answered {answer.label}, {share(answer.confidence)}")
