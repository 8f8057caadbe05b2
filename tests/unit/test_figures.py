"""Figures that an overview repeats are those of the page that it links to."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
NUMBER = re.compile(r"(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)?")
LINK = re.compile(r"\]\(([^)#\s]+\.md)(?:#[^)\s]*)?\)")


def numbers(text: str) -> set[str]:
    return set(NUMBER.findall(text))


def claims(page: str) -> list[tuple[str, list[Path]]]:
    """Each row of the benchmarks' tables or item of the comparison's list, without its links, and the pages that it links to."""
    text = (DOCS / page).read_text()
    if page == "comparison.md":
        parts = re.findall(r"^- (.*?)(?=^- |\n\n)", text.split("## Where both were run")[1], re.MULTILINE | re.DOTALL)
    else:
        parts = [line for line in text.splitlines() if line.startswith("| ")]
    found = [(LINK.sub("]", part), [DOCS / link for link in LINK.findall(part)]) for part in parts]
    return [(claim, pages) for claim, pages in found if pages]


@pytest.mark.parametrize(("page", "least"), [("benchmarks.md", 25), ("comparison.md", 2)])
def test_each_figure_stands_on_a_page_that_its_row_links_to(page: str, least: int) -> None:
    told = claims(page)
    assert len(told) >= least
    for claim, pages in told:
        missing = numbers(claim) - set.union(*(numbers(linked.read_text()) for linked in pages))
        assert missing == set(), claim
