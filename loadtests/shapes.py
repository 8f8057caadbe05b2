"""Describe traffic as data: how the load changes over a run, and the times at which requests are due."""

import itertools
import math
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from loadtests import documents
from loadtests.documents import Document
from loadtests.errors import ShapeInvalid

FOLDER = Path(__file__).with_name("shapes")


class Point(Document):
    """Is a corner of a shape. `at`: where in the run, 0 to 1. `level`: the load there, in units of the shape's `of`."""

    at: float = Field(ge=0, le=1)
    level: float = Field(ge=0, le=10)


class Shape(Document):
    """Describes a load that goes in straight lines from point to point; two points at one place are a step.

    A level of 1 is the run's own rate (or number of users); with `of: capacity`, the capacity measured just before.
    """

    about: str
    of: Literal["rate", "capacity"] = "rate"
    points: tuple[Point, ...] = Field(min_length=2, max_length=100, strict=False)

    @model_validator(mode="after")
    def _cover_the_run(self) -> Self:
        places = [point.at for point in self.points]
        if places[0] != 0 or places[-1] != 1 or places != sorted(places):
            raise ValueError(f"points: `at` must ascend from 0 to 1, not {places}")
        if self.mean == 0:
            raise ValueError("points: every level is 0")
        return self

    @property
    def lines(self) -> Iterator[tuple[Point, Point]]:
        """Yield the ends of each line, steps left out."""
        return ((a, b) for a, b in itertools.pairwise(self.points) if b.at > a.at)

    @property
    def mean(self) -> float:
        """Return the mean level over the run."""
        return sum((b.at - a.at) * (a.level + b.level) / 2 for a, b in self.lines)

    def level(self, at: float) -> float:
        """Return the level at a place in the run, `at` in [0, 1]; at a step, the level after it."""
        for a, b in self.lines:
            if a.at <= at < b.at:
                return a.level + (b.level - a.level) * (at - a.at) / (b.at - a.at)
        return self.points[-1].level

    @property
    def last_above_one(self) -> float:
        """Return where in the run the load is above its unit for the last time; 0 where it never is."""
        return max((b.at for a, b in self.lines if max(a.level, b.level) > 1), default=0.0)


def load_shape(name: str) -> Shape:
    """Load a shape of `loadtests/shapes/` by its name, or any shape by its file's path. Raises ShapeInvalid."""
    known = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    path = FOLDER / f"{name}.yaml" if name in known else Path(name)
    if path.suffix != ".yaml":
        raise ShapeInvalid(f"no shape {name!r}: give a path to a .yaml file or one of {', '.join(known)}")
    return documents.load(path, Shape, ShapeInvalid)


def evenly() -> Iterator[float]:
    """Space arrivals as regularly as the load allows: one each time that another is expected."""
    return map(float, itertools.count())


def poisson(seed: int) -> Iterator[float]:
    """Space arrivals like those of independent clients: the gaps between them are exponential with mean 1."""
    draw = random.Random(seed)
    return itertools.accumulate(draw.expovariate(1.0) for _ in itertools.count())


def arrival_times(shape: Shape, rate: float, duration_s: float, counts: Iterable[float]) -> Iterator[float]:
    """Return when requests are due, in seconds since the start, ascending, before `duration_s`.

    `counts` ascends without end; a request is due each time that the expected number of arrivals, the integral of the
    load, reaches one of them (inversion of the cumulative rate: Çinlar, Introduction to Stochastic Processes, 1975). Pure,
    so that a run's schedule is known before its first request, whatever the server does later.
    """
    counts = iter(counts)
    count, before = next(counts), 0.0
    for a, b in shape.lines:
        start, length = a.at * duration_s, (b.at - a.at) * duration_s
        first, slope = rate * a.level, rate * (b.level - a.level) / length
        within = rate * (a.level + b.level) / 2 * length
        while count < before + within:
            # c = first x + slope x²/2, solved for x in the form that neither cancels nor divides by a slope of 0.
            c = count - before
            yield start + (2 * c / (first + math.sqrt(first * first + 2 * slope * c)) if c else 0.0)
            count = next(counts)
        before += within
