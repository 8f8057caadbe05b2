"""The inputs with which servers of version 0.1 were ended, slowed down or confused, as they were reported."""

import gzip
import struct
import zlib
from collections.abc import Callable

from tests.integration.drawn import LIVE, MIB, POST, START, Draw, Http, Raw, Rpc, field, paint, send_picture
from tests.integration.hostile import png_chunk
from tests.volume import SOAK

WEBP_34 = bytes.fromhex("524946461a000000574542505650384c0d0000002f7ffe0613071011118888fe0700")  # 16,000 x 3,100, without loss
H2C = POST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
WAYS = ("upload", "gRPC") if SOAK else ("upload",)


def reported() -> list[Draw]:
    """All of them, each once, or once over each protocol."""
    return [*_json(), *_messages(), *_connections(), *_pictures()]


def _json() -> list[Draw]:
    pixels = b'{"inputs":[{"name":"pixels","datatype":"UINT8","shape":[1,3000,3400,3],"data":[%s]}]}'
    texts: dict[str, Callable[[], bytes]] = {
        "pixels, 31 million elements": lambda: pixels % b",".join([b"7"] * 30_600_000),
        "20 million lists": lambda: b'{"inputs":[' + b",".join([b"[]"] * 20_000_000) + b"]}",
        "20 million objects": lambda: b'{"inputs":[' + b",".join([b"{}"] * 20_000_000) + b"]}",
        "20 million texts that nobody reads": lambda: b'{"x":[' + b",".join([b'""'] * 20_000_000) + b"]}",
    }
    head = "Content-Encoding: gzip\r\n"
    return [
        *(Http(f"gzip: {told}", head, lambda text=text: gzip.compress(text(), 6)) for told, text in texts.items()),
        *(Http(told, "", text) for told, text in texts.items()),
    ]


def _messages() -> list[Draw]:
    infer = "ModelInfer"
    repeated: list[tuple[str, int, bytes]] = [
        ("inputs", 2, b"\x2a\x00"),
        ("inputs", 4, b"\x2a\x00"),
        ("inputs", 62, b"\x2a\x00"),
        ("raw contents", 62, b"\x3a\x00"),
        ("parameters", 27, b"\x22\x00"),
    ]
    return [
        *(
            Rpc(f"{mib} MiB of empty {told}", infer, lambda m=mib, u=unit: [u * (m * MIB // 2)], True)
            for told, mib, unit in repeated
        ),
        Rpc("62 MiB of empty elements", infer, lambda: [START + field(5, field(5, b"\x42\x00" * (31 * MIB)))], True),
        Rpc("62 MiB for ServerLive", "ServerLive", lambda: [b"\x22\x00" * (31 * MIB)], True),
        Rpc("a stream of 62 MiB", "ModelStreamInfer", lambda: [b"\x2a\x00" * (31 * MIB)] * 2, True),
        Rpc("65 MiB", infer, lambda: [bytes(65 * MIB)]),
        Rpc("200 MiB of zeros, compressed", infer, lambda: [bytes(200 * MIB)], True),
    ]


def _connections() -> list[Draw]:
    chunks = POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    live = LIVE * (6 * MIB // len(LIVE))
    return [
        Raw("Upgrade: h2c", lambda: H2C + b"Content-Length: 2\r\n\r\n{}", waits=True),
        Raw(
            "Upgrade: h2c, with a request for a body", lambda: H2C + b"Content-Length: %d\r\n\r\n" % len(LIVE) + LIVE, waits=True
        ),
        Raw("a trailer of 64 MB", lambda: chunks + b"X: " + b"y" * (64 * MIB), waits=False),
        Raw("trailers of 32 MB", lambda: chunks + b"".join(b"X-%07d: y\r\n" % n for n in range(32 * MIB // 14)), waits=False),
        Raw("2,000 trailers of 60 KiB", lambda: chunks + (b"X: " + b"y" * (60 << 10) + b"\r\n") * 2000, waits=False),
        Raw("6 MB of requests in a row", lambda: live, waits=True),
        Raw("22 MB of requests in a row, nothing read", lambda: live * 4, waits=False),
        Raw("70 MB announced", lambda: POST + b"Expect: 100-continue\r\nContent-Length: 73400320\r\n\r\n", waits=True),
        Raw("65 MB in chunks", lambda: chunks[:-12] + (b"100000\r\n" + bytes(MIB) + b"\r\n") * 66, waits=True),
        Raw("half a head", lambda: POST, waits=False),
        Raw("half a body", lambda: POST + b"Content-Length: 99999\r\n\r\n" + bytes(500), waits=False),
        Raw("a chunk, and no more", lambda: POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", waits=False),
    ]


def _pictures() -> list[Draw]:
    made: dict[str, Callable[[], bytes]] = {
        **{
            f"{form} {width} x {height}": lambda f=form, w=width, h=height: paint(f, "RGB", w, h, noisy=False, frames=1)
            for form, width, height in [
                ("PNG", 1_000_000, 1),
                ("PNG", 4_000_000, 1),
                ("PNG", 49_000_000, 1),
                ("PNG", 1, 49_000_000),
                ("PNG", 400_000, 100),
                ("TIFF", 1_000_000, 1),
                ("BMP", 1_000_000, 1),
            ]
        },
        "WebP of 34 bytes": lambda: WEBP_34,
        "TIFF RGBA 7000 x 7000": lambda: paint("TIFF deflate", "RGBA", 7000, 7000, noisy=False, frames=1),
        "PNG RGBA 5000 x 5000, 16 bits, interlaced": lambda: _interlaced(5000),
        "PNG with palette and transparency": lambda: _palette(7000),
        "JPEG CMYK progressive 6000 x 6000": lambda: paint("JPEG progressive", "CMYK", 6000, 6000, noisy=False, frames=1),
    }
    pixels = field(1, b"pixels") + field(2, b"UINT8") + b"\x18\x01\x18\x01\x18" + b"\x80\x89\x7a" + b"\x18\x03"
    strip = Rpc("pixels 1 x 2,000,000", "ModelInfer", lambda: [START + field(5, pixels) + field(7, bytes(6_000_000))])
    return [*(send_picture(told, data, way) for told, data in made.items() for way in WAYS), strip]


def _interlaced(side: int) -> bytes:

    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 16, 6, 0, 0, 1))
    rows = zlib.compress(bytes(side * side * 8 + 2 * side), 1)
    return b"\x89PNG\r\n\x1a\n" + head + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")


def _palette(side: int) -> bytes:

    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 3, 0, 0, 0))
    colours = png_chunk(b"PLTE", bytes(768)) + png_chunk(b"tRNS", bytes(256))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + colours
        + png_chunk(b"IDAT", zlib.compress(bytes(side * (side + 1)), 1))
        + png_chunk(b"IEND", b"")
    )
