"""What may be asked about, and what each of it is read to."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handlers.decode import upright
from handlers.errors import ImageUnsupported
from handlers.spec import Limits
from tests.unit.handlers.profiles import P3
from visor.errors import ImageUnreadable
from visor.pictures import is_one, read

LIMITS = Limits()
PIXELS = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)


def test_one_picture_is_told_from_several(tmp_path: Path) -> None:
    assert all(map(is_one, ("a.jpg", tmp_path, b"", Image.new("L", (1, 1)), PIXELS, None, 7)))
    assert all(map(is_one, (bytearray(1), memoryview(b"a"), io.BytesIO(b"a\nb"), io.StringIO("a"), {"a": 1}, "")))
    assert not any(map(is_one, ([], ("a.jpg",), iter(["a.jpg"]), PIXELS[None], {"a.jpg": 1}.keys())))


def test_each_kind_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(file)
    data = file.read_bytes()
    assert read(file) == read(str(file)) == read(data) == data
    assert read(bytearray(data)) == read(memoryview(data)) == read(io.BytesIO(data)) == data
    with file.open("rb") as opened_file:
        assert read(opened_file) == read(opened_file) == data  # again, as a drawing does
    with pytest.raises(ImageUnreadable, match="the opened file cannot be read: "):
        read(opened_file)
    assert np.array_equal(read(PIXELS), PIXELS)
    assert np.array_equal(read(PIXELS[:, ::-1]), PIXELS[:, ::-1])
    with Image.open(file) as opened:
        assert np.array_equal(read(opened), PIXELS)
        assert np.array_equal(np.asarray(opened), PIXELS)  # unchanged


def test_an_opened_picture_is_what_its_file_is() -> None:
    """Turned as EXIF says, on white, sixteen bits scaled to eight; and the user's own picture stays as it was."""
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG", exif=exif)
    assert np.array_equal(read(Image.open(file)), np.rot90(PIXELS, -1))
    clear = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    assert (read(clear) == 255).all()
    assert clear.getpixel((0, 0)) == (10, 20, 30, 0)
    marked = Image.new("RGB", (2, 1), (10, 20, 30))
    marked.info["transparency"] = (10, 20, 30)
    assert (read(marked) == 255).all()
    assert marked.getpixel((0, 0)) == (10, 20, 30)
    assert (read(Image.fromarray(np.full((2, 2), 0x4080, np.uint16))) == 0x40).all()


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (PIXELS.astype(np.float32), r"an array of float32 with the shape \(3, 4, 3\)"),
        (PIXELS[0], r"the shape \(4, 3\)"),
        (np.zeros((2, 2, 4), np.uint8), r"the shape \(2, 2, 4\)"),
        (None, "a NoneType is no picture"),
        (7, "an? int is no picture"),
        ({"a": 1}, "a dict is no picture; give a path"),
        ("", "an empty text is no picture; give a path"),
        (io.StringIO("a"), "opened as text"),
        (Image.new("F", (1, 1)), "32 bits"),
    ],
    ids=["floats", "one row", "four channels", "nothing", "a number", "a mapping", "no path", "a text", "32 bits"],
)
def test_what_is_no_picture_is_told_what_one_is(picture: object, words: str) -> None:
    with pytest.raises(ImageUnsupported, match=words):
        read(picture)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["nowhere.png", ".", "a\0b"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageUnreadable, match=r"image\.unreadable: .* cannot be read: \S"):
        read(tmp_path / name)


def test_an_opened_picture_has_the_colours_of_its_file_by_either_rule() -> None:
    file, bright = io.BytesIO(), 7 * PIXELS
    Image.fromarray(bright).save(file, "PNG", icc_profile=P3)
    opened = Image.open(file)
    assert np.array_equal(read(opened), upright(file.getvalue(), 1024, LIMITS))
    assert np.array_equal(read(opened, 1), bright)
    assert not np.array_equal(read(opened), bright)
