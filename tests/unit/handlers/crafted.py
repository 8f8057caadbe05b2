"""Pictures written by hand: large on the inside, small as files, and made without the memory that they would take.

All of their pixels are 0, for which compressors need next to nothing. Sizes are (width, height) in pixels.
"""

import lzma
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Size = tuple[int, int]
MIB = 1 << 20
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
LZW, JPEG, DEFLATE, LZMA, ZSTD = 5, 7, 8, 34925, 50000


def png(size: Size, kind: int, bits: int = 8, interlaced: bool = False, before: bytes = b"", after: bytes = b"") -> bytes:
    """`before`, `after`: chunks around the pixels."""
    width, height = size
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    rows = (((width - x + dx - 1) // dx, (height - y + dy - 1) // dy) for x, y, dx, dy in passes)
    lengths = (count * (1 + (across * bits * CHANNELS[kind] + 7) // 8) for across, count in rows)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, interlaced))
    return b"\x89PNG\r\n\x1a\n" + head + before + chunk(b"IDAT", deflate(sum(lengths))) + after + chunk(b"IEND", b"")


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def text(key: bytes = b"Comment", content: bytes = b"a" * (MIB - 8) + "\U0001f600".encode()) -> bytes:
    """A PNG's chunk of compressed text, by default of 1 MiB, which a last letter outside Latin makes 4 MiB in Python."""
    return chunk(b"iTXt", key + b"\0\1\0\0\0" + zlib.compress(content, 9))


def exif(*tags: tuple[int, int, int, int], order: str = "<", behind: bytes = b"") -> bytes:
    """One directory of tags as (tag, type, count, value or where it is), and what is behind it."""
    entries = b"".join(struct.pack(order + "HHII", *tag) for tag in tags)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return head + struct.pack(order + "H", len(tags)) + entries + bytes(4) + behind


def webp_exif(content: bytes) -> bytes:
    """16 x 16 pixels."""
    flags = b"\x18\0\0\0" + 2 * b"\x0f\0\0"
    parts = b"VP8X" + struct.pack("<I", 10) + flags + webp((16, 16))[12:]
    parts += b"\0" * (len(parts) % 2) + b"EXIF" + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(parts)) + b"WEBP" + parts


def webp(size: Size) -> bytes:
    """Lossless, with transparency: 34 bytes of whatever size."""
    bits = (size[0] - 1) | (size[1] - 1) << 14 | 1 << 28
    return _riff(b"\x2f" + struct.pack("<I", bits) + bytes.fromhex("071011118888fe0700"))


def _riff(body: bytes) -> bytes:
    padded = body + bytes(len(body) % 2)
    return b"RIFF" + struct.pack("<I", 12 + len(padded)) + b"WEBPVP8L" + struct.pack("<I", len(body)) + padded


def webp_groups() -> bytes:
    """Lossless, 1024 x 1024, with codes of their own for each 4 x 4 pixels; the decoder makes tables of 360 MiB."""
    only_zero, code_of_8_bits, groups = "1000", "0" * 256, range(1 << 16)
    bits = "".join(_bits(value, width) for value, width in ((0x2F, 8), (1023, 14), (1023, 14), (1, 1), (0, 3)))
    bits += "0" + "0" + "1" + "000"  # no transforms, no cache, groups of codes, for each 4 x 4 pixels
    bits += "0"  # what follows says which pixels have which group, a picture itself, without a cache
    for unused in ("1" + _bits(24 - 11, 7), ""):  # green's 24 lengths, and red's none, behind 256 values of 8 bits each
        # Codes of lengths, for 12 symbols in the standard's order: 18, for many zeros, and 8 have a bit each.
        bits += "0" + _bits(12 - 4, 4) + "".join("100" if symbol in (1, 11) else "000" for symbol in range(12)) + "0"
        bits += code_of_8_bits + unused
    bits += 3 * only_zero  # blue, alpha, distance
    bits += "".join(f"{group & 255:08b}{group >> 8:08b}" for group in groups)
    bits += 5 * only_zero * len(groups)  # and pixels then need no bits
    bits += "0" * (-len(bits) % 8) + "0" * 128
    return _riff(int(bits[::-1], 2).to_bytes(len(bits) // 8, "little"))


def _bits(value: int, width: int) -> str:
    """Least significant first."""
    return f"{value:0{width}b}"[::-1]


def bmp(size: Size, runs: bool = False) -> bytes:
    """24 bits, or 8 in runs of equal pixels."""
    width, height = size
    row = (width * 3 + 3) // 4 * 4
    line = b"\xff\x01" * (width // 255) + bytes((width % 255, 1)) + b"\0\0"
    colours = b"\x10\x20\x30\0" * 256 if runs else b""
    body = colours + (line if runs else bytes(row)) * height
    kind = (1, 8, 1) if runs else (1, 24, 0)
    head = struct.pack("<IiiHHIIiiII", 40, width, height, *kind, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(body), 0, 0, 54 + len(colours)) + head + body


def jpeg(size: Size, components: int = 3, progressive: bool = False, one_scan: bool = True, luma: int = 0x11) -> bytes:
    """`luma`: how often the first component is sampled, 0x22 for 4:2:0."""
    width, height = size
    samplings = (luma, *(0x11,) * (components - 1))
    parts = b"".join(bytes((n, sampling, 0)) for n, sampling in enumerate(samplings))
    tables = b"\1" + bytes(15) + b"\0"  # one code, a 0 bit, which says that there is nothing
    out = b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64)
    out += segment(0xC2 if progressive else 0xC0, struct.pack(">BHHB", 8, height, width, components) + parts)
    out += segment(0xC4, b"\x00" + tables + b"\x10" + tables)
    for held in [range(components)] if one_scan else [[n] for n in range(components)]:
        spectrum = b"\0\0\0" if progressive else b"\0\x3f\0"
        out += segment(0xDA, bytes((len(held),)) + b"".join(bytes((n, 0)) for n in held) + spectrum)
        blocks = (width + 15) // 8 * ((height + 15) // 8) * len(held)
        out += bytes(blocks * (1 if progressive else 2) // 8 + 1)
    return out + b"\xff\xd9"


def segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content


def tiff(
    size: Size,
    payload: bytes,
    compression: int,
    samples: int = 3,
    bits: int = 8,
    photometric: int = 2,
    rows: int | None = None,
    tile: Size | None = None,
    more: Iterable[tuple[int, int, int]] = (),
) -> bytes:
    """All strips or tiles have one payload. `more`: tags as (tag, type, value), put before those of the same number."""
    strips = 1 if tile else -(-size[1] // (rows or size[1]))
    where, counts = (4, [8] * strips), (4, [len(payload)] * strips)
    sides = {256: (4, [size[0]]), 257: (4, [size[1]]), 258: (3, [bits] * samples), 259: (3, [compression])}
    layout = {322: (4, [tile[0]]), 323: (4, [tile[1]]), 324: where, 325: counts} if tile else {}
    layout = layout or {273: where, 278: (4, [rows or size[1]]), 279: counts}
    extra = {338: (3, [2])} if samples == 4 and photometric == 2 else {}
    tags = {**sides, 262: (3, [photometric]), 277: (3, [samples]), **layout, **extra}
    listed = [(tag, kind, [value]) for tag, kind, value in more] + [(tag, *kept) for tag, kept in tags.items()]
    payload += bytes(len(payload) % 2)
    start = 8 + len(payload) + 2 + 12 * len(listed) + 4
    entries, behind = b"", b""
    for tag, kind, values in sorted(listed, key=lambda entry: entry[0]):
        raw = struct.pack(f"<{len(values)}{'I' if kind == 4 else 'H'}", *values)
        inline = raw if len(raw) <= 4 else struct.pack("<I", start + len(behind))
        behind += raw if len(raw) > 4 else b""
        entries += struct.pack("<HHI", tag, kind, len(values)) + inline.ljust(4, b"\0")
    head = b"II*\0" + struct.pack("<I", 8 + len(payload)) + payload
    return head + struct.pack("<H", len(listed)) + entries + bytes(4) + behind


def deflate(length: int) -> bytes:
    packer = zlib.compressobj(1)
    return b"".join(packer.compress(zeros) for zeros in _zeros(length)) + packer.flush()


def xz(length: int) -> bytes:
    packer = lzma.LZMACompressor(preset=0)
    return b"".join(packer.compress(zeros) for zeros in _zeros(length)) + packer.flush()


def zstd(length: int) -> bytes:
    """A frame of RFC 8878 with a window of 128 MiB, in blocks that repeat one byte."""
    blocks = [min(1 << 17, length - start) for start in range(0, length, 1 << 17)]
    heads = [struct.pack("<I", size << 3 | 1 << 1 | (n == len(blocks) - 1))[:3] for n, size in enumerate(blocks)]
    return b"\x28\xb5\x2f\xfd\0" + bytes(((27 - 10) << 3,)) + b"".join(head + b"\0" for head in heads)


def _zeros(length: int) -> Iterator[bytes]:
    zeros = bytes(MIB)
    for start in range(0, length, MIB):
        yield zeros[: length - start]


SEE_THROUGH = chunk(b"PLTE", bytes(3 * 256)) + chunk(b"tRNS", bytes(256))
TURNED = chunk(b"eXIf", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0")
FINDING = bytes.fromhex("524946461a000000574542505650384c0d0000002f7ffe0613071011118888fe0700")
"""A WebP of 16,000 x 3,100 pixels, as Pillow writes an empty one; the decoder took 1.1 GiB for it."""


def strips(size: tuple[int, int], pack: Callable[[int], bytes], compression: int, samples: int = 3, **values: Any) -> bytes:
    """A TIFF in strips of 50 rows."""
    row = size[0] * samples * values.get("bits", 8) // 8
    return tiff(size, pack(50 * row), compression, samples, rows=50, **values)


def strip(size: tuple[int, int], pack: Callable[[int], bytes], compression: int, samples: int = 3, **values: Any) -> bytes:
    """A TIFF in one strip."""
    return tiff(size, pack(size[0] * size[1] * samples), compression, samples, **values)
