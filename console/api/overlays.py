"""The picture of why: an uploaded picture with its heat map, and the decision in the answer's headers."""

import asyncio
import io
from collections.abc import Mapping
from typing import Literal, TypeVar
from urllib.parse import quote

from console.errors import NotAcceptable, ServerRefused
from console.servers.models import Answer
from drawing.heatmap import HeatMap
from drawing.picture import draw
from handlers.spec import WHOLE, Limits

Kind = Literal["json", "png", "jpeg", "webp"]
Form = TypeVar("Form", bound=str)
MEDIA: Mapping[str, Kind] = {
    "application/json": "json",
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/webp": "webp",
}
"""What POST /predict answers with, the default first."""
LIMITS = Limits(max_bytes=1 << 40, max_pixels=50_000_000)
"""Of a picture that a server has answered, whose own limits held; a larger one is answered, and not drawn."""
_FIELDS = (
    "model", "version", "digest", "track", "label", "confidence", "decision", "score", "threshold", "review_from", "review_to",
    "group", "promise", "heatmap_label", "heatmap_peak",
)  # fmt: skip
HEADERS = tuple(f"Visor-{name.replace('_', '-').title()}" for name in _FIELDS)
"""Of an overlay's answer: the fields of the JSON, text in percent encoding."""
ONE_AT_A_TIME = asyncio.Lock()
"""A picture of 50 megapixels takes some 250 MB while it is decoded."""


def wanted(accept: str, media: Mapping[str, Form]) -> Form:
    """What a header Accept prefers of the media that there are; the first where nothing is preferred. Raises NotAcceptable."""
    ranges = [_range(part) for part in accept.split(",") if part.strip()] or [("*/*", 1.0)]

    def quality(name: str) -> float:
        matching = {"*/*", f"{name.partition('/')[0]}/*", name}
        # The most specific range decides: RFC 9110, 12.5.1.
        found = [(pattern.count("*"), -share) for pattern, share in ranges if pattern in matching]
        return -min(found)[1] if found else 0.0

    best = max(media, key=quality)
    if quality(best) <= 0:
        raise NotAcceptable(f"the header Accept names none of {', '.join(media)}, as which this is answered")
    return media[best]


def _range(part: str) -> tuple[str, float]:
    name, *parameters = (each.strip().lower() for each in part.split(";"))
    share = next((each[2:] for each in parameters if each.startswith("q=")), "1")
    try:
        return name, min(1.0, max(0.0, float(share)))
    except ValueError:
        return name, 0.0


def headers_of(answer: Answer) -> dict[str, str]:
    """The answer's fields as headers; what is empty or unknown is left out."""
    values = ((header, getattr(answer, name)) for header, name in zip(HEADERS, _FIELDS, strict=True))
    return {header: quote(str(value), safe=" /=:,.+-") for header, value in values if value not in (None, "")}


async def draw_overlay(content: bytes, answer: Answer, kind: Kind) -> bytes:
    """Draw an answer's picture, encoded. Raises the answer's error, and ImageError for a picture that is not drawn."""
    if answer.error is not None:
        raise ServerRefused(answer.error.code, 400, answer.error.message)
    async with ONE_AT_A_TIME:
        return await asyncio.to_thread(_draw, content, answer, kind)


def heatmap_of(answer: Answer) -> HeatMap:
    """An answer's heat map as `drawing` takes it."""
    return HeatMap(answer.heatmap, answer.heatmap_label, answer.heatmap_box or WHOLE, answer.heatmap_peak)


def _draw(content: bytes, answer: Answer, kind: Kind) -> bytes:
    heatmap = heatmap_of(answer)
    said = f"{answer.label} {answer.confidence or 0:.3f}  {answer.decision}"
    drawn = io.BytesIO()
    draw(content, heatmap, said, LIMITS).save(drawn, kind, **({"quality": 90} if kind in ("jpeg", "webp") else {}))
    return drawn.getvalue()
