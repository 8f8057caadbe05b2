"""Reading what a .mar holds, within bounds that are checked before anything is unpacked: nothing in it is run."""

import hashlib
import io
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from archives.errors import ArchiveRefused
from archives.lineage import Lineage
from handlers.drift import REFERENCE, Reference
from handlers.errors import ArchiveBroken
from handlers.spec import Spec

SPEC, LINEAGE = "spec.json", "lineage.json"
# A registry, a PVC and a pod's start all pay for every byte; ResNet-50 in fp32 and in 8 bits still fits.
MAX_BYTES = 120 * 1000 * 1000
# What an archive may become when it is unpacked: members, bytes in all, and bytes for each byte of the file. Those of our own
# have about 25 members, and become twice as large at most.
MAX_MEMBERS, MAX_UNPACKED, MAX_RATIO = 1000, 500 * 1000 * 1000, 50
# `spec.json`, `lineage.json` and `reference.npz` each. Costs are a number for each pair of labels, and those of a thousand labels
# still fit.
MAX_READ = 16 << 20
# How much is read at a time, and the most that zipfile reads of the zip's own directory.
PIECE = 1 << 20
# zlib says how much it returns at most; the other ways of packing do not.
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What zipfile raises for a damaged file; KeyError where a member is missing.
DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, ValueError, RuntimeError)


@dataclass(frozen=True)
class Contents:
    """What an archive says of itself. `digest`: SHA-256 of the .mar's bytes, what answers call `archive_digest`."""

    path: Path
    digest: str
    size: int
    spec: Spec
    lineage: Lineage


class _SmallReads(io.BufferedReader):
    """A file that is read in pieces of at most `PIECE`: zipfile would read the directory at once, whatever its size."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read a piece. Raises BadZipFile where it would be larger."""
        wanted = PIECE + 1 if size is None or size < 0 else size
        data = super().read(min(wanted, PIECE + 1))
        if len(data) > PIECE:
            raise zipfile.BadZipFile("its directory has more than 1 MiB")
        return data


@contextmanager
def open_zip(archive: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive as a zip whose members are within bounds by their declared sizes, which zipfile never exceeds.

    Raises OSError, and one of `DAMAGED` for a zip that is damaged or out of bounds; the block's own reads raise them, too.
    """
    with _SmallReads(io.FileIO(archive)) as file, zipfile.ZipFile(file) as mar:
        _check_bounds(mar, os.fstat(file.fileno()).st_size)
        yield mar


def read_spec(archive: Path, shown: Path | str | None = None) -> tuple[Spec, str]:
    """Read the spec of an archive, and the hexadecimal SHA-256 of its bytes; `shown` names it in errors. Raises ArchiveBroken."""
    shown = shown or archive
    digest, _, (spec,) = _read_members(archive, shown, SPEC)
    return Spec.parse(spec, f"{shown}:{SPEC}"), digest


def read(archive: Path, shown: Path | str | None = None) -> Contents:
    """Read the spec, lineage and digest of an archive; `shown` names it in errors. Raises ArchiveBroken."""
    shown = shown or archive
    digest, size, (spec, lineage) = _read_members(archive, shown, SPEC, LINEAGE)
    return Contents(archive, digest, size, Spec.parse(spec, f"{shown}:{SPEC}"), Lineage.parse(lineage, f"{shown}:{LINEAGE}"))


def read_reference(archive: Path, shown: Path | str | None = None) -> Reference | None:
    """Read an archive's drift reference; `shown` names it in errors. None where it is of a time before. Raises ArchiveBroken."""
    with _reading(shown or archive), open_zip(archive) as mar:
        data = _read_member(mar, REFERENCE) if REFERENCE in mar.namelist() else None
    return None if data is None else Reference.read(data)


@contextmanager
def unpacked(archive: Path, shown: Path | str | None = None) -> Iterator[Path]:
    """Unpack the archive into a temporary folder; members that would land outside it are refused."""
    shown = shown or archive
    with tempfile.TemporaryDirectory(prefix="visor-") as folder:
        try:
            with open_zip(archive) as mar:
                for name in mar.namelist():
                    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                        raise ArchiveRefused(f"{shown} holds {name!r}, which would land outside its folder")
                mar.extractall(folder)
        except (OSError, *DAMAGED) as err:
            raise ArchiveBroken(f"{shown} cannot be unpacked: {err}") from err
        yield Path(folder)


def _check_bounds(mar: zipfile.ZipFile, size: int) -> None:
    members = mar.infolist()
    if len(members) > MAX_MEMBERS:
        raise zipfile.BadZipFile(f"it has {len(members)} members; at most {MAX_MEMBERS} are read")
    allowed = min(MAX_UNPACKED, MAX_RATIO * size)
    if (total := sum(member.file_size for member in members)) > allowed:
        raise zipfile.BadZipFile(f"its members have {total} bytes; at most {allowed} are unpacked from a file of its size")
    if len({member.filename for member in members}) != len(members):
        raise zipfile.BadZipFile("two of its members have one name")
    for member in members:
        if member.compress_type not in PACKED:
            raise zipfile.BadZipFile(f"{member.filename!r} is packed by method {member.compress_type}; deflate is read")


def _read_members(archive: Path, shown: Path | str, *names: str) -> tuple[str, int, list[bytes]]:
    """The digest and size of an archive and some of its members, all of one open file."""
    with _reading(shown), _SmallReads(io.FileIO(archive)) as file:
        digest, size = hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size
        with zipfile.ZipFile(file) as mar:
            _check_bounds(mar, size)
            return digest, size, [_read_member(mar, name) for name in names]


@contextmanager
def _reading(shown: Path | str) -> Iterator[None]:
    """Turn what reading an archive may raise into ArchiveBroken."""
    try:
        yield
    except OSError as err:
        raise ArchiveBroken(f"{shown} cannot be read: {err.strerror}; name a .mar made by `visor archive`") from err
    except DAMAGED as err:
        raise ArchiveBroken(f"{shown} is not a visor archive ({err}); name a .mar made by `visor archive`") from err


def _read_member(mar: zipfile.ZipFile, name: str) -> bytes:
    """A member that is read whole."""
    if (size := mar.getinfo(name).file_size) > MAX_READ:
        raise zipfile.BadZipFile(f"{name} has {size} bytes; at most {MAX_READ} are read")
    with mar.open(name) as file:
        return b"".join(iter(lambda: file.read(PIECE), b""))
