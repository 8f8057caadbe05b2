"""The loop against an API server and a Prometheus in miniature: it releases, holds, yields, and goes on where one was killed."""

import json
from typing import Any

import pytest

from rollout import page, record, report
from rollout.counters import ALL_COUNTED
from rollout.errors import ClusterError, RecordUnreadable, RolloutBusy, RolloutMissing
from rollout.lease import LEASE_S
from rollout.plan import Move, Share
from rollout.run import Loop, run
from rollout.setup import Order
from rollout.tracks import Tracks
from tests.unit.rollout.conftest import crashing, route_path
from tests.unit.rollout.world import CANARY, PER_TURN, RECORD, STABLE, World, pod_of, service_at


class Interrupted(Exception):
    """What kills a loop in a test."""


def test_a_good_canary_is_promoted_and_the_record_says_how(world: World) -> None:
    ended = world.end()
    assert ended["state"]["phase"] == "promoted"
    assert world.percent == 0
    stable = world.api.objects[service_at("roofs")]["spec"]["predictor"]
    assert stable["model"] == {"storageUri": CANARY, "args": ["--digest=22"], "runtime": "roofs"}
    assert {manager for manager, _ in world.api.applied} == {"helm"}
    told = [entry["what"] for entry in ended["history"]]
    assert f"{CANARY} is to take the place of {STABLE}" in told[0]
    assert [text for text in told if text.startswith("the canary's share is")] == [
        f"the canary's share is {percent} % now" for percent in (10, 50, 100, 0)
    ]
    assert world.api.objects[RECORD]["data"]["phase"] == "promoted"
    assert world.api.objects[RECORD]["metadata"]["annotations"]["visor.io/rollout"].startswith("promoted at 0 %")
    reasons = [event["reason"] for event in world.api.events]
    assert {"RolloutStepping", "RolloutPromoting", "RolloutPromoted"} <= set(reasons)
    assert {event["involvedObject"]["name"] for event in world.api.events} == {"roofs"}


def test_edges_that_draw_no_image_are_told_of_once(world: World) -> None:
    world.older = True
    ended = world.end()
    assert ended["state"]["phase"] == "promoted"
    assert [entry["what"] for entry in ended["history"]].count(ALL_COUNTED) == 1
    assert world.state["evidence"]["tests"][4]["seen"][1] > 0  # of flagged


def test_what_helm_owns_is_applied_again_and_what_kserve_added_is_not(world: World) -> None:
    world.end()
    [body] = [body for _, body in world.api.applied if body["kind"] == "InferenceService"]
    assert set(body["spec"]["predictor"]) == {"minReplicas", "model"}
    assert "managedFields" not in body["metadata"]


def test_an_erring_canary_is_rolled_back_in_its_first_step(world: World) -> None:
    world.wrong = 0.2
    ended = world.end()
    assert ended["state"]["phase"] == "rolled-back"
    assert "errors" in ended["state"]["reason"]
    assert world.percent == 0
    assert ended["state"]["step"] == 0
    assert world.api.objects[service_at("roofs")]["spec"]["predictor"]["model"]["storageUri"] == STABLE
    [last] = [event for event in world.api.events if event["reason"] == "RolloutRolledBack"][:1]
    assert last["type"] == "Warning"


def test_a_crashing_canary_is_rolled_back(world: World) -> None:
    loop = Loop(world.cluster, world.order, world.now, "one")
    world.until(loop, lambda: world.percent == 10)
    world.turn(loop)
    world.api.pods[1] = pod_of("roofs-canary", CANARY, 1, 2, crashing("out of memory"))
    ended = world.end(loop)
    assert ended["state"]["phase"] == "rolled-back"
    assert "out of memory" in ended["state"]["reason"]


@pytest.mark.parametrize("wrong", [0.0, 0.2])
@pytest.mark.parametrize("every", [1, 2])
def test_loops_that_are_killed_at_each_write_of_the_record_end_alike(world: World, every: int, wrong: float) -> None:
    """Each loop dies with its first write, after it did what the record says, or every other one before. Another one goes on."""
    world.wrong = wrong
    deaths, done = 0, False
    while not done and deaths < 60:
        done = mortal_turn(world, f"loop-{deaths}", deaths % every == 0)
        deaths += 1
        world.now += LEASE_S
    ended = world.record
    assert ended["state"]["phase"] == ("rolled-back" if wrong else "promoted")
    assert deaths > (3 if wrong else 8)
    assert world.percent == 0
    [errors] = [test for test in ended["state"]["evidence"]["tests"] if test["gate"]["name"] == "errors"]
    counted = [ended["counters"]["pods"][pod] for pod in ("roofs-canary-1", "roofs-1")]
    assert errors["seen"][:2] == [counted[0]["failed"], counted[0]["requests"]]
    assert errors["seen"][3] == counted[1]["requests"] - PER_TURN  # which it had before the first look


def test_what_is_wanted_is_in_the_record_before_it_is_done(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster is looked at every 2 s, between the renewals of the lease and the looks at counters, too."""
    loop = Loop(world.cluster, world.order, world.now, "one")
    given: list[tuple[int, int]] = []
    real = loop._do

    def do(on: Tracks, move: Move) -> None:
        if isinstance(move, Share):
            given.append((move.percent, world.state["target"]))
        real(on, move)

    monkeypatch.setattr(loop, "_do", do)
    done = False
    for _ in range(200):
        if done:
            break
        world.traffic()
        world.kserve()
        world.now -= 8
        done = loop.turn(world.now)
    assert given == [(percent, percent) for percent in (10, 50, 100, 0)]
    assert world.state["phase"] == "promoted"


def mortal_turn(world: World, name: str, acted: bool) -> bool:
    """Turns of a loop until it has written its record; whether the release has ended."""
    loop = Loop(world.cluster, world.order, world.now, name)
    written = False

    def write(after: record.Record) -> None:
        nonlocal written
        alive(after)
        written = True
        if not acted:
            raise Interrupted

    alive, loop._write = loop._write, write  # type: ignore[method-assign]
    while not written:
        try:
            if world.turn(loop):
                return True
        except Interrupted:
            return False
    return False


def test_no_prometheus_holds_and_says_so_and_goes_on_by_itself(world: World) -> None:
    loop = Loop(world.cluster, world.order, world.now, "one")
    world.deaf = True
    for _ in range(20):
        assert not world.turn(loop)
    assert (world.percent, world.state["phase"]) == (0, "waiting")
    assert "does not answer" in world.state["held"]
    world.deaf = False
    world.until(loop, lambda: world.percent == 10)
    world.deaf = True
    for _ in range(20):
        world.turn(loop)
    assert (world.percent, world.state["phase"]) == (10, "stepping")
    world.deaf = False
    assert world.end(loop)["state"]["phase"] == "promoted"


def test_a_pod_that_prometheus_does_not_scrape_gets_no_request(world: World) -> None:
    loop = Loop(world.cluster, world.order, world.now, "one")
    world.unscraped = {"roofs-canary-1"}
    for _ in range(20):
        world.turn(loop)
    assert world.percent == 0
    assert "nothing of pod roofs-canary-1" in world.state["held"]


def test_weights_of_others_are_left_and_their_writer_is_named(world: World) -> None:
    loop = Loop(world.cluster, world.order, world.now, "one")
    world.until(loop, lambda: world.state["percent"] == 10 if RECORD in world.api.objects else False)
    route = world.api.objects[route_path("HTTPRoute")]
    route["metadata"]["managedFields"].append({"manager": "kubectl-patch", "operation": "Update", "time": "2027-01-01T00:00:00Z"})
    for rule in route["spec"]["rules"][:2]:
        rule["backendRefs"][0]["weight"], rule["backendRefs"][1]["weight"] = 70, 30
    for _ in range(10):
        world.turn(loop)
    assert world.percent == 30
    assert world.state["phase"] == "yielded"
    assert world.state["reason"].startswith("kubectl-patch gave the canary a share of 30 %")
    record.Store(world.cluster, "roofs").order("resume", world.now)
    world.turn(loop)
    assert world.percent == 10


def test_orders_are_obeyed_once(world: World) -> None:
    loop = Loop(world.cluster, world.order, world.now, "one")
    store = record.Store(world.cluster, "roofs")
    with pytest.raises(RolloutMissing, match="visor rollout start"):
        store.order("pause", world.now)
    world.until(loop, lambda: world.percent == 10)
    store.order("pause", world.now)
    for _ in range(20):
        world.turn(loop)
    assert (world.state["phase"], world.percent) == ("paused", 10)
    store.order("resume", world.now)
    world.turn(loop)
    assert world.state["phase"] == "stepping"
    store.order("abort", world.now)
    assert world.end(loop)["state"]["phase"] == "aborted"
    assert world.percent == 0


def test_an_order_that_comes_while_the_record_is_written_is_not_lost(world: World) -> None:
    loop = Loop(world.cluster, world.order, world.now, "one")
    world.until(loop, lambda: world.percent == 10)
    came = False

    def between(path: str, body: dict[str, Any]) -> None:
        nonlocal came
        if path == RECORD and "record.json" in body.get("data", {}) and not came:
            came = True
            there = world.api.objects[RECORD]
            there["data"]["order"] = f"abort {world.now}"
            there["metadata"]["resourceVersion"] += "0"

    world.api.on_patch = between
    assert world.end(loop)["state"]["phase"] == "aborted"


def test_a_second_loop_is_refused_while_the_first_one_lives(world: World) -> None:
    first, second = (Loop(world.cluster, world.order, world.now, holder) for holder in ("first", "second"))
    world.until(first, lambda: world.percent == 10)
    assert not second.turn(world.now)
    world.turn(first)
    with pytest.raises(RolloutBusy, match="first moves roofs already"):
        second.turn(world.now)


def test_a_loop_that_was_taken_for_dead_stops(world: World) -> None:
    first = Loop(world.cluster, world.order, world.now, "first")
    world.until(first, lambda: world.percent == 10)
    world.now += LEASE_S
    second = Loop(world.cluster, world.order, world.now, "second")
    world.turn(second)
    with pytest.raises(RolloutBusy, match="second moves roofs now"):
        world.turn(first)
    first.leave()
    assert world.record["holder"] == "second"


def test_a_loop_that_left_is_followed_at_once(world: World) -> None:
    first = Loop(world.cluster, world.order, world.now, "first")
    world.until(first, lambda: world.percent == 10)
    first.leave()
    second = Loop(world.cluster, world.order, world.now, "second")
    world.turn(second)
    assert world.record["holder"] == "second"


def test_an_end_stays_an_end_and_another_attempt_begins_anew(world: World) -> None:
    world.wrong = 0.2
    world.end()
    applied = len(world.api.applied)
    assert Loop(world.cluster, world.order, world.now, "two").turn(world.now)
    assert len(world.api.applied) == applied
    world.wrong = 0.0
    again = Order(**{**world.order.__dict__, "attempt": 2})
    ended = world.end(Loop(world.cluster, again, world.now, "three"))
    assert ended["state"]["phase"] == "promoted"
    assert "rolled-back" in ended["earlier"][0]["what"]
    assert ended["history"][0]["what"].startswith(CANARY)


def test_without_a_canary_it_waits_and_then_says_so(world: World) -> None:
    del world.api.objects[service_at("roofs-canary")]
    loop = Loop(world.cluster, world.order, world.now, "one")
    for _ in range(9):
        assert not world.turn(loop)
    with pytest.raises(RolloutMissing, match="does not have a canary"):
        world.turn(loop)
    assert RECORD not in world.api.objects


def test_an_api_server_that_does_not_answer_is_waited_for(world: World) -> None:
    loop = Loop(world.cluster, world.order, world.now, "one")
    world.until(loop, lambda: world.percent == 10)
    world.api.refusals["GET"] = [503, 500, 429]
    for _ in range(3):
        assert not world.turn(loop)
    assert world.end(loop)["state"]["phase"] == "promoted"


@pytest.mark.parametrize("method", ["GET", "PATCH"])
@pytest.mark.parametrize("status", [401, 403])
def test_what_is_forbidden_is_tried_again_for_a_minute(world: World, method: str, status: int) -> None:
    loop = Loop(world.cluster, world.order, world.now, "one")
    world.until(loop, lambda: world.percent == 10)
    for _ in range(2):  # a minute each, with a success between
        world.api.refusals[method] = [status] * 5
        for _ in range(5):
            assert not world.turn(loop)
        world.api.refusals[method] = []
        world.turn(loop)
    world.api.refusals[method] = [status] * 60
    with pytest.raises(ClusterError, match=str(status)):
        world.until(loop, lambda: False, 10)


def test_a_record_that_cannot_be_read_is_an_error_that_says_what_to_do(world: World) -> None:
    metadata = {"name": "roofs-rollout", "resourceVersion": "1"}
    for text in ("{", "{}", '{"format": 2}'):
        world.api.objects[RECORD] = {"metadata": metadata, "data": {"record.json": text}}
        with pytest.raises(RecordUnreadable):
            world.turn(Loop(world.cluster, world.order, world.now, "one"))


def test_run_goes_on_until_the_end(world: World) -> None:
    def sleep(_seconds: float) -> None:
        world.traffic()
        world.kserve()

    world.kserve()
    assert run(world.cluster, world.order, lambda: world.now, sleep).state.phase == "promoted"
    assert world.record["holder"] == ""


def test_the_record_is_told_in_every_form(world: World) -> None:
    world.end()
    known, _ = record.Store(world.cluster, "roofs").read()
    assert known is not None
    assert json.loads(json.dumps(known.to_json())) == world.record
    text = report.text("roofs", known, world.now)
    assert text.startswith("roofs: promoted at 0 %")
    assert "errors: 0 % of the canary's" in text
    told = report.to_json(known)
    assert {one["gate"]["name"] for one in told["findings"]} >= {"errors", "slow", "flagged"}
    json.dumps(told)
    assert report.values(known) == {"canary": {"enabled": False}, "archive": {"uri": CANARY, "digest": "22"}}
    written = report.metrics("roofs", "demo", known)
    assert 'visor_rollout_phase{namespace="demo",release="roofs",phase="promoted"} 1' in written
    assert "<td>errors" in page.page("roofs", known)
