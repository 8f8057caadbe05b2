"""The edge's metrics are declared here, once; each edge has a registry of its own."""

from collections.abc import Mapping, Sized
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from handlers.spec import Spec
from transformer.budget import Budget
from transformer.line_writer import LineWriter
from transformer.request_log import Record
from transformer.upstream.image_answers import ImageAnswer

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0)
STAGE_SECONDS = (0.0001, 0.00025, 0.0005, *SECONDS)
CONFIDENCE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
QUEUE = "queue"  # waiting at the edge
TRANSPORT = "transport"  # a call to TorchServe without the handler's own stages: the way there and back


class Metrics:
    """The metrics of one edge. The label `code` of visor_request_seconds is a status (`Record.code`), else an error's code."""

    def __init__(self, spec: Spec, archive_digest: str, track: str = "") -> None:
        self._registry = CollectorRegistry()
        model = ("model", "version")
        self._model = (spec.name, spec.version)
        self.last_inference_ms = 0  # since the epoch; 0 before the first one
        # Kept: looking one up takes as long as observing.
        self._stage = cache(lambda stage: self._stage_seconds.labels(*self._model, stage))
        self._answered = cache(lambda protocol, code: self._request_seconds.labels(*self._model, protocol, code))
        self._decided = cache(lambda label, decision: self._decisions.labels(*self._model, label, decision))
        self._sure = cache(lambda: self._confidence.labels(*self._model))
        self._request_seconds = Histogram(
            "visor_request_seconds",
            "From a request's first byte to its answer.",
            (*model, "protocol", "code"),
            buckets=SECONDS,
            registry=self._registry,
        )
        self._stage_seconds = Histogram(
            "visor_stage_seconds",
            "One image's time by stage.",
            (*model, "stage"),
            buckets=STAGE_SECONDS,
            registry=self._registry,
        )
        self._decisions = Counter(
            "visor_decisions_total", "Images answered.", (*model, "label", "decision"), registry=self._registry
        )
        self._confidence = Histogram(
            "visor_confidence", "Calibrated confidence of the label.", model, buckets=CONFIDENCE, registry=self._registry
        )
        self._rejected = Counter(
            "visor_images_rejected_total", "Images answered by an error.", (*model, "code"), registry=self._registry
        )
        self._refused = Counter(
            "visor_requests_refused_total",
            "Inference requests answered by an error.",
            (*model, "protocol", "code"),
            registry=self._registry,
        )
        self._errors = Counter(
            "visor_errors_total",
            "Requests other than inferences answered by an error, among them what is no HTTP.",
            (*model, "protocol", "code"),
            registry=self._registry,
        )
        self._lost = Gauge(
            "visor_log_lines_lost", "Lines of the log that were lost since the start, as nobody read.", registry=self._registry
        )
        self._memory = Gauge(
            "visor_memory_bytes",
            "Memory for requests under way: what they may take, what they are charged now.",
            ("state",),
            registry=self._registry,
        )
        self._memory_refused = Gauge(
            "visor_memory_refused", "Charges to that memory that found no room, since the start.", registry=self._registry
        )
        self._queue = Gauge("visor_queue_images", "Images that wait at the edge.", model, registry=self._registry)
        self._cached = Counter(
            "visor_cache_lookups_total", "Images looked up in the cache of answers.", (*model, "result"), registry=self._registry
        )
        build = Info("visor_build", "What is served.", registry=self._registry)
        build.info(
            {
                "model": spec.name,
                "version": spec.version,
                "backend": spec.backend,
                "network": spec.network,
                "archive_digest": archive_digest,
                "track": track,
            }
        )

    def watch_queue(self, queue: Sized) -> None:
        """Report this queue's length whenever metrics are read."""
        self._queue.labels(*self._model).set_function(lambda: len(queue))

    def watch_budget(self, budget: Budget) -> None:
        """Report this budget whenever metrics are read."""
        self._memory.labels("total").set_function(lambda: budget.total)
        self._memory.labels("spent").set_function(lambda: budget.spent)
        self._memory_refused.set_function(lambda: budget.refused)

    def watch_log(self, lines: LineWriter) -> None:
        """Report how many lines this writer has lost whenever metrics are read."""
        self._lost.set_function(lambda: lines.lost)

    def end(self, record: Record) -> None:
        """Count an inference request that has ended, and its images."""
        self.last_inference_ms = int(record.ended * 1e3)
        self._answered(record.protocol, record.code).observe(record.seconds)
        if record.error:
            self._refused.labels(*self._model, record.protocol, record.error.code).inc()
        for answer, queue_s, call_s in record.calls:
            self._measure(answer, queue_s, call_s)
        for result in record.results:
            if isinstance(result, ImageAnswer):  # wherever it is from
                self._decided(result.label, result.decision).inc()
                self._sure().observe(result.confidence)
            else:
                self._rejected.labels(*self._model, result.code).inc()

    def count_error(self, record: Record) -> None:
        """Count a request that is no inference, if it was answered by an error."""
        if record.error:
            self._errors.labels(*self._model, record.protocol, record.error.code).inc()

    def _measure(self, answer: ImageAnswer, queue_s: float, call_s: float) -> None:
        """Observe the stages of one image: waiting, the way to TorchServe and back, and the handler's own."""
        transport_s = max(0.0, call_s - sum(answer.seconds.values()))
        for stage, spent in {**answer.seconds, QUEUE: queue_s, TRANSPORT: transport_s}.items():
            self._stage(stage).observe(spent)

    def count_lookup(self, *, hit: bool) -> None:
        """Count one image that was looked up in the cache."""
        self._cached.labels(*self._model, "hit" if hit else "miss").inc()

    def render(self) -> bytes:
        """Write all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def totals(self, name: str, label: str) -> Mapping[str, tuple[int, float]]:
        """The count and the sum, such as of seconds, of a histogram or a counter by one of its labels; a counter's sum is 0."""
        totals: dict[str, tuple[int, float]] = {}
        for family in self._registry.collect():
            for sample in family.samples:
                value, kind = sample.labels.get(label, ""), sample.name.removeprefix(name)
                count, total = totals.get(value, (0, 0.0))
                if kind in ("_count", "_total"):
                    totals[value] = (count + int(sample.value), total)
                elif kind == "_sum":
                    totals[value] = (count, total + sample.value)
        return totals
