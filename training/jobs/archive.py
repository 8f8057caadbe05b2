"""A finished run → the next version of its name in the model store, with its lineage, signed."""

import logging
from pathlib import Path

from training import archive as archives
from training import lineage

logger = logging.getLogger(__name__)


def archive(run: Path, model_store: Path, private_key: Path) -> Path:
    """Pack and sign; returns the .mar's path. Raises RunError (not finished), KeyFileError, ArchiveBroken."""
    path = archives.build(run, model_store, lineage.collect(run), private_key)
    contents = archives.read(path)
    logger.info(
        "%s version %s: %.1f MB, digest %s", contents.spec.name, contents.spec.version, contents.size / 1e6, contents.digest
    )
    return path
