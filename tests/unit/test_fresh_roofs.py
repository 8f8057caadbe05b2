"""docs/examples/fresh_roofs.py: what its tables are computed by, against naive code and arithmetic."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from archives.contents import SPEC
from docs.examples import fresh_roofs
from tests.unit.networks import random_network, write_weights
from tests.unit.specs import TINY, make_spec


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


def test_a_network_of_fewer_pixels_than_a_roof_is_drawn_in_is_asked_of_smaller_ones(tmp_path: Path) -> None:
    run = tmp_path / "tiny"
    run.mkdir()
    (run / SPEC).write_text(TINY.model_dump_json())  # of 16 x 16 pixels
    write_weights(run, random_network("small_cnn", 2, 16, 16))
    answers = ["--answers", str(tmp_path), "--damaged", "1", "--intact", "2", "--seed", "1"]
    assert fresh_roofs.main(["answer", str(run), *answers]) == 0
    fresh = fresh_roofs.Fresh.read(run, tmp_path)
    assert fresh.logits.shape == (3, 2)
    assert fresh.damaged.tolist() == [True, False, False]


def test_one_slope_by_hand():
    """Margin 0 for all, 3 of 4 in class 1: the slope stays 1, and the bias b has 4 / (1 + e^-b) - 3 and the prior's pull."""
    fitted = fresh_roofs.one_slope(np.zeros((4, 2), np.float32), np.array([1, 1, 1, 0]), np.zeros(2))
    bias = fitted.bias[1] - fitted.bias[0]
    assert fitted.weight.tolist() == [pytest.approx(1, abs=1e-4)] * 2
    assert 4 / (1 + math.exp(-bias)) - 3 + 4 * bias / math.sqrt(1 + 4 * bias**2) == pytest.approx(0, abs=1e-4)


def test_one_slope_undoes_a_line_and_puts_the_odds_back():
    rng = np.random.default_rng(0)
    margin = rng.normal(0, 3, 20_000)
    truth = (rng.random(20_000) < 1 / (1 + np.exp(-(0.5 * margin - 2)))).astype(int)
    logits = np.stack([-margin / 2, margin / 2], axis=1).astype(np.float32)
    odds = fresh_roofs.one_slope(logits, truth, np.array([1.0, -1.0])).apply(logits) @ [-1, 1]
    np.testing.assert_allclose(odds, 0.5 * margin - 2, atol=0.3)
