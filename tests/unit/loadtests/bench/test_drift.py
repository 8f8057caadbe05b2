"""The study of the drift alarm on figures that are drawn from known distributions, and what it looks at."""

import numpy as np
import pytest

from loadtests.bench import drift
from loadtests.bench.drift import LABELS, Pool, study
from tests.unit.specs import make_spec

SPEC = make_spec(("intact", "damaged"), positive=("damaged",), feature_map=(1, 2, 2))


def made(count: int, darker: float = 0.0) -> Pool:
    rng, damaged = np.random.default_rng(int(10 * darker)), np.arange(count) % 2
    pictures, pooled = rng.normal(0, 1, (count, 6)), rng.normal(0, 1, (count, 20))
    pictures[:, 0] -= darker
    pictures[:, 4:] = 96
    pooled[:, 0] += 6 * damaged
    return Pool(pictures, pooled.astype(np.float32), 1 / (1 + np.exp(6 * damaged - 3 + rng.normal(0, 1, count))), damaged)


@pytest.mark.timeout(120)
def test_windows_of_the_same_are_calm_and_changes_are_found_with_their_word():
    found = study({"": made(6000), "darker": made(1500, 1.0)}, references=3, windows=5, shifted=5, images=240)
    assert [sum(found["", size].alarms) for size in drift.CALM_WINDOWS] == [0, 0, 0]
    dark, labels = found["darker", drift.WINDOW], found[LABELS, drift.WINDOW]
    assert dark.alarms == labels.alarms == [1.0] * 3
    assert set(dark.words) == {"pictures"}
    assert set(dark.first) == {"brightness"}
    assert set(labels.words) == {"labels"}
    assert dark.line("darker", 500) == "| darker | 500 | 100.00% | 100.0% | 100.0% | brightness |"
    assert labels.line(LABELS, 500).split(" | ")[1:5] == ["500", "100.00%", "100.0%", "100.0%"]
    assert found["", 120].line("", 120) == "| not shifted | 120 | 0.00% | 0.0% | - | - |"


def test_a_rare_window_has_the_share_that_it_should():
    pool, rng = made(4000), np.random.default_rng(0)
    shares = [pool.damaged[drift._window(rng, pool, 500, True)].mean() for _ in range(40)]
    assert np.mean(shares) == pytest.approx(drift.RARE, abs=0.012)  # four standard errors
    assert len(set(drift._window(rng, pool, 500, True).tolist())) == 500


class Brightness:
    head = np.array([[-4.0], [4.0]], dtype=np.float32)

    def infer(self, batch):
        maps = batch.mean(axis=1).reshape(len(batch), 1, 2, 4, 2, 4).mean(axis=(3, 5))
        return maps.mean(axis=(2, 3)) @ self.head.T, maps


def test_pictures_are_looked_at_by_the_code_that_serves(monkeypatch):
    monkeypatch.setattr(drift, "BATCH", 2)
    images = [drift.Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (10, 120, 250)]
    files = [drift._jpeg(image, 95) for image in images]
    found = drift.look(((data, n == 1) for n, data in enumerate(files)), SPEC, Brightness())
    assert found.damaged.tolist() == [0, 1, 0]
    assert found.pictures[:, 0] == pytest.approx([10, 120, 250], abs=2)
    assert found.pictures[:, 4:].tolist() == [[8, 8]] * 3
    assert len(found.scores) == len(found.pooled) == 3
    assert (np.diff(found.scores) > 0).all()


def test_changes_change_what_they_say():
    rng = np.random.default_rng(0)
    pixels = rng.integers(60, 200, (32, 32, 3), dtype=np.uint8)
    image = drift.Image.fromarray(pixels)
    before = drift.describe(pixels, (32, 32))
    after = {name: drift.describe(np.asarray(change(image)), (32, 32)) for name, change in drift.CHANGES.items()}
    assert after["brightness x 0.8"][0] == pytest.approx(0.8 * before[0], rel=0.01)
    assert after["saturation x 0.3"][3] < 0.5 * before[3]
    assert after["blur of 1 pixel"][2] < 0.8 * before[2]
    assert after["JPEG quality 20"] != before
