"""A finished run → the next version of its name in the model store, as it serves, with its lineage, signed."""

import logging
from pathlib import Path

from archives import signing
from archives.contents import SPEC, read
from handlers.spec import Spec
from training import runs
from training.config import BackendChoice
from training.errors import DataError, RunError
from training.jobs.checks import check_writable
from training.jobs.fresh import settle
from training.packing import archive as packing
from training.packing import lineage

logger = logging.getLogger(__name__)


def archive(
    run: Path,
    model_store: Path,
    private_key: Path,
    backend: BackendChoice | None = None,
    passphrase: str | None = None,
    evaluated: bool = False,
) -> Path:
    """Pack a finished run, sign the archive, and return the .mar's path.

    `backend`: what serves; by default what the run was evaluated on, and its images are not needed. Another one is exported to,
    and the run is calibrated and evaluated anew on its answers: the decision in an archive is fitted for what serves it.
    `passphrase`: the key's. `evaluated`: the run must be evaluated on the backend already, so that no image is decoded here.
    Raises RunError (not finished, not evaluated), KeyFileError, KeyLocked, ArchiveBroken, ParityFailed, ConfigError (a backend
    that is not installed), DataError (images that are gone or changed).
    """
    settle(run)
    record, _ = runs.read_finished(run)
    signing.check_private(private_key, passphrase)  # before an export takes its minutes
    check_writable(model_store)
    _serve(run, record, backend, evaluated)
    path = packing.build(run, model_store, lineage.collect(run), private_key, passphrase)
    contents = read(path)
    logger.info(
        "%s version %s: %.1f MB, backend %s, digest %s",
        *(contents.spec.name, contents.spec.version, contents.size / 1e6, contents.spec.backend, contents.digest),
    )
    return path


def _serve(run: Path, record: runs.Record, backend: BackendChoice | None, evaluated: bool) -> None:
    """Have the run evaluated on the backend that is to serve, unless it is already."""
    fitted, exports = Spec.read(run / SPEC).backend, runs.read_exports(run)
    asked = backend or (exports.choice if exports else runs.read_config(run).backend)
    chosen = exports is not None and (exports.choice, exports.backend, exports.weights_digest) == (
        asked,
        fitted,
        record.weights_digest,
    )
    if (asked == fitted or chosen) and all((run / name).is_file() for name in runs.GRAPHS[fitted]):
        return
    if evaluated:
        raise RunError(f"{run} was not evaluated on {asked}; train it with that --backend, or archive it where its images are")
    from training.jobs.evaluate import evaluate_run  # imports torch, which packing does without

    logger.info("%s was calibrated on the answers of %s; it is exported, calibrated and evaluated again", run, fitted)
    try:
        metrics = evaluate_run(run, asked)
    except DataError as err:
        raise type(err)(
            f"{err.args[0]}; another backend is calibrated on the run's images, --backend {fitted} packs the run as it is"
        ) from err
    logger.info(
        "%s now answers by %s: its spec, metrics, report and model card are new; MLflow keeps those of the training",
        *(run, metrics["backend"]),
    )
