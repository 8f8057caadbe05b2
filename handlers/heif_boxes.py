"""The boxes of a HEIF file (ISO/IEC 14496-12, 23008-12): which items it holds, of what kind, where they are and what they own.

What is damaged raises almost anything, as in Pillow.
"""

import struct
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from handlers.errors import ImageUnsupported

MAX_ITEMS = 10_000
MAX_EXTENTS = 32
ONCE = (b"pitm", b"iinf", b"iref", b"iprp", b"iloc", b"idat")

Span = tuple[int, int]
"""Where something begins in the file, and where it ends."""


@dataclass
class Items:
    """What a file holds, by the items' numbers."""

    primary: int = 0
    kinds: dict[int, bytes] = field(default_factory=dict)
    parts: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))  # a grid's tiles, in order
    beside: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))  # auxiliary pictures of an item
    multiplied: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))  # by whose transparency a picture is
    properties: list[tuple[bytes, Span]] = field(default_factory=list)
    owned: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    places: dict[int, tuple[int, list[Span]]] = field(default_factory=dict)  # where the bytes begin to count, and where they are
    own: Span = (0, 0)  # idat


def read_boxes(data: memoryview, within: Span) -> Iterator[tuple[bytes, Span]]:
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


def read_meta(data: memoryview, meta: Span) -> Items:
    """Read the box that describes the file's items. Raises ImageUnsupported."""
    found = [(kind, span) for kind, span in read_boxes(data, (meta[0] + 4, meta[1])) if kind in ONCE]
    if twice := [kind.decode() for kind, count in Counter(kind for kind, _ in found).items() if count > 1]:
        raise ImageUnsupported(f"a HEIF file with two boxes {twice[0]}; save it again")
    items, boxes = Items(), dict(found)
    at, _ = boxes[b"pitm"]
    [items.primary] = struct.unpack_from(">I" if data[at] else ">H", data, at + 4)
    at, end = boxes[b"iinf"]
    for kind, (start, _) in read_boxes(data, (at + (8 if data[at] else 6), end)):
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


def _read_references(data: memoryview, box: Span | None, items: Items) -> None:
    if box is None:
        return
    wide = "I" if data[box[0]] else "H"
    for kind, (at, _) in read_boxes(data, (box[0] + 4, box[1])):
        item, count = struct.unpack_from(f">{wide}H", data, at)
        others = struct.unpack_from(f">{count}{wide}", data, at + struct.calcsize(f">{wide}H"))
        if kind == b"dimg":
            items.parts[item] += others
        elif kind == b"auxl":
            for other in others:
                items.beside[other].append(item)
        elif kind == b"prem":
            items.multiplied[item] += others


def _read_properties(data: memoryview, box: Span, items: Items) -> None:
    for kind, (at, end) in read_boxes(data, box):
        if kind == b"ipco":
            items.properties += read_boxes(data, (at, end))
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


def _read_places(data: memoryview, at: int, items: Items) -> None:
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
