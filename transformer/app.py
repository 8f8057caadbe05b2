"""The V2 protocol over HTTP: routes, statuses and the way a body comes in."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from handlers.errors import VisorError
from transformer import metadata, metrics
from transformer.errors import ClientGone, ContentUnsupported, MethodWrong, ModelNotReady, PathUnknown, RequestTooLarge, show
from transformer.rest import HEADER_LENGTH, Form, parse_object, parse_request, render_answer
from transformer.service import Job, Service

logger = logging.getLogger(__name__)

JSON = "application/json"
# What a client sends when it means the file itself; everything else is read as JSON, whatever it is called.
NEVER_JSON = ("image/", "multipart/", "video/", "audio/", "application/pdf", "application/zip")
# From here on a body is parsed in a thread, so that health checks and other requests are answered meanwhile.
THREAD_BYTES = 1 << 20


def create_app(service: Service) -> Starlette:
    """The HTTP side of a service; opens and closes nothing."""
    api = _Api(service)
    model = "/v2/models/{name}"
    versioned = model + "/versions/{version}"
    app = Starlette(
        routes=[
            Route(f"{model}/infer", api.infer, methods=["POST"]),
            Route(f"{versioned}/infer", api.infer, methods=["POST"]),
            Route("/v2/health/live", api.live),
            Route("/v2/health/ready", api.ready),
            Route("/v2", api.server),
            Route(model, api.model),
            Route(versioned, api.model),
            Route(f"{model}/ready", api.model_ready),
            Route(f"{versioned}/ready", api.model_ready),
            Route("/v2/repository/index", api.index, methods=["GET", "POST"]),
            Route("/metrics", api.metrics),
        ],
        exception_handlers={VisorError: _answer_error, HTTPException: _answer_route_error, Exception: _answer_bug},
    )
    # A path with a slash too many is a mistake to name, not one to send on to another address.
    app.router.redirect_slashes = False
    app.add_middleware(_Farewell, service=service)
    return app


class _Farewell:
    """Answers of a service that drains say `connection: close`: the client's next request goes to a server that stays."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_farewell(message: Message) -> None:
            if self._service.draining and message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, send_farewell)


class _Api:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def infer(self, request: Request) -> Response:
        with self._service.metrics.request("rest"):
            body = await _read_body(request, self._service.max_body_bytes)
            if len(body) > THREAD_BYTES:
                job, form = await asyncio.to_thread(self._read, request, body)
            else:
                job, form = self._read(request, body)
            async with _unless_gone(request.receive):
                answer = await self._service.answer(job)
            content, header_length = render_answer(answer, form)
        if header_length is None:
            return Response(content, media_type=JSON)
        return Response(content, media_type="application/octet-stream", headers={HEADER_LENGTH: str(header_length)})

    def _read(self, request: Request, body: bytes) -> tuple[Job, Form]:
        name, version = _model_of(request)
        inference, form = parse_request(body, request.headers.get(HEADER_LENGTH), name, version)
        return self._service.read(inference), form

    async def live(self, _: Request) -> Response:
        return _json({"live": True})

    async def ready(self, _: Request) -> Response:
        if await self._service.ready():
            return _json({"ready": True})
        return _json({"ready": False, **_fields(self._not_ready())}, ModelNotReady.status)

    async def server(self, _: Request) -> Response:
        return _json(metadata.server_metadata())

    async def model(self, request: Request) -> Response:
        self._service.check_model(*_model_of(request))
        facts = metadata.model_facts(self._service.spec, self._service.archive_digest)
        return _json({**metadata.model_metadata(self._service.spec), "parameters": facts})

    async def model_ready(self, request: Request) -> Response:
        self._service.check_model(*_model_of(request))
        if not await self._service.ready():
            raise self._not_ready()
        return _json({"name": self._service.spec.name, "ready": True})

    async def index(self, request: Request) -> Response:
        body = await _read_body(request, self._service.max_body_bytes)
        only_ready = bool(parse_object(body).get("ready")) if body else False
        models = metadata.repository_index(self._service.spec, await self._service.ready())
        return _json([model for model in models if model["state"] == metadata.READY or not only_ready])

    async def metrics(self, _: Request) -> Response:
        return Response(self._service.metrics.render(), headers={"content-type": metrics.CONTENT_TYPE})

    def _not_ready(self) -> ModelNotReady:
        name = self._service.spec.name
        if self._service.draining:
            return ModelNotReady(f"this server of model {name} is about to stop; ask another one")
        return ModelNotReady(f"no worker of model {name} is ready; try again in a few seconds")


def _model_of(request: Request) -> tuple[str, str]:
    return request.path_params["name"], request.path_params.get("version", "")


async def _read_body(request: Request, limit: int) -> bytes:
    """The whole body. Raises RequestTooLarge as soon as it is known, ContentUnsupported, ClientGone."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise ContentUnsupported(f"Content-Encoding {show(encoding)} is not read; send the body as it is")
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
    return b"".join(chunks)


@asynccontextmanager
async def _unless_gone(receive: Receive) -> AsyncIterator[None]:
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


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type=JSON)


def _fields(err: VisorError) -> dict[str, str]:
    return {"error": str(err), "code": err.code}


async def _answer_error(_: Request, err: Exception) -> Response:
    if not isinstance(err, VisorError):
        raise err
    if err.status >= 500:
        logger.warning("%s", err)
    return _json(_fields(err), err.status)


async def _answer_route_error(request: Request, err: Exception) -> Response:
    if isinstance(err, HTTPException) and err.status_code == MethodWrong.status:
        allowed = (err.headers or {}).get("Allow", "")
        wrong = MethodWrong(f"{request.method} is not answered at {show(request.url.path)}; {allowed} is")
        return _json(_fields(wrong), wrong.status, {"Allow": allowed})
    unknown = PathUnknown(f"nothing is served at {show(request.url.path)}; see /v2 and /v2/models/NAME")
    return _json(_fields(unknown), unknown.status)


async def _answer_bug(_: Request, err: Exception) -> Response:
    # Starlette raises it again after this answer, and uvicorn logs the traceback.
    return _json({"error": f"internal: {type(err).__name__}", "code": VisorError.code}, VisorError.status)
