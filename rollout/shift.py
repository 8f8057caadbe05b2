"""The shift of traffic: give a canary its share of the requests, once it serves its archive."""

import logging
import time
from dataclasses import dataclass

from rollout.canary import State, read_state
from rollout.cluster import Cluster
from rollout.errors import ClusterConflict, ClusterUnreachable, RouteUnexpected
from rollout.routes import Object, set_canary_percent, to_apply
from rollout.waiting import POLL_S, wait_until_ready

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shift:
    """An order to shift traffic. `routes`: kind and name of each; `archive`: the canary's URI, None for whichever it names.

    `manager`: the field manager that owns the routes.
    """

    service: str
    routes: tuple[tuple[str, str], ...]
    percent: int
    archive: str | None
    timeout_s: float
    manager: str


def shift(cluster: Cluster, order: Shift) -> None:
    """Wait until the canary serves its archive, then set the weights of all routes; 0 percent waits for nothing.

    Raises StartFailed, NotReady, RouteUnexpected or ClusterError, before the first weight is changed or, where a route
    is changed meanwhile, between two.
    """
    deadline = time.monotonic() + order.timeout_s
    for kind, name in order.routes:
        _weighted(cluster, kind, name, order)  # what is wrong with a route is said before anything is waited for
    if order.percent > 0:
        _wait(cluster, order)
    for kind, name in order.routes:
        _set(cluster, kind, name, order, deadline)
        logger.info("%s %s gives %d %% to %s", kind, name, order.percent, order.service)


def _wait(cluster: Cluster, order: Shift) -> None:
    def read() -> State:
        return read_state(cluster.service(order.service), cluster.pods(order.service), order.archive)

    wait_until_ready(order.service, read, order.timeout_s, ", the weights stay as they are")


def _set(cluster: Cluster, kind: str, name: str, order: Shift, deadline: float) -> None:
    """Set one route's weights, as the route's owner.

    Helm 4 owns it: it applies its charts on the server as the field manager "helm". Weights written under another name would
    be another owner's, and the next `helm upgrade` would end with a conflict. So the whole route, as it is but for its
    weights, is applied under Helm's own name: to Helm it looks like an upgrade of its own, and the next one replaces it.
    """
    while True:
        try:
            route, changed = _weighted(cluster, kind, name, order)
            if changed != route:
                cluster.apply(to_apply(changed), order.manager)
        except (ClusterConflict, ClusterUnreachable):
            if time.monotonic() >= deadline:
                raise
            time.sleep(POLL_S)
        else:
            return


def _weighted(cluster: Cluster, kind: str, name: str, order: Shift) -> tuple[Object, Object]:
    """Read a route: as it is, and as it should be."""
    route = cluster.route(kind, name)
    if route is None:
        raise RouteUnexpected(f"there is no {kind} {name}; name a route of the release")
    # The Service that KServe makes of an InferenceService.
    return route, set_canary_percent(route, f"{order.service}-predictor", order.percent)
