"""What a HEIC file holds, read from its boxes before its decoder is asked: which picture, of what size, in how many tiles.

HEIF is ISO/IEC 23008-12, its boxes ISO/IEC 14496-12, and HEVC's part of both 14496-15 and 23008-2 (parameter sets: 7.3.2). The
decoder believes each of a picture's sizes in turn: the box's, the grid's, and that of each tile's own stream. All of them are
looked at here, so that a file of 1 KB is not taken for a small picture. What is damaged raises almost anything, as in Pillow.
"""

import struct
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from handlers.errors import ImageUnsupported

BRANDS = (b"heic", b"heix", b"mif1")
"""Of files with still pictures, which are read where the picture itself is of HEVC."""
MAX_ITEMS = 10_000
MAX_TILES = 2_000
"""Photos of 200 megapixels have 800. Each costs the decoder 0.1 ms, however small it is."""
MAX_EXTENTS = 32
CODED = {
    b"av01": "AVIF",
    b"j2k1": "JPEG 2000 in HEIF",
    b"jpeg": "JPEG in HEIF",
    b"avc1": "H.264 in HEIF",
    b"vvc1": "H.266 in HEIF",
}
ALPHA = (b"urn:mpeg:hevc:2015:auxid:1\0", b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0")
ONCE = (b"pitm", b"iinf", b"iref", b"iprp", b"iloc", b"idat")
SPS, LAST_SLICE = 33, 31
"""Kinds of HEVC's units: a parameter set with the size, and the last of those that hold pixels."""
SAMPLES = (1.0, 1.5, 2.0, 3.0)
"""Samples a pixel by chroma_format_idc: grey, 4:2:0, 4:2:2, 4:4:4."""

Span = tuple[int, int]


@dataclass(frozen=True)
class Heic:
    """The picture of a file. `size`: width and height as it is stored, not yet turned; `tiles`: how many streams make it up.

    `decoded`: bytes of all that is decoded for it, its transparency and the tiles' rims too.
    """

    size: tuple[int, int]
    tiles: int
    decoded: int


@dataclass
class _Items:
    primary: int = 0
    kinds: dict[int, bytes] = field(default_factory=dict)
    parts: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))  # a grid's tiles, in order
    beside: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))  # auxiliary pictures of an item
    properties: list[tuple[bytes, Span]] = field(default_factory=list)
    owned: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    places: dict[int, tuple[int, list[Span]]] = field(default_factory=dict)  # where the bytes begin to count, and where they are
    own: Span = (0, 0)  # idat


def is_heic(data: bytes) -> bool:
    """Whether this is a HEIF file that may hold a still picture of HEVC."""
    return data[4:8] == b"ftyp" and data[8:12] in BRANDS


def look(data: bytes) -> Heic:
    """Read what the file's main picture is. Raises ImageUnsupported, and almost anything where the file is damaged."""
    view = memoryview(data)
    top = [(kind, span) for kind, span in _boxes(view, (0, len(data)))]
    if any(kind == b"moov" for kind, _ in top):
        raise ImageUnsupported("a HEIF sequence is not read; send the picture that is meant")
    metas = [span for kind, span in top if kind == b"meta"]
    if len(metas) != 1:
        raise ImageUnsupported(f"a HEIF file with {len(metas)} descriptions of its pictures; save it again")
    return _Reader(view, _read_meta(view, metas[0])).primary()


def _boxes(data: memoryview, within: Span) -> Iterator[tuple[bytes, Span]]:
    at, end = within
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            [size] = struct.unpack_from(">Q", data, at + 8)
            head = 16
        elif size == 0:
            size = end - at
        if size < head or at + size > end:
            raise ValueError(f"a box of {size} bytes where {end - at} are left")
        yield kind, (at + head, at + size)
        at += size


def _read_meta(data: memoryview, meta: Span) -> _Items:
    found = [(kind, span) for kind, span in _boxes(data, (meta[0] + 4, meta[1])) if kind in ONCE]
    if twice := [kind.decode() for kind, count in Counter(kind for kind, _ in found).items() if count > 1]:
        raise ImageUnsupported(f"a HEIF file with two boxes {twice[0]}; save it again")
    items, boxes = _Items(), dict(found)
    at, _ = boxes[b"pitm"]
    [items.primary] = struct.unpack_from(">I" if data[at] else ">H", data, at + 4)
    at, end = boxes[b"iinf"]
    for kind, (start, _) in _boxes(data, (at + (8 if data[at] else 6), end)):
        if kind == b"infe" and data[start] >= 2:
            item, _, coded = struct.unpack_from(">IH4s" if data[start] > 2 else ">HH4s", data, start + 4)
            items.kinds[item] = coded
    if len(items.kinds) > MAX_ITEMS:
        raise ImageUnsupported(f"a HEIF file of {len(items.kinds)} parts, at most {MAX_ITEMS}; save it again")
    _read_references(data, boxes.get(b"iref"), items)
    _read_properties(data, boxes[b"iprp"], items)
    _read_places(data, boxes[b"iloc"][0], items)
    items.own = boxes.get(b"idat", (0, 0))
    return items


def _read_references(data: memoryview, box: Span | None, items: _Items) -> None:
    if box is None:
        return
    wide = "I" if data[box[0]] else "H"
    for kind, (at, _) in _boxes(data, (box[0] + 4, box[1])):
        item, count = struct.unpack_from(f">{wide}H", data, at)
        others = struct.unpack_from(f">{count}{wide}", data, at + struct.calcsize(f">{wide}H"))
        if kind == b"dimg":
            items.parts[item] += others
        elif kind == b"auxl":
            for other in others:
                items.beside[other].append(item)


def _read_properties(data: memoryview, box: Span, items: _Items) -> None:
    for kind, (at, end) in _boxes(data, box):
        if kind == b"ipco":
            items.properties += _boxes(data, (at, end))
        elif kind == b"ipma":
            item_form, wide = (">IB" if data[at] else ">HB"), data[at + 3] & 1
            [count] = struct.unpack_from(">I", data, at + 4)
            at += 8
            for _ in range(count):
                item, owned = struct.unpack_from(item_form, data, at)
                at += struct.calcsize(item_form)
                numbers = struct.unpack_from(f">{owned}{'H' if wide else 'B'}", data, at)
                at += owned * (2 if wide else 1)
                items.owned[item] += [number & (0x7FFF if wide else 0x7F) for number in numbers]


def _read_places(data: memoryview, at: int, items: _Items) -> None:
    version = data[at]
    sizes, more = data[at + 4], data[at + 5]
    offset_size, length_size, base_size, index_size = sizes >> 4, sizes & 15, more >> 4, (more & 15) if version else 0
    form = ">I" if version > 1 else ">H"
    [count] = struct.unpack_from(form, data, at + 6)
    at += 6 + struct.calcsize(form)

    def number(size: int) -> int:
        nonlocal at
        at += size
        if at > len(data):
            raise ValueError("a box of places that breaks off")
        return int.from_bytes(data[at - size : at], "big")

    for _ in range(count):
        item = number(struct.calcsize(form))
        method = number(2) & 15 if version else 0
        number(2)
        base, extents = number(base_size), number(2)
        if extents > MAX_EXTENTS:
            raise ImageUnsupported(f"a HEIF file with a part in {extents} pieces, at most {MAX_EXTENTS}; save it again")
        pieces = []
        for _ in range(extents):
            number(index_size)
            start = base + number(offset_size)
            pieces.append((start, number(length_size)))
        items.places[item] = method, pieces


class _Reader:
    """What the items of one file are, each looked at once."""

    def __init__(self, data: memoryview, items: _Items) -> None:
        self._data, self._items = data, items
        self._read = 0

    def primary(self) -> Heic:
        size = self._size(self._items.primary)
        streams = self._streams(self._items.primary, size, with_alpha=True)
        if len(streams) > MAX_TILES:
            raise ImageUnsupported(f"a HEIC of {len(streams)} tiles, at most {MAX_TILES}; save it again as an ordinary HEIC")
        return Heic(size, len(streams), sum(self._coded(item) for item in streams))

    def _streams(self, item: int, size: tuple[int, int], with_alpha: bool) -> list[int]:
        """The items of HEVC that are decoded for an item, one that is decoded twice twice."""
        kind = self._items.kinds[item]
        if kind == b"hvc1":
            found = [item]
        elif kind == b"grid":
            found = self._items.parts[item]
            self._check_grid(item, size, len(found))
            if other := {self._items.kinds[tile] for tile in found} - {b"hvc1"}:
                raise _unread(min(other))
        else:
            raise _unread(kind)
        if not with_alpha:
            return found
        beside = [other for each in {item, *found} for other in self._items.beside[each] if self._is_alpha(other)]
        return [*found, *(stream for other in beside for stream in self._streams(other, self._size(other), with_alpha=False))]

    def _owned(self, item: int, kind: bytes) -> list[Span]:
        owned = (self._items.properties[number - 1] for number in self._items.owned[item] if number)
        return [span for name, span in owned if name == kind]

    def _size(self, item: int) -> tuple[int, int]:
        [(at, _)] = self._owned(item, b"ispe")
        width, height = struct.unpack_from(">II", self._data, at + 4)
        return width, height

    def _is_alpha(self, item: int) -> bool:
        return any(bytes(self._data[at + 4 : end]).startswith(ALPHA) for at, end in self._owned(item, b"auxC"))

    def _content(self, item: int) -> bytes:
        method, pieces = self._items.places[item]
        if method > 1:
            raise ImageUnsupported("a HEIF file whose parts lie in other parts; save it again as an ordinary HEIC")
        start, end = self._items.own if method else (0, len(self._data))
        self._read += sum(length for _, length in pieces)
        if self._read > len(self._data):
            raise ImageUnsupported("a HEIF file whose parts lie over one another; save it again as an ordinary HEIC")
        if any(start + at + length > end for at, length in pieces):
            raise ValueError("a part that lies behind the file's end")
        return b"".join(self._data[start + at : start + at + length] for at, length in pieces)

    def _check_grid(self, item: int, size: tuple[int, int], tiles: int) -> None:
        content = self._content(item)
        rows, columns, *sides = struct.unpack_from(">BBII" if content[1] & 1 else ">BBHH", content, 2)
        if (rows + 1) * (columns + 1) != tiles or tuple(sides) != size:
            raise ValueError(f"a grid of {rows + 1} x {columns + 1} tiles for {size[0]} x {size[1]} pixels in {tiles} tiles")

    def _coded(self, item: int) -> int:
        """Bytes of the picture that a stream of HEVC is decoded to."""
        [(at, end)] = self._owned(item, b"hvcC")
        config, content = self._data[at:end], self._content(item)
        sets, length = list(_units_of_config(config)), (config[21] & 3) + 1
        pictures, at = 0, 0
        while at + length < len(content):
            size = int.from_bytes(content[at : at + length], "big")
            unit = content[at + length : at + length + size]
            at += length + size
            if len(unit) < 3 or _layer(unit):
                continue
            pictures += _kind(unit) <= LAST_SLICE and unit[2] >> 7
            if _kind(unit) == SPS:
                sets.append(unit)
        if pictures > 1:
            raise ImageUnsupported("a HEIC with more than one picture in a stream; save it again as an ordinary HEIC")
        return max(_picture_bytes(unit) for unit in sets)


def _unread(kind: bytes) -> ImageUnsupported:
    name = CODED.get(kind) or f"HEIF with a picture of kind {kind.decode('latin-1')!r}"
    return ImageUnsupported(f"{name} is not read; send a HEIC, as phones write it, or a JPEG")


def _kind(unit: bytes) -> int:
    return unit[0] >> 1 & 63


def _layer(unit: bytes) -> int:
    """Above 0, a unit is of another view or scale, which the decoder leaves out."""
    return (unit[0] & 1) << 5 | unit[1] >> 3


def _units_of_config(config: memoryview) -> Iterator[bytes]:
    """The parameter sets with a size that an item's configuration brings (14496-15, 8.3.3.1)."""
    at = 23
    for _ in range(config[22]):
        [count] = struct.unpack_from(">H", config, at + 1)
        at += 3
        for _ in range(count):
            [size] = struct.unpack_from(">H", config, at)
            unit = bytes(config[at + 2 : at + 2 + size])
            at += 2 + size
            if len(unit) > 2 and _kind(unit) == SPS and not _layer(unit):
                yield unit


class _Bits:
    """Bits of a unit in their order, its escapes removed (23008-2, 7.3.1.1)."""

    def __init__(self, unit: bytes) -> None:
        payload = unit[2:].replace(b"\0\0\3", b"\0\0")
        self._value, self._left = int.from_bytes(payload, "big"), 8 * len(payload)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("a parameter set that breaks off")
        return self._value >> self._left & (1 << count) - 1

    def golomb(self) -> int:
        """ue(v) of 9.2."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)


def _picture_bytes(unit: bytes) -> int:
    """Bytes of a decoded picture by its sequence's parameter set (23008-2, 7.3.2.2 and 7.3.3)."""
    bits = _Bits(unit[:1024])
    bits.take(4)
    layers = bits.take(3)
    bits.take(1 + 96)
    present = [(bits.take(1), bits.take(1)) for _ in range(layers)]
    bits.take(2 * (8 - layers) if layers else 0)
    bits.take(sum(88 * profile + 8 * level for profile, level in present))
    bits.golomb()
    chroma = bits.golomb()
    if chroma == 3:
        bits.take(1)
    width, height = bits.golomb(), bits.golomb()
    if bits.take(1):
        for _ in range(4):
            bits.golomb()
    deep = max(bits.golomb(), bits.golomb()) > 0
    return int(width * height * SAMPLES[chroma] * (2 if deep else 1))
