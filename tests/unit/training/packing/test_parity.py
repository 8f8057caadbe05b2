"""The figures of parity, by hand; tests/integration/training asks real exports for them."""

import math

import numpy as np
import pytest

from handlers.predictor import Answer
from tests.unit.specs import make_spec
from training.packing.parity import compare

SPEC = make_spec(labels=("damaged", "intact"), positive=("damaged",))


def answers(damaged: list[float], heatmap: list[float] | None = None) -> tuple[np.ndarray, list[Answer]]:
    """Answers of these probabilities of `damaged`; the logits are their logarithms, the maps (1, 2) and explained alike."""
    probs = np.array([[p, 1 - p] for p in damaged], dtype=np.float32)
    maps = np.array([heatmap or [0.0, 1.0]], dtype=np.float32)
    return np.log(probs), [
        Answer(
            label=SPEC.labels[int(row.argmax())],
            confidence=float(row.max()),
            probabilities=row,
            decision="flag" if row[0] >= 0.5 else "pass",
            threshold=0.5,
            heatmap=maps,
            heatmap_label="damaged" if row[0] >= 0.5 else "intact",
        )
        for row in probs
    ]


TRUTH = np.array([0, 0, 1, 1])


def test_the_figures_by_hand():
    parity = compare(answers([0.75, 0.25, 0.25, 0.5]), answers([0.75, 0.5, 0.25, 0.5], [0.25, 1.0]), TRUTH, SPEC)
    # The second picture, damaged, is missed by torch alone; both flag the fourth, intact.
    assert (parity.images, parity.decision_agreement, parity.holds) == (4, 0.75, False)
    assert parity.max_probability_difference == 0.25
    assert parity.max_logit_difference == pytest.approx(math.log(2), abs=1e-3)
    assert parity.max_heatmap_difference == 0.25
    assert parity.accuracy == {"torch": 0.5, "openvino": 0.75}
    assert parity.fnr == {"torch": 0.5, "openvino": 0.0}
    assert parity.describe() == (
        "decisions agree on 75.0% of 4 test images, accuracy 75.0% (torch 50.0%), probabilities differ by at most 0.25, "
        "heat maps correlate by 1.000, 0.0% of the positives missed (torch 50.0%)"
    )


def test_without_positive_images_there_is_no_fnr():
    parity = compare(answers([0.25]), answers([0.25]), np.array([1]), SPEC)
    assert parity.fnr is None
    assert parity.holds


def test_heat_maps_of_different_labels_are_not_compared():
    assert compare(answers([0.25]), answers([0.75], [1.0, 0.0]), np.array([1]), SPEC).max_heatmap_difference == 0.0


@pytest.mark.parametrize(
    ("reference", "exported", "truth", "holds"),
    [
        ([0.5] * 200, [0.5] * 200, 1, True),
        ([0.5] * 200, [0.5] * 199 + [0.4999], 1, True),  # one of 200: 99.5 %
        ([0.5] * 200, [0.5] * 198 + [0.4999] * 2, 1, False),
        ([0.5] * 200, [0.5] * 199 + [0.4999], 0, False),  # one more damaged roof missed
        ([0.4999] * 200, [0.4999] * 199 + [0.5], 0, True),  # one fewer
        ([0.3] * 200, [0.3] * 199 + [0.3009], 1, True),
        ([0.3] * 200, [0.3] * 199 + [0.3011], 1, False),
        ([0.3] * 200, [0.3] * 199 + [math.nan], 1, False),
    ],
)
def test_when_parity_holds(reference, exported, truth, holds):
    parity = compare(answers(reference), answers(exported), np.full(200, truth), SPEC)
    assert parity.holds is holds
    assert type(parity).model_validate_json(parity.model_dump_json()) == parity


@pytest.mark.parametrize(
    ("exported", "truth", "holds"),
    [
        ([0.25] * 200, 1, True),  # 0.05 in probability is of no matter in 8 bits, what is decided is
        ([0.3] * 199 + [0.5], 1, True),  # one of 200 is decided otherwise and wrong: 99.5 % agree, accuracy is 0.5 % less
        ([0.3] * 198 + [0.5] * 2, 1, False),
    ],
)
def test_when_parity_of_eight_bits_holds(exported, truth, holds):
    parity = compare(answers([0.3] * 200), answers(exported), np.full(200, truth), SPEC, "openvino-int8")
    assert parity.holds is holds


@pytest.mark.parametrize(
    ("theirs", "ours", "correlation", "iou", "holds"),
    [
        ([0.0, 1.0], [0.0, 1.0], 1.0, 1.0, True),
        ([0.0, 1.0], [1.0, 0.0], -1.0, 0.0, False),
        ([0.0, 1.0], [0.75, 1.0], 1.0, 0.5, True),  # the first place counts as lit in one map only
        ([0.0, 1.0], [0.0, 0.0], 0.0, 0.0, False),  # evidence that one of both does not see
        ([0.0, 0.0], [0.0, 0.0], None, None, True),
    ],
)
def test_heat_maps_by_hand(theirs, ours, correlation, iou, holds):
    parity = compare(answers([0.25], theirs), answers([0.25], ours), np.array([1]), SPEC, "openvino-int8")
    assert parity.heatmap_correlation == (None if correlation is None else pytest.approx(correlation))
    assert parity.heatmap_iou == iou
    assert parity.holds is holds
