"""A ModelInferRequest on the wire: it is walked before protobuf makes objects of it, and its raw contents are taken out uncopied.

protobuf makes hundreds of bytes of an empty message, which has two on the wire, and copies what it parses.
"""

from typing import NamedTuple

from transformer.errors import ProtobufInvalid, RequestTooLarge
from transformer.tensors import Buffer

MAX_FIELDS = 20_000
"""The fields of a request with 64 images are some dozens."""

FIELD_BYTES = 1024  # a message, or a map's entry, and what it is read into
ELEMENT_BYTES = 40  # a number in packed contents: in protobuf's array, in a list, in NumPy's
TYPED_WEIGHT = 3.0  # bytes in typed contents: the message, protobuf's copy, Python's copy

RAW_INPUTS = 7
# The fields that hold messages, by the message that they are in, and numbers that come packed in one field, by their shortest.
NESTED: dict[str, dict[int, str]] = {
    "request": {4: "entry", 5: "tensor", 6: "output"},
    "tensor": {4: "entry", 5: "contents"},
    "output": {2: "entry"},
    "entry": {2: "parameter"},
}
PACKED: dict[str, dict[int, int]] = {
    "tensor": {3: 1},
    "contents": {1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: 4, 7: 8},
}
_NONE: dict[int, str] = {}
_NO_NUMBERS: dict[int, int] = {}


class Walked(NamedTuple):
    """A request without its raw contents, these, and the bytes that parsing it takes beside itself."""

    message: bytes
    raw: list[Buffer]
    cost: float


def walk(body: bytes) -> Walked:
    """Walk a ModelInferRequest. Raises ProtobufInvalid, RequestTooLarge."""
    raw: list[Buffer] = []
    kept: list[Buffer] = []
    view = memoryview(body)
    fields = elements = typed = 0
    todo = [("request", 0, len(body))]
    while todo:
        kind, at, end = todo.pop()
        nested, packed = NESTED.get(kind, _NONE), PACKED.get(kind, _NO_NUMBERS)
        while at < end:
            fields += 1
            if fields > MAX_FIELDS:
                raise RequestTooLarge(f"the message has more than {MAX_FIELDS} fields; send contents packed, or raw")
            start = at
            tag = body[at]
            at += 1
            if tag > 0x7F:
                tag, at = _varint(body, start, end)
            number, wire = tag >> 3, tag & 7
            if wire == 2:
                if at >= end:
                    raise ProtobufInvalid(f"{len(body)} bytes end within a field")
                size = body[at]
                at += 1
                if size > 0x7F:
                    size, at = _varint(body, at - 1, end)
                content, at = at, at + size
                if at > end:
                    raise ProtobufInvalid(f"{len(body)} bytes end within a field")
                if kind == "request" and number == RAW_INPUTS:
                    raw.append(view[content:at])
                    continue
                if number in nested:
                    todo.append((nested[number], content, at))
                elif number in packed:
                    elements += size // packed[number]
                else:
                    typed += size
            elif wire == 0:
                _, at = _varint(body, at, end)
            elif wire in (1, 5):
                at += 8 if wire == 1 else 4
            else:
                raise ProtobufInvalid(f"{len(body)} bytes are not a message of proto3: wire type {wire}")
            if at > end:
                raise ProtobufInvalid(f"{len(body)} bytes end within a field")
            if kind == "request":
                kept.append(view[start:at])
    message = b"".join(kept) if raw else body
    return Walked(message, raw, FIELD_BYTES * fields + ELEMENT_BYTES * elements + TYPED_WEIGHT * typed)


def _varint(body: bytes, at: int, end: int) -> tuple[int, int]:
    """Read a number, and where it ends."""
    value = shift = 0
    while at < end and shift < 70:
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ProtobufInvalid(f"{len(body)} bytes have a number without an end")
