"""What hypothesis draws for the soak: JSON, messages, pictures and connections that are meant to cost a server much.

A draw is small, and made into bytes when it is sent: thousands of them fit into memory, and a failure's text says what was sent.
"""

import base64
import gzip
import io
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Any

from hypothesis import strategies as st
from PIL import Image

from tests.integration.hostile import broken_connections, crafted_pictures, damaged_pictures, png_chunk
from tests.volume import SOAK

MIB = 1 << 20
MODEL = "digits"
INFER = f"/v2/models/{MODEL}/infer"
# What one draw may come to, in bytes and pixels: in a soak up to and beyond the server's own limits.
MOST_CONTENT, MOST_PIXELS = (66 * MIB, 64_000_000) if SOAK else (24 * MIB, 12_000_000)


@dataclass(frozen=True)
class Http:
    """A whole request of its own connection. `body`: makes its bytes."""

    told: str
    headers: str
    body: Callable[[], bytes]


@dataclass(frozen=True)
class Rpc:
    """A gRPC call, or a stream of them."""

    told: str
    method: str
    bodies: Callable[[], list[bytes]]
    gzip: bool = False


@dataclass(frozen=True)
class Raw:
    """Bytes of a connection, after which its client leaves, perhaps in the middle. `waits`: for the begin of an answer."""

    told: str
    data: Callable[[], bytes]
    waits: bool


Draw = Http | Rpc | Raw


def sizes(most: int, least: int = 1) -> st.SearchStrategy[int]:
    """Sizes of which each power of two has as many."""
    steps = 8 * (most // least).bit_length()
    return st.integers(0, steps).map(lambda step: min(most, int(least * 2 ** (step / 8))))


# JSON: what is repeated or nested, where it stands, how it is coded.

UNITS = [b"[]", b"{}", b'""', b"7", b"null", b"-1e300", b"[[[[]]]]", b"[7,7,7]", b'{"a":{}}', b'"' + b"A" * 400 + b'"']
TENSOR = b'{"inputs":[{"name":"%s","datatype":"%s","shape":%s,"data":[%%s]}]}'
PLACES = {
    "inputs": b'{"inputs":[%s]}',
    "data": TENSOR % (b"image", b"BYTES", b"[1]"),
    "pixels": TENSOR % (b"pixels", b"UINT8", b"[1,1000,1000,3]"),
    "long": TENSOR % (b"pixels", b"UINT8", b"[1,1,2000000,3]"),
    "outputs": b'{"inputs":[],"outputs":[%s]}',
    "parameters": b'{"inputs":[],"parameters":{"x":[%s]}}',
    "nobody": b'{"x":[%s]}',
    "id": b'{"id":[%s],"inputs":[]}',
    "alone": b"[%s]",
}
CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda text: text,
    "gzip": lambda text: gzip.compress(text, 1),
    "x-gzip": lambda text: gzip.compress(text, 1),
    "deflate": lambda text: zlib.compress(text, 1),
}
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "whole": lambda data: data,
    "cut": lambda data: data[: len(data) * 2 // 3],
    "longer": lambda data: data + b"\0" * 99,
    "twice": lambda data: data + data[: 4 * MIB],
}


@st.composite
def json_bodies(draw: st.DrawFn) -> Http:
    """Repeated values and nesting, plain or compressed."""
    coding, damage = draw(st.sampled_from(["", "gzip", "gzip", "deflate", "x-gzip"])), draw(st.sampled_from([*DAMAGES, "whole"]))
    most = MOST_CONTENT if coding else MOST_CONTENT // 8
    place, unit = draw(st.sampled_from(list(PLACES))), draw(st.sampled_from(UNITS))
    deep = draw(st.sampled_from([b"", b"", b"[", b'{"a":']))
    closed = draw(st.booleans())
    size = draw(sizes(most))

    def text() -> bytes:
        if deep:
            count = size // len(deep)
            inner = deep * count + (b"7" + (b"]" if deep == b"[" else b"}") * count if closed else b"")
        else:
            inner = b",".join([unit] * (size // (len(unit) + 1) + 1))
        return PLACES[place] % inner

    told = f"JSON: {place}, {size} bytes of {(deep or unit)[:20]!r}{'' if closed else ' (open)'}, {coding or 'plain'}, {damage}"
    return Http(told, f"Content-Encoding: {coding}\r\n" if coding else "", lambda: DAMAGES[damage](CODINGS[coding](text())))


# Messages: fields repeated or nested, in a message or in its parts.


def field(number: int, content: bytes) -> bytes:
    """A field of bytes, text or a message on the wire."""
    size, length = len(content), b""
    while size > 0x7F:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


METHODS = {
    "ModelInfer": 10,
    "ModelStreamInfer": 6,
    "ServerLive": 1,
    "ServerReady": 1,
    "ModelReady": 1,
    "ServerMetadata": 1,
    "ModelMetadata": 1,
    "ModelConfig": 1,
    "ModelStatistics": 1,
    "RepositoryIndex": 1,
    "RepositoryModelLoad": 1,
    "SystemSharedMemoryRegister": 1,
}
# Of a request: its own fields (1 to 7), those of a tensor, of its contents, of a parameter; a field that nobody knows; a group.
REPEATED = {
    **{f"empty {number}": bytes([number << 3 | 2, 0]) for number in (1, 2, 3, 4, 5, 6, 7, 15)},
    "entry": field(4, field(1, b"k") + field(2, b"\x08\x01")),
    "tensor": field(5, field(1, b"image") + field(2, b"BYTES")),
    "contents": field(5, field(5, field(8, b""))),
    "raw": field(7, bytes(100)),
    "varint": b"\x78\x01",
    "group": b"\x0b",
    "end of a group": b"\x0c",
}
INNER = {  # what a tensor's contents hold
    "elements": b"\x42\x00",
    "numbers": b"\x20\x07",
    "packed numbers": field(4, b"\x07" * 1000),
    "packed bools": field(1, b"\x01" * 1000),
    "packed floats": field(6, bytes(4000)),
    "unknown": b"\x7a\x00",
}
START = field(1, MODEL.encode())


@st.composite
def messages(draw: st.DrawFn) -> Rpc:
    """Fields that come many times, alone or in a tensor's contents, in one call or in a stream of some."""
    method = draw(st.sampled_from([name for name, often in METHODS.items() for _ in range(often)]))
    outer, inner = draw(st.sampled_from(list(REPEATED))), draw(st.none() | st.sampled_from(list(INNER)))
    packed = draw(st.booleans())
    unit = REPEATED[outer] if inner is None else INNER[inner]
    size, many = draw(sizes(MOST_CONTENT)), draw(st.integers(1, 6)) if method == "ModelStreamInfer" else 1
    cut = draw(st.sampled_from([0, 0, 0, 1, 7]))

    def body() -> bytes:
        content = unit * (size // many // len(unit) + 1)
        if inner is not None:
            content = field(5, field(1, b"image") + field(2, b"BYTES") + field(3, b"\x01") + field(5, content))
        elif outer == "group" and packed:
            content += b"\x0c" * len(content)
        return START + content[: len(content) - cut]

    told = f"message: {method}, {many} times {size // many} bytes of {inner or outer}, {cut} cut off"
    return Rpc(told, method, lambda: [body()] * many, draw(st.booleans()))


# Pictures: sides, modes and formats, whole or damaged, in each of the ways in which a picture may come.

FORMS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "PNG": (("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), {"compress_level": 1}),
    "JPEG": (("L", "RGB", "CMYK"), {}),
    "JPEG progressive": (("L", "RGB", "CMYK"), {"progressive": True, "subsampling": 0}),
    "WEBP": (("RGB", "RGBA"), {"method": 0}),
    "WEBP lossless": (("RGB", "RGBA"), {"method": 0, "lossless": True}),
    "GIF": (("L", "P"), {}),
    "TIFF": (("1", "L", "RGB", "RGBA", "CMYK", "I;16", "F"), {}),
    "TIFF deflate": (("1", "L", "RGB", "RGBA", "CMYK", "I;16"), {"compression": "tiff_deflate"}),
    "TIFF lzw": (("L", "RGB", "RGBA"), {"compression": "tiff_lzw"}),
    "TIFF packbits": (("1", "L", "RGB"), {"compression": "packbits"}),
    "BMP": (("1", "L", "P", "RGB", "RGBA"), {}),
}
LONGEST = {"WEBP": 16_383, "JPEG": 65_500, "GIF": 65_535}
SEVERAL = ("PNG", "WEBP", "GIF", "TIFF")
NOISE = Random(0).randbytes(1 << 16)
WAYS = ("upload", "raw", "form", "binary", "JSON", "gRPC", "gRPC contents", "stream")


def paint(form: str, mode: str, width: int, height: int, *, noisy: bool, frames: int) -> bytes:
    """Encode a picture of one colour, or of noise that repeats. `frames`: of an animation, or pages."""
    if noisy and mode in ("L", "RGB", "RGBA"):
        size = width * height * len(mode)
        image = Image.frombytes(mode, (width, height), (NOISE * (size // len(NOISE) + 1))[:size])
    else:
        image = Image.new(mode, (width, height))
    several = {"save_all": True, "append_images": [image.copy()] * (frames - 1)} if frames > 1 else {}
    out = io.BytesIO()
    image.save(out, form.split()[0], **FORMS[form][1], **several)
    return out.getvalue()


@st.composite
def sides(draw: st.DrawFn, longest: int) -> tuple[int, int]:
    """A width and a height, as unlike as they may be."""
    long = draw(sizes(longest))
    short = draw(sizes(max(1, min(longest, MOST_PIXELS // long))))
    return (long, short) if draw(st.booleans()) else (short, long)


@st.composite
def drawn_pictures(draw: st.DrawFn) -> tuple[str, Callable[[], bytes]]:
    """A picture that Pillow writes."""
    form = draw(st.sampled_from(list(FORMS)))
    kind = form.split()[0]
    mode = draw(st.sampled_from(FORMS[form][0]))
    width, height = draw(sides(LONGEST.get(kind, 600_000)))
    # Of noise, Pillow writes no progressive JPEG: its buffer is too small for one.
    noisy = draw(st.booleans()) and width * height <= 4_000_000 and form != "JPEG progressive"
    frames = draw(st.integers(2, 20)) if kind in SEVERAL and width * height < 250_000 and draw(st.integers(0, 4)) == 0 else 1
    told = f"{form} {mode} {width} x {height}, {frames} frames{', noise' if noisy else ''}"
    return told, lambda: paint(form, mode, width, height, noisy=noisy, frames=frames)


@st.composite
def png_bombs(draw: st.DrawFn) -> tuple[str, Callable[[], bytes]]:
    """A PNG of each depth and colour, interlaced or not, which has all of its rows, some, or none, or says it has frames."""
    depth, colour = draw(
        st.sampled_from([(1, 0), (2, 3), (8, 0), (16, 0), (8, 2), (16, 2), (8, 3), (8, 4), (16, 4), (8, 6), (16, 6)])
    )
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    width, height = draw(sides(2_000_000))
    interlaced, chunks = draw(st.booleans()), draw(st.sampled_from([0, 0, 0, 10, 20_000]))
    part, frames = draw(st.sampled_from([0.0, 0.3, 1.0, 1.1])), draw(st.booleans())

    def encode() -> bytes:
        rows = 2 * (height + 16) if interlaced else height
        deflated = zlib.compress(bytes(int(part * min(MOST_PIXELS * 2, rows + width * height * channels * depth // 8 + 64))), 1)
        head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced)))
        more = (png_chunk(b"PLTE", bytes(12)) + png_chunk(b"tRNS", b"\0")) if colour == 3 else b""
        more += (png_chunk(b"acTL", struct.pack(">II", 1000, 0)) if frames else b"") + chunks * png_chunk(b"prVt", b"")
        return b"\x89PNG\r\n\x1a\n" + head + more + png_chunk(b"IDAT", deflated) + png_chunk(b"IEND", b"")

    return f"PNG by hand {width} x {height}, {depth} bits, colour {colour}, {interlaced=}, {chunks=}, {part=}, {frames=}", encode


def _damaged(seed: int) -> tuple[str, Callable[[], bytes]]:
    return f"damaged picture {seed}", lambda: next(islice(damaged_pictures(Random(seed)), 1))


def _crafted(name: str) -> tuple[str, Callable[[], bytes]]:
    return name, lambda: crafted_pictures()[name]


@st.composite
def pictures(draw: st.DrawFn) -> Draw:
    """A picture, whole or cut, in one of the ways in which one may come; in most of them several times."""
    told, make = draw(
        drawn_pictures()
        | drawn_pictures()
        | png_bombs()
        | st.integers(0, 1 << 32).map(_damaged)
        | st.sampled_from(sorted(crafted_pictures())).map(_crafted)
    )
    kept = draw(st.sampled_from([1.0, 1.0, 1.0, 0.5, 0.99]))
    way, many, explain = draw(st.sampled_from(WAYS)), draw(st.sampled_from([1, 1, 1, 2, 5])), draw(st.booleans())

    def data() -> bytes:
        whole = make()
        return whole[: int(kept * len(whole))][: 20 * MIB]

    return send_picture(f"{told}, {kept:.0%} of it", data, way, many, explain=explain)


def send_picture(told: str, data: Callable[[], bytes], way: str, many: int = 1, *, explain: bool = False) -> Draw:
    """A request with a picture. `many`: how often it is in it, where the way has room for several."""
    told = f"{told}, {many} times by {way}"
    tensor: dict[str, Any] = {"name": "image", "datatype": "BYTES", "shape": [many]}
    if way == "upload":
        return Http(told, "Content-Type: image/png\r\n", data)
    if way == "raw":
        return Http(told, "Inference-Header-Content-Length: 0\r\n", data)
    if way == "form":
        part = b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n%s\r\n--b--\r\n'
        return Http(told, "Content-Type: multipart/form-data; boundary=b\r\n", lambda: part % data())
    if way == "JSON":
        return Http(told, "", lambda: json.dumps({"inputs": [{**tensor, "data": [_base64(data())] * many}]}).encode())
    if way == "binary":
        # The JSON's length is part of the head: padded, it is known before the picture is made.
        def body() -> bytes:
            raw = _elements(data(), many)
            fields = {"inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}], "parameters": {"explain": explain}}
            return json.dumps(fields).encode().ljust(400) + raw

        return Http(told, "Inference-Header-Content-Length: 400\r\n", body)

    def message() -> bytes:
        start = field(1, b"image") + field(2, b"BYTES") + field(3, bytes([many]))
        if way == "gRPC contents":
            return START + field(5, start + field(5, field(8, data()) * many))
        return START + field(5, start) + field(7, _elements(data(), many))

    if way == "stream":
        return Rpc(told, "ModelStreamInfer", lambda: [message()] * 3)
    return Rpc(told, "ModelInfer", lambda: [message()])


def _elements(data: bytes, many: int) -> bytes:
    return (len(data).to_bytes(4, "little") + data) * min(many, max(1, 61 * MIB // (len(data) + 4)))


def _base64(data: bytes) -> str:

    return base64.b64encode(data).decode()


@st.composite
def pixel_tensors(draw: st.DrawFn) -> Http:
    """`pixels` as they are, of extreme sides, of which all have come or not."""
    width, height = draw(sides(4_000_000))
    many, short = draw(st.integers(1, 3)), draw(st.sampled_from([0, 0, 1]))

    def body() -> bytes:
        raw = bytes(max(0, min(60 * MIB, many * width * height * 3) - short))
        tensor = {"name": "pixels", "datatype": "UINT8", "shape": [many, height, width, 3]}
        return json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}]}).encode().ljust(400) + raw

    return Http(f"pixels, {many} times {width} x {height}, {short} missing", "Inference-Header-Content-Length: 400\r\n", body)


# Connections: chunks, trailers, requests in a row, heads, and clients that leave.

POST = f"POST {INFER} HTTP/1.1\r\nHost: x\r\n".encode()
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
BROKEN = broken_connections(INFER, b"\xff\xd8")


@st.composite
def chunked(draw: st.DrawFn) -> Raw:
    """A chunked body: chunks of each size, with extensions, and trailers of one long line or of many."""
    size, total = draw(sizes(1 << 16)), draw(sizes(2 * MIB))
    extension, trailers = draw(sizes(1 << 17)), draw(sizes(MOST_CONTENT // 4))
    long, ends = draw(st.booleans()), draw(st.booleans())

    def data() -> bytes:
        chunk = b"%x;e=%s\r\n%s\r\n" % (size, b"x" * min(extension, size), b" " * size)
        lines = b"X: " + b"y" * trailers + b"\r\n" if long else b"X-%d: y\r\n" % size * (trailers // 9)
        head = POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        return head + chunk * min(total // size + 1, 50_000) + b"0\r\n" + lines + (b"\r\n" if ends else b"")

    return Raw(f"chunks of {size}, {total} in all, trailers {trailers} ({long=}, {ends=})", data, waits=ends)


@st.composite
def pipelined(draw: st.DrawFn) -> Raw:
    """Requests in a row, of which the client reads some answers or none."""
    count, waits = draw(sizes(60_000 if SOAK else 4_000)), draw(st.booleans())
    picture = draw(st.booleans())
    one = POST + b"Inference-Header-Content-Length: 0\r\nContent-Length: 2\r\n\r\n\xff\xd8" if picture else LIVE
    return Raw(f"{count} requests in a row, {picture=}, {waits=}", lambda: one * count, waits)


@st.composite
def heads(draw: st.DrawFn) -> Raw:
    """A head with fields that say something about its body or its connection, right or wrong, and some of the body."""
    lines = draw(
        st.lists(
            st.sampled_from(
                [
                    "Upgrade: h2c",
                    "Connection: Upgrade, HTTP2-Settings",
                    "Expect: 100-continue",
                    "Content-Length: 1000",
                    "Content-Length: 67108865",
                    "Transfer-Encoding: chunked",
                    "Transfer-Encoding: gzip, chunked",
                    "Content-Encoding: gzip",
                    "Inference-Header-Content-Length: 99999999",
                    "Content-Type: multipart/form-data; boundary=" + "b" * 70,
                    "Host: y",
                    "X: " + "y" * 70_000,
                    "Connection: close",
                ]
            ),
            max_size=5,
        )
    )
    body = draw(st.sampled_from([b"", LIVE, LIVE * 100, b"--" + b"b" * 70, bytes(900)]))
    head = POST + "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"
    return Raw(f"head {[line[:60] for line in lines]}, body {body[:20]!r}", lambda: head + body, waits=False)


@st.composite
def broken(draw: st.DrawFn) -> Raw:
    """One of those connections that the other tests know."""
    number = draw(st.integers(0, len(BROKEN) - 1))
    return Raw(f"broken connection {number}: {BROKEN[number][0][:80]!r}", lambda: BROKEN[number][0], BROKEN[number][1])


KINDS: dict[str, tuple[float, st.SearchStrategy[Draw]]] = {
    "JSON": (0.22, json_bodies()),
    "messages": (0.22, messages()),
    "pictures": (0.34, pictures()),
    "pixels": (0.04, pixel_tensors()),
    "connections": (0.18, st.one_of(chunked(), pipelined(), heads(), broken())),
}
"""What is drawn, and its share of all."""
