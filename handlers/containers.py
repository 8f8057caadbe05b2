"""What stands around a picture's pixels, looked at before Pillow reads it: chunks, segments and tags.

Pillow makes an object of each of them: 20 MB of empty segments, 20 KB as they travel, took 646 MiB and 19 s, and one tag of
2,400,000 fractions took 717 MiB and 15 s. Whatever is not as it should be is left for Pillow to refuse, which reads no further.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from PIL.JpegImagePlugin import MARKER

from handlers.errors import ImageUnsupported

MAX_PARTS = 5000
"""Segments of a JPEG before its pixels, or chunks of a PNG beside them. Photos have dozens."""
MAX_TAGS = 4096
"""What libtiff reads at most."""
MAX_VALUES = 10_000
"""Of one tag that is neither text nor bytes, each of which is an object of Python."""
MAX_PLACES = 500_000
"""Strips or tiles of a TIFF: a row each of the tallest picture."""
MAX_DIRECTORIES = 16
BIG_TIFF = 43

PNG = b"\x89PNG\r\n\x1a\n"
TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
"""Chunks that are unpacked when they are read: 63 texts of 1 MB, 67 KB as they travel, took 490 MiB."""
TURNING = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
"""Texts that may say which way a picture is up."""
MAX_TEXT = 1 << 20
MAX_PROFILE = 4 << 20
"""Bytes of a colour profile, unpacked: those of printers have up to 3 MB, and those of cameras and screens some KB."""
SMALL = 64
"""Bytes of pixels in a chunk, below which it counts; it takes as long as any other."""
SCAN = 0xDA
EXIF = b"Exif\0\0"
BYTE, ASCII, UNDEFINED = 1, 2, 7
PLACES = (273, 279, 324, 325)
"""Tags that say where a TIFF's strips or tiles are, and how long."""
DIRECTORIES = (34665, 34853, 40965)
"""Tags that say where more tags are, which Pillow reads with the picture."""
POINTERS = {4: "I", 13: "I"}
BIG_POINTERS = {**POINTERS, 16: "Q", 18: "Q"}
"""How a type of tag that points to others is read."""
FILL = re.compile(rb"\xff+")


@dataclass(frozen=True)
class Sifted:
    """A file as Pillow may open it, and what was read of a PNG instead: its profile, and its samples' bits by its chunk sBIT."""

    data: bytes
    profile: bytes | None = None
    bits: int | None = None


def sift(data: bytes, unpacked: bool = True) -> Sifted:
    """Take a PNG's texts away, and look at its profile. Raises ImageUnsupported for too many parts or values.

    `unpacked`: whether a text that stays must be small when it is unpacked, too; by the first rule it need not.
    """
    if data.startswith(PNG):
        return _sift_png(data, unpacked)
    if data.startswith(b"\xff\xd8\xff"):
        first_scan(data)
    else:
        check_tags(data)
    return Sifted(data)


def first_scan(data: bytes) -> int | None:
    """Find the marker at which a JPEG's first scan begins, as Pillow finds it. Raises ImageUnsupported, as `sift`."""
    parts, at = 0, 2
    exif: list[bytes] = []
    while fill := FILL.search(data, at):
        head = fill.end()
        parts += 1 + (head - at) // 16  # other bytes in between are skipped one by one
        _check_parts(parts, "JPEG", "segments before its pixels")
        marker = data[head] if head < len(data) else 0
        if marker == SCAN:
            check_tags(b"".join(exif))
            return head - 1
        at = head + 1
        if marker == 0:
            continue
        if 0xFF00 | marker not in MARKER or len(data) < at + 2:
            break
        if MARKER[0xFF00 | marker][2] is not None:
            [length] = struct.unpack_from(">H", data, at)
            content = data[at + 2 : at + length]
            if marker == 0xE1 and content.startswith(EXIF):
                exif.append(content[len(EXIF) :])
            at += max(2, length)
    check_tags(b"".join(exif))
    return None


def check_tags(data: bytes) -> None:
    """Raise ImageUnsupported where EXIF or a TIFF has too many tags, or too many values of one."""
    data = data.removeprefix(EXIF).removeprefix(EXIF)  # as Pillow has it
    if not data.startswith((b"II", b"MM")):
        return
    if data.startswith(b"MM\0+"):  # which Pillow takes for a small one, and libtiff does not
        raise ImageUnsupported("a BigTIFF with its most significant bytes first is not read; save it again as an ordinary TIFF")
    order, big = "<" if data.startswith(b"II") else ">", data[2:3] == bytes((BIG_TIFF,))
    try:
        starts = list(struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4))
        for start in starts:  # which grows meanwhile
            starts += _directories(data, start, order, big)
            if len(starts) > MAX_DIRECTORIES:
                raise ImageUnsupported(f"an image with tags in more than {MAX_DIRECTORIES} places; save it without its metadata")
    except struct.error:
        return  # it ends too early, and Pillow says so


def _directories(data: bytes, start: int, order: str, big: bool) -> Iterator[int]:
    """Check the tags of one directory: where others are, of which they tell."""
    counted, entry, pointers = ("Q", "HHQ", BIG_POINTERS) if big else ("H", "HHI", POINTERS)
    [tags] = struct.unpack_from(order + counted, data, start)
    if tags > MAX_TAGS:
        raise ImageUnsupported(f"an image with {tags} tags, at most {MAX_TAGS}; save it again without its metadata")
    head = struct.calcsize(order + entry)
    step = head + (8 if big else 4)
    first = start + struct.calcsize(order + counted)
    for at in range(first, first + tags * step, step):
        tag, kind, values = struct.unpack_from(order + entry, data, at)
        if kind not in (BYTE, ASCII, UNDEFINED) and values > (MAX_PLACES if tag in PLACES else MAX_VALUES):
            raise ImageUnsupported(f"an image with {values} values of tag {tag}; save it again without its metadata")
        if tag in DIRECTORIES:
            if kind not in pointers or values != 1:
                raise ImageUnsupported(f"an image with tag {tag} of type {kind}; save it again without its metadata")
            yield from struct.unpack_from(order + pointers[kind], data, at + head)


def _sift_png(data: bytes, unpacked: bool) -> Sifted:
    """Less what is text, but for what may say which way the picture is up, once."""
    parts, at, copied, turning = 0, len(PNG), 0, list(TURNING)
    kept: list[memoryview] = []
    profile: bytes | None = None
    bits: int | None = None
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        content, end = slice(at + 8, at + 8 + length), at + 12 + length
        if name != b"IDAT" or length < SMALL:
            parts += 1
            _check_parts(parts, "PNG", "chunks beside its pixels")
        if name == b"sBIT" and length:
            bits = max(data[content], default=None)
        elif name == b"iCCP" and profile is None:
            profile = _unpack(data[content].partition(b"\0")[2][1:], MAX_PROFILE)
        if name in TEXTS:
            key = next((key for key in turning if data.startswith(key, at + 8)), None)
            if key is not None and length <= MAX_TEXT and not (unpacked and _is_bomb(name, data[content])):
                turning.remove(key)
            else:
                kept.append(memoryview(data)[copied:at])
                copied = end
        at = end
        if name == b"IEND":
            break
    return Sifted(b"".join([*kept, memoryview(data)[copied:]]) if kept else data, profile, bits)


def _is_bomb(name: bytes, content: bytes) -> bool:
    """Whether a text is more than MAX_TEXT when it is unpacked, which Pillow takes for a broken file, or cannot be."""
    _, _, text = content.partition(b"\0")
    if name == b"iTXt":
        packed, text = text[:1] == b"\1", text[2:].partition(b"\0")[2].partition(b"\0")[2]
    else:
        packed, text = name == b"zTXt", text[1:]
    return packed and _unpack(text, MAX_TEXT) is None


def _unpack(packed: bytes, most: int) -> bytes | None:
    """What zlib has packed; None for more than `most` bytes, of which no more are unpacked, and for what is damaged."""
    try:
        found = zlib.decompressobj().decompress(packed, most + 1)
    except zlib.error:
        return None
    return found if len(found) <= most else None


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Read the width and height that a WebP's first chunk gives the whole picture; None for another file."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    match data[12:16]:
        case b"VP8X":
            return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
        case b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF
    return None


def _check_parts(parts: int, form: str, of: str) -> None:
    if parts > MAX_PARTS:
        raise ImageUnsupported(f"{form} with more than {MAX_PARTS} {of}; save it again as an ordinary {form}")
