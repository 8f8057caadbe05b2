"""`visor rollout` and the Job's `python -m rollout start` against the release in miniature: what they print, how they end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from rollout import __main__ as job
from rollout import flags
from rollout.counters import ALL_COUNTED
from rollout.gates import GATES
from rollout.run import Loop
from tests.unit.rollout.conftest import NAMESPACE
from tests.unit.rollout.world import CANARY, RECORD, STABLE, World
from visor import cli

pytestmark = pytest.mark.usefixtures("kubeconfig")
RELEASE = ("roofs", "--namespace", NAMESPACE)
SHORT = ("--step", "10:20:50", "--step", "50:20:50", "--step", "100:10:0", "--every-s", "10")


@pytest.fixture
def moving(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The loop's own clock is the world's, where ten seconds pass between two looks."""

    def sleep(_seconds: float) -> None:
        world.traffic()
        world.kserve()

    def run(cluster: Any, order: Any) -> Any:
        return loop(cluster, order, lambda: world.now, sleep)

    from rollout import run as module

    loop: Callable[..., Any] = module.run
    monkeypatch.setattr(module, "run", run)
    world.kserve()
    return world


def start(world: World, *more: str) -> tuple[str, ...]:
    return ("start", *RELEASE, "--prometheus", world.url, *SHORT, *more)


def test_start_forecasts_releases_and_says_how_it_ended(moving: World, capsys: pytest.CaptureFixture[str]) -> None:
    moving.traffic()
    assert cli.main(["rollout", *start(moving)]) == 0
    said = capsys.readouterr().out
    assert f"{CANARY} is to take the place of {STABLE}:" in said
    assert "at 40 requests/s, of which the canary gets 10 % at first and 50 % at last:" in said
    assert "errors    0 % now; 2 points more: found after about " in said
    assert said.rstrip().splitlines()[-1].startswith("promoted at 0 %")


@pytest.mark.parametrize("older", [False, True])
def test_the_forecast_says_that_an_edge_draws_no_image(moving: World, capsys: pytest.CaptureFixture[str], older: bool) -> None:
    moving.traffic()
    moving.older = older
    cli.main(["rollout", *start(moving, "--dry-run")])
    said = capsys.readouterr().out
    assert (ALL_COUNTED in said) is older
    assert "flagged   0 % now; 5 points more: found after about " in said


def test_a_canary_that_is_rolled_back_is_exit_code_3(moving: World, capsys: pytest.CaptureFixture[str]) -> None:
    moving.wrong = 0.2
    assert cli.main(["rollout", *start(moving)]) == 3
    assert capsys.readouterr().out.rstrip().splitlines()[-1].startswith("rolled-back at 0 %: errors")


@pytest.mark.parametrize(("wrong", "code"), [(0.0, 0), (0.2, 3)])
def test_the_job_ends_alike(moving: World, wrong: float, code: int) -> None:
    moving.wrong = wrong
    assert job.main(start(moving)) == code


@pytest.mark.parametrize("main", [lambda *words: cli.main(["rollout", *words]), lambda *words: job.main(words)])
def test_a_dry_run_changes_nothing(moving: World, main: Callable[..., int]) -> None:
    assert main(*start(moving, "--dry-run")) == 0
    assert moving.percent == 0
    assert RECORD not in moving.api.objects
    assert {method for method, _ in moving.api.calls} == {"GET"}


@pytest.mark.usefixtures("world")
def test_a_dry_run_without_prometheus_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("start", *RELEASE, "--prometheus", "http://127.0.0.1:9", "--dry-run")
    assert cli.main(["rollout", *words]) == 0
    assert "no forecast: rollout.prometheus" in capsys.readouterr().out


def test_status_tells_in_each_form(moving: World, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cli.main(["rollout", *start(moving)])
    capsys.readouterr()
    written = ("--html", str(tmp_path / "page.html"), "--metrics", str(tmp_path / "release.prom"))
    assert cli.main(["rollout", "status", *RELEASE, *written]) == 0
    assert capsys.readouterr().out.startswith("roofs: promoted at 0 %")
    assert "<h1>roofs</h1>" in (tmp_path / "page.html").read_text()
    assert 'phase="promoted"} 1' in (tmp_path / "release.prom").read_text()
    assert cli.main(["rollout", "status", *RELEASE, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"]["phase"] == "promoted"
    assert cli.main(["rollout", "status", *RELEASE, "--values"]) == 0
    assert json.loads(capsys.readouterr().out)["archive"] == {"uri": CANARY, "digest": "22"}


def test_values_of_a_canary_that_was_taken_back_take_it_away(moving: World, capsys: pytest.CaptureFixture[str]) -> None:
    moving.wrong = 0.2
    cli.main(["rollout", *start(moving)])
    capsys.readouterr()
    assert cli.main(["rollout", "status", *RELEASE, "--values"]) == 0
    assert json.loads(capsys.readouterr().out) == {"canary": {"enabled": False}}


@pytest.mark.parametrize("verb", ["pause", "resume", "promote", "abort"])
def test_an_order_is_written_and_says_who_obeys_it(moving: World, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rollout", verb, *RELEASE]) == 1
    assert "rollout.missing" in capsys.readouterr().err
    loop = Loop(moving.cluster, moving.order, moving.now, "one")
    moving.until(loop, lambda: moving.percent == 10)
    loop.leave()
    capsys.readouterr()
    assert cli.main(["rollout", verb, *RELEASE]) == 0
    assert moving.api.objects[RECORD]["data"]["order"].startswith(f"{verb} ")
    assert capsys.readouterr().out == "ordered; nobody moves roofs now, and `visor rollout start` obeys it first\n"


@pytest.mark.parametrize("verb", ["pause", "resume", "promote", "abort"])
def test_an_order_after_the_end_is_refused(moving: World, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["rollout", *start(moving)])
    capsys.readouterr()
    assert cli.main(["rollout", verb, *RELEASE]) == 1
    said = capsys.readouterr()
    assert f"rollout.missing: the release of roofs has ended as promoted, and nobody would obey {verb}" in said.err
    assert said.out == ""
    assert "order" not in moving.api.objects[RECORD]["data"]


def test_status_without_a_release_says_what_begins_one(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.percent == 0
    assert cli.main(["rollout", "status", *RELEASE]) == 1
    assert "visor: rollout.missing: roofs has no release by evidence; `visor rollout start`" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--step", "5:300"],
        ["--step", "101:1:1"],
        ["--margin", "speed=0.1"],
        ["--margin", "errors=0"],
        ["--alpha", "1"],
        ["--every-s", "0"],
        ["--every-s", "nan"],
        ["--namespace", 'a"b'],
    ],
)
def test_a_mistyped_value_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["rollout", "start", *RELEASE, "--prometheus", "http://p", *words])
    assert words[0] in capsys.readouterr().err


@pytest.mark.parametrize("main", [lambda *words: cli.main(["rollout", *words]), lambda *words: job.main(words)])
def test_a_release_without_a_comparison_is_refused_and_nothing_is_changed(world: World, main: Callable[..., int]) -> None:
    assert main("start", *RELEASE, "--prometheus", world.url, "--step", "100:10:0") == 1
    assert RECORD not in world.api.objects
    assert world.api.applied == []


def test_the_flags_know_every_gate_and_its_margin() -> None:
    assert tuple(gate.name for gate in GATES) == flags.GATES
    margins = {gate.name: gate.margin for gate in GATES}
    assert margins["errors"] == margins["refusals"] == 0.005
    assert margins["slow"] == margins["slower"] == 0.02
    assert {margins[name] for name in ("flagged", "reviewed", "disagreement")} == {0.05}


def test_the_command_looks_as_often_as_the_chart_s_job() -> None:
    words = ["rollout", "start", *RELEASE, "--prometheus", "http://p"]
    values = yaml.safe_load((Path(__file__).parents[3] / "charts/visor/values.yaml").read_text())
    assert flags.order_of(cli.make_parser().parse_args(words)).every_s == values["canary"]["rollout"]["everySeconds"]


def test_margins_and_a_shadow_decide_on_the_gates() -> None:
    parser = cli.make_parser()
    words = ["rollout", "start", *RELEASE, "--prometheus", "http://p"]
    from rollout.setup import gates_of

    plain = gates_of(flags.order_of(parser.parse_args(words)))
    assert [gate.name for gate in plain] == [gate.name for gate in GATES if gate.paired]
    shadowed = gates_of(
        flags.order_of(parser.parse_args([*words, "--step", "0:1:1", "--step", "50:1:1", "--margin", "disagreement=0.1"]))
    )
    assert (shadowed[-1].name, shadowed[-1].margin, shadowed[-1].tolerance) == ("disagreement", 0.1, 0.1)
    [tight] = [
        gate for gate in gates_of(flags.order_of(parser.parse_args([*words, "--margin", "slow=0.002"]))) if gate.name == "slow"
    ]
    assert (tight.margin, tight.tolerance) == (0.002, 0.002)
