"""How generated pages are written: paragraphs of at most 120 columns, tables, names as code."""

import textwrap
from collections.abc import Iterable, Sequence

WIDTH = 120
"""Columns of the pages, as of all pages in docs/."""


def wrap(text: str, indent: str = "") -> str:
    """Fill one paragraph. `indent`: before all lines but the first."""
    return textwrap.fill(text.replace("\n", " "), WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def paragraphs(text: str) -> str:
    """Fill each paragraph of a text."""
    return "\n\n".join(wrap(one) for one in text.strip().split("\n\n"))


def code(names: Iterable[str]) -> str:
    """Name several things as code."""
    return ", ".join(f"`{name}`" for name in names)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table, in whose cells a bar is no border."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("\n", " ").replace("|", "\\|") for cell in line) + " |" for line in lines)
