"""`visor search` as processes: killed and resumed to the study of an undisturbed one, and two at a time."""

import re
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import mlflow
import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from PIL import Image
from sklearn.datasets import load_digits

from tests.integration.running import BeginHome, Workspace
from tests.volume import SOAK
from training import config
from training.selection.search import by_slot

SPACE = """
parameters:
  fit.phases.0.learning_rate: {type: float, low: 0.0003, high: 0.03, log: true}
  fit.batch_size: {type: int, low: 8, high: 24, step: 8}
  fit.label_smoothing: {choices: [0.0, 0.05]}
"""
CONFIG = """
name: digits
data: {source: imagefolder, path: pictures}
preprocessing: {height: 8, width: 8, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}
model: {network: small_cnn}
fit: {phases: [{epochs: 3, learning_rate: 0.003, unfreeze: all}], threads: 1}
"""
LABELS, IMAGES = 3, 60
DONE = (TrialState.COMPLETE, TrialState.PRUNED)

TRIALS = 12 if SOAK else 6  # the pruner's first four, and some after; in `make soak` the sampler's first ten, too
SHARED = 20 if SOAK else 8  # enough that mostly the first process has not made all of them before the second one is up
STUDIES = 4  # of two processes, until both take part


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, begin_home: BeginHome) -> Workspace:
    """A workspace with a space to search."""
    found = Workspace(tmp_path_factory.mktemp("search"))
    begin_home(found.home)
    (found.path / "space.yaml").write_text(SPACE)
    (found.path / "config.yaml").write_text(CONFIG)
    digits = load_digits()
    for label in range(LABELS):
        (found.path / "pictures" / str(label)).mkdir(parents=True)
        for number, image in enumerate(digits.images[digits.target == label][:IMAGES]):
            picture = Image.fromarray((image * 15.9).astype(np.uint8))
            picture.save(found.path / "pictures" / str(label) / f"{number:02}.png")
    return found


def arguments(study: str, trials: int) -> list[str]:
    return ["search", "config.yaml", "space.yaml", "--study", study, "--trials", str(trials)]


def start(place: Workspace, study: str, trials: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "visor.cli", *arguments(study, trials)]
    return subprocess.Popen(command, cwd=place.path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def trials_of(place: Workspace, study: str) -> list[FrozenTrial]:
    storage = optuna.storages.RDBStorage(f"sqlite:///{place.home / 'studies.db'}")
    try:
        return optuna.load_study(study_name=study, storage=storage).get_trials()
    finally:
        storage.engine.dispose()


def tried(place: Workspace, study: str) -> dict[int, Any]:
    trials = by_slot(trials_of(place, study))
    return {slot: (trial.state.name, trial.value, trial.params) for slot, trial in sorted(trials.items())}


@pytest.mark.timeout(600)
def test_a_killed_study_is_the_undisturbed_one_and_repeats_no_finished_trial(place: Workspace) -> None:
    said = place.visor(*arguments("calm", TRIALS))
    assert said.returncode == 0, said.stderr
    assert re.search(rf"^[0-9]+ of {TRIALS} trials are made, about [0-9]+ (s|min) left$", said.stderr, re.MULTILINE)
    best = config.load(place.path / said.stdout.splitlines()[-1])
    calm = tried(place, "calm")
    assert list(calm) == list(range(TRIALS))
    values = {slot: value for slot, (state, value, _) in calm.items() if state == "COMPLETE"}
    assert best.fit.phases[0].learning_rate == calm[min(values, key=lambda slot: values[slot])][2]["fit.phases.0.learning_rate"]

    process, deadline, before = start(place, "killed", TRIALS), time.monotonic() + 250, list[FrozenTrial]()
    while not any(trial.state == TrialState.RUNNING and trial.params for trial in before[3:]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
        if "killed" in optuna.get_all_study_names(f"sqlite:///{place.home / 'studies.db'}"):
            before = trials_of(place, "killed")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = trials_of(place, "killed")
    done = place.visor(*arguments("killed", TRIALS), timeout=400)
    assert done.returncode == 0, done.stderr
    assert f"\n{TRIALS} of {TRIALS} trials are made\n" in done.stderr
    assert done.stderr.count("was interrupted and is tried again") == sum(trial.state == TrialState.RUNNING for trial in before)
    assert tried(place, "killed") == calm
    after = trials_of(place, "killed")
    finished = [trial for trial in before if trial.state in DONE]
    assert len(finished) >= 3
    assert [(one.number, one.datetime_complete) for one in finished] == [
        (one.number, one.datetime_complete) for one in after if one.number in {trial.number for trial in finished}
    ]
    client = mlflow.MlflowClient(f"sqlite:///{place.home / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("digits-search").experiment_id], "tags.study = 'killed'")
    assert Counter(int(run.data.tags["trial"]) for run in runs) == Counter(range(TRIALS))
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.metrics.get("objective") for run in runs if run.data.tags["outcome"] == "complete"} == set(values.values())


def test_two_processes_search_one_study(place: Workspace) -> None:
    """On a busy machine one process may have made all trials before the other one is up: that study shows nothing."""
    for number in range(STUDIES):
        study = f"shared-{number}"
        processes = [start(place, study, SHARED) for _ in range(2)]
        for process in processes:
            _, said = process.communicate(timeout=280)
            assert process.returncode == 0, said
        trials = trials_of(place, study)
        assert sorted(by_slot(trials)) == list(range(SHARED))
        assert {trial.state for trial in by_slot(trials).values()} <= set(DONE)
        assert len({tuple(sorted(trial.params.items())) for trial in by_slot(trials).values()}) == SHARED
        if len({tuple(trial.user_attrs["process"]) for trial in trials}) == 2:
            break
    else:
        pytest.fail(f"one process made all trials of each of {STUDIES} studies")

    done = place.visor(*arguments(study, SHARED), "--set", "seed=1")
    assert (done.returncode, "study.invalid" in done.stderr, "another config" in done.stderr) == (1, True, True)
    done = place.visor(*arguments(study, SHARED), "--storage", "nothing://x:secret@y")
    assert (done.returncode, "study.invalid" in done.stderr, "secret" in done.stderr) == (1, True, False)
