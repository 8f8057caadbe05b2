"""The review queue over HTTP: one picture at a time for a person, the figures, the export, and deletion."""

import asyncio
import json
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from console.access.asking import Allowed
from console.access.keys import Key
from console.api.documents import ASKING, PICTURE_CODES, documented, picture_body
from console.api.received import received
from console.api.uploads import Limits
from console.errors import (
    ContentUnsupported,
    CrossSite,
    LimitReached,
    LineFull,
    ModelUnknown,
    ParameterInvalid,
    ScopeMissing,
    Unauthenticated,
    UploadInvalid,
    UploadSlow,
    UploadTooLarge,
)
from console.page.render import page
from console.reviews import erasing, export, payload_routes
from console.reviews.errors import (
    DatabaseDown,
    ItemTaken,
    ItemUnknown,
    LabelUnknown,
    NothingToUndo,
    NothingWaits,
    PictureGone,
    PicturesDown,
    PictureUnshown,
)
from console.reviews.figures import Figures, figures
from console.reviews.queue import Item, Reviewer
from console.reviews.showing import draw
from console.servers.models import Answer, Question
from console.settings import MIB
from console.state import Console, console_of

KEYED = (Unauthenticated, ScopeMissing, CrossSite, ParameterInvalid, LimitReached, DatabaseDown)
"""What every route may answer that asks a key and the database."""
MOST_ID = (1 << 63) - 1
Digest = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the picture's bytes.")]
Number = Annotated[int, Path(ge=1, le=MOST_ID, description="The item's number.")]
Window = Annotated[
    str,
    Query(
        pattern=r"^[A-Za-z0-9-]{0,40}$",
        description="Tells one window of a key from another: each holds a picture of its own, and undoes what it did itself.",
    ),
]
ModelName = Annotated[
    str | None, Query(max_length=200, pattern=r"^[^\x00]*$", description="Of this model alone.", examples=["roofs"])
]


class Held(BaseModel):
    """A picture that is yours for a while. `picture` and `map`: addresses, relative to the console's own."""

    model_config = ConfigDict(frozen=True)

    id: int = Field(examples=[42])
    model: str = Field(examples=["roofs"])
    version: str
    labels: tuple[str, ...] = Field(examples=[["damaged", "intact"]])
    held_until_s: float = Field(description="Until then it is yours, in seconds since 1970.")
    picture: str = Field(examples=["reviews/42/picture"])
    map: str = Field(examples=["reviews/42/map"])
    waiting: dict[str, int] = Field(
        description="How many pictures wait, by lane; at most 500 of each are counted.", examples=[{"review": 12, "audit": 3}]
    )


class Label(BaseModel):
    """The label that a person gives."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str = Field(min_length=1, max_length=200, examples=["damaged"])


class Done(BaseModel):
    """What was done, once it is kept."""

    id: int
    label: str | None = None


class Queued(BaseModel):
    """The answer about a picture that was uploaded for the queue, and whether it had room there."""

    answer: Answer
    queued: bool


class Deleted(BaseModel):
    """How many pictures were deleted."""

    pictures: int


def reviewer(request: Request, key: Annotated[Key, Depends(Allowed("review"))], window: Window = "") -> Reviewer:
    """Who reviews: the key under its pseudonym, and the window."""
    pseudonym = console_of(request).reviews.pseudonyms.of(key.name)
    return Reviewer(pseudonym, f"{pseudonym}:{window}")


Person = Annotated[Reviewer, Depends(reviewer)]
Admin = Annotated[Key, Depends(Allowed("admin"))]
Reader = Annotated[Key, Depends(Allowed("review"))]


def routes(console: Console) -> APIRouter:
    """Make the routes."""
    router = APIRouter(tags=["reviews"])
    _add_work(router, console)
    _add_results(router, console)
    _add_deletion(router, console)
    payload_routes.add(router, console)
    return router


def _add_work(router: APIRouter, console: Console) -> None:
    reviews, counted = console.reviews, console.metrics.reviews

    def held(item: Item) -> Held:
        at = f"reviews/{item.id}"
        facts = {"id": item.id, "model": item.model, "version": item.version, "labels": item.labels}
        waiting = reviews.queue.waiting()
        return Held(**facts, held_until_s=item.held_until_s, picture=f"{at}/picture", map=f"{at}/map", waiting=waiting)

    def kept(number: int, person: Reviewer) -> tuple[Any, bytes]:
        row = reviews.queue.held(number, person)
        return row, reviews.pictures.get(row.digest)

    @router.get("/reviews", include_in_schema=False)
    def review_page(request: Request, key: Reader) -> Response:
        return page(request, "reviews.html", key)

    @router.post("/reviews/next", responses=documented(*KEYED, NothingWaits))
    def next_item(person: Person) -> Held:
        """Take the next picture, or the one that you still hold. It is yours for some minutes, and nobody else's."""
        return held(reviews.queue.take(person))

    @router.post("/reviews/undo", responses=documented(*KEYED, NothingToUndo, ItemTaken))
    def undo(person: Person) -> Held:
        """Take back the label or the skip that you gave last, and hold its picture again."""
        item = reviews.queue.undo(person)
        counted.labels("undo").inc()
        return held(item)

    @router.post("/reviews/{item}/label", responses=documented(*KEYED, ItemUnknown, ItemTaken, LabelUnknown))
    def label(item: Number, given: Label, person: Person) -> Done:
        """Label the picture that you hold. Once this is answered, the label is kept; said again, it changes nothing."""
        reviews.queue.label(item, given.label, person)
        counted.labels("label").inc()
        return Done(id=item, label=given.label)

    @router.post("/reviews/{item}/skip", responses=documented(*KEYED, ItemUnknown, ItemTaken))
    def skip(item: Number, person: Person) -> Done:
        """Pass the picture that you hold on to others, unlabelled; it does not come back to you."""
        reviews.queue.skip(item, person)
        counted.labels("skip").inc()
        return Done(id=item)

    jpeg: dict[int | str, dict[str, Any]] = {
        200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}, "description": "The picture."}
    }
    shown = documented(*KEYED, ItemUnknown, ItemTaken, PictureGone, PictureUnshown, PicturesDown)

    @router.get("/reviews/{item}/picture", response_class=Response, responses=jpeg | shown)
    async def picture(item: Number, person: Person) -> Response:
        """See the picture that you hold, decoded and written anew as JPEG, without what its file says beside it."""
        _, content = await asyncio.to_thread(kept, item, person)
        return Response(await draw(content, None), media_type="image/jpeg")

    @router.get(
        "/reviews/{item}/map",
        response_class=Response,
        responses=jpeg
        | documented(
            *ASKING,
            DatabaseDown,
            ItemUnknown,
            ItemTaken,
            PictureGone,
            PictureUnshown,
            PicturesDown,
            ModelUnknown,
            LineFull,
            s400=PICTURE_CODES,
        ),
    )
    async def heat_map(item: Number, person: Person) -> Response:
        """See the picture that you hold with its heat map: the one of its answer, or, if none was asked for, one of now."""
        row, content = await asyncio.to_thread(kept, item, person)
        if row.map is not None:
            answer = Answer(**{**row.map, "heatmap": np.array(row.map["heatmap"], dtype=np.float32)})
        else:
            answer = await console.servers.ask(row.model, content, Question(explain=True), tell=False)
        return Response(await draw(content, answer), media_type="image/jpeg")


def _add_results(router: APIRouter, console: Console) -> None:
    reviews, settings = console.reviews, console.settings
    limits = Limits(settings.max_image_mib * MIB, 1, settings.upload_timeout_s)

    @router.get("/reviews/figures", responses=documented(*KEYED))
    async def live_figures(_: Reader, model: ModelName = None) -> list[Figures]:
        """The share of positive pictures that the served rule misses, and of others that it flags, with bounds, by archive."""
        return await asyncio.to_thread(figures, reviews.database, await console.servers.promises(), model)

    tasks: dict[int | str, dict[str, Any]] = {200: {"content": {"application/json": {"schema": {"type": "array"}}}}}

    @router.get("/reviews/export", response_class=StreamingResponse, responses=tasks | documented(*KEYED))
    def tasks_of_label_studio(_: Reader, model: ModelName = None, prefix: str = "") -> StreamingResponse:
        """The labelled pictures as Label Studio's tasks. `prefix`: stands before each picture's digest in `data.image`."""
        return StreamingResponse(_array(export.tasks(reviews.database, prefix, model)), media_type="application/json")

    @router.post(
        "/reviews/items",
        responses=documented(
            *ASKING, ModelUnknown, LineFull, UploadInvalid, UploadTooLarge, UploadSlow, ContentUnsupported, s400=PICTURE_CODES
        ),
        openapi_extra=picture_body(form=False),
    )
    async def add_item(request: Request, key: Reader, model: str | None = None) -> Queued:
        """Ask about a picture and put it into the queue whatever the answer is, as for what `visor drift` calls unusual."""
        async with received(request, console, key, limits) as (content, _):
            answer = await console.servers.ask(model, content, Question(explain=True), tell=False)
            asked = await console.servers.model(answer.model)
            queued = reviews.intake.offer(answer, content, asked.labels, "upload", "drift")
        return Queued(answer=answer, queued=queued)


def _add_deletion(router: APIRouter, console: Console) -> None:
    reviews, counted = console.reviews, console.metrics.reviews

    @router.delete("/reviews/pictures/{digest}", responses=documented(*KEYED, PictureGone, PicturesDown))
    def delete_picture(digest: Digest, _: Admin) -> Deleted:
        """Delete a picture everywhere: its file, its digest, its probabilities and its heat map. Labels stay, without it."""
        if not erasing.erase(reviews.database, reviews.pictures, digest):
            raise PictureGone(f"there is no picture {digest[:12]}; it was never kept, or is deleted")
        counted.labels("deleted").inc()
        return Deleted(pictures=1)

    @router.delete("/reviews/pictures", responses=documented(*KEYED, PicturesDown))
    def delete_old_pictures(_: Admin, older_than_days: Annotated[float, Query(gt=0, le=36500)]) -> Deleted:
        """Delete all pictures that came longer ago than this, everywhere."""
        erased = erasing.erase_older(reviews.database, reviews.pictures, older_than_days)
        counted.labels("deleted").inc(erased)
        return Deleted(pictures=erased)


def _array(items: Iterator[Any]) -> Iterator[str]:
    before = "["
    for item in items:
        yield before + "\n" + json.dumps(item, ensure_ascii=False)
        before = ","
    yield "[]\n" if before == "[" else "\n]\n"
