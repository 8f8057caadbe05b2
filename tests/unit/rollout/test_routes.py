"""The weights in a route, and what is applied of it."""

import copy

import pytest

from rollout.errors import RouteUnexpected
from rollout.routes import canary_percent, set_canary_percent, to_apply, why_not_all
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
        [[backend(CANARY), backend(CANARY, port=8081)]],
        [[backend("roofs-predictor"), backend("walls-predictor")]],
        [[]],
    ],
)
def test_a_route_that_does_not_share_is_refused(rules):
    with pytest.raises(RouteUnexpected, match=r"^rollout\.route: HTTPRoute roofs has no rule with roofs-canary-predictor"):
        set_canary_percent(make_route("HTTPRoute", *rules), CANARY, 20)


@pytest.mark.parametrize(
    ("before", "percent", "after"),
    [
        # The rest is divided as before: 1 to 3, and 20 % of 5 are 1.
        ([(CANARY, 0), ("roofs-predictor", 25), ("walls-predictor", 75)], 20, [1, 1, 3]),
        ([(CANARY, 50), ("roofs-predictor", 20), ("walls-predictor", 30)], 0, [0, 2, 3]),
        ([(CANARY, 20), ("roofs-predictor", 80), ("walls-predictor", 0)], 10, [1, 9, 0]),
        ([("roofs-predictor", None), ("walls-predictor", None), (CANARY, None)], 5, [19, 19, 2]),
        ([(CANARY, 100), ("roofs-predictor", 0), ("walls-predictor", 0)], 0, [0, 1, 1]),  # nothing is known of how they shared
        ([(CANARY, 1), (CANARY, 2), ("roofs-predictor", 97)], 60, [1, 2, 2]),
        ([(CANARY, 0), ("roofs-predictor", 997), ("walls-predictor", 3)], 10, [1000, 8973, 27]),
    ],
)
def test_several_others_divide_the_rest_as_before(before, percent, after):
    rule = [backend(name, weight) for name, weight in before]
    changed = set_canary_percent(make_route("HTTPRoute", rule, *shared_rules()), CANARY, percent)
    assert weights(changed) == [after, [100 - percent, percent], [None]]
    assert canary_percent([changed], CANARY) == percent
    assert set_canary_percent(changed, CANARY, percent) == changed


def test_any_share_of_three_is_exact():
    rule = [backend(CANARY, 3), backend("roofs-predictor", 60), backend("walls-predictor", 37)]
    route = make_route("HTTPRoute", rule)
    for percent in [*range(100), *range(99, -1, -1)]:
        route = set_canary_percent(route, CANARY, percent)
        ours, first, second = weights(route)[0]
        assert ours * 100 == percent * (ours + first + second)
        assert first * 37 == second * 60


def test_several_others_never_lose_their_shares():
    rule = [backend(CANARY, 50), backend("roofs-predictor", 20), backend("walls-predictor", 30)]
    route = make_route("HTTPRoute", rule, *shared_rules())
    told = "HTTPRoute roofs shares between roofs-canary-predictor and roofs-predictor and walls-predictor, which would lose their"
    assert why_not_all([make_route("GRPCRoute", *shared_rules())], CANARY) == ""
    assert why_not_all([make_route("GRPCRoute", *shared_rules()), route], CANARY).startswith(told)
    with pytest.raises(RouteUnexpected, match=told):
        set_canary_percent(route, CANARY, 100)


def test_weights_that_the_api_would_not_take_are_an_error():
    rule = [backend(CANARY, 0), backend("roofs-predictor", 999_983), backend("walls-predictor", 2)]
    with pytest.raises(RouteUnexpected, match="too fine to give roofs-canary-predictor 10 % of them"):
        set_canary_percent(make_route("HTTPRoute", rule), CANARY, 10)
    assert weights(set_canary_percent(make_route("HTTPRoute", rule), CANARY, 0)) == [[0, 999_983, 2]]


def test_a_rule_of_three_counts_in_what_the_canary_has():
    three = [backend(CANARY, 10), backend("roofs-predictor", 80), backend("walls-predictor", 10)]
    assert canary_percent([make_route("HTTPRoute", three, *shared_rules(90))], CANARY) == 10
    three[1]["weight"] = 30
    assert canary_percent([make_route("HTTPRoute", three)], CANARY) == 20
    assert canary_percent([make_route("HTTPRoute", three, *shared_rules(90))], CANARY) is None


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
