"""Images of every kind are read right, against pixel values from arithmetic, or refused with their code."""

import contextlib
import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from cykooz_resizer import CpuExtensions, ResizeAlg, ResizeOptions, Resizer
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from handlers.decode import INTERPOLATION, MAX_SCANS, decode, from_pixels, seen_box, to_batch, upright, upright_pixels, view
from handlers.errors import ImageEmpty, ImageError, ImageTooLarge, ImageUndecodable, ImageUnsupported
from handlers.spec import DecodingRule, Limits, Preprocessing
from tests.unit.handlers.crafted import chunk
from tests.unit.handlers.encoding import encode, preprocessing

LIMITS = Limits()
COLOUR = (200, 60, 10)
NEARLY_LOSSLESS: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}


def plain(mode: str = "RGB", colour: Any = COLOUR, side: int = 8) -> Image.Image:
    return Image.new(mode, (side, side), colour)


def png(bits: int, colour_type: int, row: bytes, rows: int = 8) -> bytes:
    """A PNG written by hand, for what Pillow does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, rows, bits, colour_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress((b"\0" + row) * rows)) + chunk(b"IEND", b"")


def palette() -> Image.Image:
    image = plain("P", 1)
    image.putpalette([0, 0, 0, *COLOUR])
    return image


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP", "TIFF", "JPEG"])
def test_reads_rgb(form: str) -> None:
    options = NEARLY_LOSSLESS.get(form, {})
    result = decode(encode(plain(), form, **options), preprocessing(), LIMITS)
    assert result.shape == (8, 8, 3)
    assert result.dtype == np.uint8
    assert np.abs(result.astype(int) - COLOUR).max() <= (2 if form == "JPEG" else 0)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encode(plain("L", 77), "PNG"), (77, 77, 77)),
        (encode(plain("1", 1), "PNG"), (255, 255, 255)),
        (encode(palette(), "PNG"), COLOUR),
        (encode(palette(), "BMP"), COLOUR),
        # On white: 255 + (colour - 255) * alpha / 255.
        (encode(palette(), "PNG", transparency=1), (255, 255, 255)),
        (encode(plain("RGBA", (255, 0, 0, 51)), "PNG"), (255, 204, 204)),
        (encode(plain("RGBA", (255, 0, 0, 51)), "WEBP", lossless=True), (255, 204, 204)),
        (encode(plain("LA", (0, 102)), "PNG"), (153, 153, 153)),
        (encode(plain("RGB", COLOUR), "PNG", transparency=COLOUR), (255, 255, 255)),
        # 16 bits: the high byte.
        (encode(Image.fromarray(np.full((8, 8), 0x1234, np.uint16)), "PNG"), (0x12, 0x12, 0x12)),
        (encode(Image.fromarray(np.full((8, 8), 0x1234, np.uint16)), "TIFF"), (0x12, 0x12, 0x12)),
        (encode(Image.fromarray(np.full((8, 8), 0x1234, ">u2")), "TIFF"), (0x12, 0x12, 0x12)),
        (png(16, 2, struct.pack(">3H", 0x1234, 0x8000, 0xFF00) * 8), (0x12, 0x80, 0xFF)),
        (png(16, 6, struct.pack(">4H", 0x1234, 0x8000, 0xFF00, 0xFFFF) * 8), (0x12, 0x80, 0xFF)),
        (png(16, 4, struct.pack(">2H", 0x1234, 0xFFFF) * 8), (0x12, 0x12, 0x12)),
        (png(2, 0, b"\xaa\xaa"), (170, 170, 170)),
        # Naive CMYK: (255 - ink) * (255 - black) / 255.
        (encode(plain("CMYK", (0, 255, 51, 0)), "TIFF"), (255, 0, 204)),
        (encode(plain("CMYK", (0, 0, 0, 204)), "JPEG", quality=100), (51, 51, 51)),
        (encode(plain("YCbCr", (100, 128, 128)), "TIFF"), (100, 100, 100)),
    ],
)
def test_reads_every_kind_of_pixel(data: bytes, expected: tuple[int, int, int]) -> None:
    result = decode(data, preprocessing(), LIMITS)
    assert np.abs(result.astype(int) - expected).max() <= 1


STORED = {  # how a picture is stored for each EXIF orientation, from the standard's table of row 0 and column 0
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[::-1],
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: a.transpose(1, 0, 2)[:, ::-1],
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_honours_exif_orientation(form: str, orientation: int) -> None:
    picture = np.zeros((8, 16, 3), np.uint8)
    picture[:4, :8], picture[4:, :8], picture[:4, 8:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = NEARLY_LOSSLESS.get(form, {})
    data = encode(Image.fromarray(np.ascontiguousarray(STORED[orientation](picture))), form, exif=exif, **options)
    result = decode(data, preprocessing(8, 16), LIMITS)
    assert np.abs(result.astype(int) - picture).max() <= 2


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif", [b"garbage", b"", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0"]
)
def test_damaged_metadata_does_not_damage_the_picture(form: str, exif: bytes) -> None:
    result = decode(encode(plain("RGB", (100, 100, 100)), form, exif=b"Exif\0\0" + exif), preprocessing(), LIMITS)
    assert np.abs(result.astype(int) - 100).max() <= 1


def test_reads_the_photo_of_an_mpo() -> None:
    data = encode(plain("RGB", (100, 100, 100)), "MPO", save_all=True, append_images=[plain("RGB", (0, 0, 0))])
    assert np.abs(decode(data, preprocessing(), LIMITS).astype(int) - 100).max() <= 1


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_refuses_frames(form: str) -> None:
    data = encode(plain(), form, save_all=True, append_images=[plain("RGB", (1, 2, 3))])
    with pytest.raises(ImageUnsupported, match="more than one frame"):
        decode(data, preprocessing(), LIMITS)


def test_refuses_a_tiff_of_pages_without_reading_them() -> None:
    data = bytearray(encode(plain(), "TIFF"))
    [directory] = struct.unpack_from("<I", data, 4)
    [entries] = struct.unpack_from("<H", data, directory)
    # Behind its entries, a directory says where the next one is; what is there is no directory.
    struct.pack_into("<I", data, directory + 2 + 12 * entries, len(data))
    with pytest.raises(ImageUnsupported, match="more than one frame"):
        decode(bytes(data) + b"no directory", preprocessing(), LIMITS)


def repeat_last_scan(data: bytes, times: int) -> bytes:
    """A progressive JPEG that goes on: a pass over all of its pixels costs a handful of bytes."""
    start, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:end] + times * data[start:end] + data[end:]


def test_refuses_a_jpeg_of_too_many_scans() -> None:
    grey = plain("L", 100)
    data = encode(grey, "JPEG", progressive=True)
    scans = data.count(b"\xff\xda")
    most = repeat_last_scan(data, MAX_SCANS - scans)
    assert np.abs(decode(most, preprocessing(), LIMITS).astype(int) - 100).max() <= 1
    with pytest.raises(ImageUnsupported, match=f"{MAX_SCANS + 1} scans"):
        decode(repeat_last_scan(data, MAX_SCANS + 1 - scans), preprocessing(), LIMITS)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (encode(plain(), "GIF"), "GIF"),
        (b"%PDF-1.7\n", "PDF"),
        (b"<?xml version='1.0'?><svg/>", "SVG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<?xml version='1.0'?><html/>", "XML"),
        (b"\0\0\0\x18ftypavif" + bytes(16), "AVIF"),
        (b"\0\0\0\x18ftypavis" + bytes(16), "an AVIF sequence"),
        (b"\0\0\0\x18ftypmsf1" + bytes(16), "a HEIF sequence"),
        (b"\0\0\0\x18ftyphevc" + bytes(16), "a HEIF sequence"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(16), "JPEG 2000"),
        (b"\xff\x4f\xff\x51" + bytes(16), "JPEG 2000"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(16), "JPEG XL"),
    ],
)
@pytest.mark.parametrize("rule", [1, 2])
def test_names_what_is_not_read(data: bytes, kind: str, rule: DecodingRule) -> None:
    with pytest.raises(ImageUnsupported, match=f"{kind} is not read; send a JPEG"):
        decode(data, preprocessing(decoding=rule), LIMITS)


TWELVE = np.arange(64, dtype=np.uint16).reshape(8, 8) * 65
"""Samples of 12 bits, 0 to 4095, of which most are not multiples of 16."""


def tiff_of(samples: Any, bits: int = 16, order: str = "<", **tags: int) -> bytes:
    """A TIFF of greys in one strip, rows of 12 bits packed; `tags`: photometric, form, and most for MaxSampleValue."""
    flat = samples.ravel().tolist()
    if bits == 12:
        pairs = zip(flat[::2], flat[1::2], strict=True)
        content = b"".join(bytes((a >> 4, (a & 15) << 4 | b >> 8, b & 255)) for a, b in pairs)
    else:
        content = struct.pack(f"{order}{len(flat)}H", *flat)
    entries = [(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, tags.get("photometric", 1))]
    entries += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, 8), (279, 4, 1, len(content))]
    entries += [(281, 3, 1, tags["most"])] if "most" in tags else []
    entries += [(339, 3, 1, tags["form"])] if "form" in tags else []
    shapes = {3: "HHIHxx", 4: "HHII"}
    directory = struct.pack(order + "H", len(entries)) + b"".join(
        struct.pack(order + shapes[entry[1]], *entry) for entry in entries
    )
    head = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(content))
    return head + content + directory + bytes(4)


def png_of(samples: Any, significant: int | None = None, clear: int | None = None) -> bytes:
    data = png(16, 0, bytes(16))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    own = b"" if significant is None else chunk(b"sBIT", bytes([significant]))
    own += b"" if clear is None else chunk(b"tRNS", struct.pack(">H", clear))
    return data[:33] + own + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def greys(data: bytes, rule: DecodingRule = 2) -> Any:
    found = decode(data, preprocessing(decoding=rule), LIMITS).astype(float)
    assert (found == found[:, :, :1]).all()
    return found[:, :, 0]


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_16_bits_are_all_of_them_where_nothing_else_is_said(order: str) -> None:
    samples = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1040
    for data in (encode(Image.fromarray(samples.astype(order)), "TIFF"), png_of(samples), tiff_of(samples)):
        assert np.abs(greys(data) - samples / 65535 * 255).max() <= 1
        assert np.array_equal(greys(data), greys(data, rule=1))


def test_white_is_zero_where_a_tiff_says_so() -> None:
    samples = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1040
    data = tiff_of(samples, photometric=0)
    assert np.abs(greys(data) - (255 - samples / 65535 * 255)).max() <= 1
    assert np.abs(greys(data, rule=1) - samples / 65535 * 255).max() <= 1  # as it was


@pytest.mark.parametrize(("white", "significant"), [(65535, None), (4095, 12)])
def test_the_grey_of_16_bits_that_is_transparent_is_white(white: int, significant: int | None) -> None:
    samples = TWELVE if significant else np.arange(64, dtype=np.uint16).reshape(8, 8) * 1040
    data = png_of(samples, significant, clear=int(samples[1, 2]))
    expected = samples / white * 255
    expected[1, 2] = 255
    assert np.abs(greys(data) - expected).max() <= 1
    assert np.abs(upright_pixels(Image.open(io.BytesIO(data)))[1, 2] - expected[1, 2]).max() == 0
    assert np.array_equal(greys(data, rule=1), greys(png_of(samples), rule=1))  # as it was


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (tiff_of(TWELVE, order=">", photometric=0), r"16 bits a sample \(most significant byte first, white is zero\)"),
        (tiff_of(TWELVE, bits=12, order=">"), r"12 bits a sample \(most significant byte first\)"),
        (tiff_of(TWELVE, bits=12, photometric=0), r"12 bits a sample \(white is zero\)"),
        (tiff_of(TWELVE, form=3), "floating point a sample"),
    ],
    ids=["16 bits", "12 bits", "12 bits, white is zero", "floats"],
)
def test_a_tiff_whose_samples_are_not_read_is_named(data: bytes, named: str) -> None:
    with pytest.raises(ImageUnsupported, match=f"a TIFF of {named} is not read; save it as a PNG"):
        decode(data, preprocessing(), LIMITS)
    with pytest.raises(ImageUndecodable, match="no header of an image"):
        decode(data, preprocessing(decoding=1), LIMITS)
    for broken in (data[:8], data[:-70], data[:4] + b"\xff" * 8):
        with pytest.raises(ImageUndecodable):
            decode(broken, preprocessing(), LIMITS)


@pytest.mark.parametrize(
    "data",
    [
        tiff_of(TWELVE, most=4095),
        tiff_of(TWELVE, bits=12),
        tiff_of(4095 - TWELVE, most=4095, photometric=0),
        png_of(TWELVE, significant=12),
    ],
    ids=["MaxSampleValue", "BitsPerSample", "MaxSampleValue, white is zero", "sBIT"],
)
def test_12_bits_are_read_as_meant_where_the_file_says_so(data: bytes) -> None:
    assert np.abs(greys(data) - TWELVE / 4095 * 255).max() <= 1
    assert greys(data, rule=1).max() <= 16 or greys(data, rule=1).min() > 0


def test_12_bits_are_dark_where_nothing_says_so() -> None:
    """What a picture means is its own file's to say: what others hold is not looked at."""
    for data in (png_of(TWELVE), tiff_of(TWELVE), tiff_of(TWELVE, most=4000)):
        assert greys(data).max() <= 16


def test_what_sbit_means_for_scaled_samples_changes_nothing() -> None:
    """The PNG standard has samples scaled to 16 bits: those of 12 bits are multiples of 16, or say more than 4095."""
    for samples in (TWELVE * 16, TWELVE // 16 * 16, TWELVE * 16 + TWELVE // 256):
        assert np.array_equal(greys(png_of(samples, significant=12)), greys(png_of(samples)))
    assert np.array_equal(greys(png_of(TWELVE, significant=16)), greys(png_of(TWELVE)))
    assert np.array_equal(greys(png_of(TWELVE, significant=0)), greys(png_of(TWELVE)))


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"docs/examples/roof.jpg", True),
        (b"@Bilder/D\xc3\xa4cher 1.HEIC\n", True),
        (b"no picture", False),
        (b"\0\1.jpg", False),
        (b"a.jpg\nb.jpg", False),
    ],
)
def test_a_file_s_name_in_the_place_of_its_content_is_told_as_that(data: bytes, named: bool) -> None:
    """What curl sends where the @ is forgotten, in a body as in a form."""
    with pytest.raises(ImageUndecodable) as caught:
        decode(data, preprocessing(), LIMITS)
    hint = "; they read as a file's name: send what is in it, by curl as @FILE" if named else ""
    assert str(caught.value) == f"image.undecodable: {len(data)} bytes are not a whole image: no header of an image{hint}"


@pytest.mark.parametrize("mode", ["I", "F", "LAB"])
def test_refuses_pixels_without_an_agreed_meaning(mode: str) -> None:
    colour = (10, 20, 30) if mode == "LAB" else 3
    with pytest.raises(ImageUnsupported, match=mode):
        decode(encode(plain(mode, colour), "TIFF"), preprocessing(), LIMITS)


def test_refuses_nothing_at_all() -> None:
    with pytest.raises(ImageEmpty, match="0 bytes"):
        decode(b"", preprocessing(), LIMITS)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_refuses_a_truncated_image(form: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), form)
    with pytest.raises(ImageUndecodable, match="not a whole image"):
        decode(data[: len(data) // 2], preprocessing(), LIMITS)


@pytest.mark.parametrize("data", [b"hello", bytes(100), b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP"])
def test_refuses_what_is_no_image(data: bytes) -> None:
    with pytest.raises(ImageUndecodable):
        decode(data, preprocessing(), LIMITS)


def test_refuses_too_many_bytes() -> None:
    data = encode(plain(), "PNG")
    with pytest.raises(ImageTooLarge, match=f"{len(data)} bytes"):
        decode(data, preprocessing(), Limits(max_bytes=len(data) - 1))


def test_refuses_too_many_pixels_from_the_header() -> None:
    head = png(8, 0, b"")[:33].replace(struct.pack(">II", 8, 8), struct.pack(">II", 20_000, 20_000))
    bomb = head[:29] + struct.pack(">I", zlib.crc32(head[12:29])) + png(8, 0, b"")[33:]
    with pytest.raises(ImageTooLarge, match="limit"):
        decode(bomb, preprocessing(), LIMITS)
    with pytest.raises(ImageTooLarge, match="8 x 8"):
        decode(encode(plain(), "PNG"), preprocessing(), Limits(max_pixels=63))
    assert decode(encode(plain(), "PNG"), preprocessing(), Limits(max_pixels=64)).shape == (8, 8, 3)


@given(st.binary(max_size=400), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"RIFF"]))
def test_no_bytes_raise_anything_but_an_image_error(data: bytes, start: bytes) -> None:
    with contextlib.suppress(ImageError):
        assert decode(start + data, preprocessing(), LIMITS).shape == (8, 8, 3)


@given(st.sampled_from(["JPEG", "PNG", "WEBP", "BMP", "TIFF"]), st.data())
def test_no_changed_byte_raises_anything_but_an_image_error(form: str, data: st.DataObject) -> None:
    whole = bytearray(encode(plain(), form))
    for position in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=4)):
        whole[position] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ImageError):
        assert decode(bytes(whole), preprocessing(), LIMITS).shape == (8, 8, 3)


def test_stretch_shows_the_whole_picture() -> None:
    picture = np.zeros((16, 64, 3), np.uint8)
    picture[:, 32:] = 255
    result = decode(encode(Image.fromarray(picture), "PNG"), preprocessing(8, 8), LIMITS)
    assert result[:, :3].max() == 0
    assert result[:, 5:].min() == 255


def test_crop_cuts_the_middle() -> None:
    # 16 x 32, short side to 8: 8 x 16, and the middle 8 columns are columns 8 to 24 of the picture.
    columns = np.repeat(np.arange(0, 256, 8, dtype=np.uint8)[None, :, None], 16, 0).repeat(3, 2)
    result = decode(encode(Image.fromarray(columns), "PNG"), preprocessing(8, 8, fit="crop", resize=8), LIMITS)
    pairs = columns[0, 8:24, 0].astype(float).reshape(8, 2).mean(1)
    assert np.abs(result[0, 1:-1, 0] - pairs[1:-1]).max() <= 1


@pytest.mark.parametrize("values", [{}, {"fit": "crop", "resize": 40}])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_scaled_like_a_small_one(values: dict[str, Any], orientation: int) -> None:
    y, x = np.mgrid[0:480, 0:640]
    smooth = np.stack([x * 255 / 639, y * 255 / 479, (x + y) * 255 / 1118], -1).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    jpeg = encode(Image.fromarray(smooth), "JPEG", quality=97, exif=exif)
    lossless = encode(Image.fromarray(smooth), "PNG", exif=exif)
    fast, exact = (decode(data, preprocessing(32, 32, **values), LIMITS).astype(int) for data in (jpeg, lossless))
    assert np.abs(fast - exact).max() <= 5


SIDES = st.integers(1, 700)


@given(SIDES, SIDES, st.sampled_from([32, 37, 224]), st.sampled_from([0, 5, 40]), st.sampled_from(["bilinear", "bicubic"]))
def test_a_picture_is_resized_as_pillow_does_it(width: int, height: int, side: int, more: int, interpolation: str) -> None:
    """Whole (`more` 0), or its middle with the short side at `side` + `more`; every digit but the last is Pillow's."""
    y, x = np.mgrid[0:height, 0:width] / 40
    picture = Image.fromarray((127 + 120 * np.stack([np.sin(x), np.cos(y), np.sin(x + y)], -1)).astype(np.uint8))
    how, box = {}, None
    if more:
        how = {"fit": "crop", "resize": side + more}
        kept = (side / max(side, round(length * (side + more) / min(width, height))) for length in (width, height))
        across, down = (length * share for length, share in zip((width, height), kept, strict=True))
        box = ((width - across) / 2, (height - down) / 2, (width + across) / 2, (height + down) / 2)
    found = from_pixels(np.asarray(picture), preprocessing(side, side, interpolation=interpolation, **how), LIMITS)
    expected = np.asarray(picture.resize((side, side), Image.Resampling[interpolation.upper()], box=box))
    assert np.abs(found.astype(int) - expected).max() <= 4
    assert np.abs(found.astype(int) - expected).mean() < 0.5


def test_a_picture_is_resized_alike_on_every_cpu() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (97, 131, 3), dtype=np.uint8))
    for kind in INTERPOLATION.values():
        results = []
        for instructions in CpuExtensions:
            resizer, resized = Resizer(), Image.new("RGB", (32, 45))
            resizer.cpu_extensions = instructions  # those that this CPU does not have are not taken
            resizer.resize_pil(noise, resized, ResizeOptions(ResizeAlg.convolution(kind)))
            results.append(resized.tobytes())
        assert len(set(results)) == 1


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("values", [{"fit": "crop", "resize": 40}, {"fit": "crop", "resize": 32}, {"fit": "stretch"}])
def test_the_seen_box_is_where_the_view_lies_in_the_upright_picture(values: dict[str, Any], orientation: int, form: str) -> None:
    height, width = 200, 400
    y, x = np.mgrid[0:height, 0:width]
    picture = np.stack([255 * x / (width - 1), 255 * y / (height - 1), 0 * x], axis=2).round().astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(np.ascontiguousarray(STORED[orientation](picture))), form, exif=exif)
    seen, (left, top, across, down), sides = view(data, preprocessing(24, 32, **values), Limits())
    assert sides == (width, height)
    # The colours say which place of the picture each pixel shows: centres of pixels, so half of one inside the box.
    found = seen.astype(np.float64) / 255
    expected_x = left + across * (np.arange(32) + 0.5) / 32
    expected_y = top + down * (np.arange(24) + 0.5) / 24
    np.testing.assert_allclose(found[:, :, 0].mean(axis=0), expected_x, atol=0.02)
    np.testing.assert_allclose(found[:, :, 1].mean(axis=1), expected_y, atol=0.02)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 1000), (900, 450), (401, 399)])
def test_the_seen_box_lies_in_the_picture(width: int, height: int) -> None:
    for values in ({"fit": "crop", "resize": 32}, {"fit": "crop", "resize": 512}, {"fit": "stretch"}):
        left, top, across, down = seen_box(width, height, preprocessing(24, 32, **values))
        assert min(left, top) >= 0
        assert left + across <= 1
        assert top + down <= 1
        assert left == pytest.approx(1 - left - across)
    # by hand: 900 x 450 scaled to 512 x 256, of which the middle 224 x 224 are seen
    by_hand = (144 / 512, 16 / 256, 224 / 512, 224 / 256)
    assert seen_box(900, 450, preprocessing(224, 224, fit="crop", resize=256)) == pytest.approx(by_hand)


def test_a_picture_to_draw_on_is_upright_on_white_and_of_8_bits() -> None:
    clear = Image.fromarray(np.array([[[10, 20, 30, 0], [200, 100, 50, 255]]], dtype=np.uint8))
    assert upright(encode(clear, "PNG"), 256, Limits()).tolist() == [[[255, 255, 255], [200, 100, 50]]]
    deep = Image.fromarray(np.full((2, 2), 0x8040, dtype=np.uint16))
    assert upright(encode(deep, "PNG"), 256, Limits()).tolist() == [[[0x80] * 3] * 2] * 2
    exif = Image.Exif()
    exif[0x0112] = 6
    assert upright(encode(Image.new("RGB", (3000, 1500)), "JPEG", exif=exif), 500, Limits()).shape == (500, 250, 3)
    with pytest.raises(ImageUndecodable):
        upright(b"no picture", 256, Limits())


def test_pixels_are_fitted_as_pictures_are() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    encoded = decode(encode(Image.fromarray(picture), "PNG"), preprocessing(), LIMITS)
    assert np.array_equal(from_pixels(picture, preprocessing(), LIMITS), encoded)


def test_pixels_have_limits() -> None:
    with pytest.raises(ImageEmpty, match="0 x 4"):
        from_pixels(np.zeros((0, 4, 3), np.uint8), preprocessing(), LIMITS)
    with pytest.raises(ImageTooLarge, match="4 x 3"):
        from_pixels(np.zeros((3, 4, 3), np.uint8), preprocessing(), Limits(max_pixels=11))


def test_batch_is_normalised() -> None:
    images: list[npt.NDArray[np.uint8]] = [np.full((2, 3, 3), value, np.uint8) for value in (0, 255)]
    images[0][0, 1, 2] = 51
    spec = Preprocessing(height=8, width=8, mean=(0.1, 0.2, 0.4), std=(0.5, 0.25, 0.2))
    batch = to_batch(images, spec)
    assert batch.shape == (2, 3, 2, 3)
    assert batch.dtype == np.float32
    assert batch.flags.c_contiguous
    assert batch[0, :, 0, 0] == pytest.approx([-0.2, -0.8, -2.0], abs=1e-6)
    assert batch[1, :, 0, 0] == pytest.approx([1.8, 3.2, 3.0], abs=1e-6)
    assert batch[0, 2, 0, 1] == pytest.approx((0.2 - 0.4) / 0.2, abs=1e-6)
