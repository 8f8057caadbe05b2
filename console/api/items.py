"""The items of a batch's answer, and the forms in which they are written: lines of JSON, a JSON array, CSV."""

import csv
import io
import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field

from console.servers.models import Answer, ItemError

Form = Literal["ndjson", "json", "csv"]
MEDIA: Mapping[str, Form] = {"application/x-ndjson": "ndjson", "application/json": "json", "text/csv": "csv"}
"""What POST /batch_predict answers with, the default first."""
COLUMNS = (
    "index", "name", "label", "confidence", "decision", "score", "threshold", "review_from", "review_to", "promise",
    "prediction_set", "model", "version", "digest", "track", "error", "message",
)  # fmt: skip


class Item(BaseModel):
    """One picture of a batch. `index`: from 0, as they came; `name`: the file's own; either `answer` or `error` is there."""

    index: int = Field(examples=[0])
    name: str = Field(examples=["roof-12.jpg"])
    answer: Answer | None = None
    error: ItemError | None = None


async def _ndjson(items: AsyncIterator[Item]) -> AsyncIterator[bytes]:
    async for item in items:
        yield item.model_dump_json().encode() + b"\n"


async def _json(items: AsyncIterator[Item]) -> AsyncIterator[bytes]:
    before = b"["
    async for item in items:
        yield before + item.model_dump_json().encode()
        before = b",\n"
    yield b"[]" if before == b"[" else b"]"


async def _csv(items: AsyncIterator[Item]) -> AsyncIterator[bytes]:
    yield csv_line(COLUMNS)
    async for item in items:
        yield csv_line(row_of(item))


def row_of(item: Item) -> list[object]:
    """An item's values by COLUMNS; heat maps and probabilities are in JSON alone."""
    answer = item.answer or Answer()
    error = item.error or answer.error
    named: dict[str, Any] = {**answer.model_dump(include=set(COLUMNS) & set(Answer.model_fields)), "index": item.index}
    named |= {"name": item.name, "error": error.code if error else "", "message": error.message if error else ""}
    named["prediction_set"] = "|".join(answer.prediction_set or ())
    return [named[column] for column in COLUMNS]


def csv_line(values: Any) -> bytes:
    """A line of CSV, in which no text is a formula to a spreadsheet."""
    line = io.StringIO()
    csv.writer(line).writerow([_harmless(value) for value in values])
    return line.getvalue().encode()


# Some spreadsheets take the full-width signs, too, and begin behind white space.
_FORMULA = re.compile(r"\s*[=+\-@|\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


WRITERS: Mapping[Form, Callable[[AsyncIterator[Item]], AsyncIterator[bytes]]] = {"ndjson": _ndjson, "json": _json, "csv": _csv}
