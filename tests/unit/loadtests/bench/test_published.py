"""The README's tables as pictures: what is read out of a table, how long bars are, and that the committed ones are these."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import ImageFont

from drawing import heatmap
from loadtests.bench import published
from loadtests.bench.plots import BASELINE, OTHERS, OURS
from loadtests.bench.published import Chart, draw, make_all, table

README = """\
# bench

| another | table |
| --- | --- |
| 1 | 2 |

Two rounds, 2026-01-02, on two cores:

| server | p50 ms | images/s |
| --- | --- | --- |
| bare | 10.00 | 160.0 |
| visor, V2 gRPC | 12.50 | 40.0 |
| peer <1>, body | 40.00 |  |

Words, and then:

| more | rows |
| --- | --- |
"""
CHART = Chart("made", "A network", "2026-01-02", ("p50 ms", "images/s"))
SVG = "{http://www.w3.org/2000/svg}"
FONT = Path(heatmap.__file__).with_name("DejaVuSans.ttf")


def elements(picture: str, name: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(picture).iter(f"{SVG}{name}"))


def test_a_table_is_the_first_one_after_its_day() -> None:
    assert table(README, "2026-01-02") == [
        {"server": "bare", "p50 ms": "10.00", "images/s": "160.0"},
        {"server": "visor, V2 gRPC", "p50 ms": "12.50", "images/s": "40.0"},
        {"server": "peer <1>, body", "p50 ms": "40.00", "images/s": ""},
    ]


def test_a_day_without_a_table_and_a_row_of_another_width_are_errors() -> None:
    with pytest.raises(SystemExit, match="no table after '2026-01-03'"):
        table(README, "2026-01-03")
    with pytest.raises(SystemExit, match="no table after 'a bench'"):
        table(f"{README}\na bench without one\n", "a bench")
    with pytest.raises(SystemExit, match="row 'bare' has 4 cells and the head 3"):
        table(README.replace("| bare | 10.00 |", "| bare | 10.00 |  |"), "2026-01-02")


def test_bars_are_in_proportion_to_the_longest_of_their_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    """p50: 10, 12.5 and 40 of 40 are 50, 62.5 and 200 of 200 pixels; images: 160 and 40 of 160 are 200 and 50."""
    monkeypatch.setattr(published, "BAR", 200)
    panel, *bars = elements(draw(CHART, table(README, "2026-01-02")), "rect")
    assert [float(bar.attrib["width"]) for bar in bars] == [50.0, 62.5, 200.0, 200.0, 50.0]
    assert [bar.attrib["fill"] for bar in bars] == [BASELINE, OURS, OTHERS, BASELINE, OURS]
    tops = [float(bar.attrib["y"]) for bar in bars]
    assert tops == sorted(set(tops))
    assert float(panel.attrib["height"]) > tops[-1] + float(bars[-1].attrib["height"])


def test_words_are_the_table_s_and_escaped() -> None:
    picture = draw(CHART, table(README, "2026-01-02"))
    words = [element.text for element in elements(picture, "text")]
    assert words == [
        "A network",
        "Measured on 2026-01-02",
        "p50 in ms, one request at a time: less is better",
        *("bare", "10.00", "visor, V2 gRPC", "12.50", "peer <1>, body", "40.00"),
        "Images a second under load: more is better",
        *("bare", "160.0", "visor, V2 gRPC", "40.0"),
    ]
    (description,) = elements(picture, "desc")
    assert description.text == (
        "p50 in ms, one request at a time: less is better: bare 10.00, visor, V2 gRPC 12.50, peer <1>, body 40.00. "
        "Images a second under load: more is better: bare 160.0, visor, V2 gRPC 40.0."
    )


@pytest.mark.parametrize("name", sorted(make_all(published.README.read_text())))
def test_the_committed_pictures_are_those_of_the_readme(name: str) -> None:
    made = make_all(published.README.read_text())[name]
    assert (published.FOLDER / name).read_text() == made, "call python -m loadtests.bench.published"
    assert sorted(path.name for path in published.FOLDER.iterdir()) == sorted(make_all(published.README.read_text()))


@pytest.mark.parametrize("name", sorted(make_all(published.README.read_text())))
def test_no_words_leave_their_place_in_a_wide_font(name: str) -> None:
    """DejaVu Sans is the widest of the common ones that a browser takes where there is no Arial."""
    picture = make_all(published.README.read_text())[name]
    bars = {float(bar.attrib["y"]): bar for bar in elements(picture, "rect")[1:]}
    assert bars
    for element in elements(picture, "text"):
        length = ImageFont.truetype(FONT, int(element.attrib["font-size"])).getlength(element.text or "")
        x = float(element.attrib["x"])
        left, right = (x - length, x) if element.attrib["text-anchor"] == "end" else (x, x + length)
        assert left >= 0, element.text
        assert right <= published.WIDTH, element.text


def test_the_command_writes_all_of_them(tmp_path: Path) -> None:
    assert published.main(["--out", str(tmp_path / "pictures")]) == 0
    made = {path.name: path.read_text() for path in (tmp_path / "pictures").iterdir()}
    assert made == make_all(published.README.read_text())
