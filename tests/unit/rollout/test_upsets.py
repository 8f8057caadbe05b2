"""What others do to a release under way, and clocks: the loop against the API server in miniature."""

from dataclasses import replace

import pytest

from rollout import record, report
from rollout.errors import ClusterError, RolloutBusy
from rollout.plan import Step
from rollout.run import Loop
from tests.unit.rollout.conftest import route_path
from tests.unit.rollout.world import CANARY, RECORD, STABLE, World, service_at


@pytest.fixture
def loop(world: World) -> Loop:
    """A loop whose canary has its first share."""
    loop = Loop(world.cluster, world.order, world.now, "one")
    world.until(loop, lambda: RECORD in world.api.objects and world.state["percent"] == 10)
    return loop


def archive(world: World) -> str:
    return str(world.api.objects[service_at("roofs")]["spec"]["predictor"]["model"]["storageUri"])


def give(world: World, percent: int, by: str = "") -> None:
    """Somebody else's weights."""
    route = world.api.objects[route_path("HTTPRoute")]
    for rule in route["spec"]["rules"][:2]:
        rule["backendRefs"][0]["weight"], rule["backendRefs"][1]["weight"] = 100 - percent, percent
    if by:
        route["metadata"]["managedFields"].append({"manager": by, "operation": "Update", "time": "2027-01-01T00:00:00Z"})


def known(world: World) -> record.Record:
    found, _ = record.Store(world.cluster, "roofs").read()
    assert found is not None
    return found


def test_a_pause_while_promoting_is_no_end_and_tells_helm_nothing_yet(world: World, loop: Loop) -> None:
    world.until(loop, lambda: archive(world) == CANARY)
    store = record.Store(world.cluster, "roofs")
    with pytest.raises(RolloutBusy, match="is being promoted \\(promoting\\)"):
        report.values(known(world))
    store.order("pause", world.now)
    for _ in range(5):
        assert not world.turn(loop)
    assert (world.state["phase"], world.percent, archive(world)) == ("paused", 100, CANARY)
    with pytest.raises(RolloutBusy, match="is being promoted \\(paused\\)"):
        report.values(known(world))
    loop.leave()
    store.order("resume", world.now)
    assert world.end(Loop(world.cluster, world.order, world.now, "two"))["state"]["phase"] == "promoted"
    assert report.values(known(world))["archive"]["uri"] == CANARY


def test_another_digest_of_the_same_archive_ends_the_release_and_the_next_begins_anew(world: World, loop: Loop) -> None:
    world.api.objects[service_at("roofs-canary")]["spec"]["predictor"]["model"]["args"] = ["--digest=33"]
    ended = world.end(loop)
    assert ended["state"]["phase"] == "superseded"
    assert ended["state"]["reason"].startswith(f"the canary's archive {CANARY} is now asked for with --digest=33")
    assert world.percent == 10
    again = world.end(Loop(world.cluster, world.order, world.now, "two"))
    assert again["state"]["phase"] == "promoted"
    assert again["plan"]["canary_args"] == ["--digest=33"]
    assert "superseded" in again["earlier"][0]["what"]
    assert world.api.objects[service_at("roofs")]["spec"]["predictor"]["model"]["args"] == ["--digest=33"]


def test_a_share_that_is_put_back_again_and_again_is_given_up(world: World, loop: Loop) -> None:
    world.until(loop, lambda: world.percent == 50)
    written = len(world.api.applied)
    for _ in range(20):
        give(world, 10, "argocd-controller")
        world.turn(loop)
    assert world.state["phase"] == "yielded"
    assert world.state["reason"].startswith("argocd-controller undid the canary's share of 50 % 3 times")
    assert len(world.api.applied) - written == 2  # and the first one
    record.Store(world.cluster, "roofs").order("resume", world.now)
    assert world.end(loop)["state"]["phase"] == "promoted"


def test_a_canary_that_is_deleted_leaves_no_share(world: World, loop: Loop) -> None:
    del world.api.objects[service_at("roofs-canary")]
    ended = world.end(loop)
    assert ended["state"]["phase"] == "superseded"
    assert ended["state"]["reason"] == "the canary was taken away; its share goes to the stable release"
    assert (ended["state"]["percent"], world.percent, archive(world)) == (0, 0, STABLE)


def test_a_canary_that_is_deleted_while_nobody_looks_leaves_no_share_either(world: World, loop: Loop) -> None:
    loop.leave()
    del world.api.objects[service_at("roofs-canary")]
    assert world.end(Loop(world.cluster, world.order, world.now, "two"))["state"]["phase"] == "superseded"
    assert world.percent == 0


def test_a_loop_that_was_killed_before_it_took_the_share_is_followed_by_one_that_does(world: World, loop: Loop) -> None:
    loop.leave()
    there = known(world)
    ended = replace(there.state, phase="superseded", target=0, absent=world.now)
    record.Store(world.cluster, "roofs").write(replace(there, state=ended))
    del world.api.objects[service_at("roofs-canary")]
    after = world.end(Loop(world.cluster, world.order, world.now, "two"))
    assert (after["state"]["phase"], after["state"]["percent"], world.percent) == ("superseded", 0, 0)


def test_a_canary_that_goes_with_its_route_is_an_end_too(world: World, loop: Loop) -> None:
    del world.api.objects[service_at("roofs-canary")]
    for rule in world.api.objects[route_path("HTTPRoute")]["spec"]["rules"]:
        rule["backendRefs"] = rule["backendRefs"][:1]
    assert [loop.turn(world.now + 6 * look) for look in range(1, 4)] == [False, False, True]
    assert (world.state["phase"], world.state["percent"]) == ("superseded", 0)


def test_a_record_that_is_deleted_is_written_anew(world: World, loop: Loop) -> None:
    del world.api.objects[RECORD]
    assert world.end(loop)["state"]["phase"] == "promoted"


def test_where_no_record_may_be_made_the_share_stays_and_it_ends_with_an_error(world: World, loop: Loop) -> None:
    """As the chart's Job may not. An empty record, which Helm makes, begins the release anew."""
    del world.api.objects[RECORD]
    world.api.refusals["POST"] = [403] * 100
    with pytest.raises(ClusterError, match="403"):
        world.until(loop, lambda: False, 10)
    assert (world.percent, RECORD in world.api.objects) == (10, False)
    world.api.refusals["POST"] = []
    world.api.objects[RECORD] = {"metadata": {"name": "roofs-rollout", "resourceVersion": "1"}}
    ended = world.end(Loop(world.cluster, world.order, world.now, "two"))
    assert ended["state"]["phase"] == "promoted"
    assert ended["history"][0]["what"].startswith(f"{CANARY} is to take the place of")


def test_a_moment_of_404_is_no_end_and_no_order_is_lost_in_it(world: World, loop: Loop) -> None:
    record.Store(world.cluster, "roofs").order("pause", world.now)
    world.api.refusals["GET"] = [404, 404]
    assert not world.turn(loop)
    assert world.state["phase"] == "stepping"
    assert not world.turn(loop)
    assert (world.state["phase"], world.percent) == ("paused", 10)


def test_a_clock_that_is_set_back_blinds_nobody(world: World, loop: Loop) -> None:
    world.wrong = 0.9
    world.now -= 3_600
    for _ in range(5):
        world.turn(loop)
    assert (world.state["phase"], world.percent) == ("rolled-back", 0)


def test_a_loop_on_a_node_that_was_ahead_is_followed_after_a_lease(world: World) -> None:
    ahead = Loop(world.cluster, world.order, world.now + 3_600, "ahead")
    while RECORD not in world.api.objects or world.percent != 10:
        world.traffic()
        world.kserve()
        ahead.turn(world.now + 3_600)
    second = Loop(world.cluster, world.order, world.now, "second")
    for _ in range(4):
        world.turn(second)
    assert world.record["holder"] == "second"
    with pytest.raises(RolloutBusy, match="second moves roofs now"):
        ahead.turn(world.now + 3_600)


def test_a_loop_that_looks_at_counters_seldom_keeps_its_lease(world: World) -> None:
    order = replace(world.order, every_s=60.0)
    first = Loop(world.cluster, order, world.now, "first")
    world.until(first, lambda: RECORD in world.api.objects and world.percent == 10)
    second = Loop(world.cluster, order, world.now, "second")

    def both() -> None:
        for _ in range(12):
            second.turn(world.now)
            world.turn(first)

    with pytest.raises(RolloutBusy, match="first moves roofs already"):
        both()
    assert world.record["holder"] == "first"


def test_fewer_steps_under_way_skip_no_proof(world: World) -> None:
    order = replace(world.order, steps=(Step(5, 20, 20), Step(25, 20, 20), Step(50, 20, 50), Step(100, 10, 0)))
    loop = Loop(world.cluster, order, world.now, "one")
    world.until(loop, lambda: RECORD in world.api.objects and world.state["percent"] == 25)
    loop.leave()
    fewer = Loop(world.cluster, replace(order, steps=(Step(50, 20, 50), Step(100, 10, 0))), world.now, "two")
    shares = set()
    while world.percent != 100:
        world.turn(fewer)
        shares.add(world.percent)
        assert world.percent < 100 or all(one.proven for one in known(world).state.evidence.findings())
    assert shares == {50, 100}
    assert "the steps have changed; step 1 of 2: 50 % of the requests" in [entry.what for entry in known(world).history]
    assert world.end(fewer)["state"]["phase"] == "promoted"


def test_a_shadow_that_is_turned_off_under_way_holds_nothing_up(world: World) -> None:
    loop = Loop(world.cluster, replace(world.order, steps=(Step(0, 20, 50), *world.order.steps)), world.now, "one")
    world.until(loop, lambda: RECORD in world.api.objects and world.state["phase"] == "stepping")
    loop.leave()
    ended = world.end(Loop(world.cluster, world.order, world.now, "two"))
    assert ended["state"]["phase"] == "promoted"


def test_other_margins_under_way_are_told_of_once(world: World, loop: Loop) -> None:
    loop.leave()
    other = replace(world.order, margins={"errors": 0.03}, alpha=0.2)
    for name in ("two", "three"):
        loop = Loop(world.cluster, other, world.now, name)
        world.turn(loop)
        loop.leave()
    told = "margins or alpha have changed, and this release goes on with its own (errors 0.5 points, alpha 0.05)"
    assert len([entry for entry in known(world).history if entry.what.startswith(told)]) == 1
