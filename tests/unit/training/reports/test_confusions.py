"""What was taken for what, counted by hand, and examples that stay small together."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handlers.predictor import Answer
from tests.unit import specs
from training.data.manifest import Sample
from training.reports.confusions import MOST_BYTES, MOST_LABELS, MOST_PAIRS, OF_ERRORS, OF_RIGHT, SIDE, confusions
from training.reports.evaluation import Confusions

RNG = np.random.default_rng(0)


def confused(folder: Path, labels: int, pairs: list[tuple[int, int]], side: int = 8) -> Confusions:
    """Of images with a true and an answered class each, noise of side x side; the later, the surer."""
    names = tuple(f"label {k}" for k in range(labels))
    spec = specs.make_spec(names, positive=(), review_cost=0.1)
    given = spec.preprocessing.model_copy(update={"height": side, "width": side})
    samples, answers = [], []
    for n, (true, said) in enumerate(pairs):
        Image.fromarray(RNG.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(folder / f"{n:03}.png")
        samples.append(Sample(f"{n:03}.png", 1, "0" * 64, names[true], "test"))
        probs = np.zeros(labels, dtype=np.float32)
        probs[said] = 0.5 + n / 1000
        answers.append(Answer(names[said], float(probs[said]), probs, "pass", 0.5))
    truth = np.array([true for true, _ in pairs])
    return confusions(samples, answers, truth, spec.model_copy(update={"preprocessing": given}), folder)


def test_a_matrix_of_few_labels_has_counts_shares_and_the_surest_errors(tmp_path: Path) -> None:
    found = confused(tmp_path, 2, [(0, 0), (0, 1), (0, 1), (1, 1), (0, 1), (0, 1), (0, 1), (1, 1), (1, 1)])
    assert found.pairs == ()
    (first, row), (second, other) = found.matrix
    assert (first, second) == ("label 0", "label 1")
    assert [(cell.images, cell.share) for cell in (*row, *other)] == [(1, 1 / 6), (5, 5 / 6), (0, 0.0), (3, 1.0)]
    assert [picture.alt.split(":")[0] for picture in row[1].pictures] == ["006.png", "005.png", "004.png", "002.png"]
    assert len(row[1].pictures) == OF_ERRORS
    assert row[1].pictures[0].alt == "006.png: is label 0, answered label 1, 50.6%"
    assert len(other[1].pictures) == OF_RIGHT
    assert other[0].pictures == ()


def test_of_many_labels_the_most_frequent_errors_are_listed(tmp_path: Path) -> None:
    k = MOST_LABELS + 1
    found = confused(tmp_path, k, [(0, 1), (2, 3), (2, 3), (2, 3), (2, 2), (4, 4)])
    assert found.matrix == ()
    told = [(pair.truth, pair.label, pair.cell.images, pair.cell.share) for pair in found.pairs]
    assert told == [("label 2", "label 3", 3, 0.75), ("label 0", "label 1", 1, 1.0)]
    (tmp_path / "more").mkdir()
    every = [(true, said) for true in range(k) for said in range(k) if true != said]
    assert len(confused(tmp_path / "more", k, every).pairs) == MOST_PAIRS


def test_all_examples_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise is what JPEG makes largest. Without room, errors have theirs and right answers none."""
    pairs = [(true, said) for true in range(10) for said in range(10) for _ in range(4)]
    found = confused(tmp_path, 10, pairs, side=128)
    pictures = [picture for _, cells in found.matrix for cell in cells for picture in cell.pictures]
    assert 0.9 * MOST_BYTES < sum(len(picture.data) for picture in pictures) <= MOST_BYTES
    for picture in pictures:
        assert max(Image.open(io.BytesIO(picture.data)).size) == SIDE
    monkeypatch.setattr("training.reports.confusions.MOST_BYTES", len(pictures[0].data) + 1)
    (tmp_path / "less").mkdir()
    less = confused(tmp_path / "less", 2, [(0, 0), (1, 0)], side=128)
    assert [len(cell.pictures) for _, cells in less.matrix for cell in cells] == [0, 0, 1, 0]
