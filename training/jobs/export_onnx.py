"""A finished run → its network in ONNX beside its archive and in its MLflow run, for runtimes that visor does not know."""

import logging
from pathlib import Path

from archives import files, signing
from archives.contents import SPEC
from handlers.spec import Spec
from training import runs
from training.tracking import MODEL, Tracker

logger = logging.getLogger(__name__)


def export_onnx(run: Path, archive: Path, private_key: Path, home: Path, passphrase: str | None = None) -> Path:
    """Write NAME.onnx, signed like the archive beside it, and return its path. Nothing that serves reads it.

    `home`: of the embedded MLflow store. Raises RunError (not finished, or MLflow's), KeyFileError, KeyLocked, ArchiveBroken.
    """
    record, _ = runs.read_finished(run)
    from training.packing.export import (
        convert_onnx,  # imports torch and OpenVINO, which a run that is not finished must not wait for
    )

    file = archive.with_suffix(".onnx")
    with files.replacing(file) as temporary:
        temporary.write_bytes(convert_onnx(run, Spec.read(run / SPEC)))
    signing.sign(file, private_key, passphrase)
    Tracker.open(home).log_files(record.mlflow_run_id, [file], MODEL)
    logger.info("%s: %.1f MB", file, file.stat().st_size / 1e6)
    return file
