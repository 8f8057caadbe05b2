"""Records go through JSON and come back as they were; one that is damaged is refused with what to do, which the Job may do."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rollout.counters import Counters, Origin
from rollout.errors import RecordUnreadable
from rollout.evidence import Evidence
from rollout.plan import Plan, State
from rollout.record import EARLIER, HISTORY, LONGEST, Entry, Record, Store, from_json
from rollout.run import Loop
from tests.unit.rollout.world import CANARY, RECORD, STABLE, STEPS, World


def record_of(**others: Any) -> Record:
    origins = {"roofs-1": Origin(source="5e", scraped=1.5, restarts=0, older=0.0)}
    counters = Counters(1.0, {"roofs-1": {"requests": 5}}, origins=origins)
    return Record(Plan(STABLE, CANARY, STEPS), State(0.0, 0.0, Evidence.begin()), counters, **others)


def test_a_record_comes_back_as_it_was() -> None:
    written = json.dumps(record_of().told(3.0, "begun").to_json())
    read = from_json(json.loads(written))
    assert json.dumps(read.to_json()) == written
    assert read.counters == record_of().counters


def test_a_record_of_before_there_were_sources_is_read() -> None:
    content = json.loads(json.dumps(record_of().to_json()))
    for name in ("origins", "gone", "without", "twofold"):
        del content["counters"][name]
    assert from_json(content).counters == Counters(1.0, {"roofs-1": {"requests": 5}})


@pytest.mark.parametrize("letter", ["x", "ö", "屋"])
def test_the_history_has_an_end_in_bytes(letter: str) -> None:
    """Also of 400 pods before the edge is known, a record fits into a ConfigMap of 1 MiB."""
    tally = dict.fromkeys([*(f"within:{n / 100:g}" for n in range(25)), *(f"drawn:{n}" for n in range(25))], 10**9)
    origin = Origin(source="0123456789ab", scraped=1_800_000_000.123, restarts=3, older=1_800_000_000.123)
    names = [f"a-rather-long-release-name-predictor-{n:010x}-abcde" for n in range(400)]
    counters = Counters(0.0, dict.fromkeys(names, tally), origins=dict.fromkeys(names, origin))
    known = Record(Plan(STABLE, CANARY, STEPS), State(0.0, 0.0, Evidence.begin()), counters)
    known = Record(**{**known.__dict__, "earlier": (Entry(0.0, "rolled-back", 0.0, letter * 5_000),) * EARLIER})
    for number in range(HISTORY + 5):
        known = known.told(float(number), letter * 5_000)
    content = known.to_json()
    assert len(content["history"]) == HISTORY
    for entry in (*content["history"], *content["earlier"]):
        assert LONGEST - 3 < len(entry["what"].encode()) <= LONGEST
    assert len(json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()) < 2**20


def test_what_is_written_is_utf_8(world: World) -> None:
    Store(world.cluster, "roofs").write(record_of(missing="Dächer"))
    text = world.api.objects[RECORD]["data"]["record.json"]
    assert "Dächer" in text
    known, _ = Store(world.cluster, "roofs").read()
    assert known is not None
    assert known.missing == "Dächer"


def damaged(*path: str | int, value: Any) -> Callable[[dict[str, Any]], str]:
    def text(content: dict[str, Any]) -> str:
        part: Any = content
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value
        return json.dumps(content)

    return text


DAMAGES: dict[str, Callable[[dict[str, Any]], str]] = {
    "a list": lambda _: "[]",
    "a text": lambda _: '"x"',
    "null": lambda _: "null",
    "a number": lambda _: "5",
    "half": lambda content: json.dumps(content)[:500],
    "deep": lambda _: '{"format":1,"plan":' + "[" * 100_000,
    "a later format": damaged("format", value=2),
    "a gate that is a list": damaged("state", "evidence", "tests", 0, "gate", value=[]),
    "no evidence": damaged("state", "evidence", value=None),
    "no gates": damaged("state", "evidence", "tests", value=[]),
    "alpha 0": damaged("state", "evidence", "alpha", value=0),
    "NaN": damaged("state", "evidence", "tests", 0, "capital", 0, value=float("nan")),
    "counts below 0": damaged("state", "evidence", "tests", 0, "seen", value=[-1, 0, 0, 0]),
    "an unknown phase": damaged("state", "phase", value="steping"),
    "a phase that is a list": damaged("state", "phase", value=[]),
    "a share that is a text": damaged("state", "percent", value="10"),
    "a share above all": damaged("state", "target", value=101),
    "step 99": damaged("state", "step", value=99),
    "step -1": damaged("state", "step", value=-1),
    "no steps": damaged("plan", "steps", value=[]),
    "counters that are a list": damaged("counters", "pods", value=[]),
    "counts that are texts": damaged("counters", "pods", "roofs-1", "requests", value="5"),
    "counters of no source": damaged("counters", "origins", "roofs-1", value={}),
    "a time that is a text": damaged("looked", value="now"),
    "a history of texts": damaged("history", value=["x"]),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_record_is_refused_with_what_to_do(world: World, damage: Callable[[dict[str, Any]], str]) -> None:
    loop = Loop(world.cluster, world.order, world.now, "one")
    world.until(loop, lambda: world.percent == 10)
    world.turn(loop)
    world.api.objects[RECORD]["data"]["record.json"] = damage(world.record)
    world.now += 100
    with pytest.raises(RecordUnreadable, match=r"ConfigMap roofs-rollout.*empty its data to begin anew: kubectl patch"):
        world.turn(Loop(world.cluster, world.order, world.now, "two"))


TESTS = ("state", "evidence", "tests", 0)
FIELDS: list[tuple[str | int, ...]] = [
    *((*TESTS, key) for key in ("seen", "waiting", "waited", "capital", "proof", "weighed")),
    *((*TESTS, key, 0) for key in ("seen", "waiting", "capital", "weighed")),
    (*TESTS, "proof", 0, 1),
    *(("counters", key) for key in ("since", "early", "gone", "without", "drawn", "twofold", "pods", "origins")),
    ("counters", "early", "answered"),
    ("counters", "early", "within:0.1"),
    ("counters", "gone", "roofs-2"),
    ("counters", "without", 0),
    *(("counters", "origins", "roofs-1", key) for key in ("source", "scraped", "restarts", "older")),
    ("state", "restarts"),
    ("state", "restarts", "roofs-canary-1"),
    ("stable_restarts", "roofs-1"),
    ("plan", "knative"),
    ("plan", "stable_args"),
    ("plan", "canary_args", 0),
    ("state", "proven"),
    ("judged",),
    ("obeyed",),
    ("holder",),
    ("held_at",),
]


def full() -> dict[str, Any]:
    """A record that has something in each of its fields."""
    known = record_of(stable_restarts={"roofs-1": 1})
    content: dict[str, Any] = json.loads(json.dumps(known.to_json()))
    content["plan"]["canary_args"] = ["--digest=22"]
    content["state"]["restarts"] = {"roofs-canary-1": 0}
    early = {"answered": 300, "within:0.1": 290, "within:0.5": 300}
    content["counters"] |= {"early": early, "gone": {"roofs-2": 1.5}, "without": ["roofs-2"]}
    return content


def others() -> Iterator[Any]:
    """Each field with each value that is not of its kind. What is true is 1 in an array."""
    for path in FIELDS:
        there: Any = full()
        for key in path:
            there = there[key]
        for value in ("x", None, [], {}, [None], True, 7.5):
            own = type(value) is type(there) and (type(there) is not list or "tests" not in path)
            if not (own or (value is True and isinstance(path[-1], int))):
                yield pytest.param(path, value, id=f"{'.'.join(map(str, path))}-{value}")


@pytest.mark.parametrize(("path", "value"), list(others()))
def test_a_field_of_another_kind_is_refused(path: tuple[str | int, ...], value: Any) -> None:
    """By texts, null, lists, truths and fractions; as it was written it is read."""
    content = full()
    part: Any = content
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    from_json(full())
    with pytest.raises(RecordUnreadable):
        from_json(content)


@pytest.mark.parametrize("early", [{"answered": 300}, {"answered": 300, "within:x": 300}, {"answered": 300, "within:0.10": 300}])
def test_answers_of_which_no_bound_can_be_made_are_refused(early: dict[str, int]) -> None:
    content = full()
    content["counters"]["early"] = early
    with pytest.raises(RecordUnreadable):
        from_json(content)


def test_emptied_it_begins_anew(world: World) -> None:
    """As the advice says, without another ConfigMap: the chart's Job may not make one."""
    loop = Loop(world.cluster, world.order, world.now, "one")
    world.until(loop, lambda: world.percent == 10)
    world.api.objects[RECORD]["data"] = None
    world.api.refusals["POST"] = [403]
    assert world.end(Loop(world.cluster, world.order, world.now, "two"))["state"]["phase"] == "promoted"
