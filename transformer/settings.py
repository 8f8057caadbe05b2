"""The edge's settings and its command-line flags: each flag is a field here, with its type, range, default and help text.

`python -m transformer` has all of the flags, `visor serve` some of them. A field without `flag` is set by code alone.
This module alone reads the edge's environment (VISOR_TRACK), and it imports nothing heavy: `visor --help` imports it too.
"""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from transformer.flags import MIB, Flags, at_least, flag, http_url, mebibytes, port, positive_seconds, seconds

Level = Literal["none", "errors", "all"]
"""Which requests get a line in the request log."""

Protocol = Literal["both", "rest", "grpc"]
"""Which protocols the edge listens for; REST is always among them, because probes and metrics need it."""

CALLS_PER_WORKER = 2
"""Calls that are under way for each worker: one in work, and one at hand so that it is not idle for a round trip."""

WAITING_PER_WORKER = 32
"""Images that may wait for each worker, however long they take: 0.4 s where one takes 12 ms."""

WAITING_S = 0.4
"""Of a faster network as many may wait as the workers answer in so long: in less, a hiccup of the machine would fill the line."""


@dataclass(frozen=True)
class EdgeLimits(Flags):
    """What one edge takes on at once: the size of a request, its time, the calls under way and the images that wait."""

    max_body_bytes: int = field(
        default=64 * MIB,
        metadata=flag(
            "--max-body-mib",
            "largest body of a request, in MiB; a larger one is answered 413, over gRPC RESOURCE_EXHAUSTED",
            type=mebibytes,
            metavar="MIB",
            default="64",
        ),
    )
    max_images: int = field(
        default=64,
        metadata=flag(
            "--max-images",
            "largest number of images in one request; one with more is answered 413, over gRPC INVALID_ARGUMENT",
            type=at_least(1),
            metavar="N",
        ),
    )
    concurrency: int | None = field(
        default=None,
        metadata=flag(
            "--concurrency",
            "largest number of calls to workers, of one image each, that are under way at once, be it directly or through "
            "TorchServe",
            type=at_least(1),
            metavar="N",
            shown=f"{CALLS_PER_WORKER} per worker, one in work and one at hand",
        ),
    )
    max_queue: int | None = field(
        default=None,
        metadata=flag(
            "--max-queue",
            "largest number of images that wait for a worker; requests that bring more are answered 503, "
            "over gRPC RESOURCE_EXHAUSTED",
            type=at_least(1),
            metavar="N",
            shown=f"what the workers answer in {WAITING_S:g} s, at least {WAITING_PER_WORKER} per worker and the images that one "
            "request may bring",
        ),
    )
    timeout_s: float = field(
        default=60.0,
        metadata=flag(
            "--timeout-s",
            "seconds after which a request that has no answer yet gets 504, over gRPC DEADLINE_EXCEEDED",
            type=positive_seconds,
            metavar="S",
        ),
    )

    memory_bytes: int | None = field(
        default=None,
        metadata=flag(
            "--memory-mib",
            "memory for all requests under way, in MiB; with more, requests are answered 503, over gRPC RESOURCE_EXHAUSTED",
            type=mebibytes,
            metavar="MIB",
            shown="0.6 of what the edge itself leaves of the container's memory limit, or without a limit of a quarter of the "
            "machine's memory; visor serve has no such flag and takes 0.25 instead of 0.6",
        ),
    )
    body_timeout_s: float = field(
        default=60.0,
        metadata=flag(
            "--body-timeout-s",
            "seconds within which a request's body, over gRPC its message, must have come; after the first 20 an HTTP body must "
            "have brought 4 KiB for each second above them; a slower one is answered 408, over gRPC DEADLINE_EXCEEDED",
            type=positive_seconds,
            metavar="S",
        ),
    )

    def room(self, workers: int, direct: int = 0, image_s: float = math.inf, stood_s: float = 0.0) -> tuple[int, int]:
        """Calls under way and images that wait, with this many workers, of which the edge asks `direct` ones itself.

        `image_s`: the seconds that a worker takes for an image, on the average; `stood_s`: those that this process stood still
        just now.
        """
        # One that cannot be asked while others can is about to start or hangs: what TorchServe gave it would wait for that.
        working = direct or workers
        slots = CALLS_PER_WORKER * working if self.concurrency is None else self.concurrency
        if self.max_queue is not None:
            return slots, self.max_queue
        return slots, max(self.max_images, WAITING_PER_WORKER * working, int((WAITING_S + stood_s) * working / image_s))


@dataclass(frozen=True)
class EdgeSettings(Flags):
    """How one edge serves, whichever archive it serves. The defaults are those of a pod's container."""

    inference_url: str = field(
        default="http://127.0.0.1:8085", metadata=flag("--torchserve", "URL of TorchServe's inference API", metavar="URL")
    )
    management_url: str = field(
        default="http://127.0.0.1:8086",
        metadata=flag(
            "--management",
            "URL of TorchServe's management API, which says how many workers there are and whether one is ready",
            metavar="URL",
        ),
    )
    torchserve_keys: Path | None = field(
        default=Path("/run/visor/torchserve-keys.json"),
        metadata=flag(
            "--torchserve-keys",
            "file with the keys that TorchServe's APIs ask for; the edge sends none while the file does not exist",
            type=Path,
            metavar="FILE",
        ),
    )
    worker_sockets: Path | None = field(
        default=None,
        metadata=flag(
            "--worker-sockets",
            "folder in which TorchServe's workers listen on Unix sockets, so that the edge asks them directly",
            type=Path,
            metavar="DIR",
            shown="none, every image goes through TorchServe's HTTP",
        ),
    )
    hang_s: float = field(
        default=10.0,
        metadata=flag(
            "--hang-s",
            "seconds without an answer after which a worker that is asked directly counts as hung: its image gets 503, it is "
            "asked no more, and whoever started it kills it",
            type=positive_seconds,
            metavar="S",
        ),
    )
    host: str = field(
        default="::",
        metadata=flag(
            "--host",
            "address on which REST and gRPC listen; :: is every address of IPv6 and IPv4, and of IPv4 alone on a machine without "
            "IPv6; 0.0.0.0 is every address of IPv4",
        ),
    )
    protocol: Protocol = field(
        default="both",
        metadata=flag(
            "--protocol",
            "protocols to serve: rest leaves gRPC out; grpc listens as both does, since probes and metrics need REST, "
            "which answers requests as well",
            choices=get_args(Protocol),
        ),
    )
    http_port: int = field(
        default=8080, metadata=flag("--http-port", "TCP port of REST; 0 takes a free one", type=port, metavar="PORT")
    )
    grpc_port: int = field(
        default=8081, metadata=flag("--grpc-port", "TCP port of gRPC; 0 takes a free one", type=port, metavar="PORT")
    )
    track: str = field(
        default="",
        metadata=flag(
            "--track",
            "name of this release's track, stable or canary, which answers and metrics carry; what a shadow asks a canary is not "
            "counted among its requests",
            metavar="TRACK",
            shown="the environment variable VISOR_TRACK, else none",
        ),
    )
    token_file: Path | None = field(
        default=None,
        metadata=flag(
            "--token-file",
            "file of bearer tokens, one a line, of which each request has to bring one, but for those of the server's health and "
            "metrics; others are answered 401, over gRPC UNAUTHENTICATED. A changed file is read again within a second",
            type=Path,
            metavar="FILE",
            shown="none, whoever reaches the ports may ask",
        ),
    )
    shadow_url: str | None = field(
        default=None,
        metadata=flag(
            "--shadow-url",
            "URL of another edge of the model, http://HOST:PORT, of the track canary, that is asked, too, about a share of what "
            "was answered here, to compare both answers; clients see nothing of it. It gets their images, and a token of "
            "--token-file, unencrypted. With --shadow-file; on the track canary neither is used",
            type=http_url,
            metavar="URL",
            shown="none, no other edge is asked",
        ),
    )
    shadow_file: Path | None = field(
        default=None,
        metadata=flag(
            "--shadow-file",
            'JSON file, such as {"percent": 20}, of the share of images that the edge at --shadow-url is asked about. A changed '
            "file is followed within a second, and where there is none nobody is asked",
            type=Path,
            metavar="FILE",
            shown="none, no other edge is asked",
        ),
    )
    allow_threshold: bool = field(
        default=True,
        metadata=flag(
            "--no-allow-threshold",
            "refuse requests that bring a threshold of their own, with 400, over gRPC INVALID_ARGUMENT, so that every decision "
            "is by the archive's threshold, or by that of the archive's group that a request names",
            action="store_false",
            shown="a request's own threshold decides",
        ),
    )
    page: bool = field(
        default=False,
        metadata=flag(
            "--page",
            "show a page at / on which a person asks about one picture in a browser, and refuse what a browser sends for a "
            "page of another site, with 403; it needs no token, what it asks for does",
            action="store_true",
            shown="no page; visor serve has it, and a flag --no-page",
        ),
    )
    limits: EdgeLimits = field(default_factory=EdgeLimits)
    cache_images: int = field(
        default=0,
        metadata=flag(
            "--cache-images",
            "number of answers that are kept for images that come again; 0 keeps none",
            type=at_least(0),
            metavar="N",
        ),
    )
    request_log: Level = field(
        default="all",
        metadata=flag(
            "--request-log",
            "which requests get a line of JSON on standard error, of visor serve at a terminal a short one: none; errors, those "
            "that are answered with an error; or all, but for probes and scrapes that succeed",
            choices=get_args(Level),
        ),
    )
    short_log: bool = False
    # gRPC varies it by up to a tenth. No call is lost when a connection ends, and new replicas get their share of the clients.
    grpc_age_s: float = field(
        default=10.0,
        metadata=flag(
            "--grpc-age-s",
            "seconds after which a gRPC connection is told to end and its client connects anew",
            type=positive_seconds,
            metavar="S",
        ),
    )
    grace_s: float = field(
        default=20.0,
        metadata=flag(
            "--grace-s",
            "largest number of seconds after SIGTERM in which open requests are still answered; the process ends before once all "
            "are answered and clients have left, see --drain-s",
            type=seconds,
            metavar="S",
        ),
    )
    # Longer than a gRPC connection lives, so that none is left which stopping could cut: see `transformer.draining`.
    drain_s: float = field(
        default=1.2 * 10.0,
        metadata=flag(
            "--drain-s",
            "largest number of seconds after SIGTERM, within the grace period, in which clients are waited for to close their "
            "connections, and requests that come over these are still answered; then idle connections are closed",
            type=seconds,
            metavar="S",
        ),
    )
    ready_cache_s: float = 1.0
    # Of the memory that the container's limit leaves. What remains is for the moments in which gRPC's core and Python both
    # have a message, twice its largest size, and for what freed pieces leave in the heaps.
    memory_share: float = 0.6
    # Longer than the 60 s after which common proxies close an idle connection: the proxy, not the edge, ends it.
    keep_alive_s: float = 75

    @property
    def serves_grpc(self) -> bool:
        """Whether the edge listens for gRPC."""
        return self.protocol != "rest"


def default_track() -> str:
    """The track that VISOR_TRACK names, or "" for none."""
    return os.environ.get("VISOR_TRACK", "")
