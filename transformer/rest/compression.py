"""Content codings of HTTP bodies (RFC 9110, section 8.4.1): compressed requests are read, and answers compressed on demand."""

import zlib

from transformer.errors import CodingUnsupported, EncodingBroken, RequestTooLarge, show

IDENTITY = "identity"
# zlib's window bits: 15 is the zlib format, which HTTP calls deflate; 16 more is gzip's.
WINDOW_BITS = {"gzip": 31, "deflate": 15}
# Below it a body is a packet or two with or without compression.
WORTH_BYTES = 2048
LEVEL = 1  # half of the bytes at a fifth of the time of zlib's default
# A compressed body may become so much longer, and any body so long. JSON of an image in base64 becomes 1.3 times as long, a
# picture of one colour as a list of pixels up to a thousand times.
MAX_RATIO = 100
FREE_BYTES = 4 << 20
ALIASES = {"": IDENTITY, "x-gzip": "gzip"}  # RFC 9110, 8.4.1.3
ACCEPTED = ", ".join(WINDOW_BITS)
"""What an answer of 415 says in Accept-Encoding (RFC 9110, 15.5.16)."""


def read_encoding(header: str) -> str:
    """Read a Content-Encoding. Raises ContentUnsupported for one that is not read."""
    encoding = header.strip().lower()
    encoding = ALIASES.get(encoding, encoding)
    if encoding != IDENTITY and encoding not in WINDOW_BITS:
        raise CodingUnsupported(f"Content-Encoding {show(encoding)} is not read; send {ACCEPTED} or the body as it is")
    return encoding


def decompress(body: bytes | bytearray, encoding: str, limit: int) -> bytes:
    """Decompress a body in one of WINDOW_BITS' codings, without ever holding more than `limit` bytes of its content.

    Raises RequestTooLarge, EncodingBroken.
    """
    stream = zlib.decompressobj(WINDOW_BITS[encoding])
    most = largest_content(len(body), limit)
    try:
        content = stream.decompress(body, most + 1)
    except zlib.error as err:
        raise EncodingBroken(f"the body of {len(body)} bytes is not {encoding}: {err}") from err
    if len(content) > most:
        why = f"the limit of {limit}" if most == limit else f"{MAX_RATIO} times its {len(body)} bytes"
        raise RequestTooLarge(f"the body, decompressed, has more bytes than {why}; send fewer or smaller images")
    # One stream, as all clients make it. gzip could be several in a row, and millions of empty ones take minutes to read.
    if not stream.eof or stream.unused_data:
        raise EncodingBroken(f"the body of {len(body)} bytes is not one whole {encoding} stream")
    return content


def largest_content(size: int, limit: int) -> int:
    """How many bytes a compressed body of `size` may become."""
    return min(limit, max(FREE_BYTES, MAX_RATIO * size))


def choose_encoding(accept: str) -> str:
    """Choose the coding that an Accept-Encoding header prefers among WINDOW_BITS; identity for none of them."""
    weights: dict[str, float] = {}
    for item in accept.lower().split(","):
        coding, _, parameter = item.partition(";")
        try:
            weights[coding.strip()] = float(parameter.strip().removeprefix("q=") or 1)
        except ValueError:
            continue  # a weight that is no number: as if the coding were not there
    best = max(WINDOW_BITS, key=lambda coding: weights.get(coding, 0.0))
    return best if weights.get(best, 0.0) > 0 else IDENTITY


def compress(body: bytes, encoding: str) -> bytes:
    """Compress a body in the given coding."""
    stream = zlib.compressobj(LEVEL, wbits=WINDOW_BITS[encoding])
    return stream.compress(body) + stream.flush()
