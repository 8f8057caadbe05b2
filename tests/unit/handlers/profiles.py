"""ICC profiles written by hand (ICC.1:2010), and what their colours are in sRGB by the plain formulas."""

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Of Display P3 and sRGB under D65, from their primaries' chromaticities (SMPTE EG 432-1, IEC 61966-2-1).
P3_PRIMARIES = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
SRGB_PRIMARIES = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
D65 = (0.3127, 0.3290)
# Bradford's matrix from D65 to D50, the white of profiles.
TO_D50 = np.array([[1.047811, 0.022887, -0.050127], [0.029542, 0.990484, -0.017049], [-0.009234, 0.015044, 0.752132]])


def to_xyz(primaries: tuple[tuple[float, float], ...]) -> Floats:
    """The matrix from linear RGB to XYZ under D65 whose white is (1, 1, 1)."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in primaries]).T
    white = np.array([D65[0] / D65[1], 1, (1 - D65[0] - D65[1]) / D65[1]])
    return columns * np.linalg.solve(columns, white)


def linear(encoded: Floats) -> Floats:
    """sRGB's curve, both of them: [0, 1] → [0, 1]."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def encoded(light: Floats) -> Floats:
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def p3_as_srgb(pixels: npt.NDArray[Any], white: float = 255) -> Floats:
    """Display P3 of (..., 3) numbers up to `white` as sRGB's, up to 255."""
    matrix = np.linalg.solve(to_xyz(SRGB_PRIMARIES), to_xyz(P3_PRIMARIES))
    return 255 * encoded(linear(pixels / white) @ matrix.T)


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(*values)


def gamma(value: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(value * 256))


SRGB_CURVE = b"para" + bytes(4) + struct.pack(">HH", 3, 0) + _fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def profile(space: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr", to: bytes = b"XYZ ") -> bytes:
    table, body, start = b"", b"", 132 + 12 * (len(tags) + 1)
    for name, content in {b"wtpt": _xyz(0.9642, 1, 0.8249), **tags}.items():
        table += struct.pack(">4sII", name, start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(">I4sI4s4s4s12s4s", start + len(body), b"test", 0x02400000, kind, space, to, bytes(12), b"acsp")
    head += bytes(28) + _fixed(0.9642, 1, 0.8249) + bytes(48)
    return head + struct.pack(">I", len(tags) + 1) + table + body


def rgb(primaries: tuple[tuple[float, float], ...], curve: bytes = SRGB_CURVE) -> bytes:
    columns = (TO_D50 @ to_xyz(primaries)).T
    tags = {name: _xyz(*column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)}
    return profile(b"RGB ", {**tags, **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)})


def ink() -> bytes:
    """CMYK of which black alone is seen: without it, Lab's lightness is 100, and with all of it 0."""
    nodes = b"".join(bytes((0 if node & 1 else 255, 128, 128)) for node in range(16))  # cyan first, black last
    straight = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + 4 * straight + nodes + 3 * straight
    return profile(b"CMYK", {b"A2B0": lut}, b"prtr", b"Lab ")


P3, SRGB = rgb(P3_PRIMARIES), rgb(SRGB_PRIMARIES)
LINEAR_GREY = profile(b"GRAY", {b"kTRC": gamma(1.0)})
