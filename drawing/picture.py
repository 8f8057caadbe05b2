"""A picture with its heat map, what was answered about it, and a legend."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from drawing.heat import FULL_LOGITS, encircle, overlay, strength
from drawing.heatmap import HeatMap
from handlers.arrays import UInt8
from handlers.decode import upright
from handlers.spec import DECODING, WHOLE, Box, DecodingRule, Limits

# A picture's longer side: a thumbnail is enlarged until the map on it can be seen, a 12-megapixel photo made handy.
SMALLEST, LARGEST = 256, 1024
LINE, MARGIN, BAR = 18, 4, 10
"""Heights in pixels of a line of text and of the legend's bar, and the room around them."""
INK, PAPER, FRAME = (30, 30, 30), (255, 255, 255), (255, 0, 255)
FONT = Path(__file__).with_name("DejaVuSans.ttf")


def draw(content: bytes | UInt8, heatmap: HeatMap, said: str, limits: Limits, rule: DecodingRule = DECODING) -> Image.Image:
    """Draw the picture, as the network was shown it, with its heat map, what was answered in words and a legend.

    `content`: an encoded picture, or its pixels, (h, w, 3) uint8. Colours mean the same in every picture: the strongest is
    FULL_LOGITS logits of evidence or more. `rule`: by which an encoded picture was decoded for the network. Raises ImageError.
    """
    plain = shown(content, limits, rule)
    picture = over(plain, heatmap)
    height, width = picture.shape[:2]
    words = f"evidence for {heatmap.label}"
    if heatmap.peak is not None:
        words += f", at most {heatmap.peak:.1f} logits"
    canvas = Image.new("RGB", (max(width, SMALLEST), height + 3 * LINE + BAR + 2 * MARGIN), PAPER)
    canvas.paste(Image.fromarray(picture))
    pen = ImageDraw.Draw(canvas)
    if heatmap.box != WHOLE:
        x, y, right, bottom = _inside(plain, heatmap.box)
        pen.rectangle((x, y, right - 1, bottom - 1), outline=FRAME)
    _write(canvas, [said, words], height + MARGIN)
    _legend(canvas, heatmap.peak, height + MARGIN + 2 * LINE)
    return canvas


def shown(content: bytes | UInt8, limits: Limits, rule: DecodingRule = DECODING) -> UInt8:
    """Decode a picture as the network was shown it, of a size that a person can look at. Returns (h, w, 3). Raises ImageError."""
    return _enlarged(upright(content, LARGEST, limits, rule) if isinstance(content, bytes) else _reduced(content))


def over(picture: UInt8, heatmap: HeatMap) -> UInt8:
    """Draw a heat map and its dashes over the part of a picture that it is of. picture: (h, w, 3) → the same."""
    x, y, right, bottom = _inside(picture, heatmap.box)
    drawn = picture.copy()
    heated = overlay(picture[y:bottom, x:right], strength(heatmap.values, heatmap.peak))
    drawn[y:bottom, x:right] = encircle(heated, heatmap.values)
    return drawn


def _inside(picture: UInt8, box: Box) -> tuple[int, int, int, int]:
    """The pixels of a box: left, top, right, bottom, one across at least."""
    height, width = picture.shape[:2]
    left, top, across, down = box
    x, y = (min(round(share * side), side - 1) for share, side in ((left, width), (top, height)))
    return x, y, max(x + 1, round((left + across) * width)), max(y + 1, round((top + down) * height))


def _reduced(pixels: UInt8) -> UInt8:
    """Reduce pixels to LARGEST, as `upright` does a file."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((LARGEST, LARGEST), Image.Resampling.BILINEAR)
    return np.asarray(picture)


def _enlarged(picture: UInt8) -> UInt8:
    """Enlarge a picture whose longer side is below SMALLEST; returns a copy that may be drawn on."""
    height, width = picture.shape[:2]
    ratio = max(1.0, SMALLEST / max(height, width))
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    return np.array(Image.fromarray(picture).resize(size))


def _write(canvas: Image.Image, lines: Sequence[str], top: int) -> None:
    pen, font = ImageDraw.Draw(canvas), _font()
    for n, line in enumerate(lines):
        shown = line
        while pen.textlength(shown, font) > canvas.width - 2 * MARGIN:
            shown = f"{shown[:-2]}…"
        pen.text((MARGIN, top + n * LINE), shown, INK, font)


def _legend(canvas: Image.Image, peak: float | None, top: int) -> None:
    """Draw the scale of colours with its ends named, and a mark at the picture's own peak."""
    width = canvas.width - 2 * MARGIN
    ramp = np.tile(np.linspace(0, 1, width, dtype=np.float32), (BAR, 1))
    canvas.paste(Image.fromarray(overlay(np.full((BAR, width, 3), 255, dtype=np.uint8), ramp)), (MARGIN, top))
    pen, font = ImageDraw.Draw(canvas), _font()
    pen.rectangle((MARGIN, top, MARGIN + width - 1, top + BAR - 1), outline=INK)
    if peak is not None:
        at = MARGIN + round(min(1.0, peak / FULL_LOGITS) * (width - 1))
        pen.line((at, top - 2, at, top + BAR + 1), INK, 2)
    end = "its own peak" if peak is None else f"{FULL_LOGITS:g} logits or more"
    pen.text((MARGIN, top + BAR + 1), "0", INK, font)
    pen.text((canvas.width - MARGIN - pen.textlength(end, font), top + BAR + 1), end, INK, font)


def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(FONT, 12)
