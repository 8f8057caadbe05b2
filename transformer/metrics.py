"""The edge's metrics, which `transformer.declared` declares; each edge has a registry of its own."""

import random
from collections.abc import Callable, Mapping, Sized
from functools import cache, cached_property
from typing import TypeVar, get_args

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from handlers.drift import Reference
from handlers.spec import Spec
from transformer import declared
from transformer.budget import Budget
from transformer.declared import Declared
from transformer.drift_counts import DriftCounts
from transformer.exposition import Exposition
from transformer.line_writer import LineWriter
from transformer.request_log import Record
from transformer.shadow_answers import Compared, Comparison
from transformer.upstream.image_answers import ImageAnswer

CONTENT_TYPE = CONTENT_TYPE_LATEST

Kind = TypeVar("Kind", Counter, Gauge)


class Metrics:
    """The metrics of one edge. `reference`: of its archive's drift, None where it has none.

    `bins`: how many bins each of that reference's figures has.
    """

    def __init__(self, spec: Spec, archive_digest: str, track: str = "", reference: Reference | None = None) -> None:
        self._registry = CollectorRegistry()
        self._exposition = Exposition(self._registry)
        # Else each counter has a second series, which says when it began: no query of ours asks, and a scrape has a third more.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._model = (spec.name, spec.version)
        self.last_inference_ms = 0  # since the epoch; 0 before the first one
        self._drift = reference and DriftCounts(reference, self._model)
        self.bins = self._drift.bins if self._drift else ()
        # Kept: looking one up takes as long as observing.
        self._stage = cache(lambda stage: self._stage_seconds.labels(*self._model, stage))
        self._answered = cache(lambda protocol, code: self._request_seconds.labels(*self._model, protocol, code))
        self._decided = cache(lambda label, decision: self._decisions.labels(*self._model, label, decision))
        self._sure = cache(lambda: self._confidence.labels(*self._model))
        self._request_seconds = self._histogram(declared.REQUEST_SECONDS)
        self._refused = self._make(Counter, declared.REFUSED)
        self._errors = self._make(Counter, declared.ERRORS)
        self._stage_seconds = self._histogram(declared.STAGE_SECONDS)
        self._decisions = self._make(Counter, declared.DECISIONS)
        self._confidence = self._histogram(declared.CONFIDENCES)
        self._rejected = self._make(Counter, declared.REJECTED)
        drawn = self._make(Counter, declared.DRAWN_IMAGES)
        self._drawn = {result: drawn.labels(*self._model, result) for result in declared.RESULTS}
        self._cached = self._make(Counter, declared.LOOKUPS)
        if self._drift:
            self._registry.register(self._drift)
        self._ready = self._make(Gauge, declared.READY)
        self._queue = self._make(Gauge, declared.QUEUED)
        self._memory = self._make(Gauge, declared.MEMORY)
        self._memory_refused = self._make(Gauge, declared.MEMORY_REFUSED)
        self._lost = self._make(Gauge, declared.LINES_LOST)
        build = declared.BUILD_INFO
        Info(build.name.removesuffix("_info"), build.about, registry=self._registry).info(
            {
                "model": spec.name,
                "version": spec.version,
                "backend": spec.backend,
                "network": spec.network,
                "archive_digest": archive_digest,
                "track": track,
            }
        )

    def _make(self, kind: type[Kind], metric: Declared) -> Kind:
        return kind(metric.name, metric.about, metric.label_names, registry=self._registry)

    def _histogram(self, metric: Declared) -> Histogram:
        return Histogram(metric.name, metric.about, metric.label_names, buckets=metric.buckets, registry=self._registry)

    def watch_ready(self, ready: Callable[[], bool]) -> None:
        """Report whether requests are answered, as this says, whenever metrics are read."""
        self._ready.labels(*self._model).set_function(ready)

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
        if record.results:
            drawn = random.choice(record.results)
            self._drawn[drawn.decision if isinstance(drawn, ImageAnswer) else declared.BECAME_ERROR].inc()
        for answer, queue_s, call_s in record.calls:
            self._measure(answer, queue_s, call_s)
        for result in record.results:
            if isinstance(result, ImageAnswer):  # wherever it is from
                self._decided(result.label, result.decision).inc()
                self._sure().observe(result.confidence)
                if self._drift and result.drift is not None:
                    self._drift.count(result.drift)
            else:
                self._rejected.labels(*self._model, result.code).inc()

    def count_error(self, record: Record) -> None:
        """Count a request that is no inference, if it was answered by an error."""
        if record.error:
            self._errors.labels(*self._model, record.protocol, record.error.code).inc()

    def _measure(self, answer: ImageAnswer, queue_s: float, call_s: float) -> None:
        """Observe the stages of one image: waiting, the way to TorchServe and back, and the handler's own."""
        transport_s = max(0.0, call_s - sum(answer.seconds.values()))
        for stage, spent in {**answer.seconds, declared.QUEUE: queue_s, declared.TRANSPORT: transport_s}.items():
            self._stage(stage if stage in declared.STAGES else declared.OTHER).observe(spent)

    def count_lookup(self, *, hit: bool) -> None:
        """Count one image that was looked up in the cache."""
        self._cached.labels(*self._model, "hit" if hit else "miss").inc()

    @cached_property
    def shadow(self) -> "ShadowMetrics":
        """The metrics of a shadow, which are exposed from their first use on."""
        return ShadowMetrics(
            self._model,
            self._make(Counter, declared.SHADOW_IMAGES),
            self._make(Counter, declared.SHADOW_DRAWN_IMAGES),
            self._histogram(declared.SHADOW_SECONDS),
            self._histogram(declared.SHADOW_SCORE),
            self._make(Counter, declared.SHADOW_COST),
            self._make(Counter, declared.SHADOW_PRICED),
        )

    def render(self) -> bytes:
        """Write all metrics in Prometheus' text format."""
        return self._exposition.write()

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


class ShadowMetrics:
    """What a shadow counts. `model`: the values of the labels model and version."""

    def __init__(
        self,
        model: tuple[str, str],
        images: Counter,
        drawn: Counter,
        seconds: Histogram,
        score: Histogram,
        cost: Counter,
        priced: Counter,
    ) -> None:
        self._images, self._drawn = (
            {result: counter.labels(*model, result) for result in get_args(Compared)} for counter in (images, drawn)
        )
        self._seconds = seconds.labels(*model)
        self._score = score.labels(*model)
        self._costs = [cost.labels(*model, whose) for whose in ("stable", "canary")]
        self._priced = priced.labels(*model)

    def count(self, result: Compared, *, drawn: bool) -> None:
        """Count an image by what became of it. `drawn`: whether it stands for the images of its request."""
        self._images[result].inc()
        if drawn:
            self._drawn[result].inc()

    def compare(self, found: Comparison, seconds: float, *, drawn: bool) -> None:
        """Count an image that the canary has answered, in so many seconds."""
        self.count(found.result, drawn=drawn)
        self._seconds.observe(seconds)
        if found.score_difference is not None:
            self._score.observe(found.score_difference)
        if found.costs is not None:
            self._priced.inc()
            for counter, cost in zip(self._costs, found.costs, strict=True):
                counter.inc(cost)
