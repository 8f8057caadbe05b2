"""The forms of a batch's answer."""

import csv
import io
import json
from collections.abc import AsyncIterator

import pytest

from console.api.items import COLUMNS, WRITERS, Form, Item, csv_line
from console.servers.models import Answer, ItemError

ITEMS = (
    Item(
        index=0,
        name='=HYPERLINK("http://x")',
        answer=Answer(label="a", confidence=0.5, decision="pass", prediction_set=("a", "b")),
    ),
    Item(index=1, name="<script>.jpg", error=ItemError(code="image.empty", message="no bytes")),
    Item(index=2, name="c.jpg", answer=Answer(decision="review", error=ItemError(code="image.undecodable", message="-"))),
)


async def written(form: Form, items: tuple[Item, ...] = ITEMS) -> str:
    async def each() -> AsyncIterator[Item]:
        for item in items:
            yield item

    return b"".join([part async for part in WRITERS[form](each())]).decode()


async def test_lines_and_an_array_hold_the_same() -> None:
    lines = [json.loads(line) for line in (await written("ndjson")).splitlines()]
    assert lines == json.loads(await written("json"))
    assert [Item.model_validate(line) for line in lines] == list(ITEMS)


async def test_no_items_are_an_empty_answer_of_each_form() -> None:
    assert await written("ndjson", ()) == ""
    assert json.loads(await written("json", ())) == []
    assert (await written("csv", ())).strip() == ",".join(COLUMNS)


async def test_csv_has_a_row_for_each_and_no_formulas() -> None:
    first, second, third = csv.DictReader(io.StringIO(await written("csv")))
    assert (first["name"], first["label"], first["prediction_set"]) == ('\'=HYPERLINK("http://x")', "a", "a|b")
    assert (second["name"], second["error"], second["message"]) == ("<script>.jpg", "image.empty", "no bytes")
    assert (third["decision"], third["error"], third["message"]) == ("review", "image.undecodable", "'-")


@pytest.mark.parametrize("name", ["=1", " =1", "\uff1d1", "@a", "|x", "\n1", "-1", "+1"])
def test_no_text_begins_as_a_formula_does(name: str) -> None:
    assert csv_line([name]).decode().strip('"').startswith("'")
    assert csv_line([-1.5, "a=1"]) == b"-1.5,a=1\r\n"
