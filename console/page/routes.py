"""The pages' routes. Each page is whole by itself; scripts ask for parts of one, or for the API's answers, as any client does."""

import hashlib
import io
import mimetypes
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse, Response

from console.access.asking import Allowed
from console.access.keys import Key
from console.access.sessions import FIELD, LIFETIME_S, give, take
from console.access.sites import check_site
from console.api import uploads
from console.api.asked import Asked
from console.api.received import received
from console.errors import ConsoleError, UploadInvalid
from console.page import charts, counts, drift, pictures, releases, words
from console.page.lineage import Lineages
from console.page.render import ENTRIES, FOLDER, fragment, page
from console.servers.models import Answer, Model
from console.settings import MIB
from console.state import Console

FILES = {path.name: path for path in sorted((FOLDER / "static").iterdir())}
"""The files that pages load, by name: no path of a client's is ever opened."""
MOST_LABELS = 12
"""Labels of a picture that are drawn; the others are counted."""
MOST_FORM, MOST_FIELDS = 16_384, 10
"""Bytes and fields of a form that signs in or out."""
NAME = 200
"""Characters of a file's name that are shown."""


class AskedByPage(Asked):
    """A question of the page, which knows the file's name."""

    name: str = "picture"


Reader = Annotated[Key, Depends(Allowed("predict"))]


def routes(console: Console) -> APIRouter:
    """Make the routes."""
    router = APIRouter(include_in_schema=False)
    lineages = Lineages(console.settings.mlflow, console.settings.mlflow_inside)
    limits = uploads.Limits(console.settings.max_image_mib * MIB, 1, console.settings.upload_timeout_s)
    small = uploads.Limits(MOST_FORM, 1, console.settings.upload_timeout_s)

    for name in FILES:
        router.add_api_route(f"/static/{name}", _static(name), methods=["GET"])

    @router.get("/sign-in")
    async def sign_in_page(request: Request, next: str = "./") -> Response:  # noqa: A002
        if console.keys.open_to_all:
            return RedirectResponse("./", 303)
        return page(request, "sign_in.html", None, wrong="", next=_known(next), hours=LIFETIME_S // 3600)

    @router.post("/sign-in")
    async def sign_in(request: Request) -> Response:
        check_site(request)
        form = await _form(request, small)
        key = console.keys.find(form.get("key", "").strip())
        if key is None:
            wrong = "The console does not know this key; copy it again, or ask who made it."
            return page(
                request, "sign_in.html", None, 401, wrong=wrong, next=_known(form.get("next", "")), hours=LIFETIME_S // 3600
            )
        if before := console.sessions.of(request):
            console.sessions.end(before)
        answer = RedirectResponse(_known(form.get("next", "")), 303)
        give(answer, request, console.sessions.cookie(console.sessions.begin(key)))
        return answer

    @router.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        session = console.sessions.of(request)
        if session is not None:
            console.sessions.check(request, session, (await _form(request, small)).get(FIELD, ""))
            console.sessions.end(session)
        answer = RedirectResponse("sign-in", 303)
        take(answer, request)
        return answer

    @router.get("/")
    async def picture(request: Request, key: Reader) -> Response:
        models, trouble = await _models(console)
        return page(request, "picture.html", key, models=models, trouble=trouble, max_image_mib=console.settings.max_image_mib)

    @router.post("/answer")
    async def answer(request: Request, key: Reader, asked: Annotated[AskedByPage, Query()]) -> Response:
        async with received(request, console, key, limits) as (content, _):
            found = await console.servers.ask(asked.model, content, asked.question.model_copy(update={"explain": True}))
            shown = await pictures.show(content, found)
        model = await console.servers.model(found.model or asked.model)
        facts, no_lineage = await lineages.of(found.digest)
        return Response(
            fragment(
                "answer.html",
                name=asked.name[-NAME:],
                lineage=facts,
                no_lineage=no_lineage,
                ramp=pictures.ramp(),
                full_logits=f"{pictures.FULL_LOGITS:g}",
                plain=shown.plain,
                drawn=shown.drawn,
                unshown=shown.unshown,
                **described(found, model),
            ),
            media_type="text/html",
        )

    @router.get("/batch")
    async def batch(request: Request, key: Reader) -> Response:
        models, trouble = await _models(console)
        settings = console.settings
        return page(
            request,
            "batch.html",
            key,
            models=models,
            trouble=trouble,
            max_image_mib=settings.max_image_mib,
            max_zip_mib=settings.max_zip_mib,
            max_zip_entries=settings.max_zip_entries,
        )

    @router.get("/releases")
    async def release_page(request: Request, key: Reader) -> Response:
        place = console.settings.releases
        found = await releases.read(place) if place else []
        heading, text = ("No release", "Nothing is being released, and nothing was.") if place else NO_RECORD
        return page(request, "releases.html", key, releases=found, when=releases.when, heading=heading, text=text)

    @router.get("/drift")
    async def drift_page(request: Request, key: Reader, window: str = counts.FIRST) -> Response:
        window = window if window in counts.WINDOWS else counts.FIRST
        if url := console.settings.prometheus:
            samples, troubles = await counts.of_prometheus(url, window)
            source = "Counted by Prometheus."
        else:
            samples, troubles = await counts.of_servers(console.servers.all)
            source = NO_PROMETHEUS
        return page(
            request,
            "drift.html",
            key,
            windows=drift.windows(samples),
            troubles=troubles,
            source=source,
            choices=counts.WINDOWS if console.settings.prometheus else {},
            window=window,
            heading="Nothing counted",
            text="No server has counted a picture, or their archives have no reference to compare with.",
        )

    return router


NO_RECORD = (
    "No record of releases",
    "VISOR_CONSOLE_RELEASES names none: a folder of what `visor rollout status NAME --json` writes, or a ConfigMap NAME-rollout.",
)
NO_PROMETHEUS = "No Prometheus is set (VISOR_CONSOLE_PROMETHEUS): this is what each server itself has counted since its start."


def described(answer: Answer, model: Model) -> dict[str, object]:
    """What the template of an answer says of it beside its picture."""
    curve = charts.curve(answer, model)
    ranked = sorted(answer.probabilities.items(), key=lambda one: -one[1])
    return {
        "answer": answer,
        "model": model,
        "rule": words.rule(answer),
        "meaning": words.meaning(answer.positive),
        "scale_drawn": charts.scale(answer),
        "bars": [{"label": label, "width": round(100 * p, 2), "percent": words.percent(p)} for label, p in ranked[:MOST_LABELS]],
        "more_labels": max(0, len(ranked) - MOST_LABELS),
        "promise": words.promise(answer, model),
        "set_meaning": words.prediction_set(model),
        "curve": curve,
        "choices": [asdict(one) for one in curve.choices] if curve else [],
    }


def _static(name: str) -> Callable[[Request], Awaitable[Response]]:
    """Serve a file, which browsers ask for again each time: after an upgrade, none shows the page of the version before."""
    content = FILES[name].read_bytes()
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"cache-control": "no-cache", "etag": tag}

    async def file(request: Request) -> Response:
        if request.headers.get("if-none-match", "").removeprefix("W/") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)

    return file


def _known(address: str) -> str:
    """The page to go on to: one of the head's, so that no link to the sign-in leads to another site."""
    return address if address in {entry.address for entry in ENTRIES} else "./"


async def _form(request: Request, limits: uploads.Limits) -> dict[str, str]:
    """A small form's fields. Raises UploadTooLarge, UploadSlow, UploadInvalid."""
    sink = io.BytesIO()
    await uploads.read_body(request, sink, limits)
    try:
        fields = parse_qs(sink.getvalue().decode(), max_num_fields=MOST_FIELDS)
    except ValueError as err:
        raise UploadInvalid("the form is none of this page's") from err
    return {name: values[-1] for name, values in fields.items()}


async def _models(console: Console) -> tuple[list[Model], str]:
    """All models, and a sentence where no server tells of any."""
    try:
        return await console.servers.models(), ""
    except ConsoleError as err:
        return [], str(err.args[0])
