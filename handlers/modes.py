"""Any of Pillow's modes → RGB as sRGB shows it: 16 bits by the white that their file says, transparency on white."""

import io
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, TiffImagePlugin

from handlers.arrays import UInt16
from handlers.colours import Colours
from handlers.errors import ImageUnsupported

PHOTOMETRIC, BITS, MAX_SAMPLE, SAMPLE_FORMAT = 262, 258, 281, 339  # tags of a TIFF
WHITE_IS_ZERO = 0
FLOATS = 3
FULL = 0xFFFF
"""The white of 16 bits, where a file says no other."""
# Pixels that are laid on white at a time, for which 5 MB are enough [RGBA of 6 megapixels: 135 ms; at once, 304].
BAND = 1 << 18


def stored_mode(image: Image.Image) -> str:
    """The mode of a picture that is opened and not yet loaded, as its file has it.

    A PNG of greys and transparency in 16 bits each, which Pillow opens as RGBA, is LA, of which its profile is.
    """
    return "LA" if any(tile[3] == "LA;16B" for tile in getattr(image, "tile", ())) else image.mode


def clear_sample(image: Image.Image) -> int | None:
    """The sample of a loaded picture's 16 bits that means transparency, by a PNG's chunk tRNS; None without one."""
    clear = image.info.get("transparency") if image.mode.startswith("I;16") else None
    return clear if isinstance(clear, int) else None


def name_tiff(data: bytes) -> str | None:
    """What a TIFF is whose kind of pixels Pillow does not know, in words; None of one that is damaged, or no TIFF."""
    try:
        TiffImagePlugin.TiffImageFile(io.BytesIO(data)).close()
    except SyntaxError as err:
        if str(err) != "unknown pixel mode":
            return None
    else:
        return None
    tags = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if data[2:3] == b"+" else 8])
    file = io.BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    bits = max(tags.get(BITS, (1,)))
    numbers = "floating point" if FLOATS in tags.get(SAMPLE_FORMAT, ()) else f"{bits} bits"
    said = ["most significant byte first"] if data.startswith(b"MM") else []
    said += ["white is zero"] if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else []
    return f"a TIFF of {numbers} a sample" + (f" ({', '.join(said)})" if said else "")


def sample_range(image: Image.Image, bits: int | None = None) -> tuple[int, bool]:
    """The white of a loaded picture's 16 bits, as its file says it, and whether white is zero. `bits`: by a PNG's chunk sBIT.

    A TIFF's tags say it: BitsPerSample, or a MaxSampleValue of one less than a power of two; another one is only what the
    brightest sample happens to be. Samples of a PNG are scaled to all 16 bits whatever sBIT says, so that it is believed where
    they cannot be: all of them below its white, and some not a multiple of the step that scaling leaves.
    """
    if not image.mode.startswith("I;16"):
        return FULL, False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        stored = min(max(tags.get(BITS, (16,))), 16)
        white, said = (1 << stored) - 1, tags.get(MAX_SAMPLE, FULL)
        said = said[0] if isinstance(said, tuple) else said
        if isinstance(said, int) and 0xFF < said < white and said & said + 1 == 0:
            white = said
        return white, tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
    if bits and 8 < bits < 16:
        white, step = (1 << bits) - 1, 1 << 16 - bits
        if extremes(image)[1] <= white and any((np.asarray(band) % step).any() for _, band in _bands(image)):
            return white, False
    return FULL, False


def extremes(image: Image.Image) -> tuple[int, int]:
    """The least and the greatest sample of a loaded grey picture."""
    ends = [(int(samples.min()), int(samples.max())) for samples in (np.asarray(band) for _, band in _bands(image))]
    return min(low for low, _ in ends), max(high for _, high in ends)


def to_srgb(
    image: Image.Image,
    colours: Colours | None = None,
    white: int = FULL,
    white_is_zero: bool = False,
    clear: int | None = None,
) -> Image.Image:
    """Any of Pillow's modes to sRGB: 16 bits scaled to 8, transparency on white, CMYK without a profile in Pillow's own way.

    `white`, `white_is_zero`: as `sample_range` tells them. `clear`: as `clear_sample` tells it.
    """
    if image.mode in ("I", "F"):
        raise ImageUnsupported(f"pixels of 32 bits (mode {image.mode}) have no agreed white; send 8 or 16 bits a channel")
    if image.mode in ("LAB", "HSV"):
        raise ImageUnsupported(f"colour space {image.mode} is not read; send RGB, grey or CMYK")
    if image.mode.startswith("I;16"):
        return _by_bands(image, lambda band: _deep_on_white(np.asarray(band), colours, white, white_is_zero, clear))
    if image.has_transparency_data:
        return _by_bands(image, lambda band: _on_white(band, colours))
    if colours and image.mode != "RGB":
        return _by_bands(image, colours.to_srgb)
    if colours:
        return colours.to_srgb(image)
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy what is RGB already


def _deep_on_white(samples: UInt16, colours: Colours | None, white: int, white_is_zero: bool, clear: int | None) -> Image.Image:
    shallow = _shallow(samples, colours, white, white_is_zero)
    if clear is not None:
        shallow.paste("white", mask=Image.fromarray(samples == clear))
    return shallow


def _shallow(samples: UInt16, colours: Colours | None, white: int, white_is_zero: bool) -> Image.Image:
    if white_is_zero:
        samples = white - np.minimum(samples, white)
    if white != FULL:
        samples = (np.minimum(samples, white) * np.float32(FULL / white) + np.float32(0.5)).astype(np.uint16)
    if colours:
        return colours.to_srgb(Image.fromarray(samples))
    return Image.fromarray((samples >> 8).astype(np.uint8))


def _by_bands(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """RGB, some rows at a time, so that what comes between is small: of a whole picture it was up to 12 bytes a pixel."""
    # In place where that can be: a PNG may say what is transparent after its pixels, and is not thought to need more.
    rgb = image if image.mode == "RGB" else Image.new("RGB", image.size)
    for box, band in _bands(image):
        rgb.paste(convert(band), box)
    return rgb


def _bands(image: Image.Image) -> Iterator[tuple[tuple[int, int, int, int], Image.Image]]:
    rows = max(1, BAND // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        yield box, image.crop(box)


def _on_white(image: Image.Image, colours: Colours | None) -> Image.Image:
    rgba = image.convert("RGBA")
    if colours:
        alpha = rgba.getchannel("A")
        rgba = colours.to_srgb(rgba.convert("RGB") if colours.kind == "RGB" else image)
        rgba.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
