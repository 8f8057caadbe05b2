"""What an upload brings: a body as it is, or the fields and files of a form (multipart/form-data), read as it comes.

All files of a form lie one behind the other in one sink, in memory or on disk, so that a form of a thousand files opens one.
"""

import asyncio
import io
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from console.errors import ContentUnsupported, UploadInvalid, UploadSlow, UploadTooLarge
from console.settings import MIB

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FORM = "multipart/form-data"
LEAST_RATE = 64 << 10
"""Bytes for each of which an upload has one more second than `upload_timeout_s`."""
FORM_BYTES = 1 << 16
"""Bytes of a form beside its files."""
MOST_FIELDS, FIELD_BYTES = 16, 4096
NAME_CHARACTERS = 255
BUFFER = 1 << 20
"""Bytes that are written to disk at once, by a thread."""


@dataclass(frozen=True)
class Place:
    """Where a file of a form lies in the sink. `name`: as the client calls it, without what a terminal would obey."""

    name: str
    start: int
    size: int


@dataclass(frozen=True)
class Form:
    """A form: its fields by name, and its files in their order."""

    fields: Mapping[str, str]
    files: tuple[Place, ...]


@dataclass
class Limits:
    """How large an upload may be, and how long it may take. `files`: of a form; `timeout_s`: without a byte."""

    size: int
    files: int
    timeout_s: float


def content_type(request: Request) -> str:
    """The Content-Type without its parameters, in lower case; "" without one."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def declared_size(request: Request) -> int | None:
    """The Content-Length, None of a body that comes in chunks."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() else None


def check_declared(request: Request, limits: Limits, form_bytes: int = 0) -> None:
    """Raise UploadTooLarge where the head says already that the body is too large."""
    if (declared_size(request) or 0) > limits.size + form_bytes:
        raise _too_large(limits)


async def read_body(request: Request, sink: BinaryIO, limits: Limits) -> int:
    """Read a body as it is into a sink; the number of bytes. Raises UploadTooLarge, UploadSlow, UploadInvalid."""
    size = 0
    buffered = _Buffered(sink)
    async for chunk in _chunks(request, limits, limits.size):
        size += len(chunk)
        await buffered.write(chunk)
    await buffered.flush()
    return size


async def read_form(request: Request, sink: BinaryIO, limits: Limits) -> Form:
    """Read a form, its files into a sink. Raises UploadInvalid, UploadTooLarge, UploadSlow."""
    _, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if not boundary:
        raise UploadInvalid("the form's Content-Type names no boundary; let the client write it, as `curl -F` does")
    reader = _Reader(limits)
    buffered = _Buffered(sink)
    overhead = FORM_BYTES + limits.files * 1024
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        async for chunk in _chunks(request, limits, limits.size + overhead):
            parser.write(chunk)
            for piece in reader.taken():
                await buffered.write(piece)
        parser.finalize()
    except FormParserError as err:
        raise UploadInvalid("the form cannot be read as multipart/form-data") from err
    if not reader.whole:
        raise UploadInvalid("the form ends before its last boundary; send it whole")
    await buffered.flush()
    return Form(reader.fields, tuple(reader.files))


async def _chunks(request: Request, limits: Limits, most: int) -> AsyncIterator[bytes]:
    """The body's chunks, of which the last one has come in time. Raises UploadTooLarge, UploadSlow, UploadInvalid."""
    now = asyncio.get_running_loop().time
    began, size, more = now(), 0, True
    while more:
        try:
            async with asyncio.timeout_at(began + limits.timeout_s + size / LEAST_RATE):
                message = await request.receive()
        except TimeoutError as err:
            raise UploadSlow(f"the upload is too slow: {size} bytes in {now() - began:.0f} s; send a smaller picture") from err
        if message["type"] == "http.disconnect":
            raise UploadInvalid("the upload ended before it was whole")
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        if size > most:
            raise _too_large(limits)
        if chunk:
            yield chunk


def _too_large(limits: Limits) -> UploadTooLarge:
    return UploadTooLarge(f"more than {limits.size / MIB:g} MiB; make the picture smaller, or the batch")


class _Buffered:
    """Writes to a sink: to memory at once, to a file by a thread, a buffer at a time."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink, self._in_memory = sink, isinstance(sink, io.BytesIO)
        self._pieces: list[bytes] = []
        self._size = 0

    async def write(self, piece: bytes) -> None:
        if self._in_memory:
            self._sink.write(piece)
            return
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size >= BUFFER:
            await self.flush()

    async def flush(self) -> None:
        if self._pieces:
            pieces, self._pieces, self._size = self._pieces, [], 0
            await asyncio.to_thread(self._sink.write, b"".join(pieces))


class _Reader:
    """Collects what the parser of forms tells."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.fields: dict[str, str] = {}
        self.files: list[Place] = []
        self.whole = False
        self._headers: dict[bytes, bytes] = {}
        self._header = self._value = b""
        self._field: str | None = None
        self._text = bytearray()
        self._name = ""
        self._start = self._size = 0
        self._pieces: list[bytes] = []

    def callbacks(self) -> "MultipartCallbacks":
        """What the parser calls."""
        return {
            "on_part_begin": self._on_part_begin,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_end": self._on_end,
        }

    def taken(self) -> list[bytes]:
        """The pieces of files since the last call."""
        pieces, self._pieces = self._pieces, []
        return pieces

    def _on_part_begin(self) -> None:
        self._headers, self._header, self._value = {}, b"", b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if b"name" not in options:
            raise UploadInvalid("a part of the form has no name")
        if b"filename" not in options:
            if len(self.fields) == MOST_FIELDS:
                raise UploadInvalid(f"the form has more than {MOST_FIELDS} fields")
            self._field, self._text = _text(options[b"name"]), bytearray()
            return
        if len(self.files) == self._limits.files:
            raise UploadTooLarge(f"the form has more than {self._limits.files} files")
        self._field = None
        self._name, self._size = shown_name(_text(options[b"filename"])), 0

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._size += end - start
            self._pieces.append(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > FIELD_BYTES:
            raise UploadInvalid(f"a field of the form has more than {FIELD_BYTES} bytes; a picture is a part with a file name")

    def _on_part_end(self) -> None:
        if self._field is not None:
            if self._field in self.fields:
                raise UploadInvalid("the form has a field twice")
            self.fields[self._field] = _text(bytes(self._text))
        elif self._size or self._name:  # a browser sends an empty part for a file that nobody chose
            self.files.append(Place(self._name, self._start, self._size))
            self._start += self._size

    def _on_end(self) -> None:
        self.whole = True


def shown_name(name: str) -> str:
    """A file's name to show: without control and direction characters, and no longer than names of files are."""
    return "".join(character for character in name if character.isprintable())[-NAME_CHARACTERS:]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def refuse_content(kind: str, read: str) -> ContentUnsupported:
    """The error about a Content-Type. `read`: those that are read here."""
    shown = f"the Content-Type {kind[:80]!r}" if kind else "a body without Content-Type"
    return ContentUnsupported(f"{shown} is not read here; send {read}")
