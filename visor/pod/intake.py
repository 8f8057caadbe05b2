"""A pod takes its one archive from what storage put there: it is found, copied, verified and published.

Storage can change at any time, also between verifying and opening. So the pod verifies a copy of
its own, and its two containers open that copy alone.
"""

import logging
import os
import shutil
import signal
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from archives.errors import ArchiveAmbiguous
from visor.errors import ArchiveMissing
from visor.serving.memory import ArchiveMemory, of_archive

logger = logging.getLogger(__name__)

POLL_S = 0.5
PUBLISHED, SCRATCH = "archive", ".taking-"
SUFFIXES = ("", ".sig")  # the archive itself, and its signature beside it


@dataclass(frozen=True)
class VerifiedArchive:
    """The archive that this pod serves, verified, and alone with its signature in its folder. `digest`: SHA-256 of its bytes.

    `memory`: what serving it takes.
    """

    path: Path
    name: str
    version: str
    backend: str
    digest: str
    memory: ArchiveMemory


def find_archive(models: Path, wait_s: float) -> Path:
    """Find the one .mar below a folder, at any depth; wait while there is none, because some storage appears late.

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


def publish_archive(models: Path, public_key: Path, work: Path, wait_s: float) -> VerifiedArchive:
    """Publish the one archive below `models`, verified, as work/archive/NAME.mar; NAME is its spec's, whatever the file's is.

    A container that is started again takes the archive that its pod has published, and verifies it once more: the other
    container reads that one, whatever storage holds by now.

    Raises ArchiveMissing, ArchiveAmbiguous, ArchiveRefused, ArchiveBroken, KeyFileError.
    """
    work.mkdir(parents=True, exist_ok=True)
    source = None if _archives(work / PUBLISHED) else find_archive(models, wait_s)
    # What verifying imports is three times what this process keeps for the pod's life; it goes with a child of its own.
    with ProcessPoolExecutor(1, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)) as child:
        return child.submit(_publish, source, public_key, work).result()


def _publish(source: Path | None, public_key: Path, work: Path) -> VerifiedArchive:
    """Copy `source` and verify the copy, or verify what is published already."""
    for left in work.glob(f"{SCRATCH}*"):
        shutil.rmtree(left)  # from a container that was killed while it copied
    published = work / PUBLISHED
    if source is None:
        return _verify(find_archive(published, 0), public_key)
    _verify(source, public_key)  # the original too, so that a refusal names the file that storage put there
    scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=work))
    copy = scratch / "copy.mar"
    for suffix in SUFFIXES:
        shutil.copyfile(f"{source}{suffix}", f"{copy}{suffix}")
    archive = _verify(copy, public_key)
    # TorchServe's configuration names the file, and storage, which nobody signed, must have no say in that.
    name = f"{archive.name}.mar"
    for suffix in SUFFIXES:
        Path(f"{copy}{suffix}").rename(scratch / f"{name}{suffix}")
    scratch.chmod(0o755)  # the other container may run as another user, as it does where the archive comes from an image
    scratch.rename(published)  # whole or not at all, for the container that waits for it
    return replace(archive, path=published / name)


def _verify(archive: Path, public_key: Path) -> VerifiedArchive:
    from archives import signing
    from archives.contents import read_spec

    signing.verify(archive, public_key)
    spec, digest = read_spec(archive)
    needs = of_archive(spec.backend, archive.stat().st_size, spec.limits)
    return VerifiedArchive(archive, spec.name, spec.version, spec.backend, digest, needs)
