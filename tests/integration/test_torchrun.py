"""Of torchrun's processes one writes and reports, and none outlives another."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from tests.integration.running import OWN, ROOT, STOP_TIMEOUT_S, BeginHome

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]


def write_leaves(root: Path) -> None:
    """Noise, redder for `ill` and greener for `well`."""
    rng = np.random.default_rng(0)
    for channel, label in enumerate(("ill", "well")):
        (root / label).mkdir(parents=True)
        for number in range(40):
            pixels = rng.integers(0, 200, (16, 16, 3), dtype=np.uint8)
            pixels[..., channel] += 50
            Image.fromarray(pixels).save(root / label / f"{number}.png")


CONFIG = """
name: leaves
data: {source: imagefolder, path: leaves}
preprocessing: {height: 16, width: 16, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}
model: {network: small_cnn}
backend: torch
fit: {phases: [{epochs: 400, learning_rate: 0.001, unfreeze: all}], batch_size: 8, threads: 1, patience: 400}
decision: {positive: [ill]}
"""


def of_rank(parent: int, rank: int) -> psutil.Process:
    children = psutil.Process(parent).children(recursive=True)
    return next(child for child in children if child.environ().get("RANK") == str(rank))


@pytest.mark.timeout(900)
def test_a_process_that_dies_ends_all_and_the_same_command_goes_on(tmp_path: Path, begin_home: BeginHome) -> None:
    begin_home(tmp_path / "home")
    write_leaves(tmp_path / "leaves")
    (tmp_path / "leaves.yaml").write_text(CONFIG)
    command = [*TORCHRUN, "-m", "visor.cli", "train", "leaves.yaml", "--home", "home"]
    environment = {key: value for key, value in os.environ.items() if key not in OWN} | {"PYTHONPATH": str(ROOT)}
    started = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    run, deadline = tmp_path / "home/leaves", time.monotonic() + 600
    while not (run / "checkpoint.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    family = psutil.Process(started.pid).children(recursive=True)
    of_rank(started.pid, 1).send_signal(signal.SIGKILL)
    _, said = started.communicate(timeout=STOP_TIMEOUT_S)
    assert started.returncode != 0
    assert not [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    # Whichever is first: the connection that breaks, or torchrun's signal.
    assert "visor: run.invalid: another of torchrun's 2 processes has ended" in said or "visor: interrupted" in said

    saved = torch.load(run / "checkpoint.pt", weights_only=True)
    state = saved["state"]
    assert 0 < len(state["history"]) < 400
    # What is left of the phase is cut short: a patience that is used up ends it, and the run is evaluated and registered.
    state["stale"] = 400
    torch.save(saved, run / "checkpoint.pt")
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "home/leaves\n"
    assert done.stderr.count(f"going on after epoch {len(state['history'])}") == 1
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'home/mlflow.db'}")
    (experiment,) = [one for one in client.search_experiments() if one.name == "leaves"]
    (tracked,) = client.search_runs([experiment.experiment_id])
    assert tracked.info.status == "FINISHED"
    steps = {metric.step for metric in client.get_metric_history(tracked.info.run_id, "val_loss")}
    assert steps >= set(range(1, len(state["history"]) + 1))
    assert len(json.loads((run / "history.json").read_text())) == len(state["history"])
