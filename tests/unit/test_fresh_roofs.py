"""docs/examples/fresh_roofs.py: what its tables are computed by, against naive code and arithmetic."""

import io

import numpy as np
import pytest
from PIL import Image

from docs.examples import fresh_roofs
from tests.unit.specs import make_spec


def test_the_cheapest_band_is_the_best_of_all():
    rng = np.random.default_rng(0)
    for _ in range(200):
        n = int(rng.integers(1, 12))
        score, damaged, weights = rng.choice(np.linspace(0, 1, 6), n), rng.random(n) < 0.4, rng.uniform(0.2, 2, n)
        miss, alarm, look = rng.uniform(0, 5), rng.uniform(0, 3), rng.uniform(0, 1)
        ends = [-1.0, *np.unique(score), 2.0]
        costs = [
            float((np.where(score < low, miss * damaged, np.where(score < high, look, alarm * ~damaged)) * weights).sum())
            for low in ends
            for high in ends
            if low <= high
        ]
        found = fresh_roofs.cheapest(score, weights * damaged, weights * ~damaged, miss, alarm, look)
        assert found == pytest.approx(min(costs), abs=1e-9)


def test_what_is_said_and_true_is_weighed_to_the_mix():
    spec = make_spec(("damaged", "intact"), positive=("damaged",), cost=((0.0, 5.0), (1.0, 0.0)))
    odds = np.log([4.0, 4.0, 0.25, 4.0, 0.25, 0.25])  # 0.8 or 0.2
    logits = np.stack([odds, np.zeros(6)], axis=1).astype(np.float32)
    truth = np.array([0, 0, 0, 1, 1, 1])
    found = fresh_roofs.measure(spec, logits, truth, share=0.1)
    # of p > 0.5 two damaged, of weight 0.1 / 3 each, and one intact, of 0.9 / 3
    assert found["said"] == pytest.approx(0.8, abs=1e-6)
    assert found["true"] == pytest.approx(2 * 0.1 / (2 * 0.1 + 0.9))
    # the bin of 0.8: share (0.2 + 0.9) / 3; the bin of 0.2: share (0.1 + 1.8) / 3
    assert found["ece"] == pytest.approx((abs(0.2 - 1.1 * 0.8) + abs(0.1 - 1.9 * 0.2)) / 3, abs=1e-6)


def test_every_roof_is_of_another_building():
    drawn = list(fresh_roofs.draw(3, damaged=2, intact=2, size=48))
    assert [label for label, _ in drawn] == ["damaged", "damaged", "intact", "intact"]
    pictures = [np.asarray(Image.open(io.BytesIO(jpeg))) for _, jpeg in drawn]
    assert {picture.shape for picture in pictures} == {(48, 48, 3)}
    assert len({picture.tobytes() for picture in pictures}) == 4
