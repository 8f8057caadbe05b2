"""A console that is killed again and again while four people label 1,000 pictures, in SQLite and in PostgreSQL.

Every label that was acknowledged is there, once, and as it was given; no picture has two.
"""

import random
import threading
import time
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from console.metrics import Metrics
from console.reviews.database import Database
from console.reviews.intake import Intake
from console.reviews.pictures import FolderPictures
from console.reviews.tables import ITEMS, REVIEWS
from console.servers.models import Answer
from tests.integration.console.consoles import Console, running

PICTURES, PEOPLE, KILLS = 1000, 4, 6
LABELS = ("damaged", "intact")
PATIENCE_S = 300.0


def fill(url: str, folder: Path) -> None:
    """Put the pictures into the queue: of each number one."""
    database = Database.open(url)
    intake = Intake(database, FolderPictures(folder), Metrics(), 0.01, 64)
    intake.start()
    for n in range(PICTURES):
        score = 0.2 + n / (10 * PICTURES)
        answer = Answer(
            model="roofs", version="1", digest="a" * 64, label="intact", confidence=1 - score, score=score, threshold=0.3,
            positive=("damaged",), probabilities={"damaged": score, "intact": 1 - score}, decision="review",
        )  # fmt: skip
        assert intake.offer(answer, b"%d" % n)
    assert intake.flush()
    intake.close()
    database.close()


class Person(threading.Thread):
    """Somebody who labels until nothing waits, and says every sentence again that was not answered."""

    def __init__(self, number: int, address: list[str]) -> None:
        super().__init__()
        self.name, self.address, self.random = f"window-{number}", address, random.Random(number)
        self.acknowledged: dict[int, str] = {}
        self.trouble: list[str] = []

    def run(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            held = self.ask("next")
            if held is None:
                return
            label = self.random.choice(LABELS)
            done = self.ask(f"{held['id']}/label", {"label": label})
            if done != {"id": held["id"], "label": label} or held["id"] in self.acknowledged:
                self.trouble.append(f"{held['id']}: {done}")
            self.acknowledged[held["id"]] = label
        self.trouble.append("no end")

    def ask(self, path: str, body: object = None) -> dict | None:
        """Ask until there is an answer; None where nothing waits."""
        while True:
            try:
                url = f"{self.address[0]}/reviews/{path}"
                answer = httpx.post(url, params={"window": self.name}, json=body, timeout=30)
            except httpx.TransportError:
                time.sleep(0.02)
                continue
            if answer.status_code == 404:
                return None
            if answer.status_code != 503:
                return answer.json()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_every_acknowledged_label_is_there_once(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = f"sqlite:///{tmp_path / 'reviews.db'}" if kind == "sqlite" else request.getfixturevalue("postgresql").make_database()
    pictures = tmp_path / "pictures"
    fill(url, pictures)
    address, killed = ["http://127.0.0.1:1"], 0
    people = [Person(n, address) for n in range(PEOPLE)]
    for person in people:
        person.start()
    chance = random.Random(7)
    while any(person.is_alive() for person in people):
        with running(tmp_path, database=url, pictures=str(pictures)) as console:
            address[0] = console.url
            if killed < KILLS:
                wait_for_labels(people, console, chance.randint(60, 140))
                console.process.kill()
                killed += 1
            else:
                for person in people:
                    person.join()
    assert [person.trouble for person in people] == [[]] * PEOPLE
    acknowledged = [one for person in people for one in person.acknowledged.items()]
    assert killed == KILLS
    assert len(acknowledged) == len(dict(acknowledged)) == PICTURES

    database = Database.open(url)
    with database.reading() as connection:
        kept = connection.execute(select(REVIEWS.c.item, REVIEWS.c.label).where(REVIEWS.c.undone_s.is_(None))).all()
        states = set(connection.execute(select(ITEMS.c.state)).scalars())
    database.close()
    assert sorted(tuple(row) for row in kept) == sorted(acknowledged)
    assert states == {"labelled"}


def wait_for_labels(people: list[Person], console: Console, more: int) -> None:
    """Wait until so many labels more were acknowledged, or all people are done."""
    begin = sum(len(person.acknowledged) for person in people)
    while sum(len(person.acknowledged) for person in people) < begin + more and any(person.is_alive() for person in people):
        assert console.process.poll() is None, console.log.read_text()
        time.sleep(0.002)
