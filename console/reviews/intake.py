"""How answers become items of the queue: those to be reviewed, a random share of all, and those that somebody names.

An answer is never held up: it is put into a line of bounded length, and one thread reads pictures' digests, draws, and writes.
What finds no room is counted by the database and by the metrics, and is no item.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from sqlalchemy import Connection, Executable, Table, update
from sqlalchemy.dialects import postgresql, sqlite

from console.errors import ConsoleError
from console.log import get_logger
from console.metrics import Metrics
from console.reviews.cost import expected_cost
from console.reviews.database import Database, lock
from console.reviews.draw import Draw
from console.reviews.pictures import Pictures, digest_of
from console.reviews.tables import ANSWERED, ITEMS, PICTURES
from console.servers.models import Answer
from console.settings import MIB

log = get_logger(__name__)

Source = Literal["console", "payload", "upload"]
"""How an answer came: asked by this console, told by KServe's payload logger, or uploaded for the queue."""
Lane = Literal["audit", "review", "drift"]
Key = tuple[str, str, str, str]
"""What answers are counted by: model, version, archive and decision."""

LEAST_BYTES = 8 << 10
"""What an answer in line counts at least, as its numbers and texts take memory, too."""
BATCH = 64
"""Answers that are written in one transaction at most."""
COLLECT_S = 0.2
"""How long the thread collects answers before it writes: a transaction waits for the disk, and takes 2 ms of the interpreter."""
RETRY_S = (0.5, 1.0, 2.0, 5.0)
"""Waits after a failure of database or pictures; the last one again and again."""
CLOSE_S = 10.0
"""How long the console's end waits for what is in line."""
MAP = {"heatmap", "heatmap_label", "heatmap_box", "heatmap_peak"}
"""What of an answer draws its heat map."""


@dataclass(frozen=True)
class Offer:
    """An answer in line. `labels`: the model's; `lane`: where it goes in any case, None where its decision and the draw say."""

    answer: Answer
    content: bytes
    labels: tuple[str, ...]
    source: Source
    lane: Lane | None
    came_s: float

    @property
    def size(self) -> int:
        """The bytes that it takes in line, about."""
        return max(LEAST_BYTES, len(self.content))

    @property
    def is_traffic(self) -> bool:
        """Whether the figures are about it: nobody chose it for the queue, and no threshold of the request's decided."""
        return self.source != "upload" and not self.answer.threshold_overridden


class Intake:
    """The line before the queue, and the thread that empties it. `share`: of all answers that are drawn for the audit."""

    def __init__(
        self,
        database: Database,
        pictures: Pictures,
        metrics: Metrics,
        share: float,
        most_mib: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._pictures, self._metrics, self._clock = database, pictures, metrics, clock
        self.share = share
        self._draw = Draw(database.secret("draw"))
        self._most_bytes = most_mib * MIB
        self._line: deque[Offer] = deque()
        self._bytes = 0
        self._dropped = Counter[Key]()
        self._changed = threading.Condition()
        self._closing = False
        self._writing = False
        self._thread = threading.Thread(target=self._run, name="reviews", daemon=True)

    def start(self) -> None:
        """Begin to empty the line."""
        self._thread.start()

    def close(self) -> None:
        """Write what is in line, for CLOSE_S at most, and end the thread; what is left is logged."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(CLOSE_S)
        if self._line:
            log.error("answers did not reach the review queue before the end", answers=len(self._line))

    def offer(
        self, answer: Answer, content: bytes, labels: Sequence[str] = (), source: Source = "console", lane: Lane | None = None
    ) -> bool:
        """Put an answer into the line, at once; whether there was room. `labels`: by default those that have a probability."""
        known = tuple(labels) or tuple(answer.probabilities)
        if not known or not answer.decision:
            return False  # nothing can be labelled: a picture's error, about which the archive decides nothing
        one = Offer(answer, content, known, source, lane, self._clock())
        with self._changed:
            room = self._bytes + one.size <= self._most_bytes and not self._closing
            if room:
                self._line.append(one)
                self._bytes += one.size
            else:
                self._dropped[_key(answer)] += 1
            # The thread is woken by the first answer and by a full batch: each time it takes the interpreter from the requests.
            if not room or len(self._line) in (1, BATCH):
                self._changed.notify_all()
        self._metrics.offered.labels("taken" if room else "dropped").inc()
        if not room:
            log.warning("the review queue's line is full: an answer is not in it", model=answer.model)
        return room

    def flush(self, within_s: float = 30.0) -> bool:
        """Wait until all that was offered is written; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._line and not self._writing and not self._dropped, within_s)

    def _run(self) -> None:
        failures = 0
        while batch := self._next():
            offers, dropped = batch
            try:
                self._write_each(offers, dropped)
                failures = 0
            except ConsoleError as err:
                log.warning("the review queue cannot be written, and is tried again", reason=str(err))
                self._put_back(offers, dropped)
                with self._changed:
                    if self._closing:
                        return
                    self._changed.wait_for(lambda: self._closing, RETRY_S[min(failures, len(RETRY_S) - 1)])
                failures += 1
            finally:
                with self._changed:
                    self._writing = False
                    self._changed.notify_all()

    def _write_each(self, offers: Sequence[Offer], dropped: Counter[Key]) -> None:
        """Write answers together; where that fails, each by itself: one that cannot be written takes none with it.

        Raises ConsoleError, where nothing can be written now.
        """
        try:
            self._write(offers, dropped)
        except ConsoleError:
            raise
        except Exception:
            if len(offers) > 1:
                for one in offers:
                    self._write_each([one], Counter())
                self._write_each([], dropped)
                return
            log.exception("an answer could not be written into the review queue")
            self._metrics.offered.labels("failed").inc(len(offers))

    def _next(self) -> tuple[list[Offer], Counter[Key]] | None:
        """Wait for answers and take some; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._line or self._dropped or self._closing))
            if self._closing and not self._line and not self._dropped:
                return None
            self._changed.wait_for(lambda: self._closing or len(self._line) >= BATCH, COLLECT_S)
            offers = [self._line.popleft() for _ in range(min(BATCH, len(self._line)))]
            self._bytes -= sum(one.size for one in offers)
            dropped, self._dropped = self._dropped, Counter()
            self._writing = True
            return offers, dropped

    def _put_back(self, offers: list[Offer], dropped: Counter[Key]) -> None:
        with self._changed:
            self._line.extendleft(reversed(offers))
            self._bytes += sum(one.size for one in offers)
            self._dropped += dropped

    def _write(self, offers: Sequence[Offer], dropped: Counter[Key]) -> None:
        chosen = []
        for one in offers:
            digest = digest_of(one.content)
            lane: Lane | None = one.lane or ("review" if one.answer.decision == "review" else None)
            if one.is_traffic and self._draw.draws(digest, self.share):
                lane = "audit"
            if lane:
                self._pictures.put(digest, one.content)
                chosen.append((digest, lane, one))
        traffic = Counter(_key(one.answer) for one in offers if one.is_traffic)
        with self._database.writing() as connection:
            lock(connection, (digest for digest, _, _ in chosen))
            added = sum(self._add(connection, *one) for one in chosen)
            _count(connection, traffic, dropped)
        self._metrics.offered.labels("queued").inc(added)

    def _add(self, connection: Connection, digest: str, lane: Lane, one: Offer) -> int:
        """Add an item, unless its picture was answered by the same archive before; return how many were added."""
        answer = one.answer
        _insert(connection, PICTURES, digest=digest, size=len(one.content), came_s=one.came_s)
        if not self._pictures.has(digest):
            self._pictures.put(digest, one.content)  # somebody has deleted it since it was put there
        cost = expected_cost(answer)
        row = {
            "digest": digest,
            "came_s": one.came_s,
            "source": one.source,
            "state": "open",
            "lane": lane,
            "rank": -cost if lane == "review" else 0.0,
            "chance": self.share if one.is_traffic else None,
            "cost": cost,
            "model": answer.model,
            "version": answer.version,
            "archive": answer.digest,
            "track": answer.track,
            "labels": list(one.labels),
            "positive": list(answer.positive),
            "label": answer.label,
            "confidence": answer.confidence,
            "score": answer.score,
            "probabilities": answer.probabilities or None,
            "decision": answer.decision,
            "threshold": answer.threshold,
            "served": one.is_traffic and not answer.group,
            "map": answer.model_dump(mode="json", include=MAP) if answer.heatmap is not None else None,
        }
        if _insert(connection, ITEMS, **row):
            return 1
        if one.is_traffic:  # takes the place of an answer that somebody chose, or that a threshold of a request's decided
            same = (ITEMS.c.digest == digest) & (ITEMS.c.archive == answer.digest)
            del row["state"]  # a label that was given stays
            connection.execute(update(ITEMS).where(same, ITEMS.c.chance.is_(None)).values(**row))
        return 0


def _key(answer: Answer) -> Key:
    return answer.model, answer.version, answer.digest, answer.decision


def _insert(connection: Connection, table: Table, **row: Any) -> bool:
    """Insert a row, unless one with its unique columns is there; whether it was inserted."""
    return bool(connection.execute(_insertion(connection.dialect.name, table), row).rowcount)


@cache
def _insertion(dialect: str, table: Table) -> Executable:
    """The statement that inserts a row given beside it; made once, as making one takes longer than SQLite does with it."""
    of: Any = sqlite if dialect == "sqlite" else postgresql
    statement: Executable = of.insert(table).on_conflict_do_nothing()
    return statement


def _count(connection: Connection, answered: Counter[Key], dropped: Counter[Key]) -> None:
    """Add to the numbers of pictures answered, in one order, so that two processes never wait for each other."""
    for key in sorted(answered.keys() | dropped.keys()):
        names = dict(zip(("model", "version", "archive", "decision"), key, strict=True))
        _insert(connection, ANSWERED, **names, pictures=0, dropped=0)
        more = {"pictures": ANSWERED.c.pictures + answered[key] + dropped[key], "dropped": ANSWERED.c.dropped + dropped[key]}
        this = [ANSWERED.c[name] == value for name, value in names.items()]
        connection.execute(update(ANSWERED).where(*this).values(**more))
