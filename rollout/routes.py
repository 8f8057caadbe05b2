"""Pure functions that set the weights in an HTTPRoute or a GRPCRoute, which have them at the same places.

The chart's HTTPRoute has a rule for REST and one for gRPC: one apply sets both.
"""

import copy
from collections.abc import Mapping
from typing import Any

from rollout.errors import RouteUnexpected

Object = dict[str, Any]


def set_canary_percent(route: Mapping[str, Any], canary: str, percent: int) -> Object:
    """Give the backend `canary` `percent` of a route's requests, and the other backend the rest; returns a changed copy.

    Every rule with the canary and one other backend is changed; one with the canary alone (a header forces it) is not.
    Raises RouteUnexpected where no rule shares.
    """
    changed = copy.deepcopy(dict(route))
    shared = [rule["backendRefs"] for rule in changed["spec"]["rules"] if _shares(rule.get("backendRefs", []), canary)]
    if not shared:
        raise RouteUnexpected(
            f"{route['kind']} {route['metadata']['name']} has no rule with {canary} and one other backend; "
            "enable the canary in the release that owns it"
        )
    for backends in shared:
        for backend in backends:
            backend["weight"] = percent if backend["name"] == canary else 100 - percent
    return changed


def to_apply(route: Mapping[str, Any]) -> Object:
    """Reduce a route that was read to what a server-side apply sends: all that its owner says, nothing that the server adds.

    The resource version stays: with it, the server refuses when somebody else has written meanwhile.
    """
    kept = ("name", "namespace", "labels", "annotations", "resourceVersion")
    metadata = {key: route["metadata"][key] for key in kept if key in route["metadata"]}
    return {"apiVersion": route["apiVersion"], "kind": route["kind"], "metadata": metadata, "spec": route["spec"]}


def _shares(backends: list[Object], canary: str) -> bool:
    return len(backends) == 2 and sum(backend["name"] == canary for backend in backends) == 1
