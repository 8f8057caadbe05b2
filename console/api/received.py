"""One picture of a request, in memory that is lent for as long as it is asked about."""

import io
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from fastapi import Request

from console.access.keys import Key
from console.api import uploads
from console.api.uploads import Limits
from console.state import Console

COPIES = 4
"""Of a picture, while it is asked about: as it came, in the request to the server, and twice while that is written [30 uploads of
15 MiB took 115 MiB where two of them were under way]."""
Received = tuple[bytes, Mapping[str, str]]
"""A picture, and the fields of its form."""


async def as_it_is(request: Request, limits: Limits) -> Received:
    """Read a body that is the picture. Raises UploadTooLarge, UploadSlow, UploadInvalid."""
    sink = io.BytesIO()
    await uploads.read_body(request, sink, limits)
    return sink.getvalue(), {}


@asynccontextmanager
async def received(
    request: Request,
    console: Console,
    key: Key,
    limits: Limits,
    read: Callable[[Request, Limits], Awaitable[Received]] = as_it_is,
    form_bytes: int = 0,
) -> AsyncIterator[Received]:
    """Read a picture once there is room for it, which is held within the block; its bytes count against the key's minute.

    `form_bytes`: that a form may have beside it. Raises LineFull, LimitReached, UploadTooLarge, and what `read` raises.
    """
    uploads.check_declared(request, limits, form_bytes)
    declared = uploads.declared_size(request)
    async with console.room.take(COPIES * (limits.size if declared is None else declared), key.holder):
        found = await read(request, limits)
        if declared is None:  # else it was counted with the head
            console.keys.take(key, 0, len(found[0]))
        yield found
