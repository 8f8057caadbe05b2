"""Both tracks as they are read off the API, in either mode, and what is written when they are moved."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from rollout.cluster import Cluster
from rollout.errors import RouteUnexpected
from rollout.plan import Pods, Step
from rollout.run import Loop
from rollout.tracks import Knative, Standard, pods_of, restarts, tracks_of
from tests.unit.rollout.conftest import (
    NAMESPACE,
    URI,
    MiniApi,
    at,
    backend,
    crashing,
    ended,
    make_route,
    route_path,
    shared_rules,
)
from tests.unit.rollout.world import CANARY, RECORD, STABLE, STEPS, World, pod_of, service_at, service_of

WORKLOAD = f"/apis/serving.knative.dev/v1/namespaces/{NAMESPACE}/services/roofs-predictor"


def revision_pod(number: int, archive: str, *containers: dict[str, Any]) -> dict[str, Any]:
    pod = pod_of("roofs", archive, number, 0, *containers)
    pod["metadata"]["labels"]["serving.knative.dev/revision"] = f"roofs-predictor-0000{number}"
    return pod


@pytest.fixture
def knative(api: MiniApi, cluster: Cluster) -> Knative:
    """Revision 1 has all requests, and revision 2 is the canary."""
    service = service_of("roofs", CANARY)
    service["metadata"]["annotations"] = {"serving.kserve.io/deploymentMode": "Knative"}
    service["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:predictor"]["f:canaryTrafficPercent"] = {}
    service["spec"]["predictor"]["canaryTrafficPercent"] = 5
    service["status"]["components"] = {
        "predictor": {"latestRolledoutRevision": "roofs-predictor-00001", "latestReadyRevision": "roofs-predictor-00002"}
    }
    api.objects[service_at("roofs")] = service
    api.objects[WORKLOAD] = {
        "metadata": {"generation": 2},
        "spec": {"template": {"metadata": {"annotations": {URI: CANARY}}}},
        "status": {
            "observedGeneration": 2,
            "latestCreatedRevisionName": "roofs-predictor-00002",
            "latestReadyRevisionName": "roofs-predictor-00002",
        },
    }
    api.pods = [revision_pod(1, STABLE), revision_pod(2, CANARY)]
    made = tracks_of(cluster, "roofs", (), "helm")
    assert isinstance(made, Knative)
    return made


def test_a_canary_is_a_revision_in_knative_mode(knative: Knative) -> None:
    seen = knative.see()
    assert (seen.percent, seen.stable, seen.canary) == (5, "roofs-predictor-00001", CANARY)
    assert (seen.failure, seen.unready, seen.pods) == ("", "", Pods(ready=1, fixed=False))
    assert {name: pod.track for name, pod in seen.pods_of.items()} == {"roofs-1": "stable", "roofs-2": "canary"}


def test_a_revision_without_requests_has_no_pod_and_is_ready(knative: Knative, api: MiniApi) -> None:
    api.pods = api.pods[:1]
    assert knative.see().pods.ready == 1


def test_a_pod_that_starts_from_zero_is_no_loss_of_readiness(knative: Knative, api: MiniApi) -> None:
    api.pods[1] = at(api.pods[1], False, "2026-11-30T00:00:01Z")
    seen = knative.see()
    assert (seen.pods.ready, seen.unready, seen.replaced) == (1, "", "pod roofs-2 is not ready")


def test_a_pod_that_is_not_ready_any_more_is_a_loss_of_readiness(knative: Knative, api: MiniApi) -> None:
    api.pods[1] = at(api.pods[1], False, "2026-11-30T00:05:00Z")
    seen = knative.see()
    assert (seen.pods.ready, seen.unready, seen.replaced) == (0, "pod roofs-2 is not ready", "")


def test_a_canary_that_scales_to_zero_goes_the_whole_way(world: World, knative: Knative, api: MiniApi) -> None:
    """Each time that it has had requests for five looks it has none for two, and its next request has to start a pod."""
    knative.share(0)
    world.drifts[""] = False  # asked for while the canary has no pod
    stable = api.pods[0]
    order = replace(world.order, steps=(Step(10, 20, 400), *STEPS[1:]))
    loop, looks, number, done = Loop(world.cluster, order, world.now, "one"), 0, 1, False
    zeroes = started = 0
    while not done and looks < 200:
        percent = api.objects[service_at("roofs")]["spec"]["predictor"]["canaryTrafficPercent"]
        age = looks % 7 - 2 if percent else -1  # looks since the request that starts a pod
        number += age == 0
        looks, zeroes, started = looks + 1, zeroes + (percent > 0 > age), started + (age == 0)
        canary = revision_pod(2, CANARY)
        canary["metadata"] |= {"name": f"roofs-{number}", "creationTimestamp": when(world.now)}
        canary = at(canary, age > 0, when(world.now + 5 if age > 0 else world.now), when(world.now + 1))
        api.pods = [stable, *([canary] if age >= 0 else [])]
        world.now += 10
        ours = 400 * percent // 100 if age > 0 else 0
        world.counts["roofs-1"][0] += 400 - ours
        world.counts.setdefault(f"roofs-{number}", [0, 0])[0] += ours
        done = loop.turn(world.now)
    assert (world.state["phase"], world.state["percent"]) == ("promoted", 100)
    assert zeroes >= 6
    assert started >= 4


def when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_the_stable_revision_stays_the_same_when_the_canary_has_all_requests(knative: Knative, api: MiniApi) -> None:
    api.objects[service_at("roofs")]["status"]["components"]["predictor"] = {
        "latestRolledoutRevision": "roofs-predictor-00002",
        "previousRolledoutRevision": "roofs-predictor-00001",
    }
    assert knative.see().stable == "roofs-predictor-00001"


def test_a_revision_that_fails_says_so(knative: Knative, api: MiniApi) -> None:
    api.pods[1] = revision_pod(2, CANARY, crashing("visor: archive.refused"))
    api.objects[WORKLOAD]["status"]["latestReadyRevisionName"] = "roofs-predictor-00001"
    seen = knative.see()
    assert "archive.refused" in seen.failure
    assert seen.unready.startswith("revision roofs-predictor-00002 is not ready yet")
    assert seen.pods.ready == 0


def test_an_archive_that_kserve_has_not_handed_on_is_not_ready(knative: Knative, api: MiniApi) -> None:
    api.objects[WORKLOAD]["spec"]["template"]["metadata"]["annotations"][URI] = STABLE
    assert knative.see().unready == "KServe has not handed on its archive yet"


def test_a_share_is_applied_as_helm_with_what_helm_owns(knative: Knative, api: MiniApi) -> None:
    knative.share(25)
    [(manager, body)] = api.applied
    assert manager == "helm"
    assert body["spec"]["predictor"] == {
        "minReplicas": 1,
        "canaryTrafficPercent": 25,
        "model": {"storageUri": CANARY, "args": ["--digest=22"], "runtime": "roofs"},
    }


def test_a_share_that_is_not_named_is_all(knative: Knative, api: MiniApi) -> None:
    del api.objects[service_at("roofs")]["spec"]["predictor"]["canaryTrafficPercent"]
    assert knative.see().percent == 100


@pytest.fixture
def standard(world: World) -> Standard:
    made = tracks_of(world.cluster, "roofs", (("HTTPRoute", "roofs"),), "helm")
    assert isinstance(made, Standard)
    return made


def test_both_inference_services_are_read_in_standard_mode(standard: Standard, world: World) -> None:
    seen = standard.see()
    assert (seen.percent, seen.by, seen.stable, seen.canary) == (0, "helm", STABLE, CANARY)
    assert (seen.stable_args, seen.canary_args) == (("--digest=11",), ("--digest=22",))
    assert seen.pods == Pods(1, 1, 1, fixed=True)
    world.api.objects[service_at("roofs-canary")]["metadata"]["annotations"] = {"serving.kserve.io/autoscalerClass": "external"}
    assert not standard.see().pods.fixed


def test_pods_of_the_archive_before_are_not_the_canary_s(standard: Standard, world: World) -> None:
    world.api.pods[1] = pod_of("roofs-canary", STABLE)
    assert standard.see().pods.ready == 0


def test_a_drained_pod_of_the_canary_is_told_from_one_that_fails(standard: Standard, world: World) -> None:
    drained = world.api.pods[1]
    assert standard.see().replaced == ""
    drained["metadata"]["deletionTimestamp"] = "2026-11-30T00:05:00Z"
    world.api.pods.append(at(pod_of("roofs-canary", CANARY, 2), False, "2026-11-30T00:05:01Z", "2026-11-30T00:05:02Z"))
    seen = standard.see()
    assert (seen.pods.ready, seen.replaced) == (0, "pod roofs-canary-2 is not ready")
    world.api.pods[2] = at(world.api.pods[2], False, "2026-11-30T00:09:00Z", "2026-11-30T00:05:02Z")
    assert standard.see().replaced == ""


def test_without_a_canary_there_is_none(standard: Standard, world: World) -> None:
    del world.api.objects[service_at("roofs-canary")]
    assert (standard.see().stable, standard.see().canary, standard.see().percent) == (STABLE, "", None)


def test_weights_that_differ_are_no_share(standard: Standard, world: World) -> None:
    rules = world.api.objects[route_path("HTTPRoute")]["spec"]["rules"]
    rules[0]["backendRefs"][0]["weight"], rules[0]["backendRefs"][1]["weight"] = 90, 10
    assert standard.see().percent is None
    standard.share(10)
    assert standard.see().percent == 10


def test_a_route_that_is_not_there_is_an_error(world: World) -> None:
    for named in ((("HTTPRoute", "other"),), (("HTTPRoute", "roofs"), ("GRPCRoute", "roofs-grpc"))):
        with pytest.raises(RouteUnexpected, match="name the routes"):
            Standard(world.cluster, "roofs", named, "helm").see()
    world.api.objects[route_path("HTTPRoute")] = make_route("HTTPRoute", [backend("roofs-predictor", 1)])
    with pytest.raises(RouteUnexpected, match="no route to roofs-canary-predictor"):
        Standard(world.cluster, "roofs", (), "helm").see()


def test_every_route_to_the_canary_is_moved_where_none_is_named(world: World) -> None:
    world.api.objects[route_path("GRPCRoute")] = make_route("GRPCRoute", *shared_rules())
    Standard(world.cluster, "roofs", (), "helm").share(40)
    for kind in ("HTTPRoute", "GRPCRoute"):
        assert world.api.weights(kind)[0] == [60, 40]


def test_evicted_pods_that_linger_stop_no_promotion(world: World) -> None:
    loop = Loop(world.cluster, world.order, world.now, "one")
    world.until(loop, lambda: RECORD in world.api.objects and world.state["percent"] == 50)
    world.api.pods += [ended(pod_of("roofs", STABLE, 98)), ended(pod_of("roofs-canary", STABLE, 99))]
    assert world.end(loop)["state"]["phase"] == "promoted"


def third(world: World, weight: int) -> None:
    """Somebody has a third backend in the rules for REST and gRPC, which gets so much beside the two."""
    for rule in world.api.objects[route_path("HTTPRoute")]["spec"]["rules"][:2]:
        rule["backendRefs"].append(backend("walls-predictor", weight))


def test_nothing_begins_on_a_route_that_several_others_share(world: World) -> None:
    third(world, 10)
    loop = Loop(world.cluster, world.order, world.now, "one")
    world.turn(loop)
    assert "shares between roofs-canary-predictor and roofs-predictor and walls-predictor" in world.state["held"]
    world.end(loop)
    assert (world.state["phase"], world.state["percent"]) == ("rolled-back", 0)
    assert world.state["reason"].startswith("the canary was not ready within 100 s: HTTPRoute roofs shares between")
    assert world.api.applied == []


def test_a_rule_of_three_is_rolled_back_too(world: World) -> None:
    loop = Loop(world.cluster, world.order, world.now, "one")
    world.until(loop, lambda: RECORD in world.api.objects and world.state["percent"] == 10)
    third(world, 0)
    world.turn(loop)
    assert "shares between" in world.state["held"]
    world.wrong = 1.0
    world.end(loop)
    assert world.state["phase"] == "rolled-back"
    assert world.api.weights("HTTPRoute") == [[1, 0, 0], [1, 0, 0], [None], [None]]


def test_who_gives_requests_to_a_third_moves_the_canary_s_share(world: World) -> None:
    loop = Loop(world.cluster, world.order, world.now, "one")
    world.until(loop, lambda: RECORD in world.api.objects and world.state["percent"] == 10)
    third(world, 10)
    world.turn(loop)
    assert world.state["phase"] == "yielded"
    assert "a share of 9.09091 %, where it had 10 %" in world.state["reason"]


def test_an_archive_goes_with_its_digest(standard: Standard, world: World) -> None:
    standard.adopt(CANARY, ())
    model = world.api.objects[service_at("roofs")]["spec"]["predictor"]["model"]
    assert model == {"storageUri": CANARY, "runtime": "roofs"}


def test_restarts_are_of_all_containers() -> None:
    pod = pod_of("roofs", STABLE)
    pod["status"]["containerStatuses"] = [{"name": "a", "restartCount": 1}, {"name": "b", "restartCount": 2}, {"name": "c"}]
    assert restarts([pod]) == {"roofs-1": 3}
    assert pods_of([pod], "stable")["roofs-1"].started == 1_795_996_800
