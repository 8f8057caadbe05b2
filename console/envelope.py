"""What lies around every request: its id, its line in the log, its metrics, headers that keep browsers safe, errors as JSON."""

import random
import re
import time
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, clear_contextvars

from console.access.asking import CHALLENGE
from console.errors import ConsoleError, MethodWrong, ParameterInvalid, PathUnknown, Told, Unauthenticated, told
from console.log import get_logger
from console.page.errors import html_answer
from console.state import Console
from handlers.errors import VisorError

log = get_logger("console.request")

ID = b"x-request-id"
# What a client may call its request: it comes back in a header, where other characters could end the header or start another.
_USABLE_ID = re.compile(rb"[!-~]{1,128}")
_DIGEST = re.compile("[0-9a-f]{64}")
_ROUTINE = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})
"""Probes and scrapes, which say something in the log only where they fail."""
PATH_CHARACTERS = 200
SAFE = {
    b"x-content-type-options": b"nosniff",
    b"content-security-policy": b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
    b"cross-origin-resource-policy": b"same-origin",
}
"""Headers of every answer that has not its own ones of these names: nothing is sniffed, framed, kept or shown elsewhere."""


class Envelope:
    """The ASGI app around all routes."""

    def __init__(self, app: ASGIApp, console: Console) -> None:
        self.app, self._metrics = app, console.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status, started = time.perf_counter(), 500, False
        request_id = next((value for name, value in scope["headers"] if name == ID and _USABLE_ID.fullmatch(value)), None)
        request_id = request_id or b"%016x" % random.getrandbits(64)
        clear_contextvars()
        bind_contextvars(request_id=request_id.decode())
        scope.setdefault("state", {})

        async def send_enveloped(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                present = {name.lower() for name, _ in message["headers"]}
                added = [(name, value) for name, value in SAFE.items() if name not in present]
                message = {**message, "headers": [*message["headers"], *added, (ID, request_id)]}
            await send(message)

        try:
            await self.app(scope, receive, send_enveloped)
        except Exception as err:
            if started:
                raise
            log.exception("a mistake of the console's own")
            await error_answer(Request(scope), err)(scope, receive, send_enveloped)
        finally:
            seconds = time.perf_counter() - began
            # The route's own path, as a client's would make a metric of every address that it tries.
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.requests.labels(route, scope["method"] if route != "none" else "", str(status)).inc()
            self._metrics.seconds.labels(route).observe(seconds)
            if status >= 400 or scope["path"] not in _ROUTINE:
                _write(scope, status, seconds)


def _write(scope: Scope, status: int, seconds: float) -> None:
    state = scope["state"]
    asked_by = getattr(state.get("key"), "name", "")
    fields: dict[str, Any] = {
        "method": scope["method"],
        "path": _DIGEST.sub("DIGEST", scope["path"])[:PATH_CHARACTERS],  # of a picture that is deleted, not even that stays
        "status": status,
        "code": state.get("code", ""),
        "seconds": round(seconds, 6),
        "asked_by": asked_by,
    }
    (log.error if status >= 500 else log.warning if status >= 400 else log.info)("request", **fields)


def add_error_answers(app: FastAPI) -> None:
    """Answer every error in the one form, `{"error": {"code", "message"}}`."""

    @app.exception_handler(VisorError)
    async def visor_error(request: Request, err: VisorError) -> Response:
        return error_answer(request, err)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, err: RequestValidationError) -> Response:
        return error_answer(request, ParameterInvalid(sentence_of(err.errors())))

    @app.exception_handler(HTTPException)
    async def of_starlette(request: Request, err: HTTPException) -> Response:
        known: dict[int, ConsoleError] = {
            404: PathUnknown("nothing is at this address; /docs lists what is"),
            405: MethodWrong("this address is not asked by this method; /docs lists by which it is"),
        }
        answer = error_answer(request, known.get(err.status_code) or ParameterInvalid(str(err.detail)))
        for name, value in (err.headers or {}).items():
            answer.headers[name] = value
        return answer


def error_answer(request: Request, err: Exception) -> Response:
    """An error's answer, with when to ask again, and how to say who asks; for a person it is a page."""
    one: Told = told(err)
    request.state.code = one.code
    if (page := html_answer(request, one)) is not None:
        return page
    headers = {} if one.retry_after_s is None else {"Retry-After": str(one.retry_after_s)}
    if isinstance(err, Unauthenticated):
        headers["WWW-Authenticate"] = CHALLENGE
    return JSONResponse(one.body(), one.status, headers)


def sentence_of(errors: Any) -> str:
    """pydantic's errors in one sentence, without the values, which may be secret or HTML."""
    return "; ".join(f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in errors)
