"""`POST /payloads`: where KServe's payload logger sends its events."""

import asyncio
import base64
import binascii
import io
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from console.access.asking import Allowed
from console.access.keys import Key
from console.api import uploads
from console.api.documents import documented
from console.api.uploads import Limits
from console.errors import (
    ConsoleError,
    CrossSite,
    LimitReached,
    LineFull,
    ScopeMissing,
    Unauthenticated,
    UploadSlow,
    UploadTooLarge,
)
from console.log import get_logger
from console.reviews import payloads
from console.reviews.errors import EventUnreadable
from console.settings import MIB
from console.state import Console

log = get_logger(__name__)


class AllowedByBasic(Allowed):
    """A key as `Authorization: Bearer KEY`, or as the password of an address: http://payloads:KEY@HOST/payloads.

    KServe's logger sends no header of its own, but what its address says. No browser is asked for a password here, and this
    route alone takes one, so that none that a browser remembers can be used by another site's page.
    """

    def find(self, request: Request, console: Console) -> Key | None:
        """The key of either form."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic" or console.keys.open_to_all:
            return super().find(request, console)
        try:
            secret = base64.b64decode(given, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return None
        return console.keys.find(secret)


def add(router: APIRouter, console: Console) -> None:
    """Add the route."""
    settings, reviews, counted = console.settings, console.reviews, console.metrics.payloads
    limits = Limits(settings.payload_mib * MIB, 1, settings.upload_timeout_s)
    refused = (Unauthenticated, ScopeMissing, CrossSite, LimitReached, UploadTooLarge, UploadSlow, EventUnreadable, LineFull)
    event_body = {"required": True, "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}

    @router.post("/payloads", responses=documented(*refused), openapi_extra={"requestBody": event_body})
    async def take_event(request: Request, key: Annotated[Key, Depends(AllowedByBasic("payloads"))]) -> dict[str, str]:
        """Take an event of KServe's payload logger: a V2 request, or its answer.

        It is answered at once, as the logger holds up requests where its sink is slow. What cannot be used is counted by
        visor_console_payloads_total and answered all the same, but for what is no CloudEvent.
        """
        uploads.check_declared(request, limits)
        async with console.room.take(uploads.declared_size(request) or limits.size, key.holder):
            sink = io.BytesIO()
            await uploads.read_body(request, sink, limits)
            event = payloads.read_event(request.headers, sink.getvalue())
            if event is None:
                outcome = "ignored"
            else:
                lost = reviews.pairs.lost
                pair = reviews.pairs.pair(event)
                counted.labels("lost").inc(reviews.pairs.lost - lost)
                outcome = "waiting" if pair is None else await _offer(console, *pair)
        counted.labels(outcome).inc()
        return {"event": outcome}


async def _offer(console: Console, request: bytes, response: bytes) -> str:
    try:
        told = await asyncio.to_thread(payloads.read_pair, request, response)
        model = await console.servers.model(told.model)
        answers = payloads.answers(told, model)
    except ConsoleError as err:
        log.warning("a payload logger's events cannot be used", reason=str(err))
        return "unreadable"
    for answer, picture in zip(answers, told.pictures, strict=True):
        console.reviews.intake.offer(answer, picture, model.labels, "payload")
    return "paired"
