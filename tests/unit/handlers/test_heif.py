"""HEIC is decoded to the numbers that went in, turned and in sRGB, or refused from its boxes before its decoder is asked."""

import contextlib
import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from handlers.decode import decode
from handlers.errors import ImageError, ImageTooLarge, ImageUndecodable, ImageUnsupported
from handlers.heif import MAX_TILES, look
from handlers.heif_boxes import MAX_EXTENTS
from handlers.memory import check_heic
from handlers.spec import Limits
from tests.unit.handlers import crafted_heic as crafted
from tests.unit.handlers.crafted_heic import CONFIG, SAMPLES, STREAM, Item, box, grid, heic, size, tile
from tests.unit.handlers.encoding import preprocessing
from tests.unit.handlers.profiles import P3, p3_as_srgb

LIMITS = Limits()
HEIGHT, WIDTH = 48, 64
COLOUR = (200, 60, 10)
Y, X = np.mgrid[0:HEIGHT, 0:WIDTH]
DEEP = np.stack([X / 63, Y / 47, (X + Y) / 110], -1)
PIXELS = np.round(DEEP * 255)


def read(data: bytes, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return decode(data, preprocessing(height, width), LIMITS).astype(float)


def sample(name: str) -> bytes:
    return (SAMPLES / f"{name}.heic").read_bytes()


GREY = np.asarray(Image.fromarray(PIXELS.astype(np.uint8)).convert("L"), float)[:, :, None].repeat(3, 2)
ALPHA_BOX = box(b"auxC", bytes(4) + b"urn:mpeg:hevc:2015:auxid:1\0")
ALPHA = (255 - PIXELS[:, :, 2:]) / 255


@pytest.mark.parametrize(
    ("name", "expected", "mean", "most"),
    [
        ("plain", PIXELS, 1, 5),
        ("plain-420", PIXELS, 1.5, 12),  # half of the colours' resolution is gone
        ("grey", GREY, 1, 4),
        ("ten-bits", DEEP * 255, 1, 5),
        ("two", PIXELS, 1, 5),
        ("clear", 255 + (PIXELS - 255) * ALPHA, 1, 6),
        ("display-p3", p3_as_srgb(PIXELS), 1, 12),
    ],
)
def test_what_was_stored_is_read(name: str, expected: np.ndarray, mean: float, most: float) -> None:
    off = np.abs(read(sample(name)) - expected)
    assert off.mean() < mean
    assert off.max() <= most


def boxed(*properties: bytes) -> bytes:
    """The plain picture, cut to what was stored, and then turned by boxes."""
    data = sample("plain")
    shape = [size(64, 64), *(box(kind, crafted.content_of(data, kind)) for kind in (b"hvcC", b"clap"))]
    return heic([Item(b"hvc1", crafted.content_of(data, b"mdat"), [*shape, *properties])])


@pytest.mark.parametrize("angle", range(4))
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_boxes_turn_and_mirror(angle: int, axis: int | None) -> None:
    """irot turns against the clock by quarters; imir then exchanges top and bottom (0) or left and right (1)."""
    boxes = [box(b"irot", bytes([angle])), *([] if axis is None else [box(b"imir", bytes([axis]))])]
    expected = np.rot90(PIXELS, angle)
    expected = expected if axis is None else np.flip(expected, axis)
    assert np.abs(read(boxed(*boxes), *expected.shape[:2]) - expected).mean() < 1


def test_an_exif_orientation_turns_nothing_which_is_the_boxes_to_say() -> None:
    assert np.abs(read(sample("exif")) - PIXELS).mean() < 1


def test_a_heic_s_profile_is_its_own_and_the_first_rule_reads_no_heic() -> None:
    assert np.abs(p3_as_srgb(PIXELS) - PIXELS).mean() > 5  # so that the test above shows something
    assert look(sample("display-p3")).profile == P3
    with pytest.raises(ImageUnsupported, match="HEIC is not read; send a JPEG, PNG, WebP, BMP or TIFF"):
        decode(sample("plain"), preprocessing(decoding=1), LIMITS)


def test_a_grid_is_put_together() -> None:
    found = read(heic([grid(2, 3, 192, 128), *[tile()] * 6]), 128, 192)
    assert np.abs(found - COLOUR).max() <= 3
    quarter = read(heic([grid(1, 1, 64, 64, properties=[box(b"irot", b"\1")]), tile()]), 64, 64)
    assert np.abs(quarter - COLOUR).max() <= 3


@pytest.mark.parametrize("multiplied", [False, True])
def test_transparency_is_laid_on_white(multiplied: bool) -> None:
    grey = sample("grey")
    shape = [
        size(64, 64),
        box(b"hvcC", crafted.content_of(grey, b"hvcC")),
        box(b"auxC", bytes(4) + b"urn:mpeg:hevc:2015:auxid:1\0"),
    ]
    alpha = Item(b"hvc1", crafted.content_of(grey, b"mdat"), shape, alpha_of=1, multiplied=multiplied)
    found = read(heic([tile(), alpha]), 64, 64)[:HEIGHT]
    light = np.minimum(COLOUR, GREY) if multiplied else np.array(COLOUR) * GREY / 255
    assert np.abs(found - (light + 255 - GREY)).mean() < 2


@pytest.mark.parametrize("name", ["plain", "clear", "ten-bits", "plain-420", "grey", "exif", "two"])
def test_the_file_that_is_decoded_holds_the_picture_alone(name: str) -> None:
    heic = look(sample(name))
    assert not {b"Exif", b"mime", b"iden", b"thmb", b"cdsc", b"prof"} & {heic.file[at : at + 4] for at in range(len(heic.file))}
    again = look(heic.file)
    assert (again.size, again.decoded, again.file) == (heic.size, heic.decoded, heic.file)
    with Image.open(io.BytesIO(heic.file)) as image:
        assert image.n_frames == 1


@pytest.mark.parametrize(("chroma", "bits", "samples"), [(0, 8, 1), (1, 8, 1.5), (2, 8, 2), (3, 8, 3), (1, 10, 3), (3, 12, 6)])
def test_the_size_is_that_of_the_stream(chroma: int, bits: int, samples: float) -> None:
    item = tile(crafted.config(crafted.parameters(4096, 2160, chroma, bits)), width=16, height=16)
    assert look(heic([item])).decoded == samples * 4096 * 2160


def test_the_largest_parameters_count_wherever_they_are() -> None:
    small, large = crafted.parameters(64, 64), crafted.parameters(640, 480)
    inside = struct.pack(">I", len(large)) + large
    for item in (tile(crafted.config(small, large)), tile(crafted.config(large, small)), tile(stream=inside + STREAM)):
        assert look(heic([item])).decoded == 1.5 * 640 * 480


def test_memory_is_foreseen_by_what_is_decoded() -> None:
    """8 bytes a pixel; of 10 bits at full resolution, twice the 6 that are decoded and 3.5."""
    plain = look(heic([tile(crafted.config(crafted.parameters(4096, 2160)), width=4096, height=2160)]))
    assert check_heic(plain, LIMITS) == 8 * 4096 * 2160
    deep = look(heic([tile(crafted.config(crafted.parameters(4096, 2160, 3, 10)), width=4096, height=2160)]))
    assert check_heic(deep, LIMITS) == 15.5 * 4096 * 2160


HUGE = crafted.config(crafted.parameters(16384, 16384))
TOO_LARGE: dict[str, tuple[bytes, str]] = {
    "by its box": (heic([tile(width=100_000, height=100_000)]), "100000 x 100000"),
    "by its side": (heic([tile(width=600_000, height=2)]), "a side may have"),
    "by its stream alone": (heic([tile(HUGE)]), "a HEIC of 64 x 64 pixels takes"),
    "by a tile's stream": (heic([grid(1, 2, 128, 64), tile(), tile(HUGE)]), "a HEIC of 128 x 64 pixels takes"),
    "by its grid": (heic([grid(1, 1, 60_000, 60_000), tile()]), "60000 x 60000"),
    "by its transparency": (
        heic([tile(), Item(b"hvc1", STREAM, [size(64, 64), box(b"hvcC", HUGE), ALPHA_BOX], alpha_of=1)]),
        "a HEIC of 64 x 64 pixels takes",
    ),
    "by 32 megapixels": (heic([tile(crafted.config(crafted.parameters(7200, 4400)), width=7200, height=4400)]), "253 MB"),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_a_picture_that_is_too_large_is_refused_from_its_boxes(name: str) -> None:
    data, said = TOO_LARGE[name]
    with pytest.raises(ImageTooLarge, match=said):
        read(data)


def many(side: int) -> bytes:
    """One tile, again and again."""
    content = struct.pack(">BBBBII", 0, 1, side - 1, side - 1, 64 * side, 64 * side)
    return heic([Item(b"grid", content, [size(64 * side, 64 * side)], [2] * side * side), tile()])


UNSUPPORTED: dict[str, tuple[bytes, str]] = {
    "AVIF within": (heic([Item(b"av01", STREAM, [size(64, 64)])], brand=b"mif1"), "AVIF is not read"),
    "JPEG 2000 within": (heic([Item(b"j2k1", STREAM, [size(64, 64)])], brand=b"mif1"), "JPEG 2000 in HEIF is not read"),
    "an overlay": (heic([Item(b"iovl", b"", [size(64, 64)])]), "picture of kind 'iovl'"),
    "tiles of AVIF": (heic([grid(1, 1, 64, 64), Item(b"av01", STREAM, [size(64, 64)])]), "AVIF is not read"),
    "a grid of grids": (heic([grid(1, 1, 64, 64), grid(1, 1, 64, 64, first=3), tile()]), "picture of kind 'grid'"),
    "one tile 961 times": (many(31), "961 tiles, at most 900"),
    "a sequence beside it": (heic([tile()], behind=box(b"moov", bytes(8))), "HEIF sequence"),
    "two descriptions": (heic([tile()], behind=box(b"meta", bytes(4))), "2 descriptions"),
    "no description": (box(b"ftyp", b"heic" + bytes(4) + b"mif1"), "0 descriptions"),
    "two boxes of one kind": (heic([tile()], more=box(b"pitm", struct.pack(">IH", 0, 1))), "two boxes pitm"),
    "two pictures in a stream": (heic([tile(stream=STREAM + STREAM)]), "more than one picture in a stream"),
    "many pieces": (heic([Item(b"hvc1", STREAM, tile().properties, pieces=MAX_EXTENTS + 1)]), f"in {MAX_EXTENTS + 1} pieces"),
    "pieces over one another": (heic([Item(b"hvc1", STREAM * 9, tile().properties, pieces=20)]), "over one another"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_no_phone_writes_is_refused_by_name(name: str) -> None:
    data, said = UNSUPPORTED[name]
    with pytest.raises(ImageUnsupported, match=said):
        read(data)


def test_as_many_tiles_as_a_photo_has_are_read() -> None:
    assert MAX_TILES == 30 * 30
    found = read(heic([grid(30, 30, 1920, 1920), *[tile()] * 900]), 64, 64)
    assert np.abs(found - COLOUR).max() <= 3


@pytest.mark.parametrize(
    "data",
    [
        heic([grid(2, 2, 128, 128), *[tile()] * 4]).replace(bytes((0, 1, 1, 1)), bytes((0, 1, 1, 7))),
        heic([tile(config=b"")]),
        heic([tile(config=CONFIG[:40])]),
        heic([tile(stream=b"")]),
        heic([Item(b"hvc1", STREAM, [size(64, 64)])]),
        heic([Item(b"hvc1", STREAM, [box(b"hvcC", CONFIG)])]),
        heic([tile()])[:-10],
    ],
)
def test_what_contradicts_itself_is_undecodable(data: bytes) -> None:
    with pytest.raises(ImageUndecodable, match="not a whole image"):
        read(data)


@pytest.mark.parametrize("name", ["plain", "clear", "exif"])
def test_what_breaks_off_is_an_image_error(name: str) -> None:
    data = sample(name)
    for end in range(0, len(data) - 1, 7):
        with pytest.raises(ImageError):
            read(data[:end])


def test_metadata_that_ends_other_readers_is_left_out() -> None:
    """One byte in the kind of the EXIF item, which is no text then, was the end of the process in pi-heif."""
    data = sample("exif")
    broken = data.replace(b"Exif", b"\x80xif", 1)
    assert broken != data
    with contextlib.suppress(ImageError):
        assert np.array_equal(read(broken), read(data))


def test_a_picture_s_own_profile_may_be_broken() -> None:
    data: Any = bytearray(sample("display-p3"))
    at = data.index(b"prof") + 4
    data[at : at + 200] = bytes(200)
    assert np.abs(read(bytes(data)) - PIXELS).mean() < 1
