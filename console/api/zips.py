"""Pictures of a ZIP, which is read where it lies and never unpacked to disk.

Before a directory is read its size is known, and before an entry is read what it unpacks to: `zipfile` unpacks no more than an
entry declares. What is no picture of the client's (folders, resource forks of macOS, thumbnails of Windows) is left out; what
could be one and is not read has its own error.
"""

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

from console.api.uploads import shown_name
from console.errors import UploadTooLarge, ZipRefused
from console.settings import MIB

MARKS = (b"PK\x03\x04", b"PK\x05\x06")
"""How a ZIP begins, and an empty one."""
_END = struct.Struct("<4s4H2LH")  # APPNOTE 4.3.16, the end of central directory record
_END_MARK = b"PK\x05\x06"
_LOCATOR_MARK, _LOCATOR_BYTES = b"PK\x06\x07", 20  # APPNOTE 4.3.15, right before the record above
_LONGEST_COMMENT = 0xFFFF
DIRECTORY_BYTES = 4 * MIB
"""Of all directories of an upload: 1,000 pictures beside as many resource forks take some 300 KB, and each byte of it some eight
of memory until the last picture is answered."""
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_LEFT_OUT = frozenset({".ds_store", "thumbs.db", "desktop.ini"})


@dataclass(frozen=True)
class ZipLimits:
    """Of one ZIP: entries that could be pictures, bytes of one of them, and of all of them unpacked."""

    entries: int
    image_bytes: int
    all_bytes: int


@dataclass(frozen=True)
class Entry:
    """An entry that could be a picture. `refused`: why it is not read."""

    name: str
    size: int
    info: zipfile.ZipInfo
    refused: str | None = None


class Zip:
    """A ZIP in an open file."""

    def __init__(self, file: BinaryIO, limits: ZipLimits, most_directory: int = DIRECTORY_BYTES) -> None:
        """Read the directory, of so many bytes at most. Raises ZipRefused, and UploadTooLarge where it is beyond the limits."""
        self.directory_bytes = _check_directory(file, most_directory)
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, EOFError, OSError, UnicodeError) as err:
            raise ZipRefused("the ZIP cannot be read: its directory is damaged") from err
        size = file.seek(0, io.SEEK_END)
        self.entries = tuple(_entries(self._zip.infolist(), limits))
        if sum(entry.info.compress_size for entry in self.entries) > size:
            raise ZipRefused("the ZIP's entries overlap, as those of a ZIP bomb do")
        if len(self.entries) > limits.entries:
            raise UploadTooLarge(f"the ZIP holds {len(self.entries)} files, more than {limits.entries}; make several of it")
        if sum(entry.size for entry in self.entries) > limits.all_bytes:
            raise UploadTooLarge(f"the ZIP unpacks to more than {limits.all_bytes / MIB:g} MiB; make several of it")

    def read(self, entry: Entry) -> bytes:
        """Unpack an entry, in memory. Raises ZipRefused where it is not read, or damaged."""
        if entry.refused:
            raise ZipRefused(entry.refused)
        try:
            with self._zip.open(entry.info) as member:
                content = member.read(entry.size + 1)
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, ValueError, RuntimeError, OSError) as err:
            raise ZipRefused("this entry of the ZIP is damaged") from err
        if len(content) != entry.size:
            raise ZipRefused("this entry of the ZIP is not as long as the ZIP says")
        if content.startswith(MARKS):
            raise ZipRefused("this entry is a ZIP itself, which is not opened; send it by itself")
        return content


def _check_directory(file: BinaryIO, most: int) -> int:
    """The directory's bytes, unless they are too many to be read into memory. Raises ZipRefused, UploadTooLarge."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _LOCATOR_BYTES - _END.size - _LONGEST_COMMENT))
    tail = file.read()
    place = tail.rfind(_END_MARK)
    if place < 0 or len(tail) - place < _END.size:
        raise ZipRefused("the ZIP cannot be read: it has no directory, and may be cut off")
    _, _, _, _, entries, length, start, _ = _END.unpack_from(tail, place)
    # `zipfile` believes the record of ZIP64 wherever its locator is there, whatever the fields above say.
    located = tail[max(0, place - _LOCATOR_BYTES) : place].startswith(_LOCATOR_MARK)
    if located or 0xFFFFFFFF in (length, start) or entries == 0xFFFF:
        raise ZipRefused("the ZIP is of the kind for more than 4 GiB (ZIP64), which is not read")
    if length > most:
        raise UploadTooLarge("the ZIP's directory lists too many files; make several of it")
    return int(length)


def _entries(infos: list[zipfile.ZipInfo], limits: ZipLimits) -> Iterator[Entry]:
    """The entries that could be pictures, each with why it is not read, if it is not."""
    seen: set[str] = set()
    for info in infos:
        path = PurePosixPath(info.filename)
        if (
            info.filename.endswith("/")
            or "__MACOSX" in path.parts
            or path.name.startswith("._")
            or path.name.lower() in _LEFT_OUT
        ):
            continue
        refused = _refused(info, path, limits)
        if refused is None and info.filename in seen:
            refused = "the ZIP has another entry of this name, which is answered"
        seen.add(info.filename)
        # A refused entry is not unpacked, whatever it says that it would come to.
        yield Entry(shown_name(info.filename), 0 if refused else info.file_size, info, refused)


def _refused(info: zipfile.ZipInfo, path: PurePosixPath, limits: ZipLimits) -> str | None:
    name = info.orig_filename
    if not path.parts or ".." in path.parts or path.is_absolute() or "\\" in name or "\0" in name or ":" in path.parts[0]:
        return "this entry's path leads out of the ZIP, or is none"
    if info.flag_bits & _ENCRYPTED:
        return "this entry is encrypted; make the ZIP without a password"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "this entry is a symbolic link"
    if info.compress_type not in METHODS:
        return "this entry is packed by another method than deflate; make the ZIP with the usual one"
    if info.file_size > limits.image_bytes:
        return f"this entry unpacks to more than {limits.image_bytes / MIB:g} MiB, the largest picture"
    return None
