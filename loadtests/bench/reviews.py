"""How long a person waits for the next picture of a long review queue: `python -m loadtests.bench.reviews`, about a minute.

Four people take and label pictures of a queue of 500 and of one of 50,000, whose rows are written at once, beside the bare write
of one row to the same database, which ends with the disk as a label does.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from sqlalchemy import delete, insert

from console.reviews.database import Database
from console.reviews.queue import Item, Queue, Reviewer
from console.reviews.tables import ITEMS, PICTURES, REVIEWS, SECRETS

ITEMS_BEFORE, PEOPLE, TURNS = (500, 50_000), 4, 250
CHUNK = 5_000
Result = TypeVar("Result")


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table as Markdown."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.reviews", description=__doc__)
    parser.add_argument("--database", help="SQLAlchemy URL of a database that is emptied (default: SQLite in a new folder)")
    args = parser.parse_args(argv)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="visor-reviews-"))
        database = Database.open(args.database or f"sqlite:///{Path(folder) / 'reviews.db'}")
        print("| items | next, p50 and p95 | label, p50 and p95 | bare write, p50 and p95 |\n| --- | --- | --- | --- |")
        for items in ITEMS_BEFORE:
            fill(database, items)
            taken, labelled = work(database)
            print(f"| {items:,} | {_shown(taken)} | {_shown(labelled)} | {_shown(bare(database))} |", flush=True)
        database.close()
    return 0


def fill(database: Database, items: int) -> None:
    """Empty the queue and put so many items into it, of costs in no order, a fiftieth of them drawn at random."""
    rng = np.random.default_rng(0)
    with database.writing() as connection:
        for table in (REVIEWS, ITEMS, PICTURES):
            connection.execute(delete(table))
    for begin in range(0, items, CHUNK):
        numbers = range(begin, min(begin + CHUNK, items))
        costs = rng.random(len(numbers)).tolist()
        with database.writing() as connection:
            connection.execute(insert(PICTURES), [{"digest": f"{n:064x}", "size": 1, "came_s": 0.0} for n in numbers])
            connection.execute(insert(ITEMS), [_row(n, cost) for n, cost in zip(numbers, costs, strict=True)])


def _row(number: int, cost: float) -> dict[str, object]:
    drawn = number % 50 == 0
    fields = {"source": "console", "state": "open", "lane": "audit" if drawn else "review", "rank": 0.0 if drawn else -cost}
    answer = {"model": "roofs", "version": "1", "archive": "a" * 64, "track": "stable", "labels": ["damaged", "intact"]}
    decided = {
        "positive": ["damaged"],
        "label": "intact",
        "confidence": 0.7,
        "score": 0.3,
        "decision": "review",
        "threshold": 0.3,
    }
    return {
        "digest": f"{number:064x}", "came_s": 0.0, "threshold": 0.3, "chance": 0.02, "cost": cost, "served": True,
        "probabilities": {"damaged": 0.3, "intact": 0.7}, **fields, **answer, **decided,
    }  # fmt: skip


def work(database: Database) -> tuple[list[float], list[float]]:
    """Let PEOPLE take and label TURNS pictures each, at once; the seconds of each taking and of each labelling."""
    queue = Queue(database, 600, 600)
    taken: list[float] = []
    labelled: list[float] = []

    def person(number: int) -> None:
        who = Reviewer(f"person-{number}", f"person-{number}:1")
        for _ in range(TURNS // PEOPLE):
            item, seconds = timed(partial(next_item, queue, who))
            taken.append(seconds)
            labelled.append(timed(partial(queue.label, item.id, "intact", who))[1])

    people = [threading.Thread(target=person, args=(number,)) for number in range(PEOPLE)]
    for one in people:
        one.start()
    for one in people:
        one.join()
    return taken, labelled


def next_item(queue: Queue, who: Reviewer) -> Item:
    """What `POST /reviews/next` does: take an item, and count what waits."""
    item = queue.take(who)
    queue.waiting()
    return item


def bare(database: Database) -> list[float]:
    """The seconds of each of TURNS transactions of one row."""

    def write(number: int) -> None:
        with database.writing() as connection:
            connection.execute(delete(SECRETS).where(SECRETS.c.name == "bench"))
            connection.execute(insert(SECRETS).values(name="bench", value=str(number)))

    return [timed(partial(write, number))[1] for number in range(TURNS)]


def timed(act: Callable[[], Result]) -> tuple[Result, float]:
    """What `act` returns, and the seconds that it took."""
    began = time.perf_counter()
    result = act()
    return result, time.perf_counter() - began


def _shown(seconds: Sequence[float]) -> str:
    return " and ".join(f"{1000 * value:.1f} ms" for value in np.quantile(seconds, (0.5, 0.95)))


if __name__ == "__main__":
    sys.exit(main())
