"""The figures of parity, by hand; tests/integration/training asks real exports for them."""

import math
from itertools import accumulate

import numpy as np
import pytest

from training.packing.parity import Shown, compare, exceeds, falls_below, loses


def shown(damaged: list[float], heatmap: list[float] | None = None) -> Shown:
    """Answers of these probabilities of the first of two labels: the logits are their logarithms, the maps (1, 2)."""
    probs = np.array([[p, 1 - p] for p in damaged], dtype=np.float32)
    maps = np.array([[heatmap or [0.0, 1.0]]] * len(damaged), dtype=np.float32)
    return Shown(np.log(probs), maps)


TRUTH = np.array([0, 0, 1, 1])


def test_the_figures_by_hand():
    measured = compare(shown([0.75, 0.25, 0.25, 0.5]), shown([0.75, 0.75, 0.25, 0.5], [0.25, 1.0]), TRUTH)
    parity = measured.parity
    # The export alone gets the second picture right; both call the fourth, an intact one, damaged.
    assert (parity.images, parity.label_agreement, parity.holds) == (4, 0.75, False)
    assert parity.max_probability_difference == 0.5
    assert parity.max_logit_difference == pytest.approx(math.log(3), abs=1e-2)
    assert parity.max_heatmap_difference == 0.25
    assert parity.accuracy == {"torch": 0.5, "openvino": 0.75}
    assert (parity.decision_agreement, parity.fnr) == (None, None)
    assert parity.describe() == (
        "labels agree on 75.0% of 4 validation images, accuracy 75.0% (torch 50.0%), logits differ by at most 1.1, "
        "heat maps correlate by 1.000"
    )


@pytest.mark.parametrize(
    ("reference", "exported", "holds"),
    [
        ([0.5] * 200, [0.5] * 200, True),
        ([0.3] * 200, [0.3] * 199 + [0.3001], True),
        ([0.3] * 200, [0.3] * 199 + [0.305], False),  # its logits differ by 0.02 and more
        ([0.3] * 200, [0.3] * 199 + [math.nan], False),
    ],
)
def test_in_single_precision_no_logit_differs(reference, exported, holds):
    measured = compare(shown(reference), shown(exported), np.ones(200, dtype=np.int64))
    parity = measured.parity
    assert parity.holds is holds
    assert bool(measured.broken) is not holds
    assert type(parity).model_validate_json(parity.model_dump_json()) == parity


@pytest.mark.parametrize(
    ("images", "differing", "truth", "holds"),
    [
        (200, 0, 1, True),
        *((images, 1, truth, True) for images in (1, 2, 10, 200) for truth in (0, 1)),  # one image is never a reason
        (200, 9, 0, True),  # nine or more come by chance in 2.0 % of the draws where 2 % differ, ten or more in 0.7 %
        (200, 10, 0, False),
        (1000, 7, 1, False),  # seven that torch alone gets right: 0.7 %, and by chance in one of 128
        (1000, 6, 1, True),  # in one of 64
    ],
)
def test_when_eight_bits_are_served(images, differing, truth, holds):
    exported = shown([0.3] * (images - differing) + [0.6] * differing)
    measured = compare(shown([0.3] * images), exported, np.full(images, truth), "openvino-int8")
    parity = measured.parity
    assert parity.holds is holds
    assert bool(measured.broken) is not holds


def binomial(n: int, p: float) -> list[float]:
    return [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]


def test_a_share_is_exceeded_where_chance_does_not_explain_it():
    for total in (1, 2, 10, 50, 200, 360):
        at_least = [1 - below for below in (0, *accumulate(binomial(total, 0.02)))]
        for count in range(min(total, 30) + 1):
            assert exceeds(count, total, 0.02) is (at_least[count] < 0.01), (count, total)


def test_accuracy_is_lost_by_more_than_chance_and_more_than_the_bound():
    for lost in range(20):
        for won in range(20):
            chance = sum(math.comb(lost + won, k) for k in range(lost, lost + won + 1)) / 2 ** (lost + won)
            assert loses(lost, won, 400, 0.005) is (lost - won > 2 and chance < 0.01), (lost, won)


def test_heat_maps_of_one_image_in_ten_are_no_reason_and_of_all_are():
    assert not falls_below([1.0] * 9 + [0.0], 0.95)
    assert falls_below([0.9] * 10, 0.95)
    assert not falls_below([], 0.95)


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
    measured = compare(shown([0.25], theirs), shown([0.25], ours), np.array([1]), "openvino-int8")
    parity = measured.parity
    assert parity.heatmap_correlation == (None if correlation is None else pytest.approx(correlation))
    assert parity.heatmap_iou == iou
    assert parity.holds is holds
    assert bool(measured.broken) is not holds
