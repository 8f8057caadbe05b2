"""The alerts of a release: when each fires, how bad that is, and what it says.

An alert's expression has names to be filled in beside `$selector`; the chart's template does it from its values, `group` from
the same defaults on one machine. `$stable` and `$canary` choose the pods of one track, `$selector` those of both.
`$error_rate`, `$p50`, `$p95` and `$p99` are the SLO's; latencies are in seconds, as a bucket's `le` writes them.

Burn rates and windows are those of Beyer et al., "The Site Reliability Workbook" (2018), chapter 5, table 5-8: an alert fires
once 2 % of a 30 days' budget are gone in an hour, 5 % in six hours or 10 % in three days, and ends soon after the cause, as a
window of a twelfth of the length has to burn as fast. The budget of the latency's p95 is the 5 % of requests that may be slower.
Of p50's, half of them, no window can burn more than twice as much as there is: the last window alone watches it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from watch import queries as q

Severity = Literal["critical", "warning"]
"""`critical`: a person is needed now; `warning`: in working hours."""


@dataclass(frozen=True)
class Burn:
    """Fire while the budget burns `rate` times as fast as it may, over the long window and the short one."""

    long: str
    short: str
    rate: float
    severity: Severity
    lasting: str


BURNS = (
    Burn("1h", "5m", 14.4, "critical", "2m"),
    Burn("6h", "30m", 6, "critical", "5m"),
    Burn("3d", "6h", 1, "warning", "1h"),
)
QUANTILES = {"p50": 0.5, "p95": 0.05, "p99": 0.01}
"""Share of requests that may take longer than each of the SLO's latencies."""


@dataclass(frozen=True)
class Alert:
    """An alert. `lasting` is how long its condition holds before it fires.

    `needs`: what a release has to have for it: `pods` at all times, which one that scales to zero has not, or a `canary`.
    `labels`: what tells it from others of its name.
    """

    name: str
    expression: str
    lasting: str
    severity: Severity
    summary: str
    description: str
    needs: Literal["nothing", "pods", "canary"] = "nothing"
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def anchor(self) -> str:
        """The heading's anchor in docs/runbooks.md."""
        return self.name.lower()


def _enough(window: str, *matchers: str) -> str:
    return f"{q.increase('visor_request_seconds_count', q.OF_MODEL, *matchers, window=window)} >= $min_requests"


def _down(track: str) -> str:
    """No pod of the track says that it is ready, be it that there is none."""
    return f"(max (visor_ready{{{track}}}) or vector(0)) == 0"


def _lost_lines() -> str:
    """Lines that were lost since, or before a pod was scraped for the first time, which is no growth."""
    now = q.total(q.OF_POD, q.series("visor_log_lines_lost"), "max")
    before = q.total(q.OF_POD, f"{q.series('visor_log_lines_lost')} offset 15m", "max")
    return f"{q.increase('visor_log_lines_lost', q.OF_POD, window='15m')} > 0 or ({now} > 0 unless {before})"


def _limit() -> str:
    """The drift's limit, with a least effect that may be raised above the archive's own."""
    of_archive = q.reference("visor_drift_effect", q.OF_MODEL, "$drift_window")
    return f"({q.psi_limit('$drift_window', f'clamp_min({of_archive}, $least_effect)')})"


def _budgets() -> tuple[Alert, ...]:
    def both(burn: Burn, share_of: dict[str, str], bound: str, *judged: str) -> str:
        shares = (f"{share_of[window]} > {bound}" for window in (burn.short, burn.long))
        return " and ".join((*shares, _enough(burn.long, *judged)))

    found = [
        Alert(
            "VisorErrorBudgetBurn",
            both(burn, {w: q.failed_share(w) for w in (burn.short, burn.long)}, f"{burn.rate:g} * $error_rate"),
            burn.lasting,
            burn.severity,
            "{{ $labels.model }} {{ $labels.version }} fails {{ $value | humanizePercentage }} of its requests",
            f"For {burn.long} errors have used up their budget at least {burn.rate:g} times as fast as it lasts.",
            labels={"window": burn.long},
        )
        for burn in BURNS
    ]
    for name, budget in QUANTILES.items():
        for burn in BURNS:
            if burn.rate * budget < 1:
                shares = {w: q.slow_share(f"${name}", w) for w in (burn.short, burn.long)}
                found.append(
                    Alert(
                        "VisorLatencyBudgetBurn",
                        both(burn, shares, f"{burn.rate * budget:g}", q.ANSWERED),
                        burn.lasting,
                        burn.severity,
                        f"{{{{ $labels.model }}}} {{{{ $labels.version }}}} answers {{{{ $value | humanizePercentage }}}} of its "
                        f"requests later than ${name} s",
                        f"For {burn.long} the {budget:.0%} of requests that may be slower than the SLO's {name} are used up "
                        f"at least {burn.rate:g} times as fast as they last.",
                        labels={"promise": name, "window": burn.long},
                    )
                )
    return tuple(found)


ALERTS = (
    *_budgets(),
    Alert(
        "VisorDown",
        _down("$stable"),
        "5m",
        "critical",
        "No pod of the release is ready",
        "For five minutes Prometheus has seen no stable pod that answers requests: none is there, ready or scraped.",
        needs="pods",
    ),
    Alert(
        "VisorCanaryDown",
        _down("$canary"),
        "5m",
        "critical",
        "No pod of the canary is ready",
        "For five minutes Prometheus has seen no pod of the canary that answers requests, and its share of them is lost.",
        needs="canary",
    ),
    Alert(
        "VisorNoTraffic",
        f"({q.increase('visor_request_seconds_count', (), window='$no_traffic')} or vector(0)) == 0 and "
        f"{q.increase('visor_request_seconds_count', (), window='1d', ago='$no_traffic')} >= $min_requests",
        "5m",
        "warning",
        "Nobody has asked the release for $no_traffic, or nobody has counted it",
        "Within the day before, it had been asked. Where its pods are not scraped any more, requests are not seen either.",
    ),
    Alert(
        "VisorRefusing",
        f"{q.overloaded_share('5m')} > 0.01 and {_enough('5m')}",
        "5m",
        "warning",
        "{{ $labels.model }} {{ $labels.version }} refuses {{ $value | humanizePercentage }} of its requests for want of room",
        "Queue or memory of the edge are full: more is asked than the pods can answer.",
    ),
    Alert(
        "VisorMemoryFull",
        f"{q.memory_share()} > 0.9",
        "10m",
        "warning",
        "{{ $labels.pod }} has {{ $value | humanizePercentage }} of its memory for requests in use",
        "Soon large requests find no room and are refused (server.memory).",
    ),
    Alert(
        "VisorQueueLong",
        f"{q.waiting(0.95, q.OF_MODEL, '5m')} > $p95 and {_enough('5m')}",
        "10m",
        "warning",
        "Images of {{ $labels.model }} {{ $labels.version }} wait {{ $value | humanizeDuration }} for a worker (p95)",
        "Waiting alone takes longer than the SLO's p95 for a whole answer.",
    ),
    Alert(
        "VisorImagesRejected",
        f"{q.rejected_share(q.OF_IMAGES, window='$decisions_window')} > $rejected_share and "
        f"{q.sent('$decisions_window')} >= $min_images",
        "15m",
        "warning",
        "{{ $labels.model }} {{ $labels.version }} answers {{ $value | humanizePercentage }} of its images by an error",
        "Clients send what is no image, or one that the archive does not take.",
    ),
    Alert(
        "VisorUnanswerable",
        f"{q.increase('visor_images_rejected_total', q.OF_MODEL, q.UNANSWERABLE, window='15m')} > 0",
        "0s",
        "critical",
        "The network of {{ $labels.model }} {{ $labels.version }} answered {{ $value | humanize }} images by no number",
        "NaN or infinity came out of the network: the archive is broken, not the images.",
    ),
    Alert(
        "VisorReviewShare",
        f"{q.review_share('$decisions_window')} > $review_share and "
        f"{q.increase('visor_decisions_total', q.OF_MODEL, window='$decisions_window')} >= $min_images",
        "15m",
        "warning",
        "{{ $labels.model }} {{ $labels.version }} leaves {{ $value | humanizePercentage }} of its images to people",
        "More images than planned are inside the review band.",
    ),
    Alert(
        "VisorDrift",
        f"{q.psi('$drift_window')} > {_limit()} and {q.images(window='$drift_window')} >= $drift_min_images",
        "30m",
        "warning",
        "Images of {{ $labels.model }} {{ $labels.version }} have drifted: {{ $labels.figure }} (index {{ $value | humanize }})",
        "In the last $drift_window images are no longer like those of the calibration split, on which the rule was fitted: what "
        "its report says, and a bound on missed images where it has one, holds for such images alone.",
    ),
    Alert(
        "VisorLogLinesLost",
        _lost_lines(),
        "0s",
        "warning",
        "{{ $labels.pod }} has lost {{ $value | humanize }} lines of its log in 15 minutes",
        "Nobody reads the log as fast as it is written, and requests do not wait for it.",
    ),
)


def group(name: str, alerts: Sequence[Alert], parts: Mapping[str, str], runbooks: str) -> dict[str, Any]:
    """A group of rules as Prometheus reads it, with the names filled in; the chart's template makes the same of its values."""
    return {
        "name": name,
        "rules": [
            {
                "alert": alert.name,
                "expr": q.fill(alert.expression, **parts),
                "for": alert.lasting,
                "labels": {"severity": alert.severity, **alert.labels},
                "annotations": {
                    "summary": q.fill(alert.summary, **parts),
                    "description": q.fill(alert.description, **parts),
                    "runbook_url": f"{runbooks}#{alert.anchor}",
                },
            }
            for alert in alerts
        ],
    }
