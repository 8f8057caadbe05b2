"""Registration: the registry's model version learns its archive's digest, and an alias moves to it."""

import logging
from pathlib import Path

from archives.contents import Contents
from training.errors import RunError
from training.tracking import Tracker

logger = logging.getLogger(__name__)


def register(contents: Contents, alias: str, home: Path) -> str:
    """Tag the version of the archive's run and move `alias` to it; returns its MLflow address. Raises RunError."""
    tracker = Tracker.open(home)
    name, run_id = contents.spec.name, contents.lineage.mlflow_run_id
    version = tracker.version_of(name, run_id)
    if version is None:
        raise RunError(
            f"{tracker.public_uri} has no version of {name!r} made from MLflow run {run_id}; the archive was trained with "
            f"{contents.lineage.tracking_uri}: name that store in MLFLOW_TRACKING_URI, or its folder in --home"
        )
    tags = {"archive_digest": contents.digest, "archive_version": contents.spec.version, "backend": contents.spec.backend}
    tracker.promote(name, version, tags, alias)
    logger.info("%s version %s, archive %s, is now @%s in %s", name, version, contents.digest[:12], alias, tracker.public_uri)
    return f"models:/{name}@{alias}"
