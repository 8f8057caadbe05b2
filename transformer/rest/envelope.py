"""The envelope around every HTTP request: its id, its record, and `connection: close` where the server is about to stop."""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from transformer.request_log import ID_HEADER, Record
from transformer.rest.http_protocol import REFUSAL
from transformer.service import Service

RECORD = "visor.record"
"""The key of the request's record in an ASGI scope."""

_ID = ID_HEADER.encode()


class Envelope:
    """The ASGI app around all routes and their errors.

    Answers carry their request's id. Those of a service that drains say `connection: close`, so that the client's next request
    goes to a server that stays. An inference goes straight to its route, past the app's layers and its router, which would send
    it there too [0.06 ms later; 0.2 ms where other work has had the CPU's caches]. What is no HTTP goes to `refuse`.
    """

    def __init__(self, app: Starlette, service: Service, infer_routes: Sequence[Route], refuse: ASGIApp) -> None:
        self.app = app
        self._refuse = refuse
        self._service = service
        self._infer_routes = infer_routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = Record("rest", scope["path"], scope["method"])
        record.name(_id(scope))
        scope[RECORD] = record

        async def send_enveloped(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                headers = [*message["headers"], (_ID, record.id.encode())]
                message["headers"] = [*headers, (b"connection", b"close")] if self._service.draining else headers
            await send(message)

        try:
            route = self._refuse if REFUSAL in scope else self._infer_route(scope) or self.app
            await route(scope, receive, send_enveloped)
        except BaseException as err:
            record.fail(err)
            raise
        finally:
            self._service.end(record)

    def _infer_route(self, scope: Scope) -> ASGIApp | None:
        """The app that answers an inference, with `path_params` in the scope; None for all other requests."""
        if scope["method"] == "POST":
            for route in self._infer_routes:
                if found := route.path_regex.match(scope["path"]):
                    scope["path_params"] = found.groupdict()
                    return route.app
        return None


def _id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == _ID:
            return str(value, "latin-1")
    return ""
