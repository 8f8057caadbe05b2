"""Pure functions that read and set the weights in an HTTPRoute or a GRPCRoute, which have them at the same places.

The chart's HTTPRoute has a rule for REST and one for gRPC: one apply sets both.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rollout.errors import RouteUnexpected

Object = dict[str, Any]

ALL = 100
PAIR = 2
LARGEST = 1_000_000  # BackendRef.weight


def set_canary_percent(route: Mapping[str, Any], canary: str, percent: int) -> Object:
    """Give the backend `canary` `percent` of a route's requests, and the others the rest; returns a changed copy.

    Every rule with the canary and others is changed; one with the canary alone (a header forces it) is not. Of several others
    each gets its part of the rest as before, an equal one where none has any. Raises RouteUnexpected where no rule shares, and
    where how several share would be lost, as they would get nothing.
    """
    changed = copy.deepcopy(dict(route))
    if percent == ALL and (several := why_not_all([route], canary)):
        raise RouteUnexpected(several)
    for backends in _shared(changed, canary):
        for backend, weight in zip(backends, _weights(route, backends, canary, percent), strict=True):
            backend["weight"] = weight
    return changed


def canary_percent(routes: Sequence[Mapping[str, Any]], canary: str) -> float | None:
    """Read the share of the requests, in percent, that the backend `canary` gets; None where rules or routes differ.

    Raises RouteUnexpected where no rule shares.
    """
    shares = set()
    for route in routes:
        for backends in _shared(route, canary):
            total = sum(map(_weight, backends))
            own = sum(_weight(backend) for backend in backends if backend["name"] == canary)
            shares.add(ALL * own / total if total else 0.0)
    return shares.pop() if len(shares) == 1 else None


def why_not_all(routes: Sequence[Mapping[str, Any]], canary: str) -> str:
    """Why the canary cannot be given all requests: several others share with it in one rule. "" where none do."""
    for route in routes:
        for backends in _shared(route, canary):
            others = [backend["name"] for backend in backends if backend["name"] != canary]
            if len(others) > 1:
                told = f"{route['kind']} {route['metadata']['name']} shares between {canary} and {' and '.join(others)}"
                return f"{told}, which would lose their shares; leave the stable release and the canary alone there"
    return ""


def _shared(route: Mapping[str, Any], canary: str) -> list[list[Object]]:
    """The backends of each rule that shares. Raises RouteUnexpected where none does."""
    shared = [rule["backendRefs"] for rule in route["spec"]["rules"] if _shares(rule.get("backendRefs", []), canary)]
    if not shared:
        raise RouteUnexpected(
            f"{route['kind']} {route['metadata']['name']} has no rule with {canary} and another backend; "
            "enable the canary in the release that owns it"
        )
    return shared


def _weights(route: Mapping[str, Any], backends: Sequence[Object], canary: str, percent: int) -> list[int]:
    """The backends' weights with which the canary gets exactly `percent`.

    Raises RouteUnexpected where they are larger than the API takes.
    """
    own = [backend["name"] == canary for backend in backends]
    if len(backends) == PAIR:  # 20 and 80, as Helm writes them, rather than 1 and 4
        return [percent if is_canary else ALL - percent for is_canary in own]
    parts = [_weight(backend) for backend in backends]
    for side in (True, False):
        if not any(part for part, is_canary in zip(parts, own, strict=True) if is_canary == side):
            parts = [1 if is_canary == side else part for part, is_canary in zip(parts, own, strict=True)]
    ours = sum(part for part, is_canary in zip(parts, own, strict=True) if is_canary)
    theirs = sum(parts) - ours
    weights = [
        part * (percent * theirs if is_canary else (ALL - percent) * ours) for part, is_canary in zip(parts, own, strict=True)
    ]
    weights = [weight // math.gcd(*weights) for weight in weights]
    if max(weights) > LARGEST:
        raise RouteUnexpected(
            f"{route['kind']} {route['metadata']['name']} shares by weights too fine to give {canary} {percent} % of them; "
            f"the largest that the API takes is {LARGEST}"
        )
    return weights


def to_apply(route: Mapping[str, Any]) -> Object:
    """Reduce a route that was read to what a server-side apply sends: all that its owner says, nothing that the server adds.

    The resource version stays: with it, the server refuses when somebody else has written meanwhile.
    """
    kept = ("name", "namespace", "labels", "annotations", "resourceVersion")
    metadata = {key: route["metadata"][key] for key in kept if key in route["metadata"]}
    return {"apiVersion": route["apiVersion"], "kind": route["kind"], "metadata": metadata, "spec": route["spec"]}


def _shares(backends: Sequence[Object], canary: str) -> bool:
    """Whether a rule has the canary and another backend."""
    names = {backend["name"] for backend in backends}
    return canary in names and len(names) > 1


def _weight(backend: Object) -> int:
    return int(backend.get("weight", 1))  # the API's default
