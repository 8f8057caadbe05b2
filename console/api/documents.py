"""What the OpenAPI document says beside what FastAPI finds by itself: errors by status, bodies by type, examples."""

from collections import defaultdict
from typing import Any

from pydantic import BaseModel, Field

from console.errors import (
    ConsoleError,
    CrossSite,
    LimitReached,
    ParameterInvalid,
    ScopeMissing,
    ServerDown,
    ServerFailed,
    ServerSlow,
    Unauthenticated,
)

ASKING = (
    Unauthenticated,
    ScopeMissing,
    CrossSite,
    ParameterInvalid,
    LimitReached,
    ServerDown,
    ServerFailed,
    ServerSlow,
)
"""What every route may answer that asks a key and a server."""
PICTURE_CODES = (
    "A server's own code: `image.empty`, `image.too_large`, `image.undecodable`, `image.unsupported`, `image.unanswerable`, "
    "`request.group`, `request.threshold`, `request.parameter`."
)
BINARY = {"type": "string", "format": "binary"}
_FIELDS = {
    "model": {"type": "string", "description": "The model's name; may be left out where the console has one model."},
    "explain": {"type": "boolean", "description": "Whether the answer has a heat map."},
    "threshold": {"type": "number", "minimum": 0, "maximum": 1, "description": "Decides in the place of the archive's."},
    "group": {"type": "string", "description": "The group, COLUMN=VALUE, whose threshold decides."},
}


class ErrorBody(BaseModel):
    """A stable code, and a sentence that says what is wrong and what to do."""

    code: str = Field(examples=["image.undecodable"])
    message: str = Field(examples=["1024 bytes are not a whole image"])


class ErrorAnswer(BaseModel):
    """How every error is answered."""

    error: ErrorBody


def documented(*errors: type[ConsoleError], **also: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may raise these errors. `also`: other sentences by status, as `s400="..."`."""
    codes: defaultdict[int, list[str]] = defaultdict(list)
    for error in errors:
        codes[error.status].append(f"`{error.code}`: {(error.__doc__ or '').strip()}")
    for name, sentence in also.items():
        codes[int(name.removeprefix("s"))].append(sentence)
    answers: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorAnswer, "description": " ".join(sentences)} for status, sentences in sorted(codes.items())
    }
    retry = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds after which to ask again."}}
    for status in (429, 503):
        if status in answers:
            answers[status]["headers"] = retry
    return answers


def picture_body(*, form: bool = True) -> dict[str, Any]:
    """The body of one picture, as it is or, unless it may not, as a form."""
    fields = {"type": "object", "required": ["image"], "properties": {"image": BINARY, **_FIELDS}}
    kinds = ("image/jpeg", "image/png", "image/webp", "image/heic", "image/tiff", "application/octet-stream")
    content = {**({FORM: {"schema": fields}} if form else {}), **{kind: {"schema": BINARY} for kind in kinds}}
    return {"requestBody": {"required": True, "content": content}}


def batch_body() -> dict[str, Any]:
    """The body of many pictures."""
    images = {"type": "array", "items": BINARY, "description": "Pictures, or ZIPs of them."}
    form = {"type": "object", "required": ["images"], "properties": {"images": images, **_FIELDS}}
    return {"requestBody": {"required": True, "content": {FORM: {"schema": form}, "application/zip": {"schema": BINARY}}}}


FORM = "multipart/form-data"
