"""From what storage put into a pod to the one archive that the pod serves: found, copied, verified, published.

Storage can change at any time, also between verifying and opening. So it is the pod's own copy that is verified, and that
copy alone which the pod's two containers open.
"""

import logging
import os
import shutil
import signal
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from visor.errors import ArchiveAmbiguous, ArchiveMissing

logger = logging.getLogger(__name__)

POLL_S = 0.5
PUBLISHED, SCRATCH = "archive", ".taking-"


@dataclass(frozen=True)
class Taken:
    """The archive that this pod serves: verified, and alone with its signature in its folder. `digest`: of its bytes."""

    path: Path
    name: str
    version: str
    backend: str
    digest: str


def find(models: Path, wait_s: float) -> Path:
    """The one .mar below a folder, at any depth; waits while there is none, because some storage appears late.

    Raises ArchiveMissing, ArchiveAmbiguous.
    """
    deadline = time.monotonic() + wait_s
    if not _archives(models):
        logger.info("waiting for an archive below %s", models)
    while not (found := sorted(_archives(models))):
        if time.monotonic() >= deadline:
            raise ArchiveMissing(
                f"no .mar lies below {models} after {wait_s:g} s; storageUri must lead to NAME.mar and NAME.mar.sig"
            )
        time.sleep(POLL_S)
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(models)) for path in found)
        raise ArchiveAmbiguous(f"{len(found)} archives lie below {models} ({names}); storageUri must lead to a single one")
    return found[0]


def _archives(models: Path) -> list[Path]:
    # os.walk skips folders that may not be read, such as a volume's lost+found.
    return [Path(folder, file) for folder, _, files in os.walk(models) for file in files if file.endswith(".mar")]


def take(models: Path, public_key: Path, work: Path, wait_s: float) -> Taken:
    """Publish the one archive below `models` as work/archive/NAME.mar, verified.

    A container that is started again takes what its pod has published, verified once more: the other container reads that
    one, whatever storage holds by now. Raises ArchiveMissing, ArchiveAmbiguous, ArchiveRefused, ArchiveBroken, KeyFileError.
    """
    work.mkdir(parents=True, exist_ok=True)
    source = None if _archives(work / PUBLISHED) else find(models, wait_s)
    # What verifying imports is three times what this process keeps for the pod's life; it goes with a child of its own.
    with ProcessPoolExecutor(1, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)) as child:
        return child.submit(_publish, source, public_key, work).result()


def _publish(source: Path | None, public_key: Path, work: Path) -> Taken:
    """Copy `source` and verify the copy, or verify what is published already."""
    for left in work.glob(f"{SCRATCH}*"):
        shutil.rmtree(left)  # of a container that was killed at it
    published = work / PUBLISHED
    if source is None:
        return _verified(find(published, 0), public_key)
    _verified(source, public_key)  # the original too, so that a refusal names the file that storage put there
    scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=work))
    for name in (source.name, f"{source.name}.sig"):
        shutil.copyfile(source.with_name(name), scratch / name)
    copy = scratch / source.name
    taken = _verified(copy, public_key)
    scratch.chmod(0o755)  # the other container may run as another user, as it does where the archive comes from an image
    scratch.rename(published)  # whole or not at all, for the container that waits for it
    return Taken(published / copy.name, taken.name, taken.version, taken.backend, taken.digest)


def _verified(archive: Path, public_key: Path) -> Taken:
    from handlers.archive import read_archive
    from training import signing

    signing.verify(archive, public_key)
    spec, digest = read_archive(archive)
    return Taken(archive, spec.name, spec.version, spec.backend, digest)
