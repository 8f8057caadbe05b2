"""Streams of HEVC (ISO/IEC 23008-2) as HEIC holds them: how large a picture is, and how many there are, by their units."""

import struct
from collections.abc import Iterator

from handlers.errors import ImageUnsupported

SPS, LAST_SLICE = 33, 31
"""Kinds of units: a parameter set with the size, and the last of those that hold pixels."""
SAMPLES = (1.0, 1.5, 2.0, 3.0)
"""Samples a pixel by chroma_format_idc: grey, 4:2:0, 4:2:2, 4:4:4."""


def decoded_bytes(config: bytes, content: bytes) -> int:
    """Bytes of the picture that a stream is decoded to. `config`: its hvcC; what is damaged raises almost anything.

    Raises ImageUnsupported for a stream of several pictures.
    """
    sets, length = list(_sizes_of_config(config)), (config[21] & 3) + 1
    pictures, at = 0, 0
    while at + length < len(content):
        size = int.from_bytes(content[at : at + length], "big")
        unit = content[at + length : at + length + size]
        at += length + size
        if len(unit) < 3 or _layer_of(unit):
            continue
        pictures += _kind(unit) <= LAST_SLICE and unit[2] >> 7
        if _kind(unit) == SPS:
            sets.append(unit)
    if pictures > 1:
        raise ImageUnsupported("a HEIC with more than one picture in a stream; save it again as an ordinary HEIC")
    return max(_picture_bytes(unit) for unit in sets)


def _kind(unit: bytes) -> int:
    return unit[0] >> 1 & 63


def _layer_of(unit: bytes) -> int:
    """Above 0, a unit is of another view or scale, which the decoder leaves out."""
    return (unit[0] & 1) << 5 | unit[1] >> 3


def _sizes_of_config(config: bytes) -> Iterator[bytes]:
    """The parameter sets with a size that an item's configuration brings (14496-15, 8.3.3.1)."""
    at = 23
    for _ in range(config[22]):
        [count] = struct.unpack_from(">H", config, at + 1)
        at += 3
        for _ in range(count):
            [size] = struct.unpack_from(">H", config, at)
            unit = config[at + 2 : at + 2 + size]
            at += 2 + size
            if len(unit) > 2 and _kind(unit) == SPS and not _layer_of(unit):
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
