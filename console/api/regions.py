"""A part of an open file as a file of its own."""

import io
import os
from typing import Any


class Region(io.RawIOBase):
    """A part of an open file as a file of its own, read by place, so that threads may read the same file at once."""

    def __init__(self, descriptor: int, start: int, size: int) -> None:
        self._descriptor, self._start, self._size, self._at = descriptor, start, size, 0

    def starts_with(self, marks: tuple[bytes, ...]) -> bool:
        """Whether it begins with one of these."""
        return self.at(0, max(map(len, marks))).startswith(marks)

    def at(self, place: int, size: int) -> bytes:
        """The bytes at a place."""
        wanted, pieces = max(0, min(size, self._size - place)), []
        while wanted and (piece := os.pread(self._descriptor, wanted, self._start + place)):
            pieces.append(piece)
            wanted, place = wanted - len(piece), place + len(piece)
        return b"".join(pieces)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + place)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        piece = self.at(self._at, len(buffer))
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)
