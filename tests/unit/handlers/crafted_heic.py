"""HEIC files put together box by box (ISO/IEC 14496-12, 23008-12), of the streams of tests/heic."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

SAMPLES = Path(__file__).parents[2] / "heic"


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def content_of(data: bytes, kind: bytes) -> bytes:
    """What the first box of a kind holds, wherever it is."""
    at = data.index(kind)
    [size] = struct.unpack_from(">I", data, at - 4)
    return data[at + 4 : at - 4 + size]


TILE = (SAMPLES / "tile.heic").read_bytes()
CONFIG, STREAM = content_of(TILE, b"hvcC"), content_of(TILE, b"mdat")
"""Of 64 x 64 pixels of one colour."""


@dataclass(frozen=True)
class Item:
    kind: bytes
    content: bytes
    properties: Sequence[bytes] = ()
    tiles: Sequence[int] = ()
    alpha_of: int | None = None
    multiplied: bool = False  # the picture by it
    pieces: int = 1


def size(width: int, height: int) -> bytes:
    return box(b"ispe", struct.pack(">III", 0, width, height))


def tile(config: bytes = CONFIG, stream: bytes = STREAM, width: int = 64, height: int = 64) -> Item:
    return Item(b"hvc1", stream, [size(width, height), box(b"hvcC", config)])


def grid(rows: int, columns: int, width: int, height: int, first: int = 2, properties: Sequence[bytes] = ()) -> Item:
    content = struct.pack(">BBBBII", 0, 1, rows - 1, columns - 1, width, height)
    return Item(b"grid", content, [size(width, height), *properties], range(first, first + rows * columns))


def heic(items: Sequence[Item], brand: bytes = b"heic", before: bytes = b"", behind: bytes = b"", more: bytes = b"") -> bytes:
    """A file of items, numbered from 1, the first of which is the picture. `more`: boxes in `meta`; `before`, `behind` it."""
    head = box(b"ftyp", brand + bytes(4) + b"mif1heic") + before

    def meta(start: int) -> bytes:
        places, infos, references, owned, boxes = b"", b"", b"", b"", b""
        count = 0
        for number, item in enumerate(items, 1):
            pieces = [(start, len(item.content))] * item.pieces
            places += struct.pack(">HHH", number, 0, len(pieces)) + b"".join(struct.pack(">II", *piece) for piece in pieces)
            start += len(item.content)
            infos += box(b"infe", struct.pack(">IHH4sx", 2 << 24, number, 0, item.kind))
            if item.tiles:
                tiles = list(item.tiles)
                references += box(b"dimg", struct.pack(f">HH{len(tiles)}H", number, len(tiles), *tiles))
            if item.alpha_of:
                references += box(b"auxl", struct.pack(">HHH", number, 1, item.alpha_of))
            if item.alpha_of and item.multiplied:
                references += box(b"prem", struct.pack(">HHH", item.alpha_of, 1, number))
            owned += struct.pack(">HB", number, len(item.properties))
            owned += b"".join(struct.pack(">H", count + n) for n in range(1, len(item.properties) + 1))
            count += len(item.properties)
            boxes += b"".join(item.properties)
        parts = box(b"hdlr", bytes(8) + b"pict" + bytes(13)) + box(b"pitm", struct.pack(">IH", 0, 1))
        parts += box(b"iloc", struct.pack(">IBBH", 0, 0x44, 0, len(items)) + places)
        parts += box(b"iinf", struct.pack(">IH", 0, len(items)) + infos)
        parts += box(b"iref", bytes(4) + references) if references else b""
        ipma = box(b"ipma", struct.pack(">II", 1, len(items)) + owned)
        return box(b"meta", bytes(4) + parts + box(b"iprp", box(b"ipco", boxes) + ipma) + more)

    start = len(head) + len(meta(0)) + len(behind) + 8
    return head + meta(start) + behind + box(b"mdat", b"".join(item.content for item in items))


@dataclass
class Bits:
    """Bits of a unit, written one after the other, with the escapes that a stream needs (23008-2, 7.3.1.1)."""

    text: str = ""
    unit: bytes = field(default=b"\x42\x01")

    def golomb(self, value: int) -> None:
        digits = f"{value + 1:b}"
        self.text += "0" * (len(digits) - 1) + digits

    def packed(self) -> bytes:
        text = self.text + "0" * (-len(self.text) % 8)
        found, zeros = bytearray(self.unit), 0
        for one in int(text, 2).to_bytes(len(text) // 8, "big"):
            if zeros >= 2 and one <= 3:
                found.append(3)
                zeros = 0
            found.append(one)
            zeros = zeros + 1 if one == 0 else 0
        return bytes(found)


def parameters(width: int, height: int, chroma: int = 1, bits: int = 8) -> bytes:
    """A sequence's parameter set up to its depth, of main profile's form with one layer."""
    found = Bits("0000" + "000" + "1" + f"{0x0104:016b}" + "0" * 72 + f"{30:08b}")
    for value in (0, chroma):
        found.golomb(value)
    if chroma == 3:
        found.text += "0"
    found.golomb(width)
    found.golomb(height)
    found.text += "0"
    found.golomb(bits - 8)
    found.golomb(bits - 8)
    return found.packed() + b"\x80"


def config(*sets: bytes) -> bytes:
    """A configuration whose sequence's parameter sets are these."""
    units = b"".join(struct.pack(">H", len(one)) + one for one in sets)
    return CONFIG[:22] + b"\x01" + b"\xa1" + struct.pack(">H", len(sets)) + units
