"""Where things are drawn: the score on its scale, the curve of thresholds. Pure functions to numbers that templates write."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from console.page import words
from console.servers.models import Answer, CurvePoint, Model

ENDS = 0.001
"""The scale's ends, 0.1 % and 99.9 %: what is beyond them is drawn at them."""
TICKS = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
EDGE = 12.0
"""Percent of a scale within which a text is written from its end inwards."""


def place(probability: float) -> float:
    """Where a probability lies on the scale, in percent of its length: evenly by log-odds, so that 1 % and 2 % lie apart."""
    least, most = _log_odds(ENDS), _log_odds(1 - ENDS)
    inside = min(max(probability, ENDS), 1 - ENDS)
    return round(100 * (_log_odds(inside) - least) / (most - least), 2)


def _log_odds(probability: float) -> float:
    return math.log(probability / (1 - probability))


def anchor(at: float) -> str:
    """How a text at this place of a scale (percent) is anchored, so that it stays inside."""
    return "start" if at < EDGE else "end" if at > 100 - EDGE else "middle"


NEAR = 5.0
"""Percent of a scale within which the threshold's line would cross a tick's text, which is left out."""


@dataclass(frozen=True)
class Mark:
    """Something on a scale. `at`: percent of its length."""

    at: float
    text: str

    @property
    def anchor(self) -> str:
        """Which end of the text is at the place."""
        return anchor(self.at)


@dataclass(frozen=True)
class Zone:
    """A part of a scale with one decision, in percent of its length."""

    decision: str
    start: float
    width: float


@dataclass(frozen=True)
class Scale:
    """A score between 0 and 1 with the rule that decided it. `limits`: ends of the review band that are not the threshold."""

    zones: tuple[Zone, ...]
    ticks: tuple[Mark, ...]
    score: Mark
    threshold: Mark
    limits: tuple[float, ...]
    said: str


def scale(answer: Answer) -> Scale | None:
    """Make the scale of an answer, None where it has no score or no rule."""
    score, threshold, low, high = answer.score, answer.threshold, answer.review_from, answer.review_to
    if score is None or threshold is None or low is None or high is None:
        return None
    start, end = place(low), place(high)
    above, below = ("flag", "pass") if answer.positive else ("pass", "pass")
    parts = ((below, 0.0, start), ("review", start, end), (above, end, 100.0))
    if not answer.positive:
        parts = (("review", 0.0, end), (above, end, end), (above, end, 100.0))
    return Scale(
        zones=tuple(Zone(decision, at, round(to - at, 2)) for decision, at, to in parts if to > at),
        ticks=tuple(
            Mark(place(tick), "" if abs(place(tick) - place(threshold)) < NEAR else f"{100 * tick:g} %") for tick in TICKS
        ),
        score=Mark(place(score), f"{'score' if answer.positive else 'confidence'} {words.number(score, threshold, low, high)}"),
        threshold=Mark(place(threshold), f"threshold {words.number(threshold, score)}"),
        limits=tuple(place(limit) for limit in (low, high) if limit not in (threshold, 0.0)),
        said=words.rule(answer),
    )


@dataclass(frozen=True)
class Point:
    """A choice of the slider. `outcome`: this picture's decision with it; `said`: all of it in a sentence."""

    threshold: float
    shown: str
    missed: str
    flagged: str
    outcome: str
    said: str


@dataclass(frozen=True)
class Curve:
    """What each choice of threshold misses and flags. The choices are evenly spaced, as the archive's curve has them.

    `missed`, `flagged`: points of polylines in a box of 100 x 100. `own`, `score`: where archive's threshold and this picture's
    score lie, in percent; `held`: up to where the promise covers a threshold, None without one. `start`: the choice shown first.
    """

    choices: tuple[Point, ...]
    missed: str
    flagged: str
    own: float
    score: float | None
    held: float | None
    start: int


def curve(answer: Answer, model: Model) -> Curve | None:
    """Make the curve of a model for one answer, None where there is no choice."""
    points, rule = sorted(model.curve, key=lambda point: point.threshold), model.rule
    if len(points) < 2 or rule is None or not model.positive:
        return None
    thresholds = [point.threshold for point in points]
    now = rule.threshold if answer.threshold is None else answer.threshold
    return Curve(
        choices=tuple(_point(point, answer, model) for point in points),
        missed=_line([point.missed for point in points]),
        flagged=_line([point.false_alarms for point in points]),
        own=between(thresholds, rule.threshold),
        score=None if answer.score is None else between(thresholds, answer.score),
        held=None if model.bound is None else between(thresholds, model.bound.threshold),
        start=min(range(len(points)), key=lambda n: abs(thresholds[n] - now)),
    )


def _point(point: CurvePoint, answer: Answer, model: Model) -> Point:
    outcome = "" if answer.score is None else words.with_threshold(point.threshold, answer).decide(answer.score)
    return Point(
        point.threshold,
        words.number(point.threshold),
        words.percent(point.missed),
        words.percent(point.false_alarms),
        outcome,
        words.choice(point.threshold, point.missed, point.false_alarms, answer, model),
    )


def between(thresholds: Sequence[float], value: float) -> float:
    """Where a value lies among ascending thresholds that are drawn evenly spaced, in percent."""
    right = min(max(bisect_right(thresholds, value), 1), len(thresholds) - 1)
    low, high = thresholds[right - 1], thresholds[right]
    inside = 0.0 if high == low else min(max((value - low) / (high - low), 0.0), 1.0)
    return round(100 * (right - 1 + inside) / (len(thresholds) - 1), 2)


def _line(shares: Sequence[float]) -> str:
    last = len(shares) - 1
    return " ".join(f"{100 * n / last:.2f},{100 * (1 - share):.2f}" for n, share in enumerate(shares))
