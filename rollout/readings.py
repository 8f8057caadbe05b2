"""What Prometheus knows of each pod: its counters, added up by what they count, who scraped them and when."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rollout.errors import PrometheusUnreachable

EXACT = 2**53
"""Above which a float knows no whole number."""
SCRAPED = "scraped"
OWN = {"__name__", "pod", "model", "version", "protocol", "code", "le", "label", "decision", "result", SCRAPED}
"""Labels of the edge's own, and the query's; all others tell who scraped."""
METRICS = (
    "visor_(build_info|request_seconds_(count|bucket)|decisions_total|images_rejected_total|shadow_images_total|"
    "(shadow_)?drawn_images_total)"
)
LEFT = "499"
"""The client left before its answer: as often from either track, unless one of them hangs."""
DRAWN = "drawn:"
DRAWS = "drawn:pass"
"""Every edge has it from its start, but one of an older version, which draws no image of a request."""

Labels = Mapping[str, str]
Tally = dict[str, int]
"""A pod's sums, by what they count: `requests`, `failed`, `answered`, `within:SECONDS`, `pass`, `flag`, `review`, `rejected`,
`shadow:RESULT`, and `drawn:RESULT` of one image of each request by any of these, the shadow's too."""


@dataclass(frozen=True)
class Reading:
    """A pod's sums. `source`: who scraped them; `scraped`: when, in seconds since the epoch, 0 where that is not known."""

    tally: Tally
    source: str = ""
    scraped: float = 0.0


def query_of(namespace: str, pods: Iterable[str]) -> str:
    """The query of all that is counted of these pods, and when it was scraped."""
    chosen = f'namespace="{namespace}",pod=~"{"|".join(sorted(pods))}"'
    # Of these two no series of a pod have the same labels, so that they may lose their names.
    times = f'timestamp({{__name__=~"visor_(request_seconds_count|drawn_images_total)",{chosen}}})'
    return f'{{__name__=~"{METRICS}",{chosen}}} or label_replace({times}, "{SCRAPED}", "yes", "", "")'


def by_pod(series: Iterable[tuple[Labels, float]], last: Mapping[str, str] | None = None) -> dict[str, Reading]:
    """Add up each pod's series, of one source: that of the `last` look, if it is still there. Raises PrometheusUnreachable.

    So a pod that is scraped twice, by an annotation and a PodMonitor, say, is counted once.
    """
    by_source: dict[str, dict[str, Tally]] = {}
    times: dict[tuple[str, str], float] = {}
    for labels, value in series:
        pod, source = labels.get("pod", ""), _source(labels)
        tallied = by_source.setdefault(pod, {})
        if SCRAPED in labels:
            times[pod, source] = max(value, times.get((pod, source), 0.0))
            continue
        for what in _counted(labels):
            tally = tallied.setdefault(source, {})
            tally[what] = tally.get(what, 0) + _whole(labels, value)
    found = {}
    for pod, tallied in by_source.items():
        known = (last or {}).get(pod, "")
        source = known if known in tallied else min(tallied, default="")
        found[pod] = Reading(tallied.get(source, {}), source, times.get((pod, source), 0.0))
    return found


def tallies(series: Iterable[tuple[Labels, float]]) -> dict[str, Tally]:
    """Add up each pod's series, as `by_pod` does."""
    return {pod: reading.tally for pod, reading in by_pod(series).items()}


def _source(labels: Labels) -> str:
    """Who scraped, as a short digest of the labels that say so."""
    text = "\n".join(sorted(f"{name}={text}" for name, text in labels.items() if name not in OWN))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _whole(labels: Labels, value: float) -> int:
    if not 0 <= value < EXACT:  # NaN, too
        raise PrometheusUnreachable(
            f"Prometheus says {value} of {labels['__name__']} of pod {labels.get('pod')}, which is no count"
        )
    return round(value)


def _counted(labels: Labels) -> tuple[str, ...]:
    """What a series counts, by `Tally`'s names. Raises PrometheusUnreachable where a label is missing."""
    try:
        return _named(labels)
    except (KeyError, ValueError) as err:
        raise PrometheusUnreachable(f"Prometheus has a series that no edge writes, {dict(labels)}") from err


def _named(labels: Labels) -> tuple[str, ...]:
    code = labels.get("code", "")
    match labels.get("__name__", ""):
        case "visor_request_seconds_count":
            failed = code.startswith("5") or code == LEFT
            return ("requests", *(["failed"] if failed else []), *(["answered"] if code.startswith("2") else []))
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
