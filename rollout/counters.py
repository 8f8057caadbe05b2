"""Counted events of both tracks, read from Prometheus: what happened since the last look, exactly, as whole numbers.

Nothing is a rate. Each look reads the raw counters of all pods and takes the differences to the last values, which the release's
record keeps, so that a loop that was killed goes on where it was. Metrics: docs/metrics.md.
"""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from rollout.errors import PrometheusUnreachable
from rollout.gates import Count
from rollout.plan import Pod

TIMEOUT_S = 10.0
EDGE_REQUESTS = 200
"""Answers of the stable release after which its own p95 is known to within about three points (a standard error of 1.5)."""
P95 = 0.95
ABOVE = 1.15
"""So many times the stable release's own p95 is slow. With log-normal latencies (a deviation of 0.08 to 0.8) a canary that is 5 %
slower has at most 0.8 points more answers above the bucket that this chooses, and one that is 1.5 times slower at least 3."""
OWN = {"__name__", "pod", "model", "version", "protocol", "code", "le", "label", "decision", "result"}
"""Labels of the edge's own; all others tell who scraped."""
METRICS = (
    "visor_(build_info|request_seconds_(count|bucket)|decisions_total|images_rejected_total|shadow_images_total|"
    "(shadow_)?drawn_images_total)"
)
DRAWN = "drawn:"
DRAWS = "drawn:pass"
"""Every edge has it from its start, but one of an older version, which draws no image of a request."""
ALL_COUNTED = (
    "an edge of an older version draws no image of each request: all images are counted, as if none of a request were alike"
)

Labels = Mapping[str, str]
Tally = dict[str, int]
"""A pod's sums, by what they count: `requests`, `failed`, `answered`, `within:SECONDS`, `pass`, `flag`, `review`, `rejected`,
`shadow:RESULT`, and `drawn:RESULT` of one image of each request by any of these, the shadow's too."""


@dataclass(frozen=True)
class Counters:
    """What the last look read, for the next one's differences.

    `since`: when counting began; `pods`: each pod's sums; `edge`: the bucket's bound, in seconds, above which an answer is slower
    than the stable release's were when this began (`edge_of`), None until it is known; `early`: these answers by `Tally`'s names;
    `drawn`: whether one image of each request was counted, as all edges draw one, and not all of them.
    """

    since: float
    pods: Mapping[str, Tally] = field(default_factory=dict)
    edge: float | None = None
    early: Tally = field(default_factory=dict)
    drawn: bool = True


def ask(url: str, query: str) -> list[tuple[dict[str, str], float]]:
    """Ask Prometheus at `url` an instant query: each series' labels and value. Raises PrometheusUnreachable."""
    address = f"{url.rstrip('/')}/api/v1/query"
    body = urllib.parse.urlencode({"query": query}).encode()
    try:
        if not address.startswith(("http://", "https://")):
            raise PrometheusUnreachable(f"{url} is no address of Prometheus, such as http://prometheus.monitoring:9090")
        with urllib.request.urlopen(address, body, timeout=TIMEOUT_S) as reply:
            answer = json.load(reply)
        if answer["status"] != "success":
            raise PrometheusUnreachable(f"Prometheus at {url} refuses: {answer.get('error', answer['status'])}")
        return [(series["metric"], float(series["value"][1])) for series in answer["data"]["result"]]
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise PrometheusUnreachable(f"Prometheus at {url} does not answer: {_why(err)}") from err


def query_of(namespace: str, pods: Iterable[str]) -> str:
    """The query of all that is counted of these pods."""
    return f'{{__name__=~"{METRICS}",namespace="{namespace}",pod=~"{"|".join(sorted(pods))}"}}'


def tallies(series: Iterable[tuple[Labels, float]]) -> dict[str, Tally]:
    """Add up each pod's series. A pod that is scraped twice, by an annotation and a PodMonitor, say, is counted once."""
    by_source: dict[str, dict[tuple[tuple[str, str], ...], Tally]] = defaultdict(dict)
    known: set[str] = set()
    for labels, value in series:
        pod = labels["pod"]
        known.add(pod)
        source = tuple(sorted((name, text) for name, text in labels.items() if name not in OWN))
        for what in _counted(labels):
            tally = by_source[pod].setdefault(source, {})
            tally[what] = tally.get(what, 0) + round(value)
    return {pod: by_source[pod][min(by_source[pod])] if by_source[pod] else {} for pod in known}


def _counted(labels: Labels) -> tuple[str, ...]:
    """What a series counts, by `Tally`'s names."""
    code = labels.get("code", "")
    match labels["__name__"]:
        case "visor_request_seconds_count":
            return ("requests", *(["failed"] if code.startswith("5") else []), *(["answered"] if code.startswith("2") else []))
        case "visor_request_seconds_bucket" if code.startswith("2"):
            return (f"within:{float(labels['le']):g}",)
        case "visor_decisions_total":
            return (labels["decision"],)
        case "visor_images_rejected_total":
            return ("rejected",)
        case "visor_shadow_images_total":
            return (f"shadow:{labels['result']}",)
        case "visor_drawn_images_total" | "visor_shadow_drawn_images_total":
            return (f"{DRAWN}{labels['result']}",)
    return ()


def look(
    counters: Counters | None, read: Mapping[str, Tally], pods: Mapping[str, Pod], now: float, bound_s: float
) -> tuple[Counters | None, dict[str, tuple[Count, Count]], str]:
    """Compare what was read with the last look: the next look's counters, canary and stable events by gate, what is missing.

    None before the first look, with which counting begins. Where a pod that is ready is missing, nothing is counted, and the next
    complete look finds it all. `bound_s`: the SLO's bound, a bucket's.
    """
    if missing := _missing(read, pods, bound_s):
        return counters, {}, missing
    drawn = all(DRAWS in tally for name, tally in read.items() if name in pods)
    if counters is None:
        kept = {name: _kept(tally, bound_s, None) for name, tally in read.items() if name in pods}
        return Counters(now, kept, drawn=drawn), {}, ""
    grown: dict[str, Tally] = {"canary": {}, "stable": {}}
    for name, pod in pods.items():
        for what, count in _growth(counters, name, pod, read.get(name, {})).items():
            grown[pod.track][what] = grown[pod.track].get(what, 0) + count
    gates = gates_of(grown["canary"], grown["stable"], bound_s, counters.edge, drawn)
    early, edge = counters.early, counters.edge
    if edge is None:
        timed = {what: count for what, count in grown["stable"].items() if _timed(what)}
        early = {what: early.get(what, 0) + timed.get(what, 0) for what in early.keys() | timed.keys()}
        edge = edge_of(early)
    kept = {name: _kept(read.get(name, counters.pods.get(name, {})), bound_s, edge) for name in pods}
    return replace(counters, pods=kept, edge=edge, early=early if edge is None else {}, drawn=drawn), gates, ""


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


def _missing(read: Mapping[str, Tally], pods: Mapping[str, Pod], bound_s: float) -> str:
    unseen = [name for name, pod in sorted(pods.items()) if pod.ready and name not in read]
    if unseen:
        return f"Prometheus has nothing of pod {unseen[0]}; docs/rollout.md says what it has to scrape"
    if any(tally.get("answered") and f"within:{bound_s:g}" not in tally for tally in read.values()):
        return f"visor_request_seconds has no bucket of {bound_s:g} s, which alone are counted; docs/metrics.md lists them"
    return ""


def _growth(counters: Counters, name: str, pod: Pod, now: Tally) -> Tally:
    """What a pod has counted since the last look. One that is older than the counting begins with its first reading."""
    before = counters.pods.get(name)
    if before is None:
        before = now if pod.started < counters.since else {}
    if any(count < before.get(what, 0) for what, count in now.items()):
        before = {}  # the process began anew, and its counters with it
    unread = DRAWN if before and DRAWS not in before else None  # by the older version that looked last
    return {what: count - before.get(what, 0) for what, count in now.items() if not (unread and what.startswith(unread))}


def _timed(what: str) -> bool:
    return what == "answered" or what.startswith("within:")


def _kept(tally: Tally, bound_s: float, edge: float | None) -> Tally:
    """What of a pod's sums the next look needs: once the edge is known, of the buckets two."""
    if edge is None:
        return dict(tally)
    buckets = (f"within:{bound_s:g}", f"within:{edge:g}")
    return {what: count for what, count in tally.items() if not what.startswith("within:") or what in buckets}


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
    # The stable release's edge counts the images that it showed to the canary.
    differ = images[1]["label"] + images[1]["decision"]
    if shown := differ + images[1]["agreed"]:
        found["disagreement"] = [Count(differ, shown), Count(0, 0)]
    return {gate: (ours, theirs) for gate, (ours, theirs) in found.items()}


def _images(tally: Tally, drawn: bool) -> Tally:
    """A track's images by what became of them, those that have a decision together, and by the shadow's results."""
    own, shadow = (DRAWN, DRAWN) if drawn else ("", "shadow:")
    found = {what: tally.get(f"{own}{what}", 0) for what in ("pass", "flag", "review", "rejected")}
    found |= {result: tally.get(f"{shadow}{result}", 0) for result in ("agreed", "label", "decision")}
    return found | {"decided": found["pass"] + found["flag"] + found["review"]}


def _slower(tally: Tally, bound_s: float) -> Count:
    answered = tally.get("answered", 0)
    return _count(answered - tally.get(f"within:{bound_s:g}", 0), answered)


def _count(events: int, total: int) -> Count:
    """A bucket and a count may be of different instants within one scrape."""
    return Count(min(max(events, 0), total), total)


def _why(err: BaseException) -> str:
    return str(getattr(err, "reason", "") or err)
