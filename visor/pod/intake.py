"""A pod takes its one archive from what storage put there: it is found, opened as a copy, and published.

Storage can change at any time, also between verifying and opening. So the pod verifies a copy of
its own, and its two containers open that copy alone.
"""

import logging
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from archives.errors import ArchiveAmbiguous
from archives.files import printable
from visor.errors import ArchiveMissing
from visor.pod.check import WAITING
from visor.serving.child import in_child
from visor.serving.memory import ArchiveMemory, of_archive

logger = logging.getLogger(__name__)

POLL_S = 0.5
PUBLISHED, SCRATCH = "archive", ".taking-"


@dataclass(frozen=True)
class VerifiedArchive:
    """The archive that this pod serves, verified, and alone with its signature in its folder. `memory`: what serving it takes."""

    path: Path
    name: str
    memory: ArchiveMemory


def find_archive(models: Path, wait_s: float, uri: str = "", note: Path | None = None) -> Path:
    """Find the one .mar below a folder, at any depth; wait while there is none, because some storage appears late.

    `uri`: the archive's address, for what is said; `note`: a file that says what is waited for, for as long as it is.
    Raises ArchiveMissing, ArchiveAmbiguous.
    """
    deadline = time.monotonic() + wait_s
    where = f"{models} (archive.uri {printable(uri)})" if uri else str(models)
    if not _archives(models):
        logger.info("waiting for an archive below %s", where)
        if note:
            note.write_text(f"waiting for an archive below {where}")
    while not (found := sorted(_archives(models))):
        if time.monotonic() >= deadline:
            raise ArchiveMissing(f"no .mar lies below {where} after {wait_s:g} s{_hint(models)}")
        time.sleep(POLL_S)
    if note:
        note.unlink(missing_ok=True)
    if len(found) > 1:
        names = ", ".join(printable(path.relative_to(models)) for path in found)
        raise ArchiveAmbiguous(f"{len(found)} archives lie below {models} ({names}); storageUri must lead to a single one")
    return found[0]


def _hint(models: Path) -> str:
    """What to do about a missing archive: an empty folder is most often one that was not there."""
    if models.is_dir() and not any(models.iterdir()):
        return (
            ": the folder is empty, and on a volume the kubelet has made it if it was not there; put NAME.mar and NAME.mar.sig "
            "there, or correct the address"
        )
    return "; storageUri must lead to NAME.mar and NAME.mar.sig"


def _archives(models: Path) -> list[Path]:
    # os.walk skips folders that may not be read, such as a volume's lost+found.
    return [Path(folder, file) for folder, _, files in os.walk(models) for file in files if file.endswith(".mar")]


def publish_archive(
    models: Path, public_key: Path, work: Path, wait_s: float, digest: str | None = None, uri: str = ""
) -> VerifiedArchive:
    """Publish the one archive below `models`, verified, as work/archive/NAME.mar. `digest`, `uri`: its own.

    A container that is started again takes the archive that its pod has published, and verifies it once more: the other
    container reads that one, whatever storage holds by now.

    Raises ArchiveMissing, ArchiveAmbiguous, and what `archives.opening.opened` raises.
    """
    work.mkdir(parents=True, exist_ok=True)
    source = None if _archives(work / PUBLISHED) else find_archive(models, wait_s, uri, work / WAITING)
    # What verifying imports is three times what this process keeps for the pod's life; it goes with a child of its own.
    return in_child(_publish, source, public_key, work, digest)


def _publish(source: Path | None, public_key: Path, work: Path, digest: str | None) -> VerifiedArchive:
    """Open a copy of `source` and publish it, or open what is published already."""
    from archives import opening

    for left in work.glob(f"{SCRATCH}*"):
        shutil.rmtree(left)  # from a container that was killed while it copied
    published = work / PUBLISHED
    if source is None:
        archive = opening.reopen(find_archive(published, 0), public_key, digest)
    else:
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=work) as scratch:
            folder = Path(scratch, PUBLISHED)
            folder.mkdir()
            archive = opening.take(source, public_key, folder, digest)
            folder.chmod(0o755)  # the other container may run as another user, as it does where the archive comes from an image
            folder.rename(published)  # whole or not at all, for the container that waits for it
    path = published / archive.path.name
    return VerifiedArchive(path, archive.spec.name, of_archive(archive.spec.backend, path.stat().st_size, archive.spec.limits))
