"""The files of a run on an MLflow server: listed, and cleaned by way of a temporary folder."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from training.erasure.files import KINDS, Cleaned
from training.errors import RunError
from training.tracking import MODEL, Tracker


def clean_run(
    tracker: Tracker, run_id: str, clean: Callable[[str, bytes], Cleaned | None], write: bool
) -> Iterator[tuple[str, Cleaned]]:
    """Give the name of each artifact that has something of a picture, and what becomes of it; `write`: and have it so.

    `clean` is asked about name and content. A file of the same name takes the old one's place; what the server's storage keeps of
    that, such as a bucket's versions, is its operator's. Raises RunError.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    try:
        files = sorted(_files(tracker, run_id, ""), key=lambda name: PurePosixPath(name).name == "manifest.json")
        for name in files:
            with tempfile.TemporaryDirectory(prefix="visor-") as folder:
                local = Path(tracker.client.download_artifacts(run_id, name, folder))
                cleaned = clean(local.name, local.read_bytes())
                if cleaned is None:
                    continue
                if cleaned.left:
                    yield name, cleaned
                    continue
                if write and cleaned.data is None:
                    uri = tracker.client.get_run(run_id).info.artifact_uri
                    get_artifact_repository(uri, tracking_uri=tracker.uri).delete_artifacts(name)  # type: ignore[no-untyped-call]
                elif write and cleaned.data is not None:
                    local.write_bytes(cleaned.data)
                    parent = PurePosixPath(name).parent.as_posix()
                    tracker.client.log_artifact(run_id, str(local), None if parent == "." else parent)
                yield name, cleaned
    except (MlflowException, OSError) as err:
        raise RunError(f"MLflow at {tracker.public_uri} refuses: {err}; give the same command again: it goes on") from err


def _files(tracker: Tracker, run_id: str, folder: str) -> Iterator[str]:
    """The files of a run that may show or name a picture; the folder of weights holds none."""
    for entry in tracker.client.list_artifacts(run_id, folder or None):
        if entry.is_dir and entry.path != MODEL:
            yield from _files(tracker, run_id, entry.path)
        elif not entry.is_dir and PurePosixPath(entry.path).suffix.lower() in KINDS:
            yield str(entry.path)
