"""A search's space, seeds and slots."""

import json
import math
from datetime import datetime

import optuna
import pytest
from optuna.trial import TrialState, create_trial
from pydantic import ValidationError

from tests.unit.configs import make_config
from training.errors import ConfigError
from training.selection.search import Choices, Range, Space, best_of, by_slot, slot_of, unfinished, with_values

CONFIG = make_config(fit={"phases": [{"epochs": 2, "learning_rate": 0.01}, {"epochs": 3, "learning_rate": 0.001}]})
SPACE = Space.model_validate(
    {
        "parameters": {
            "fit.phases.0.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
            "fit.batch_size": {"type": "int", "low": 8, "high": 64, "step": 8},
            "model.dropout": {"type": "float", "low": 0, "high": 0.5},
            "fit.class_weights": {"choices": ["none", "balanced"]},
            "augment.rotate_degrees": {"choices": [0, 10]},
        }
    }
)


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_values_go_to_their_keys_and_into_lists():
    found = with_values(CONFIG, {"fit.phases.1.learning_rate": 0.5, "model.dropout": 0.0, "augment.flip_horizontal": True})
    assert [phase.learning_rate for phase in found.fit.phases] == [0.01, 0.5]
    assert (found.model.dropout, found.augment.flip_horizontal) == (0.0, True)
    assert with_values(CONFIG, {}) == CONFIG
    assert with_values(CONFIG.decoded_by(1), {}) == CONFIG.decoded_by(1)
    assert with_values(CONFIG, {"fit.phases": [{"epochs": 1, "learning_rate": 1}]}).fit.phases[0].epochs == 1


@pytest.mark.parametrize(
    "key", ["fit.lerning_rate", "fit.phases.2.epochs", "fit.phases.x.epochs", "fit.batch_size.x", "nothing", "", "fit.phases.0.a"]
)
def test_a_key_that_there_is_not_is_named(key):
    with pytest.raises(ConfigError, match=f"{key}: no such key"):
        with_values(CONFIG, {key: 1})


def test_a_value_that_cannot_be_is_named():
    with pytest.raises(ConfigError, match=r"model\.dropout"):
        with_values(CONFIG, {"model.dropout": 2})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("parameters: {}", "parameters"),
        ("parameters: {fit.batch_size: {type: int, low: 8, high: 8}}", "low must be below high"),
        ("parameters: {fit.batch_size: {type: int, low: 8, high: 9.5}}", "whole numbers"),
        ("parameters: {model.dropout: {type: float, low: 0, high: 1, log: true}}", "log needs a low above 0"),
        ("parameters: {model.dropout: {choices: [1]}}", "choices"),
        ("parameters: {data.seed: {type: int, low: 0, high: 9}}", "data.seed cannot be searched"),
        ("objective: test_accuracy\nparameters: {seed: {type: int, low: 0, high: 9}}", "objective"),
        ("seed: 1", "seed"),
        ("- a", "must hold a mapping"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_space_that_is_none_is_said(tmp_path, text, words):
    (tmp_path / "space.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        Space.read(tmp_path / "space.yaml")


def test_ends_and_choices_are_all_examples():
    assert {"fit.batch_size": 8} in SPACE.examples()
    assert {"fit.batch_size": 64} in SPACE.examples()
    assert len(SPACE.examples()) == 10
    assert Range(type="int", low=1, high=3).ends() == [1, 3]
    with pytest.raises(ValidationError):
        Range(type="int", low=math.nan, high=1)


def values_of(study, trials=12, stop_at=()):
    """All slots' values by a study whose objective is arithmetic; at the numbers `stop_at` a trial is killed and retried."""
    found = {}

    def objective(trial):
        made = study.get_trials(deepcopy=False)
        slot = slot_of(made, trial.number)
        values = SPACE.suggest(trial, CONFIG.seed, slot)
        if trial.number in stop_at:
            raise KeyboardInterrupt
        found[slot] = values
        return abs(math.log10(values["fit.phases.0.learning_rate"]) + 2.5) + values["model.dropout"]

    while len([trial for trial in by_slot(study.get_trials()).values() if trial.state == TrialState.COMPLETE]) < trials:
        try:
            study.optimize(objective, n_trials=1)
        except KeyboardInterrupt:
            for trial in unfinished(study.get_trials()):
                optuna.storages.RetryHeartbeatStaleTrialCallback()(study, trial)
    return found


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_killed_study_tries_what_an_undisturbed_one_tries():
    undisturbed = values_of(optuna.create_study())
    study = optuna.create_study()
    assert values_of(study, stop_at=(0, 4, 5, 13)) == undisturbed
    assert len(study.trials) == 16
    assert len({json.dumps(values) for values in undisturbed.values()}) == 12
    assert all(8 <= values["fit.batch_size"] <= 64 and values["fit.batch_size"] % 8 == 0 for values in undisturbed.values())
    assert {values["fit.class_weights"] for values in undisturbed.values()} == {"none", "balanced"}
    assert {type(values["augment.rotate_degrees"]) for values in undisturbed.values()} == {int}


def make(number, state, value=None, user=None, system=None):
    trial = create_trial(state=state, value=value, user_attrs=user or {}, system_attrs=system or {})
    trial.number = number
    trial.datetime_start = datetime(2026, 1, 1)
    return trial


def test_slots_by_hand():
    trials = [
        make(0, TrialState.COMPLETE, 3.0),
        make(1, TrialState.FAIL),  # killed
        make(2, TrialState.FAIL, user={"error": "run.invalid: ..."}),
        make(3, TrialState.COMPLETE, 1.0, system={"failed_trial": 1}),
        make(4, TrialState.FAIL, user={"beyond": True}),
        make(5, TrialState.PRUNED),
        make(6, TrialState.FAIL),
        make(7, TrialState.RUNNING, system={"failed_trial": 6}),
        make(8, TrialState.COMPLETE, 1.0),
    ]
    assert [slot_of(trials, number) for number in range(9)] == [0, 1, 2, 1, 3, 3, 4, 4, 5]
    assert {slot: trial.number for slot, trial in by_slot(trials).items()} == {0: 0, 1: 3, 2: 2, 3: 5, 4: 7, 5: 8}
    assert [trial.number for trial in unfinished(trials)] == [7]
    assert [trial.number for trial in unfinished(trials[:7])] == [6]
    assert best_of(trials, SPACE).number == 3  # the first of equals
    assert best_of(trials, SPACE.model_copy(update={"objective": "val_accuracy"})).number == 0
    assert best_of(trials[:0], SPACE) is None


def test_a_choice_may_be_a_list():
    phases = [[{"epochs": 1, "learning_rate": 0.1}], [{"epochs": 2, "learning_rate": 0.1}]]
    trial = optuna.trial.FixedTrial({"fit.phases": json.dumps(phases[1])})
    assert Choices(choices=phases).suggest(trial, "fit.phases") == phases[1]
