"""What stands around pixels is bounded before Pillow reads it, and what Pillow is not to read is left out."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from handlers.containers import MAX_PARTS, MAX_VALUES, first_scan, sift, webp_size
from handlers.decode import decode
from handlers.errors import ImageUndecodable, ImageUnsupported
from handlers.spec import Limits, Preprocessing
from tests.unit.handlers import crafted
from tests.unit.handlers.crafted import DEFLATE, RGB, chunk, segment

SIZE = (16, 16)
JPEG = crafted.jpeg(SIZE)
FRACTIONS, SHORT, LONG = 5, 3, 4
MANY = MAX_VALUES + 1
ORIENTATION, RESOLUTION, EXIF = 0x112, 0x11A, 0x8769


def read(data: bytes) -> np.ndarray:
    return decode(data, Preprocessing(height=16, width=16, mean=(0.5,) * 3, std=(0.5,) * 3), Limits())


def with_segments(*segments: bytes) -> bytes:
    return JPEG[:2] + b"".join(segments) + JPEG[2:]


def fractions(tag: int, count: int, order: str = "<") -> bytes:
    return crafted.exif((tag, FRACTIONS, count, 26), order=order, behind=struct.pack(order + "II", 70001, 70003) * count)


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"}])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (300, 7), (5, 700), (16383, 1)])
def test_a_webp_s_size_is_as_pillow_reads_it(size: tuple[int, int], mode: str, options: dict[str, Any]) -> None:
    file = io.BytesIO()
    Image.new(mode, size, (1, 2, 3, 4)[: len(mode)]).save(file, "WEBP", **options)
    assert Image.open(file).size == size
    assert webp_size(file.getvalue()) == size


@pytest.mark.parametrize("data", [b"", JPEG, b"RIFF" + bytes(40), b"RIFF\0\0\0\0WEBPVP8X", b"RIFF\0\0\0\0WEBPVP9 " + bytes(40)])
def test_what_is_no_webp_has_no_size_of_one(data: bytes) -> None:
    assert webp_size(data) is None


def in_jpeg(exif: bytes) -> bytes:
    """In as many segments as are needed."""
    return with_segments(*(segment(0xE1, b"Exif\0\0" + exif[start : start + 60_000]) for start in range(0, len(exif), 60_000)))


def in_png(exif: bytes) -> bytes:
    return crafted.png(SIZE, RGB, before=chunk(b"eXIf", exif))


def test_texts_and_profiles_of_a_png_are_left_out() -> None:
    plain = crafted.png(SIZE, RGB)
    other = chunk(b"gAMA", bytes(4)) + chunk(b"abCd", b"private")
    for name in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
        told = chunk(name, b"whatever")
        assert sift(crafted.png(SIZE, RGB, before=told + other + told, after=told)).data == crafted.png(SIZE, RGB, before=other)
    assert sift(plain).data is plain
    # What is behind the end, or cut, is as it was.
    assert sift(plain + chunk(b"tEXt", b"")).data == plain + chunk(b"tEXt", b"")
    assert sift(plain[:-20]).data == plain[:-20]


@pytest.mark.parametrize(
    "told",
    [
        crafted.text(b"XML:com.adobe.xmp", b'<x tiff:Orientation="3"/>'),
        chunk(
            b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n26\n" + crafted.exif((0x112, 3, 1, 3)).hex().encode())
        ),
    ],
)
def test_a_text_that_turns_a_png_is_read_once(told: bytes) -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[0] = 255
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    data = out.getvalue()
    data = data[:33] + told + data[33:]
    assert np.array_equal(read(data), pixels[::-1])
    assert sift(data[:33] + told + data[33:]).data == data


XMP = b"XML:com.adobe.xmp"
LARGE = b"a" * (3 << 20)


@pytest.mark.parametrize(
    "told",
    [
        crafted.text(XMP, LARGE),
        crafted.text(b"Comment", LARGE),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LARGE)),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(LARGE)),
        chunk(b"iCCP", b"x\0\0" + zlib.compress(LARGE)),
        chunk(b"iTXt", XMP + b"\0\1\0\0\0no zlib"),
        chunk(b"iTXt", XMP),
        chunk(b"zTXt", b"Raw profile type exif"),
        crafted.text(XMP, b"b" * (64 << 20)),
    ],
    ids=["XMP", "iTXt", "zTXt", "EXIF", "profile", "no zlib", "cut XMP", "cut EXIF", "64 MB"],
)
def test_texts_that_are_large_unpacked_do_no_harm(told: bytes) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    data = out.getvalue()
    assert np.array_equal(read(data[:33] + told + data[33:]), pixels)


def test_a_large_text_that_may_turn_was_an_error_and_is_for_older_archives() -> None:
    view = Preprocessing(height=16, width=16, mean=(0.5,) * 3, std=(0.5,) * 3, decoding=1)
    with pytest.raises(ImageUndecodable, match="Decompressed data too large"):
        decode(crafted.png(SIZE, RGB, before=crafted.text(XMP, LARGE)), view, Limits())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda count: crafted.png(SIZE, RGB, before=count * chunk(b"abCd", b"")), "PNG with more than 5000 chunks"),
        (lambda count: crafted.png(SIZE, RGB, after=count * chunk(b"IDAT", b"")), "PNG with more than 5000 chunks"),
        (lambda count: with_segments(count * segment(0xE0, b"")), "JPEG with more than 5000 segments"),
        (lambda count: with_segments(count * b"\xff\xfe\0\0"), "JPEG with more than 5000 segments"),
        (lambda count: with_segments(count * (16 * b"\xff")), "JPEG with more than 5000 segments"),
        (lambda count: with_segments(count * b"\xff\0"), "JPEG with more than 5000 segments"),
    ],
)
def test_refuses_more_parts_than_a_picture_has(make: Callable[[int], bytes], said: str) -> None:
    assert read(make(MAX_PARTS - 10)).shape == (16, 16, 3)
    with pytest.raises(ImageUnsupported, match=said):
        read(make(MAX_PARTS + 1))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("wrap", [in_jpeg, in_png, crafted.webp_exif])
def test_refuses_exif_of_many_values(wrap: Callable[[bytes], bytes], order: str) -> None:
    for tag in (ORIENTATION, RESOLUTION):
        assert read(wrap(fractions(tag, 100, order))).shape == (16, 16, 3)
        with pytest.raises(ImageUnsupported, match=f"{MANY} values of tag {tag}; save it again without its metadata"):
            read(wrap(fractions(tag, MANY, order)))


def tiff(*more: tuple[int, int, int]) -> bytes:
    return crafted.tiff(SIZE, crafted.deflate(3 << 8), DEFLATE, more=more)


@pytest.mark.parametrize("tag", [258, 273, 282, 338, 339])
def test_refuses_a_tiff_of_many_values(tag: int) -> None:
    """Of a tag that is there, or of one put in the place of another."""
    data, made = bytearray(tiff() if tag in (258, 273) else tiff((tag, SHORT, 1))), 0
    [start] = struct.unpack_from("<I", data, 4)
    for at in range(start + 2, len(data) - 12, 12):
        if struct.unpack_from("<H", data, at) == (tag,):
            struct.pack_into("<HII", data, at + 2, SHORT, 600_000, 8)
            made += 1
            break
    assert made == 1
    with pytest.raises(ImageUnsupported, match=f"600000 values of tag {tag}"):
        read(bytes(data) + bytes(1_200_000))


def test_refuses_many_values_where_a_tiff_has_its_exif() -> None:
    plain = tiff((EXIF, LONG, 0))
    inner = struct.pack("<HHHII", 1, 37386, FRACTIONS, MANY, 8) + bytes(4)
    pointing = tiff((EXIF, LONG, len(plain)))
    with pytest.raises(ImageUnsupported, match=f"{MANY} values of tag 37386"):
        read(pointing + inner + bytes(8 * MANY))
    with pytest.raises(ImageUnsupported, match=f"tag {EXIF} of type {SHORT}"):
        read(tiff((EXIF, SHORT, len(plain))) + inner)
    with pytest.raises(ImageUnsupported, match="more than 16 places"):
        read(tiff(*[(EXIF, LONG, 8)] * 17))


def test_damaged_parts_are_left_for_pillow() -> None:
    for data in (b"\xff\xd8\xff", b"II*\0\xff\xff\xff\x7f", b"MM\0*", JPEG[:2] + b"\xff\x02", JPEG[:2] + b"\xff\xe1\0"):
        assert sift(data).data == data
        with pytest.raises(ImageUndecodable):
            read(data)
    with pytest.raises(ImageUnsupported, match="most significant bytes first"):
        read(b"MM\0+" + bytes(100))


def test_finds_the_first_scan_behind_whatever_looks_like_one() -> None:
    real = JPEG.index(b"\xff\xda")
    hidden = segment(0xE1, b"\xff\xda\0\x08\1\0\0\0\x3f\0")
    assert first_scan(JPEG) == real
    assert first_scan(with_segments(hidden)) == real + len(hidden)
    assert first_scan(JPEG[:real]) is None
