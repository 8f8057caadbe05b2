"""Drawings of heat maps: where they lie, what their colours mean, and what stands below."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drawing.heatmap import HeatMap
from drawing.picture import draw
from handlers.spec import Limits

FULL = np.ones((2, 2), dtype=np.float32)


def encode(picture: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def drawn(path: Path, data: bytes, heatmap: HeatMap) -> np.ndarray:
    draw(data, heatmap, "intact 0.850  flag", Limits()).save(path)
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


GREY = encode(Image.new("RGB", (400, 200), (120, 120, 120)))


def test_the_map_lies_in_the_box_that_was_seen(tmp_path: Path) -> None:
    seen = drawn(tmp_path / "a.png", GREY, HeatMap(FULL, "damaged", (0.25, 0.1, 0.5, 0.8), 20.0))
    changed = (seen[:200, :400] != 120).any(axis=2)
    assert changed[20:180, 100:300].all()
    changed[20:180, 100:300] = False
    assert not changed.any()


def test_a_colour_means_the_same_in_every_picture(tmp_path: Path) -> None:
    def amount(peak: float | None) -> float:
        seen = drawn(tmp_path / "a.png", GREY, HeatMap(FULL, "damaged", peak=peak))
        return float(np.abs(seen[:200, :400] - 120).mean())

    weak, strong, full, more = (amount(peak) for peak in (0.005, 10.0, 20.0, 33.0))
    assert weak < 1  # nothing to see, where a map on its own scale would be full red
    assert weak < strong < full == more
    assert amount(None) == full  # of a server that does not say the peak


def test_the_picture_is_the_one_that_the_network_was_shown(tmp_path: Path) -> None:
    nothing = HeatMap(np.zeros((2, 2), dtype=np.float32), "damaged", peak=0.0)
    clear = Image.new("RGBA", (300, 300), (0, 0, 0, 0))
    assert (drawn(tmp_path / "a.png", encode(clear), nothing)[:300, :300] == 255).all()
    deep = Image.fromarray(np.full((300, 300), 0x4080, dtype=np.uint16))
    assert (drawn(tmp_path / "b.png", encode(deep), nothing)[:300, :300] == 0x40).all()
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = drawn(tmp_path / "c.png", encode(Image.new("RGB", (3000, 1500)), "JPEG", exif=exif), nothing)
    assert turned.shape[0] > 1024
    assert turned.shape[1] == 512


def test_label_decision_and_legend_stand_below_the_picture(tmp_path: Path) -> None:
    below = drawn(tmp_path / "a.png", GREY, HeatMap(FULL, "damaged", peak=3.0))[200:]
    assert (below < 100).all(axis=2).sum() > 300  # ink
    other = tmp_path / "b.png"
    draw(GREY, HeatMap(FULL, "damaged", peak=3.0), "damaged 0.990  flag", Limits()).save(other)
    with Image.open(other) as picture:
        assert (np.asarray(picture).astype(int)[200:] != below).any()
    # Colours of the legend go from paper to the strongest one.
    bar = below[4 + 2 * 18 + 5, 6:-6]
    assert np.abs(bar[0] - 255).max() < 10
    assert np.abs(bar[-1] - 255).max() > 80


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (5, 900), (4000, 3)])
def test_any_picture_and_any_label_can_be_drawn(tmp_path: Path, size: tuple[int, int]) -> None:
    heatmap = HeatMap(FULL, "ein sehr langes Etikett " * 9, (0.4, 0.0, 0.2, 1.0), 1e9)
    seen = drawn(tmp_path / "a.png", encode(Image.new("L", size)), heatmap)
    assert 256 <= seen.shape[1] <= 1024
