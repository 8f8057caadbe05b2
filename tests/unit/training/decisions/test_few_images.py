"""What is said and what is true after calibration by few images, by simulation: a table of docs/decisions.md, which running this
file prints.

A network sees K numbers of standard deviation 1 for an image, that of the true label higher by APART, so that APART times these
are ideal logits. Answers that are twice as sure, or a tenth as sure, have these logits times 2 or 0.1.
"""

import sys

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from handlers.decision import probabilities
from tests.volume import SOAK
from training.decisions.scaling import fit

APART = 4.0
LABELS = (2, 3, 10)
IMAGES = (20, 60, 200)
STRETCHED = (1.0, 2.0, 0.5, 10.0, 0.1)
DRAWS, FRESH = (100, 20_000) if SOAK else (20, 4000)


def draw(n: int, k: int, stretched: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Logits of equally frequent labels, (n, k), and classes, (n,)."""
    truth = rng.integers(0, k, n)
    return (rng.normal(size=(n, k)) + APART * np.eye(k)[truth]) * APART * stretched, truth


def by_platts_targets(logits: np.ndarray, truth: np.ndarray, k: int) -> float:
    """The temperature for (n + 1) / (n + K) of the true class of n images, 1 / (n + K) of each other (Platt 1999, 2.2)."""
    n = np.bincount(truth, minlength=k)[truth][:, None]
    targets = (np.eye(k)[truth] * n + 1) / (n + k)

    def loss(log: float) -> float:
        return -float((targets * log_softmax(logits / np.exp(log), axis=1)).sum())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


def simulate(k: int, images: int, stretched: float, draws: int, fresh: int) -> dict[str, float]:
    """Means over draws, in points: what is said of the answered label less how often it is true; of Platt's targets, too."""
    rng = np.random.default_rng(11)
    gaps, platts, right = [], [], []
    for _ in range(draws):
        (logits, truth), (new, new_truth) = draw(images, k, stretched, rng), draw(fresh, k, stretched, rng)
        scaling = fit(logits, truth, "vector" if k == 2 else "temperature", np.zeros(k))
        said = probabilities(scaling.apply(new), 1.0)
        gaps.append(100 * (said.max(axis=1).mean() - (said.argmax(axis=1) == new_truth).mean()))
        correct = new.argmax(axis=1) == new_truth
        said = probabilities(new, by_platts_targets(logits, truth, k))
        platts.append(100 * (said.max(axis=1).mean() - correct.mean()))
        right.append(100 * correct.mean())
    return {
        "right": float(np.mean(right)),
        "gap": float(np.mean(gaps)),
        "largest": float(max(gaps, key=abs)),
        "platt": float(np.mean(platts)),
    }


@pytest.mark.parametrize("k", LABELS)
@pytest.mark.parametrize("images", IMAGES)
def test_few_images_leave_honest_answers_honest(k, images):
    found = simulate(k, images, 1.0, DRAWS, FRESH)
    assert abs(found["gap"]) <= 0.5
    assert abs(found["largest"]) <= 2


@pytest.mark.parametrize("k", LABELS)
@pytest.mark.parametrize("stretched", [2.0, 0.5])
def test_answers_too_sure_or_not_sure_enough_stay_within_two_points(k, stretched):
    for images in IMAGES:
        found = simulate(k, images, stretched, DRAWS, FRESH)
        assert abs(found["gap"]) <= 2.2, images


@pytest.mark.parametrize("k", LABELS)
@pytest.mark.parametrize("stretched", [10.0, 0.1])
def test_two_hundred_images_overcome_answers_that_are_far_off(k, stretched):
    assert abs(simulate(k, 200, stretched, DRAWS, FRESH)["gap"]) <= 2.5


@pytest.mark.parametrize("k", LABELS)
def test_platts_targets_say_far_too_little_of_few_images(k):
    assert simulate(k, 60, 1.0, DRAWS, FRESH)["platt"] < -3


def main() -> None:
    """Print the table of docs/decisions.md."""
    for k in LABELS:
        for images in IMAGES:
            rows = [simulate(k, images, stretched, 100, 20_000) for stretched in STRETCHED]
            gaps = " | ".join(f"{row['gap']:+.1f}, {row['largest']:+.1f}" for row in rows)
            sys.stdout.write(f"| {k} | {images} | {rows[0]['right']:.1f} % | {gaps} | {rows[0]['platt']:+.1f} |\n")


if __name__ == "__main__":
    main()
