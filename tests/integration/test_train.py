"""The training job on real parts: a folder of images, the SQLite store, the evaluation."""

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from archives import files
from archives.contents import Contents
from handlers.spec import Spec
from training import runs
from training.config import Config
from training.errors import BatchTooSmall, ConfigError, RunError, TrackingDeleted, TrackingUnreachable
from training.jobs.register import register
from training.jobs.train import train
from training.packing.lineage import collect
from training.tracking import Tracker
from visor.overview import registered_aliases

IMAGES = 40  # of each label


@pytest.fixture(scope="module", autouse=True)
def _no_server():
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory, begin_home):
    return begin_home(tmp_path_factory.mktemp("train") / "home")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Noise, redder for `ill` and greener for `well`."""
    root = tmp_path_factory.mktemp("leaves")
    rng = np.random.default_rng(0)
    for channel, label in enumerate(("ill", "well")):
        (root / label).mkdir()
        for number in range(IMAGES):
            pixels = rng.integers(0, 200, (16, 16, 3), dtype=np.uint8)
            pixels[..., channel] += 50
            Image.fromarray(pixels).save(root / label / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def config(folder):
    return make_config(folder)


def make_config(folder, **changes):
    return Config.model_validate(
        {
            "name": "leaves",
            "data": {"source": "imagefolder", "path": str(folder)},
            "preprocessing": {"height": 16, "width": 16, "mean": [0.5] * 3, "std": [0.5] * 3},
            "model": {"network": "small_cnn"},
            "backend": "torch",  # an export takes seconds
            "augment": {"flip_horizontal": True},
            "fit": {"phases": [{"epochs": 3, "learning_rate": 0.01, "unfreeze": "all"}], "batch_size": 8, "threads": 1},
            "decision": {"positive": ["ill"], "false_negative": 5},
            **changes,
        }
    )


@pytest.fixture(scope="module")
def run(config, home):
    return train(config, home / "leaves", home)


@pytest.fixture
def tracker(home):
    return Tracker.open(home)


def artifacts(tracker, run_id, folder=None):
    return {entry.path for entry in tracker.client.list_artifacts(run_id, folder)}


def test_a_run_holds_all_that_its_contract_names(run, config, folder):
    record, metrics = runs.read_finished(run)
    names = {"config.yaml", "manifest.json", "checkpoint.pt", "history.json", "run.json", "plots", *runs.RESULTS}
    assert {path.name for path in run.iterdir()} == names | {
        "predictions.npz",
        "reference-rows.json",
        "model-card.md",
        "model-card.html",
        "exports.json",
    }
    assert runs.read_config(run) == config
    assert (record.config_digest, record.dataset_root) == (config.digest, folder)
    assert record.dataset_digest == json.loads((run / "manifest.json").read_text())["digest"]
    assert record.weights_digest == files.sha256(run / "model.safetensors")
    assert len(json.loads((run / "history.json").read_text())) == 3
    assert metrics["accuracy"] == 1.0


def test_a_run_that_looked_for_near_duplicates_says_that_its_images_are_new(run):
    leaks = json.loads((run / "metrics.json").read_text())["leaks"]
    assert {split: (held["near"], held["copies"]) for split, held in leaks.items()} == {"test": (0, 0), "calibration": (0, 0)}
    assert "that training never saw" in (run / "report.html").read_text()


def test_mlflow_knows_how_it_went_and_what_came_out(run, tracker):
    record, metrics = runs.read_finished(run)
    known = tracker.client.get_run(record.mlflow_run_id)
    assert known.info.status == "FINISHED"
    assert known.data.params["fit.phases.0.epochs"] == "3"
    assert known.data.params["model.network"] == "small_cnn"
    assert known.data.metrics["accuracy"] == metrics["accuracy"]
    assert known.data.tags["dataset_digest"] == record.dataset_digest
    assert {metric.step for metric in tracker.client.get_metric_history(record.mlflow_run_id, "val_loss")} == {1, 2, 3}
    top = {"config.yaml", "manifest.json", "environment.txt", "metrics.json", "history.json", "report.html", "plots", "model"}
    assert artifacts(tracker, record.mlflow_run_id) == top | {"predictions.npz", "model-card.md", "model-card.html"}
    assert artifacts(tracker, record.mlflow_run_id, "model") == {"model/model.safetensors", "model/spec.json"}
    assert artifacts(tracker, record.mlflow_run_id, "plots")


def test_the_candidate_is_the_version_of_the_run(run, tracker):
    record, _ = runs.read_finished(run)
    version = tracker.client.get_model_version_by_alias("leaves", "candidate")
    assert str(version.version) == record.model_version
    assert version.run_id == record.mlflow_run_id
    assert version.tags == {
        "weights_digest": record.weights_digest,
        "dataset_digest": record.dataset_digest,
        "git_commit": record.git_commit,
        "backend": "torch",
    }


def test_a_finished_run_is_not_made_again(run, config, home, tracker, caplog):
    caplog.set_level(logging.INFO)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert train(config, run, home) == run
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    assert f"{run} is finished" in caplog.text
    assert f"mlflow ui --backend-store-uri sqlite:///{home}/mlflow.db" in caplog.text
    assert len(tracker.client.search_model_versions("name = 'leaves'")) == 1


def test_a_folder_of_another_config_is_refused_and_left_alone(run, config, folder, home):
    other = make_config(folder, seed=1)
    with pytest.raises(RunError, match=r"belongs to another config: seed is 0 there and 1 here; start over with --fresh"):
        train(other, run, home)
    assert runs.read_config(run) == config


def test_a_folder_of_other_images_is_refused(run, config, folder, home):
    extra = folder / "well" / "new.png"
    Image.new("RGB", (16, 16)).save(extra)
    try:
        with pytest.raises(RunError, match="belongs to another data set"):
            train(config, run, home)
    finally:
        extra.unlink()


class Interruption(logging.Handler):
    """Ctrl-C at the moment of a log line."""

    def __init__(self, line):
        super().__init__()
        self.line = line

    def emit(self, record):
        if record.getMessage().startswith(self.line):
            raise KeyboardInterrupt


def interrupted(line, config, run, home, fresh=False):
    logger, handler = logging.getLogger("training"), Interruption(line)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(config, run, home, fresh=fresh)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@pytest.fixture
def whole(run):
    return runs.read_finished(run)[0].weights_digest


# In the middle of the fit, and when all but the registration is done.
@pytest.mark.parametrize("line", ["epoch 3 of 3 (", "registered"])
def test_an_interrupted_run_goes_on_under_its_mlflow_run_to_the_same_bytes(line, run, whole, config, home, tracker):
    other = home / f"interrupted-{line.split()[0]}"
    interrupted(line, config, other, home)
    run_id = runs.read_record(other).mlflow_run_id
    assert tracker.client.get_run(run_id).info.status == "KILLED"
    train(config, other, home)
    record, _ = runs.read_finished(other)
    assert record.mlflow_run_id == run_id
    assert record.weights_digest == whole
    assert tracker.client.get_run(run_id).info.status == "FINISHED"
    assert {metric.step for metric in tracker.client.get_metric_history(run_id, "val_loss")} == {1, 2, 3}
    for name in ("metrics.json", "spec.json", "history.json", "reference.npz"):
        assert (other / name).read_bytes() == (run / name).read_bytes()


def test_a_run_interrupted_while_it_is_exported_goes_on_with_that(folder, home, tracker, whole):
    config, other = make_config(folder, backend="openvino"), home / "exported"
    interrupted("openvino answers as torch does", config, other, home)
    assert not (other / "spec.json").exists()
    train(config, other, home)
    record, metrics = runs.read_finished(other)
    assert record.weights_digest == whole
    assert metrics["backend"] == Spec.read(other / "spec.json").backend == runs.read_exports(other).backend == "openvino"
    assert (other / "model.xml").is_file()
    assert tracker.client.get_run(record.mlflow_run_id).data.tags["backend"] == "openvino"


def test_a_backend_that_is_not_installed_is_said_before_anything_is_fitted(folder, home, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match=r"backend openvino needs openvino, which is not installed; .*backend: auto"):
        train(make_config(folder, backend="openvino"), home / "wrong", home)
    assert not (home / "wrong").exists()


def test_a_fresh_run_starts_over_as_another_mlflow_run(whole, config, home):
    other = home / "again"
    interrupted("epoch 1 of 3 (", config, other, home)
    first = runs.read_record(other).mlflow_run_id
    (other / "notes.txt").write_text("mine")
    train(config, other, home, fresh=True)
    record, _ = runs.read_finished(other)
    assert record.mlflow_run_id != first
    assert record.weights_digest == whole
    assert (other / "notes.txt").read_text() == "mine"


def everything(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def finished(run, tmp_path):
    """A copy of the finished run, to be lost."""
    return shutil.copytree(run, tmp_path / "finished")


def test_a_fresh_run_that_cannot_begin_leaves_the_finished_one_as_it_was(finished, config, home, monkeypatch):
    before = everything(finished)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(TrackingUnreachable, match="no MLflow server answers"):
        train(config, finished, home, fresh=True)
    assert everything(finished) == before


def test_a_fresh_run_in_a_deleted_experiment_leaves_the_finished_one_as_it_was(finished, folder, home, tracker):
    config = make_config(folder, name="dropped")
    tracker.client.delete_experiment(tracker.experiment("dropped"))
    before = everything(finished)
    with pytest.raises(TrackingDeleted, match="mlflow experiments restore"):
        train(config, finished, home, fresh=True)
    assert everything(finished) == before


def test_a_fresh_run_that_is_killed_leaves_the_finished_one_whole_and_goes_on(finished, folder, home):
    other, before = make_config(folder, seed=7), everything(finished)
    interrupted("epoch 2 of 3 (", other, finished, home, fresh=True)
    assert {name: data for name, data in everything(finished).items() if name.parts[0] != ".fresh"} == before
    assert runs.is_finished(finished)
    begun = runs.read_record(finished / ".fresh")
    train(other, finished, home, fresh=True)
    record, _ = runs.read_finished(finished)
    assert (record.mlflow_run_id, record.config_digest) == (begun.mlflow_run_id, other.digest)
    assert not list(finished.glob(".fresh*"))


def test_mlflow_lists_name_command_and_data_set(run, tracker, folder):
    record = runs.read_record(run)
    known = tracker.client.get_run(record.mlflow_run_id)
    assert known.info.run_name == "leaves"
    assert known.data.tags["mlflow.source.name"] == "visor train"
    assert known.data.tags.get("mlflow.source.git.commit", "unknown") == record.git_commit
    [used] = known.inputs.dataset_inputs
    assert used.dataset.name == f"imagefolder: {folder.name}"
    assert used.dataset.digest == record.dataset_digest[:36]


def test_batches_of_one_are_refused_before_an_image_is_cached(folder, home):
    config = make_config(
        folder,
        model={"network": "resnet18"},
        fit={"phases": [{"epochs": 1, "learning_rate": 0.1, "unfreeze": "all"}], "batch_size": 1},
    )
    with pytest.raises(BatchTooSmall, match=r"set fit.batch_size to 2"):
        train(config, home / "one", home)
    assert not (home / "one").exists()


def test_a_decision_that_does_not_fit_the_labels_is_said_before_anything_is_fitted(folder, home):
    config = make_config(folder, decision={"positive": ["sick"]})
    with pytest.raises(ConfigError, match="sick"):
        train(config, home / "wrong", home)
    assert not (home / "wrong").exists()


def contents(run):
    return Contents(Path("leaves.mar"), "f" * 64, 1, Spec.read(run / "spec.json"), collect(run))


def test_registering_tags_the_runs_version_and_moves_the_alias(run, home, tracker):
    assert register(contents(run), "champion", home) == "models:/leaves@champion"
    version = tracker.client.get_model_version_by_alias("leaves", "champion")
    assert version.run_id == runs.read_record(run).mlflow_run_id
    assert version.tags["archive_digest"] == "f" * 64
    assert version.tags["archive_version"] == "1"
    assert "champion" in registered_aliases(home / "mlflow.db")[version.run_id]  # as `visor list` reads MLflow's tables


def test_registering_in_a_store_that_does_not_know_the_run_is_refused(run, tmp_path):
    with pytest.raises(RunError, match=r"has no version of 'leaves' made from MLflow run .*--home"):
        register(contents(run), "champion", tmp_path)


def test_several_processes_may_begin_to_track_in_a_new_home_at_the_same_time(tmp_path):
    code = (
        f"from pathlib import Path; from training.tracking import Tracker; Tracker.open(Path({str(tmp_path / 'home')!r})).reach()"
    )
    several = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(process.communicate()[1], process.returncode) for process in several] == [("", 0)] * 4
