"""What is said and what is true of rare labels, by simulation: the table of docs/decisions.md, which running this file prints.

Scores of the two labels are normal, 2.4 standard deviations apart (d' = 2.4), so the ideal log-odds are known. A network that
was trained with balanced weights answers with those of even shares.
"""

import sys

import numpy as np
import pytest

from handlers.decision import calibrated, decide, scores
from tests.unit.specs import make_spec
from tests.volume import SOAK
from training.config import DecisionConfig
from training.decisions.calibration import reliability_of
from training.decisions.mix import Mix
from training.decisions.scaling import fit
from training.decisions.thresholds import fit_decision

LABELS = ("intact", "damaged")
APART = 2.4
PRICES = {"false_negative": 5, "false_positive": 1, "review_cost": 0.3}
SHARES = (0.5, 0.1, 0.05, 0.02)
DRAWS, FRESH = (20, 100_000) if SOAK else (6, 40_000)


def draw(n: int, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Logits of an ideal network for even shares, (n, 2), and classes, (n,), of which `share` are damaged."""
    truth = (rng.random(n) < share).astype(int)
    odds = APART * (rng.normal(size=n) + np.where(truth == 1, APART / 2, -APART / 2))
    return np.stack([-odds / 2, odds / 2], axis=1).astype(np.float32), truth


def simulate(share: float, method: str, images: int, draws: int, fresh: int) -> dict[str, float]:
    """Means over draws: of p > 0.5 what is said and what is true, error, reviews, cost of 1,000 and the best rule's cost."""
    rng = np.random.default_rng(7)
    shares = np.array([1 - share, share])
    shift = Mix(shares, np.array([0.5, 0.5])).shift
    config = DecisionConfig(positive=("damaged",), **PRICES)
    rows = []
    for _ in range(draws):
        (logits, truth), (new, new_truth) = draw(images, share, rng), draw(fresh, share, rng)
        spec = make_spec(LABELS, positive=("damaged",)).model_copy(update=fit(logits, truth, method, shift).fields)
        spec = spec.model_copy(update={"decision": fit_decision(calibrated(logits, spec), truth, LABELS, config)})
        score, damaged = scores(calibrated(new, spec), spec), new_truth == 1
        outcomes = np.array(decide(score, spec))
        cost = np.where(outcomes == "review", 0.3, np.where(outcomes == "flag", 1.0 * ~damaged, 5.0 * damaged))
        ideal = 1 / (1 + np.exp(-(new[:, 1].astype(float) - new[:, 0]) - np.log(share / (1 - share))))
        best = np.where(ideal < 0.06, 5.0 * damaged, np.where(ideal < 0.7, 0.3, 1.0 * ~damaged))  # Chow's band
        sure = score > 0.5
        rows.append(
            {
                "said": score[sure].mean(),
                "true": damaged[sure].mean(),
                "error": reliability_of(score, damaged).error,
                "reviewed": (outcomes == "review").mean(),
                "cost": 1000 * cost.mean(),
                "best": 1000 * best.mean(),
            }
        )
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


@pytest.mark.parametrize("share", SHARES)
def test_what_is_said_is_true_within_two_points(share):
    # at least 100 damaged images in the calibration split
    found = simulate(share, "vector" if share != 0.5 else "temperature", max(2000, round(100 / share)), DRAWS, FRESH)
    assert abs(found["said"] - found["true"]) <= 0.02
    assert found["cost"] <= 1.05 * found["best"]


def test_one_temperature_cannot_put_the_odds_back():
    found = simulate(0.05, "temperature", 2000, 2, 20_000)
    assert found["said"] - found["true"] > 0.3


def main() -> None:
    """Print the table of docs/decisions.md."""
    for share in SHARES:
        for method in ("temperature", "vector"):
            row = simulate(share, method, 2000, 20, 100_000)
            sys.stdout.write(
                f"| {share:.0%} | {method} | {row['said']:.2f}, {row['true']:.2f} | {row['error']:.3f} | {row['reviewed']:.0%} "
                f"| {row['cost']:.0f} | {row['best']:.0f} |\n"
            )


if __name__ == "__main__":
    main()
