"""A HEIC is written anew before its decoder sees it: the main picture's streams, and the properties that its pixels depend on.

libheif believes each of a picture's sizes in turn: the box's, the grid's, and that of each tile's own stream; and what reads the
rest of a file, such as names of metadata in pi-heif, ends the process where one byte is wrong. So all sizes are looked at here
(HEIF is ISO/IEC 23008-12, HEVC in it 14496-15), and what is not needed does not get there. Damage raises almost anything,
as in Pillow.
"""

import struct
from dataclasses import dataclass

from handlers.errors import ImageUnsupported
from handlers.heif_boxes import Items, read_boxes, read_meta
from handlers.hevc import decoded_bytes

BRANDS = (b"heic", b"heix", b"mif1")
"""Of files with still pictures, which are read where the picture itself is of HEVC."""
MAX_TILES = 900
"""Photos of 200 megapixels have 800, and libheif reads 1,000 items."""
CODED = {
    b"av01": "AVIF",
    b"j2k1": "JPEG 2000 in HEIF",
    b"jpeg": "JPEG in HEIF",
    b"avc1": "H.264 in HEIF",
    b"vvc1": "H.266 in HEIF",
}
ALPHA = (b"urn:mpeg:hevc:2015:auxid:1\0", b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0")
HEVC, GRID = b"hvc1", b"grid"
SHAPES, TURNS = (b"ispe", b"hvcC", b"colr", b"pixi"), (b"irot", b"imir", b"clap")
"""Properties that pixels depend on: of every part, and of whole pictures alone."""
LENGTHS = {b"ispe": 12, b"colr": 11, b"irot": 1, b"imir": 1, b"clap": 32}


@dataclass(frozen=True)
class Heic:
    """The main picture of a file. `size`: width and height as it is stored, not yet turned; `profile`: its ICC profile.

    `decoded`: bytes of all that is decoded for it, its transparency and the tiles' rims too. `file`: a file of nothing else.
    """

    size: tuple[int, int]
    decoded: int
    profile: bytes | None
    file: bytes


@dataclass(frozen=True)
class _Layer:
    """The picture or its transparency. `streams`: the items of HEVC that make it up, one that is decoded twice twice."""

    item: int
    streams: tuple[int, ...]
    grid: bool


def is_heic(data: bytes) -> bool:
    """Whether this is a HEIF file that may hold a still picture of HEVC."""
    return data[4:8] == b"ftyp" and data[8:12] in BRANDS


def look(data: bytes) -> Heic:
    """Read what the main picture of a file is. Raises ImageUnsupported, and almost anything where the file is damaged."""
    view = memoryview(data)
    top = [(kind, span) for kind, span in read_boxes(view, (0, len(data)))]
    if any(kind == b"moov" for kind, _ in top):
        raise ImageUnsupported("a HEIF sequence is not read; send the picture that is meant")
    metas = [span for kind, span in top if kind == b"meta"]
    if len(metas) != 1:
        raise ImageUnsupported(f"a HEIF file with {len(metas)} descriptions of its pictures; save it again")
    return _Reader(view, read_meta(view, metas[0])).primary()


class _Reader:
    """What the items of one file are, each looked at once."""

    def __init__(self, data: memoryview, items: Items) -> None:
        self._data, self._items = data, items
        self._left = len(data)

    def primary(self) -> Heic:
        size = self._size(self._items.primary)
        main = self._layer(self._items.primary, size)
        alpha = [self._layer(item, self._size(item)) for item in self._items.beside[main.item] if self._is_alpha(item)][:1]
        layers = [main, *alpha]
        tiles = sum(len(layer.streams) for layer in layers)
        if tiles > MAX_TILES:
            raise ImageUnsupported(f"a HEIC of {tiles} tiles, at most {MAX_TILES}; save it again as an ordinary HEIC")
        contents = {item: self._content(item) for layer in layers for item in {layer.item, *layer.streams}}
        coded = {item: self._decoded(item, contents[item]) for layer in layers for item in set(layer.streams)}
        decoded = sum(coded[item] for layer in layers for item in layer.streams)
        return Heic(size, decoded, self._profile(main), self._written(layers, contents))

    def _layer(self, item: int, size: tuple[int, int]) -> _Layer:
        kind = self._items.kinds[item]
        if kind == HEVC:
            return _Layer(item, (item,), grid=False)
        if kind != GRID:
            raise _unread(kind)
        streams = tuple(self._items.parts[item])
        if other := {self._items.kinds[tile] for tile in streams} - {HEVC}:
            raise _unread(min(other))
        content = b"".join(self._pieces(item))
        rows, columns, *sides = struct.unpack_from(">BBII" if content[1] & 1 else ">BBHH", content, 2)
        if (rows + 1) * (columns + 1) != len(streams) or tuple(sides) != size:
            raise ValueError(f"a grid of {rows + 1} x {columns + 1} tiles for {size[0]} x {size[1]} pixels in {len(streams)}")
        return _Layer(item, streams, grid=True)

    def _owned(self, item: int, *kinds: bytes) -> list[bytes]:
        """The contents of an item's properties of some kinds, in its order."""
        owned = (self._items.properties[number - 1] for number in self._items.owned[item] if number)
        return [bytes(self._data[at:end]) for name, (at, end) in owned if name in kinds]

    def _size(self, item: int) -> tuple[int, int]:
        [content] = self._owned(item, b"ispe")
        width, height = struct.unpack(">4xII", content)
        return width, height

    def _is_alpha(self, item: int) -> bool:
        return any(content[4:].startswith(ALPHA) for content in self._owned(item, b"auxC"))

    def _profile(self, layer: _Layer) -> bytes | None:
        profiles = [content[4:] for content in self._owned(layer.item, b"colr") if content[:4] in (b"prof", b"rICC")]
        return profiles[0] if profiles else None

    def _pieces(self, item: int) -> list[memoryview]:
        method, places = self._items.places[item]
        if method > 1:
            raise ImageUnsupported("a HEIF file whose parts lie in other parts; save it again as an ordinary HEIC")
        start, end = self._items.own if method else (0, len(self._data))
        if any(start + at + length > end for at, length in places):
            raise ValueError("a part that lies behind the file's end")
        return [self._data[start + at : start + at + length] for at, length in places]

    def _content(self, item: int) -> bytes:
        pieces = self._pieces(item)
        self._left -= sum(map(len, pieces))
        if self._left < 0:
            raise ImageUnsupported("a HEIF file whose parts lie over one another; save it again as an ordinary HEIC")
        return b"".join(pieces)

    def _decoded(self, item: int, content: bytes) -> int:
        [config] = self._owned(item, b"hvcC")
        return decoded_bytes(config, content)

    def _written(self, layers: list[_Layer], contents: dict[int, bytes]) -> bytes:
        """A file of these layers alone, the first of which is the picture, without what is not needed for its pixels."""
        numbers = {item: n for n, item in enumerate(contents, start=1)}
        properties: dict[bytes, int] = {}
        owned = b""
        for layer in layers:
            for item in {layer.item: None, **dict.fromkeys(layer.streams)}:
                boxes = self._kept(item, (*SHAPES, *(TURNS if item == layer.item else ())))
                if layer is not layers[0] and item == layer.item:
                    boxes.append(_box(b"auxC", bytes(4) + ALPHA[0]))
                places = [properties.setdefault(one, len(properties) + 1) for one in boxes]
                owned += struct.pack(f">HB{len(places)}H", numbers[item], len(places), *places)
        infos, references = [], b""
        for item, number in numbers.items():
            hidden = number != numbers[layers[0].item]
            infos.append(_box(b"infe", struct.pack(">IHH4sx", 2 << 24 | hidden, number, 0, self._items.kinds[item])))
        for layer in layers:
            if layer.grid:
                others = [numbers[item] for item in layer.streams]
                references += _box(b"dimg", struct.pack(f">HH{len(others)}H", numbers[layer.item], len(others), *others))
            if layer is not layers[0]:
                references += _box(b"auxl", struct.pack(">HHH", numbers[layer.item], 1, numbers[layers[0].item]))
                if layer.item in self._items.multiplied[layers[0].item]:
                    references += _box(b"prem", struct.pack(">HHH", numbers[layers[0].item], 1, numbers[layer.item]))
        head = _box(b"ftyp", b"heic" + bytes(4) + b"mif1heic")

        def meta(start: int) -> bytes:
            places = b""
            for item, number in numbers.items():
                places += struct.pack(">HHHII", number, 0, 1, start, len(contents[item]))
                start += len(contents[item])
            parts = _box(b"hdlr", bytes(8) + b"pict" + bytes(13))
            parts += _box(b"pitm", struct.pack(">IH", 0, numbers[layers[0].item]))
            parts += _box(b"iloc", struct.pack(">IBBH", 0, 0x44, 0, len(numbers)) + places)
            parts += _box(b"iinf", struct.pack(">IH", 0, len(infos)) + b"".join(infos))
            parts += _box(b"iref", bytes(4) + references) if references else b""
            ipma = _box(b"ipma", struct.pack(">II", 1, len(numbers)) + owned)
            parts += _box(b"iprp", _box(b"ipco", b"".join(properties)) + ipma)
            return _box(b"meta", bytes(4) + parts)

        start = len(head) + len(meta(0)) + 8
        return b"".join(
            [head, meta(start), struct.pack(">I4s", 8 + sum(map(len, contents.values())), b"mdat"), *contents.values()]
        )

    def _kept(self, item: int, kinds: tuple[bytes, ...]) -> list[bytes]:
        """The boxes of an item's properties that its pixels depend on, in its order, each of the length that it must have."""
        found = []
        for number in self._items.owned[item]:
            kind, (at, end) = self._items.properties[number - 1] if number else (b"", (0, 0))
            content = bytes(self._data[at:end])
            if kind == b"colr" and content[:4] != b"nclx":
                continue
            if kind in kinds and LENGTHS.get(kind, len(content)) == len(content):
                found.append(_box(kind, content))
        return found


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _unread(kind: bytes) -> ImageUnsupported:
    name = CODED.get(kind) or f"HEIF with a picture of kind {kind.decode('latin-1')!r}"
    return ImageUnsupported(f"{name} is not read; send a HEIC, as phones write it, or a JPEG")
