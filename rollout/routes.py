"""Pure functions that read and set the weights in an HTTPRoute or a GRPCRoute, which have them at the same places.

The chart's HTTPRoute has a rule for REST and one for gRPC: one apply sets both.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from rollout.errors import RouteUnexpected

Object = dict[str, Any]


def set_canary_percent(route: Mapping[str, Any], canary: str, percent: int) -> Object:
    """Give the backend `canary` `percent` of a route's requests, and the other backend the rest; returns a changed copy.

    Every rule with the canary and one other backend is changed; one with the canary alone (a header forces it) is not.
    Raises RouteUnexpected where no rule shares.
    """
    changed = copy.deepcopy(dict(route))
    for backends in _shared(changed, canary):
        for backend in backends:
            backend["weight"] = percent if backend["name"] == canary else 100 - percent
    return changed


def canary_percent(routes: Sequence[Mapping[str, Any]], canary: str) -> float | None:
    """Read the share of the requests, in percent, that the backend `canary` gets; None where rules or routes differ.

    Raises RouteUnexpected where no rule shares.
    """
    shares = set()
    for route in routes:
        for backends in _shared(route, canary):
            weights = {backend["name"]: backend.get("weight", 1) for backend in backends}  # 1 is the API's default
            total = sum(weights.values())
            shares.add(100 * weights[canary] / total if total else 0.0)
    return shares.pop() if len(shares) == 1 else None


def _shared(route: Mapping[str, Any], canary: str) -> list[list[Object]]:
    """The backends of each rule that shares. Raises RouteUnexpected where none does."""
    shared = [rule["backendRefs"] for rule in route["spec"]["rules"] if _shares(rule.get("backendRefs", []), canary)]
    if not shared:
        raise RouteUnexpected(
            f"{route['kind']} {route['metadata']['name']} has no rule with {canary} and one other backend; "
            "enable the canary in the release that owns it"
        )
    return shared


def to_apply(route: Mapping[str, Any]) -> Object:
    """Reduce a route that was read to what a server-side apply sends: all that its owner says, nothing that the server adds.

    The resource version stays: with it, the server refuses when somebody else has written meanwhile.
    """
    kept = ("name", "namespace", "labels", "annotations", "resourceVersion")
    metadata = {key: route["metadata"][key] for key in kept if key in route["metadata"]}
    return {"apiVersion": route["apiVersion"], "kind": route["kind"], "metadata": metadata, "spec": route["spec"]}


def _shares(backends: list[Object], canary: str) -> bool:
    return len(backends) == 2 and sum(backend["name"] == canary for backend in backends) == 1
