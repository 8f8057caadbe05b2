"""Files and folders that appear whole or not at all, their digests, their names in sentences, and what a full disk says."""

import errno
import hashlib
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of the errors of a disk, or of a user's share of one, that has no space left."""
PACKED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
"""How the names of files end that hold other files."""


def is_packed(path: Path) -> bool:
    """Tell whether a path is a file that is named as those are that others are packed into."""
    return path.suffix.lower() in PACKED and path.is_file()


@contextmanager
def naming(place: Path) -> Iterator[None]:
    """Have an error of a full disk within the block name `place`, where the system, having begun to write, names nothing."""
    try:
        yield
    except OSError as err:
        # A tree's copy has collected the errors of its files.
        if isinstance(err, shutil.Error) and (full := next((one for one in FULL if os.strerror(one) in str(err)), None)):
            raise OSError(full, os.strerror(full), str(place)) from err
        if err.errno in FULL and err.filename is None:
            err.filename = str(place)
        raise


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Make a folder beside `target` to write into. It becomes `target` when the block ends well and is removed when it fails.

    If another process has put `target` there in the meantime, its folder stays and ours goes.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as err:
        err.filename = str(target)  # and not the random name beside it
        raise
    try:
        folder.chmod(0o755)
        with naming(target):
            yield folder
        _rename(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _rename(folder: Path, target: Path) -> None:
    try:
        folder.rename(target)
    except OSError:
        if not target.is_dir():
            raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Name a temporary path that replaces `path` when the block ends well: readers see the old file or the new one.

    No other process has this name, not even on other machines that share the folder. An error of the disk names `path`, in the
    place of the temporary one, or of none where the system has begun to write.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as err:
        _name(err, path, temporary)
        raise
    finally:
        with suppress(FileNotFoundError, NotADirectoryError):
            temporary.unlink()


def _name(err: OSError, path: Path, temporary: Path) -> None:
    """Let an error name the path that was asked for, where it names none or the temporary one."""
    if err.errno is not None and err.filename in (None, str(temporary), temporary):
        err.filename = str(path)
        err.filename2 = None


def open_plain(path: Path, flags: int = 0) -> BinaryIO:
    """Open a file to read, and nothing else that may have its name: a pipe would be waited for. Raises OSError.

    What is judged is what was opened, whatever has the name a moment later. `flags`: more of os.open's.
    """
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | flags)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return os.fdopen(opened, "rb")


def sha256(path: Path) -> str:
    """Compute the hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def printable(path: Path | str) -> str:
    """Write a path for a sentence: a name from storage may hold line breaks and a terminal's control codes."""
    return str(path) if str(path).isprintable() else repr(str(path))
