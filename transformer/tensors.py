"""V2 tensors: their datatypes, and the three forms in which their elements come in a request."""

import binascii
import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from handlers.errors import ImageUndecodable, VisorError, counted
from transformer.errors import BinaryInvalid, DatatypeInvalid, ShapeInvalid, show

BYTES = "BYTES"
NUMPY: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    BYTES: np.dtype(np.object_),
}
DATATYPES: dict[np.dtype[Any], str] = {dtype: name for name, dtype in NUMPY.items()}
LENGTH = struct.Struct("<I")
"""The length before each element of raw BYTES."""

Buffer = bytes | memoryview


@dataclass(frozen=True)
class JsonContent:
    """The `data` of a JSON request, flat or nested as the shape is; elements of BYTES are base64."""

    data: Any


@dataclass(frozen=True)
class TypedContent:
    """The `contents` of a gRPC request, flat; elements of BYTES are as they are."""

    values: Sequence[Any]


@dataclass(frozen=True)
class RawContent:
    """Raw contents: row-major little-endian elements; an element of BYTES goes behind its length."""

    data: Buffer


@dataclass(frozen=True)
class InputTensor:
    """One input as it came. `shape` has no negative side."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    content: JsonContent | TypedContent | RawContent

    @property
    def count(self) -> int:
        """The number of elements that the shape promises."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class OutputTensor:
    """One output. `data`: an array of the shape, or for BYTES its flat elements."""

    name: str
    shape: tuple[int, ...]
    data: npt.NDArray[Any] | list[bytes]

    @property
    def datatype(self) -> str:
        """The V2 name of the data's type."""
        return BYTES if isinstance(self.data, list) else DATATYPES[self.data.dtype]

    def to_raw(self) -> bytes:
        """Encode the elements, row-major and little-endian."""
        return encode_bytes(self.data) if isinstance(self.data, list) else self.data.tobytes()


def check_shape(name: str, shape: object) -> tuple[int, ...]:
    """Check a request's shape and return it as a tuple. Raises ShapeInvalid unless it is a list of integers of at least 0."""
    if not isinstance(shape, list | Sequence) or isinstance(shape, str):  # a list is one too, and found so sooner
        raise ShapeInvalid(f"the shape of input {show(name)} must be a list of integers, got {show(shape)}")
    if not all(isinstance(side, int) and not isinstance(side, bool) and side >= 0 for side in shape):
        raise ShapeInvalid(f"the shape of input {show(name)} must hold integers of at least 0, got {show(list(shape))}")
    return tuple(shape)


def encode_bytes(elements: Iterable[Buffer]) -> bytes:
    """Encode elements of BYTES as raw contents, each behind its length as four bytes, little-endian."""
    return b"".join([LENGTH.pack(len(element)) + element for element in elements])


def decode_bytes(name: str, data: Buffer, count: int) -> list[memoryview]:
    """Decode raw contents into the `count` elements of BYTES, without a copy.

    Raises BinaryInvalid where a length goes past the end, ShapeInvalid where there are more or fewer elements.
    """
    view = memoryview(data)
    elements: list[memoryview] = []
    at = 0
    while at < len(view):
        if len(elements) == count:
            raise ShapeInvalid(
                f"input {show(name)} goes on for {len(view) - at} bytes after the {counted(count, 'element')} of its shape"
            )
        start = at + LENGTH.size
        if start > len(view):
            raise BinaryInvalid(f"input {show(name)}: {len(view) - at} bytes after element {len(elements)} are no length of four")
        at = start + LENGTH.unpack_from(view, at)[0]
        if at > len(view):
            raise BinaryInvalid(
                f"input {show(name)}: element {len(elements)} says it has {at - start} bytes, {len(view) - start} are left; "
                "each element goes behind its length as four bytes, little-endian"
            )
        elements.append(view[start:at])
    _check_count(name, count, len(elements))
    return elements


def read_bytes(tensor: InputTensor) -> list[Buffer | VisorError]:
    """Read the elements of a BYTES tensor; an element that is not base64 is replaced by its error.

    Raises ShapeInvalid, BinaryInvalid, DatatypeInvalid.
    """
    match tensor.content:
        case RawContent(data):
            return [*decode_bytes(tensor.name, data, tensor.count)]
        case TypedContent(values):
            _check_count(tensor.name, tensor.count, len(values))
            return list(values)
        case JsonContent(data):
            elements = _flatten(tensor, data)
            _check_count(tensor.name, tensor.count, len(elements))
            return [_decode_base64(tensor.name, element) for element in elements]


def read_uint8(tensor: InputTensor) -> npt.NDArray[np.uint8]:
    """Read the elements of a UINT8 tensor, in its shape. Raises ShapeInvalid, DatatypeInvalid."""
    if isinstance(tensor.content, RawContent):
        _check_count(tensor.name, tensor.count, len(tensor.content.data))
        return np.frombuffer(tensor.content.data, dtype=np.uint8).reshape(tensor.shape)
    values = tensor.content.data if isinstance(tensor.content, JsonContent) else tensor.content.values
    # Before numpy sees them: of strings it makes an array that has room for the longest of them in every element.
    if wrong := set(map(type, _flatten(tensor, values))) - {int}:
        names = " and ".join(sorted(kind.__name__ for kind in wrong))
        raise DatatypeInvalid(f"elements of input {show(tensor.name)} must be integers from 0 to 255, got {names}")
    try:
        array = np.array(values)
    except (ValueError, OverflowError) as err:
        raise ShapeInvalid(f"the data of input {show(tensor.name)} is not rectangular: {err}") from err
    _check_count(tensor.name, tensor.count, array.size)
    if array.ndim != 1 and array.shape != tensor.shape:
        raise ShapeInvalid(
            f"input {show(tensor.name)} says shape {list(tensor.shape)} and nests its data as {list(array.shape)}; "
            "send it flat or nested alike"
        )
    if array.size and (array.dtype.kind not in "iu" or array.min() < 0 or array.max() > 255):
        raise DatatypeInvalid(f"elements of input {show(tensor.name)} must be integers from 0 to 255")
    return array.astype(np.uint8).reshape(tensor.shape)


def _flatten(tensor: InputTensor, data: object) -> list[Any]:
    if not isinstance(data, list):
        raise ShapeInvalid(f"the data of input {show(tensor.name)} must be a list, got {show(data)}")
    for _ in tensor.shape[1:]:
        if data and all(isinstance(row, list) for row in data):
            data = list(chain.from_iterable(data))
    return data


def _check_count(name: str, promised: int, count: int) -> None:
    if count != promised:
        raise ShapeInvalid(f"input {show(name)} has {counted(count, 'element')} where its shape promises {promised}")


def _decode_base64(name: str, text: object) -> bytes | VisorError:
    if not isinstance(text, str):
        raise DatatypeInvalid(f"elements of input {show(name)} must be strings of base64, got {show(text)}")
    try:
        # Line breaks are what the command `base64` puts in; anything else outside the alphabet is an error.
        return binascii.a2b_base64(text if "\n" not in text else "".join(text.split()), strict_mode=True)
    except ValueError as err:
        hint = "; leave out what goes before the comma" if text[:5].lower() == "data:" else ""
        hint = hint or ("; the alphabet has + and /, not the - and _ of URLs" if set("-_") & set(text[:1000]) else "")
        return ImageUndecodable(f"{show(text)} is not base64 ({err}){hint}")
