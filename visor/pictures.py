"""What may be asked about: a path, an encoded picture's bytes, a PIL image or an array, read to what a model answers to."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

import numpy as np

from handlers.arrays import UInt8
from handlers.errors import ImageUnsupported
from handlers.spec import DECODING, DecodingRule
from visor.errors import ImageUnreadable

if TYPE_CHECKING:
    from PIL import Image

Picture: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | UInt8"
"""A file's path, an encoded picture, an opened one, or RGB pixels (h, w, 3) uint8, upright."""


def is_one(images: object) -> TypeGuard[Picture]:
    """Whether this is one picture and no collection of them; an array of four axes is one of pictures."""
    if isinstance(images, np.ndarray):
        return images.ndim != 4
    return isinstance(images, str | os.PathLike | bytes) or hasattr(images, "getexif") or not hasattr(images, "__iter__")


def read(picture: Picture, rule: DecodingRule = DECODING) -> bytes | UInt8:
    """Read a picture: encoded bytes, or pixels, (h, w, 3) uint8; those of an opened one by a decoding rule.

    Raises ImageUnreadable, ImageUnsupported.
    """
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, str | os.PathLike):
        return _read_file(Path(picture))
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ImageUnsupported(
                f"an array of {picture.dtype} with the shape {picture.shape} is no picture; give RGB pixels, (h, w, 3) uint8"
            )
        return np.ascontiguousarray(picture)
    if hasattr(picture, "getexif"):
        from handlers.decode import upright_pixels  # loads the resizer, which a client of a server may do without

        return upright_pixels(picture, rule)
    raise ImageUnsupported(f"a {type(picture).__name__} is no picture; give a path, bytes, a PIL image or an array")


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as err:  # ValueError: a name with a zero byte
        raise ImageUnreadable(f"{path} cannot be read: {getattr(err, 'strerror', None) or err}") from err
