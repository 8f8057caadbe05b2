"""Every query of Prometheus that dashboards, alerts, the page and the notebook ask, each written once.

A query is PromQL with names to be filled in (`fill`): `$selector` are the matchers that choose a release's series, such as
`namespace="demo",pod=~"roofs(-canary)?-predictor-..."`, `$window` is how far back it looks. Counters are summed over pods before
anything is divided, so replicas add up; a share whose part was never counted is 0. Metrics: `transformer/metrics.py`.
"""

from dataclasses import dataclass
from string import Template
from typing import Literal

Unit = Literal["s", "bytes", "percentunit", "reqps", "short"]
"""Units by Grafana's names: seconds, bytes, a share in [0, 1], a number a second, a plain number."""

OF_MODEL = ("model", "version")
OF_FIGURE = (*OF_MODEL, "figure")
OF_BIN = (*OF_FIGURE, "bin")
OF_POD = ("namespace", "pod", "instance")
"""What tells targets apart, in a cluster and on one machine, where there is an instance alone."""
OF_PODS = "-predictor-([0-9]{5}-dep.*|[^-]+(-[^-]+)?)"
"""How the names of a track's pods end, of a Deployment or of a revision in Knative; those of a `roofs-predictor` do not."""
FAILED = 'code=~"5.."'
ANSWERED = 'code=~"2.."'
OVERLOADED = 'code=~"server[.].*"'
"""Refusals for want of room in the queue or of memory."""
UNANSWERABLE = 'code="image.unanswerable"'
OF_IMAGES = 'code!="image.unanswerable"'
"""Errors of images that are about the image; the other one is the network's own fault, an answer that is no number."""


def fill(text: str, **parts: str) -> str:
    """Fill in `$names`. Names without a part stay, as Grafana and alerts have `$names` of their own."""
    return Template(text).safe_substitute(parts)


def series(metric: str, *matchers: str) -> str:
    """A metric's series of the release."""
    return f"{metric}{{{','.join(('$selector', *matchers))}}}"


def total(by: tuple[str, ...], text: str, how: str = "sum") -> str:
    """An aggregation of what `text` gives, for each value of the labels `by`."""
    return f"{how} by ({', '.join(by)}) ({text})" if by else f"{how} ({text})"


def rate(metric: str, by: tuple[str, ...], *matchers: str, window: str = "$window") -> str:
    """A counter's growth a second, of all pods together."""
    return total(by, f"rate({series(metric, *matchers)}[{window}])")


def increase(metric: str, by: tuple[str, ...], *matchers: str, window: str = "$window", ago: str = "") -> str:
    """A counter's growth in the window, of all pods together; `ago`: how long before now the window ends."""
    offset = f" offset {ago}" if ago else ""
    return total(by, f"increase({series(metric, *matchers)}[{window}]{offset})")


def share(part: str, whole: str) -> str:
    """A part of a whole, both by the same labels."""
    return f"({part} or 0 * {whole}) / {whole}"


def failed_share(window: str = "$window", by: tuple[str, ...] = OF_MODEL) -> str:
    """Share of inference requests that failed on the server's side."""
    return share(
        rate("visor_request_seconds_count", by, FAILED, window=window), rate("visor_request_seconds_count", by, window=window)
    )


def slow_share(bound: str, window: str = "$window", by: tuple[str, ...] = OF_MODEL) -> str:
    """Share of answered requests that took longer than a bucket's bound, as its label `le` writes it."""
    quick = rate("visor_request_seconds_bucket", by, ANSWERED, f'le="{bound}"', window=window)
    return f"1 - {quick} / {rate('visor_request_seconds_count', by, ANSWERED, window=window)}"


def overloaded_share(window: str = "$window") -> str:
    """Share of inference requests that were refused for want of room."""
    whole = rate("visor_request_seconds_count", OF_MODEL, window=window)
    return share(rate("visor_requests_refused_total", OF_MODEL, OVERLOADED, window=window), whole)


def rejected_share(*matchers: str, window: str = "$window") -> str:
    """Share of images that were answered by an error of their own, or by some of these errors."""
    rejected = increase("visor_images_rejected_total", OF_MODEL, *matchers, window=window)
    return share(rejected, sent(window))


def sent(window: str = "$window") -> str:
    """Images in the window, answered and rejected ones; a release may have had but one of them."""
    rejected, decided = (
        increase(name, OF_MODEL, window=window) for name in ("visor_images_rejected_total", "visor_decisions_total")
    )
    return f"(({rejected} or 0 * {decided}) + ({decided} or 0 * {rejected}))"


def review_share(window: str = "$window") -> str:
    """Share of answered images that a person has to decide."""
    decided = increase("visor_decisions_total", OF_MODEL, window=window)
    return share(increase("visor_decisions_total", OF_MODEL, 'decision="review"', window=window), decided)


def disagreement(window: str = "$window", images: str = "visor_shadow_images_total") -> str:
    """Share of a shadow's images, of those that both tracks answered, whose label or decision differs."""
    differ, both = (
        increase(images, OF_MODEL, f'result=~"{results}"', window=window)
        for results in ("label|decision", "agreed|label|decision")
    )
    return share(differ, both)


def quantile(q: float, metric: str, by: tuple[str, ...], *matchers: str, window: str = "$window") -> str:
    """A quantile of a histogram, as exact as its buckets."""
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', ('le', *by), *matchers, window=window)})"


def waiting(of: float, by: tuple[str, ...], window: str = "$window") -> str:
    """Seconds within which the share `of` of the images got a worker."""
    return quantile(of, "visor_stage_seconds", by, 'stage="queue"', window=window)


def memory_share() -> str:
    """Share of the edge's memory for requests that is charged now, of each pod."""
    spent, all_of_it = (total(OF_POD, series("visor_memory_bytes", f'state="{state}"'), "max") for state in ("spent", "total"))
    return f"{spent} / {all_of_it}"


def tracked(metric: str, by: tuple[str, ...], *matchers: str) -> str:
    """A counter's growth a second, by the track that visor_build_info says of the pod which counted.

    `last_over_time`: what a pod counted that has ended since belongs to its track, too.
    """
    tracks = total((*OF_POD, "track"), f"last_over_time({series('visor_build_info')}[$window])", "max")
    counted = f"rate({series(metric, *matchers)}[$window])"
    return total(("track", "version", *by), f"{counted} * on ({', '.join(OF_POD)}) group_left (track) {tracks}")


def images(by: tuple[str, ...] = OF_FIGURE, window: str = "$window") -> str:
    """Images in the window that were counted into bins."""
    return increase("visor_drift_images_total", by, window=window)


def reference(metric: str, by: tuple[str, ...], window: str = "$window") -> str:
    """What pods say of their archive's reference, those that have ended in the window, too: their images still count."""
    return total(by, f"last_over_time({series(metric)}[{window}])", "max")


def reference_share(window: str = "$window") -> str:
    """Share of a bin among the reference's images, r = (m + 0.5) / (M + 0.5 B)."""
    return reference("visor_drift_reference_share", OF_BIN, window)


def bin_share(window: str = "$window") -> str:
    """Share of a bin among the window's images, q = (n + 0.5) / (N + 0.5 B) for n of N images and B bins."""
    bins = total(OF_FIGURE, reference_share(window), "count")
    return f"({images(OF_BIN, window)} + 0.5) / ignoring (bin) group_left () ({images(window=window)} + 0.5 * {bins})"


def psi(window: str = "$window") -> str:
    """Population stability index of a figure, sum over bins of (q - r) ln(q / r); `watch/psi.py` says where it is from."""
    q, r = bin_share(window), reference_share(window)
    return total(OF_FIGURE, f"({q} - {r}) * ln({q} / {r})")


def psi_limit(window: str = "$window", effect: str | None = None) -> str:
    """The index above which a window has drifted: quantile of the null law * (1/N + 1/M) + least effect."""
    of_null = reference("visor_drift_limit_quantile", OF_FIGURE, window)
    known = reference("visor_drift_reference_images", OF_MODEL, window)
    least = effect or reference("visor_drift_effect", OF_MODEL, window)
    on_model = f"+ on ({', '.join(OF_MODEL)}) group_left ()"
    return f"{of_null} * (1 / {images(window=window)} {on_model} 1 / {known}) {on_model} {least}"


def psi_of_limit(window: str = "$window") -> str:
    """The index as a multiple of its limit: above 1 the figure has drifted."""
    return f"{psi(window)} / ({psi_limit(window)})"


@dataclass(frozen=True)
class Query:
    """A query with what a reader needs. `by`: labels that tell its series apart; `name`: what tells it from others of a panel."""

    text: str
    unit: Unit
    by: tuple[str, ...] = ()
    name: str = ""
    external: bool = False
    """Whether it asks for metrics that are not the edge's, so that a Prometheus may lack them."""


@dataclass(frozen=True)
class Panel:
    """Queries that are looked at together, all of one unit. `kind`: lines over time, or the values now as bars."""

    title: str
    about: str
    queries: tuple[Query, ...]
    kind: Literal["lines", "bars"] = "lines"
    limit: float | Literal["p95", "errors"] | None = None
    """A line that the values should stay below: a number, or the name of one of the SLO's."""


@dataclass(frozen=True)
class Board:
    """A dashboard: panels in reading order, by rows. `window` is what `$window` is filled with in Grafana."""

    name: str
    title: str
    about: str
    rows: dict[str, tuple[Panel, ...]]
    window: str = "$__rate_interval"

    def panels(self) -> tuple[Panel, ...]:
        """All panels, in order."""
        return tuple(panel for panels in self.rows.values() for panel in panels)
