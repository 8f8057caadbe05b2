"""The figures of an image beside loops over its pixels, and its bins beside comparisons one by one."""

import io
from dataclasses import replace
from math import ceil, sqrt
from pathlib import Path

import numpy as np
import pytest

from handlers import drift
from handlers.drift import Reference
from handlers.errors import ArchiveBroken
from tests.unit.references import make_reference


def naive(pixels: np.ndarray, step: int) -> list[float]:
    height, width = pixels.shape[:2]
    luma, apart, clear, lit = [], [], 0, 0
    for y in range(0, height - 1, step):
        for x in range(0, width - 1, step):
            red, green, blue = (int(value) for value in pixels[y, x])
            luma.append(0.299 * red + 0.587 * green + 0.114 * blue)
            apart.append(abs(green - int(pixels[y + 1, x + 1, 1])))
            clear += max(red, green, blue) - min(red, green, blue)
            lit += max(red, green, blue)
    brightness = sum(luma) / len(luma)
    contrast = (sum((one - brightness) ** 2 for one in luma) / len(luma)) ** 0.5
    return [brightness, contrast, sum(apart) / len(apart) / max(contrast, 1), clear / lit if lit else 0]


@pytest.mark.parametrize(
    ("height", "width", "step"), [(8, 9, 1), (56, 80, 1), (57, 80, 2), (96, 130, 2), (113, 112, 2), (224, 260, 4)]
)
def test_figures_are_those_of_loops(height: int, width: int, step: int):
    rng = np.random.default_rng(height)
    pixels = (rng.integers(0, 256, (height, width, 3)) // rng.integers(1, 9)).astype(np.uint8)
    *found, wide, tall = drift.describe(pixels, (4000, 3000))
    assert found == pytest.approx(naive(pixels, step), rel=1e-5)
    assert (wide, tall) == (4000, 3000)


def as_first_written(pixels: np.ndarray) -> tuple[float, ...]:
    """The figures in the order of operations of rule 1's first code: in exact whole numbers, and Y in float32."""
    step = ceil(min(pixels.shape[:2]) / drift.SAMPLES)
    here, there = pixels[:-1:step, :-1:step].astype(int), pixels[1::step, 1::step].astype(int)
    lit, clear = here.max(axis=2).sum(), np.ptp(here, axis=2).sum()
    luma = drift.LUMA @ here.reshape(-1, 3).T.astype(np.float32, order="C")
    brightness = float(np.add.reduce(luma)) / luma.size
    luma -= np.float32(brightness)
    contrast = sqrt(float(luma @ luma) / luma.size)
    apart = np.abs(here - there)[..., 1].sum()
    return (brightness, contrast, apart / luma.size / max(contrast, 1.0), clear / lit if lit else 0.0)


def test_no_figure_of_a_rule_moves_by_its_last_digit():
    """A value that many images share, as flat ones do, is an edge of its bin: archives have those of the first code."""
    rng = np.random.default_rng(4)
    for number in range(400):
        height, width = (1024, 56) if number == 0 else rng.integers(8, 300, 2)
        pixels = rng.integers(0, 256, (height, width, 3) if number % 2 else (1, 1, 3)) // rng.integers(1, 9)
        pixels = np.broadcast_to(pixels if number else 255, (height, width, 3)).astype(np.uint8)
        assert drift.describe(pixels, (9, 7)) == (*as_first_written(pixels), 9, 7)


def test_figures_by_hand():
    flat = np.full((8, 8, 3), (255, 0, 0), dtype=np.uint8)
    assert drift.describe(flat, (8, 8)) == pytest.approx((0.299 * 255, 0, 0, 1, 8, 8), abs=1e-3)
    assert drift.describe(np.zeros((8, 8, 3), np.uint8), (8, 8)) == (0, 0, 0, 0, 8, 8)
    assert drift.describe(np.full((8, 8, 3), 77, np.uint8), (8, 8))[3] == 0  # grey exactly, so that grey data have a bin for it
    stripes = np.zeros((9, 9, 3), np.uint8)
    stripes[:, 1::2] = 200
    brightness, contrast, sharpness, *_ = drift.describe(stripes, (9, 9))
    assert (brightness, contrast) == pytest.approx((100, 100), rel=1e-5)
    assert sharpness == pytest.approx(200 / 100)  # each neighbour to the right is the other one


def test_light_enters_neither_sharpness_nor_saturation():
    pixels = np.random.default_rng(1).integers(0, 128, (64, 64, 3)).astype(np.uint8)
    dark, light = drift.describe(pixels, (64, 64)), drift.describe(2 * pixels, (64, 64))
    assert light[:2] == pytest.approx([2 * value for value in dark[:2]], rel=1e-5)
    assert light[2:4] == pytest.approx(dark[2:4], rel=1e-5)


def test_pooling_is_the_mean_of_each_map():
    maps = np.random.default_rng(2).normal(size=(3, 5, 4, 7)).astype(np.float32)
    np.testing.assert_allclose(drift.pool(maps), maps.mean(axis=(2, 3)), atol=1e-6)
    assert drift.pool(maps).dtype == np.float32


def test_one_image_is_pooled_to_the_bits_of_many():
    """The reference was made of many, and a bin's edge is a number of it."""
    rng = np.random.default_rng(0)
    for channels, side in ((1280, 7), (128, 2), (3, 14), (17, 1)):
        maps = rng.normal(scale=rng.uniform(0.01, 100), size=(5, channels, side, side)).astype(np.float32)
        together = drift.pool(maps)
        for number in range(5):
            np.testing.assert_array_equal(drift.pool(maps[number : number + 1]), together[number : number + 1])


def test_a_bin_holds_its_upper_edge_and_not_its_lower_one():
    reference = make_reference()
    width = reference.figures.index("width")  # edges just below 64, 64
    brightness = reference.figures.index("brightness")  # edges 10, 20
    for value, expected in [(9.0, 0), (10.0, 0), (10.5, 1), (20.0, 1), (20.5, 2), (np.inf, 2)]:
        [bins] = reference.bins(np.array([[value, 0, 0, 0, 64, 64]]), np.zeros((1, 3), np.float32), np.zeros(1))
        assert bins[brightness] == expected
    for side, expected in [(63, 0), (64, 1), (65, 2)]:
        [bins] = reference.bins(np.array([[0, 0, 0, 0, side, 64]]), np.zeros((1, 3), np.float32), np.zeros(1))
        assert bins[width] == expected


def test_bins_of_many_are_those_of_one_by_one_comparisons():
    reference, rng = make_reference(), np.random.default_rng(3)
    pictures, pooled, scores = rng.normal(15, 20, (50, 6)), rng.normal(size=(50, 3)).astype(np.float32), rng.uniform(size=50)
    for row, found in enumerate(reference.bins(pictures, pooled, scores)):
        values = [scores[row], *pictures[row], *((pooled[row] - reference.centre) @ axis for axis in reference.axes)]
        expected = [sum(np.float32(x) > edge for edge in own) for x, own in zip(values, reference.edges, strict=True)]
        assert list(found) == expected
        assert all(type(one) is int for one in found)  # JSON has no other


def test_bins_of_pictures_are_those_of_loops_over_pixels_and_edges():
    reference, rng = make_reference(), np.random.default_rng(5)
    found, expected = [], []
    for _ in range(60):
        height, width = (int(side) for side in rng.integers(62, 67, 2))
        grain = rng.choice([1, 32])
        coarse = (rng.choice([0, 5, 60]) + rng.integers(0, rng.integers(2, 190), (67, 67, 3))).astype(np.uint8)
        pixels = coarse.repeat(grain, axis=0).repeat(grain, axis=1)[:height, :width]
        maps = rng.normal(scale=3, size=(1, 3, 2, 3)).astype(np.float32)
        score = float(rng.uniform())
        found += reference.bins([drift.describe(pixels, (width, height))], drift.pool(maps), [score])
        features = [sum(float(one) for row in one_map for one in row) / 6 for one_map in maps[0]]
        values = [score, *naive(pixels, 2), width, height, *features[:2]]  # axes are the first two of three features
        expected.append(tuple(sum(value > edge for edge in own) for value, own in zip(values, reference.edges, strict=True)))
    assert found == expected
    assert [len(set(column)) > 1 for column in zip(*found, strict=True)] == [True] * len(reference.figures)


def test_a_limit_by_hand():
    reference = make_reference()
    assert reference.limits(50)[0] == pytest.approx(reference.limit_quantiles[0] * (1 / 50 + 1 / 12) + 0.1)


def saved(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_what_is_written_is_read(tmp_path: Path):
    reference = make_reference()
    data = saved(**reference.arrays)
    (tmp_path / "reference.npz").write_bytes(data)
    for found in (Reference.read(data), Reference.read(tmp_path / "reference.npz")):
        assert found is not None
        for name in ("figures", "images", "effect"):
            assert getattr(found, name) == getattr(reference, name)
        for name in ("edges", "counts", "class_counts"):
            assert [one.tolist() for one in getattr(found, name)] == [one.tolist() for one in getattr(reference, name)]
        for name in ("limit_quantiles", "centre", "axes"):
            assert np.array_equal(getattr(found, name), getattr(reference, name))


def test_archives_from_before_have_no_reference(tmp_path: Path):
    assert Reference.read(saved(features=np.zeros((2, 3)), centre=np.zeros(3), axes=np.zeros((0, 3)))) is None
    assert Reference.read(tmp_path / "reference.npz") is None


def test_a_reference_without_a_number_is_of_the_first_rule_and_one_of_another_rule_is_left_alone(caplog):
    arrays = make_reference().arrays
    assert arrays["rule"] == drift.RULE == 1
    assert Reference.read(saved(**{name: value for name, value in arrays.items() if name != "rule"})) is not None
    assert not caplog.records
    # Whatever the arrays of another rule are, the archive is served on.
    assert Reference.read(saved(rule=np.int64(2), figures=arrays["figures"][:1])) is None
    assert "rule 2 and this version of visor by rule 1" in caplog.text
    with pytest.raises(ArchiveBroken, match=r"reference\.npz"):
        Reference.read(saved(**arrays | {"rule": np.array(["one"])}))


def test_a_damaged_reference_is_said():
    arrays = make_reference().arrays
    wrong = [arrays | {"counts": arrays["counts"][:-1]}, arrays | {"figures": arrays["figures"][::-1]}]
    without = {name: value for name, value in arrays.items() if name != "edges"}
    for data in (saved(**wrong[0]), saved(**wrong[1]), saved(**without), b"no zip", saved(**arrays)[:-200]):
        with pytest.raises(ArchiveBroken, match=r"reference\.npz"):
            Reference.read(data)


def test_a_reference_without_axes_is_read():
    reference = make_reference()
    shorter = replace(
        reference,
        figures=reference.figures[:7],
        edges=reference.edges[:7],
        counts=reference.counts[:7],
        class_counts=reference.class_counts[:7],
        limit_quantiles=reference.limit_quantiles[:7],
        axes=reference.axes[:0],
    )
    found = Reference.read(saved(**shorter.arrays))
    assert found is not None
    assert found.figures == reference.figures[:7]
