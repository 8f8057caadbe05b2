"""What may be asked about: a path, an encoded picture's bytes, a PIL image or an array, read to what a model answers to."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias, TypeGuard, cast

import numpy as np

from handlers.arrays import UInt8
from handlers.errors import ImageUnsupported
from handlers.spec import DECODING, DecodingRule
from visor.errors import ImageUnreadable

if TYPE_CHECKING:
    from PIL import Image

Picture: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | UInt8"
"""A file's path, an encoded picture, a file that is opened "rb", an opened picture, or RGB pixels (h, w, 3) uint8, upright."""
SAYS = 'give a path, bytes, a file opened "rb", a PIL image or an array'


def is_one(images: object) -> TypeGuard[Picture]:
    """Whether this is one picture and no collection of them; an array of four axes is one of pictures.

    A mapping is none: of one, nothing says whether its keys or its values are meant.
    """
    if isinstance(images, np.ndarray):
        return images.ndim != 4
    one = isinstance(images, str | os.PathLike | bytes | bytearray | memoryview | Mapping)
    return one or any(hasattr(images, name) for name in ("getexif", "read")) or not hasattr(images, "__iter__")


def read(picture: Picture, rule: DecodingRule = DECODING) -> bytes | UInt8:
    """Read a picture: encoded bytes, or pixels, (h, w, 3) uint8; those of an opened one by a decoding rule.

    Raises ImageUnreadable, ImageUnsupported.
    """
    if isinstance(picture, bytes | bytearray | memoryview):
        return bytes(picture)
    if isinstance(picture, str | os.PathLike):
        if not os.fspath(picture):
            raise ImageUnsupported(f"an empty text is no picture; {SAYS}")
        return _read_file(Path(picture))
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ImageUnsupported(
                f"an array of {picture.dtype} with the shape {picture.shape} is no picture; give RGB pixels, (h, w, 3) uint8"
            )
        return np.ascontiguousarray(picture)
    if hasattr(picture, "getexif"):
        from handlers.decode import upright_pixels  # loads the resizer, which a client of a server may do without

        return upright_pixels(cast("Image.Image", picture), rule)
    if hasattr(picture, "read"):
        return _read_opened(picture)
    raise ImageUnsupported(f"a {type(picture).__name__} is no picture; {SAYS}")


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except IsADirectoryError as err:
        command = f"visor score NAME {shlex.quote(str(path))} --out scores.parquet"
        raise ImageUnreadable(f"{path} cannot be read: it is a folder; `{command}` answers for all images in it") from err
    except (OSError, ValueError) as err:  # ValueError: a name with a zero byte
        raise ImageUnreadable(f"{path} cannot be read: {getattr(err, 'strerror', None) or err}") from err


def _read_opened(file: BinaryIO) -> bytes:
    """The rest of a file, whose place stays where it can, so that it can be read again: its picture may be drawn."""
    try:
        start = file.tell() if file.seekable() else None
        data = file.read()
        if start is not None:
            file.seek(start)
    except (OSError, ValueError, AttributeError) as err:  # ValueError: it is closed, or is a text
        raise ImageUnreadable(f"the opened file cannot be read: {getattr(err, 'strerror', None) or err}") from err
    if not isinstance(data, bytes):
        raise ImageUnsupported('a file that is opened as text is no picture; open it with "rb"')
    return data
