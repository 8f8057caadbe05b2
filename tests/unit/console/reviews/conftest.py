"""A review queue in SQLite and in PostgreSQL, each test in a database of its own, with a clock that tests set."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from console.metrics import Metrics
from console.reviews.database import Database
from console.reviews.intake import Intake
from console.reviews.pictures import FolderPictures
from console.reviews.queue import Queue, Reviewer
from console.servers.models import Answer
from tests.postgres import postgresql

__all__ = ("postgresql",)

ANNA, BEN = Reviewer("anna", "anna:1"), Reviewer("ben", "ben:1")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'reviews.db'}"
    return request.getfixturevalue("postgresql").make_database()


@dataclass
class Clock:
    """The time, in seconds since 1970."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def answer_of(score: float = 0.5, decision: str = "review", **changes) -> Answer:
    """What a server of damaged and intact roofs answers, whose threshold is 0.2."""
    fields = {
        "model": "roofs", "version": "3", "digest": "a" * 64, "track": "stable", "positive": ("damaged",), "threshold": 0.2,
        "review_from": 0.1, "review_to": 0.6, "label": "damaged" if score > 0.5 else "intact",
        "confidence": max(score, 1 - score),
        "probabilities": {"damaged": score, "intact": 1 - score}, "score": score, "decision": decision,
    }  # fmt: skip
    return Answer(**{**fields, **changes})


@dataclass
class Desk:
    """A queue with all around it. `chance`: whose turn it is."""

    database: Database
    pictures: FolderPictures
    intake: Intake
    queue: Queue
    clock: Clock
    metrics: Metrics

    def offer(self, content: bytes, answer: Answer | None = None, **how) -> None:
        """Offer an answer and wait until it is written."""
        assert self.intake.offer(answer or answer_of(), content, **how)
        assert self.intake.flush()

    def offer_reviews(self, count: int) -> None:
        """Offer so many answers to be reviewed, the dearest last."""
        for n in range(count):
            self.intake.offer(answer_of(0.2 + (count - n) / (10 * count)), b"picture %d" % n)
        assert self.intake.flush()


class First(random.Random):
    """A chance whose turns are all of one lane."""

    def __init__(self, lane: str) -> None:
        super().__init__()
        self.lane = lane

    def choices(self, *_, **__):
        return [self.lane]


@pytest.fixture
def make_desk(url: str, tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    """Make a desk; several of one test are several processes' with the same database and pictures."""
    made: list[Desk] = []

    def make(share: float = 0.0, lane: str = "review", most_mib: int = 64) -> Desk:
        database, pictures, metrics, clock = Database.open(url), FolderPictures(tmp_path / "pictures"), Metrics(), Clock()
        intake = Intake(database, pictures, metrics, share, most_mib, clock)
        intake.start()
        made.append(Desk(database, pictures, intake, Queue(database, 60, 120, clock, First(lane)), clock, metrics))
        return made[-1]

    yield make
    for desk in made:
        desk.intake.close()
        desk.database.close()


@pytest.fixture
def desk(make_desk: Callable[..., Desk]) -> Desk:
    """A desk whose turns are the lane review's, and of whose answers none is drawn."""
    return make_desk()
