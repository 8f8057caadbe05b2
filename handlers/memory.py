"""What one picture may cost in bytes of memory, estimated from its header before anything of it is decoded.

Pillow keeps 4 bytes a pixel of a colour picture, and each format's decoder takes more beside it while it works: a picture of
34 bytes in WebP took 24 bytes a pixel, 1.1 GiB. Estimates are for pictures as they come in the worst case; the tests
measure that no picture takes more. Whoever raises `max_pixels` in an archive raises the budget for every format with it.
"""

import re
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from pathlib import Path

import numpy as np
from PIL import Image, JpegImagePlugin, TiffImagePlugin

from handlers.containers import BIG_TIFF, first_scan
from handlers.errors import ImageTooLarge, ImageUnsupported
from handlers.heif import Heic
from handlers.spec import Limits

SLACK = 32 << 20
"""Bytes that a decoding process may take above the budget: what Python and the decoders take beside pixels."""
STATM, DATA_PAGES = Path("/proc/self/statm"), 5
"""Which of its numbers is the memory that RLIMIT_DATA counts, in pages."""

BYTES_PER_PIXEL = 5
"""Of the budget, for each pixel that the limits allow: a grey picture (1) and its copy in RGB (4)."""
MAX_SIDE = 500_000
"""Pixels. Of a long side, decoders keep whole rows and the resizer its coefficients: 1 x 49,000,000 took 1.5 GB."""

STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
"""Bytes a pixel by Pillow's mode; every other mode takes 4."""
RGB = 4
"""Bytes a pixel, the fourth of which Pillow does not use."""
WEBP_DECODING, WEBP_KEPT = 12, 8
"""Bytes a pixel: libwebp's two canvases, which stay until the file is closed, and the copy that Pillow is given."""
BMP_RUNS, MAX_RUNS = (1, 2), 2_000_000
"""Compressions of a BMP that Pillow unpacks in Python, and pixels at most: 50 million were 13 s from 1.5 KB."""
METADATA, METADATA_COPIES = 1 << 20, 3
"""Bytes of EXIF, XMP or a colour profile that go without saying, and how often more is held."""
JPEG_COEFFICIENT = 2
"""Bytes a sample of a JPEG in several scans, whose coefficients are all kept until the last of them."""
HEIC_DECODED, HEIC_BESIDE, HEIC_KEPT = 2, 3.5, 8
"""How often libheif holds what it has decoded, bytes a pixel of what it makes of that, and bytes a pixel with Pillow's copy."""
TIFF_COPIES = {"jpeg": 3, "tiff_jpeg": 3, "zstd": 2, "lzma": 2, "webp": 5}
"""How often a strip or tile is held while it is decoded, for compressions that hold it more than once."""

NO_MEMORY = re.compile(r"bad_alloc|bad allocation|out of memory|not enough memory|can(no|')t allocate memory", re.IGNORECASE)
"""What OpenVINO, torch and Pillow say where the C library gave them no memory, and Python has no MemoryError of it."""

WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, ROWS, PLANES = 256, 257, 258, 259, 262, 277, 278, 284
TILE_WIDTH, TILE_LENGTH = 322, 323
TIFF_LAYOUT = (WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, ROWS, PLANES, TILE_WIDTH, TILE_LENGTH)
"""Tags that say how large a TIFF's strips and tiles are."""
INTEGERS = (3, 4, 16)
"""Types of a tag that Pillow and libtiff read alike: SHORT, LONG, LONG8."""
YCBCR = 6


def budget(limits: Limits) -> int:
    """Return the bytes of memory that one picture may take.

    An archive with a lower `max_pixels` than the default's has the default's budget.
    """
    return BYTES_PER_PIXEL * max(limits.max_pixels, Limits().max_pixels)


@contextmanager
def bounded(limits: Limits) -> Iterator[None]:
    """Hold this process to the budget, so that what no estimate foresees is a MemoryError and not the machine's end.

    On Linux; elsewhere nothing happens. The limit is the whole process's, and not for one with several threads at work.
    """
    if sys.platform != "linux" or not STATM.exists():
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    reached = int(STATM.read_bytes().split()[DATA_PAGES]) * resource.getpagesize() + most(limits)
    lowest = min(limit for limit in (reached, soft, hard) if limit != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_DATA, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def most(limits: Limits) -> int:
    """Return the bytes that a process that decodes a picture may take above what it has: the budget and what is beside pixels."""
    return budget(limits) + SLACK


def is_out_of_memory(err: Exception) -> bool:
    """Whether an error says that there was no memory, in whichever library's words."""
    return isinstance(err, MemoryError) or (isinstance(err, RuntimeError | OSError) and bool(NO_MEMORY.search(str(err))))


def reserve(size: int) -> None:
    """Raise MemoryError where so many bytes cannot be had, for code that would end the process instead."""
    np.empty(size, np.uint8)  # touches none of them, and so costs nothing


def check_size(width: int, height: int, limits: Limits) -> None:
    """Compare a picture's sides with the limits. Raises ImageTooLarge."""
    if width * height > limits.max_pixels:
        raise ImageTooLarge(
            f"the image is {width} x {height}, more than the limit of {limits.max_pixels} pixels; send a smaller one"
        )
    if max(width, height) > MAX_SIDE:
        raise ImageTooLarge(
            f"the image is {width} x {height}, and a side may have {MAX_SIDE} pixels at most; scale it down or send a part of it"
        )


def check_memory(image: Image.Image, data: bytes, size: tuple[int, int], turned: bool, limits: Limits) -> int:
    """Estimate the bytes that an opened, not yet loaded picture will take. Raises ImageTooLarge (over budget), ImageUnsupported.

    `size`: width and height in the file; `image.size` is less where a JPEG is scaled while it is decoded.
    `turned`: whether Pillow turns the picture while it loads it.
    """
    if image.format == "BMP" and image.info.get("compression") in BMP_RUNS and size[0] * size[1] > MAX_RUNS:
        raise ImageUnsupported(f"a compressed BMP of more than {MAX_RUNS} pixels is not read; save it as PNG")
    how = ", in smaller strips or tiles" if image.format == "TIFF" else ""
    return _within_budget(_estimate(image, data, size, turned), size, str(image.format), f" in mode {image.mode}", how, limits)


def check_heic(heic: Heic, limits: Limits) -> int:
    """Estimate the bytes that a HEIC will take, before its decoder is asked. Raises ImageTooLarge: pixels, a side, the budget."""
    check_size(*heic.size, limits)
    pixels = heic.size[0] * heic.size[1]
    needed = ceil(max(HEIC_DECODED * heic.decoded + HEIC_BESIDE * pixels, HEIC_KEPT * pixels))
    return _within_budget(needed, heic.size, "HEIC", "", "", limits)


def _within_budget(needed: int, size: tuple[int, int], form: str, mode: str, how: str, limits: Limits) -> int:
    most = budget(limits)
    if needed > most:
        raise ImageTooLarge(
            f"a {form} of {size[0]} x {size[1]} pixels{mode} takes {needed / 1e6:.0f} MB to decode, "
            f"{needed / (size[0] * size[1]):.0f} bytes a pixel, and the limit is {most / 1e6:.0f} MB; send a smaller one{how}, "
            "an ordinary JPEG, or raise max_pixels in the archive's limits"
        )
    return needed


def kept(image: Image.Image, rgb: Image.Image) -> int:
    """Bytes that `rgb` takes, and what cannot be let go beside it, once a picture is decoded. `image`: what it was made of."""
    return (RGB + (WEBP_KEPT if image.format == "WEBP" and rgb is image else 0)) * rgb.width * rgb.height


def _estimate(image: Image.Image, data: bytes, size: tuple[int, int], turned: bool) -> int:
    """Bytes at the worst moment between the header and RGB, the encoded bytes aside."""
    pixels = image.width * image.height
    stored = STORED.get(image.mode, 4) * pixels
    decoding, kept = 0, 0
    if isinstance(image, JpegImagePlugin.JpegImageFile):  # an MPO is one, too
        decoding = _coefficients(image, data, size)
    elif image.format == "WEBP":
        decoding, kept = WEBP_DECODING * pixels, WEBP_KEPT * pixels
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
        decoding = max(_strips(image, data), stored if turned else 0)
    metadata = sum(len(value) for value in image.info.values() if isinstance(value, bytes))
    beside = METADATA_COPIES * metadata if metadata > METADATA else 0
    return beside + stored + max(decoding, kept + (RGB * pixels if image.mode != "RGB" else 0))


def _coefficients(image: JpegImagePlugin.JpegImageFile, data: bytes, size: tuple[int, int]) -> int:
    layers = image.layer  # (name, across, down, table) of each component
    if not image.info.get("progressive") and _has_one_scan(data, len(layers)):
        return 0
    across, down = max(layer[1] for layer in layers), max(layer[2] for layer in layers)
    samples = sum(layer[1] * layer[2] for layer in layers) / (across * down)
    return ceil(JPEG_COEFFICIENT * samples * size[0] * size[1])


def _has_one_scan(data: bytes, components: int) -> bool:
    """Whether the first scan has all components (T.81, B.2.3)."""
    at = first_scan(data)
    return at is not None and data[at + 4 : at + 5] == bytes((components,))


def _strips(image: TiffImagePlugin.TiffImageFile, data: bytes) -> int:
    """One strip or tile of a TIFF, with all copies of it."""
    _check_layout(image, data)
    tags = image.tag_v2
    width, rows = tags[WIDTH], min(tags[LENGTH], tags.get(ROWS) or tags[LENGTH])
    if TILE_WIDTH in tags or TILE_LENGTH in tags:
        width, rows = tags.get(TILE_WIDTH, width), tags.get(TILE_LENGTH, rows)
    # Pillow has YCbCr read as RGBA.
    coded = tags.get(PHOTOMETRIC) == YCBCR
    bits = max(tags.get(SAMPLES, 1) * max(tags.get(BITS, (1,))), 32 if coded else 0)
    copies = max(TIFF_COPIES.get(image.info["compression"], 1), 2 if coded else 1)
    return int(copies * ceil(width * bits / 8) * rows)


def _check_layout(image: TiffImagePlugin.TiffImageFile, data: bytes) -> None:
    """Refuse a TIFF whose strips are of one size to Pillow, whose tags are checked, and of another to libtiff, which decodes.

    libtiff knows more types of integers, and believes the first of two tags even where Pillow cannot read it.
    """
    order = "<" if data[:2] == b"II" else ">"
    [version] = struct.unpack_from(order + "H", data, 2)
    count, entry = ("Q", 20) if version == BIG_TIFF else ("H", 12)
    start = image.tag_v2.offset or 0
    [entries] = struct.unpack_from(order + count, data, start)
    start += struct.calcsize(order + count)
    heads = [struct.unpack_from(order + "HH", data, start + entry * n) for n in range(entries)]
    tags = [tag for tag, _ in heads]
    for tag, kind in heads:
        if tag in TIFF_LAYOUT and (kind not in INTEGERS or tags.count(tag) > 1):
            raise ImageUnsupported(
                f"TIFF with tag {tag} of type {kind}, {tags.count(tag)} times; save it again as an ordinary TIFF"
            )
