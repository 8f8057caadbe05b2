"""Every metric of the edge is declared here, once: `transformer.metrics` counts, and docs/metrics.md is made of this table.

No label takes its values from clients, so the number of a pod's series has a bound, `Declared.series`.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from handlers.decision import Outcome
from handlers.drift import BINS, PICTURE, SCORE, axis_name
from handlers.errors import ImageError, OptionError, VisorError
from transformer.errors import kinds

RATIO = 1.25
PROMISED = (0.05, 0.1, 0.25, 0.5)
"""The bounds, in seconds, of loadtests/slo.yaml: each is a bucket of its own, so that what keeps it is counted exactly."""
QUEUE = "queue"
TRANSPORT = "transport"
OTHER = "other"
AXES = 12
"""Of the drift references that training fits, at most."""


@dataclass(frozen=True)
class Label:
    """A label. `values`: all that it may have; how many at most, where the archive says which; None for the archive's labels."""

    name: str
    about: str
    values: tuple[str, ...] | int | None

    def count(self, labels: int) -> int:
        """How many values it has at most, for an archive of so many labels."""
        if self.values is None:
            return labels
        return self.values if isinstance(self.values, int) else len(self.values)


@dataclass(frozen=True)
class Declared:
    """A metric. `name`: as Prometheus has it, of a histogram without _bucket, _sum and _count; `buckets`: upper bounds."""

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    about: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of its labels, in order."""
        return tuple(label.name for label in self.labels)

    def series(self, labels: int) -> int:
        """How many series a pod has of it at most, for an archive of so many labels."""
        each = len(self.buckets) + 3 if self.kind == "histogram" else 1  # +Inf, _sum, _count
        if any(bound < 0 for bound in self.buckets):
            each -= 1  # no _sum: one that may fall is no counter
        return each * math.prod(label.count(labels) for label in self.labels)


def _grid(first: float, last: float) -> list[float]:
    """Bounds from `first` by RATIO, in three digits, up to `last`."""
    steps = math.ceil(math.log(last / first, RATIO))
    return [*(float(f"{first * RATIO**step:.3g}") for step in range(steps)), last]


SECONDS = tuple(sorted({*_grid(0.001, 10.0), *PROMISED}))
FINE_SECONDS = tuple(sorted({*_grid(0.0001, 0.001), *SECONDS}))
SHADOW_SECONDS_BOUNDS = (0.01, 0.025, *PROMISED, 1.0, 2.5, 5.0)
DIFFERENCE = (-1.0, -0.5, -0.2, -0.1, -0.05, -0.02, -0.01, -0.001, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
CONFIDENCE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)

_OURS = [kind for kind in kinds(VisorError) if kind.__module__ in (VisorError.__module__, kinds.__module__)]
STAGES = ("decode", "infer", "decide", "explain", QUEUE, TRANSPORT, OTHER)

MODEL = (
    Label("model", "name of the archive's model", 1),
    Label("version", "its version", 1),
)
PROTOCOL = Label("protocol", "`rest` or `grpc`", ("rest", "grpc"))
STATUS = Label(
    "code",
    "HTTP status of the answer, over gRPC the one that it would have over REST",
    tuple(sorted({"200", *(str(kind.status) for kind in _OURS)})),
)
ERROR = Label("code", "[code of the error](v2.md#errors)", tuple(sorted({kind.code for kind in _OURS})))
IMAGE_ERROR = Label(
    "code", "code of the image's error", tuple(sorted({kind.code for kind in kinds(ImageError, OptionError) if kind in _OURS}))
)
STAGE = Label(
    "stage",
    "the worker's `decode`, `infer`, `decide` and `explain`; `queue`, the wait at the edge; `transport`, the way to the worker "
    "and back; `other`, what a newer worker names otherwise",
    STAGES,
)
LABEL = Label("label", "one of the archive's labels", None)
DECISION = Label("decision", "`pass`, `flag` or `review`", get_args(Outcome))
RESULT = Label("result", "`hit` or `miss`", ("hit", "miss"))
COMPARED = Label(
    "result",
    "`agreed`, same label and same decision; `label`, same decision and another label; `decision`, another decision, which an "
    "image refused by one of the two is, too; `error`, no answer of the canary's to compare; `timeout`, none in time; `dropped`, "
    "not asked, as too many wait",
    ("agreed", "label", "decision", "error", "timeout", "dropped"),
)
BECAME_ERROR = "rejected"
RESULTS = (*get_args(Outcome), BECAME_ERROR)
BECAME = Label("result", "`pass`, `flag` or `review`, what was decided; `rejected`, answered by an error", RESULTS)
# Not "track", which the PodMonitor gives each series of a pod.
WHOSE = Label("whose", "whose decisions they are, `stable` or `canary`", ("stable", "canary"))
STATE = Label("state", "`total`, what requests may take, or `spent`, what they are charged now", ("total", "spent"))
FIGURE = Label(
    "figure",
    f"a figure of images: {', '.join(f'`{name}`' for name in (SCORE, *PICTURE))}, and along axes of the network's features, "
    f"`{axis_name(1)}` to `{axis_name(AXES)}` at most",
    1 + len(PICTURE) + AXES,
)
BIN = Label("bin", f"`0` to `{BINS - 1}` at most, in the order of the figure's values", BINS)
BUILD = tuple(
    Label(name, about, 1)
    for name, about in (
        *((label.name, label.about) for label in MODEL),
        ("backend", "what computes the network"),
        ("network", "its kind"),
        ("archive_digest", "SHA-256 of the archive"),
        ("track", "`stable` or `canary`; empty outside of a release"),
    )
)

REQUEST_SECONDS = Declared(
    "visor_request_seconds",
    "histogram",
    "Inference requests: seconds from the first byte of each to its answer.",
    (*MODEL, PROTOCOL, STATUS),
    SECONDS,
)
STAGE_SECONDS = Declared(
    "visor_stage_seconds", "histogram", "Images that a worker answered: seconds by stage.", (*MODEL, STAGE), FINE_SECONDS
)
REFUSED = Declared(
    "visor_requests_refused_total", "counter", "Inference requests answered by an error.", (*MODEL, PROTOCOL, ERROR)
)
ERRORS = Declared(
    "visor_errors_total",
    "counter",
    "Requests other than inferences answered by an error, among them what is no HTTP.",
    (*MODEL, PROTOCOL, ERROR),
)
DECISIONS = Declared("visor_decisions_total", "counter", "Images answered, those from the cache too.", (*MODEL, LABEL, DECISION))
CONFIDENCES = Declared("visor_confidence", "histogram", "Images answered: calibrated confidence of the label.", MODEL, CONFIDENCE)
REJECTED = Declared("visor_images_rejected_total", "counter", "Images answered by an error.", (*MODEL, IMAGE_ERROR))
DRAWN_IMAGES = Declared(
    "visor_drawn_images_total",
    "counter",
    "One image of each inference request, drawn by chance, by what became of it; a comparison counts these, as the images of a "
    "request may be alike. All series are there from the start.",
    (*MODEL, BECAME),
)
LOOKUPS = Declared("visor_cache_lookups_total", "counter", "Images looked up in the cache of answers.", (*MODEL, RESULT))
DRIFT_IMAGES = Declared(
    "visor_drift_images_total",
    "counter",
    "Images answered, those from the cache too, by the bin of each of their figures. All series are there from the start.",
    (*MODEL, FIGURE, BIN),
)
DRIFT_SHARE = Declared(
    "visor_drift_reference_share",
    "gauge",
    "Share of the reference's images in a bin, smoothed: (count + 0.5) / (images + 0.5 bins).",
    (*MODEL, FIGURE, BIN),
)
DRIFT_REFERENCE = Declared("visor_drift_reference_images", "gauge", "Images of the drift reference.", MODEL)
DRIFT_LIMIT = Declared(
    "visor_drift_limit_quantile",
    "gauge",
    "Quantile of a figure's null law: of N live and M reference images, a PSI above quantile (1/N + 1/M) + effect is drift.",
    (*MODEL, FIGURE),
)
DRIFT_EFFECT = Declared("visor_drift_effect", "gauge", "The least effect, a PSI, that counts as drift.", MODEL)
SHADOW_IMAGES = Declared(
    "visor_shadow_images_total",
    "counter",
    "Images that a shadow chose, by what became of them at the canary. All series are there from its beginning on.",
    (*MODEL, COMPARED),
)
SHADOW_DRAWN_IMAGES = Declared(
    "visor_shadow_drawn_images_total",
    "counter",
    "Of those images the ones that were drawn by chance, one of each request, before any was chosen, by the same. All series are "
    "there from its beginning on.",
    (*MODEL, COMPARED),
)
SHADOW_SECONDS = Declared(
    "visor_shadow_seconds", "histogram", "A shadow's images: seconds to the canary's answer.", MODEL, SHADOW_SECONDS_BOUNDS
)
SHADOW_SCORE = Declared(
    "visor_shadow_score_difference",
    "histogram",
    "A shadow's images that both answered: the canary's score minus the stable one. It has no sum, as that could fall.",
    MODEL,
    DIFFERENCE,
)
SHADOW_COST = Declared(
    "visor_shadow_cost_total",
    "counter",
    "A shadow's images that both answered: expected cost of each one's decisions, by its own probabilities and the stable "
    "archive's costs.",
    (*MODEL, WHOSE),
)
SHADOW_PRICED = Declared("visor_shadow_priced_images_total", "counter", "Images of which that cost is the sum.", MODEL)
READY = Declared("visor_ready", "gauge", "Whether requests are answered: 1 where readiness says so.", MODEL)
QUEUED = Declared("visor_queue_images", "gauge", "Images that wait at the edge.", MODEL)
MEMORY = Declared("visor_memory_bytes", "gauge", "Memory for requests under way, bytes.", (STATE,))
MEMORY_REFUSED = Declared(
    "visor_memory_refused", "gauge", "Charges to that memory that found no room, since the start of the process."
)
LINES_LOST = Declared(
    "visor_log_lines_lost", "gauge", "Lines of the log that were lost since the start of the process, as nobody read."
)
BUILD_INFO = Declared("visor_build_info", "info", "What is served; its value is 1.", BUILD)

ALL = (
    REQUEST_SECONDS,
    REFUSED,
    ERRORS,
    STAGE_SECONDS,
    DECISIONS,
    CONFIDENCES,
    REJECTED,
    DRAWN_IMAGES,
    LOOKUPS,
    DRIFT_IMAGES,
    DRIFT_SHARE,
    DRIFT_REFERENCE,
    DRIFT_LIMIT,
    DRIFT_EFFECT,
    SHADOW_IMAGES,
    SHADOW_DRAWN_IMAGES,
    SHADOW_SECONDS,
    SHADOW_SCORE,
    SHADOW_COST,
    SHADOW_PRICED,
    READY,
    QUEUED,
    MEMORY,
    MEMORY_REFUSED,
    LINES_LOST,
    BUILD_INFO,
)
