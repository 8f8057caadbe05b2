"""`visor pretrain` as people use it: killed, resumed, looked up in MLflow, and started from."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.torch import load_file

from archives import files
from archives.lineage import Pretrained
from tests.integration.running import OWN, STOP_TIMEOUT_S, BeginHome, Workspace
from training import config as configs
from training import runs
from training.errors import RunError
from training.fitting.pretrained import make_model
from training.jobs.pretrain import pretrain
from training.jobs.train import train

SPLITS = {"train": 12, "val": 4, "calibration": 4, "test": 4}
EPOCHS = 4


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, begin_home: BeginHome) -> Workspace:
    """A folder of images in given splits, and a config for them."""
    place = Workspace(tmp_path_factory.mktemp("pretrain"))
    begin_home(place.home)
    write_images(place.path / "images", seed=0)
    (place.path / "leaves.yaml").write_text(yaml.safe_dump(settings(place.path / "images")))
    return place


def settings(images: Path) -> dict[str, object]:
    return {
        "name": "leaves",
        "data": {"source": "imagefolder", "path": str(images), "labelled_fraction": 0.5},
        "preprocessing": {"height": 16, "width": 16, "mean": [0.5] * 3, "std": [0.5] * 3},
        "model": {"network": "small_cnn"},
        "backend": "torch",
        "fit": {"phases": [{"epochs": 1, "learning_rate": 0.01, "unfreeze": "all"}], "batch_size": 8, "threads": 1},
        "pretrain": {"epochs": EPOCHS, "warmup_epochs": 1, "batch_size": 12, "probe_every": 3},
    }


def write_images(root: Path, seed: int, train_seed: int = 0) -> None:
    """Noise, redder for `ill` and greener for `well`; the training split's of another seed."""
    for split, count in SPLITS.items():
        rng = np.random.default_rng([train_seed if split == "train" else seed, len(split)])
        for channel, label in enumerate(("ill", "well")):
            (root / split / label).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 200, (16, 16, 3), dtype=np.uint8)
                pixels[..., channel] += 50
                Image.fromarray(pixels).save(root / split / label / f"{number}.png")


@pytest.fixture(scope="module")
def whole(place: Workspace) -> Path:
    """The run of a pretraining that nothing disturbed."""
    config = configs.load(place.path / "leaves.yaml")
    return pretrain(config, place.home / "whole", place.home).parent


def test_a_killed_pretraining_goes_on_to_the_same_backbone(place: Workspace, whole: Path) -> None:
    run = place.home / "leaves-pretrain"
    command = [sys.executable, "-m", "visor.cli", "pretrain", "leaves.yaml"]
    env = {key: value for key, value in os.environ.items() if key not in OWN}
    process = subprocess.Popen(command, cwd=place.path, env=env, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (run / "checkpoint.pt").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    _, said = process.communicate(timeout=STOP_TIMEOUT_S)
    assert process.returncode == -signal.SIGKILL, said
    assert not (run / "backbone.safetensors").exists(), "killed too late to show anything"
    done = place.visor("pretrain", "leaves.yaml")
    assert done.returncode == 0, done.stderr
    assert "going on after epoch" in done.stderr
    assert done.stdout.strip() == str(Path("runs/leaves-pretrain/backbone.safetensors"))
    assert (run / "backbone.safetensors").read_bytes() == (whole / "backbone.safetensors").read_bytes()
    assert (run / "history.json").read_bytes() == (whole / "history.json").read_bytes()


def test_a_finished_one_is_left_as_it_is(place: Workspace, whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    assert pretrain(runs.read_config(whole), whole, place.home) == whole / "backbone.safetensors"
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_mlflow_has_the_loss_of_each_epoch_and_the_probes(place: Workspace, whole: Path) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{place.home / 'mlflow.db'}")
    record = runs.read_record(whole)
    history = json.loads((whole / "history.json").read_text())
    logged = {
        name: {metric.step: metric.value for metric in client.get_metric_history(record.mlflow_run_id, name)}
        for name in ("loss", "probe_accuracy")
    }
    assert logged["loss"] == {epoch["epoch"]: epoch["loss"] for epoch in history}
    assert list(logged["loss"]) == [1, 2, 3, 4]
    assert logged["probe_accuracy"] == {epoch["epoch"]: epoch["probe_accuracy"] for epoch in history if "probe_accuracy" in epoch}
    assert list(logged["probe_accuracy"]) == [3, 4]
    known = client.get_run(record.mlflow_run_id)
    assert known.info.status == "FINISHED"
    assert known.data.params["pretrain.temperature"] == "0.5"
    assert known.data.tags["weights_digest"] == record.weights_digest == files.sha256(whole / "backbone.safetensors")
    assert client.get_experiment(known.info.experiment_id).name == "leaves-pretrain"
    assert [file.path for file in client.list_artifacts(record.mlflow_run_id, "model")] == ["model/backbone.safetensors"]


def test_only_the_training_splits_images_are_learnt_from(place: Workspace, whole: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "others", seed=1)
    config = configs.Config.model_validate(settings(tmp_path / "others"))
    backbone = pretrain(config, tmp_path / "run", place.home)
    same, learnt = load_file(whole / "backbone.safetensors"), load_file(backbone)
    assert all((learnt[name] == value).all() for name, value in same.items())
    write_images(tmp_path / "changed", seed=0, train_seed=1)
    config = configs.Config.model_validate(settings(tmp_path / "changed"))
    other = load_file(pretrain(config, tmp_path / "other", place.home))
    assert not (other["stages.0.0.weight"] == same["stages.0.0.weight"]).all()


def test_training_starts_from_it_and_says_so(place: Workspace, whole: Path, tmp_path: Path) -> None:
    backbone = whole / "backbone.safetensors"
    config = configs.load(place.path / "leaves.yaml", [f"model.pretrained={backbone}"])
    start = make_model(config, 2).state_dict()
    assert all((start[name] == value).all() for name, value in load_file(backbone).items())
    run = train(config, tmp_path / "run", place.home)
    assert runs.read_record(run).pretrained == Pretrained(
        weights_digest=files.sha256(backbone),
        method="simclr",
        config_digest=runs.read_config(whole).digest,
        dataset_digest=runs.read_record(whole).dataset_digest,
    )


def test_a_training_does_not_go_on_in_a_pretrainings_folder(place: Workspace, whole: Path) -> None:
    with pytest.raises(RunError, match=r"was made by `visor pretrain`, and this is `visor train`; .*--out"):
        train(runs.read_config(whole), whole, place.home)
