"""The one way to open an archive that came from elsewhere: copied, verified, held against what was asked for, then read.

Whoever can write to where an archive lies can exchange it at any moment, or put another signed one in its place. So it is
copied once, into a folder that nobody else may enter, and only the copy is verified and read. Then its name and version, which
were signed, are compared with where the original lies, and its digest with the one that was asked for.
"""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from archives import contents, signing, store
from archives.contents import MAX_BYTES, PIECE, Contents
from archives.errors import ArchiveRefused, ArchiveUnexpected, KeyFileError
from archives.files import open_plain, printable
from handlers.drift import Reference
from handlers.errors import ArchiveBroken, VisorError
from handlers.spec import Spec

logger = logging.getLogger(__name__)

# A signature has about 1,400 bytes.
MAX_SIGNATURE_BYTES = 64 << 10
COPY = "copy.mar"


@dataclass(frozen=True)
class Opened:
    """An archive that was verified, and is what was asked for.

    `path`: the verified file, NAME.mar by its spec; `source`: where it came from, for sentences. `digest`: SHA-256 of its
    bytes; `key`: SHA-256 of the public key that its signature holds for.
    """

    path: Path
    source: str
    spec: Spec
    digest: str
    key: str

    def read(self) -> Contents:
        """Read its lineage, too. Raises ArchiveBroken."""
        return contents.read(self.path, self.source)

    def read_reference(self) -> Reference | None:
        """Read its drift reference, None where it has none. Raises ArchiveBroken."""
        return contents.read_reference(self.path, self.source)

    def unpacked(self) -> AbstractContextManager[Path]:
        """Unpack it into a temporary folder. Raises ArchiveBroken, ArchiveRefused."""
        return contents.unpacked(self.path, self.source)


@contextmanager
def opened(archive: Path, public_key: Path, digest: str | None = None, called: str | None = None) -> Iterator[Opened]:
    """Open an archive, as a private copy that lasts until the block's end. `digest`: that its bytes must have.

    `called`: what the log calls the key, by default its path. Raises ArchiveRefused, ArchiveUnexpected, ArchiveBroken and
    KeyFileError.
    """
    with tempfile.TemporaryDirectory(prefix="visor-archive-") as folder:
        yield take(archive, public_key, Path(folder), digest, called)


def take(archive: Path, public_key: Path, folder: Path, digest: str | None = None, called: str | None = None) -> Opened:
    """Copy an archive and its signature into an empty private folder, and open the copy. Raises what `opened` raises."""
    copy = _copy(archive, folder)
    taken = _open(copy, archive, public_key, digest, called)
    # Under the name that was signed: a file's name is part of TorchServe's configuration.
    path = folder / f"{taken.spec.name}.mar"
    signing.signature_of(copy).rename(signing.signature_of(path))
    return Opened(copy.rename(path), taken.source, taken.spec, taken.digest, taken.key)


def reopen(archive: Path, public_key: Path, digest: str | None = None) -> Opened:
    """Open an archive where `take` has left it. Raises what `opened` raises."""
    return _open(archive, archive, public_key, digest)


@dataclass(frozen=True)
class Examined:
    """An archive as it claims to be. `key`: of the public key that its signature was tried with, where that could be read.

    `refusal`: why the signature does not hold; `surprise`: why the archive is not what its place or the caller says. With one of
    them it is not opened.
    """

    contents: Contents
    key: str | None
    refusal: VisorError | None
    surprise: ArchiveUnexpected | None


def examine(archive: Path, public_key: Path, digest: str | None = None) -> Examined:
    """Read what an archive says of itself, also where it is refused: that helps to find the cause.

    Raises ArchiveRefused or ArchiveBroken where nothing can be read.
    """
    with tempfile.TemporaryDirectory(prefix="visor-archive-") as folder:
        copy, shown = _copy(archive, Path(folder)), printable(archive)
        key, refusal, surprise = None, None, None
        try:
            key = signing.fingerprint(public_key)
            signing.verify(copy, public_key, shown)
        except (ArchiveRefused, KeyFileError) as err:
            refusal = err
        try:
            found = contents.read(copy, shown)
        except ArchiveBroken as err:
            if refusal is None:
                raise
            raise refusal from err
        try:
            _check_place(archive, found.spec)
            _check_digest(archive, found.digest, digest)
        except ArchiveUnexpected as err:
            surprise = err
    return Examined(found, key, refusal, surprise)


def _open(archive: Path, source: Path, public_key: Path, digest: str | None, called: str | None = None) -> Opened:
    shown = printable(source)
    key = signing.verify(archive, public_key, shown)
    spec, found = contents.read_spec(archive, shown)
    _check_place(source, spec)
    _check_digest(source, found, digest)
    facts = (spec.name, spec.version, found, spec.backend, called or public_key, key)
    logger.info("%s version %s (archive %s, %s) is signed by the key %s (SHA-256 %s)", *facts)
    return Opened(archive, shown, spec, found, key)


def _check_place(source: Path, spec: Spec) -> None:
    """Raise ArchiveUnexpected where an archive's place has another name or version than was signed."""
    name, version = store.place_of(source)
    is_it = f"{printable(source)} holds version {spec.version} of {spec.name!r}"
    if name != spec.name:
        raise ArchiveUnexpected(f"{is_it}, so it was renamed; take {name!r} from its source again, or name it {spec.name}.mar")
    if version not in (None, spec.version):
        raise ArchiveUnexpected(
            f"{is_it}, where version {version} belongs, so another version was put in its place; take it from its source again"
        )


def _check_digest(source: Path, found: str, asked: str | None) -> None:
    """Raise ArchiveUnexpected where an archive is not the one that was asked for."""
    if asked not in (None, found):
        raise ArchiveUnexpected(
            f"{printable(source)} has the digest {found} and not {asked}, which was asked for; it may be an older or a newer "
            "archive of the same name"
        )


def _copy(archive: Path, folder: Path) -> Path:
    """Copy an archive and its signature, where it has one, each from one open file. Raises ArchiveRefused."""
    copy = folder / COPY
    _copy_file(archive, copy, MAX_BYTES)
    if signing.signature_of(archive).exists():
        _copy_file(signing.signature_of(archive), signing.signature_of(copy), MAX_SIGNATURE_BYTES)
    return copy


def _copy_file(source: Path, target: Path, limit: int) -> None:
    shown = printable(source)
    try:
        with open_plain(source) as file, target.open("xb") as copy:
            copied = 0
            while data := file.read(PIECE):
                copied += len(data)
                if copied > limit:
                    raise ArchiveRefused(f"{shown} has more than {limit} bytes, which no archive or signature of visor's has")
                copy.write(data)
    except FileNotFoundError as err:
        raise ArchiveRefused(f"{shown} does not exist") from err
    except OSError as err:
        raise ArchiveRefused(f"{shown} cannot be copied to {target.parent}: {err.strerror}") from err
