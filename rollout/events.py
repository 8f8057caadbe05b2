"""What happens in a release, as events of its InferenceService. Pure functions."""

from datetime import UTC, datetime

from rollout.record import Entry
from rollout.setup import Order

WARNINGS = frozenset({"rolled-back", "yielded", "superseded"})


def event_of(order: Order, entry: Entry, missing: bool) -> dict[str, object]:
    """The event of one thing that happened. `missing`: whether Prometheus has no counts."""
    at = datetime.fromtimestamp(entry.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "metadata": {"generateName": f"{order.name}-rollout-"},
        "involvedObject": {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "name": order.name,
            "namespace": order.namespace,
        },
        "reason": "Rollout" + "".join(word.capitalize() for word in entry.phase.split("-")),
        "message": entry.what[:1000],
        "type": "Warning" if entry.phase in WARNINGS or missing else "Normal",
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
        "source": {"component": "visor-rollout"},
    }
