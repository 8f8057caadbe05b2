"""How the queue's questions are answered: each by an index, no table scanned and nothing sorted, however much waits."""

import re
from collections.abc import Callable

from sqlalchemy import Connection, Engine, event, insert, select

from console.reviews.database import Database
from console.reviews.queue import COUNTED, Queue
from console.reviews.tables import ITEMS, REVIEWS
from loadtests.bench import reviews as bench
from tests.unit.console.reviews.conftest import ANNA, BEN, First

SERVED = {
    "items_held (holder=?)",
    "items_next (lane=?)",
    "items PRIMARY KEY (rowid=?)",
    "reviews_passed_on (item=? AND holder=?)",
    "reviews_of_holder (holder=?)",
    "reviews_item (item=?)",
    "reviews PRIMARY KEY (rowid=?)",
}
"""What SQLite is to find rows by; `items_next` is in the order of the turns, and `reviews_of_holder` in that of what was done."""


def acts(queue: Queue) -> dict[str, Callable[[], object]]:
    """Every act of a person, in an order in which each can be done."""
    taken: list[int] = []
    return {
        "take": lambda: taken.append(queue.take(ANNA).id),
        "take again": lambda: queue.take(ANNA),
        "count": queue.waiting,
        "see": lambda: queue.held(taken[0], ANNA),
        "skip": lambda: queue.skip(taken[0], ANNA),
        "undo": lambda: queue.undo(ANNA),
        "label": lambda: queue.label(taken[0], "intact", ANNA),
        "label again": lambda: queue.label(taken[0], "intact", ANNA),
        "take another": lambda: queue.take(ANNA),
    }


def asked_of(engine: Engine, act: Callable[[], object]) -> dict[str, object]:
    """The statements that look for rows, with their values, which an act sends."""
    seen: dict[str, object] = {}

    def note(_: Connection, __: object, statement: str, values: object, *___: object) -> None:
        if statement.startswith(("SELECT items", "SELECT reviews", "SELECT (", "UPDATE")):
            seen[statement] = values

    event.listen(engine, "before_cursor_execute", note)
    try:
        act()
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return seen


def plan(connection: Connection, statement: str, values: object) -> list[str]:
    """The steps by which the database answers. PostgreSQL's as if its tables were long: it scans short ones."""
    if connection.dialect.name == "sqlite":
        return [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
    for way in ("seqscan", "bitmapscan"):
        connection.exec_driver_sql(f"SET LOCAL enable_{way} = off")
    return [row[0] for row in connection.exec_driver_sql(f"EXPLAIN {statement}", values)]


def test_each_question_is_answered_by_an_index(url: str) -> None:
    database = Database.open(url)
    bench.fill(database, 200)
    asked: dict[str, object] = {}
    for act in acts(Queue(database, 600, 600, chance=First("review"))).values():
        asked |= asked_of(database.engine, act)
    assert len(asked) >= 8
    found = set()
    with database.reading() as connection:
        for statement, values in asked.items():
            steps = plan(connection, statement, values)
            if connection.dialect.name == "sqlite":
                of_tables = [step for step in steps if re.search(r"\b(items|reviews)\b", step)]
                assert of_tables, statement
                for step in of_tables:
                    match = re.fullmatch(r"SEARCH (\w+) USING (?:COVERING INDEX |INDEX |(?=INTEGER))(?:INTEGER )?(.+)", step)
                    assert match, f"{step}: {statement}"
                    found.add(f"{match[1]} {match[2]}" if match[2].startswith("PRIMARY") else match[2])
            else:
                assert any("Index" in step for step in steps), statement
            assert not any("Seq Scan" in step or "Sort" in step or "TEMP B-TREE" in step for step in steps), (
                f"{steps}: {statement}"
            )
        if connection.dialect.name == "sqlite":
            assert found == SERVED
    database.close()


def steps_of_acts(database: Database, items: int) -> dict[str, int]:
    """How many tens of instructions SQLite takes for each act beside so many items."""
    bench.fill(database, items)
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    event.listen(database.engine, "connect", lambda connection, _: connection.set_progress_handler(count, 10))
    database.engine.dispose()
    taken = {}
    for name, act in acts(Queue(database, 600, 600, chance=First("review"))).items():
        steps = 0
        act()
        taken[name] = steps
    return taken


def test_no_act_takes_longer_where_more_waits(tmp_path) -> None:
    """1,000 items are more than are counted, so that counting takes as long beside 4,000."""
    few, many = (Database.open(f"sqlite:///{tmp_path / name}.db") for name in ("few", "many"))
    short, long = steps_of_acts(few, 2 * COUNTED), steps_of_acts(many, 8 * COUNTED)
    assert {name: (short[name], long[name]) for name in short if long[name] > 1.5 * short[name] + 10} == {}
    for database in (few, many):
        database.close()


def test_a_person_who_passed_a_thousand_on_gets_the_next(url: str) -> None:
    database = Database.open(url)
    bench.fill(database, 2000)
    queue = Queue(database, 600, 600, chance=First("review"))
    in_turn = select(ITEMS.c.id).where(ITEMS.c.lane == "review").order_by(ITEMS.c.rank, ITEMS.c.id)
    with database.writing() as connection:
        ids = connection.execute(in_turn).scalars().all()
        skips = [{"item": one, "reviewer": "anna", "holder": ANNA.holder, "at_s": 1.0} for one in ids[:1000]]
        connection.execute(insert(REVIEWS), skips)
    assert queue.take(ANNA).id == ids[1000]
    assert queue.take(BEN).id == ids[0]
    database.close()


def test_a_long_lane_is_counted_to_its_end_no_more(url: str) -> None:
    database = Database.open(url)
    bench.fill(database, 2 * COUNTED)
    assert Queue(database, 600, 600).waiting() == {"review": COUNTED, "audit": 20}
    database.close()
