"""V2 tensors in the forms in which they travel, written from the protocol's text: JSON, raw bytes, typed contents."""

import base64
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]

# inference_grpc.md, "Tensor Data Types"; raw data is little-endian (extension_binary_data.md).
NUMPY: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}
# inference_grpc.md, InferTensorContents; FP16 has no field of its own.
CONTENTS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
LENGTH = struct.Struct("<I")  # before each element of raw BYTES


class Violation(AssertionError):
    """An answer breaks the protocol; the message says what was expected and what came."""


@dataclass(frozen=True)
class Tensor:
    """`values`: flat, of the datatype's numpy dtype; elements of BYTES are bytes."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Values

    def to_json(self) -> list[Any]:
        """Flat elements. BYTES as text where they are UTF-8, else as base64, the only form in which JSON can carry them."""
        return [_text(element) for element in self.values] if self.datatype == "BYTES" else self.values.tolist()

    def to_nested(self) -> Any:
        """Elements nested as the shape is."""
        return np.array(self.to_json(), dtype=object).reshape(self.shape).tolist()

    def to_raw(self) -> bytes:
        """Row-major little-endian elements; those of BYTES each behind their length."""
        if self.datatype == "BYTES":
            return b"".join(LENGTH.pack(len(element)) + element for element in self.values)
        return self.values.tobytes()

    def to_contents(self) -> dict[str, list[Any]]:
        """The field of InferTensorContents and its elements. Raises KeyError for FP16."""
        return {CONTENTS[self.datatype]: self.values.tolist()}

    def to_numpy(self) -> Values:
        """The elements in their shape, as tritonclient takes them."""
        return self.values.reshape(self.shape)


def from_raw(name: str, datatype: str, shape: Sequence[int], raw: bytes) -> Tensor:
    """Read raw elements. Raises Violation where they are not what the shape and the datatype promise."""
    values = make_values(list(_elements(name, raw))) if datatype == "BYTES" else _numbers(name, datatype, raw)
    return _checked(Tensor(name, datatype, tuple(shape), values))


def from_json(name: str, datatype: str, shape: Sequence[int], data: Any) -> Tensor:
    """Read flat or nested JSON elements. Raises Violation where they are not of the shape and the datatype."""
    if not isinstance(data, list):
        raise Violation(f"data of {name} must be an array, got {data!r:.80}")
    elements = list(_flatten(data))
    kind = {"BYTES": str, "BOOL": bool}.get(datatype, (int, float))
    # To Python a bool is an int; to JSON it is no number.
    wrong = [x for x in elements if not isinstance(x, kind) or (isinstance(x, bool) and datatype != "BOOL")]
    if wrong:
        raise Violation(f"data of {name} must hold elements of {datatype}, got {wrong[0]!r:.80}")
    if datatype == "BYTES":
        return _checked(Tensor(name, datatype, tuple(shape), make_values([element.encode() for element in elements])))
    return _checked(Tensor(name, datatype, tuple(shape), np.array(elements, dtype=NUMPY[datatype])))


def from_contents(name: str, datatype: str, shape: Sequence[int], contents: Any) -> Tensor:
    """Read typed contents. Raises Violation where they are not what the shape promises."""
    elements = list(getattr(contents, CONTENTS[datatype]))
    values = make_values(elements) if datatype == "BYTES" else np.array(elements, dtype=NUMPY[datatype])
    return _checked(Tensor(name, datatype, tuple(shape), values))


def make_values(elements: Sequence[bytes]) -> Values:
    """Elements of BYTES as an array; numpy would take equally long ones for numbers."""
    values = np.empty(len(elements), dtype=object)
    values[:] = elements
    return values


def _checked(tensor: Tensor) -> Tensor:
    if len(tensor.values) != math.prod(tensor.shape):
        raise Violation(
            f"{tensor.name} has {len(tensor.values)} elements where its shape {list(tensor.shape)} promises another count"
        )
    return tensor


def _numbers(name: str, datatype: str, raw: bytes) -> Values:
    if len(raw) % NUMPY[datatype].itemsize:
        raise Violation(f"{name} has {len(raw)} bytes, no whole number of {datatype}")
    return np.frombuffer(raw, dtype=NUMPY[datatype])


def _elements(name: str, raw: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(raw):
        start = at + LENGTH.size
        if start > len(raw) or (at := start + LENGTH.unpack_from(raw, at)[0]) > len(raw):
            raise Violation(f"an element of {name} goes past the end of its {len(raw)} bytes")
        yield raw[start:at]


def _flatten(data: list[Any]) -> Iterator[Any]:
    for element in data:
        if isinstance(element, list):
            yield from _flatten(element)
        else:
            yield element


def _text(element: bytes) -> str:
    try:
        return element.decode()
    except UnicodeDecodeError:
        return base64.b64encode(element).decode()
