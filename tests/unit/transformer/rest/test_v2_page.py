"""docs/v2.md has the errors that the code has."""

from pathlib import Path

from transformer.rest.openapi import ANYWHERE, FIXED, INFER, error_rows

PAGE = Path(__file__).parents[4] / "docs/v2.md"


def test_the_page_has_every_error_as_the_code_has_it():
    shown = [line for line in PAGE.read_text().splitlines() if line.startswith("| `") and line.count("|") == 4]
    assert shown == error_rows((*INFER, *FIXED, *ANYWHERE))
