"""Pretraining from a config to a backbone: data → manifest → SimCLR on the training split's images → weights, tracked."""

import logging
from pathlib import Path

from archives import files
from handlers.errors import counted
from training import runs
from training.config import Config
from training.data import sources
from training.data.manifest import Manifest
from training.data.pixels import cache
from training.fitting import pretrained
from training.fitting.pretrained import make_model
from training.fitting.probe import linear_probe
from training.fitting.simclr import pretrain as fit
from training.jobs import fresh as fresh_run
from training.jobs.checks import check_places, check_writable
from training.jobs.common import Data, about, begin, checkpointed, goes_on, images_of, previous
from training.jobs.seen import Seen, describe
from training.runs import Record
from training.tracking import MODEL, Tracker

logger = logging.getLogger(__name__)

JOB: runs.JobName = "pretrain"


def pretrain(config: Config, run: Path, home: Path, fresh: bool = False) -> Path:
    """Make, or finish, the pretraining in the folder `run` and return its backbone, which `model.pretrained` takes.

    The network learns from the images of the training split alone. The linear probe reads their labels, those of
    `data.labelled_fraction`, and is scored on the validation split: it is a measure, and nothing is chosen by it.

    `home` and `fresh` are as in `training.jobs.train`. Raises ConfigError, DataError (all of its kinds) and RunError (a folder
    that belongs to another job, config or data set).
    """
    config = config if fresh else runs.keep_rule(run, config)
    check_writable(home)
    root = sources.prepare(config.data, home)
    manifest = sources.build_manifest(root, config.data)
    tracker = Tracker.open(home)
    folder = fresh_run.place(run, fresh, lambda begun: goes_on(begun, config, manifest, JOB))
    before, backbone = previous(folder, config, manifest, JOB), folder / runs.BACKBONE
    experiment = f"{config.name}-{JOB}"
    if before and not fresh and backbone.is_file() and files.sha256(backbone) == before.weights_digest:
        logger.info("%s is finished, with this config and these images; `visor pretrain --fresh` would make it again", run)
    else:
        check_places(config, manifest, folder, home, tracker, experiment)
        with tracker.running(experiment, before.mlflow_run_id if before else None, about(config, JOB)) as run_id:
            record = begin(folder, config, Data(root, manifest), tracker, run_id, JOB)
            record = _fit(folder, config, manifest, root, home, tracker, record)
            tracker.tag(run_id, {"weights_digest": str(record.weights_digest)})
            tracker.log_files(run_id, [folder / runs.HISTORY])
            tracker.log_files(run_id, [backbone], MODEL)
        runs.write_record(folder, record)  # from here on it is finished
        fresh_run.finish(folder, run)
    for what, where in {"run": run, "MLflow": tracker.look}.items():
        logger.info("%-8s %s", what, where)
    return run / runs.BACKBONE


def _fit(run: Path, config: Config, manifest: Manifest, root: Path, home: Path, tracker: Tracker, record: Record) -> Record:
    """Pretrain, from the checkpoint on where there is one, and write backbone and history; the record with their digest."""
    state, save = checkpointed(run, config, manifest, tracker, record.mlflow_run_id)
    model = make_model(config, len(manifest.labels))
    pixels = cache(root, manifest, config.preprocessing, config.limits, home / "cache")
    labelled = images_of(pixels, manifest, "train", config.data.labelled_fraction, config.seed)
    val = images_of(pixels, manifest, "val")
    logger.info("fitting %s on %s", config.model.network, counted(len(manifest.samples_of("train")), "image"))

    def probe() -> float:
        return linear_probe(model, labelled, val, config.preprocessing)

    state = fit(model, images_of(pixels, manifest, "train"), config, state, save, probe)
    runs.write_history(run, state.history)
    metadata = describe("simclr", config, manifest, Seen.of(manifest.samples_of("train")))
    return record.model_copy(update={"weights_digest": pretrained.write_backbone(run / runs.BACKBONE, model, metadata)})
