"""No picture takes more memory than the budget, whatever its file says; and the cheaper ways to its pixels give the same ones."""

import io
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cykooz_resizer import CropBox, ResizeAlg, ResizeOptions, Resizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from handlers import decode as module
from handlers import modes
from handlers.decode import INTERPOLATION, decode, from_pixels
from handlers.errors import ImageTooLarge, ImageUndecodable, ImageUnsupported
from handlers.memory import MAX_SIDE, bounded, budget, check_memory, is_out_of_memory, reserve
from handlers.spec import Limits, Preprocessing
from tests.unit.handlers import crafted
from tests.unit.handlers.crafted import DEFLATE, FINDING, GREY, JPEG, LZMA, PALETTE, RGB, RGBA, SEE_THROUGH, ZSTD, strip
from tests.unit.handlers.encoding import encode, preprocessing

LIMITS = Limits()


def test_a_lower_limit_of_the_process_stays() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    lower = (used + (64 << 20), before[1])
    resource.setrlimit(resource.RLIMIT_DATA, lower)
    try:
        with bounded(LIMITS):
            assert resource.getrlimit(resource.RLIMIT_DATA) == lower
        assert resource.getrlimit(resource.RLIMIT_DATA) == lower
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def test_a_process_with_other_threads_at_work_has_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "bounded", None)
    assert decode(encode(Image.new("RGB", (8, 8)), "PNG"), preprocessing(), LIMITS).shape == (8, 8, 3)


def test_metadata_that_takes_all_memory_is_the_image_s_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "getexif", fail)
    with pytest.raises(ImageTooLarge, match="all memory"):
        decode(encode(Image.new("RGB", (8, 8)), "PNG"), preprocessing(), LIMITS)


def test_a_compressed_bmp_is_read_up_to_2_megapixels() -> None:
    assert decode(crafted.bmp((499_000, 4), runs=True), preprocessing(), LIMITS).shape == (8, 8, 3)
    with pytest.raises(ImageUnsupported, match="compressed BMP of more than 2000000 pixels is not read; save it as PNG"):
        decode(crafted.bmp((499_000, 100), runs=True), preprocessing(), LIMITS)


def test_a_phone_s_photo_in_one_scan_is_kept_without_coefficients() -> None:
    picture, preview = Image.new("RGB", SIDES), Image.new("RGB", (8, 8))
    data = encode(picture, "MPO", save_all=True, append_images=[preview], subsampling=0)
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "MPO"
    assert estimated(data) == 4 * AREA


def estimated(data: bytes, turned: bool = False) -> int:
    with Image.open(io.BytesIO(data)) as image:
        return check_memory(image, data, image.size, turned, LIMITS)


SIDES = (160, 112)
AREA = 160 * 112


@pytest.mark.parametrize(
    ("data", "bytes_per_pixel"),
    [
        # As Pillow stores it, and a copy in RGB where it is something else.
        (crafted.png(SIDES, RGB), 4),
        (crafted.png(SIDES, GREY), 1 + 4),
        (crafted.png(SIDES, GREY, 16), 2 + 4),
        (crafted.png(SIDES, RGBA), 4 + 4),
        (crafted.png(SIDES, PALETTE, before=SEE_THROUGH), 1 + 4),
        (crafted.bmp(SIDES), 4),
        (crafted.bmp(SIDES, runs=True), 1 + 4),
        (crafted.webp(SIDES), 4 + 12),
        # Coefficients of 2 bytes: of three components, one and two quarters, four; none where there is one scan.
        (crafted.jpeg(SIDES), 4),
        (crafted.jpeg(SIDES, progressive=True, one_scan=False), 4 + 6),
        (crafted.jpeg(SIDES, one_scan=False), 4 + 6),
        (crafted.jpeg(SIDES, progressive=True, one_scan=False, luma=0x22), 4 + 3),
        (crafted.jpeg(SIDES, 4, progressive=True, one_scan=False), 4 + 8),
        (crafted.jpeg(SIDES, 4), 4 + 4),
        # A strip as it is in the file; twice for zstd, three times for JPEG.
        (strip(SIDES, crafted.deflate, DEFLATE), 4 + 3),
        (strip(SIDES, crafted.deflate, DEFLATE, 1, photometric=1), 1 + 4),
        (strip(SIDES, crafted.zstd, ZSTD, 4), 4 + 2 * 4),
        (crafted.tiff(SIDES, crafted.jpeg(SIDES), JPEG), 4 + 3 * 3),
        (crafted.tiff(SIDES, b"", DEFLATE, tile=(320, 112)), 4 + 2 * 3),
        (crafted.tiff(SIDES, b"", DEFLATE, rows=56), 4 + 1.5),
    ],
    ids=lambda value: value if isinstance(value, float | int) else value[:4].hex(),
)
def test_memory_is_estimated_by_format_and_mode(data: bytes, bytes_per_pixel: float) -> None:
    assert estimated(data) == bytes_per_pixel * AREA


def test_pillow_turns_a_tiff_into_a_second_one() -> None:
    assert estimated(crafted.tiff(SIDES, b"", DEFLATE, rows=56), turned=True) == (4 + 4) * AREA


def test_large_metadata_counts_three_times() -> None:
    for length, counted in ((1000, 0), (2 << 20, 3 * (len(b"Exif\0\0") + (2 << 20)))):
        assert estimated(crafted.png(SIDES, RGB, before=crafted.chunk(b"eXIf", bytes(length)))) == 4 * AREA + counted


def test_the_budget_rises_with_max_pixels_and_never_falls_below_the_default() -> None:
    assert budget(Limits()) == 5 * 50_000_000
    assert budget(Limits(max_pixels=80_000_000)) == 5 * 80_000_000
    assert budget(Limits(max_pixels=1)) == budget(Limits())


def test_a_refusal_says_what_takes_how_much_and_what_to_do() -> None:
    with pytest.raises(ImageTooLarge) as caught:
        decode(FINDING, preprocessing(), LIMITS)
    said = "a WEBP of 16000 x 3100 pixels in mode RGBA takes 794 MB to decode, 16 bytes a pixel, and the limit is 250 MB; send a"
    assert said in str(caught.value)
    assert "raise max_pixels" in str(caught.value)
    with pytest.raises(ImageTooLarge, match="smaller strips or tiles"):
        decode(crafted.tiff((16, 16), b"", DEFLATE, tile=(1 << 14, 1 << 14)), preprocessing(), LIMITS)
    with pytest.raises(ImageTooLarge, match=f"{MAX_SIDE + 1} x 1, and a side may have {MAX_SIDE} pixels"):
        from_pixels(np.zeros((1, MAX_SIDE + 1, 3), np.uint8), preprocessing(), LIMITS)
    with pytest.raises(ImageTooLarge, match=f"1 x {MAX_SIDE + 1}, and a side"):
        from_pixels(np.zeros((MAX_SIDE + 1, 1, 3), np.uint8), preprocessing(), LIMITS)


def test_out_of_memory_is_the_image_s_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(module, "check_size", fail)
    with pytest.raises(ImageTooLarge, match="all memory"):
        decode(encode(Image.new("RGB", (8, 8)), "PNG"), preprocessing(), LIMITS)


@pytest.mark.parametrize(
    ("form", "options", "expected"),
    [
        # 4 bytes a pixel; and what the resizer takes, the picture made narrow, then small
        ("PNG", {}, [4 * 40 * 30, 4 * (30 * 8 + 8 * 8)]),
        # scaled to a half while it is decoded, of coefficients of all of it
        ("JPEG", {"progressive": True, "subsampling": 0}, [4 * 20 * 15 + 2 * 3 * 40 * 30, 4 * (15 * 8 + 8 * 8)]),
        # 8 of 16 are taken when it is opened
        ("WEBP", {}, [8 * 40 * 30, 8 * 40 * 30, 4 * (30 * 8 + 8 * 8)]),
    ],
)
def test_what_a_picture_needs_must_be_there_before_it_is_decoded(
    form: str, options: dict[str, Any], expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(module, "reserve", asked.append)
    data = encode(Image.new("RGB", (40, 30)), form, **options)
    decode(data, preprocessing(), LIMITS)
    assert asked == expected

    def refuse(size: int) -> None:
        if size == expected[-1]:
            raise MemoryError

    monkeypatch.setattr(module, "reserve", refuse)  # also what the resizer needs, which would end the process
    with pytest.raises(ImageTooLarge, match="took all memory that there was for one"):
        decode(data, preprocessing(), LIMITS)


def test_memory_that_is_there_can_be_reserved_and_more_cannot() -> None:
    reserve(1 << 20)
    with pytest.raises(MemoryError):
        reserve(1 << 60)


def test_libraries_say_in_their_own_words_that_there_is_no_memory() -> None:
    for error in (MemoryError(), OSError("out of memory when reading image file"), RuntimeError("std::bad_alloc")):
        assert is_out_of_memory(error)
    for error in (ValueError("out of memory"), OSError("broken data stream"), RuntimeError("shape")):
        assert not is_out_of_memory(error)


def test_pixels_for_which_there_is_no_memory_are_the_image_s_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise MemoryError

    monkeypatch.setattr(module, "reserve", fail)
    with pytest.raises(ImageTooLarge, match="no memory for 16 x 17 pixels"):
        from_pixels(np.zeros((16, 17, 3), np.uint8), preprocessing(), LIMITS)


@pytest.mark.parametrize(
    "more",
    [
        [(322, 17, 1 << 14), (323, 17, 1 << 14)],  # a type that libtiff knows and Pillow does not
        [(278, 12, 0)],  # the first of two counts, and is one that Pillow does not take
        [(278, 4, 1)],
    ],
)
def test_refuses_a_tiff_that_says_two_things(more: list[tuple[int, int, int]]) -> None:
    with pytest.raises((ImageUnsupported, ImageUndecodable), match=r"tag 322 of type 17|tag 278"):
        decode(strip((8, 8), crafted.deflate, DEFLATE, more=more), preprocessing(), LIMITS)


def test_refuses_a_tiff_of_too_many_tags() -> None:
    more = [(40_000 + n, 3, 0) for n in range(4096)]
    with pytest.raises(ImageUnsupported, match="tags, at most 4096"):
        decode(strip((8, 8), crafted.deflate, DEFLATE, more=more), preprocessing(), LIMITS)


def test_reads_the_crafted_kinds() -> None:
    """What is refused above is refused for its size alone."""
    black, white = np.zeros((8, 8, 3)), np.full((8, 8, 3), 255)
    for data in (
        crafted.png((16, 16), RGB),
        crafted.png((16, 16), GREY, 16, interlaced=True),
        strip((16, 16), crafted.deflate, DEFLATE),
        strip((16, 16), crafted.zstd, ZSTD),
        strip((16, 16), crafted.xz, LZMA),
        crafted.tiff((16, 16), crafted.deflate(3 << 12), DEFLATE, tile=(64, 64)),
        crafted.bmp((16, 16)),
    ):
        assert np.array_equal(decode(data, preprocessing(), LIMITS), black)
    for data in (
        crafted.png((16, 16), RGBA, 16, interlaced=True),
        crafted.png((16, 16), PALETTE, before=SEE_THROUGH),
        crafted.webp((16, 16)),
        strip((16, 16), crafted.zstd, ZSTD, 4),
    ):
        assert np.array_equal(decode(data, preprocessing(), LIMITS), white)
    for options in ({}, {"one_scan": False}, {"progressive": True, "one_scan": False}, {"luma": 0x22}):
        assert (np.abs(decode(crafted.jpeg((16, 16), **options), preprocessing(), LIMITS) - 128.0) <= 1).all()


def naive(image: Image.Image, spec: Preprocessing, turn: Image.Transpose | None = None) -> Any:
    """The whole picture on white at once, turned, and resized at once."""
    if image.mode.startswith("I;16"):
        rgb = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        rgb = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    else:
        rgb = image.convert("RGB")
    rgb = rgb.transpose(turn) if turn is not None else rgb
    resized = Image.new("RGB", (spec.width, spec.height))
    options = ResizeOptions(ResizeAlg.convolution(INTERPOLATION[spec.interpolation]), crop_box=middle(rgb.size, spec))
    Resizer().resize_pil(rgb, resized, options)
    return np.asarray(resized)


def middle(size: tuple[int, int], spec: Preprocessing) -> CropBox | None:
    """The part of a picture that is seen with fit crop, None where that is all of it."""
    if spec.resize is None:
        return None
    wanted = (spec.width, spec.height)
    scaled = [max(kept, round(side * spec.resize / min(size))) for kept, side in zip(wanted, size, strict=True)]
    parts = [side * kept / whole for side, kept, whole in zip(size, wanted, scaled, strict=True)]
    starts = [(whole - kept) / 2 * (side / whole) for side, kept, whole in zip(size, wanted, scaled, strict=True)]
    return CropBox(starts[0], starts[1], parts[0] * (1 - 1e-9), parts[1] * (1 - 1e-9))


NOISE = np.random.default_rng(0).integers(0, 256, (90, 90, 4), dtype=np.uint8)


def noise(mode: str, width: int, height: int) -> Image.Image:
    pixels = np.ascontiguousarray(NOISE[:height, :width])
    if mode == "I;16":
        return Image.fromarray(pixels.view(np.uint16)[:, :, 0])
    if mode == "P":
        image = Image.fromarray(pixels[:, :, 0] % 16).convert("P")
        image.putpalette(NOISE[0, :16, :3].tobytes())
        return image
    return Image.fromarray(pixels).convert(mode)


KINDS: list[tuple[str, str, dict[str, Any]]] = [
    ("RGB", "PNG", {}),
    ("RGB", "PNG", {"transparency": tuple(NOISE[0, 0, :3].tolist())}),
    ("RGB", "BMP", {}),
    ("RGBA", "PNG", {}),
    ("RGBA", "TIFF", {}),
    ("RGBA", "WEBP", {"lossless": True, "exact": True}),
    ("LA", "PNG", {}),
    ("L", "PNG", {}),
    ("L", "PNG", {"transparency": 100}),
    ("P", "PNG", {}),
    ("P", "PNG", {"transparency": bytes(range(0, 256, 16))}),
    ("P", "PNG", {"transparency": 3}),
    ("I;16", "PNG", {}),
    ("I;16", "TIFF", {}),
    ("CMYK", "TIFF", {}),
]
HOW = [{}, {"interpolation": "bicubic"}, {"fit": "crop", "resize": 24}, {"fit": "crop", "resize": 90}]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(KINDS), st.integers(1, 90), st.integers(1, 90), st.sampled_from(HOW), st.sampled_from([1, 64, 200, 1 << 20])
)
def test_ordinary_pictures_are_read_as_ever(
    monkeypatch: pytest.MonkeyPatch,
    kind: tuple[str, str, dict[str, Any]],
    width: int,
    height: int,
    how: dict[str, Any],
    band: int,
) -> None:
    """To the byte, wherever the bands of rows end."""
    mode, form, options = kind
    data = encode(noise(mode, width, height), form, **options)
    monkeypatch.setattr(modes, "BAND", band)
    spec = preprocessing(20, 24, **how)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        expected = naive(image, spec)
    assert np.array_equal(decode(data, spec, LIMITS), expected)


TURNS = {orientation: module.TURNS[orientation] for orientation in range(2, 9)}
"""From the standard's table, by test_decode.test_honours_exif_orientation."""


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("orientation", TURNS)
def test_a_turned_picture_is_read_as_ever(orientation: int, how: dict[str, Any]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = noise("RGB", 90, 50)
    expected = naive(picture, preprocessing(20, 24, **how), TURNS[orientation])
    assert np.array_equal(decode(encode(picture, "PNG", exif=exif), preprocessing(20, 24, **how), LIMITS), expected)


@pytest.fixture
def _no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no memory for what comes between, so every picture goes the way of the largest."""
    monkeypatch.setattr(module, "budget", lambda _: 0)


@pytest.mark.usefixtures("_no_room")
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("orientation", TURNS)
def test_a_large_picture_is_turned_when_it_is_small(orientation: int, how: dict[str, Any]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = noise("RGB", 90, 50)
    found = decode(encode(picture, "PNG", exif=exif), preprocessing(20, 24, **how), LIMITS)
    expected = naive(picture, preprocessing(20, 24, **how), TURNS[orientation])
    assert np.abs(found.astype(int) - expected).max() <= 2


@pytest.mark.usefixtures("_no_room")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([(1, 4000), (4000, 1), (3, 1000), (1000, 3), (90, 50), (20, 24)]), st.sampled_from(HOW), st.integers(0, 9))
def test_the_long_side_first_gives_what_pillow_gives(size: tuple[int, int], how: dict[str, Any], seed: int) -> None:
    """For wide pictures, which Pillow makes narrow first as well, and for tall ones, which it makes flat first.

    What is between is rounded; so the order makes up to 3 of 255, and the resizer's own arithmetic 1.
    """
    height, width = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    spec = preprocessing(20, 24, **how)
    found = from_pixels(pixels, spec, LIMITS)
    box = middle((width, height), spec)
    kept = (box.left, box.top, box.left + box.width, box.top + box.height) if box else None
    resample = Image.Resampling[spec.interpolation.upper()]
    expected = np.asarray(Image.fromarray(pixels).resize((24, 20), resample, box=kept))
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= (2 if width >= height else 4)
    assert difference.mean() < 0.5
