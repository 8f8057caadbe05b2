"""Pretraining from a config to a backbone: data → manifest → SimCLR on the training split's images → weights, tracked."""

import logging
from pathlib import Path

from training import checkpoint, pretrained, runs
from training.checkpoint import State
from training.config import Config
from training.data import manifest as manifests
from training.data import sources
from training.data.manifest import Manifest
from training.data.pixels import cache
from training.jobs.train import begin, images_of, previous
from training.pretrained import make_model
from training.probe import linear_probe
from training.runs import Record
from training.simclr import pretrain as fit
from training.tracking import MODEL, Tracker

logger = logging.getLogger(__name__)

JOB: runs.Job = "pretrain"


def pretrain(config: Config, run: Path, home: Path, fresh: bool = False) -> Path:
    """Make, or finish, the pretraining in the folder `run` and return its backbone, which `model.pretrained` takes.

    The network learns from the images of the training split alone. The linear probe reads their labels, those of
    `data.labelled_fraction`, and is scored on the validation split: it is a measure, and nothing is chosen by it.

    `home` and `fresh` are as in `training.jobs.train`. Raises ConfigError, DataError (all of its kinds) and RunError (a folder
    that belongs to another job, config or data set).
    """
    root = sources.prepare(config.data, home)
    manifest = manifests.build(root, config.data)
    tracker = Tracker.open(home)
    if fresh:
        runs.clear(run)
    before, backbone = previous(run, config, manifest, JOB), run / runs.BACKBONE
    if before and backbone.is_file() and runs.sha256(backbone) == before.weights_digest:
        logger.info("%s is finished, with this config and these images; `visor pretrain --fresh` would make it again", run)
    else:
        with tracker.running(f"{config.name}-{JOB}", before.mlflow_run_id if before else None) as run_id:
            record = begin(run, config, manifest, root, tracker, run_id, JOB)
            record = _fit(run, config, manifest, root, home, tracker, record)
            tracker.tag(run_id, {"weights_digest": str(record.weights_digest)})
            tracker.log_files(run_id, [run / runs.HISTORY])
            tracker.log_files(run_id, [backbone], MODEL)
        runs.write_record(run, record)  # from here on it is finished
    for what, where in {"run": run, "MLflow": tracker.look}.items():
        logger.info("%-8s %s", what, where)
    return backbone


def _fit(run: Path, config: Config, manifest: Manifest, root: Path, home: Path, tracker: Tracker, record: Record) -> Record:
    """Pretrain, from the checkpoint on where there is one, and write backbone and history; the record with their digest."""
    digests = (config.digest, manifest.digest)
    state = checkpoint.load(run / runs.CHECKPOINT, *digests)
    if state:
        logger.info("going on after epoch %d", len(state.history))
    model = make_model(config, len(manifest.labels))
    pixels = cache(root, manifest, config.preprocessing, config.limits, home / "cache")
    labelled = images_of(pixels, manifest, "train", config.data.labelled_fraction, config.seed)
    val = images_of(pixels, manifest, "val")

    def save(state: State) -> None:
        # Logged first: killed between the two, an epoch is logged twice at its step, where the other way it would be missing.
        tracker.log_metrics(record.mlflow_run_id, state.history[-1], step=len(state.history))
        checkpoint.save(run / runs.CHECKPOINT, state, *digests)

    def probe() -> float:
        return linear_probe(model, labelled, val, config.preprocessing)

    state = fit(model, images_of(pixels, manifest, "train"), config, state, save, probe)
    runs.write_history(run, state.history)
    facts = {"method": "simclr", "config_digest": config.digest, "dataset_digest": manifest.digest}
    return record.model_copy(update={"weights_digest": pretrained.write_backbone(run / runs.BACKBONE, model, facts)})
