"""`python -m loadtests.bench.published`: the tables of this folder's README.md as pictures, docs/benchmarks/*.svg.

A figure stands once, in the README's table; each picture is made of the table that follows its date there.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from loadtests.bench.plots import INK, colour

README = Path(__file__).with_name("README.md")
FOLDER = Path(__file__).parents[2] / "docs" / "benchmarks"

WIDTH, MARGIN, PLACE, BAR, ROW = 460, 12, 186, 190, 23
"""Pixels: of the picture, around it, of a row's name, of the longest bar, from one row to the next."""
TITLE_PX, TEXT_PX = 16, 14
PANELS: Mapping[str, str] = {
    "p50 ms": "p50 in ms, one request at a time: less is better",
    "images/s": "Images a second under load: more is better",
}
"""What is said above the bars of a column."""


@dataclass(frozen=True)
class Chart:
    """One picture, NAME.svg, of some columns of the README's table that follows `day`, a panel for each."""

    name: str
    title: str
    day: str
    columns: Sequence[str]


CHARTS = (
    Chart("resnet18", "ResNet-18, single precision", "2026-11-21", ("images/s",)),
    Chart("efficientnet", "EfficientNet-Lite0, 8 bits", "2026-11-22", ("p50 ms", "images/s")),
    Chart("triton", "Triton: EfficientNet-Lite0, 8 bits", "2026-11-29", ("p50 ms", "images/s")),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Write all pictures."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench.published",
        description="Draw the tables of loadtests/bench/README.md as SVG files. Call it after a table has changed.",
    )
    parser.add_argument(
        "--out", type=Path, default=FOLDER, metavar="FOLDER", help="folder of the files (default: docs/benchmarks)"
    )
    out = parser.parse_args(argv).out
    out.mkdir(parents=True, exist_ok=True)
    for name, picture in make_all(README.read_text()).items():
        (out / name).write_text(picture)
    return 0


def make_all(readme: str) -> dict[str, str]:
    """Each picture by its file's name. Raises SystemExit where a table is missing or not as wide as its head."""
    return {f"{chart.name}.svg": draw(chart, table(readme, chart.day)) for chart in CHARTS}


def table(text: str, day: str) -> list[dict[str, str]]:
    """The rows, by the names in the head, of the first Markdown table after the first mention of `day`."""
    found = re.search(r"^\|.*\|$(?:\n^\|.*\|$)*", text[text.find(day) :] if day in text else "", re.MULTILINE)
    if not found:
        raise SystemExit(f"README.md has no table after {day!r}: add it, or change CHARTS in loadtests/bench/published.py")
    head, rule, *rows = ([cell.strip() for cell in line[1:-1].split("|")] for line in found[0].splitlines())
    for row in (rule, *rows):
        if len(row) != len(head):
            raise SystemExit(f"README.md, table after {day!r}: row {row[0]!r} has {len(row)} cells and the head {len(head)}")
    return [dict(zip(head, row, strict=True)) for row in rows]


def draw(chart: Chart, rows: Sequence[Mapping[str, str]]) -> str:
    """The table's columns as bars from zero; the longest bar of a panel is BAR pixels, all others in proportion."""
    y = MARGIN + TITLE_PX
    parts, told = [_text(MARGIN, y, chart.title, size=TITLE_PX, weight="bold")], list[str]()
    y += ROW
    parts.append(_text(MARGIN, y, f"Measured on {chart.day}"))
    for column in chart.columns:
        values = {row["server"]: row[column] for row in rows if row[column]}
        told.append(f"{PANELS[column]}: {', '.join(f'{name} {value}' for name, value in values.items())}.")
        y += 2 * ROW
        parts.append(_text(MARGIN, y - 6, PANELS[column]))
        for name, value in values.items():
            y += ROW
            left, length = MARGIN + PLACE + 6, round(BAR * float(value) / max(map(float, values.values())), 1)
            parts += [
                _text(MARGIN + PLACE, y - 6, name, anchor="end"),
                f'<rect x="{left}" y="{y - ROW + 3}" width="{length}" height="{ROW - 6}" fill="{colour(name)}"/>',
                _text(left + length + 6, y - 6, value),
            ]
    height = y + MARGIN
    size = f'width="{WIDTH}" height="{height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {WIDTH} {height}" role="img"',
            ' aria-labelledby="title desc" font-family="Arial, Helvetica, sans-serif">',
            f'<title id="title">{escape(f"{chart.title}, {chart.day}")}</title>',
            f'<desc id="desc">{escape(" ".join(told))}</desc>',
            f'<rect {size} rx="8" fill="#ffffff"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _text(x: float, y: float, words: str, *, size: int = TEXT_PX, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{round(x, 1)}" y="{y}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" fill="{INK}">'
        f"{escape(words)}</text>"
    )


if __name__ == "__main__":
    sys.exit(main())
