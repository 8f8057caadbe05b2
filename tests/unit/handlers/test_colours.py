"""Colours are sRGB's after a picture's own profile, within rounding of the plain formulas; a broken profile is as none."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from handlers.colours import KEPT, _known, colours_of
from handlers.containers import MAX_PROFILE
from handlers.decode import decode, upright_pixels
from handlers.spec import Limits
from tests.unit.handlers.crafted import chunk
from tests.unit.handlers.encoding import encode, preprocessing
from tests.unit.handlers.profiles import LINEAR_GREY, P3, SRGB, encoded, gamma, ink, p3_as_srgb, profile

HEIGHT, WIDTH = 48, 64
Y, X = np.mgrid[0:HEIGHT, 0:WIDTH]
PIXELS = np.round(np.stack([X / 63, Y / 47, (X + Y) / 110], -1) * 255).astype(np.uint8)
RAMP = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (HEIGHT, 1))
AS_LIGHT = (255 * encoded(RAMP / 255))[:, :, None].repeat(3, 2)
PRIMARIES = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def read(data: bytes, **how: Any) -> np.ndarray:
    return decode(data, preprocessing(HEIGHT, WIDTH, **how), Limits()).astype(float)


@pytest.mark.parametrize(("form", "options", "mean"), [
    ("PNG", {}, 0.3),
    ("TIFF", {}, 0.3),
    ("WEBP", {"lossless": True}, 0.3),
    ("JPEG", {"quality": 98, "subsampling": 0}, 1),
])  # fmt: skip
def test_display_p3_becomes_srgb(form: str, options: dict[str, Any], mean: float) -> None:
    data = encode(Image.fromarray(PIXELS), form, icc_profile=P3, **options)
    assert np.abs(read(data) - p3_as_srgb(PIXELS)).mean() < mean
    assert np.abs(p3_as_srgb(PIXELS) - PIXELS).mean() > 5  # which is what is put right
    assert np.abs(read(data, decoding=1) - PIXELS).mean() < mean  # and was not before


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_linear_greys_become_srgb(mode: str) -> None:
    values = RAMP if mode != "1" else np.where(RAMP > 127, 255, 0).astype(np.uint8)
    expected = AS_LIGHT if mode != "1" else values[:, :, None].repeat(3, 2)
    data = encode(Image.fromarray(values).convert(mode, dither=Image.Dither.NONE), "PNG", icc_profile=LINEAR_GREY)
    assert np.abs(read(data) - expected).max() < 0.51


def test_linear_greys_of_16_bits_keep_their_shadows() -> None:
    """Of 16 bits, 1 of 255 in light is not one step but thirteen."""
    samples = np.tile(np.arange(64, dtype=np.uint16) * 64, (HEIGHT, 1))
    expected = 255 * encoded(samples / 65535)
    for form in ("PNG", "TIFF"):
        found = read(encode(Image.fromarray(samples), form, icc_profile=LINEAR_GREY))
        assert np.abs(found - expected[:, :, None]).max() < 0.51


def test_greys_with_transparency_of_16_bits_become_srgb() -> None:
    samples = np.round(np.stack([X / 63, 1 - X / 63], -1) * 65535).astype(">u2")
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 4, 0, 0, 0))
    own = chunk(b"iCCP", b"x\0\0" + zlib.compress(LINEAR_GREY))
    rows = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in samples)))
    data = b"\x89PNG\r\n\x1a\n" + head + own + rows + chunk(b"IEND", b"")

    def on_white(light: np.ndarray) -> np.ndarray:
        return 255 + (255 * light - 255) * (1 - X / 63)

    # Pillow has 8 bits of such greys, whose first step is 13 of 255 in sRGB.
    assert np.abs(read(data)[:, :, 0] - on_white(encoded(X / 63))).max() < 7
    assert np.abs(read(data)[:, :, 0] - on_white(encoded(X / 63))).mean() < 0.5
    assert np.array_equal(upright_pixels(Image.open(io.BytesIO(data))), read(data))
    assert np.abs(read(data, decoding=1)[:, :, 0] - on_white(X / 63)).max() < 3  # as it was


def test_transparency_is_laid_on_white_after_the_colours() -> None:
    clear = np.dstack([PIXELS, np.full((HEIGHT, WIDTH), 102, np.uint8)])
    found = read(encode(Image.fromarray(clear), "PNG", icc_profile=P3))
    assert np.abs(found - (255 + (p3_as_srgb(PIXELS) - 255) * 0.4)).mean() < 0.6


def test_a_palette_s_colours_are_followed() -> None:
    image = Image.new("P", (WIDTH, HEIGHT), 1)
    image.putpalette([0, 0, 0, 40, 200, 90])
    expected = p3_as_srgb(np.array([40, 200, 90]))
    for options in ({}, {"transparency": 0}):
        assert np.abs(read(encode(image, "PNG", icc_profile=P3, **options)) - expected).max() < 1


def test_ink_is_seen_as_its_profile_says() -> None:
    """Lightness L of CIE Lab is as ((L + 16) / 116)³ of light (CIE 15, 8.2.1.1), and L falls with black alone."""
    black = RAMP
    expected = 255 * encoded((((1 - black / 255) * 100 + 16) / 116) ** 3)
    inks = np.dstack([np.full_like(black, 10), np.full_like(black, 200), np.full_like(black, 30), black])
    dark = (1 - black / 255) * 100 < 8.2  # where the cube gives way to a line
    for form, options in (("TIFF", {}), ("JPEG", {"quality": 100, "subsampling": 0})):
        found = read(encode(Image.fromarray(inks, "CMYK"), form, icc_profile=ink(), **options))
        assert np.abs(found - expected[:, :, None])[~dark].mean() < 1
    assert np.abs(read(encode(Image.fromarray(inks, "CMYK"), "TIFF")) - expected[:, :, None]).mean() > 20


BROKEN = {
    "nothing": b"",
    "noise": bytes(range(256)) * 4,
    "cut": P3[:200],
    "tags that are nowhere": P3[:140] + bytes(60) + P3[200:],
    "for greys": LINEAR_GREY,
    "for ink": ink(),
    "of a space of its own": profile(b"6CLR", {b"kTRC": gamma(1)}),
    "a link": profile(b"RGB ", {}, b"link"),
    "steps without end": profile(b"RGB ", {b"D2B0": b"mpet" + bytes(8)}),
    "larger than any": P3 + bytes(MAX_PROFILE),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_a_profile_that_is_none_changes_nothing(name: str, form: str) -> None:
    data = encode(Image.fromarray(PIXELS), form, icc_profile=BROKEN[name])
    assert np.array_equal(read(data), PIXELS)


@pytest.mark.parametrize("own", [SRGB, PRIMARIES])
@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_srgb_s_own_profiles_cost_nothing(own: bytes, mode: str) -> None:
    assert colours_of(mode, own) is None
    assert colours_of(mode, None) is None


def test_a_few_profiles_are_remembered() -> None:
    for n in range(3 * KEPT):
        assert colours_of("L", profile(b"GRAY", {b"kTRC": gamma(1 + n / 16)})) is not None
    assert len(_known) <= KEPT


@pytest.mark.parametrize("at", range(0, len(P3), 3))
def test_a_changed_profile_is_no_error(at: int) -> None:
    for value in (0, 255):
        assert read(encode(Image.fromarray(PIXELS), "TIFF", icc_profile=P3[:at] + bytes([value]) + P3[at + 1 :])).shape == (
            48,
            64,
            3,
        )


def test_a_profile_that_unpacks_without_end_is_as_none() -> None:
    data = encode(Image.fromarray(PIXELS), "PNG")
    bomb = chunk(b"iCCP", b"x\0\0" + zlib.compress(P3 + bytes(50 << 20), 9))
    assert len(bomb) < 60_000
    assert np.array_equal(read(data[:33] + bomb + data[33:]), PIXELS)
    large = chunk(b"iCCP", b"x\0\0" + zlib.compress(struct.pack(">I", 2 << 20) + P3[4:] + bytes((2 << 20) - len(P3)), 9))
    assert np.abs(read(data[:33] + large + data[33:]) - p3_as_srgb(PIXELS)).mean() < 0.3  # of 2 MiB, which Pillow stops at
