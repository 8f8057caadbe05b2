"""What the edge is told by whoever starts it; frozen, with the limits' defaults in one place.

The edge's environment is read in this module alone: VISOR_TRACK.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from handlers.spec import MIB, Spec
from transformer.request_log import Level


@dataclass(frozen=True)
class EdgeSettings:
    """One archive's edge. Port 0 takes a free one; `archive_digest`: SHA-256 of the .mar, hexadecimal.

    `worker_sockets`: the folder in which TorchServe's workers listen for the edge, None to go through TorchServe.

    `grpc_port`: None for REST alone. `track`: which of a model's releases this is, "stable" or "canary", for answers and
    metrics; "" for none.

    `concurrency`, `max_queue` and `timeout_s` are those of `transformer.dispatch.Bounds`. `cache_images`: how many answers are
    kept for images that come again, 0 for none.
    """

    spec: Spec
    archive_digest: str
    inference_url: str = "http://127.0.0.1:8085"
    management_url: str = "http://127.0.0.1:8086"
    worker_sockets: Path | None = None
    host: str = "0.0.0.0"
    http_port: int = 8080
    grpc_port: int | None = 8081
    track: str = ""
    max_body_bytes: int = 64 * MIB
    max_images: int = 64
    concurrency: int | None = None
    max_queue: int | None = None
    timeout_s: float = 60.0
    cache_images: int = 0
    request_log: Level = "all"
    ready_cache_s: float = 1.0
    # Of stopping as a whole; `drain_s` of it at most for clients to leave by themselves, see `transformer.draining`.
    grace_s: float = 20.0
    drain_s: float = 1.0
    # A gRPC connection is told to end after this long, give or take a tenth: nothing is lost by it, new replicas get their
    # share, and where `drain_s` is longer no connection is left that stopping could cut.
    grpc_age_s: float = 10.0
    # Longer than the 60 s after which common proxies close an idle connection: the proxy, not we, ends it.
    keep_alive_s: int = 75


@dataclass(frozen=True)
class Bound:
    """Where the edge listens, once it does; `grpc_port` is None without gRPC."""

    host: str
    http_port: int
    grpc_port: int | None

    @property
    def ports(self) -> tuple[int, ...]:
        """All of them."""
        return (self.http_port,) if self.grpc_port is None else (self.http_port, self.grpc_port)


def default_track() -> str:
    """VISOR_TRACK, or no track."""
    return os.environ.get("VISOR_TRACK", "")
