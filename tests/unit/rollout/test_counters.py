"""Counters are taken apart by hand: who counted what, what is new of it, and what restarts, gaps and a second scraper change."""

import itertools
import json
import math
import random
from dataclasses import replace
from statistics import NormalDist

import pytest

from rollout import counters
from rollout.counters import COLD, Counters, edge_of
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


WARM = {"answered": COLD, **{f"within:{bound:g}": COLD for bound in (0.08, 0.1, 0.125, 0.25, 0.35, 0.4, 0.5)}}
"""Of a pod that has answered enough to be timed."""


def warm(tally: Tally) -> Tally:
    """These sums on top of WARM's."""
    return {what: WARM.get(what, 0) + tally.get(what, 0) for what in WARM.keys() | tally.keys()}


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
    [counted] = looked({"c": WARM, "s": WARM}, {"c": warm(canary), "s": warm(stable)})
    assert counted == {
        "errors": (Count(4, 110), Count(0, 10)),
        "refusals": (Count(5, 125), Count(0, 10)),
        "slow": (Count(7, 100), Count(0, 10)),
        "flagged": (Count(30, 120), Count(1, 10)),
        "reviewed": (Count(6, 120), Count(0, 10)),
        "disagreement": (Count(14, 54), Count(0, 0)),  # without an answer in time, too; not what was never asked
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


def test_a_restart_is_known_by_what_is_left_of_the_sums() -> None:
    """Thirty requests with a mistake, and twenty answers; since its restart, as many answers and forty failures of sixty."""
    within = {"answered": 20, "within:0.5": 20}
    before, after = {"requests": 50, "failed": 0, **within}, {"requests": 60, "failed": 40, **within}
    known, _, _ = look(None, {"c": before, "s": of()}, PODS, NOW, BOUND)
    _, counted, _ = look(known, {"c": after, "s": of()}, PODS, NOW + 10, BOUND, c=1)
    assert counted["errors"][0] == Count(40, 60)
    older, counted, _ = look(known, {"c": after, "s": of()}, PODS, NOW + 10, BOUND)
    assert counted["errors"][0] == Count(0, 0)
    assert older
    assert older.twofold


def read_at(at: float, source: str = "a", **tally: int) -> dict[str, Reading]:
    """A canary's reading, beside a stable release without requests."""
    return {"c": Reading(of(**tally), source, at), "s": Reading(of(), source, at)}


def errors_of(*reads: tuple[dict[str, Reading], int], every_s: float = 10.0) -> list[Count | None]:
    """Requests of the canary that each look counts, by what is read and its pod's restarts; None where it says what is missing.

    Each look begins with what the one before would have left in a record.
    """
    known: Counters | None = None
    found: list[Count | None] = []
    for number, (read, restarts) in enumerate(reads):
        known = Counters(**json.loads(json.dumps(known.__dict__))) if known else None
        known, counted, missing = counters.look(known, read, PODS, NOW + every_s * number, BOUND, {"c": restarts})
        found += [] if known is None or number == 0 else [None if missing else counted["errors"][0]]
    return found


def test_values_that_fall_without_a_restart_are_older_ones() -> None:
    first, second = read_at(100, requests=500, failed=5), read_at(130, requests=540, failed=7)
    older = read_at(115, requests=520, failed=6)
    assert errors_of((first, 0), (older, 0), (first, 0), (second, 0), (older, 0), (second, 0)) == [
        Count(1, 20), Count(0, 0), Count(1, 20), Count(0, 0), Count(0, 0)
    ]  # fmt: skip


def test_older_values_are_known_by_what_is_not_there_yet_and_by_their_time() -> None:
    first, second = read_at(100, requests=500), read_at(130, requests=500, flag=1)
    assert errors_of((second, 0), (first, 0), (read_at(140, requests=501, flag=1), 0)) == [Count(0, 0), Count(0, 1)]
    undated = [(read_at(0, requests=n), 0) for n in (500, 480, 510)]
    assert errors_of(*undated) == [Count(0, 0), Count(0, 10)]


def test_a_restart_between_two_replicas_counts_once() -> None:
    """Its container is known to be started again before one of the replicas has scraped it, and the other's values come late."""
    before, after = read_at(100, requests=900), read_at(130, requests=5)
    late, later = read_at(115, requests=910), read_at(145, requests=25)
    assert errors_of((before, 0), (before, 1), (after, 1), (late, 1), (later, 1), (before, 1), (later, 1)) == [
        Count(0, 0), Count(0, 5), Count(0, 0), Count(0, 20), Count(0, 0), Count(0, 0)
    ]  # fmt: skip


def test_a_restart_of_another_container_is_none_of_the_edge() -> None:
    """The pod's restarts grew and its counters did not fall: another replica's older values are no restart afterwards either."""
    assert errors_of((read_at(100, requests=900), 0), (read_at(130, requests=920), 1), (read_at(115, requests=910), 1)) == [
        Count(0, 20), Count(0, 0)
    ]  # fmt: skip


def test_values_that_stay_below_begin_anew() -> None:
    """Prometheus knows no value that is older than five minutes, so that a restart nobody has seen is found then."""
    reads = [(read_at(100, requests=900), 0)]
    reads += [(read_at(130 + 60 * n, requests=10 + n), 0) for n in range(8)]
    assert errors_of(*reads, every_s=60) == [Count(0, 0)] * 6 + [Count(0, 1)] * 2


def test_another_source_begins_anew() -> None:
    """Differences of two sources' values are of nobody's."""
    mine, theirs = read_at(100, "a", requests=500), read_at(110, "b", requests=480)
    assert errors_of((mine, 0), (theirs, 0), (read_at(120, "b", requests=487), 0), (read_at(130, "a", requests=600), 0)) == [
        Count(0, 0), Count(0, 7), Count(0, 0)
    ]  # fmt: skip


@pytest.mark.parametrize("restarts", [0, 3])
def test_a_record_of_an_older_version_says_nothing_of_restarts(restarts: int) -> None:
    """It begins with those that there are: that the pod was once started again makes an older value none of a new process."""
    known = Counters(since=NOW, pods={"c": of(requests=500), "s": of()})
    found = []
    for at, count in ((100, 520), (115, 510), (130, 530)):
        after, counted, _ = counters.look(known, read_at(at, requests=count), PODS, NOW, BOUND, {"c": restarts})
        assert after
        known = after
        found.append(counted["errors"][0].total)
    assert found == [20, 0, 10]
    fallen, counted, _ = counters.look(replace(known, origins={}), read_at(145, requests=400), PODS, NOW, BOUND, {"c": restarts})
    assert counted["errors"][0].total == 0
    assert fallen
    assert fallen.twofold


@pytest.mark.parametrize("dated", [True, False])
def test_two_replicas_behind_one_address_count_each_request_once(dated: bool) -> None:
    """They scrape each 30 s, 15 s apart, and any of them answers: of 30 minutes at 18 and 2 requests a second the last scrape of
    the last look is counted, whatever the pods have behind them, and it is told of once."""
    answers = random.Random(18)
    rates, history, minutes = {"s": 18, "c": 2}, {"s": 200_000, "c": 1_000}, 30
    pods = {name: Pod(pod.track, NOW - 1e6) for name, pod in PODS.items()}
    known: Counters | None = None
    sums = [Count(0, 0), Count(0, 0)]
    told, scraped = [], 0
    first = None
    for second in range(60, 60 * minutes + 1, 10):
        offset = answers.choice((0, 15))
        at = (second - offset) // 30 * 30 + offset
        first, scraped = first or at, max(scraped, at)
        read = {}
        for pod, rate in rates.items():
            requests = history[pod] + rate * at
            read[pod] = Reading({**NONE, **of(requests=requests, failed=requests // 100)}, "a", NOW + at if dated else 0.0)
        after, counted, _ = counters.look(known, read, pods, NOW + second, BOUND)
        told += list(counters.remarks(known, after))
        known = after
        if counted:
            sums = [one + more for one, more in zip(sums, counted["errors"], strict=True)]
    assert first is not None
    for name, total in zip(("c", "s"), sums, strict=True):
        begun, ended = (history[name] + rates[name] * at for at in (first, scraped))
        assert total == Count(ended // 100 - begun // 100, ended - begun)
    assert sums[1].total == pytest.approx(18 * 60 * (minutes - 1), rel=0.03)
    assert told == [counters.OLDER]


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


def test_a_stable_pod_that_stays_away_is_left_out() -> None:
    """A minute long it may be on its way; then the others are counted without it, and it begins anew when it comes back."""
    pods = {**PODS, "t": Pod("stable", 100.0)}
    told = []
    known, _, _ = look(None, {"c": of(), "s": of(), "t": of(requests=50)}, pods, NOW, BOUND)
    totals = []
    for number in range(1, 9):
        read = {"c": of(requests=number), "s": of(requests=10 * number)}
        read |= {"t": of(requests=150 + 5 * number)} if number >= 7 else {}
        after, counted, missing = look(known, read, pods, NOW + 15 * number, BOUND)
        assert bool(missing) == (not counted)
        told += list(counters.remarks(known, after))
        known = after
        totals.append((counted["errors"][0].total, counted["errors"][1].total) if counted else None)
    assert totals == [None, None, None, None, (5, 50), (1, 10), (1, 10), (1, 15)]
    assert told == ["it is counted without pod t, of which Prometheus has had nothing for 60 s"]


@pytest.mark.parametrize("back", [60.0, 3600.0])
def test_a_clock_that_is_set_back_has_a_minute_last_no_longer(back: float) -> None:
    """After the first look at which the pod is missing: by the new clock it is missing since then, and a minute is 60 s."""
    pods = {**PODS, "t": Pod("stable", 100.0)}
    known, _, _ = look(None, {"c": of(), "s": of(), "t": of()}, pods, NOW, BOUND)
    missed = []
    for now in (NOW + 15, *(NOW + 30 - back + 15 * number for number in range(6))):
        known, _, missing = look(known, {"c": of(requests=1), "s": of(requests=1)}, pods, now, BOUND)
        missed.append(bool(missing))
    assert missed == [True] * 5 + [False] * 2


def test_a_clock_that_is_set_back_has_older_values_passed_over_no_longer() -> None:
    """Values that stay lower begin anew after five minutes, also if an hour of these is another one."""
    read, times = {"c": of(requests=900), "s": of()}, (0, 60, *(120 - 3600 + 60 * number for number in range(7)))
    known, totals = None, []
    for number, time in enumerate(times):
        known, counted, _ = look(known, read, PODS, NOW + time, BOUND)
        totals.append(counted["errors"][0].total if counted else None)
        read = {"c": of(requests=10 + number), "s": of()}
    assert totals == [None] + [0] * 7 + [1]  # the sixth minute is the first after them


def test_without_any_stable_pod_or_one_of_the_canary_s_it_waits() -> None:
    pods = {**PODS, "d": Pod("canary", 100.0)}
    everything = {"c": of(), "d": of(), "s": of()}
    for away in ("d", "s"):
        known, _, _ = look(None, everything, pods, NOW, BOUND)
        for seconds in (10, 600):
            read = {name: of(requests=9) for name in everything if name != away}
            known, counted, missing = look(known, read, pods, NOW + seconds, BOUND)
            assert (counted, f"nothing of pod {away}" in missing) == ({}, True)
        _, counted, _ = look(known, {name: of(requests=9) for name in everything}, pods, NOW + 610, BOUND)
        assert counted["errors"] == (Count(0, 18), Count(0, 9))


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
    stable = [warm(timed(n, {0.08: n - n // 20, 0.1: n - n // 20, 0.25: n, 0.5: n})) for n in (0, 150, 400, 500)]
    canary = [warm(timed(n, {0.08: n // 3, 0.1: n // 2, 0.25: n, 0.5: n})) for n in (0, 10, 20, 40)]
    found = looked(*({"s": s, "c": c} for s, c in zip(stable, canary, strict=True)))
    assert ["slower" in counted for counted in found] == [False, False, True]
    assert found[2]["slower"] == (Count(10, 20), Count(5, 100))


def test_the_edge_follows_the_stable_release_s_latency() -> None:
    """Under more load its p95 goes from 0.1 to 0.4, and what was slow is usual; the canary's answers are all of 0.35."""
    slow = {"stable": {0.1: 0.95, 0.125: 1.0, 0.35: 1.0, 0.4: 1.0, 0.5: 1.0}, "loaded": {0.1: 0, 0.35: 0.9, 0.4: 0.95, 0.5: 1.0}}

    def tally(before: Tally, count: int, law: str, share: dict[str, dict[float, float]] = slow) -> Tally:
        bounds = slow["stable"]
        grown = timed(count, {bound: round(count * share[law].get(bound, 0.0)) for bound in bounds})
        return {what: before.get(what, 0) + grown.get(what, 0) for what in before.keys() | grown.keys()}

    stable, canary = [warm({})], [warm({})]
    for law in ("stable", "loaded", "loaded", "loaded"):
        stable.append(tally(stable[-1], 600, law))
        canary.append(tally(canary[-1], 100, "canary", {"canary": {0.1: 0, 0.125: 0, 0.35: 1.0, 0.4: 1.0, 0.5: 1.0}}))
    found = looked(*({"s": s, "c": c} for s, c in zip(stable, canary, strict=True)))
    assert [one["slower"] for one in found[1:]] == [
        (Count(100, 100), Count(600, 600)),  # above 0.125
        (Count(100, 100), Count(600, 600)),  # after 1,200 more answers the edge is known anew
        (Count(0, 100), Count(0, 600)),  # of at least 1.15 x 0.4
    ]


def test_a_pod_s_first_answers_are_not_timed() -> None:
    """Of either track; all else of them counts. A new pod begins from nothing, at a larger share, say."""
    cold = {"requests": 90, "answered": 90, "within:0.5": 0, "failed": 9}
    new = {**PODS, "n": Pod("canary", NOW + 5)}
    known, _, _ = look(None, {"c": WARM, "s": WARM}, PODS, NOW, BOUND)
    known, counted, _ = look(known, {"c": WARM, "s": WARM, "n": cold}, new, NOW + 10, BOUND)
    assert (counted["errors"][0], counted["slow"][0]) == (Count(9, 90), Count(0, 0))
    hot = {**cold, "requests": 190, "answered": 190, "within:0.5": 50}
    known, counted, _ = look(known, {"c": WARM, "s": WARM, "n": hot}, new, NOW + 20, BOUND)
    assert (counted["errors"][0], counted["slow"][0]) == (Count(0, 100), Count(0, 0))
    hotter = {**hot, "requests": 200, "answered": 200, "within:0.5": 57}
    _, counted, _ = look(known, {"c": WARM, "s": WARM, "n": hotter}, new, NOW + 30, BOUND)
    assert counted["slow"][0] == Count(3, 10)


def test_a_process_that_began_anew_is_cold_again() -> None:
    known, _, _ = look(None, {"c": WARM, "s": WARM}, PODS, NOW, BOUND)
    cold = {"requests": 90, "answered": 90, "within:0.5": 0}
    known, counted, _ = look(known, {"c": WARM, "s": cold}, PODS, NOW + 10, BOUND, s=1)
    assert (counted["errors"][1], counted["slow"][1]) == (Count(0, 90), Count(0, 0))
    known, counted, _ = look(known, {"c": WARM, "s": {**cold, "requests": 120, "answered": 120}}, PODS, NOW + 20, BOUND, s=1)
    assert counted["slow"][1] == Count(0, 0)
    warm_again = {**cold, "requests": 130, "answered": 130, "within:0.5": 7}
    _, counted, _ = look(known, {"c": WARM, "s": warm_again}, PODS, NOW + 30, BOUND, s=1)
    assert counted["slow"][1] == Count(3, 10)


def test_a_scrape_that_is_not_of_one_instant_makes_no_impossible_count() -> None:
    [counted] = looked({"c": WARM, "s": WARM}, {"c": warm(timed(5, {0.5: 6})), "s": WARM})
    assert counted["slow"] == (Count(0, 5), Count(0, 0))
