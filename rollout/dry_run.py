"""A dry run: how a release stands, and what would be done about it. Nothing is changed."""

from collections.abc import Iterator

from rollout import record
from rollout.cluster import Cluster
from rollout.errors import PrometheusUnreachable, RolloutMissing
from rollout.forecast import forecast
from rollout.setup import Order
from rollout.tracks import tracks_of


def outlook(cluster: Cluster, order: Order) -> Iterator[str]:
    """Say it, line by line. Raises ClusterError, RouteUnexpected, RolloutMissing, RecordUnreadable."""
    sight = tracks_of(cluster, order.name, order.routes, order.manager).see()
    if not sight.canary or not sight.stable:
        raise RolloutMissing(f"{order.name} does not have a canary; docs/rollout.md says how a release begins")
    known, _ = record.Store(cluster, order.name).read()
    if known is not None:
        yield f"the record, of {known.plan.canary}: {record.sentence(known)}"
    yield f"{sight.canary} is to take the place of {sight.stable}:"
    for step in order.steps:
        name = f"{step.percent} %" if step.percent else "shadow"
        yield f"  {name:8} {step.seconds:g} s and {step.requests} of the canary's requests at least"
    share = "differs from route to route" if sight.percent is None else f"is {sight.percent:g} %"
    yield f"the canary's share {share}, and it {sight.failure or sight.unready or 'is ready'}"
    try:
        yield from forecast(order, sight.pods_of)
    except PrometheusUnreachable as err:
        yield f"no forecast: {err}"
