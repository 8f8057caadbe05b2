"""`POST /batch_predict`: many pictures, as files of a form or in a ZIP, each answered as soon as those before it are."""

import asyncio
import io
import tempfile
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, BinaryIO, cast

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from console.access.asking import Allowed
from console.access.keys import Key
from console.api import uploads
from console.api.asked import Asked
from console.api.documents import ASKING, FORM, batch_body, documented
from console.api.items import MEDIA, WRITERS, Form, Item
from console.api.overlays import wanted
from console.api.received import COPIES
from console.api.regions import Region
from console.api.uploads import Limits, Place
from console.api.zips import DIRECTORY_BYTES, MARKS, Zip, ZipLimits
from console.errors import (
    ContentUnsupported,
    LineFull,
    ModelUnknown,
    NotAcceptable,
    StorageFull,
    UploadInvalid,
    UploadSlow,
    UploadTooLarge,
    ZipRefused,
    told,
)
from console.log import get_logger
from console.room import Room
from console.servers.models import ItemError, Question
from console.settings import MIB
from console.state import Console

log = get_logger(__name__)

ZIPS = ("application/zip", "application/x-zip-compressed")
READ = "a form (multipart/form-data) of files, or a ZIP (application/zip)"
ERRORS = (
    *ASKING, ModelUnknown, LineFull, UploadInvalid, ZipRefused, UploadTooLarge, UploadSlow, ContentUnsupported, NotAcceptable,
    StorageFull,
)  # fmt: skip
Asking = Callable[[int, "Picture"], Coroutine[Any, Any, Item]]
AT_ONCE = 8
"""Pictures of one batch that are asked about at once: a large batch leaves places in line to others."""


@dataclass(frozen=True)
class Picture:
    """A picture of a batch. `size`: its bytes in memory; `read`: gives them, or raises why not."""

    name: str
    size: int
    read: Callable[[], bytes]


def routes(console: Console) -> APIRouter:
    """Make the route."""
    router = APIRouter(tags=["predict"])
    settings = console.settings
    limits = Limits(settings.max_zip_mib * MIB, settings.max_zip_entries, settings.upload_timeout_s)
    zip_limits = ZipLimits(settings.max_zip_entries, settings.max_image_mib * MIB, settings.max_zip_mib * MIB)
    full = f"{settings.max_batches} batches are under way already; send this one again later"
    batches = Room(settings.max_batches, settings.max_wait_s, full)
    streamed = {
        "description": "One line of JSON for each picture, in their order; by `Accept` a JSON array or CSV.",
        "content": {
            "application/x-ndjson": {"schema": {"$ref": "#/components/schemas/Item"}},
            "text/csv": {"schema": {"type": "string"}},
        },
    }

    @router.post(
        "/batch_predict", response_model=list[Item], responses={200: streamed, **documented(*ERRORS)}, openapi_extra=batch_body()
    )
    async def batch_predict(
        request: Request, key: Annotated[Key, Depends(Allowed("predict"))], asked: Annotated[Asked, Query()]
    ) -> Response:
        """Ask about many pictures.

        Send files of a form, each a picture or a ZIP, or one ZIP as it is. A picture that fails has its own error, and the
        others are answered all the same. Lines come as they are answered: read them as they come.
        """
        kind = wanted(request.headers.get("accept", ""), MEDIA)
        uploads.check_declared(request, limits, uploads.FORM_BYTES + 1024 * limits.files)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(batches.take(1, key.holder))
            file = cast(BinaryIO, stack.enter_context(tempfile.TemporaryFile()))  # noqa: SIM115  # the stack closes it
            try:
                pictures, fields = await _received(request, file, limits, zip_limits)
            except OSError as err:
                log.warning("an upload cannot be kept for its answer", reason=str(err))
                raise StorageFull("the console has no room on its disk for this upload; send a smaller one, or later") from err
            if uploads.declared_size(request) is None:
                console.keys.take(key, 0, file.seek(0, io.SEEK_END))
            asked = asked.with_fields(fields)
            model = (await console.servers.model(asked.model)).name
            items = in_order(pictures, partial(_ask, console, key, model, asked.question))
            stack.push_async_callback(items.aclose)
            return Streamed(WRITERS[kind](items), kind, stack.pop_all())

    return router


class Streamed(StreamingResponse):
    """An answer that is written as it is made; whatever becomes of it, `held` is let go at its end."""

    def __init__(self, lines: AsyncIterator[bytes], form: Form, held: AsyncExitStack) -> None:
        media = next(name for name, each in MEDIA.items() if each == form)
        super().__init__(lines, media_type=media, headers={"Content-Disposition": f'inline; filename="answers.{form}"'})
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)


async def _ask(console: Console, key: Key, model: str, question: Question, index: int, picture: Picture) -> Item:
    """One picture's item, with its answer or its error."""
    try:
        # As a single one, and once more while it is unpacked.
        async with console.room.take((COPIES + 1) * picture.size, key.holder):
            content = await asyncio.to_thread(picture.read)
            answer = await console.servers.ask(model, content, question)
    except Exception as err:
        one = told(err)
        if one.code == "internal":
            log.exception("a mistake of the console's own")
        return Item(index=index, name=picture.name, error=ItemError(code=one.code, message=one.message))
    return Item(index=index, name=picture.name, answer=answer)


async def in_order(pictures: list[Picture], ask: Asking, at_once: int = AT_ONCE) -> AsyncGenerator[Item]:
    """Ask about so many pictures at once, and yield the items in the pictures' order."""
    running: deque[asyncio.Task[Item]] = deque()
    waiting = iter(enumerate(pictures))
    try:
        while True:
            while len(running) < at_once and (following := next(waiting, None)) is not None:
                running.append(asyncio.create_task(ask(*following)))
            if not running:
                return
            yield await running[0]
            running.popleft()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _received(
    request: Request, file: BinaryIO, limits: Limits, zip_limits: ZipLimits
) -> tuple[list[Picture], Mapping[str, str]]:
    """Read the upload to disk: its pictures, and the fields of its form."""
    kind = uploads.content_type(request)
    whole_zip = kind in ZIPS
    if kind == FORM:
        form = await uploads.read_form(request, file, limits)
        places, fields = form.files, form.fields
        if not places:
            raise UploadInvalid("the form brings no file; name some, as by `curl -F images=@a.jpg -F images=@b.jpg`")
    elif whole_zip:
        places, fields = (Place("", 0, await uploads.read_body(request, file, limits)),), {}
    else:
        raise uploads.refuse_content(kind, READ)
    file.flush()
    pictures = await asyncio.to_thread(_pictures, file, places, zip_limits, whole_zip)
    if sum(picture.size for picture in pictures) > zip_limits.all_bytes:
        raise UploadTooLarge(f"the batch unpacks to more than {zip_limits.all_bytes / MIB:g} MiB; make several of it")
    return pictures, fields


def _pictures(file: BinaryIO, places: Sequence[Place], limits: ZipLimits, is_zip: bool) -> list[Picture]:
    """The pictures of an upload's files: each itself, or those in it where it is a ZIP. Raises ZipRefused, UploadTooLarge."""
    pictures: list[Picture] = []
    left = DIRECTORY_BYTES
    for place in places:
        region = Region(file.fileno(), place.start, place.size)
        if not is_zip and not region.starts_with(MARKS):
            pictures.append(Picture(place.name, min(place.size, limits.image_bytes), partial(_whole, region, place, limits)))
        else:
            opened = Zip(io.BufferedReader(region), limits, left)
            left -= opened.directory_bytes
            folder = f"{place.name}/" if place.name else ""
            pictures += [Picture(folder + entry.name, entry.size, partial(opened.read, entry)) for entry in opened.entries]
        if len(pictures) > limits.entries:
            raise UploadTooLarge(f"these are more than {limits.entries} pictures; make several batches of them")
    return pictures


def _whole(region: Region, place: Place, limits: ZipLimits) -> bytes:
    if place.size > limits.image_bytes:
        raise UploadTooLarge(f"this picture has more than {limits.image_bytes / MIB:g} MiB, the largest")
    return region.at(0, place.size)
