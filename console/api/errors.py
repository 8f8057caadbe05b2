"""The errors that routes document: each status with the codes that it may have."""

from collections import defaultdict
from typing import Any

from pydantic import BaseModel, Field

from console.errors import ConsoleError


class ErrorBody(BaseModel):
    """A stable code, and a sentence that says what is wrong and what to do."""

    code: str = Field(examples=["image.undecodable"])
    message: str = Field(examples=["not an image, or a damaged one"])


class ErrorAnswer(BaseModel):
    """How every error is answered."""

    error: ErrorBody


def documented(*errors: type[ConsoleError], **also: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may raise these errors. `also`: other codes by status, `s400="image.empty, ..."`."""
    codes: defaultdict[int, list[str]] = defaultdict(list)
    for error in errors:
        codes[error.status].append(f"`{error.code}`: {(error.__doc__ or '').strip()}")
    for status, sentence in also.items():
        codes[int(status.removeprefix("s"))].append(sentence)
    return {status: {"model": ErrorAnswer, "description": " ".join(told)} for status, told in sorted(codes.items())}
