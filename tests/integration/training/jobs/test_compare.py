"""Compare and promote over a real MLflow store: what the rule says is what the alias does."""

import json

import numpy as np
import pytest
import yaml

from tests.unit.configs import make_config
from tests.unit.runs import make_run
from tests.unit.specs import make_spec
from training import runs
from training.errors import CompareError, RunError
from training.jobs.compare import ComparePaths, compare, promote
from training.selection import comparison
from training.selection.comparison import Rule
from training.tracking import MODEL, Tracker
from visor import cli

N = 80
TRUTH = np.random.default_rng(1).integers(0, 2, N)
SPEC = make_spec(labels=("intact", "damaged"), positive=("damaged",), cost=((0, 1), (5, 0)), threshold=0.3)


@pytest.fixture(scope="module")
def places(tmp_path_factory, begin_home):
    """The real SQLite store."""
    folder = tmp_path_factory.mktemp("compare")
    return ComparePaths(begin_home(folder / "home"), None, folder / "visor.pub")


@pytest.fixture(autouse=True)
def embedded(monkeypatch):
    """A store of this module's own; and intervals of few resamples, as these tests are not about how exact they are."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    drawn = comparison.resamples
    monkeypatch.setattr(comparison, "resamples", lambda images, _count=0, seed=0, groups=None: drawn(images, 200, seed, groups))


def trained(places, folder, model, sharpness, alias, seed=0, paths=None):
    """A run with files such as `visor train` logs, registered; its id and version."""
    tracker = Tracker.open(places.home)
    logits = np.random.default_rng(seed).normal(size=(N, 2)) + sharpness * np.eye(2)[TRUTH]
    names = np.array(paths or [f"{n:03}.png" for n in reversed(range(N))])
    np.savez(folder / runs.PREDICTIONS, test_paths=names, test_logits=logits.astype(np.float32), test_truth=TRUTH)
    (folder / runs.SPEC).write_text(SPEC.model_copy(update={"name": model}).model_dump_json())
    with tracker.running(model) as run_id:
        tracker.log_parameters(run_id, {"seed": seed, "fit": {"batch_size": 8}})
        tracker.log_files(run_id, [folder / runs.PREDICTIONS])
        tracker.log_files(run_id, [folder / runs.SPEC], MODEL)
    return run_id, tracker.register(model, run_id, {}, alias)


def champion_of(places, model):
    return Tracker.open(places.home).aliased(model, "champion")


def test_a_better_version_takes_the_place_and_a_worse_one_does_not(places, tmp_path, capsys):
    arguments = ["promote", "roofs", "--home", str(places.home), "--no-archives"]
    with pytest.raises(RunError, match="has no model named 'roofs'"):
        promote("roofs", None, places, Rule(), 0)
    first = trained(places, tmp_path, "roofs", 1.0, "candidate")
    with pytest.raises(RunError, match=r"has no model named 'rofs' \(it has .*roofs.*\); did you mean roofs\?"):
        promote("rofs", None, places, Rule(), 0)
    run = tmp_path / "c2"
    make_run(run)
    (run / runs.CONFIG).write_text(yaml.safe_dump(make_config(name="roofs").model_dump(mode="json")))
    with pytest.raises(RunError, match=f"has no model named '{run}', which is the folder of a run; its model is roofs"):
        promote(str(run), None, places, Rule(), 0)
    assert champion_of(places, "roofs") is None
    assert cli.main([*arguments, "--dry-run"]) == 0
    assert champion_of(places, "roofs") is None
    assert cli.main(arguments) == 0
    assert champion_of(places, "roofs") == (first[1], first[0])
    assert cli.main(arguments) == 0  # it is the champion already
    assert "is the champion already" in capsys.readouterr().out

    trained(places, tmp_path, "roofs", 0.5, "candidate", seed=1)
    assert cli.main(arguments) == 1
    assert "does not become the champion: its cost less the champion's is" in capsys.readouterr().out
    assert champion_of(places, "roofs") == (first[1], first[0])

    third = trained(places, tmp_path, "roofs", 6.0, "candidate", seed=2)
    assert cli.main([*arguments, "--max-fnr", "0"]) == 1
    assert cli.main([*arguments, "--max-latency-ms", "5"]) == 1
    assert "has no archive" in capsys.readouterr().out
    assert champion_of(places, "roofs") == (first[1], first[0])
    assert cli.main(arguments) == 0
    assert champion_of(places, "roofs") == (third[1], third[0])
    assert cli.main([*arguments, "--version", first[1]]) == 1
    tags = Tracker.open(places.home).client.get_model_version("roofs", third[1]).tags
    assert tags["promoted"].startswith("its cost less the champion's is -")


def test_versions_of_other_images_are_told_apart(places, tmp_path):
    for alias, paths in (("champion", None), ("candidate", [f"new{n}.png" for n in range(N)])):
        trained(places, tmp_path, "walls", 1.0, alias, paths=paths)
    with pytest.raises(CompareError, match="walls version 2 was tested on other images than walls version 1: 80, 80, 0 of them"):
        promote("walls", None, places, Rule(), 0)


def test_an_experiment_beside_its_champion_twice_the_same(places, tmp_path, capsys):
    ids = [trained(places, tmp_path, "leaves", sharpness, "x", seed=n)[0] for n, sharpness in enumerate((1.0, 3.0, 0.0))]
    tracker = Tracker.open(places.home)
    tracker.promote("leaves", "1", {}, "champion")
    found = compare([ids[2]], None, places, Rule(), seed=0, resamples=100)
    assert [row.candidate.run_id for row in found.rows] == [ids[2], ids[0]]  # the champion comes along
    assert found.rows[1].versus is None
    assert found.rows[0].versus.cost.low > 0
    assert found.rows[0].candidate.paths[0] == "000.png"
    assert found.rows[0].candidate.truth.tolist() == TRUTH[::-1].tolist()
    for out in ("a", "b"):
        assert (
            cli.main(
                ["compare", "--experiment", "leaves", "--home", str(places.home), "--no-archives", "--out", str(tmp_path / out)]
            )
            == 0
        )
    for name in ("compare.json", "compare.md", "compare.html"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    tree = json.loads((tmp_path / "a/compare.json").read_text())
    by_id = {row["mlflow_run_id"]: row for row in tree["runs"]}
    assert tree["chosen"] == by_id[ids[1]]["run"]
    assert tree["champion"] == by_id[ids[0]]["run"]
    assert set(by_id[ids[1]]["parameters"]) == {"seed"}  # the others are the same
    assert f"That is {tree['chosen']}." in capsys.readouterr().out


def test_what_cannot_be_compared_is_said(places, tmp_path):
    one, _ = trained(places, tmp_path, "cats", 1.0, "x")
    other, _ = trained(places, tmp_path, "cats", 1.0, "x", paths=[f"x{n:03}.png" for n in range(N)])
    with pytest.raises(CompareError, match="80, 80, 0 of them in both"):
        compare([one, other], None, places, Rule(), 0)
    with pytest.raises(CompareError, match="nothing to compare"):
        compare([], None, places, Rule(), 0)
    with pytest.raises(RunError, match="has no experiment 'dogs'"):
        compare([], "dogs", places, Rule(), 0)
    with Tracker.open(places.home).running("cats") as empty:
        pass
    with pytest.raises(RunError, match="refuses"):
        compare([empty], None, places, Rule(), 0)


def test_where_there_is_no_store_none_is_made(tmp_path, capsys):
    home = tmp_path / "none"
    flags = ["--home", str(home), "--no-archives"]
    assert cli.main(["promote", "roofs", *flags]) == 1
    assert (
        f"{home}/mlflow.db has no model named 'roofs' (it has none, and `visor train` registers one)" in capsys.readouterr().err
    )
    for arguments, words in (
        (["--experiment", "roofs"], f"{home}/mlflow.db has no experiment 'roofs'; it is not there, and the first `visor train`"),
        (["0" * 32], f"{home}/mlflow.db has no run {'0' * 32}; it is not there"),
        (["runs/roofs"], "runs/roofs is no run's id in MLflow, and runs/roofs holds no run"),
        ([], "nothing to compare"),
    ):
        assert cli.main(["compare", *arguments, *flags]) == 1
        assert words in capsys.readouterr().err
    assert not home.exists()
