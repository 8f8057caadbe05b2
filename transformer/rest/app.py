"""The V2 protocol over HTTP: the routes, and the status of each answer."""

import logging
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from handlers.errors import OptionError, VisorError
from transformer import metadata, metrics, stats
from transformer.budget import Charge, weigh_json
from transformer.errors import (
    NO_SHARED_MEMORY,
    CodingUnsupported,
    MethodWrong,
    ModelNotReady,
    PathUnknown,
    SharedMemoryRefused,
    Unauthenticated,
    Unavailable,
    is_trouble,
    show,
)
from transformer.request_log import Record
from transformer.rest.body import (
    BINARY,
    JSON,
    Form,
    json_length,
    object_of,
    parse_object,
    parse_request,
    read_flag,
    render_answer,
)
from transformer.rest.compression import ACCEPTED, IDENTITY, WORTH_BYTES, choose_encoding, compress
from transformer.rest.envelope import RECORD, Envelope
from transformer.rest.exchange import NO_TRANSFORM
from transformer.rest.openapi import MODEL, REPOSITORY, VERSIONED
from transformer.rest.page import FILES, page_routes
from transformer.rest.receive import LENGTH_KEY, cancel_if_gone, headers_of, read_body
from transformer.rest.scope import CLIENT, REFUSAL, Client
from transformer.rest.swagger import docs_routes
from transformer.service import THREAD_BYTES, PreparedRequest, Service
from transformer.tokens import OPEN_PATHS

logger = logging.getLogger(__name__)

SHARED_MEMORY = [f"/v2/{kind}sharedmemory/{{call:path}}" for kind in ("system", "cuda")]


def create_app(service: Service, *, page: bool = False) -> Envelope:
    """Make the HTTP side of a service; it opens and closes nothing. `page`: with the page at `/`."""
    api, infer = _Api(service), _Infer(service)
    infer_routes = [Route(f"{at}/infer", infer, methods=["POST"]) for at in (MODEL, VERSIONED)]
    app = Starlette(
        routes=[
            *infer_routes,
            Route("/v2/health/live", api.live),
            Route("/v2/health/ready", api.ready),
            Route("/v2", api.server),
            Route("/v2/models/stats", api.stats),
            Route(MODEL, api.model),
            Route(VERSIONED, api.model),
            Route(f"{MODEL}/ready", api.model_ready),
            Route(f"{VERSIONED}/ready", api.model_ready),
            Route(f"{MODEL}/config", api.config),
            Route(f"{VERSIONED}/config", api.config),
            Route(f"{MODEL}/stats", api.stats),
            Route(f"{VERSIONED}/stats", api.stats),
            Route(f"{REPOSITORY}/index", api.index, methods=["GET", "POST"]),
            Route(f"{REPOSITORY}/models/{{name}}/load", api.load, methods=["POST"]),
            Route(f"{REPOSITORY}/models/{{name}}/unload", api.unload, methods=["POST"]),
            *[Route(at, api.shared_memory, methods=["GET", "POST"], include_in_schema=False) for at in SHARED_MEMORY],
            Route("/metrics", api.metrics),
            *docs_routes(service),
            *(page_routes() if page else ()),
        ],
        exception_handlers={VisorError: _answer_error, HTTPException: _answer_route_error, Exception: _answer_bug},
    )
    # A path with a slash too many is a mistake to name, not one to send on to another address.
    app.router.redirect_slashes = False
    return Envelope(app, service, infer_routes, _refuse, _error, OPEN_PATHS.union(FILES if page else ()), own_site=page)


IN_BODY = {"explain", "group", "threshold", "top_k"}
"""Parameters of ours that change what is answered, and which a request's body has."""


class _Infer:
    """The ASGI app of inferences, without Starlette's requests and responses, of which it would need little."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record: Record = scope[RECORD]
        record.inference = True
        with self._service.budget.open() as charge:
            try:
                content, headers = await self._answer(scope, receive, record, charge)
            except VisorError as err:
                charge.close()
                await _error(record, err)(scope, receive, send)
                return
            except Exception as err:
                charge.close()
                await _bug(err)(scope, receive, send)
                raise
            charge.force(len(content))  # until the client has read it
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": content})

    async def _answer(
        self, scope: Scope, receive: Receive, record: Record, charge: Charge
    ) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        """The body and the headers of the answer. Raises VisorError."""
        self._service.check_room()
        _check_query(scope)
        asked = headers_of(scope)
        body = await read_body(asked, receive, self._service.limits.max_body_bytes, charge)
        record.bytes_in = len(body)
        question = (body, asked.get(LENGTH_KEY), *_model_of(scope), asked.get("content-type", ""))
        if len(body) > THREAD_BYTES:
            prepared, form = await self._service.in_thread(lambda: self._read(record, charge, *question))
        else:
            prepared, form = self._read(record, charge, *question)
        record.name(prepared.id or "")
        with cancel_if_gone(scope.get(CLIENT) or Client()):
            answer = await self._service.answer(prepared, record)
        content, header_length = render_answer(answer, form)
        headers = [(b"content-type", (JSON if header_length is None else BINARY).encode())]
        if header_length is not None:
            headers.append((LENGTH_KEY.encode(), b"%d" % header_length))
        if len(content) >= WORTH_BYTES:
            headers.append((b"vary", b"accept-encoding"))
            encoding = choose_encoding(asked.get("accept-encoding", IDENTITY))
            if encoding != IDENTITY:
                content = compress(content, encoding)
                headers.append((b"content-encoding", encoding.encode()))
        headers.append((b"content-length", b"%d" % len(content)))
        return content, headers

    def _read(
        self,
        record: Record,
        charge: Charge,
        body: bytes | bytearray,
        header_length: str | None,
        name: str,
        version: str,
        content_type: str,
    ) -> tuple[PreparedRequest, Form]:
        charge.raise_to(weigh_json(body, json_length(header_length, content_type, body)))
        inference, form = parse_request(body, header_length, name, version, content_type)
        return self._service.read(inference, record), form


class _Api:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def live(self, _: Request) -> Response:
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        if await self._service.ready():
            return _json({"ready": True})
        return _error(_record(request), self._service.not_ready(), ready=False)

    async def server(self, _: Request) -> Response:
        return _json(metadata.server_metadata())

    async def model(self, request: Request) -> Response:
        self._service.check_model(*_model_of(request.scope))
        facts = metadata.model_facts(self._service.spec, self._service.archive_digest)
        return _json({**metadata.model_metadata(self._service.spec), "parameters": facts})

    async def model_ready(self, request: Request) -> Response:
        self._service.check_model(*_model_of(request.scope))
        if not await self._service.ready():
            raise self._service.not_ready()
        return _json({"name": self._service.spec.name, "ready": True})

    async def config(self, request: Request) -> Response:
        self._service.check_model(*_model_of(request.scope))
        return _json(await self._service.config())

    async def shared_memory(self, _: Request) -> Response:
        raise SharedMemoryRefused(NO_SHARED_MEMORY)

    async def stats(self, request: Request) -> Response:
        if request.path_params:
            self._service.check_model(*_model_of(request.scope))
        self._service.flush()
        return _json(stats.statistics(self._service.spec, self._service.metrics))

    async def index(self, request: Request) -> Response:
        only_ready = read_flag(await self._read_object(request), "ready")
        return _json(metadata.repository_index(self._service.spec, await self._service.ready(), only_ready))

    async def load(self, request: Request) -> Response:
        parameters = object_of((await self._read_object(request)).get("parameters"), "parameters")
        await self._service.load(request.path_params["name"], parameters)
        return _json({})

    async def unload(self, request: Request) -> Response:
        self._service.unload(request.path_params["name"])
        return _json({})

    async def metrics(self, _: Request) -> Response:
        self._service.flush()
        return Response(self._service.metrics.render(), headers={"content-type": metrics.CONTENT_TYPE})

    async def _read_object(self, request: Request) -> dict[str, Any]:
        with self._service.budget.open() as charge:
            # A few words: as large as the largest of inferences they would be parsed here.
            limit = min(self._service.limits.max_body_bytes, THREAD_BYTES)
            body = await read_body(headers_of(request.scope), request.receive, limit, charge)
            charge.raise_to(weigh_json(body, len(body)))
            return parse_object(body) if body else {}


def _record(request: Request) -> Record:
    record: Record = request.scope[RECORD]
    return record


def _check_query(scope: Scope) -> None:
    """Refuse parameters of ours in the address, so that nobody takes an answer for one by them. Raises OptionError."""
    query: bytes = scope["query_string"]
    if query and (ours := IN_BODY.intersection(dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)))):
        raise OptionError(
            f"{', '.join(sorted(ours))}: no parameters are read from the address; they stand in the `parameters` of a JSON body, "
            "with the picture in base64, or of the JSON before a binary one"
        )


def _model_of(scope: Scope) -> tuple[str, str]:
    return scope["path_params"]["name"], scope["path_params"].get("version", "")


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request that HTTP does not allow."""
    await _error(scope[RECORD], scope[REFUSAL])(scope, receive, send)


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    name, value = NO_TRANSFORM
    return Response(orjson.dumps(content), status, {name.decode(): value.decode(), **(headers or {})}, media_type=JSON)


def _error(record: Record, err: VisorError, headers: dict[str, str] | None = None, **fields: Any) -> Response:
    """The answer to a request that failed with a VisorError, which its record gets too."""
    record.fail(err)
    # A probe asks every second whether it is time yet: its line in the request log says all.
    if is_trouble(err) and (record.inference or not isinstance(err, ModelNotReady)):
        logger.warning("%s", err)
    more = dict(headers or {})
    if isinstance(err, Unavailable):
        more["Retry-After"] = str(err.retry_after_s)
    elif isinstance(err, Unauthenticated):
        more["WWW-Authenticate"] = err.challenge
    elif isinstance(err, CodingUnsupported):
        more["Accept-Encoding"] = ACCEPTED
    return _json({**fields, "error": str(err), "code": err.code}, err.status, more)


async def _answer_error(request: Request, err: Exception) -> Response:
    if not isinstance(err, VisorError):
        raise err
    return _error(_record(request), err)


async def _answer_route_error(request: Request, err: Exception) -> Response:
    if isinstance(err, HTTPException) and err.status_code == MethodWrong.status:
        allowed = (err.headers or {}).get("Allow", "")
        sentence = f"{request.method} is not answered at {show(request.url.path)}; {allowed} is"
        return _error(_record(request), MethodWrong(sentence), {"Allow": allowed})
    return _error(_record(request), PathUnknown(f"nothing is served at {show(request.url.path)}; see /v2 and /v2/models/NAME"))


async def _answer_bug(_: Request, err: Exception) -> Response:
    return _bug(err)


def _bug(err: Exception) -> Response:
    """The answer to an error that is a bug of the edge. It is raised again after that, and uvicorn logs the traceback."""
    return _json({"error": f"internal: {type(err).__name__}", "code": VisorError.code}, VisorError.status)
