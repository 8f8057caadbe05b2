"""Counters are taken apart by hand: who counted what, what is new of it, and what restarts, gaps and a second scraper change."""

import itertools
import json
import math
from statistics import NormalDist

import pytest

from rollout import counters
from rollout.counters import Counters, edge_of
from rollout.gates import GATES, Count
from rollout.plan import Pod
from rollout.readings import Reading, Tally
from transformer.declared import SECONDS

PODS = {"s": Pod("stable", 100.0), "c": Pod("canary", 100.0)}
NOW, BOUND = 1_000.0, 0.5


def look(
    known: Counters | None, read: dict[str, Tally], pods: dict[str, Pod], now: float, bound_s: float, **restarts: int
) -> tuple[Counters | None, dict[str, tuple[Count, Count]], str]:
    """A look at what nobody says when it was scraped, as of a Prometheus that has no times."""
    return counters.look(known, {pod: Reading(tally) for pod, tally in read.items()}, pods, now, bound_s, restarts)


def looked(*reads: dict[str, Tally], pods: dict[str, Pod] = PODS) -> list[dict[str, tuple[Count, Count]]]:
    """What each look counts, the first of which only begins."""
    known: Counters | None = None
    found = []
    for number, read in enumerate(reads):
        known, counted, missing = look(known, read, pods, NOW + 10 * number, BOUND)
        assert not missing
        found.append(counted)
    assert found[0] == {}
    return found[1:]


def of(**tally: int) -> Tally:
    return {"requests": 0, "failed": 0, **tally}


def test_counts_are_differences_by_track() -> None:
    [counted] = looked(
        {"c": of(requests=10, failed=1), "s": of(requests=1_000, failed=2)},
        {"c": of(requests=15, failed=3), "s": of(requests=1_100, failed=2)},
    )
    assert counted["errors"] == (Count(2, 5), Count(0, 100))


def test_each_gate_s_events_and_totals() -> None:
    canary = {
        "answered": 100,
        "requests": 110,
        "failed": 4,
        "within:0.5": 93,
        "pass": 84,
        "flag": 30,
        "review": 6,
        "rejected": 5,
    }
    stable = {"answered": 10, "requests": 10, "within:0.5": 10, "pass": 9, "flag": 1, "shadow:agreed": 40, "shadow:label": 3}
    stable |= {"shadow:decision": 2, "shadow:dropped": 50, "shadow:timeout": 9}
    [counted] = looked({"c": {}, "s": {}}, {"c": canary, "s": stable})
    assert counted == {
        "errors": (Count(4, 110), Count(0, 10)),
        "refusals": (Count(5, 125), Count(0, 10)),
        "slow": (Count(7, 100), Count(0, 10)),
        "flagged": (Count(30, 120), Count(1, 10)),
        "reviewed": (Count(6, 120), Count(0, 10)),
        "disagreement": (Count(5, 45), Count(0, 0)),
    }


ALL = {"pass": 160, "flag": 32, "review": 16, "rejected": 48}
"""Of requests of 16 images each, alike: ten passed, two flagged, one reviewed, three rejected."""
ONE = {"drawn:pass": 10, "drawn:flag": 2, "drawn:review": 1, "drawn:rejected": 3}
NONE = dict.fromkeys(ONE, 0)


def test_of_each_request_one_image_counts() -> None:
    shown = {"shadow:agreed": 90, "shadow:label": 8, "shadow:decision": 16, "shadow:dropped": 5}
    drawn = {"drawn:agreed": 9, "drawn:label": 1, "drawn:decision": 2, "drawn:dropped": 1}
    [counted] = looked({"c": NONE, "s": NONE}, {"c": {**ALL, **ONE}, "s": {**NONE, **ALL, **ONE, **shown, **drawn}})
    assert counted["refusals"] == (Count(3, 16), Count(3, 16))
    assert counted["flagged"] == (Count(2, 13), Count(2, 13))
    assert counted["reviewed"] == (Count(1, 13), Count(1, 13))
    assert counted["disagreement"] == (Count(3, 12), Count(0, 0))


def test_beside_an_edge_that_draws_none_all_images_count() -> None:
    """Of both tracks, so that alike is compared with alike; once that edge is gone, one of each request again."""
    known, _, _ = look(None, {"c": NONE, "s": {}}, PODS, NOW, BOUND)
    assert known is not None
    assert not known.drawn
    known, counted, _ = look(known, {"c": {**ALL, **ONE}, "s": ALL}, PODS, NOW + 10, BOUND)
    assert counted["flagged"] == (Count(32, 208), Count(32, 208))
    assert counted["refusals"] == (Count(48, 256), Count(48, 256))
    newer = {"c": PODS["c"], "t": Pod("stable", NOW + 15)}
    twice = {what: 2 * count for what, count in {**ALL, **ONE}.items()}
    known, counted, _ = look(known, {"c": twice, "t": {**ALL, **ONE}}, newer, NOW + 20, BOUND)
    assert counted["flagged"] == (Count(2, 13), Count(2, 13))
    assert known is not None
    assert known.drawn


def test_what_an_older_version_read_is_gone_on_with() -> None:
    """Its record says nothing of drawn images, which edges had counted for long: they begin with their first reading."""
    old = {"since": NOW, "pods": {"c": {**ALL, "decided": 208}, "s": {**ALL, "decided": 208}}, "edge": None, "early": {}}
    known, counted, _ = look(Counters(**old), {"c": {**ALL, **ONE}, "s": {**ALL, **ONE}}, PODS, NOW + 10, BOUND)
    assert counted["flagged"] == (Count(0, 0), Count(0, 0))
    twice = {what: 2 * count for what, count in {**ALL, **ONE}.items()}
    _, counted, _ = look(known, {"c": twice, "s": twice}, PODS, NOW + 20, BOUND)
    assert counted["flagged"] == (Count(2, 13), Count(2, 13))


def test_a_restart_counts_from_zero_and_a_pod_that_came_later_too() -> None:
    later = {**PODS, "new": Pod("canary", NOW + 15)}
    known, _, _ = look(None, {"c": of(requests=10), "s": of(requests=50)}, PODS, NOW, BOUND)
    known, counted, _ = look(known, {"c": of(requests=4), "s": of(requests=60)}, PODS, NOW + 10, BOUND, c=1)
    assert counted["errors"] == (Count(0, 4), Count(0, 10))
    _, counted, _ = look(known, {"c": of(requests=4), "s": of(requests=60), "new": of(requests=7)}, later, NOW + 20, BOUND)
    assert counted["errors"] == (Count(0, 7), Count(0, 0))


def test_an_older_pod_that_prometheus_knows_late_begins_with_its_first_reading() -> None:
    known, _, _ = look(None, {"c": of(), "s": of()}, PODS, NOW, BOUND)
    grown = {**PODS, "old": Pod("stable", 200.0)}
    known, counted, _ = look(known, {"c": of(), "s": of(), "old": of(requests=9_000)}, grown, NOW + 10, BOUND)
    assert counted["errors"] == (Count(0, 0), Count(0, 0))
    _, counted, _ = look(known, {"c": of(), "s": of(), "old": of(requests=9_003)}, grown, NOW + 20, BOUND)
    assert counted["errors"] == (Count(0, 0), Count(0, 3))


def test_nothing_is_counted_while_a_ready_pod_is_missing_and_nothing_is_lost() -> None:
    known, _, missing = look(None, {"s": of()}, PODS, NOW, BOUND)
    assert known is None
    assert "nothing of pod c" in missing
    known, _, missing = look(None, {"c": of(requests=1), "s": of(requests=5)}, PODS, NOW, BOUND)
    assert missing == ""
    known, counted, missing = look(known, {"s": of(requests=25)}, PODS, NOW + 10, BOUND)
    assert (counted, missing != "") == ({}, True)
    _, counted, missing = look(known, {"c": of(requests=3), "s": of(requests=45)}, PODS, NOW + 20, BOUND)
    assert counted["errors"] == (Count(0, 2), Count(0, 40))


def test_a_bound_that_is_no_bucket_s_is_missing() -> None:
    read = {"c": {}, "s": timed(5, {0.5: 5})}
    assert look(None, read, PODS, NOW, BOUND)[2] == ""
    assert "no bucket of 0.6 s" in look(None, read, PODS, NOW, 0.6)[2]


def test_a_pod_that_is_not_ready_may_be_missing() -> None:
    pods = {**PODS, "starting": Pod("stable", NOW, ready=False)}
    assert look(None, {"c": of(), "s": of()}, pods, NOW, BOUND)[2] == ""


def test_sums_of_all_looks_are_what_was_counted_whatever_was_killed_between() -> None:
    """The counters between two looks go through JSON, as in the record."""
    reads = [{"c": of(requests=7 * n, failed=n // 3), "s": of(requests=100 * n, failed=n // 2)} for n in range(20)]
    whole = [count["errors"] for count in looked(*reads)]
    known, found = None, []
    for read in reads:
        known = Counters(**json.loads(json.dumps(known.__dict__))) if known else None
        known, counted, _ = look(known, read, PODS, NOW, BOUND)
        found += [counted["errors"]] if counted else []
    assert found == whole
    for side in (0, 1):
        events = sum(counted[side].events for counted in whole)
        assert events == (19 // 3, 19 // 2)[side]
    pairs = itertools.accumulate(counted[0].total for counted in whole)
    assert list(pairs)[-1] == 7 * 19


def timed(count: int, within: dict[float, int]) -> Tally:
    return {"answered": count, "requests": count, **{f"within:{bound:g}": n for bound, n in within.items()}}


@pytest.mark.parametrize(
    ("answered", "within", "edge"),
    [
        (200, {0.1: 189, 0.11: 190, 0.12: 200, 0.15: 200}, 0.15),  # p95 is 0.11, and 1.15 of it 0.1265
        (200, {0.1: 180, 0.2: 200, 0.3: 200}, 0.2),  # half of the bucket's answers are below the p95: 0.15, and 0.1725
        (200, {0.1: 189, 0.2: 199, 0.21: 200, 0.5: 200}, 0.2),  # 0.11
        (200, {0.1: 200, 0.11: 200, 0.5: 200}, 0.11),  # 0.095, and 0.109
        (199, {0.1: 199, 0.25: 199, 0.5: 199}, None),
        (200, {0.1: 3, 0.25: 4, 0.5: 5}, 0.5),
        (200, {0.1: 3, 0.25: 4, 0.5: 200}, 0.5),
    ],
)
def test_the_edge_is_a_bound_well_above_the_p95(answered: int, within: dict[float, int], edge: float | None) -> None:
    assert edge_of(timed(answered, {**within, float("inf"): answered})) == edge


@pytest.mark.parametrize("deviation", [0.08, 0.18, 0.24, 0.4, 0.8])
def test_five_percent_slower_is_tolerated_and_half_as_slow_again_is_above_the_margin(deviation: float) -> None:
    gate = next(gate for gate in GATES if gate.name == "slower")

    def within(bound: float, median: float) -> float:
        return NormalDist().cdf(math.log(bound / median) / deviation)

    for step in range(40):
        median = 0.02 * 1.25 ** (step / 10)
        early = timed(10**6, {bound: round(10**6 * within(bound, median)) for bound in SECONDS})
        edge = edge_of(early)
        assert edge is not None
        assert within(edge, median) - within(edge, 1.05 * median) < gate.tolerance
        assert within(edge, median) - within(edge, 1.5 * median) > gate.margin


def test_slower_is_counted_from_the_look_after_the_edge_is_known() -> None:
    stable = [timed(n, {0.08: n - n // 20, 0.1: n - n // 20, 0.25: n, 0.5: n}) for n in (0, 150, 400, 500)]
    canary = [timed(n, {0.08: n // 3, 0.1: n // 2, 0.25: n, 0.5: n}) for n in (0, 10, 20, 40)]
    found = looked(*({"s": s, "c": c} for s, c in zip(stable, canary, strict=True)))
    assert ["slower" in counted for counted in found] == [False, False, True]
    assert found[2]["slower"] == (Count(10, 20), Count(5, 100))


def test_of_the_buckets_the_record_keeps_two() -> None:
    bounds = {n / 10: 1_000 for n in range(1, 40)}
    known, _, _ = look(None, {"c": {}, "s": {}}, PODS, NOW, BOUND)
    known, _, _ = look(known, {"c": timed(1_000, bounds), "s": timed(1_000, bounds)}, PODS, NOW, BOUND)
    assert known is not None
    assert known.edge == 0.2
    assert {what for what in known.pods["s"] if what.startswith("within")} == {"within:0.2", "within:0.5"}


def test_a_scrape_that_is_not_of_one_instant_makes_no_impossible_count() -> None:
    [counted] = looked({"c": {}, "s": {}}, {"c": timed(5, {0.5: 6}), "s": {}})
    assert counted["slow"] == (Count(0, 5), Count(0, 0))
