"""A picture as a person reviews it: decoded and written anew, so that nothing that its file says reaches the browser."""

import asyncio
import io

from PIL import Image

from console.api.overlays import ONE_AT_A_TIME, heatmap_of
from console.reviews.errors import PictureUnshown
from console.servers.models import Answer
from drawing.picture import over, shown
from handlers.errors import ImageError
from handlers.spec import Limits

QUALITY = 90


async def draw(content: bytes, answer: Answer | None) -> bytes:
    """Write a picture as JPEG, with the answer's heat map over it if there is one. Raises PictureUnshown."""
    async with ONE_AT_A_TIME:
        return await asyncio.to_thread(_draw, content, answer)


def _draw(content: bytes, answer: Answer | None) -> bytes:
    try:
        pixels = shown(content, Limits())
    except ImageError as err:
        raise PictureUnshown(f"the picture cannot be shown: {err.args[0]}") from err
    if answer is not None and answer.heatmap is not None:
        pixels = over(pixels, heatmap_of(answer))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
