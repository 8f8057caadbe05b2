"""A picture's own colours → sRGB, by its ICC profile and Little CMS, which Pillow brings along.

A profile that is damaged, or of another kind than the picture, is as none. One that changes no colour by more than a step, as
sRGB's own do, is found out once and then costs the digest of its bytes.
"""

import hashlib
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

from handlers.containers import MAX_PROFILE

KEPT = 8
"""Profiles whose conversions are kept: pictures of one data set, or of one camera, have one or two."""
DEEP = "I;16"
# By what a profile is of: Pillow's mode that Little CMS is given, and the modes of pictures that it is for.
_GIVEN = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_FOR = {"RGB": ("RGB", "RGBA", "RGBX", "P", "PA", "1", "L", "LA"), "L": ("1", "L", "LA"), "CMYK": ("CMYK",), DEEP: (DEEP,)}
_SRGB = ImageCms.createProfile("sRGB")


@dataclass(frozen=True)
class Colours:
    """How a profile's colours become sRGB's. `mode`: Pillow's, of what is converted."""

    mode: str
    transform: ImageCms.ImageCmsTransform

    def to_srgb(self, part: Image.Image) -> Image.Image:
        """Convert a picture, or some rows of it, to RGB; one that is RGB already in place."""
        own = part if part.mode == self.mode else part.convert(self.mode)
        return self.transform.apply(own, own if own.mode == "RGB" else Image.new("RGB", own.size))


_known: dict[tuple[bytes, bool], Colours | None] = {}


def colours_of(mode: str, profile: bytes | None) -> Colours | None:
    """Find how the colours of a picture of Pillow's `mode` become sRGB's; None where nothing says that they are not."""
    if not profile or len(profile) > MAX_PROFILE:
        return None
    deep = mode.startswith(DEEP)
    key = hashlib.sha256(profile).digest(), deep
    if key in _known:
        found = _known[key]
    else:
        while len(_known) >= KEPT:
            _known.pop(next(iter(_known)), None)
        _known[key] = found = _conversion(profile, deep)
    return found if found and (DEEP if deep else mode) in _FOR[found.mode] else None


def _conversion(profile: bytes, deep: bool) -> Colours | None:
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _GIVEN[opened.profile.xcolor_space.strip()]
        mode = DEEP if deep and mode == "L" else mode
        colours = Colours(mode, ImageCms.buildTransform(opened, _SRGB, mode, "RGB"))
    except (ImageCms.PyCMSError, OSError, KeyError, ValueError, TypeError):
        return None  # the picture beside it is whole
    return None if mode in ("L", "RGB") and _changes_nothing(colours) else colours


def _changes_nothing(colours: Colours) -> bool:
    greys = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    sides = np.arange(0, 256, 51, dtype=np.uint8)
    mixed = np.stack(np.meshgrid(sides, sides, sides), -1).reshape(1, -1, 3)
    tried = greys if colours.mode == "L" else np.concatenate([greys, mixed], 1)
    own = Image.fromarray(tried).convert(colours.mode)
    return bool(np.abs(np.asarray(colours.to_srgb(own)).astype(int) - tried).max() <= 1)
