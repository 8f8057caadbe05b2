"""Wait until a release serves what it names: the archive, on all of its pods, behind routes that the gateway has taken."""

import logging
import time
from dataclasses import dataclass

from rollout.canary import State
from rollout.cluster import Cluster
from rollout.release import Found, is_knative, read_release, runtime_of
from rollout.waiting import wait_until_ready

logger = logging.getLogger(__name__)

# KServe follows a change within a second or so. What a template still lacks after this is nothing that KServe hands on.
HANDED_ON_S = 15.0


@dataclass(frozen=True)
class Wait:
    """An order to wait. `name`: the release's InferenceService; `archive` and `digest`: what it must serve, None for its own."""

    name: str
    archive: str | None
    digest: str | None
    timeout_s: float


def wait(cluster: Cluster, order: Wait) -> None:
    """Wait for a release. Raises StartFailed, NotReady, ClusterError."""
    start = time.monotonic()

    def read() -> State:
        found = look(cluster, order.name)
        return read_release(found, order.archive, order.digest, handed_on=time.monotonic() - start >= HANDED_ON_S)

    wait_until_ready(order.name, read, order.timeout_s)


def look(cluster: Cluster, name: str) -> Found:
    """Read what the API server has of a release. Raises ClusterError."""
    service = cluster.service(name)
    if service is None:
        return Found(None)
    runtime = runtime_of(service)
    return Found(
        service,
        cluster.runtime(runtime) if runtime else None,
        cluster.knative_service(f"{name}-predictor") if is_knative(service) else cluster.deployment(f"{name}-predictor"),
        cluster.pods(name),
        [] if is_knative(service) else cluster.routes_to(f"{name}-predictor"),
        cluster.warnings(),
    )
