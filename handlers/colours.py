"""A picture's own colours → sRGB, by its ICC profile and Little CMS, which Pillow brings along.

A profile that is damaged, or of another kind than the picture, is as none. One that changes no colour by more than a step, as
sRGB's own do, is found out once and then costs the digest of its bytes.
"""

import hashlib
import io
import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms

from handlers.arrays import UInt8
from handlers.containers import MAX_PROFILE

KEPT = 8
"""Profiles whose conversions are kept: pictures of one data set, or of one camera, have one or two."""
ENDLESS, MAX_TAGS = b"mpet", 100
"""A type of tag that may list one step 500,000 times, each of which takes time; and as many tags as Little CMS reads."""
DEEP = "I;16"
# By what a profile is of: the modes of pictures that it is for.
_FOR = {"RGB": ("RGB", "RGBA", "RGBX", "P", "PA", "1", "L", "LA"), "GRAY": ("1", "L", "LA", DEEP), "CMYK": ("CMYK",)}
_SRGB = ImageCms.createProfile("sRGB")


@dataclass(frozen=True)
class Colours:
    """How a profile's colours become sRGB's. `kind`: what it is of, RGB, GRAY or CMYK.

    `grey`, (65536,) uint8: of a profile of greys, what each of 16 bits becomes. Little CMS would make do with 33 points, which is
    off by 10 of 255 in shadows.
    """

    kind: str
    transform: ImageCms.ImageCmsTransform
    grey: UInt8 | None = None

    def to_srgb(self, part: Image.Image) -> Image.Image:
        """Convert a picture, or some rows of it, to RGB; one that is RGB already in place."""
        if self.grey is not None:
            if part.mode == DEEP:
                return Image.fromarray(self.grey[np.asarray(part)]).convert("RGB")
            return part.convert("L").point(self.grey[::257].tolist()).convert("RGB")
        own = part if part.mode == self.kind else part.convert(self.kind)
        return self.transform.apply(own, own if own.mode == "RGB" else Image.new("RGB", own.size))


_known: dict[bytes, tuple[Colours | None]] = {}


def colours_of(mode: str, profile: bytes | None) -> Colours | None:
    """Find how the colours of a picture of Pillow's `mode` become sRGB's; None where nothing says that they are not."""
    if not profile or len(profile) > MAX_PROFILE:
        return None
    key = hashlib.sha256(profile).digest()
    [found] = _known.get(key) or [_conversion(profile)]
    while len(_known) >= KEPT and key not in _known:
        _known.pop(next(iter(_known), key), None)  # other threads may do so, too
    _known[key] = (found,)
    return found if found and mode[: len(DEEP)] in _FOR[found.kind] else None


def _conversion(profile: bytes) -> Colours | None:
    try:
        if ENDLESS in _kinds(profile):
            return None
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        kind = opened.profile.xcolor_space.strip()
        if kind == "GRAY":
            transform = ImageCms.buildTransform(opened, _SRGB, DEEP, "RGB", flags=ImageCms.Flags.NOOPTIMIZE)
            ramp = Image.fromarray(np.arange(1 << 16, dtype=np.uint16).reshape(256, 256))
            colours = Colours(kind, transform, np.asarray(transform.apply(ramp))[:, :, 1].ravel())
        elif kind in _FOR:
            colours = Colours(kind, ImageCms.buildTransform(opened, _SRGB, kind, "RGB"))
        else:
            return None
    except (ImageCms.PyCMSError, struct.error, OSError, ValueError, TypeError):
        return None  # the picture beside it is whole
    return None if kind != "CMYK" and _changes_nothing(colours) else colours


def _kinds(profile: bytes) -> set[bytes]:
    """The types of a profile's tags (ICC.1:2010, 7.3)."""
    [count] = struct.unpack_from(">I", profile, 128)
    starts = [struct.unpack_from(">4xI", profile, 132 + 12 * n)[0] for n in range(min(count, MAX_TAGS))]
    return {profile[start : start + 4] for start in starts}


def _changes_nothing(colours: Colours) -> bool:
    greys = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    sides = np.arange(0, 256, 51, dtype=np.uint8)
    mixed = np.stack(np.meshgrid(sides, sides, sides), -1).reshape(1, -1, 3)
    tried = greys if colours.kind == "GRAY" else np.concatenate([greys, mixed], 1)
    return bool(np.abs(np.asarray(colours.to_srgb(Image.fromarray(tried))).astype(int) - tried).max() <= 1)
