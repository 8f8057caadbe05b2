"""A request's body as it comes in: bounded, decompressed, and given up when its client goes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from transformer.compression import IDENTITY, check_encoding, decompress
from transformer.errors import ClientGone, ContentUnsupported, RequestTooLarge, show
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
    size = 0
    try:
        async for chunk in request.stream():
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise RequestTooLarge(f"the body has more bytes than the limit of {limit}; send fewer or smaller images")
    except ClientDisconnect as err:
        raise ClientGone(f"the client left after {size} bytes of its request") from err
    body = b"".join(chunks)
    # In a thread, as a few KB can become many MB.
    return body if encoding == IDENTITY else await asyncio.to_thread(decompress, body, encoding, limit)


@asynccontextmanager
async def unless_gone(receive: Receive) -> AsyncIterator[None]:
    """Cancel what runs inside when the client disconnects. Raises ClientGone in its place."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("there is no task to cancel")
    gone = False

    async def watch() -> None:
        nonlocal gone
        # The body was read, so the only message to come is the disconnect.
        await receive()
        gone = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError as err:
        if not gone:
            raise
        task.uncancel()
        raise ClientGone("the client left before its answer") from err
    finally:
        watcher.cancel()
