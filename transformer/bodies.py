"""A request's body as it comes in: bounded, decompressed, and given up when its client goes."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import Request

from transformer.compression import IDENTITY, check_encoding, decompress
from transformer.errors import ClientGone, ContentUnsupported, RequestTooLarge, show
from transformer.http_protocol import Client, nothing
from transformer.rest import HEADER_LENGTH

# What a client sends when it means the file itself; everything else is read as JSON, whatever it is called.
NEVER_JSON = ("image/", "multipart/", "video/", "audio/", "application/pdf", "application/zip")


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body. Raises RequestTooLarge as soon as it is known, ContentUnsupported, EncodingBroken, ClientGone."""
    encoding = request.headers.get("content-encoding", IDENTITY).lower()
    check_encoding(encoding)
    kind = request.headers.get("content-type", "").lower()
    if kind.startswith(NEVER_JSON) and HEADER_LENGTH not in request.headers:
        raise ContentUnsupported(
            f"Content-Type {show(kind)} is not read; send JSON, or the image alone with the header {HEADER_LENGTH}: 0"
        )
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > limit:
        raise RequestTooLarge(f"the body has {announced} bytes, more than the limit of {limit}; send fewer or smaller images")
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone(f"the client left after {size} bytes of its request")
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        more = message.get("more_body", False)
        if size > limit:
            raise RequestTooLarge(f"the body has more bytes than the limit of {limit}; send fewer or smaller images")
    body = b"".join(chunks)
    # In a thread, as a few KB can become many MB.
    return body if encoding == IDENTITY else await asyncio.to_thread(decompress, body, encoding, limit)


@contextmanager
def unless_gone(client: Client) -> Iterator[None]:
    """Cancel what runs inside when the client disconnects. Raises ClientGone in its place."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("there is no task to cancel")
    if client.gone:
        raise ClientGone("the client left before its answer")
    client.on_gone = task.cancel
    try:
        yield
    except asyncio.CancelledError as err:
        if not client.gone:
            raise
        task.uncancel()
        raise ClientGone("the client left before its answer") from err
    finally:
        client.on_gone = nothing
