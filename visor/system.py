"""What the operating system says of a file or folder, as an error of visor's."""

import errno

from archives.files import FULL
from handlers.errors import VisorError
from training.errors import DiskFull, FolderError

REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO)
KINDS = {
    errno.EEXIST: "is a file where a folder is meant",
    errno.ENOTDIR: "is, or lies below, a file where a folder is meant",
    errno.EISDIR: "is a folder where a file is meant",
}
"""What is said where something is of another kind than is needed, which no right of this user's would change."""


def of_system(err: OSError) -> VisorError | None:
    """Say of a file or folder what the system says of it; None for what is no file's, such as a connection's errors."""
    where = err.filename if isinstance(err.filename, str) else "a file"
    if err.errno in FULL:
        where = err.filename2 if isinstance(err.filename2, str) else where  # of a copy's two names, the one that is written
        return DiskFull(f"no space is left for {where}; free some, then give the same command again: it goes on from there")
    if err.errno in KINDS and err.filename is not None:
        return FolderError(f"{where} {KINDS[err.errno]}; name another place")
    if err.errno in REFUSED and err.filename is not None:
        return FolderError(f"{where} cannot be read or written: {err.strerror}; let this user do so, or name another place")
    return None
