"""The verdict on windows that are drawn from known distributions, and class shares beside a search along a line."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from handlers.drift import Reference
from tests.unit.references import make_reference
from training.evaluation.drift import Seen, fit
from watch.psi import psi
from watch.verdict import LOOSEST, Figure, Verdict, class_shares, count, judge, unusual

M = 1000


def draw(rng: np.random.Generator, truth: np.ndarray, darker: float = 0.0) -> Seen:
    """Pictures whose score, sharpness and first features tell their class, and whose light does not."""
    count, sided = len(truth), np.where(truth == 1, 1.0, -1.0)
    pictures = rng.normal(0, 1, (count, 6))
    pictures[:, 0] -= darker
    pictures[:, 2] += sided / 2
    pictures[:, 4:] = 64
    pooled = rng.normal(0, 1, (count, 4)).astype(np.float32)
    pooled[:, 0] += 3 * sided
    return Seen(pictures, pooled, 1 / (1 + np.exp(-3 * sided - rng.normal(0, 1, count))))


def fitted(rng: np.random.Generator, images: int, share: float) -> Reference:
    """A reference of so many images, the share of which is of class 1."""
    truth = (np.arange(images) < share * images).astype(int)
    seen = draw(rng, truth)
    return fit(draw(rng, rng.integers(0, 2, M)).pooled, seen, truth, seen, 3, 2).reference


def bins_of(reference: Reference, seen: Seen) -> np.ndarray:
    return np.array(reference.bins(seen.pictures, seen.pooled, seen.scores))


@pytest.fixture(scope="module")
def reference() -> Reference:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, M)
    seen = draw(rng, truth)
    return fit(draw(rng, truth).pooled, seen, truth, seen, 3, 2).reference


def window(reference: Reference, seed: int, share: float = 0.5, darker: float = 0.0, images: int = 500) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return bins_of(reference, draw(rng, (rng.uniform(size=images) < share).astype(int), darker))


def test_images_of_the_same_kind_are_calm(reference):
    for seed in range(1, 6):
        verdict = judge(reference, count(window(reference, seed), reference))
        assert verdict.word == "calm"
        assert verdict.moved == []
        assert verdict.shares.tolist() == verdict.before.tolist()


def test_other_class_shares_are_labels_and_are_told(reference):
    for seed in range(1, 6):
        verdict = judge(reference, count(window(reference, seed, share=0.15), reference))
        assert verdict.word == "labels"
        assert "score" in [figure.name for figure in verdict.moved]
        assert verdict.shares[1] == pytest.approx(0.15, abs=0.05)
        assert verdict.before[1] == pytest.approx(0.5, abs=0.05)


def test_other_pictures_are_pictures_and_the_figure_is_named(reference):
    for seed in range(1, 6):
        verdict = judge(reference, count(window(reference, seed, darker=1.0), reference))
        assert verdict.word == "pictures"
        assert verdict.moved[0].name == "brightness"
        both = judge(reference, count(window(reference, seed, share=0.15, darker=1.0), reference))
        assert both.word == "pictures"


def test_every_figure_has_its_psi_and_limit(reference):
    live = count(window(reference, 1, darker=0.4), reference)
    verdict = judge(reference, live)
    assert [figure.name for figure in verdict.figures] == list(reference.figures)
    assert [figure.psi for figure in verdict.figures] == pytest.approx(
        [psi(known, other) for known, other in zip(reference.counts, live, strict=True)]
    )
    assert [figure.limit for figure in verdict.figures] == pytest.approx(reference.limits(500).tolist())
    assert verdict.images == 500


def test_one_other_size_among_many_is_no_alarm_and_many_are(reference):
    live = count(window(reference, 1), reference)
    width = reference.figures.index("width")
    for others, alarm in [(0, False), (1, False), (5, False), (50, True), (500, True)]:
        live[width] = np.array([0, 500 - others, others])
        assert ("width" in [figure.name for figure in judge(reference, live).moved]) == alarm


def test_class_shares_are_those_of_the_greatest_likelihood(reference):
    live = count(window(reference, 2, share=0.3), reference)
    known = [(counts + 0.5) / (counts + 0.5).sum(axis=1, keepdims=True) for counts in reference.class_counts]

    def against(share: float) -> float:
        mixed = [share * one[1] + (1 - share) * one[0] for one in known]
        return -sum(float((other * np.log(expected)).sum()) for other, expected in zip(live, mixed, strict=True))

    best = minimize_scalar(against, bounds=(0, 1), method="bounded", options={"xatol": 1e-8})
    assert class_shares(reference, live)[1] == pytest.approx(best.x, abs=1e-4)


@pytest.mark.parametrize(("images", "before", "now"), [(60, 0.5, 0.2), (240, 0.5, 0.2), (240, 0.1, 0.6)])
def test_class_shares_of_few_reference_images_are_drawn_towards_the_old_ones(images, before, now):
    found = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        known = fitted(rng, images, before)
        live = bins_of(known, draw(rng, (rng.uniform(size=2000) < now).astype(int)))
        found.append(class_shares(known, count(live, known))[1])
    low, high = sorted((before, now))
    assert low < np.median(found) < high
    assert abs(np.median(found) - now) > 0.01  # with 2,000 images, a share's own standard error


def ten_classes(seed: int, images: int) -> tuple[Reference, np.ndarray]:
    """Classes of half to a hundredth of the images; a window of them whose pictures moved towards those of the rarest."""
    rng, weights = np.random.default_rng(seed), np.array([0.5, 0.2, 0.1, 0.05, 0.05, 0.03, 0.03, 0.02, 0.01, 0.01])
    middles = rng.normal(size=(10, 19))

    def some(count: int, shift: np.ndarray | float = 0.0) -> tuple[Seen, np.ndarray]:
        truth = rng.choice(10, count, p=weights)
        values = 0.7 * rng.normal(size=(count, 19)) + middles[truth] + shift
        return Seen(values[:, 1:7], values[:, 7:].astype(np.float32), values[:, 0]), truth

    seen, truth = some(images)
    known = fit(some(500)[0].pooled, seen, truth, seen, 12, 10).reference
    return known, bins_of(known, some(500, 0.7 * (middles[9] - weights @ middles))[0])


def test_pictures_that_look_like_a_rare_class_are_not_taken_for_it():
    """So few reference images of a class leave nearly nothing above a limit: 500 images like it may be of it, or not."""
    words, bare = [], []
    for seed in range(12):
        known, live = ten_classes(seed, 240)
        verdict = judge(known, count(live, known))
        words.append(verdict.word)
        bare.append(all(figure.explained for figure in verdict.figures))
    assert sum(bare) >= 6  # which would be wrong words
    assert set(words) <= {"pictures", "unclear"}


def test_labels_are_said_only_where_the_limit_beside_other_shares_is_near_the_first():
    def word(psi_left: float, left_limit: float) -> str:
        figures = (Figure("score", 0.3, 0.2, psi_left, left_limit), Figure("width", 0.01, 0.1, 0.01, 0.1))
        return Verdict(500, figures, np.array([0.2, 0.8]), np.array([0.5, 0.5])).word

    assert word(0.1, LOOSEST * 0.2) == "labels"
    assert word(0.1, LOOSEST * 0.2 + 0.01) == "unclear"
    assert word(0.4, LOOSEST * 0.2 + 0.01) == "pictures"


def test_a_class_without_reference_images_has_no_share():
    known = make_reference()
    lone = replace(known, class_counts=tuple(np.stack([counts, 0 * counts]) for counts in known.counts))
    live = [counts[::-1] * 20 for counts in known.counts]
    live[1] = np.array([0, 0, 240])
    verdict = judge(lone, live)
    assert verdict.word == "pictures"
    assert verdict.shares.tolist() == [1.0, 0.0]


def test_unusual_images_have_the_bins_that_are_new():
    known = make_reference()
    bins = np.zeros((60, len(known.figures)), dtype=int)
    for n, counts in enumerate(known.counts):  # the rows are spread as the reference is
        bins[:, n] = np.repeat(np.arange(len(counts)), counts * 5)
    brightness = known.figures.index("brightness")
    bins[:, brightness] = [2] * 58 + [0, 1]
    verdict = judge(known, count(bins, known))
    assert [figure.name for figure in verdict.moved] == ["brightness"]
    found = unusual(bins, known, verdict)
    q, r = (58 + 0.5) / 61.5, 4.5 / 13.5
    assert found[:58] == pytest.approx(np.log(q / r))
    assert (found[58:] < 0).all()
