"""The weights in a route, and what is applied of it."""

import copy

import pytest

from rollout.errors import RouteUnexpected
from rollout.routes import set_canary_percent, to_apply
from tests.unit.rollout.conftest import backend, make_route, shared_rules

CANARY = "roofs-canary-predictor"


def weights(route):
    return [[one.get("weight") for one in rule["backendRefs"]] for rule in route["spec"]["rules"]]


@pytest.mark.parametrize("percent", [0, 1, 20, 100])
def test_both_weights_are_set_and_nothing_else(percent):
    route = make_route("HTTPRoute", *shared_rules())
    before = copy.deepcopy(route)
    changed = set_canary_percent(route, CANARY, percent)
    assert weights(changed) == [[100 - percent, percent], [None]]
    assert route == before
    assert weights(set_canary_percent(changed, CANARY, 0)) == [[100, 0], [None]]


def test_rest_and_grpc_in_one_route_are_set_together():
    route = make_route("HTTPRoute", *shared_rules(ports=(80, 8081)))
    changed = set_canary_percent(route, CANARY, 20)
    assert weights(changed) == [[80, 20], [80, 20], [None], [None]]
    assert [[one["port"] for one in rule["backendRefs"]] for rule in changed["spec"]["rules"]] == [
        [80, 80],
        [8081, 8081],
        [80],
        [8081],
    ]


def test_the_order_does_not_matter_and_every_rule_that_shares_is_changed():
    two = [backend(CANARY, 0), backend("roofs-predictor", 100)]
    route = make_route("GRPCRoute", [backend(CANARY)], two, *shared_rules())
    assert weights(set_canary_percent(route, CANARY, 30)) == [[None], [30, 70], [70, 30], [None]]


@pytest.mark.parametrize(
    "rules",
    [
        [[backend("roofs-predictor", 100)]],
        [[backend(CANARY)]],
        [[backend("roofs-predictor"), backend("walls-predictor")]],
        [[backend("roofs-predictor"), backend(CANARY), backend("walls-predictor")]],
        [[]],
    ],
)
def test_a_route_that_does_not_share_is_refused(rules):
    with pytest.raises(RouteUnexpected, match=r"^rollout\.route: HTTPRoute roofs has no rule with roofs-canary-predictor"):
        set_canary_percent(make_route("HTTPRoute", *rules), CANARY, 20)


def test_rules_without_backends_are_left_alone():
    route = make_route("HTTPRoute", *shared_rules())
    route["spec"]["rules"].append({"filters": [{"type": "RequestRedirect"}]})
    assert "backendRefs" not in set_canary_percent(route, CANARY, 20)["spec"]["rules"][2]


def test_what_is_applied_is_what_the_owner_says():
    route = make_route("HTTPRoute", *shared_rules())
    applied = to_apply(route)
    assert set(applied) == {"apiVersion", "kind", "metadata", "spec"}
    assert applied["spec"] == route["spec"]
    assert applied["metadata"] == {
        "name": "roofs",
        "namespace": "demo",
        "labels": {"app.kubernetes.io/managed-by": "Helm"},
        "annotations": {"meta.helm.sh/release-name": "roofs"},
        "resourceVersion": "41",
    }
