"""A study: trials of a config's values, one after the other here and at the same time elsewhere, the best of them as YAML."""

import contextlib
import logging
import os
import socket
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import psutil
import yaml
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from archives import files
from handlers.errors import VisorError
from training import names
from training.config import Config
from training.data.pixels import cache
from training.errors import StudyError
from training.fitting.checkpoint import State
from training.fitting.fit import fit
from training.fitting.pretrained import make_model
from training.fitting.rehearsal import check_batches
from training.jobs.checks import check_places, check_writable
from training.jobs.common import Data, about, count_fitted, fitted_on, prepare
from training.progress import Remaining
from training.runs import exclusive
from training.selection.search import BEYOND, Space, best_of, by_slot, slot_of, unfinished, with_values
from training.tracking import Tracker
from training.trouble import disk_error

logger = logging.getLogger(__name__)

HEARTBEAT_S, SILENT_S = 20, 120
"""How often a trial says that it lives, and after how long without a word another machine's is taken for dead."""
FIRST, WARM_UP = 4, 1
"""Trials, and epochs of each, that are never pruned."""
LOCK_WAIT_S, INTRODUCTION_S = 60, 10


@dataclass(frozen=True)
class Result:
    """The result of a search: trials by slot, the best one (None where none is complete), and the YAML file of its config."""

    trials: dict[int, FrozenTrial]
    best: FrozenTrial | None
    config: Path | None


@dataclass(frozen=True)
class _Search:
    """What every trial needs."""

    config: Config
    space: Space
    data: Data
    home: Path
    study: optuna.Study
    tracker: Tracker
    trials: int


def search(config: Config, space: Space, name: str, trials: int, home: Path, storage: str | None = None) -> Result:
    """Make `trials` trials of the study `name`, or those that it lacks, and write the best one's config below `home`.

    `storage`: an SQLAlchemy address; a SQLite file in `home` by default. Several processes may search the same study. What
    a killed one left is tried again with the same values; a trial that fails with an error of visor's counts as made.
    Raises ConfigError, DataError, RunError (MLflow), StudyError (another config, space or data set; no such storage).
    """
    for example in space.examples():
        with_values(config, example)  # a value that cannot be is said now, and not after the first trials
    check_writable(home)
    data = prepare(config, home)
    for example in ({}, *space.examples()):
        check_batches(with_values(config, example), len(data.manifest.labels), count_fitted(data.manifest, config))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with _reported(), warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
        with exclusive(home / ".studies.lock"):  # who comes second finds tables and experiment made
            tracker = Tracker.open(home)
            tracker.experiment(f"{config.name}-search")
            study = _open(name, storage or f"sqlite:///{(home / 'studies.db').resolve()}", space)
            check_places(config, data.manifest, home, home, tracker, f"{config.name}-search")
            if study.user_attrs.get("config") == config.decoded_by(1).digest:
                config = config.decoded_by(1)  # a study from before there was a second rule ends by the first
            _claim(study, "config", config.digest, config.model_dump(mode="json"))
            _claim(study, "space", space.digest, space.model_dump(mode="json"))
            _claim(study, "data", data.manifest.digest, {})
            _retry_what_was_killed(study)
        work = _Search(config, space, data, home, study, tracker, trials)
        made, remaining = _made(study), Remaining()
        while _has_more(study, trials):
            study.optimize(lambda trial: _try(trial, work), n_trials=1, catch=(VisorError,))
            before, made = made, _made(study)
            remaining.count(max(0, made - before))  # those of other processes, too, as they make the rest as well
            logger.info("%d of %d trials are made%s", min(made, trials), trials, remaining.words(trials - made))
        found = study.get_trials(deepcopy=False)
        best = best_of(found, space)
        return Result(by_slot(found), best, _write(work, best) if best else None)


def _open(name: str, url: str, space: Space) -> optuna.Study:
    arguments = {"connect_args": {"timeout": LOCK_WAIT_S}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    try:
        storage = RDBStorage(
            url,
            engine_kwargs=arguments,
            heartbeat_interval=HEARTBEAT_S,
            grace_period=SILENT_S,
            heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
        )
    except ImportError as err:
        raise StudyError(f"--storage needs a driver that is not installed: {err.__cause__ or err}") from err
    pruner = optuna.pruners.MedianPruner(FIRST, WARM_UP) if space.prune else optuna.pruners.NopPruner()
    return optuna.create_study(storage=storage, study_name=name, direction=space.direction, pruner=pruner, load_if_exists=True)


def _claim(study: optuna.Study, what: str, digest: str, values: dict[str, Any]) -> None:
    """Say what the study is made of, or find that it is made of the same. Raises StudyError, with the keys that differ."""
    found = study.user_attrs.get(what)
    if found is None:
        study.set_user_attr(what, digest)
        study.set_user_attr(f"{what} values", values)
    elif found != digest:
        keys = names.describe_differing(study.user_attrs.get(f"{what} values") or {}, values)
        differ = keys or f"digest {found[:12]}, now {digest[:12]}"
        raise StudyError(
            f"the study {study.study_name!r} was begun with another {what} ({differ}), and its trials cannot be compared with "
            "new ones; choose another --study"
        )


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    """The storage's errors as one that does not tell its password."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as err:
        if found := disk_error(f"{err} {err.__cause__}", "the studies' storage"):
            raise found from err
        raise StudyError(
            f"the studies' storage refuses ({type(err.__cause__ or err).__name__}); check --storage, or without it whether "
            f"studies.db in --home can be written"
        ) from err


def _retry_what_was_killed(study: optuna.Study) -> None:
    """Queue the trials that this machine's processes left behind, with the values that they had."""
    made = study.get_trials(deepcopy=False)
    for trial in unfinished(made):
        if trial.state == TrialState.RUNNING:
            if _lives(trial):
                continue
            study.tell(trial.number, state=TrialState.FAIL)
        logger.info("trial %d was interrupted and is tried again", slot_of(made, trial.number) + 1)
        RetryHeartbeatStaleTrialCallback()(study, trial)


def _lives(trial: FrozenTrial) -> bool:
    """Whether a trial's process is still there; on another machine it is until its heartbeat is missed."""
    if "process" not in trial.user_attrs:  # killed before it could say who it is, or about to
        return trial.datetime_start is None or time.time() - trial.datetime_start.timestamp() < INTRODUCTION_S
    host, pid, begun = trial.user_attrs["process"]
    if host != socket.gethostname():
        return True
    try:
        return bool(psutil.Process(pid).create_time() == begun)
    except psutil.NoSuchProcess:
        return False


def _has_more(study: optuna.Study, trials: int) -> bool:
    made = study.get_trials(deepcopy=False)
    return len(by_slot(made)) < trials or any(trial.state == TrialState.WAITING for trial in made)


def _made(study: optuna.Study) -> int:
    """Count the slots whose trial has ended."""
    return sum(trial.state.is_finished() for trial in by_slot(study.get_trials(deepcopy=False)).values())


def _try(trial: optuna.Trial, work: _Search) -> float:
    """One trial: fit with its values, and say its objective after each epoch. Raises TrialPruned."""
    trial.set_user_attr("process", [socket.gethostname(), os.getpid(), psutil.Process().create_time()])
    slot = slot_of(work.study.get_trials(deepcopy=False), trial.number)
    if slot >= work.trials:  # another process took the last slot a moment ago
        trial.set_user_attr(BEYOND, True)
        raise StudyError("all slots are taken")
    values = work.space.suggest(trial, work.config.seed, slot)
    shown = ", ".join(f"{key} {_short(value)}" for key, value in values.items())
    logger.info("trial %d of %d: %s", slot + 1, work.trials, shown)
    known = trial.user_attrs.get("mlflow_run_id")
    experiment = f"{work.config.name}-search"
    named = about(work.config, "search", f"{work.study.study_name}-{slot + 1}")
    with work.tracker.running(experiment, known, named) as run_id:
        trial.set_user_attr("mlflow_run_id", run_id)
        work.tracker.tag(run_id, {"study": work.study.study_name, "trial": str(slot), "objective": work.space.objective})
        try:
            value = _fit(trial, with_values(work.config, values), work, run_id)
        except optuna.TrialPruned:
            work.tracker.tag(run_id, {"outcome": "pruned"})
        except VisorError as err:
            trial.set_user_attr("error", str(err))
            raise
        else:
            work.tracker.tag(run_id, {"outcome": "complete"})
            return value
    raise optuna.TrialPruned


def _fit(trial: optuna.Trial, config: Config, work: _Search, run_id: str) -> float:
    """Fit, and return the objective of the epoch with the least validation loss."""
    work.tracker.log_parameters(run_id, config.model_dump(mode="json"))
    manifest = work.data.manifest
    pixels = cache(work.data.root, manifest, config.preprocessing, config.limits, work.home / "cache")
    told = 0

    def tell(state: State) -> None:
        nonlocal told
        for epoch in state.history[told:]:
            work.tracker.log_metrics(run_id, epoch, step=int(epoch["epoch"]))
            trial.report(epoch[work.space.objective], int(epoch["epoch"]))
        if told < len(state.history) and trial.should_prune():
            logger.info("pruned after epoch %d", len(state.history))
            raise optuna.TrialPruned
        told = len(state.history)

    check_batches(config, len(manifest.labels), count_fitted(manifest, config))
    model = make_model(config, len(manifest.labels))
    state = fit(model, *fitted_on(pixels, manifest, config), config, save=tell)
    best = min(state.history, key=lambda epoch: epoch["val_loss"])
    work.tracker.log_metrics(run_id, {"objective": best[work.space.objective]})
    return float(best[work.space.objective])


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _write(work: _Search, best: FrozenTrial) -> Path:
    """The best trial's config with every value, as `visor train` takes it."""
    slot = slot_of(work.study.get_trials(deepcopy=False), best.number)
    values = {key: part.suggest(optuna.trial.FixedTrial(best.params), key) for key, part in work.space.parameters.items()}
    config = with_values(work.config, values)
    path = work.home / f"{work.study.study_name}-best.yaml"
    head = (
        f"# Study {work.study.study_name}, trial {slot + 1}: {work.space.objective} {best.value:.6f} on the validation split.\n"
    )
    with files.replacing(path) as temporary:
        temporary.write_text(head + yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
    return path
