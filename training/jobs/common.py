"""What several jobs do alike: preparing data, beginning or resuming a run, and choosing the images of a split."""

import logging
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from handlers.arrays import UInt8
from training import names, runs
from training.config import Config
from training.data import derived, sources
from training.data.duplicates import check_leaks
from training.data.manifest import Manifest, Split
from training.data.splits import stratified
from training.decisions import mix
from training.errors import RunError
from training.fitting import checkpoint
from training.fitting.batches import Images
from training.fitting.checkpoint import State
from training.fitting.pretrained import origin
from training.jobs.evaluate import check
from training.jobs.seen import check_seen
from training.packing import lineage
from training.tracking import About, Tracker

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Data:
    """A data set that is ready to be trained on. `leaks`: None where nothing looked for them."""

    root: Path
    manifest: Manifest
    leaks: runs.Leaks | None = None


def prepare(config: Config, home: Path) -> Data:
    """Write what is built in, list the images and look for leaks, of pretrained weights too.

    Raises ConfigError and DataError (all of its kinds).
    """
    root = sources.prepare(config.data, home)
    manifest = sources.build_manifest(root, config.data)
    wanted = mix.settled(config.decision, mix.of_training(config, manifest))
    check(manifest, wanted)  # what does not fit is said now, not after the fit
    pretrained = check_seen(manifest, config)
    near = check_leaks(root, manifest, config, home)
    return Data(root, manifest, None if near is None else runs.Leaks(near=near, pretrained=pretrained))


def previous(run: Path, config: Config, manifest: Manifest, job: runs.JobName = "train") -> runs.Record | None:
    """Read what an earlier call of this job with the same config and data left in the folder. Raises RunError for another's."""
    if not (run / runs.RECORD).is_file() or not any((run / name).is_file() for name in (runs.CHECKPOINT, runs.WEIGHTS)):
        return None  # nothing there that could be lost
    record = runs.read_record(run)
    advice = "start over with --fresh, or keep it and choose another folder with --out"
    if record.job != job:
        raise RunError(f"{run} was made by `visor {record.job}`, and this is `visor {job}`; {advice}")
    if record.config_digest != config.digest:
        raise RunError(f"{run} belongs to another config: {_differences(run, config)}; {advice}")
    if record.dataset_digest != manifest.digest:
        raise RunError(
            f"{run} belongs to another data set: its digest is {record.dataset_digest}, this one's is {manifest.digest} "
            f"(`visor data diff {shlex.quote(str(run))} {shlex.quote(str(record.dataset_root))}` shows each image); {advice}"
        )
    return record


def _differences(run: Path, config: Config) -> str:
    """Say which keys of the run's config have other values than this one's."""
    try:
        there = yaml.safe_load((run / runs.CONFIG).read_text())
    except (OSError, ValueError, yaml.YAMLError):
        there = None
    found = names.describe_differing(there, config.model_dump(mode="json")) if isinstance(there, dict) else ""
    return found or f"its {runs.CONFIG} does not say which keys differ, as other versions of visor have other keys"


def goes_on(folder: Path, config: Config, manifest: Manifest, job: runs.JobName) -> bool:
    """Tell whether an interrupted run of this job, config and data set can be resumed in a folder."""
    try:
        checkpoint.load(folder / runs.CHECKPOINT, config.digest, manifest.digest)
        return previous(folder, config, manifest, job) is not None
    except RunError:
        return False


def about(config: Config, command: str, name: str | None = None) -> About:
    """Say what MLflow is to list of a run that begins now. `name`: by default the config's."""
    commit, _ = lineage.git_state()
    return About(name or config.name, f"visor {command}", None if commit == lineage.UNKNOWN else commit)


def begin(run: Path, config: Config, data: Data, tracker: Tracker, run_id: str, job: runs.JobName = "train") -> runs.Record:
    """Write and log all that is known before the first epoch."""
    root, manifest = data.root, data.manifest
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
        reviews=derived.read_reviews(root),
        leaks=data.leaks,
    )
    run.mkdir(parents=True, exist_ok=True)
    runs.write_config(run, config)
    manifest.write(run / runs.MANIFEST)
    runs.write_record(run, record)
    tracker.log_parameters(run_id, config.model_dump(mode="json"))
    tracker.tag(run_id, {name: getattr(record, name) for name in ("config_digest", "dataset_digest", "git_commit")})
    counts = {str(split): len(manifest.samples_of(split)) for split in manifest.splits}
    tracker.log_data(run_id, f"{config.data.source}: {root.name}", manifest.digest, str(root), counts)
    tracker.log_files(run_id, [run / runs.CONFIG, run / runs.MANIFEST])
    tracker.log_text(run_id, lineage.environment(), "environment.txt")
    return record


def checkpointed(
    run: Path, config: Config, manifest: Manifest, tracker: Tracker, run_id: str
) -> tuple[State | None, Callable[[State], None]]:
    """Read the run's checkpoint, None where there is none, and make the function that logs each new epoch and writes the next.

    Raises RunError when the checkpoint belongs to another config or data set.
    """
    path, digests = run / runs.CHECKPOINT, (config.digest, manifest.digest)
    found = checkpoint.load(path, *digests)
    if found:
        logger.info("going on after epoch %d", len(found.history))
    logged = len(found.history) if found else 0

    def save(state: State) -> None:
        nonlocal logged
        # Logged first: killed between the two, an epoch is logged twice at its step, where the other way it would be missing.
        for epoch in state.history[logged:]:
            tracker.log_metrics(run_id, epoch, step=int(epoch["epoch"]))
        logged = len(state.history)
        checkpoint.save(path, state, *digests)

    return found, save


def fitted_on(pixels: UInt8, manifest: Manifest, config: Config) -> tuple[Images, Images]:
    """Return the images that are learnt from, and those that are validated on."""
    learnt = images_of(pixels, manifest, "train", config.data.labelled_fraction, config.seed)
    return learnt, images_of(pixels, manifest, "val")


def count_fitted(manifest: Manifest, config: Config) -> int:
    """Count the images that are learnt from."""
    return len(_drawn(manifest, "train", config.data.labelled_fraction, config.seed))


def images_of(pixels: UInt8, manifest: Manifest, split: Split, fraction: float = 1.0, seed: int = 0) -> Images:
    """Return the images of a split, or a `fraction` of each label's, which the seed draws."""
    chosen = _drawn(manifest, split, fraction, seed)
    rows = [row for row, sample in enumerate(manifest.samples) if sample.path in chosen]
    labels = [manifest.labels.index(manifest.samples[row].label) for row in rows]
    return Images(pixels, np.array(rows, dtype=np.int64), np.array(labels, dtype=np.int64))


def _drawn(manifest: Manifest, split: Split, fraction: float, seed: int) -> set[str]:
    return set(stratified([(sample.path, sample.label) for sample in manifest.samples_of(split)], fraction, seed))
