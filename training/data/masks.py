"""Masks of what matters in a picture, as its network sees it."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from handlers.arrays import Bools
from handlers.decode import FORMATS, MOST_PIXELS, from_pixels
from handlers.errors import ImageTooLarge
from handlers.memory import check_size
from handlers.spec import Spec
from training.data.manifest import Sample
from training.errors import DataUnreadable


def read_mask(sample: Sample, spec: Spec, root: Path) -> Bools | None:
    """Read the sample's mask as the network sees the picture, (H, W), true where it is not 0; None for a sample without one.

    Raises DataUnreadable.
    """
    if sample.mask is None:
        return None
    try:
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(root / sample.mask, formats=FORMATS) as image,
        ):
            check_size(*image.size, spec.limits)
            mask = np.asarray(image.convert("L")) > 0
    except Image.DecompressionBombError as err:
        raise DataUnreadable(
            f"the mask {sample.mask} has more than {MOST_PIXELS} pixels; scale it down with its picture"
        ) from err
    except ImageTooLarge as err:
        raise DataUnreadable(f"the mask {sample.mask} is too large: {err.args[0]}") from err
    except (OSError, SyntaxError, ValueError) as err:
        raise DataUnreadable(f"the mask {sample.mask} is not a whole image: {err}") from err
    pixels = np.repeat(mask[:, :, None] * np.uint8(255), 3, axis=2)
    return from_pixels(pixels, spec.preprocessing, spec.limits)[:, :, 0] > 0
