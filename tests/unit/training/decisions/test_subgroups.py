"""Groups by hand, intervals by their definition, and each way in which a CSV does not fit."""

import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from pydantic import BaseModel

from handlers.spec import FnrBound
from tests.unit.specs import make_spec
from training.config import Config
from training.data.manifest import Sample
from training.decisions.subgroups import Answered, by_group, read, warnings, wilson
from training.errors import DataError

BOUND = FnrBound(level=0.2, threshold=0.3, positives=9)
SPEC = make_spec(("bad", "good"), positive=("bad",), threshold=0.3, fnr_bound=BOUND)


def samples(*names: str) -> list[Sample]:
    return [Sample(name, 1, "0" * 64, "bad", "test") for name in names]


def answered(scores: list[float], truth: list[int], names: str) -> Answered:
    return Answered(samples(*names), np.array([[s, 1 - s] for s in scores]), np.array(truth))


@pytest.mark.parametrize(("count", "n"), [(0, 7), (3, 7), (7, 7), (12, 400)])
def test_the_intervals_ends_are_where_the_score_test_turns(count, n):
    """Wilson 1927: the shares p whose distance to the observed one is 1.96 of their own standard errors, sqrt(p (1 - p) / n)."""
    low, high = wilson(count, n)
    share = count / n
    assert 0 <= low <= share <= high <= 1
    for end in (low, high):
        assert (share - end) ** 2 == pytest.approx(1.959963984540054**2 * end * (1 - end) / n, abs=1e-12)
    if 0 < count < n:
        assert low < share < high


def test_an_interval_of_nothing_is_none():
    assert wilson(0, 0) is None


GROUPS = {"roof": dict.fromkeys("abcd", "tile") | dict.fromkeys("efgh", "slate")}


def test_figures_by_hand():
    # tile: 0.9 right, 0.35 flagged but not the likeliest label, 0.2 missed, good 0.1; slate: all bad, all found
    test = answered([0.9, 0.35, 0.2, 0.1, 0.9, 0.8, 0.7, 0.6], [0, 0, 0, 1, 0, 0, 0, 0], "abcdefgh")
    calibrating = answered([0.6, 0.5, 0.45, 0.4, 0.9, 0.8, 0.7, 0.1], [0, 0, 0, 0, 0, 0, 0, 1], "abcdefgh")
    table = by_group(GROUPS, test, calibrating, SPEC)["roof"]
    tile, slate = table["tile"], table["slate"]
    assert list(table) == ["slate", "tile"]
    assert (tile["images"], tile["accuracy"], tile["positives"]) == (4, 0.5, 3)
    assert tile["fnr"] == pytest.approx(1 / 3)
    assert tile["fnr_interval"] == wilson(1, 3)
    assert tile["threshold"] == pytest.approx(0.4)  # of four at a level of 0.2: floor(0.2 * 5) - 1 = 0 may be missed
    assert slate["threshold"] is None  # three are too few for 0.2
    assert (tile["breaks_bound"], slate["breaks_bound"], slate["fnr"]) == ("perhaps", "no", 0.0)
    (sentence,) = warnings({"roof": table}, 0.2)
    assert "roof = tile breaks the bound: 33.3% of its 3 positive" in sentence
    assert "chance alone could explain; alone it would have the threshold 0.4000" in sentence


def test_what_chance_does_not_explain_is_said():
    test = answered([0.1] * 20, [0] * 20, "a" * 20)
    table = by_group({"roof": {"a": "tile"}}, test, test, SPEC)
    assert table["roof"]["tile"]["breaks_bound"] == "yes"
    assert "more than chance explains" in warnings(table, 0.2)[0]


def test_without_positive_labels_there_is_no_rate_of_misses():
    spec = make_spec(("a", "b"), threshold=0.75)
    row = by_group(GROUPS, answered([0.9, 0.6, 0.2, 0.1], [0, 1, 1, 1], "abcd"), answered([], [], ""), spec)["roof"]["tile"]
    assert row["accuracy"] == 0.75
    assert row["review_share"] == 0.25
    assert "fnr" not in row
    assert warnings({"roof": {"tile": row}}, 0.1) == []


def test_a_csv_is_read_with_its_empty_cells(tmp_path):
    path = tmp_path / "metadata.csv"
    path.write_text("\ufeffpath,roof,site\nx/a.jpg,tile,north\nx/b.jpg,,south\nx/other.jpg,slate,\n", encoding="utf-8")
    both = samples("x/a.jpg", "x/b.jpg")
    assert read(path, ("roof",), both) == {"roof": {"x/a.jpg": "tile", "x/b.jpg": "not stated"}}
    assert list(read(path, (), both)) == ["roof", "site"]


@pytest.mark.parametrize(
    ("text", "columns", "words"),
    [
        ("path,roof\na,1\n", ("site",), r"no column \['site'\]"),
        ("file,roof\na,1\n", ("roof",), r"no column \['path'\]"),
        ("", ("roof",), "no column"),
        ("path,roof\na,1\na,2\n", ("roof",), "a path twice"),
        ("path,roof\nb,1\n", ("roof",), "no row for 1 images, such as a"),
    ],
)
def test_a_csv_that_does_not_fit_is_refused(tmp_path, text, columns, words):
    path = tmp_path / "metadata.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read(path, columns, samples("a"))


def test_the_key_that_errors_name_is_one_of_the_config(tmp_path):
    with pytest.raises(DataError, match="cannot be read") as error:
        read(tmp_path / "none.csv", (), samples("a"))
    key = re.match(r"data\.invalid: (\S+) ", str(error.value))[1]
    section = Config
    for name in key.split("."):
        kind = section.model_fields[name].annotation
        section = next((one for one in (kind, *get_args(kind)) if isinstance(one, type) and issubclass(one, BaseModel)), None)
    assert kind is Path


def test_a_missing_file_and_a_column_of_numbers_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "none.csv", (), samples("a"))
    path, names = tmp_path / "metadata.csv", [str(n) for n in range(60)]
    path.write_text("path,age\n" + "".join(f"{name},{name}\n" for name in names))
    with pytest.raises(DataError, match="60 values, over 50"):
        read(path, (), samples(*names))
