"""The edge's metrics, declared once; each app has a registry of its own."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from handlers.errors import VisorError
from handlers.spec import Spec
from transformer.errors import ClientGone
from transformer.verdicts import Verdict

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0)
STAGE_SECONDS = (0.0001, 0.00025, 0.0005, *SECONDS)
CONFIDENCE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
QUEUE = "queue"  # what a call to TorchServe takes beside the handler's own stages: waiting and the way there and back


class Metrics:
    """What one edge counts. `code` of a request is the HTTP status, for gRPC the one that its error has over REST."""

    def __init__(self, spec: Spec, archive_digest: str, track: str = "") -> None:
        self._registry = CollectorRegistry()
        model = ("model", "version")
        self._model = (spec.name, spec.version)
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

    @contextmanager
    def request(self, protocol: str) -> Iterator[None]:
        """Time one inference request and count it under the status that it leaves with."""
        start, code = time.perf_counter(), 500
        try:
            yield
            code = 200
        except VisorError as err:
            code = err.status
            raise
        except asyncio.CancelledError:
            code = ClientGone.status
            raise
        finally:
            seconds = time.perf_counter() - start
            self._request_seconds.labels(*self._model, protocol, code).observe(seconds)

    def accept(self, verdict: Verdict, seconds: float) -> None:
        """Count one image's answer. `seconds`: of the call to TorchServe."""
        self._decisions.labels(*self._model, verdict.label, verdict.decision).inc()
        self._confidence.labels(*self._model).observe(verdict.confidence)
        stages = {**verdict.seconds, QUEUE: max(0.0, seconds - sum(verdict.seconds.values()))}
        for stage, spent in stages.items():
            self._stage_seconds.labels(*self._model, stage).observe(spent)

    def reject(self, error: VisorError) -> None:
        """Count one image that is answered by an error."""
        self._rejected.labels(*self._model, error.code).inc()

    def render(self) -> bytes:
        """The registry in Prometheus' text format."""
        return generate_latest(self._registry)
