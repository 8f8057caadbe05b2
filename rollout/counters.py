"""Counted events of both tracks, read from Prometheus: what happened since the last look, exactly, as whole numbers.

Nothing is a rate. Each look reads the raw counters of all pods and takes the differences to the last values, which the release's
record keeps, so that a loop that was killed goes on where it was. Metrics: docs/metrics.md.

A counter that fell began anew where the pod's containers were started again, and the reading is the newer one. Else the reading
is older, as of another replica of Prometheus: taken for a restart, it would count all of the pod's history once more.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypedDict

from rollout.gates import Count
from rollout.plan import Pod
from rollout.readings import DRAWN, DRAWS, Reading, Tally

EDGE_REQUESTS = 200
"""Answers of the stable release after which its own p95 is known to within about three points (a standard error of 1.5)."""
P95 = 0.95
ABOVE = 1.15
"""So many times the stable release's own p95 is slow. With log-normal latencies (a deviation of 0.08 to 0.8) a canary that is 5 %
slower has at most 0.8 points more answers above the bucket that this chooses, and one that is 1.5 times slower at least 3."""
OLDER_S = 300.0
"""Prometheus answers with no sample that is older than this, so that values which stay below those of before are new ones."""
DIFFER = ("label", "decision", "error", "timeout")
"""Results of the shadow that are a disagreement. What was dropped for want of room was never asked."""
COLD = 100
"""So many first answers of a pod are not timed, of either track: caches fill, and kernels are made, with the first ones."""
EDGE_AGAIN = 1_000
"""Answers of the stable release after which its p95 is looked at anew: latencies change with the load."""
GONE_S = 60.0
"""After which it is counted without a stable pod of which Prometheus has nothing: two of the usual intervals."""
ALL_COUNTED = (
    "an edge of an older version draws no image of each request: all images are counted, as if none of a request were alike"
)
OLDER = (
    "Prometheus answers with older values than before, which are passed over: are there two replicas behind its address? "
    "Name one of them, or an address that keeps to one; docs/rollout.md"
)


class Origin(TypedDict):
    """Where a pod's last sums are from: source and time as in `Reading`, the pod's `restarts` when its counters last began, and
    since when readings are `older` than these, 0 where they are not."""

    source: str
    scraped: float
    restarts: int
    older: float


@dataclass(frozen=True)
class Counters:
    """What the last look read, for the next one's differences.

    `since`: when counting began; `pods`: each pod's sums, and `origins` where these are from; `edge`: the bucket's bound, in
    seconds, above which an answer is slower than nearly all of the stable release's were (`edge_of`), None until it is known;
    `early`: its answers since then by `Tally`'s names, of which the next one is made; `drawn`: whether one image of each
    request was counted, as all edges draw one, and not all of them; `gone`: since when a ready pod is missing; `without`: the
    stable pods that are not counted for it; `twofold`: whether older readings were seen.
    """

    since: float
    pods: Mapping[str, Tally] = field(default_factory=dict)
    edge: float | None = None
    early: Tally = field(default_factory=dict)
    drawn: bool = True
    origins: Mapping[str, Origin] = field(default_factory=dict)
    gone: Mapping[str, float] = field(default_factory=dict)
    without: Sequence[str] = field(default_factory=list)
    twofold: bool = False

    @property
    def sources(self) -> dict[str, str]:
        """Who scraped each pod's sums."""
        return {pod: origin["source"] for pod, origin in self.origins.items()}


def look(
    counters: Counters | None,
    read: Mapping[str, Reading],
    pods: Mapping[str, Pod],
    now: float,
    bound_s: float,
    restarts: Mapping[str, int] | None = None,
) -> tuple[Counters | None, dict[str, tuple[Count, Count]], str]:
    """Compare what was read with the last look: the next look's counters, canary and stable events by gate, what is missing.

    None before the first look, with which counting begins. Where a pod that is ready is missing, nothing is counted, and the next
    complete look finds it all; but a stable pod that stays away is left out. `bound_s`: the SLO's bound, a bucket's; `restarts`:
    how often containers of each pod were started again.
    """
    gone = {name: now for name, pod in sorted(pods.items()) if pod.ready and name not in read}
    without: list[str] = []
    if counters is not None:
        gone = {name: min(counters.gone.get(name, now), now) for name in gone}  # the clock may have been set back
        if any(pod.track == "stable" and name in read for name, pod in pods.items()):
            without = [name for name, since in gone.items() if pods[name].track == "stable" and now - since >= GONE_S]
    if missing := _missing(read, [name for name in gone if name not in without], bound_s):
        return counters and replace(counters, gone=gone), {}, missing
    known = counters or Counters(now)
    drawn = all(DRAWS in reading.tally for name, reading in read.items() if name in pods)
    grown: dict[str, Tally] = {"canary": {}, "stable": {}}
    kept, origins = {}, {}
    for name, pod in pods.items():
        if name not in read:
            kept[name], origins[name] = known.pods.get(name), known.origins.get(name)
            continue
        new, now_there, origins[name] = _taken(known, name, pod, read[name], now, (restarts or {}).get(name, 0))
        kept[name] = now_there
        cold = now_there.get("answered", 0) - new.get("answered", 0) < COLD  # before these, by the process that counted them
        for what, count in new.items():
            if not (cold and _timed(what)):
                grown[pod.track][what] = grown[pod.track].get(what, 0) + count
    early, edge = known.early, known.edge
    if counters is not None:
        timed = {what: count for what, count in grown["stable"].items() if _timed(what)}
        early = {what: early.get(what, 0) + timed.get(what, 0) for what in early.keys() | timed.keys()}
        if early.get("answered", 0) >= (EDGE_REQUESTS if edge is None else EDGE_AGAIN):
            edge, early = edge_of(early), {}
    after = replace(
        known,
        pods={name: tally for name, tally in kept.items() if tally is not None},
        edge=edge,
        early=early,
        drawn=drawn,
        origins={name: origin for name, origin in origins.items() if origin},
        gone=gone,
        without=without,
        twofold=known.twofold or any(origin and origin["older"] for origin in origins.values()),
    )
    if counters is None:
        return after, {}, ""
    return after, gates_of(grown["canary"], grown["stable"], bound_s, counters.edge, drawn), ""


def remarks(before: Counters | None, after: Counters | None) -> Iterator[str]:
    """What is worth telling of a look, once."""
    if after is None:
        return
    known = before or Counters(after.since)
    if after.drawn != known.drawn:
        yield "of each request one image is counted" if after.drawn else ALL_COUNTED
    if after.twofold and not known.twofold:
        yield OLDER
    if left := sorted({*after.without} - {*known.without}):
        yield f"it is counted without pod {', '.join(left)}, of which Prometheus has had nothing for {GONE_S:g} s"


def edge_of(early: Tally) -> float | None:
    """The least bucket's bound, in seconds, of at least ABOVE times the answers' p95, else the largest; None of too few answers.

    The p95 is interpolated within its bucket, as Prometheus' histogram_quantile does. At a bound close to it, a canary that is a
    few percent slower has many more answers above it where latencies differ little.
    """
    answered = early.get("answered", 0)
    if answered < EDGE_REQUESTS:
        return None
    bounds = sorted(float(what.removeprefix("within:")) for what in early if what.startswith("within:"))
    finite = [bound for bound in bounds if bound != float("inf")]
    low, below = 0.0, 0
    for bound in finite:
        within = early[f"within:{bound:g}"]
        if within >= P95 * answered:
            p95 = low + (bound - low) * (P95 * answered - below) / (within - below)
            return next((edge for edge in finite if edge >= ABOVE * p95), finite[-1])
        low, below = bound, within
    return finite[-1]


def _missing(read: Mapping[str, Reading], unseen: Sequence[str], bound_s: float) -> str:
    if unseen:
        return f"Prometheus has nothing of pod {unseen[0]}; docs/rollout.md says what it has to scrape"
    if any(one.tally.get("answered") and f"within:{bound_s:g}" not in one.tally for one in read.values()):
        return f"visor_request_seconds has no bucket of {bound_s:g} s, which alone are counted; docs/metrics.md lists them"
    return ""


def _taken(counters: Counters, name: str, pod: Pod, reading: Reading, now: float, restarts: int) -> tuple[Tally, Tally, Origin]:
    """What a pod has counted since the last look, its sums for the next one, and where these are from.

    One that is older than the counting begins with its first reading, and so does one that is read by another source, or that
    was left out for a while: what it counted meanwhile is of another time than the others' counts.
    """
    tally = reading.tally
    here = Origin(source=reading.source, scraped=reading.scraped, restarts=restarts, older=0.0)
    before, origin = counters.pods.get(name), counters.origins.get(name)
    if before is None:
        later = pod.started >= counters.since and name not in counters.without
        return _growth({} if later else tally, tally), tally, here
    if origin is None:  # of an older version's record, which may have sums that are counted no more
        origin, before = here, {what: count for what, count in before.items() if what in tally}
    if name in counters.without or "" != reading.source != origin["source"] != "":
        return {}, tally, here
    fell = any(tally.get(what, 0) < count for what, count in before.items()) or _others(tally) < _others(before)
    late = 0 < reading.scraped < origin["scraped"]
    if fell and not late and restarts > origin["restarts"]:
        return _growth({}, tally), tally, here  # the process began anew, and its counters with it
    if fell or late:
        since = min(origin["older"] or now, now)
        return ({}, before, {**origin, "older": since}) if now - since < OLDER_S else ({}, tally, here)
    # A restart may be known before its first scrape, so it stays to be found.
    scraped = max(reading.scraped, origin["scraped"])
    return _growth(before, tally), tally, {**here, "scraped": scraped, "restarts": origin["restarts"]}


def _others(tally: Tally) -> int:
    """The requests that neither failed nor were answered, such as those with a mistake: what is left of the sums falls, too."""
    return tally.get("requests", 0) - tally.get("failed", 0) - tally.get("answered", 0)


def _growth(before: Tally, now: Tally) -> Tally:
    unread = DRAWN if before and DRAWS not in before else None  # by the older version that looked last
    return {what: count - before.get(what, 0) for what, count in now.items() if not (unread and what.startswith(unread))}


def _timed(what: str) -> bool:
    return what == "answered" or what.startswith("within:")


def gates_of(canary: Tally, stable: Tally, bound_s: float, edge: float | None, drawn: bool) -> dict[str, tuple[Count, Count]]:
    """Events of each gate. `drawn`: one image of each request counts, not all."""
    both = (canary, stable)
    images = [_images(one, drawn) for one in both]
    found = {
        "errors": [Count(one.get("failed", 0), one.get("requests", 0)) for one in both],
        "refusals": [_count(one["rejected"], one["rejected"] + one["decided"]) for one in images],
        "slow": [_slower(one, bound_s) for one in both],
        "flagged": [_count(one["flag"], one["decided"]) for one in images],
        "reviewed": [_count(one["review"], one["decided"]) for one in images],
    }
    if edge is not None:
        found["slower"] = [_slower(one, edge) for one in both]
    # The stable release's edge counts the images that it showed to the canary. One without an answer does not agree either.
    differ = sum(images[1][result] for result in DIFFER)
    if shown := differ + images[1]["agreed"]:
        found["disagreement"] = [Count(differ, shown), Count(0, 0)]
    return {gate: (ours, theirs) for gate, (ours, theirs) in found.items()}


def _images(tally: Tally, drawn: bool) -> Tally:
    """A track's images by what became of them, those that have a decision together, and by the shadow's results."""
    own, shadow = (DRAWN, DRAWN) if drawn else ("", "shadow:")
    found = {what: tally.get(f"{own}{what}", 0) for what in ("pass", "flag", "review", "rejected")}
    found |= {result: tally.get(f"{shadow}{result}", 0) for result in ("agreed", *DIFFER)}
    return found | {"decided": found["pass"] + found["flag"] + found["review"]}


def _slower(tally: Tally, bound_s: float) -> Count:
    answered = tally.get("answered", 0)
    return _count(answered - tally.get(f"within:{bound_s:g}", 0), answered)


def _count(events: int, total: int) -> Count:
    """A bucket and a count may be of different instants within one scrape."""
    return Count(min(max(events, 0), total), total)
