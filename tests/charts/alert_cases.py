"""What Prometheus sees in the tests of alerts, and which alerts fire then; all others have to be silent.

Values of series are promtool's: `0+5x60` begins at 0 and grows by 5 in each of 60 intervals. The release is `roofs` in `ns`, with
the chart's default values, whose SLO is p50 0.1 s, p95 0.25 s, p99 0.5 s and 0.1 % of errors.
"""

from dataclasses import dataclass, field

Labels = dict[str, str]
Series = dict[str, str]

MODEL = {"model": "roofs", "version": "1"}
PODS = ("roofs-predictor-5d9f-aaaaa", "roofs-predictor-5d9f-bbbbb")


def named(metric: str, pod: str = PODS[0], **labels: str) -> str:
    """A series' name, with the labels that Prometheus gives a pod's target."""
    everything = {"namespace": "ns", "pod": pod, "instance": f"{pod}:8080", **labels}
    return f"{metric}{{{','.join(f'{key}={value!r}'.replace(chr(39), chr(34)) for key, value in everything.items())}}}"


def requests(code: str, values: str, pod: str = PODS[0]) -> Series:
    """Requests of one status, all of them quick."""
    whole = MODEL | {"protocol": "rest", "code": code}
    count = named("visor_request_seconds_count", pod, **whole)
    return {count: values} | {named("visor_request_seconds_bucket", pod, **whole, le=le): values for le in ("0.1", "0.25", "0.5")}


def answered(quick: dict[str, str], values: str) -> Series:
    """Answered requests, of which so many are within each bound."""
    whole = MODEL | {"protocol": "rest", "code": "200"}
    buckets = {named("visor_request_seconds_bucket", **whole, le=le): of_them for le, of_them in quick.items()}
    return {named("visor_request_seconds_count", **whole): values, **buckets}


def decided(decision: str, values: str, pod: str = PODS[0]) -> Series:
    """Answered images of one decision."""
    return {named("visor_decisions_total", pod, **MODEL, label="intact", decision=decision): values}


def drifted(**figures: tuple[str, ...]) -> Series:
    """Images by figure, of three bins each, and a reference of 300 images, 100 in each bin."""
    share = str(100.5 / 301.5)  # (m + 0.5) / (M + 0.5 B)
    found = {
        named("visor_drift_reference_images", **MODEL): "300x200",
        named("visor_drift_effect", **MODEL): "0.05x200",
    }
    for figure, bins in figures.items():
        found[named("visor_drift_limit_quantile", **MODEL, figure=figure)] = "12x200"
        for place, values in enumerate(bins):
            which = {"figure": figure, "bin": str(place)}
            found[named("visor_drift_images_total", **MODEL, **which)] = values
            found[named("visor_drift_reference_share", **MODEL, **which)] = f"{share}x200"
    return found


def up(pod: str = PODS[0], values: str = "1x2000", ready: str = "1x2000", track: str = "stable") -> Series:
    """A pod that is there, and whether it is ready."""
    return {named("visor_build_info", pod, **MODEL, track=track): values, named("visor_ready", pod, **MODEL): ready}


def gusts(hours: int) -> Series:
    """Images of one bin alone for 20 minutes of each hour, each time on another pod of Knative, 100 a minute."""
    found = {}
    for hour in range(hours):
        for name, values in drifted(score=("0x20", "0x20", "0+100x20")).items():
            here = name.replace(PODS[0], f"roofs-predictor-00001-deployment-5d9f-aaaa{hour}")
            found[here] = (f"_x{60 * hour} " if hour else "") + values.replace("x200", "x20") + " stale"
    return found


UP = up()
CANARY_POD = "roofs-canary-predictor-5d9f-aaaaa"
CANARY = ("canary.enabled=true", "canary.archive=pvc://models/roofs/2")
IDLE = ("mode=Knative",)


@dataclass(frozen=True)
class Case:
    """A case. `at`: when; `fires`: name and labels of each alert that does; `interval`: between two values of a series.

    `values`: of the chart, where they are not the defaults.
    """

    name: str
    series: Series
    at: str
    fires: tuple[tuple[str, Labels], ...] = ()
    interval: str = "1m"
    up: Series = field(default_factory=lambda: UP)
    values: tuple[str, ...] = ()


def budget(*windows: str, promise: str = "") -> tuple[tuple[str, Labels], ...]:
    """Alerts of the error's budget, or of a latency's."""
    severity = {"1h": "critical", "6h": "critical", "3d": "warning"}
    if promise:
        own = [{"promise": promise, "window": window} for window in windows]
        return tuple(("VisorLatencyBudgetBurn", {**MODEL, **each, "severity": severity[each["window"]]}) for each in own)
    return tuple(("VisorErrorBudgetBurn", {**MODEL, "window": window, "severity": severity[window]}) for window in windows)


def critical(alert: str, **labels: str) -> tuple[str, Labels]:
    """An alert that wants a person now."""
    return alert, {**labels, "severity": "critical"}


def warning(alert: str, **labels: str) -> tuple[str, Labels]:
    """A warning about the model, or about what the labels say."""
    return alert, {**(labels or MODEL), "severity": "warning"}


POD = {"pod": PODS[0], "instance": f"{PODS[0]}:8080"}
CASES = (
    Case("all is well", requests("200", "0+50x120") | decided("pass", "0+50x120"), "2h"),
    Case("nobody has asked yet", {}, "2h"),
    # the budget of errors
    Case(
        "2 % of the requests fail, all of them on one of two pods",
        requests("200", "0+48x30") | requests("500", "0+2x30") | requests("200", "0+50x30", PODS[1]),
        "15m",
        budget("1h", "6h"),
    ),
    Case("clients' own errors are nobody's fault", requests("200", "0+40x120") | requests("400", "0+10x120"), "2h"),
    Case("0.2 % fail for hours", requests("200", "0+998x40") | requests("500", "0+2x40"), "4h", budget("3d"), "10m"),
    Case("0.05 % fail for hours", requests("200", "0+1999x40") | requests("500", "0+1x40"), "4h", interval="10m"),
    Case("10 % failed, and no more", requests("200", "0+45x10 500+50x50") | requests("500", "0+5x10 50x50"), "50m"),
    Case("few requests, all of which fail, page nobody", requests("500", "0+1x60"), "60m"),
    # the budgets of latencies
    Case(
        "20 % are slower than p99",
        answered({"0.1": "0+40x30", "0.25": "0+40x30", "0.5": "0+40x30"}, "0+50x30"),
        "15m",
        budget("1h", "6h", promise="p99"),
    ),
    Case(
        "80 % are slower than p95",
        answered({"0.1": "0+10x30", "0.25": "0+10x30", "0.5": "0+50x30"}, "0+50x30"),
        "15m",
        budget("1h", "6h", promise="p95"),
    ),
    Case(
        "60 % are slower than p50",
        answered({"0.1": "0+40x30", "0.25": "0+100x30", "0.5": "0+100x30"}, "0+100x30"),
        "4h",
        budget("3d", promise="p50"),
        "10m",
    ),
    Case(
        "7 % are slower than p95, and 2 % than p99",
        answered({"0.1": "0+90x30", "0.25": "0+93x30", "0.5": "0+98x30"}, "0+100x30"),
        "4h",
        budget("3d", promise="p95") + budget("3d", promise="p99"),
        "10m",
    ),
    Case(
        "as slow as may be",
        answered({"0.1": "0+600x30", "0.25": "0+960x30", "0.5": "0+995x30"}, "0+1000x30"),
        "4h",
        interval="10m",
    ),
    Case(
        "one answer of many requests is slow, and all others are errors of clients",
        requests("400", "0+50x120") | answered({"0.1": "0x120", "0.25": "0x120", "0.5": "0x120"}, "0x30 1x90"),
        "33m",
    ),
    Case("few requests are slow", answered({"0.1": "0x60", "0.25": "0x60", "0.5": "0x60"}, "0+1x60"), "60m"),
    # pods and traffic
    Case("no pod is there", {}, "10m", (critical("VisorDown"),), up={}),
    Case("pods are there, and none is ready", {}, "10m", (critical("VisorDown"),), up=up(ready="0x20")),
    Case(
        "one of two pods is ready",
        {},
        "10m",
        up=UP | up(PODS[1], ready="0x20"),
    ),
    Case(
        "a canary hides no stable track that is gone",
        {},
        "40m",
        (critical("VisorDown"),),
        up=up(values="1x10 stale", ready="1x10 stale") | up(CANARY_POD, track="canary"),
        values=CANARY,
    ),
    Case(
        "no pod of the canary is ready",
        {},
        "10m",
        (critical("VisorCanaryDown"),),
        up=UP | up(CANARY_POD, ready="0x20"),
        values=CANARY,
    ),
    Case("both tracks are there", {}, "10m", up=UP | up(CANARY_POD, track="canary"), values=CANARY),
    Case("no pod has been there for a moment", {}, "4m", up={}),
    Case(
        "pods of another release",
        {},
        "10m",
        (critical("VisorDown"),),
        up=up("roofs-2-predictor-5d9f-aaaaa") | up("roofs-predictor-predictor-5d9f-aaaaa"),
    ),
    Case(
        "another release fails, whose name begins as the pods do",
        requests("200", "0+48x30", "roofs-predictor-predictor-5d9f-aaaaa")
        | requests("500", "0+2x30", "roofs-predictor-predictor-5d9f-aaaaa"),
        "15m",
    ),
    Case("nobody asks any more", requests("200", "0+50x180 9000x120"), "4h10m", (("VisorNoTraffic", {"severity": "warning"}),)),
    Case("nobody has asked for half an hour", requests("200", "0+50x180 9000x120"), "3h30m"),
    # what is full
    Case(
        "5 % are refused for want of room",
        requests("200", "0+95x30")
        | requests("503", "0+5x30")
        | {named("visor_requests_refused_total", **MODEL, protocol="rest", code="server.overloaded"): "0+5x30"},
        "15m",
        (*budget("1h", "6h"), warning("VisorRefusing")),
    ),
    Case(
        "5 % are refused for what they are",
        requests("200", "0+95x30")
        | requests("400", "0+5x30")
        | {named("visor_requests_refused_total", **MODEL, protocol="rest", code="request.json"): "0+5x30"},
        "15m",
    ),
    Case(
        "memory is full",
        {named("visor_memory_bytes", state="total"): "100x30", named("visor_memory_bytes", state="spent"): "95x30"},
        "15m",
        (warning("VisorMemoryFull", **POD),),
    ),
    Case(
        "memory was full for a moment",
        {named("visor_memory_bytes", state="total"): "100x30", named("visor_memory_bytes", state="spent"): "95x8 50x22"},
        "15m",
    ),
    Case(
        "images wait for 0.25 to 0.5 s",
        requests("200", "0+50x30")
        | {named("visor_stage_seconds_bucket", **MODEL, stage="queue", le=le): "0x30" for le in ("0.1", "0.25")}
        | {named("visor_stage_seconds_bucket", **MODEL, stage="queue", le=le): "0+50x30" for le in ("0.5", "+Inf")},
        "15m",
        (warning("VisorQueueLong"),),
    ),
    Case(
        "images wait for less than 0.1 s",
        requests("200", "0+50x30")
        | {
            named("visor_stage_seconds_bucket", **MODEL, stage="queue", le=le): "0+50x30" for le in ("0.1", "0.25", "0.5", "+Inf")
        },
        "15m",
    ),
    Case(
        "one pod has lost lines",
        {named("visor_log_lines_lost"): "0x10 5x20", named("visor_log_lines_lost", PODS[1]): "7x30"},
        "15m",
        (warning("VisorLogLinesLost", **POD),),
    ),
    Case(
        "a pod had lost lines before it was scraped",
        {named("visor_log_lines_lost"): "_x10 7x20"},
        "15m",
        (warning("VisorLogLinesLost", **POD),),
    ),
    # images
    Case(
        "the network answers no number",
        requests("400", "0+10x60") | {named("visor_images_rejected_total", **MODEL, code="image.unanswerable"): "0+10x60"},
        "45m",
        (critical("VisorUnanswerable", **MODEL),),
    ),
    Case(
        "a fifth of the images is rejected",
        decided("pass", "0+8x60") | {named("visor_images_rejected_total", **MODEL, code="image.undecodable"): "0+2x60"},
        "45m",
        (warning("VisorImagesRejected"),),
    ),
    Case(
        "every image is rejected",
        {named("visor_images_rejected_total", **MODEL, code="image.undecodable"): "0+10x60"},
        "45m",
        (warning("VisorImagesRejected"),),
    ),
    Case(
        "a twentieth of the images is rejected",
        decided("pass", "0+19x60") | {named("visor_images_rejected_total", **MODEL, code="image.undecodable"): "0+1x60"},
        "45m",
    ),
    Case(
        "few images are rejected, all of them",
        {named("visor_images_rejected_total", **MODEL, code="image.undecodable"): "0+1x60"},
        "45m",
    ),
    Case(
        "people get 40 %, over two pods",
        decided("pass", "0+6x60") | decided("review", "0+4x60", PODS[1]),
        "45m",
        (warning("VisorReviewShare"),),
    ),
    Case("people get 20 %", decided("pass", "0+8x60") | decided("review", "0+2x60"), "45m"),
    Case("people get all of few", decided("review", "0+1x60"), "45m"),
    # drift: the limit is 12 (1/N + 1/300) + 0.05
    Case(
        "one figure has moved",  # of N = 600, half in one bin: index 0.0598 + ...; the other: 0
        drifted(brightness=("0+5x120", "0+5x120", "0+0x120"), score=("0+3x120", "0+3x120", "0+4x120")),
        "2h",
        (warning("VisorDrift", **MODEL, figure="brightness"),),
    ),
    Case("images are like the reference", drifted(score=("0+3x120", "0+3x120", "0+4x120")), "2h"),
    Case("few images, all alike", drifted(score=("0+4x120", "0x120", "0x120")), "2h"),
    Case(
        "images have moved, and pods come and go",
        gusts(6),
        "5h",
        (warning("VisorDrift", **MODEL, figure="score"),),
        up={},
        values=IDLE,
    ),
    Case(
        "an archive without a reference",
        {named("visor_drift_images_total", **MODEL, figure="score", bin="0"): "0+10x120"},
        "2h",
    ),
)
