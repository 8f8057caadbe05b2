"""Training from a config to a registered model: data → manifest → fit → evaluate → track → register."""

import logging
from pathlib import Path
from typing import Any

from archives.contents import SPEC
from handlers.arrays import UInt8
from handlers.errors import counted
from handlers.spec import DecodingRule
from training import runs
from training.config import BackendChoice, Config
from training.data.manifest import Manifest
from training.data.pixels import cache
from training.fitting.distributed import Group, joined
from training.fitting.fit import fit
from training.fitting.pretrained import make_model
from training.fitting.rehearsal import check_batches
from training.jobs import fresh as fresh_run
from training.jobs.checks import check_places, check_writable
from training.jobs.common import Data, about, begin, checkpointed, count_fitted, fitted_on, goes_on, prepare, previous
from training.jobs.evaluate import evaluate
from training.jobs.export import check_installed
from training.jobs.seen import Seen, describe
from training.tracking import CANDIDATE, MODEL, Tracker

logger = logging.getLogger(__name__)

CARDS = (runs.CARD, runs.CARD_PAGE)


def train(
    config: Config,
    run: Path,
    home: Path,
    fresh: bool = False,
    data: Data | None = None,
    backend: BackendChoice | None = None,
) -> Path:
    """Make, or finish, the run in the folder `run` and return it; a finished one is left as it is.

    `home` holds what runs share: built-in data sets, pixel caches, the embedded MLflow store. `fresh` starts over, and the
    run that is there stays as it is until the new one is finished. `data`:
    what `prepare` gave, where it was called before; `backend`: what serves, in the place of the config's. Started by torchrun,
    all processes fit and the first does the rest; the others return when the fit is done. Raises ConfigError, DataError (all of
    its kinds) and RunError (a folder that belongs to another config or data set, or another process that has ended).
    """
    with joined() as group:
        if group.leads:
            check_installed(backend or config.backend)
            config = config if fresh else runs.keep_rule(run, config)
            _lead(config, run, home, fresh, data, group, backend)
        else:
            _follow(config, home, group)
    return run


def _lead(
    config: Config, run: Path, home: Path, fresh: bool, data: Data | None, group: Group, backend: BackendChoice | None
) -> None:
    """All that there is to be done, as the only process or the first one."""
    check_writable(home)
    data = data or prepare(config, home)
    root, manifest = data.root, data.manifest
    tracker = Tracker.open(home)
    folder = fresh_run.place(run, fresh, lambda begun: goes_on(begun, config, manifest, "train"))
    before = previous(folder, config, manifest)
    if before and runs.is_finished(folder) and not fresh:
        logger.info("%s is finished, with this config and these images; `visor train --fresh` would make it again", run)
        group.share(None)
    else:
        check_batches(config, len(manifest.labels), count_fitted(manifest, config))
        check_places(config, manifest, folder, home, tracker, config.name)
        with tracker.running(config.name, before.mlflow_run_id if before else None, about(config, "train")) as run_id:
            record = begin(folder, config, data, tracker, run_id)
            record = _fit(folder, config, manifest, root, home, tracker, record, group)
            metrics = evaluate(folder, config, root, manifest, _pixels(config, root, manifest, home), backend, data.leaks)
            record = _finish(folder, config, tracker, record, metrics)
        runs.write_record(folder, record)  # from here on the run is finished
        fresh_run.finish(folder, run)
    for what, where in {"run": run, "report": run / runs.REPORT, "MLflow": tracker.look}.items():
        logger.info("%-8s %s", what, where)


def _follow(config: Config, home: Path, group: Group) -> None:
    """Fit along with the first process, unless it finds nothing to do."""
    told: tuple[Data, DecodingRule] | None = group.share(None)  # which comes when the images are ready
    if told is None:
        return
    data, rule = told
    config, manifest = config.decoded_by(rule), data.manifest
    pixels = _pixels(config, data.root, manifest, home)
    model = make_model(config, len(manifest.labels))
    fit(model, *fitted_on(pixels, manifest, config), config, group=group)


def _fit(
    run: Path, config: Config, manifest: Manifest, root: Path, home: Path, tracker: Tracker, record: runs.Record, group: Group
) -> runs.Record:
    """Fit, from the checkpoint on where there is one, and write weights and history; returns the record with their digest."""
    state, save = checkpointed(run, config, manifest, tracker, record.mlflow_run_id)
    model = make_model(config, len(manifest.labels))
    pixels = _pixels(config, root, manifest, home)
    group.share((Data(root.resolve(), manifest), config.preprocessing.decoding))
    train_images, val_images = fitted_on(pixels, manifest, config)
    logger.info("fitting %s on %s", config.model.network, counted(len(train_images), "image"))
    state = fit(model, train_images, val_images, config, state, save, group)
    runs.write_history(run, state.history)
    metadata = describe("train", config, manifest, Seen.of(manifest.samples_of("train"), manifest.samples_of("val")))
    record = record.model_copy(update={"weights_digest": runs.write_weights(run, model.state_dict(), metadata)})
    runs.write_record(run, record)
    return record


def _pixels(config: Config, root: Path, manifest: Manifest, home: Path) -> UInt8:
    return cache(root, manifest, config.preprocessing, config.limits, home / "cache")


def _finish(run: Path, config: Config, tracker: Tracker, record: runs.Record, metrics: dict[str, Any]) -> runs.Record:
    """Log what came out and register it as a candidate; returns the record with its version."""
    run_id = record.mlflow_run_id
    tracker.log_metrics(run_id, metrics)
    tracker.log_files(run_id, [run / name for name in (runs.METRICS, runs.HISTORY, runs.PREDICTIONS, runs.REPORT, *CARDS)])
    tracker.log_files(run_id, [page for page in (run / runs.DATA_PAGE,) if page.is_file()])  # which the others then link to
    tracker.log_files(run_id, sorted((run / runs.PLOTS).glob("*.png")), runs.PLOTS)
    tracker.log_files(run_id, [run / runs.WEIGHTS, run / SPEC], MODEL)
    tags = {name: str(getattr(record, name)) for name in ("weights_digest", "dataset_digest", "git_commit")}
    tags["backend"] = metrics["backend"]
    tracker.tag(run_id, {"backend": metrics["backend"]})
    version = tracker.register(config.name, run_id, tags, CANDIDATE)
    logger.info("registered %s version %s as @%s", config.name, version, CANDIDATE)
    return record.model_copy(update={"model_version": version})
