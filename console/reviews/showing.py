"""A picture as a person reviews it: decoded and written anew, so that nothing that its file says reaches the browser."""

import io
import threading

import numpy as np
from PIL import Image

from console.reviews.errors import PictureUnshown
from console.servers.models import Answer
from drawing.heatmap import HeatMap
from drawing.picture import over, shown
from handlers.errors import ImageError
from handlers.spec import WHOLE, Limits

QUALITY = 90
ONE_AT_A_TIME = threading.Lock()
"""A picture of 50 megapixels takes some 250 MB while it is decoded."""


def draw(content: bytes, answer: Answer | None) -> bytes:
    """Write a picture as JPEG, with the answer's heat map over it if there is one. Raises PictureUnshown."""
    with ONE_AT_A_TIME:
        return _draw(content, answer)


def _draw(content: bytes, answer: Answer | None) -> bytes:
    try:
        pixels = shown(content, Limits())
    except ImageError as err:
        raise PictureUnshown(f"the picture cannot be shown: {err.args[0]}") from err
    if answer is not None and answer.heatmap is not None:
        values = np.asarray(answer.heatmap, dtype=np.float32)
        pixels = over(pixels, HeatMap(values, answer.heatmap_label, answer.heatmap_box or WHOLE, answer.heatmap_peak))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
