"""Reading what a .mar holds: nothing in it is run."""

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from archives.errors import ArchiveRefused
from archives.lineage import Lineage
from handlers.errors import ArchiveBroken
from handlers.spec import Spec

SPEC, LINEAGE = "spec.json", "lineage.json"


@dataclass(frozen=True)
class Contents:
    """What an archive says of itself. `digest`: SHA-256 of the .mar's bytes, what answers call `archive_digest`."""

    path: Path
    digest: str
    size: int
    spec: Spec
    lineage: Lineage


def read_spec(archive: Path) -> tuple[Spec, str]:
    """Read the spec of an archive, and the hexadecimal SHA-256 of its bytes. Raises ArchiveBroken."""
    digest, _, (spec,) = _members(archive, SPEC)
    return Spec.parse(spec, f"{archive}:{SPEC}"), digest


def read(archive: Path) -> Contents:
    """Read the spec, lineage and digest of an archive. Raises ArchiveBroken."""
    digest, size, (spec, lineage) = _members(archive, SPEC, LINEAGE)
    return Contents(archive, digest, size, Spec.parse(spec, f"{archive}:{SPEC}"), Lineage.parse(lineage, f"{archive}:{LINEAGE}"))


@contextmanager
def unpacked(archive: Path) -> Iterator[Path]:
    """Unpack the archive into a temporary folder; members that would land outside it are refused."""
    with tempfile.TemporaryDirectory(prefix="visor-") as folder:
        try:
            with zipfile.ZipFile(archive) as mar:
                for name in mar.namelist():
                    if not (Path(folder) / name).resolve().is_relative_to(Path(folder).resolve()):
                        raise ArchiveRefused(f"{archive} holds {name!r}, which would land outside its folder")
                mar.extractall(folder)
        except (OSError, zipfile.BadZipFile) as err:
            raise ArchiveBroken(f"{archive} cannot be unpacked: {err}") from err
        yield Path(folder)


def _members(archive: Path, *names: str) -> tuple[str, int, list[bytes]]:
    """The digest and size of an archive and some of its members, all of one open file."""
    try:
        with archive.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            with zipfile.ZipFile(file) as mar:
                return digest, os.fstat(file.fileno()).st_size, [mar.read(name) for name in names]
    except OSError as err:
        raise ArchiveBroken(f"{archive} cannot be read: {err.strerror}; name a .mar made by `visor archive`") from err
    except (zipfile.BadZipFile, KeyError) as err:
        raise ArchiveBroken(f"{archive} is not a visor archive ({err}); name a .mar made by `visor archive`") from err
