"""Training from a config to a registered model: data → manifest → fit → evaluate → track → register."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training import checkpoint, lineage, runs
from training.checkpoint import State
from training.config import Config
from training.data import manifest as manifests
from training.data import sources
from training.data.duplicates import check_leaks
from training.data.manifest import Manifest, Split
from training.data.pixels import cache
from training.data.splits import stratified
from training.distributed import Group, joined
from training.fit import Images, fit
from training.jobs.evaluate import check, evaluate
from training.pretrained import make_model, origin
from training.tracking import MODEL, Tracker

logger = logging.getLogger(__name__)

CANDIDATE = "candidate"
"""The alias of the newest trained version; `visor register` moves others."""
CARDS = (runs.CARD, runs.CARD_PAGE)


@dataclass(frozen=True)
class Data:
    """A data set that is ready to be trained on."""

    root: Path
    manifest: Manifest


def prepare(config: Config, home: Path) -> Data:
    """Write what is built in, list the images and look for leaks. Raises ConfigError and DataError (all of its kinds)."""
    root = sources.prepare(config.data, home)
    manifest = manifests.build(root, config.data)
    check(manifest, config.decision)  # what does not fit is said now, not after the fit
    check_leaks(root, manifest, config, home)
    return Data(root, manifest)


def train(config: Config, run: Path, home: Path, fresh: bool = False, data: Data | None = None) -> Path:
    """Make, or finish, the run in the folder `run` and return it; a finished one is left as it is.

    `home` holds what runs share: built-in data sets, pixel caches, the embedded MLflow store. `fresh` starts over. `data`:
    what `prepare` gave, where it was called before. Started by torchrun, all processes fit and the first does the rest; the
    others return when the fit is done. Raises ConfigError, DataError (all of its kinds) and RunError (a folder that belongs to
    another config or data set, or another process that has ended).
    """
    with joined() as group:
        if group.leads:
            _lead(config, run, home, fresh, data, group)
        else:
            _follow(config, home, group)
    return run


def _lead(config: Config, run: Path, home: Path, fresh: bool, data: Data | None, group: Group) -> None:
    """All that there is to be done, as the only process or the first one."""
    data = data or prepare(config, home)
    root, manifest = data.root, data.manifest
    tracker = Tracker.open(home)
    if fresh:
        runs.clear(run)
    before = previous(run, config, manifest)
    if before and runs.is_finished(run):
        logger.info("%s is finished, with this config and these images; `visor train --fresh` would make it again", run)
        group.share(None)
    else:
        with tracker.running(config.name, before.mlflow_run_id if before else None) as run_id:
            record = begin(run, config, manifest, root, tracker, run_id)
            record = _fit(run, config, manifest, root, home, tracker, record, group)
            metrics = evaluate(run, config, root, manifest)
            record = _finish(run, config, tracker, record, metrics)
        runs.write_record(run, record)  # from here on the run is finished
    for what, where in {"run": run, "report": run / runs.REPORT, "MLflow": tracker.look}.items():
        logger.info("%-8s %s", what, where)


def _follow(config: Config, home: Path, group: Group) -> None:
    """Fit along with the first process, unless it finds nothing to do."""
    data: Data | None = group.share(None)  # which comes when the images are ready
    if data is None:
        return
    manifest = data.manifest
    pixels = cache(data.root, manifest, config.preprocessing, config.limits, home / "cache")
    model = make_model(config, len(manifest.labels))
    fit(model, *fitted_on(pixels, manifest, config), config, group=group)


def previous(run: Path, config: Config, manifest: Manifest, job: runs.Job = "train") -> runs.Record | None:
    """What an earlier call of this job with the same config and data left in the folder. Raises RunError when it was another."""
    if not (run / runs.RECORD).is_file() or not any((run / name).is_file() for name in (runs.CHECKPOINT, runs.WEIGHTS)):
        return None  # nothing there that could be lost
    record = runs.read_record(run)
    wanted = {"job": job, "config_digest": config.digest, "dataset_digest": manifest.digest}
    checkpoint.check_same(run, record.model_dump(), wanted)
    return record


def begin(
    run: Path, config: Config, manifest: Manifest, root: Path, tracker: Tracker, run_id: str, job: runs.Job = "train"
) -> runs.Record:
    """Write and log all that is known before the first epoch."""
    commit, dirty = lineage.git_state()
    record = runs.Record(
        job=job,
        mlflow_run_id=run_id,
        tracking_uri=tracker.public_uri,
        dataset_root=root,
        dataset_digest=manifest.digest,
        config_digest=config.digest,
        git_commit=commit,
        git_dirty=dirty,
        versions=lineage.package_versions(),
        pretrained=origin(config),
    )
    run.mkdir(parents=True, exist_ok=True)
    runs.write_config(run, config)
    manifest.write(run / runs.MANIFEST)
    runs.write_record(run, record)
    tracker.log_parameters(run_id, config.model_dump(mode="json"))
    tracker.tag(run_id, {name: getattr(record, name) for name in ("config_digest", "dataset_digest", "git_commit")})
    tracker.log_files(run_id, [run / runs.CONFIG, run / runs.MANIFEST])
    tracker.log_text(run_id, lineage.environment(), "environment.txt")
    return record


def _fit(
    run: Path, config: Config, manifest: Manifest, root: Path, home: Path, tracker: Tracker, record: runs.Record, group: Group
) -> runs.Record:
    """Fit, from the checkpoint on where there is one, and write weights and history; returns the record with their digest."""
    digests = (config.digest, manifest.digest)
    state = checkpoint.load(run / runs.CHECKPOINT, *digests)
    if state:
        logger.info("going on after epoch %d", len(state.history))
    model = make_model(config, len(manifest.labels))
    pixels = cache(root, manifest, config.preprocessing, config.limits, home / "cache")

    group.share(Data(root.resolve(), manifest))
    logged = len(state.history) if state else 0

    def save(state: State) -> None:
        nonlocal logged
        # Logged first: killed between the two, an epoch is logged twice at its step, where the other way it would be missing.
        for epoch in state.history[logged:]:
            tracker.log_metrics(record.mlflow_run_id, epoch, step=int(epoch["epoch"]))
        logged = len(state.history)
        checkpoint.save(run / runs.CHECKPOINT, state, *digests)

    train_images, val_images = fitted_on(pixels, manifest, config)
    state = fit(model, train_images, val_images, config, state, save, group)
    runs.write_history(run, state.history)
    record = record.model_copy(update={"weights_digest": runs.write_weights(run, model.state_dict())})
    runs.write_record(run, record)
    return record


def fitted_on(pixels: np.ndarray[Any, np.dtype[np.uint8]], manifest: Manifest, config: Config) -> tuple[Images, Images]:
    """What is learnt from, and what is validated on."""
    learnt = images_of(pixels, manifest, "train", config.data.labelled_fraction, config.seed)
    return learnt, images_of(pixels, manifest, "val")


def images_of(
    pixels: np.ndarray[Any, np.dtype[np.uint8]], manifest: Manifest, split: Split, fraction: float = 1.0, seed: int = 0
) -> Images:
    """The images of a split, or of each label a `fraction` of them, which the seed draws."""
    chosen = set(stratified([(sample.path, sample.label) for sample in manifest.of(split)], fraction, seed))
    rows = [row for row, sample in enumerate(manifest.samples) if sample.path in chosen]
    labels = [manifest.labels.index(manifest.samples[row].label) for row in rows]
    return Images(pixels, np.array(rows, dtype=np.int64), np.array(labels, dtype=np.int64))


def _finish(run: Path, config: Config, tracker: Tracker, record: runs.Record, metrics: dict[str, Any]) -> runs.Record:
    """Log what came out and register it as a candidate; returns the record with its version."""
    run_id = record.mlflow_run_id
    tracker.log_metrics(run_id, metrics)
    tracker.log_files(run_id, [run / name for name in (runs.METRICS, runs.HISTORY, runs.PREDICTIONS, runs.REPORT, *CARDS)])
    tracker.log_files(run_id, sorted((run / runs.PLOTS).glob("*.png")), runs.PLOTS)
    tracker.log_files(run_id, [run / runs.WEIGHTS, run / runs.SPEC], MODEL)
    tags = {name: str(getattr(record, name)) for name in ("weights_digest", "dataset_digest", "git_commit")}
    version = tracker.register(config.name, run_id, tags, CANDIDATE)
    logger.info("registered %s version %s as @%s", config.name, version, CANDIDATE)
    return record.model_copy(update={"model_version": version})
