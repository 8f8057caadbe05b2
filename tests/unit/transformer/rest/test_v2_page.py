"""docs/v2.md has the errors that the code has."""

from pathlib import Path

from transformer.rest.openapi import ANYWHERE, FIXED, INFER, error_rows

PAGE = Path(__file__).parents[4] / "docs/v2.md"


def test_the_page_has_every_error_as_the_code_has_it():
    _, section = PAGE.read_text().split("\n## Errors\n")
    shown = [line for line in section.splitlines() if line.startswith("| `")]
    assert shown == error_rows((*INFER, *FIXED, *ANYWHERE))
