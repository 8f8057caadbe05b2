"""A request's body is read here as it comes: bounded, decompressed, and given up when its client goes."""

import asyncio
from collections.abc import Mapping
from types import TracebackType

from starlette.types import Receive, Scope

from transformer.budget import BODY_WEIGHT, Charge
from transformer.errors import ClientGone, ContentUnsupported, RequestTooLarge, show
from transformer.rest.body import HEADER_LENGTH
from transformer.rest.compression import IDENTITY, decompress, largest_content, read_encoding
from transformer.rest.scope import Client, do_nothing
from transformer.rest.upload import FORM, is_upload

# Files that are no picture; what is neither of these nor an upload is read as JSON, whatever it is called.
NEVER_JSON = ("multipart/", "video/", "audio/", "application/pdf", "application/zip")
LENGTH_KEY = HEADER_LENGTH.lower()  # as `headers_of` has it

STEP_BYTES = 4 << 20  # charged ahead of a body that does not announce its length

Headers = Mapping[str, str]


def headers_of(scope: Scope) -> Headers:
    """A request's headers by their names in lower case; where a name came twice, the first one."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}


async def read_body(headers: Headers, receive: Receive, limit: int, charge: Charge) -> bytes | bytearray:
    """Read the whole body, and charge it: what is announced at once, all else as it comes.

    Raises RequestTooLarge and MemorySpent as soon as it is known, ContentUnsupported, EncodingBroken, ClientGone.
    """
    encoding = read_encoding(headers.get("content-encoding", ""))
    kind = headers.get("content-type", "").lower()
    if kind.startswith(NEVER_JSON) and LENGTH_KEY not in headers and not is_upload(kind):
        raise ContentUnsupported(f"Content-Type {show(kind)} is not read; send JSON, or one picture as image/* or {FORM}")
    announced = headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > limit:
        raise RequestTooLarge(f"the body has {announced} bytes, more than the limit of {limit}; send fewer or smaller images")
    charge.set(BODY_WEIGHT * (int(announced) if announced.isdigit() else 0))
    body: bytes | bytearray = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone(f"the client left after {len(body)} bytes of its request")
        chunk, more = message.get("body", b""), message.get("more_body", False)
        if not body:
            body = chunk
        elif isinstance(body, bytes):
            body = bytearray(body) + chunk
        else:
            body += chunk  # in place
        if len(body) > limit:
            raise RequestTooLarge(f"the body has more bytes than the limit of {limit}; send fewer or smaller images")
        if BODY_WEIGHT * len(body) > charge.size:  # of chunks, in steps
            charge.set(BODY_WEIGHT * (len(body) + min(len(body), STEP_BYTES)))
    if encoding == IDENTITY:
        return body
    charge.set(BODY_WEIGHT * len(body) + 2 * largest_content(len(body), limit))
    # In a thread, as a few KB can become many MB.
    content = await asyncio.to_thread(decompress, body, encoding, limit)
    charge.set(BODY_WEIGHT * (len(body) + len(content)))
    return content


class cancel_if_gone:  # noqa: N801 - a context manager, called as the function that it could be
    """Cancel the block's task when the client disconnects, and raise ClientGone in place of the cancellation."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("there is no task to cancel")
        if self._client.gone:
            raise ClientGone("the client left before its answer")
        self._task = task
        self._client.on_gone = task.cancel

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, _: TracebackType | None) -> None:
        self._client.on_gone = do_nothing
        if self._client.gone and isinstance(err, asyncio.CancelledError):
            self._task.uncancel()
            raise ClientGone("the client left before its answer") from err
