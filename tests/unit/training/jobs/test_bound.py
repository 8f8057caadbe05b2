"""The command's table on a run written here, and what it says when the run is none."""

import numpy as np
import pytest
from scipy.stats import nhypergeom

from handlers.spec import BetaScaling, VectorScaling
from tests.unit.configs import make_config
from tests.unit.specs import make_spec
from training import runs
from training.errors import ConfigError, DataError, RunError
from training.jobs.bound import bound


def write_run(folder, positive=("bad",), max_fnr=0.1, group=None, confidence=None, **spec):
    folder.mkdir()
    wanted = {"positive": positive, "max_fnr": max_fnr, "max_fnr_confidence": confidence}
    runs.write_config(folder, make_config(name="tiny", decision=wanted))
    made = make_spec(("bad", "good"), positive=positive).model_copy(update=spec)
    (folder / runs.SPEC).write_text(made.model_dump_json())
    rng = np.random.default_rng(0)
    logits = {f"{split}_logits": rng.normal(0, 2, (n, 2)) for split, n in (("calibration", 80), ("test", 60))}
    truth = {"calibration_truth": np.arange(80) % 2, "test_truth": np.arange(60) % 2}
    sizes = {"calibration": 80, "test": 60} if group else {}
    groups = {f"{split}_groups": np.array([f"{split}{i // group}" for i in range(n)]) for split, n in sizes.items()}
    np.savez(folder / runs.PREDICTIONS, **logits, **truth, **groups)
    return folder


def test_the_table_and_the_plot_are_of_all_positive_images(tmp_path):
    run = write_run(tmp_path / "run")
    table = bound(run, None, 500, 0, tmp_path / "out")
    assert (tmp_path / "out/bound.md").read_text() == table
    assert (tmp_path / "out/bound.png").read_bytes().startswith(b"\x89PNG")
    cells = dict(line.strip("| ").split(" | ") for line in table.splitlines()[2:])
    assert cells["positive images that find the threshold, n (and 30 that test it)"] == "40"
    assert cells["its expectation without equal scores, floor(0.1 (n + 1)) / (n + 1)"] == f"{4 / 41:.4f}"
    assert float(cells["mean test FNR"]) == pytest.approx(4 / 41, abs=4 * float(cells["its standard error"]))
    theory = nhypergeom(70, 30, 4).sf(3)  # 3 of 40 may be missed; 4 and more of 30 are above 0.1
    assert cells["the same in theory, where no scores are equal"] == f"{theory:.1%}"
    assert float(cells["splits above 0.1"].rstrip("%")) / 100 == pytest.approx(theory, abs=0.08)
    assert cells["the bound, 0.1, and 0.1 - 2 / (n + 1)"] == f"0.1000, {0.1 - 2 / 41:.4f}"


def test_groups_and_a_confidence_are_the_runs(tmp_path):
    table = bound(write_run(tmp_path / "run", max_fnr=0.3, group=4, confidence=0.9), None, 50, 0, tmp_path)
    assert "| groups with a positive image that find the threshold, n (and 15 that test it) | 20 |" in table
    assert "| the bound, with a probability of 0.9 over the draw of the n | 0.3000 |" in table
    above = next(line for line in table.splitlines() if "splits above 0.3" in line).split("|")[2]
    assert float(above.strip(" %")) <= 30  # of 15 groups a half, where the promise is about all that there are
    table = bound(tmp_path / "run", 0.3, 50, 0, tmp_path)
    assert "| the bound, on average | 0.3000 |" in table
    with pytest.raises(DataError, match="at least 59 groups"):
        bound(tmp_path / "run", 0.05, 50, 0, tmp_path, 0.95)


def test_scores_that_a_scaling_was_fitted_on_are_left_out(tmp_path):
    run = write_run(tmp_path / "run", scaling=VectorScaling(weight=(1, 2), bias=(0, 0)))
    assert "n (and 15 that test it) | 15 |" in bound(run, 0.2, 10, 0, tmp_path)


def test_slopes_keep_the_order_so_that_both_splits_are_dealt_anew(tmp_path):
    run = write_run(tmp_path / "run", scaling=BetaScaling(slope=(0.5, 2), bias=(0, 0)))
    assert "n (and 30 that test it) | 40 |" in bound(run, 0.2, 10, 0, tmp_path)


def test_what_cannot_be_tried_is_said(tmp_path):
    with pytest.raises(DataError, match="at least 99"):
        bound(write_run(tmp_path / "few"), 0.01, 10, 0, tmp_path)
    with pytest.raises(ConfigError, match="flags no label"):
        bound(write_run(tmp_path / "none", positive=(), max_fnr=None), None, 10, 0, tmp_path)
    (tmp_path / "begun").mkdir()
    begun = make_config(name="tiny")
    runs.write_config(tmp_path / "begun", begun)
    with pytest.raises(RunError, match=r"begun holds no run \(run.json is missing\)"):
        bound(tmp_path / "begun", None, 10, 0, tmp_path)
    record = {"dataset_root": "x", "config_digest": begun.digest, "dataset_digest": "0", "mlflow_run_id": "0"}
    runs.write_record(tmp_path / "begun", runs.Record(**record, tracking_uri="x", git_commit="", git_dirty=None, versions={}))
    with pytest.raises(RunError, match="begun has learnt nothing"):
        bound(tmp_path / "begun", None, 10, 0, tmp_path)
    (tmp_path / "begun" / runs.CHECKPOINT).touch()
    with pytest.raises(RunError, match=r"begun is not finished, .*; give the same `visor train` command again"):
        bound(tmp_path / "begun", None, 10, 0, tmp_path)
    (tmp_path / "few" / runs.PREDICTIONS).unlink()
    with pytest.raises(RunError, match="visor evaluate"):
        bound(tmp_path / "few", None, 10, 0, tmp_path)
