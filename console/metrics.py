"""The console's own metrics, each declared here once, with its unit in its name."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

# The bounds are those that docs/console.md promises beside the bare call: 5 and 15 ms.
SECONDS = (0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The metrics of one console, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "visor_console_requests",
            "HTTP requests, by route, method and status.",
            ("route", "method", "status"),
            registry=registry,
        )
        self.seconds = Histogram(
            "visor_console_request_seconds",
            "Seconds from a request's head to its answer's end.",
            ("route",),
            registry=registry,
            buckets=SECONDS,
        )
        self.pictures = Counter(
            "visor_console_pictures",
            "Pictures asked about, by model and outcome: a decision or an error's code.",
            ("model", "outcome"),
            registry=registry,
        )
        self.waiting = Gauge("visor_console_waiting_pictures", "Pictures that wait for a server.", registry=registry)
        self.server_seconds = Histogram(
            "visor_console_server_seconds", "Seconds that a server took for one picture.", registry=registry, buckets=SECONDS
        )
        self.retries = Counter("visor_console_retries", "Times that a server asked to be asked again later.", registry=registry)
        self.offered = Counter(
            "visor_console_review_answers",
            "Answers before the review queue: taken into its line, queued of these, dropped for want of room, failed.",
            ("outcome",),
            registry=registry,
        )
        self.reviews = Counter(
            "visor_console_reviews", "What people did: label, skip, undo, and pictures deleted.", ("what",), registry=registry
        )
        self.payloads = Counter(
            "visor_console_payloads",
            "Events of a payload logger: paired, waiting for their other half, ignored, unreadable.",
            ("outcome",),
            registry=registry,
        )
        self.upload_bytes = Gauge("visor_console_upload_bytes", "Bytes of pictures under way.", registry=registry)

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)
