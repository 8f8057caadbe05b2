"""A training that is told to stop stops in order, and the same command ends with the weights of an undisturbed one."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow

from tests.integration.running import QUICK, ROOT, STOP_TIMEOUT_S, Workspace


def test_a_stopped_training_goes_on_to_the_same_weights(workspace: Workspace, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["train", str(ROOT / "training/configs/digits.yaml"), *QUICK, "--set", "backend=torch", "--out", str(run)]
    command = [sys.executable, "-m", "visor.cli", *arguments]
    with subprocess.Popen(command, cwd=workspace.path, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not (run / "checkpoint.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)  # Ctrl-C ends in the same place: tests/unit/visor/test_cli.py
        try:
            _, said = process.communicate(timeout=STOP_TIMEOUT_S)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "interrupted; the same command goes on from here" in said
    assert "Traceback" not in said
    record = json.loads((run / "run.json").read_text())
    client = mlflow.MlflowClient(f"sqlite:///{workspace.home / 'mlflow.db'}")
    assert client.get_run(record["mlflow_run_id"]).info.status == "KILLED"
    assert "going on after epoch" in workspace.visor(*arguments).stderr
    assert client.get_run(record["mlflow_run_id"]).info.status == "FINISHED"
    for name in ("history.json", "manifest.json", "model.safetensors"):
        assert (run / name).read_bytes() == (workspace.home / "digits" / name).read_bytes()
