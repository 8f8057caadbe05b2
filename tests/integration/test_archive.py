"""An archive is there whole or not at all, and decides as what was trained."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from archives.contents import unpacked
from handlers.backends import load_backend
from handlers.predictor import Answer, Item, predict
from handlers.spec import Spec
from tests.integration.running import Workspace
from training import runs


def test_a_killed_archive_leaves_no_version_and_the_next_one_is_whole(workspace: Workspace, tmp_path: Path) -> None:
    store = tmp_path / "store"
    command = [sys.executable, "-m", "visor.cli", "archive", "runs/digits", "--store", str(store)]
    process = subprocess.Popen(command, cwd=workspace.path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(store.glob("digits/.building-*/staged")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (store / "digits/1").exists()
    path = workspace.path / workspace.ok("archive", "runs/digits", "--store", str(store)).strip()
    assert path == store / "digits/1/digits.mar"
    assert "signature  holds" in workspace.ok("inspect", str(path))


def test_an_unfinished_run_is_not_archived(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/run.json").write_bytes((workspace.home / "digits/run.json").read_bytes())
    done = workspace.visor("archive", str(tmp_path / "run"), "--store", str(tmp_path / "store"))
    assert done.returncode == 1
    assert "run.invalid" in done.stderr
    assert not (tmp_path / "store").exists()


def test_the_archive_decides_as_the_trained_network_on_the_whole_test_split(workspace: Workspace, tmp_path: Path) -> None:
    run = shutil.copytree(workspace.home / "digits", tmp_path / "digits-on-torch")  # which is evaluated again on that backend
    workspace.ok("archive", str(run), "--backend", "torch", "--store", str(tmp_path))
    root, trained = workspace.path / runs.read_record(run).dataset_root, np.load(run / runs.PREDICTIONS)
    with unpacked(tmp_path / "digits/1/digits.mar") as folder:
        spec = Spec.read(folder / runs.SPEC)
        assert spec.backend == "torch"
        backend = load_backend(folder, spec)
        served = [predict([Item((root / path).read_bytes())], spec, backend)[0] for path in trained["test_paths"]]

    logits = trained["test_logits"].astype(np.float64) / spec.temperature
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    answers = [answer for answer in served if isinstance(answer, Answer)]
    assert len(answers) == len(expected) > 200
    assert [answer.label for answer in answers] == [spec.labels[best] for best in logits.argmax(axis=1)]
    assert np.abs([answer.probabilities for answer in answers] - expected).max() < 1e-5
    sure = expected.max(axis=1) >= spec.decision.threshold  # no label of the digits is the bad one: what is unsure is reviewed
    assert [answer.decision for answer in answers] == ["pass" if one else "review" for one in sure]
    assert 0 < sure.sum() < len(sure)
