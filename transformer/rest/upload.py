"""A body that is one picture: as it is (`image/*`, and bytes of no said kind that begin like a picture), or as the one part of a
form (`multipart/form-data`, RFC 7578).
"""

import re

from transformer.errors import FormInvalid
from transformer.tensors import Buffer

FORM = "multipart/form-data"
BYTES = "application/octet-stream"
WHOLE, START = 100, 4096
"""Bytes of a picture at least, and of its start."""

_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]{1,70})"|([^\s";,]{1,70}))', re.IGNORECASE)
# What a file begins with → what to call it in a sentence.
_BEGINNINGS = {
    b"\xff\xd8\xff": "a JPEG",
    b"\x89PNG": "a PNG",
    b"RIFF": "a WebP",
    b"BM": "a BMP",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"GIF8": "a GIF",
}
_BOX = b"ftyp"  # of HEIC, HEIF and AVIF, behind its length of four bytes


def is_upload(content_type: str, body: Buffer | bytearray = b"") -> bool:
    """Whether a body of this Content-Type is one picture and no JSON. `body`: what is known of it."""
    kind = _kind(content_type)
    return kind.startswith("image/") or kind == FORM or (is_bytes(content_type) and bool(guess_picture(body)))


def is_bytes(content_type: str) -> bool:
    """Whether a Content-Type says bytes of no kind."""
    return _kind(content_type) == BYTES


def read_upload(body: bytes | bytearray, content_type: str) -> memoryview:
    """Read the picture of a body that is an upload. Raises FormInvalid."""
    return _only_part(body, content_type) if _kind(content_type) == FORM else memoryview(body)


def guess_picture(body: Buffer | bytearray) -> str:
    """What kind of picture these bytes begin like, in words, also where it is none that is read; "" where it is none."""
    start = bytes(body[:8])
    if start[4:] == _BOX:
        return "a HEIC or AVIF"
    return next((name for beginning, name in _BEGINNINGS.items() if start.startswith(beginning)), "")


def is_stripped(picture: Buffer) -> bool:
    """Whether bytes that begin like a picture lack what curl's -d takes out: no file that is read begins without a zero byte."""
    data = bytes(picture[:START])
    return len(data) > WHOLE and bool(guess_picture(data)) and not any(byte in data for byte in (b"\0", b"\r", b"\n"))


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _only_part(body: bytes | bytearray, content_type: str) -> memoryview:
    """The contents of a form's one part. Each part is a delimiter's line, a head, an empty line and its contents."""
    found = _BOUNDARY.search(content_type)
    if not found:
        raise FormInvalid(f"the Content-Type {FORM} must name the boundary of the form's parts")
    delimiter = b"\r\n--" + (found[1] or found[2]).encode("latin-1")
    # The first delimiter's line break may be the start of the body; that of empty contents is the empty line's.
    start = 0 if body.startswith(delimiter[2:]) else body.find(delimiter)
    head = body.find(b"\r\n\r\n", start) if start >= 0 else -1
    end = body.find(delimiter, head + 2) if head >= 0 else -1
    if end < 0:
        raise FormInvalid(f"the form of {len(body)} bytes has no whole part; send one picture, such as curl -F image=@a.jpg")
    after = end + len(delimiter)
    if body[after : after + 2] != b"--":
        raise FormInvalid("the form has several parts; send one picture in one part, and options as JSON or one request each")
    return memoryview(body)[head + 4 : end]
