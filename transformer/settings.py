"""What the edge is told by whoever starts it; frozen, with the limits' defaults in one place."""

from dataclasses import dataclass

from handlers.spec import MIB, Spec


@dataclass(frozen=True)
class EdgeSettings:
    """One archive's edge. Port 0 takes a free one; `archive_digest`: SHA-256 of the .mar, hexadecimal.

    `concurrency`: calls to TorchServe under way at once, over all requests. TorchServe's own queue holds 100 and
    refuses the next, so waiting happens here. `timeout_s` is of one such call with its waiting.
    """

    spec: Spec
    archive_digest: str
    inference_url: str = "http://127.0.0.1:8085"
    management_url: str = "http://127.0.0.1:8086"
    host: str = "0.0.0.0"
    http_port: int = 8080
    grpc_port: int = 8081
    max_body_bytes: int = 64 * MIB
    max_images: int = 64
    concurrency: int = 64
    timeout_s: float = 60.0
    ready_cache_s: float = 1.0
    grace_s: float = 20.0
    # Longer than the 60 s after which common proxies close an idle connection: the proxy, not we, ends it.
    keep_alive_s: int = 75


@dataclass(frozen=True)
class Bound:
    """Where the edge listens, once it does."""

    host: str
    http_port: int
    grpc_port: int
