"""Overlays and lines by hand, colours against matplotlib's."""

import matplotlib
import numpy as np

from drawing.colours import TURBO
from drawing.heat import OUTLINE, encircle, enlarge, outline, overlay


def heat_at(row: int, column: int, size: int = 4) -> np.ndarray:
    heatmap = np.zeros((size, size), dtype=np.float32)
    heatmap[row, column] = 1.0
    return heatmap


def test_enlarging_keeps_the_cells_centres():
    large = enlarge(np.array([[0.0, 1.0]], dtype=np.float32), 2, 4)
    np.testing.assert_allclose(large, [[0, 0.25, 0.75, 1]] * 2)


def test_overlay_leaves_cold_pixels_alone_and_colours_warm_ones():
    image = np.full((8, 8, 3), 100, dtype=np.uint8)
    seen = overlay(image, heat_at(0, 0, size=2))
    assert (seen.shape, seen.dtype) == ((8, 8, 3), np.uint8)
    np.testing.assert_array_equal(seen[-1, -1], [100, 100, 100])
    red, green, blue = seen[0, 0].astype(int)
    assert red > 100 > max(green, blue)
    np.testing.assert_array_equal(overlay(image, np.zeros((2, 2), dtype=np.float32)), image)


def test_outline_is_one_pixel_around_the_mask():
    image = np.zeros((5, 5, 3), dtype=np.uint8)
    mask = np.zeros((5, 5), dtype=bool)
    mask[1, 1] = mask[4, 4] = True
    drawn = (outline(image, mask) == OUTLINE).all(axis=2)
    assert {(int(y), int(x)) for y, x in np.argwhere(drawn)} == {(0, 1), (1, 0), (1, 2), (2, 1), (3, 4), (4, 3)}


def test_dashes_go_around_at_least_half_of_the_peak_however_weak_it_is() -> None:
    image = np.full((40, 40, 3), 128, np.uint8)
    heatmap = np.zeros((4, 4), np.float32)
    heatmap[1, 2] = 0.1  # its cell is centred on row 14.5, column 24.5
    drawn = encircle(image, heatmap)
    changed = (drawn != 128).any(axis=2)
    assert set(np.unique(drawn[changed]).tolist()) == {0, 255}
    rows, columns = np.nonzero(changed)
    # Bilinear: half of the peak lies half a cell from its centre along each axis, and the line one pixel outside.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (9, 20, 19, 30)
    assert not changed[14, 24]
    assert np.array_equal(encircle(image, np.zeros((4, 4), np.float32)), image)


def test_the_colours_are_turbo() -> None:
    turbo = matplotlib.colormaps["turbo"](np.arange(256))[:, :3] * 255
    np.testing.assert_allclose(TURBO, turbo, atol=0.5)
