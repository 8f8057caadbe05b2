"""Encoded bytes → the network's input, the same code in training, evaluation and serving.

Large JPEGs are scaled in the DCT domain (libjpeg's 1/2, 1/4, 1/8) before they are resized: a 12-megapixel photo costs
33 ms instead of 143. EXIF orientation is honoured. Transparency is laid on white. One picture has one frame.

There are two rules, `Preprocessing.decoding`. By the second, colours become sRGB's by the picture's profile, 16 bits are read as
their file says that they are meant, HEIC is read, and texts and profiles of more than 1 MiB do no harm. By the first, that of
archives before 0.3, they are not, and everything else is the same.
"""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import astuple
from math import ceil
from typing import NamedTuple

import numpy as np
import pi_heif
from cykooz_resizer import CropBox, FilterType, ResizeAlg, ResizeOptions, Resizer
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from handlers.arrays import Float32, UInt8
from handlers.colours import colours_of
from handlers.containers import check_tags, sift, webp_size
from handlers.errors import ImageEmpty, ImageError, ImageTooLarge, ImageUndecodable, ImageUnsupported
from handlers.heif import is_heic, look
from handlers.memory import (
    RGB,
    WEBP_KEPT,
    bounded,
    budget,
    check_heic,
    check_memory,
    check_size,
    is_out_of_memory,
    kept,
    reserve,
)
from handlers.modes import clear_sample, name_tiff, sample_range, stored_mode, to_srgb
from handlers.spec import DECODING, WHOLE, Box, DecodingRule, Limits, Preprocessing

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
MOST_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)
"""Pixels beyond which Pillow opens no picture, whatever `Limits.max_pixels` allows."""
# What people send by mistake, by its first bytes: a better answer than "not an image".
FOREIGN = {
    b"GIF8": "GIF",
    b"%PDF": "PDF",
    b"<svg": "SVG",
    b"<?xml": "XML",
    b"II\xbc": "JPEG XR",
    b"8BPS": "Photoshop",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
}
FOREIGN_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis"), "HEIC"),
    **dict.fromkeys((b"hevc", b"hevx", b"hevm", b"hevs", b"msf1"), "a HEIF sequence"),
    b"mif1": "HEIF",
    b"avif": "AVIF",
    b"avis": "an AVIF sequence",
    b"jp2 ": "JPEG 2000",
}
# What curl sends where the @ before a file's name is forgotten.
_FILE_NAME = re.compile(rb"@?[^\0-\x1f\x7f]{1,1000}\.[A-Za-z0-9]{2,5}\n?")
# One thread a picture, as everywhere: the machine's others have pictures of their own.
pi_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=0)
INTERPOLATION = {"bilinear": FilterType.bilinear, "bicubic": FilterType.catmull_rom}
ORIENTATION = 0x0112  # the EXIF tag
TURNS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TURNED = (5, 6, 7, 8)
"""Orientations whose stored width is the height to be seen."""
# Keep at least so many times the wanted size after DCT scaling, so that the final resize still averages. Against resizing the
# whole picture, pixels differ by 0.4 to 1.7 of 255 on average; with 2.0 by 0 to 0.4, for 1.1 to 1.8 times the time.
DCT_GAP = 1.5
# The head of a JPEG's scan (T.81, B.2.3): its length agrees with its number of components, so that noise is hardly taken for one.
SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")
# Encoders write about ten. One more scan over 50 megapixels takes 75 bytes and 0.12 s: 200 KB of them were 12 s.
MAX_SCANS = 50
# Pillow's own reader of uncompressed TIFFs takes 40 us a strip: 2 MB, a pixel row each, were 40 s. libtiff takes 0.4.
TiffImagePlugin.READ_LIBTIFF = True


class View(NamedTuple):
    """What the network sees of a picture. `pixels`: (H, W, 3) uint8 RGB at the network's size; `box`: the picture's `seen_box`;
    `sides`: width and height of the whole picture, upright, in pixels.
    """

    pixels: UInt8
    box: Box
    sides: tuple[int, int]


def decode(data: bytes, preprocessing: Preprocessing, limits: Limits, alone: bool = False) -> UInt8:
    """Decode one image. Returns (H, W, 3) uint8 RGB at the network's size. Raises ImageError of the fitting kind."""
    return view(data, preprocessing, limits, alone).pixels


def view(data: bytes, preprocessing: Preprocessing, limits: Limits, alone: bool = False) -> View:
    """Decode one image at the network's size. Raises ImageError.

    `alone`: no other thread of this process works meanwhile, so that the process may be held to the picture's budget.
    """
    if not data:
        raise ImageEmpty("the image has 0 bytes; send an encoded picture, such as a JPEG")
    if len(data) > limits.max_bytes:
        raise ImageTooLarge(f"the image has {len(data)} bytes, more than the limit of {limits.max_bytes}; send a smaller one")
    try:
        # Not around the resizer, whose needs are known, and which would end the process where it gets no memory: see `_fit`.
        with bounded(limits) if alone else nullcontext():
            rgb, orientation, held, size = _pixels(data, preprocessing, limits)
        scaled = rgb.size
        if orientation in TURNED:
            size, scaled = size[::-1], scaled[::-1]
        box = seen_box(*scaled, preprocessing)
        if orientation in TURNS:
            return View(_fit_turned(rgb, orientation, preprocessing, held, limits), box, size)
        return View(_fit(rgb, preprocessing, held, limits), box, size)
    except ImageError:
        raise
    except Image.DecompressionBombError as err:
        number, most = next(iter(re.findall(r"\d+", str(err))), "too many"), min(limits.max_pixels, MOST_PIXELS)
        raise ImageTooLarge(f"the image has {number} pixels, more than the limit of {most}; send a smaller one") from err
    except Exception as err:
        if is_out_of_memory(err):
            raise ImageTooLarge(
                f"the image has {len(data)} bytes and took all memory that there was for one; send a smaller one"
            ) from err
        # Pillow's plugins raise almost anything on damaged data (OSError, SyntaxError, struct.error, KeyError, ...),
        # and whatever it was, it is this image's fault and the next one is answered.
        if kind := _foreign(data, preprocessing.decoding):
            raise ImageUnsupported(f"{kind} is not read; send a {preprocessing.formats}") from err
        if preprocessing.decoding > 1 and (tiff := _unread_tiff(data)):
            raise ImageUnsupported(f"{tiff} is not read; save it as a PNG, or as a TIFF of 8 bits a sample") from err
        # Pillow's own sentence for an unknown header names the object's address, which is no client's business.
        reason = "no header of an image" if isinstance(err, UnidentifiedImageError) else err or type(err).__name__
        hint = "; they read as a file's name: send what is in it, by curl as @FILE" if _FILE_NAME.fullmatch(data) else ""
        raise ImageUndecodable(f"{len(data)} bytes are not a whole image: {reason}{hint}") from err


@contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    """Open a file that `view` has decoded, for its header: a PNG's texts taken away, a HEIC written anew. Raises as `look`.

    Pillow's warning of large pictures is silenced, as their limit is ours to set.
    """
    file = look(data).file if is_heic(data) else sift(data).data
    with (
        warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
        Image.open(io.BytesIO(file)) as image,
    ):
        yield image


def seen_box(width: int, height: int, preprocessing: Preprocessing) -> Box:
    """Return the part of an upright picture that the network sees: x, y, width and height, as shares of the picture's sides."""
    if preprocessing.fit == "stretch":
        return WHOLE
    scaled = _scaled(width, height, preprocessing)
    sides = preprocessing.width / scaled[0], preprocessing.height / scaled[1]
    return ((1 - sides[0]) / 2, (1 - sides[1]) / 2, *sides)


def upright(data: bytes, longest: int, limits: Limits, rule: DecodingRule = DECODING) -> UInt8:
    """Decode a picture as the network is shown it, all of it, upright, its longer side in pixels at most `longest` (to 1024).

    Returns (h, w, 3) uint8 RGB: transparency laid on white, 16 bits scaled to 8. Raises ImageError.
    """
    # What JPEGs are scaled down for.
    around = Preprocessing(height=longest, width=longest, mean=(0, 0, 0), std=(1, 1, 1), decoding=rule)
    try:
        rgb, orientation, *_ = _pixels(data, around, limits)
    except (ImageError, MemoryError):
        raise
    except Exception as err:  # as in `view`
        raise ImageUndecodable(f"{len(data)} bytes are not a whole image: {err or type(err).__name__}") from err
    rgb.thumbnail((longest, longest), Image.Resampling.BILINEAR)
    return np.asarray(rgb.transpose(TURNS[orientation]) if orientation in TURNS else rgb)


def upright_pixels(image: Image.Image, rule: DecodingRule = DECODING) -> UInt8:
    """Read a picture that Pillow has opened as `upright` reads a file, all of it: (h, w, 3) uint8 RGB.

    Raises ImageError.
    """
    try:
        mode, orientation = stored_mode(image), _orientation(image)  # which may load it
        image.load()
        own = image.copy()  # which may be changed in place
        if rule > 1:
            colours = colours_of(mode, image.info.get("icc_profile"))
            rgb = to_srgb(own, colours, *sample_range(image), clear_sample(image))
        else:
            rgb = to_srgb(own)
    except (ImageError, MemoryError):
        raise
    except Exception as err:  # a file that is read only now, as in `view`
        raise ImageUndecodable(f"the picture is not whole: {err or type(err).__name__}") from err
    return np.asarray(rgb.transpose(TURNS[orientation]) if orientation in TURNS else rgb)


def from_pixels(pixels: UInt8, preprocessing: Preprocessing, limits: Limits) -> UInt8:
    """Fit raw RGB pixels, (h, w, 3) uint8, to the network's size: (H, W, 3) uint8. Raises ImageError."""
    height, width = pixels.shape[:2]
    if pixels.size == 0:
        raise ImageEmpty(f"the image has {height} x {width} pixels")
    check_size(width, height, limits)
    try:
        return _fit(Image.fromarray(pixels), preprocessing, RGB * width * height, limits)
    except MemoryError as err:
        raise ImageTooLarge(f"there was no memory for {height} x {width} pixels; send a smaller image") from err


def to_batch(images: Sequence[UInt8], preprocessing: Preprocessing) -> Float32:
    """Normalise: N × (H, W, 3) uint8 → (N, 3, H, W) float32, (x / 255 - mean) / std."""
    scale = (1.0 / (255.0 * np.array(preprocessing.std))).astype(np.float32)
    shift = (np.array(preprocessing.mean) / np.array(preprocessing.std)).astype(np.float32)
    # Planes first, and then in place [one image of 224 x 224: 0.12 ms; normalised first and then transposed, 0.9].
    batch = np.stack([image.transpose(2, 0, 1) for image in images]).astype(np.float32, order="C")
    batch *= scale[:, None, None]
    batch -= shift[:, None, None]
    return batch


def _pixels(data: bytes, preprocessing: Preprocessing, limits: Limits) -> tuple[Image.Image, object, int, tuple[int, int]]:
    """The picture in RGB, not yet turned; its orientation; the bytes of memory that it and what stays beside it take; and the
    width and height that it had before it was scaled."""
    newer = preprocessing.decoding > 1
    sifted = sift(data, unpacked=newer)
    data, formats = sifted.data, [*FORMATS]
    if webp := webp_size(data):  # Pillow takes memory for this when it opens it, and does not say where there is none
        check_size(*webp, limits)
        reserve(WEBP_KEPT * webp[0] * webp[1])
    heic = look(data) if newer and is_heic(data) else None
    if heic:
        reserve(check_heic(heic, limits))
        data, formats = heic.file, ["HEIF"]
    # Pillow warns and raises by its own pixel limit; ours comes first and is the archive's.
    with (
        warnings.catch_warnings(action="ignore", category=UserWarning),
        warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
        Image.open(io.BytesIO(data), formats=formats) as image,
    ):
        check_size(*image.size, limits)
        # A phone's MPO is a JPEG with previews behind the photo: its first frame is the photo, as is the main one of a HEIC.
        # Elsewhere frames are pages or time. Not n_frames, for which Pillow would read each page of a TIFF: 10,000 in 1 MB were
        # 5 s.
        if image.format not in ("MPO", "HEIF") and getattr(image, "is_animated", False):
            raise ImageUnsupported(f"{image.format} with more than one frame; send the one that is meant")
        size = image.size
        scaled = image.format in ("JPEG", "MPO")
        if scaled:
            _check_scans(data)
            image.draft(None, _draft_size(size, preprocessing, _orientation(image) in TURNED))
        if not heic:
            # Pillow turns a TIFF itself, and then takes its tag away. Of a PNG, the tag is known only when all of it is read.
            needed = check_memory(image, data, size, image.format == "TIFF" and _orientation(image) in TURNS, limits)
            # Decoders that get no memory in the middle seldom say so; and what is in the budget need not be there.
            reserve(needed - (WEBP_KEPT * size[0] * size[1] if image.format == "WEBP" else 0))
        mode = stored_mode(image)
        image.load()
        if newer:
            own = heic.profile if heic else sifted.profile or image.info.get("icc_profile")
            rgb = to_srgb(image, colours_of(mode, own), *sample_range(image, sifted.bits), clear_sample(image))
        else:
            rgb = to_srgb(image)
        # What was decoded is let go with `image`, which is this function's, where `rgb` is a copy of it. A HEIC's decoder has
        # turned it already, by another box of the file, beside which the tag means nothing.
        return rgb, 1 if heic else _orientation(image), kept(image, rgb), size if scaled else rgb.size


def _fit_turned(image: Image.Image, orientation: object, preprocessing: Preprocessing, held: int, limits: Limits) -> UInt8:
    turn = TURNS[orientation]
    both = held + RGB * image.width * image.height
    between = RGB * min(image.size) * max(preprocessing.width, preprocessing.height)  # at most, by `_fit`'s choice
    if both + between <= budget(limits):
        return _fit(image.transpose(turn), preprocessing, both, limits)
    # There is no room for a second picture of this size: it is turned when it is small, and a last digit differs now and then.
    sides = {"height": preprocessing.width, "width": preprocessing.height} if orientation in TURNED else {}
    return np.asarray(Image.fromarray(_fit(image, preprocessing.model_copy(update=sides), held, limits)).transpose(turn))


def _orientation(image: Image.Image) -> object:
    """The EXIF orientation, 1 to 8 as the standard has it, whatever the tag holds."""
    try:
        check_tags(image.info.get("exif") or b"")
        return image.getexif().get(ORIENTATION, 1)
    except (ImageError, MemoryError):
        raise
    except Exception:
        # The parser raises almost anything on damaged metadata; the picture beside it is whole all the same.
        return 1


def _check_scans(data: bytes) -> None:
    scans = sum(1 for _ in SCAN.finditer(data))
    if scans > MAX_SCANS:
        raise ImageUnsupported(f"JPEG with {scans} scans, at most {MAX_SCANS}; save it again as an ordinary JPEG")


def _draft_size(size: tuple[int, int], preprocessing: Preprocessing, turned: bool) -> tuple[int, int]:
    """The least (width, height) to keep in the stored, not yet turned, orientation."""
    if preprocessing.fit == "crop" and preprocessing.resize:
        shrink = preprocessing.resize / min(size)
        wanted = (size[0] * shrink, size[1] * shrink)
    else:
        wanted = (preprocessing.width, preprocessing.height)
        wanted = (wanted[1], wanted[0]) if turned else wanted
    return (max(1, int(wanted[0] * DCT_GAP)), max(1, int(wanted[1] * DCT_GAP)))


def _fit(image: Image.Image, preprocessing: Preprocessing, held: int, limits: Limits) -> UInt8:
    """The picture at the network's size. `held`: bytes of memory that it and what stays beside it take."""
    size = (preprocessing.width, preprocessing.height)
    box = None
    if preprocessing.fit == "crop" and preprocessing.resize:
        scaled = _scaled(*image.size, preprocessing)
        left, top = (scaled[0] - size[0]) / 2, (scaled[1] - size[1]) / 2
        ratio = (image.width / scaled[0], image.height / scaled[1])
        # A hair less than the whole side, which rounding would now and then make a hair more; and that is an error.
        box = CropBox(left * ratio[0], top * ratio[1], size[0] * ratio[0] * (1 - 1e-9), size[1] * ratio[1] * (1 - 1e-9))
    elif image.size == size:
        return np.asarray(image)
    kind = INTERPOLATION[preprocessing.interpolation]
    left, top, across, down = astuple(box or CropBox(0, 0, *image.size))
    # The resizer makes the height right first: what is between is as wide as the picture, 3.5 GB for 4,000,000 x 1 pixels; the
    # width first, it is as tall. The smaller of both has room: 29 MB of the 50 beside 50 megapixels, at the largest network.
    flat, narrow = RGB * ceil(across) * size[1], RGB * image.height * size[0]
    reserve(min(flat, narrow) + RGB * size[0] * size[1])  # of which the resizer takes three quarters
    if held + flat > budget(limits) and narrow < flat:
        image = _resize(image, (size[0], image.height), kind, CropBox(left, 0, across, image.height))
        box = CropBox(0, top, size[0], down)
    return np.asarray(_resize(image, size, kind, box))


def _scaled(width: int, height: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """The size, width and height, to which fit "crop" scales a picture before the middle is cut out."""
    shrink = (preprocessing.resize or 0) / min(width, height)
    return max(preprocessing.width, round(width * shrink)), max(preprocessing.height, round(height * shrink))


def _resize(image: Image.Image, size: tuple[int, int], kind: FilterType, box: CropBox | None) -> Image.Image:
    """As Pillow's own resize, but for the last digit, with instructions that take many pixels at once [1.4 → 0.3 ms]."""
    resized = Image.new("RGB", size)
    Resizer().resize_pil(image, resized, ResizeOptions(ResizeAlg.convolution(kind), crop_box=box))  # a resizer is one thread's
    return resized


def _foreign(data: bytes, rule: DecodingRule) -> str | None:
    if rule > 1 and is_heic(data):
        return None
    head = data[:16].lstrip()
    brand = FOREIGN_BRANDS.get(data[8:12]) if data[4:8] == b"ftyp" else None
    found = brand or next((name for magic, name in FOREIGN.items() if head.startswith(magic)), None)
    return "SVG" if found == "XML" and b"<svg" in data[:1024] else found


def _unread_tiff(data: bytes) -> str | None:
    if not data.startswith((b"II", b"MM")):
        return None
    try:
        return name_tiff(data)
    except Exception:  # damage, as in `view`
        return None
