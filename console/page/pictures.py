"""What an answer's picture looks like in a page: decoded, with and without its heat map, as addresses that hold the data."""

import asyncio
import base64
import io
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from console.api.overlays import LIMITS, ONE_AT_A_TIME, heatmap_of
from console.servers.models import Answer
from drawing.heat import FULL_LOGITS as FULL_LOGITS
from drawing.heat import overlay
from drawing.picture import over, shown
from handlers.arrays import UInt8
from handlers.errors import ImageError

QUALITY = 85
RAMP = 256
"""Pixels along the legend's scale of colours."""


@dataclass(frozen=True)
class Shown:
    """A picture's addresses, "" where there is none to show; `unshown`: why not."""

    plain: str = ""
    drawn: str = ""
    unshown: str = ""


async def show(content: bytes, answer: Answer) -> Shown:
    """Decode a picture and draw its heat map over it. What no browser shows, such as HEIC and TIFF, comes as JPEG, too."""
    async with ONE_AT_A_TIME:
        return await asyncio.to_thread(_show, content, answer)


def _show(content: bytes, answer: Answer) -> Shown:
    try:
        plain = shown(content, LIMITS)
    except ImageError as err:
        return Shown(unshown=f"The picture cannot be shown: {err.args[0]}.")
    return Shown(_jpeg(plain), "" if answer.heatmap is None else _jpeg(over(plain, heatmap_of(answer))))


def _jpeg(pixels: UInt8) -> str:
    """Write pixels, (h, w, 3), as an address that is the picture."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


@cache
def ramp() -> str:
    """The colours of evidence from none to all, on white, as in every drawing."""
    strengths = np.tile(np.linspace(0, 1, RAMP, dtype=np.float32), (8, 1))
    return _jpeg(overlay(np.full((8, RAMP, 3), 255, dtype=np.uint8), strengths))
