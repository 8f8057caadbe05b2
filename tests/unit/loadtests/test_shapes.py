"""Shapes of straight lines, whose areas and inverses are schoolbook arithmetic."""

import itertools
from pathlib import Path

import pytest

from loadtests.errors import ShapeInvalid
from loadtests.shapes import FOLDER, Point, Shape, arrival_times, evenly, load_shape, poisson


def shape_of(*points: tuple[float, float]) -> Shape:
    return Shape(about="", points=tuple(Point(at=at, level=level) for at, level in points))


STEADY = shape_of((0, 1), (1, 1))


def test_steady_arrivals_are_evenly_spaced() -> None:
    assert list(arrival_times(STEADY, rate=10, duration_s=2, counts=evenly())) == pytest.approx([n / 10 for n in range(20)])


def test_a_ramp_from_nothing_follows_the_square_root() -> None:
    """Rate 8 t on [0, 2): t² · 4 arrivals until t, so that arrival n is due at sqrt(n) / 2."""
    times = list(arrival_times(shape_of((0, 0), (1, 1)), rate=16, duration_s=2, counts=evenly()))
    assert times == pytest.approx([n**0.5 / 2 for n in range(16)])


def test_a_ramp_to_nothing_mirrors_it() -> None:
    """Rate 16 - 8 t: n arrivals are left to come after 2 - sqrt(n) / 2."""
    times = list(arrival_times(shape_of((0, 1), (1, 0)), rate=16, duration_s=2, counts=evenly()))
    assert times == pytest.approx([2 - left**0.5 / 2 for left in range(16, 0, -1)])


def test_a_step_changes_the_gaps_at_once() -> None:
    times = list(arrival_times(shape_of((0, 1), (0.5, 1), (0.5, 3), (1, 3)), rate=1, duration_s=4, counts=evenly()))
    assert times == pytest.approx([0, 1, 2, 2 + 1 / 3, 2 + 2 / 3, 3, 3 + 1 / 3, 3 + 2 / 3])


def test_a_pause_has_no_arrivals() -> None:
    times = list(
        arrival_times(shape_of((0, 1), (0.25, 1), (0.25, 0), (0.75, 0), (0.75, 1), (1, 1)), rate=2, duration_s=4, counts=evenly())
    )
    assert times == pytest.approx([0, 0.5, 3, 3.5])


def test_poisson_gaps_have_the_exponential_distribution() -> None:
    """Mean 1, variance 1, and a share exp(-1) longer than 1; within four standard errors of 20,000 draws."""
    counts = list(itertools.islice(poisson(7), 20_000))
    gaps = [b - a for a, b in itertools.pairwise([0.0, *counts])]
    mean = sum(gaps) / len(gaps)
    assert mean == pytest.approx(1, abs=0.03)
    assert sum((gap - mean) ** 2 for gap in gaps) / len(gaps) == pytest.approx(1, abs=0.09)
    assert sum(gap > 1 for gap in gaps) / len(gaps) == pytest.approx(0.3679, abs=0.014)
    assert counts[:5] == list(itertools.islice(poisson(7), 5))


def test_levels_between_points_and_at_steps() -> None:
    shape = shape_of((0, 0), (0.5, 2), (0.5, 1), (1, 1))
    assert [shape.level(at) for at in (0, 0.25, 0.5, 0.9, 1)] == [0, 1, 1, 1, 1]
    assert shape.mean == pytest.approx(0.5 * 1 + 0.5 * 1)
    assert shape.last_above_one == 0.5


def test_the_shapes_that_come_along() -> None:
    assert {path.stem: load_shape(path.stem).mean for path in FOLDER.glob("*.yaml")} == {
        "steady": pytest.approx(1),
        "ramp": pytest.approx(0.5 * 0.55 + 0.5),
        "spike": pytest.approx(0.9 * 0.5 + 0.1 * 3),
        "overload": pytest.approx(0.8 * 3 + 0.2 * 0.5),
    }
    assert load_shape("overload").of == "capacity"
    assert load_shape("overload").last_above_one == 0.8


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("about: x\npoints: [{at: 0, level: 1}, {at: 0.9, level: 1}]", "ascend from 0 to 1"),
        (
            "about: x\npoints: [{at: 0, level: 1}, {at: 0.6, level: 1}, {at: 0.5, level: 1}, {at: 1, level: 1}]",
            "ascend from 0 to 1",
        ),
        ("about: x\npoints: [{at: 0, level: 0}, {at: 1, level: 0}]", "every level is 0"),
        ("about: x\npoints: [{at: 0, level: 1, user: 3}, {at: 1, level: 11}]", "points.0.user: no such key"),
        ("about: x\npoints: [{at: 0, level: 1}, {at: 1, level: 11}]", "points.1.level"),
        ("about: x\nof: users\npoints: [{at: 0, level: 1}, {at: 1, level: 1}]", "of:"),
        ("points: {", "cannot be read as YAML"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(ShapeInvalid, match=r"^loadtest\.shape: ") as caught:
        load_shape(str(path))
    assert named in str(caught.value)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ShapeInvalid, match="overload, ramp, spike, steady"):
        load_shape("stead")
