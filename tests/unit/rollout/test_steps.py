"""The machine: which steps a release takes, what holds it, what ends it, and that a killed loop finds the same moves again."""

from dataclasses import replace
from typing import Any

import pytest

from rollout.evidence import Evidence
from rollout.gates import GATES, Count
from rollout.plan import FINAL, Adopt, Pods, Scale, Share, State, Step
from rollout.steps import advance, moves, pods_for, proof_is_due
from tests.unit.rollout.machine import BAD, GOOD, PAIRED, PLAN, STEPS, World

LOOKS_TO_ALARM = 3
"""12 x 12 x 12 is above 8 x 6 / 0.05 for an eighth of the capital on each bet and the alarm of six gates; 12 x 12 is not."""


@pytest.fixture
def world() -> World:
    return World()


def test_a_good_canary_goes_step_by_step_and_its_archive_becomes_the_stable_one(world: World) -> None:
    for _ in range(60):
        world.turn(GOOD)
    adopted = Adopt("pvc://m/2", ("--digest=22",))
    assert world.moved == [Share(5), Share(50), Scale(2), Share(100), adopted, Share(0)]
    assert (world.state.phase, world.state.percent) == ("promoted", 0)


def test_in_knative_mode_the_newest_revision_keeps_all_requests() -> None:
    world = World(replace(PLAN, stable="roofs-00001", knative=True))
    for _ in range(60):
        world.turn(GOOD)
    assert world.moved == [Share(5), Share(50), Share(100)]
    assert (world.state.phase, world.state.percent) == ("promoted", 100)


def test_a_step_lasts_its_seconds_and_its_requests_from_when_its_share_is_in_force(world: World) -> None:
    few = {"errors": (Count(0, 10), Count(0, 200))}
    world.turn(few)
    assert world.moved == [Share(5)]
    for looks in range(1, 10):
        world.turn(few)
        assert world.state.requests == 10 * looks
    assert world.state.since == 1_020
    assert world.state.held == "this step has had 90 of 100 requests"
    world.turn(few)
    assert world.moved == [Share(5), Share(50)]
    enough = {"errors": (Count(0, 500), Count(0, 500))}
    world.turn(enough)
    world.turn(enough)
    assert world.state.held == "this step has had 10 of 60 s"


def test_too_few_requests_hold_and_say_so(world: World) -> None:
    world.turn()
    world.turn()
    world.moved.clear()
    for _ in range(1_000):
        world.turn({"errors": (Count(0, 0), Count(0, 3))})
    assert (world.state.phase, world.state.step) == ("stepping", 0)
    assert "of 100 requests" in world.state.held
    assert world.moved == []


def test_no_data_hold_and_say_so_before_the_first_request_and_after(world: World) -> None:
    for _ in range(50):
        world.turn(missing="Prometheus at http://p does not answer")
    assert (world.state.phase, world.state.held) == ("waiting", "Prometheus at http://p does not answer")
    assert world.moved == []
    world.until(0)
    for _ in range(50):
        world.turn(missing="Prometheus at http://p does not answer")
    assert (world.state.phase, world.state.held) == ("stepping", "Prometheus at http://p does not answer")
    assert world.moved == []
    world.until(1)


def test_where_nothing_could_be_compared_no_step_ends_and_it_says_so(world: World) -> None:
    """As where the stable release's pods are not scraped, or nobody asks them anything."""
    world.until(0)
    world.state = replace(world.state, evidence=Evidence.begin(PAIRED))
    for _ in range(80):
        world.turn({"errors": (Count(1_000, 1_000), Count(0, 0))})
    assert (world.state.phase, world.state.step) == ("stepping", 0)
    assert world.state.requests >= 5_000
    assert world.state.held.startswith("nothing could be compared, as requests of both tracks were never counted near")
    world.turn({"errors": (Count(0, 10), Count(0, 100))})
    assert world.state.step == 1


def test_scrapes_that_are_16_looks_apart_are_compared(world: World) -> None:
    """The canary's pod is scraped 8 looks before the stable release's: all of its requests fail, and it is rolled back."""
    world.until(0)
    for look in range(80):
        ours, theirs = (100 if look % 16 == at else 0 for at in (0, 8))
        world.turn({"errors": (Count(ours, ours), Count(0, theirs))})
    assert world.state.phase == "rolled-back"


def test_the_last_step_with_a_comparison_asks_for_proof(world: World) -> None:
    few = {gate.name: (Count(0, 15), Count(0, 300)) for gate in PAIRED}
    for _ in range(25):
        world.turn(few)
    assert (world.state.phase, world.state.step, world.state.percent) == ("stepping", 1, 50)
    assert "errors: 0 % of the canary's" in world.state.held
    assert "more" in world.state.held
    world.until(2)


@pytest.mark.parametrize(
    ("percents", "due"), [((5, 50, 100), 1), ((5, 50), 1), ((100,), None), ((0, 5, 25, 50, 100), 3), ((0, 100), 0)]
)
def test_proof_is_due_once(percents: tuple[int, ...], due: int | None) -> None:
    steps = tuple(Step(percent, 0, 0) for percent in percents)
    assert [number for number in range(len(steps)) if proof_is_due(steps, number)] == ([] if due is None else [due])


def test_an_alarm_rolls_back_at_once_with_the_figures(world: World) -> None:
    world.until(0)
    for _ in range(LOOKS_TO_ALARM - 1):
        assert world.turn(BAD).phase == "stepping"
    world.turn(BAD)
    for _ in range(2):  # one look wins 12 times the stake at most (MOST_WON)
        world.turn(BAD)
    assert world.state.phase == "rolled-back"
    assert world.moved == [Share(0)]
    assert "errors" in world.state.reason
    world.turn()
    assert (world.state.percent, len(world.moved)) == (0, 1)


@pytest.mark.parametrize("phase", ["stepping", "paused", "promoting"])
@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({"failure": "kserve-container of pod p ends again and again: OOM"}, "OOM"),
        ({"restarts": {"p": 1}}, "a container of pod p ended and was started again"),
        ({"pods": Pods(2, 1, 0), "unready": "it has no pod"}, "no pod of the canary is ready any more: it has no pod"),
    ],
)
def test_a_canary_that_fails_is_rolled_back_at_once(world: World, phase: str, seen: dict[str, Any], words: str) -> None:
    world.until(0)
    if phase != "stepping":
        world.turn(order="pause" if phase == "paused" else "promote")
        world.moved.clear()
    assert world.state.phase == phase
    world.turn(**seen)
    assert world.state.phase == "rolled-back"
    assert words in world.state.reason
    assert Share(0) in world.moved


def test_a_container_that_ends_on_both_tracks_is_not_the_canary_s_fault(world: World) -> None:
    world.until(0)
    world.turn(restarts={"p": 1}, shaken=True)
    assert world.state.phase == "stepping"
    world.turn(restarts={"p": 1})  # seen already
    assert world.state.phase == "stepping"


@pytest.mark.parametrize(("later", "phase"), [(2.0, "stepping"), (59.0, "stepping"), (61.0, "rolled-back")])
def test_a_node_that_starts_again_may_take_both_tracks_one_after_the_other(world: World, later: float, phase: str) -> None:
    world.until(0)
    world.turn(shaken=True)
    world.turn(seconds=later, restarts={"p": 1})
    assert world.state.phase == phase


def test_writes_that_are_undone_again_and_again_yield_and_name_who_does(world: World) -> None:
    world.until(0)
    for undone in range(3):
        world.turn(undone=undone, by="argocd-controller")
        assert world.state.phase == "stepping"
    world.turn(undone=3, percent=5.0)  # in force: nobody undid it
    assert world.state.phase == "stepping"
    world.state = replace(world.state, target=50)
    world.turn(undone=3, by="argocd-controller")
    assert world.state.phase == "yielded"
    assert world.state.reason.startswith("argocd-controller undid the canary's share of 50 % 3 times")


def test_a_clock_that_is_set_back_lengthens_no_period(world: World) -> None:
    world.until(0)
    world.seen = replace(world.seen, now=world.seen.now - 3_600)
    looks = 0
    while world.state.step == 0:
        world.turn(GOOD)
        looks += 1
    assert looks <= 8  # 60 s once more


def test_at_100_percent_without_proof_it_goes_back_to_where_it_can_be_proven(world: World) -> None:
    world.state = replace(world.state, phase="stepping", step=2, target=100, percent=100.0)
    world.seen = replace(world.seen, percent=100.0, pods=Pods(2, 2, 2))
    for _ in range(10):
        world.turn({"errors": (Count(0, 100), Count(0, 0))})
        if world.state.step == 1:
            break
    assert (world.state.target, world.moved) == (50, [Share(50)])
    assert world.state.reason.startswith("the canary was not proven, and cannot be at 100 %; back to step 2 of 3")


def test_a_canary_that_cannot_start_is_rolled_back_without_a_request(world: World) -> None:
    world.turn(failure="archive.refused")
    assert (world.state.phase, world.state.held) == ("waiting", "archive.refused")
    world.turn(failure="archive.refused")
    assert world.state.phase == "rolled-back"
    assert world.moved == []


def test_a_canary_that_is_not_ready_in_time_is_rolled_back(world: World) -> None:
    for _ in range(9):
        world.turn(unready="it has no pod")
    assert world.state.phase == "waiting"
    world.turn(unready="it has no pod")
    assert world.state.reason == "the canary was not ready within 100 s: it has no pod"


def test_somebody_else_s_weights_win_and_are_named(world: World) -> None:
    world.until(0)
    world.seen = replace(world.seen, percent=30.0)
    world.turn(GOOD, by="kubectl-patch")
    assert world.state.phase == "yielded"
    assert world.state.reason.startswith("kubectl-patch gave the canary a share of 30 %, where it had 5 %")
    for _ in range(20):
        world.turn(BAD)
    assert world.state.phase == "yielded"
    assert world.moved == []
    world.turn(order="resume")
    assert world.moved == [Share(5)]
    assert world.turn().phase == "rolled-back"  # what was counted meanwhile counts


def test_routes_that_differ_are_somebody_else_s_but_between_two_of_ours(world: World) -> None:
    world.turn(GOOD)
    assert world.moved == [Share(5)]
    world.turn(percent=None)
    assert world.state.phase == "stepping"
    assert world.moved == [Share(5), Share(5)]
    world.until(0)
    world.turn(percent=None, by="kubectl-edit")
    assert world.state.phase == "yielded"
    assert "differ from route to route" in world.state.reason


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({"canary": "pvc://m/3"}, "the canary's archive is now pvc://m/3"),
        ({"canary_args": ("--digest=33",)}, "the canary's archive pvc://m/2 is now asked for with --digest=33"),
        ({"stable_args": ()}, "the stable release's archive pvc://m/1 is now asked for with no digest"),
        ({"stable": "pvc://m/0"}, "the stable release's archive is now pvc://m/0"),
    ],
)
def test_another_archive_ends_the_release_and_leaves_the_weights(world: World, seen: dict[str, Any], words: str) -> None:
    world.until(0)
    world.turn(**seen)
    assert world.state.phase == "superseded"
    assert words in world.state.reason
    assert world.moved == []


def test_pause_takes_no_step_and_an_alarm_still_rolls_back(world: World) -> None:
    world.until(0)
    world.turn(order="pause")
    for _ in range(30):
        world.turn(GOOD)
    assert (world.state.phase, world.moved) == ("paused", [])
    world.turn(order="resume")
    assert world.state.phase == "stepping"
    world.turn(order="pause")
    for _ in range(20):
        world.turn(BAD)
    assert (world.state.phase, world.moved) == ("rolled-back", [Share(0)])


@pytest.mark.parametrize("percent", [0.0, 30.0])
def test_before_the_first_step_a_pause_or_others_weights_end_no_wait(world: World, percent: float) -> None:
    deaf = "Prometheus at http://p does not answer"
    world.turn(missing=deaf)
    if percent:
        world.seen = replace(world.seen, percent=percent)
        assert world.turn(missing=deaf, by="kubectl-patch").phase == "yielded"
    else:
        assert world.turn(missing=deaf, order="pause").phase == "paused"
    assert world.turn(missing=deaf, order="resume").phase == "waiting"
    for order in ("", "pause", "resume", ""):
        world.turn(missing=deaf, order=order)
    assert (world.state.phase, world.state.held) == ("waiting", deaf)
    assert world.moved == ([Share(0)] if percent else [])
    world.until(0)


def test_no_share_grows_while_there_are_no_counts(world: World) -> None:
    deaf = "Prometheus at http://p does not answer"
    world.until(0)
    world.seen = replace(world.seen, percent=0.0)
    assert world.turn(missing=deaf).phase == "yielded"
    for order in ("resume", "", ""):
        world.turn(missing=deaf, order=order)
    assert (world.state.phase, world.state.target, world.moved) == ("stepping", 5, [])
    assert world.state.held == f"its share goes from 0 to 5 %: {deaf}"
    world.turn()
    assert world.moved == [Share(5)]
    world.moved.clear()
    for order in ("promote", ""):
        world.turn(missing=deaf, order=order)
    assert world.moved[-1] == Share(100)  # whatever the evidence says


def test_abort_takes_the_requests_away(world: World) -> None:
    world.until(1)
    world.turn(order="abort")
    assert (world.state.phase, world.moved) == ("aborted", [Share(0)])


def test_promote_does_so_whatever_the_evidence_says_with_pods_for_all_requests(world: World) -> None:
    world.until(0)
    world.turn(order="promote")
    for _ in range(6):
        world.turn()
    assert world.moved == [Scale(2), Share(100), Adopt("pvc://m/2", ("--digest=22",)), Share(0)]
    assert world.state.phase == "promoted"


def test_the_stable_release_gets_its_requests_back_once_all_of_it_serves_the_archive(world: World) -> None:
    world.until(0)
    world.turn(order="promote")
    world.turn()
    world.turn()
    world.turn(settling="1 of 2 pods are new")
    assert (world.state.phase, world.state.held) == ("promoting", "the stable release changes its archive: 1 of 2 pods are new")
    assert world.turn().phase == "promoted"


def test_a_failure_while_the_stable_release_changes_gives_it_its_own_archive_back(world: World) -> None:
    world.until(0)
    for order in ("promote", "", "", ""):
        world.turn(order=order, settling="1 of 2 pods are new")
    assert world.seen.stable == "pvc://m/2"
    world.turn(failure="ends again and again", settling="1 of 2 pods are new")
    assert world.moved[-2:] == [Adopt("pvc://m/1", ("--digest=11",)), Share(0)]


def test_a_larger_share_waits_for_its_pods(world: World) -> None:
    world.seen = replace(world.seen, pods=Pods(4, 1, 1))
    world.until(0)
    while not world.moved:
        world.turn(GOOD)
    assert world.moved == [Scale(2)]
    world.seen = replace(world.seen, pods=Pods(4, 2, 1))
    for _ in range(5):
        world.turn(GOOD)
    assert world.moved == [Scale(2)]
    assert world.state.held == "its share goes from 5 to 50 %, once 2 pods of it are ready; 1 are"
    world.seen = replace(world.seen, pods=Pods(4, 2, 2))
    world.turn(GOOD)
    assert world.moved == [Scale(2), Share(50)]


def test_pods_that_somebody_takes_away_meanwhile_are_given_back(world: World) -> None:
    """An upgrade of the release sets the canary's number of pods as its values say."""
    world.until(1)
    world.seen = replace(world.seen, pods=Pods(4, 1, 1))
    world.turn(GOOD)
    assert world.moved == [Scale(2)]


@pytest.mark.parametrize(("stable", "percent", "pods"), [(1, 5, 1), (2, 50, 1), (3, 50, 2), (4, 25, 1), (5, 25, 2), (4, 100, 4)])
def test_as_many_pods_for_each_request_as_the_stable_release_has(stable: int, percent: int, pods: int) -> None:
    assert pods_for(PLAN, percent, Pods(stable=stable)) == pods
    assert pods_for(PLAN, percent, Pods(stable=stable, fixed=False)) == 0
    assert pods_for(replace(PLAN, knative=True), percent, Pods(stable=stable)) == 0


def test_an_end_that_was_reached_is_left_alone(world: World) -> None:
    world.until(0)
    world.turn(order="abort")
    world.turn()
    world.moved.clear()
    world.seen = replace(world.seen, percent=40.0)  # by hand, later
    for _ in range(5):
        world.turn(GOOD)
    assert world.moved == []


def test_the_shadow_counts_images_and_gives_no_share() -> None:
    world = World(replace(PLAN, steps=(Step(0, 60, 100), *STEPS)))
    world.state = State(1_000.0, 0.0, Evidence.begin(GATES))
    shown = {"disagreement": (Count(0, 20), Count(0, 0))}
    for _ in range(5):
        world.turn(shown)
    assert (world.state.phase, world.state.requests, world.moved) == ("stepping", 80, [])
    assert "of 100 images of the shadow" in world.state.held
    for _ in range(4):
        world.turn(shown)
    assert world.moved == [Share(5)]


def test_requests_that_choose_the_canary_before_it_has_a_share_tell_nothing_of_it() -> None:
    """As by the route's header, while it waits and in the shadow; disagreement and failures are its own."""
    by_header = {"refusals": (Count(4, 4), Count(0, 400)), "errors": (Count(300, 300), Count(0, 400))}
    world = World(replace(PLAN, steps=(Step(0, 60, 100), *STEPS)))
    world.state = State(1_000.0, 0.0, Evidence.begin(GATES))
    world.turn(by_header, missing="Prometheus at http://p does not answer")
    for _ in range(5):
        world.turn(by_header | {"disagreement": (Count(0, 20), Count(0, 0))})
    assert (world.state.phase, world.state.requests) == ("stepping", 80)
    of_canary = {name: test.seen[:2].tolist() for name, test in world.state.evidence.tests.items()}
    assert of_canary == {name: [0, 0] for name in of_canary} | {"disagreement": [0, 100]}
    assert world.state.evidence.tests["refusals"].seen[3] == 2_400  # of the stable release all counts
    for _ in range(10):
        world.turn({"disagreement": (Count(20, 20), Count(0, 0))})
    assert world.state.phase == "rolled-back"
    assert world.state.reason.startswith("disagreement")


def test_a_loop_that_was_killed_after_any_decision_finds_the_same_moves_again(world: World) -> None:
    """The record has the state before a move is made: without the move, the next look makes it."""
    for _ in range(60):
        world.seen = replace(world.seen, now=world.seen.now + 10)
        seen = replace(world.seen, counts=GOOD)
        state = advance(world.plan, world.state, seen)
        wanted = moves(world.plan, state, seen)
        again = replace(world.seen, now=world.seen.now + 30)
        assert moves(world.plan, advance(world.plan, state, again), again)[: len(wanted)] == wanted
        world.state = state
        for move in wanted:
            world.do(move)
    assert world.state.phase == "promoted"
    assert world.state.phase in FINAL


@pytest.mark.parametrize(("seen", "moved"), [(None, [Share(0)]), (5.0, [Share(0)]), (0.0, [])])
def test_a_first_share_that_is_on_its_way_is_taken_back(world: World, seen: float | None, moved: list[Share]) -> None:
    """One of two routes has it when the canary fails."""
    world.until(step=0, share=0)
    world.seen = replace(world.seen, percent=seen)
    world.turn(failure="it ends again and again")
    assert (world.state.phase, world.moved) == ("rolled-back", moved)
    world.turn()
    assert (world.state.percent, world.moved) == (0, moved)
