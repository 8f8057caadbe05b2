"""`POST /predict`: one picture, as a form or as it is, answered as JSON or drawn."""

import io
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from console.access.asking import Allowed
from console.access.keys import Key
from console.api import uploads
from console.api.asked import Asked
from console.api.documents import ASKING, PICTURE_CODES, documented, picture_body
from console.api.overlays import HEADERS, MEDIA, draw_overlay, headers_of, wanted
from console.api.received import Received, as_it_is, received
from console.api.uploads import FORM, FORM_BYTES, Limits
from console.errors import (
    ContentUnsupported,
    LineFull,
    ModelUnknown,
    NotAcceptable,
    UploadInvalid,
    UploadSlow,
    UploadTooLarge,
)
from console.servers.models import Answer
from console.settings import MIB
from console.state import Console

READ = "a picture as it is (image/jpeg, ..., application/octet-stream) or a form (multipart/form-data) with one"
ERRORS = (*ASKING, ModelUnknown, LineFull, UploadInvalid, UploadTooLarge, UploadSlow, ContentUnsupported, NotAcceptable)
_DRAWN: dict[str, Any] = {media: {"schema": {"type": "string", "format": "binary"}} for media in MEDIA if "image" in media}
_OK: dict[str, Any] = {
    "description": "The answer; for an `Accept` of an image type the picture with its heat map, and the answer in headers.",
    "content": _DRAWN,
    "headers": {name: {"schema": {"type": "string"}, "description": "Of a drawn answer."} for name in HEADERS},
}


ALLOWED = Allowed("predict")


class Direct(APIRoute):
    """A route that FastAPI documents and matches, and that reads key and question by itself.

    FastAPI's own way, by which every dependency and field is looked up anew, took a quarter of the console's time for a picture.
    """

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; one by another method as FastAPI does."""
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        request = Request(scope, receive, send)
        key = ALLOWED.check(request)
        answer: Response = await self.endpoint(request, key, Asked.of_address(request.query_params))
        await answer(scope, receive, send)


def routes(console: Console) -> APIRouter:
    """Make the route."""
    router = APIRouter(tags=["predict"], route_class=Direct)
    settings = console.settings
    limits = Limits(settings.max_image_mib * MIB, 1, settings.upload_timeout_s)

    @router.post(
        "/predict",
        response_model=Answer,
        responses={200: _OK, **documented(*ERRORS, s400=PICTURE_CODES)},
        openapi_extra=picture_body(),
    )
    async def predict(request: Request, key: Annotated[Key, Depends(ALLOWED)], asked: Annotated[Asked, Query()]) -> Response:
        """Ask about one picture.

        Send it as it is, in any format that the server reads (JPEG, PNG, WebP, HEIC, TIFF and others), or as the one file of
        a form, whose fields go before those of the address. With `explain` the answer has a heat map; with an `Accept` of
        image/png, image/jpeg or image/webp it is drawn over the picture.
        """
        kind = wanted(request.headers.get("accept", ""), MEDIA)
        async with received(request, console, key, limits, _picture, FORM_BYTES) as (content, fields):
            asked = asked.with_fields(fields)
            if kind == "json":
                answer = await console.servers.ask(asked.model, content, asked.question)
                return Response(answer.model_dump_json(), media_type="application/json")
            question = asked.question.model_copy(update={"explain": True})
            answer = await console.servers.ask(asked.model, content, question)
            drawn = await draw_overlay(content, answer, kind)
        return Response(drawn, media_type=f"image/{kind}", headers=headers_of(answer))

    return router


async def _picture(request: Request, limits: Limits) -> Received:
    """The one picture of a request, and the fields of its form."""
    kind = uploads.content_type(request)
    if kind == FORM:
        sink = io.BytesIO()
        form = await uploads.read_form(request, sink, limits)
        if len(form.files) != 1:
            raise UploadInvalid("the form brings no picture; name one file, as by `curl -F image=@photo.jpg`")
        return sink.getvalue(), form.fields
    if not (kind.startswith("image/") or kind == "application/octet-stream"):
        raise uploads.refuse_content(kind, READ)
    return await as_it_is(request, limits)
