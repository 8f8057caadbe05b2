"""What a hostile client sends: damaged pictures, requests that contradict themselves, and connections that go wrong.

All of it comes out of a seed, so that what was found once is found again.
"""

import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("JPEG", {}),
    "progressive": ("JPEG", {"progressive": True}),
    "mpo": ("MPO", {"save_all": True, "append_images": [Image.new("RGB", (8, 8))]}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {}),
    "lossless": ("WEBP", {"lossless": True}),
    "bmp": ("BMP", {}),
    "tiff": ("TIFF", {}),
    "lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "deflate": ("TIFF", {"compression": "tiff_deflate"}),
}
SAMPLES = Path(__file__).parents[1] / "heic"
EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def encode(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


@cache
def whole_pictures() -> dict[str, bytes]:
    """The same noise in every format that is read; of HEIC, which nothing here writes, a gradient."""
    noise = Image.frombytes("RGB", (40, 30), Random(0).randbytes(40 * 30 * 3))
    written = {name: encode(noise, form, **options) for name, (form, options) in FORMS.items()}
    return {**written, "heic": (SAMPLES / "plain-420.heic").read_bytes(), "heic, clear": (SAMPLES / "clear.heic").read_bytes()}


def damaged_pictures(rng: Random) -> Iterator[bytes]:
    """Without end: whole pictures, each damaged in one to three ways."""
    pictures = list(whole_pictures().values())
    ways: list[Callable[[bytearray], None]] = [
        lambda data: data.__delitem__(slice(rng.randrange(len(data)), None)),
        lambda data: [data.__setitem__(rng.randrange(len(data)), rng.randrange(256)) for _ in range(rng.randint(1, 30))],
        lambda data: data.__setitem__(slice(0, 4), rng.choice(pictures)[:4]),
        lambda data: data.__setitem__(slice(at := rng.randrange(len(data)), at), rng.randbytes(rng.randint(1, 60))),
        lambda data: data.__delitem__(slice(at := rng.randrange(len(data)), at + rng.randint(1, 60))),
        lambda data: _put_extreme(data, rng),
        lambda data: data.extend(rng.choice(pictures)),
    ]
    while True:
        data = bytearray(rng.choice(pictures))
        for _ in range(rng.randint(1, 3)):
            if data:
                rng.choice(ways)(data)
        yield bytes(data)


def _put_extreme(data: bytearray, rng: Random) -> None:
    """A side of nothing or of billions, a length, an offset: where headers have their numbers, in either byte order."""
    form = rng.choice(("<H", ">H", "<I", ">I"))
    at = rng.randrange(max(1, min(len(data), 120) - 4))
    if at + struct.calcsize(form) <= len(data):
        struct.pack_into(form, data, at, rng.choice(EXTREMES) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF))


@cache
def crafted_pictures() -> dict[str, bytes]:
    """Pictures that are small and well made, and meant to cost much: minutes or gigabytes, if all of it were read as it asks."""
    png = encode(Image.new("L", (8, 8)), "PNG")
    tiff = encode(Image.new("L", (8, 8)), "TIFF")
    jpeg = encode(Image.new("L", (3000, 3000), 128), "JPEG", progressive=True)
    scan, end = jpeg.rindex(b"\xff\xda"), jpeg.rindex(b"\xff\xd9")
    text = png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(4 << 20), 9))
    profile = png_chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(4 << 20), 9))
    return {
        "png bomb": encode(Image.new("1", (20_000, 20_000)), "PNG"),
        "png without sides": png_of(0, 0),
        "png of billions": png_of(0xFFFFFFFF, 0xFFFFFFFF),
        "png of one long row": png_of(0x7FFFFFFF, 1),
        "png without pixels": png_of(2000, 2000),
        "png of texts": png[:33] + 40 * text + png[33:],
        "png of a profile": png[:33] + profile + png[33:],
        "png of chunks": png[:33] + 20_000 * png_chunk(b"prVt", b"") + png[33:],
        "png of frames": png[:33] + png_chunk(b"acTL", struct.pack(">II", 0xFFFFFFFF, 0)) + png[33:],
        "jpeg of scans": jpeg[:end] + 10_000 * jpeg[scan:end] + jpeg[end:],
        "jpeg of segments": jpeg[:2] + 5000 * b"\xff\xe1\0\x02" + jpeg[2:],
        "tiff in a circle": tiff_after(tiff, 8),
        "tiff of pages": tiff_pages(tiff, 40_000),
        "tiff of strips": tiff_strips(2_000_000),
        "webp of billions": b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff" * 6,
        "webp of nothing": b"RIFF\0\0\0\0WEBP",
        "bmp upside down": bmp_of(100, -(1 << 31)),
        "bmp without sides": bmp_of(0, 0),
        "bmp of billions": bmp_of(0x7FFFFFFF, 0x7FFFFFFF),
    }


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_of(width: int, height: int) -> bytes:
    """A PNG's header, and no more pixels than one."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + png_chunk(b"IDAT", zlib.compress(bytes(4))) + png_chunk(b"IEND", b"")


def bmp_of(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 58, 0, 0, 54, 40, width, height, 1, 24, 0, 4, 0, 0, 0, 0) + bytes(4)


def tiff_after(data: bytes, where: int) -> bytes:
    """A TIFF whose first directory says that the next one is there."""
    changed = bytearray(data)
    [directory] = struct.unpack_from("<I", data, 4)
    [entries] = struct.unpack_from("<H", data, directory)
    struct.pack_into("<I", changed, directory + 2 + 12 * entries, where)
    return bytes(changed)


def tiff_pages(data: bytes, count: int) -> bytes:
    """A TIFF of this many pages, all of the same pixels."""
    [directory] = struct.unpack_from("<I", data, 4)
    [entries] = struct.unpack_from("<H", data, directory)
    page = data[directory : directory + 2 + 12 * entries]
    size = len(page) + 4
    pages = (page + struct.pack("<I", len(data) + size * (n + 1) if n + 1 < count else 0) for n in range(count))
    return tiff_after(data, len(data)) + b"".join(pages)


def tiff_strips(height: int) -> bytes:
    """A grey TIFF of 5 pixels a row, each row a strip of its own, and all of them the same bytes."""
    sides = [(256, 4, 1, 5), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1), (278, 4, 1, 1)]
    at = 8 + 2 + 12 * (len(sides) + 2) + 4
    entries = sorted([*sides, (273, 3, height, at + 6), (279, 3, height, at + 6 + 2 * height)])
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + directory + bytes(6) + height * struct.pack("<H", at) + height * struct.pack("<H", 5)


def broken_connections(path: str, picture: bytes) -> list[tuple[bytes, bool]]:
    """What goes over a connection of its own, and whether it is worth waiting for an answer."""
    host = b"Host: x\r\n"
    post = b"POST " + path.encode() + b" HTTP/1.1\r\n" + host
    whole = post + b"Inference-Header-Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(picture) + picture
    bomb = zlib.compressobj(9, wbits=31)
    zeros = bomb.compress(bytes(80 << 20)) + bomb.flush()
    coded = post + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s"
    no_end = json.dumps({"inputs": "x" * 100}).encode()
    return [
        (whole[: len(whole) // 2], False),
        (whole, False),
        (post[:20], False),
        (post + b"Content-Length: 1000000000000\r\n\r\n", True),
        (post + b"Content-Length: 99999999999999999999999999\r\n\r\n", True),
        (post + b"Content-Length: -1\r\n\r\n", True),
        (post + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", True),
        (post + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", True),
        (post + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", True),
        (post + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n", True),
        (post + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", False),
        (post + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", True),
        (post + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}", True),
        (post + b"Content-Type: application/json; charset=utf-16\r\nContent-Length: 6\r\n\r\n\xff\xfe{\0}\0", True),
        (post + b"Content-Length: 5\r\n\r\n\xef\xbb\xbf{}", True),
        (coded % (b"gzip", len(zeros), zeros), True),
        (coded % (b"gzip", len(zeros) - 9, zeros[:-9]), True),
        (coded % (b"deflate", len(zeros), zeros), True),
        (coded % (b"gzip", 3, b"abc"), True),
        (coded % (b"gzip, gzip", 3, b"abc"), True),
        (coded % (b"br", 3, b"abc"), True),
        (coded % (b"\xff\xff", 3, b"abc"), True),
        (post + b"Inference-Header-Content-Length: 0, 0\r\nContent-Length: %d\r\n\r\n" % len(no_end) + no_end, True),
        (post + 2000 * b"X: y\r\n" + b"Content-Length: 2\r\n\r\n{}", True),
        (post + b"X: " + b"y" * 500_000 + b"\r\n\r\n", True),
        (post + b"X-Request-Id: \x80\xff\r\nContent-Length: 2\r\n\r\n{}", True),
        (post + b"X-Request-Id: " + b"i" * 10_000 + b"\r\nContent-Length: 2\r\n\r\n{}", True),
        (post + b"No colon\r\n\r\n", True),
        (post + b"X : y\r\n\r\n", True),
        (post + b"X: y\r\n folded\r\n\r\n", True),
        (b"GET /v2/%ff%00%0d%0aX:y HTTP/1.1\r\n" + host + b"\r\n", True),
        (b"GET /v2/\xff\xfe HTTP/1.1\r\n" + host + b"\r\n", True),
        (b"GET /" + b"a/" * 20_000 + b" HTTP/1.1\r\n" + host + b"\r\n", True),
        (b"GET /v2/models/../../v2 HTTP/1.1\r\n" + host + b"\r\n", True),
        (b"GET http://elsewhere/v2 HTTP/1.1\r\n" + host + b"\r\n", True),
        (b"GET http:// HTTP/1.1\r\n" + host + b"\r\n", True),
        (b"OPTIONS * HTTP/1.1\r\n" + host + b"\r\n", True),
        (b"CONNECT x:1 HTTP/1.1\r\n" + host + b"\r\n", True),
        (b"TRACE /v2 HTTP/1.1\r\n" + host + b"\r\n", True),
        (b"BREW /v2 HTTP/1.1\r\n" + host + b"\r\n", True),
        (b"GET /v2 HTTP/1.0\r\n\r\n", True),
        (b"GET /v2 HTTP/9.9\r\n\r\n", True),
        (b"GET /v2 HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + host + b"\r\n", True),
        (b"GET /v2 HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n" + host + b"\r\n", True),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", True),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(500), True),
        (5 * (b"GET /v2/health/live HTTP/1.1\r\n" + host + b"\r\n"), True),
        (b"\r\n\r\n\r\n" + b"GET /v2 HTTP/1.1\r\n" + host + b"\r\n", True),
    ]
