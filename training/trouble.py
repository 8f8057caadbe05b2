"""What an MLflow store refuses, told with what to do about it; and whether a server answers at all."""

import logging
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from handlers.errors import VisorError
from training.errors import (
    DiskFull,
    FolderError,
    RunError,
    TrackingForeign,
    TrackingOutdated,
    TrackingUnreachable,
    TrackingUnsupported,
)
from training.settings import mlflow_command

logger = logging.getLogger(__name__)

KNOCK_TIMEOUT_S, KNOCK_EVERY_S = 5.0, 2.0
OUTDATED = re.compile(r"out-of-date database schema \(found version (\w+)|Can't locate revision identified by '(\w+)'")
"""What MLflow and Alembic say of a database of another version, with the version."""


@contextmanager
def reported(uri: str) -> Iterator[None]:
    """MLflow's errors, and those of the database and the file system under it, as visor's own. `uri`: without a password."""
    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, CommandError, OSError, ImportError) as err:
        raise explain(err, uri) from err


def explain(err: Exception, uri: str) -> VisorError:
    """Say what is wrong with the store at `uri`, and what to do."""
    said = str(err)
    if full := disk_error(said, uri):
        return full
    if found := OUTDATED.search(said):
        return _of_another_version(found[1] or found[2], uri)
    if "file is not a database" in said or "database disk image is malformed" in said:
        return TrackingForeign(f"{uri} is no MLflow database; move the file away, and a new one is made")
    if "filesystem tracking backend" in said or "filesystem model registry" in said:
        return TrackingUnsupported(
            f"MLFLOW_TRACKING_URI names a folder, {uri}, in which MLflow keeps runs no more; unset it, and visor keeps its own "
            "database in --home, or take `mlflow migrate-filestore` over to a database; MLFLOW_ALLOW_FILE_STORE=true lets it be"
        )
    if "unsupported URI" in said or "Could not parse SQLAlchemy URL" in said or "Can't load plugin" in said:
        return TrackingUnsupported(
            f"MLFLOW_TRACKING_URI is {uri!r}, which MLflow cannot read; name a server (http://...) or a database "
            "(sqlite:///..., postgresql://...), or unset it for visor's own store"
        )
    if isinstance(err, ImportError):
        return TrackingUnsupported(f"{uri} needs a driver that is not installed: {err}; install it, or unset MLFLOW_TRACKING_URI")
    return RunError(
        f"MLflow at {uri} refuses: {said}; check MLFLOW_TRACKING_URI (unset, visor keeps its own store), "
        f"then give the same command again: it resumes"
    )


def disk_error(said: str, place: str) -> VisorError | None:
    """Read out of a database's error whether the disk below it is full, or not to be written to."""
    if "database or disk is full" in said or "No space left on device" in said:
        return DiskFull(f"no space is left for {place}; free some, then give the same command again: it resumes")
    if "readonly database" in said or "unable to open database file" in said:
        return FolderError(f"{place} cannot be written to; let this user write there, or choose another --home")
    return None


def _of_another_version(revision: str, uri: str) -> VisorError:
    """An older database can be brought up, a newer one cannot be read, and one without a version is not MLflow's."""
    import mlflow

    if revision == "None":
        return TrackingForeign(
            f"{uri} is a database of something else: it has tables, and no MLflow version; name another in MLFLOW_TRACKING_URI"
        )
    here = f"MLflow {mlflow.__version__}, which is installed here"
    known = (Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions").glob(f"{revision}_*.py")
    if not any(known):
        return TrackingOutdated(
            f"the MLflow database {uri} was written by a newer version than {here} (its schema is {revision}); "
            "use a visor with that version, or another --home"
        )
    return TrackingOutdated(
        f"the MLflow database {uri} was written by an older version than {here}; make a copy of it, then bring it up by "
        f"`{mlflow_command('db', 'upgrade', uri)}`"
    )


def knock(uri: str, wait_s: float) -> None:
    """Open a connection: MLflow's own client takes minutes to give up on an address that leads nowhere."""
    parts = urlsplit(uri)
    deadline, said = time.monotonic() + wait_s, False
    while True:
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname or "", port), KNOCK_TIMEOUT_S).close()
        except (OSError, ValueError) as err:  # ValueError: a port or a name that cannot be one
            if time.monotonic() >= deadline:
                raise TrackingUnreachable(
                    f"no MLflow server answers at {uri} ({err}); check MLFLOW_TRACKING_URI, or unset it for an embedded store"
                ) from err
            if not said:
                logger.info("waiting for the MLflow server at %s (%s)", uri, err)
                said = True
            time.sleep(KNOCK_EVERY_S)
        else:
            return
