"""The envelope around every HTTP request: its id, its record, and `connection: close` where the server is about to stop."""

from collections.abc import Callable, Collection, Sequence

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from transformer.errors import CrossSite, RequestError, Unauthenticated
from transformer.request_log import ID_HEADER, Record
from transformer.rest.scope import REFUSAL
from transformer.service import Service
from transformer.shadow import HEADER
from transformer.tokens import AUTHORIZATION

RECORD = "visor.record"
"""The key of the request's record in an ASGI scope."""

_ID = ID_HEADER.encode()
_SHADOW = HEADER.encode()
_AUTHORIZATION = AUTHORIZATION.encode()
# Browsers alone send it, and no page can change it: https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header.
_SITE = b"sec-fetch-site"
FOREIGN = "a browser sent this for a page of another site; ask from this server's own page, or start it with --no-page"


class Envelope:
    """The ASGI app around all routes and their errors.

    Answers carry their request's id. Those of a service that drains say `connection: close`, so that the client's next request
    goes to a server that stays. An inference goes straight to its route, past the app's layers and its router, which would send
    it there too [0.06 ms later; 0.2 ms where other work has had the CPU's caches]. What is no HTTP goes to `refuse`. A request
    that lacks a token gets the answer that `answer_error` makes, before any of its body is read; `open_paths` need none. So does,
    of a server for the people of one machine (`own_site`), what a browser sends for another site's page.
    """

    def __init__(
        self,
        app: Starlette,
        service: Service,
        infer_routes: Sequence[Route],
        refuse: ASGIApp,
        answer_error: Callable[[Record, RequestError], Response],
        open_paths: Collection[str],
        own_site: bool = False,
    ) -> None:
        self.app = app
        self._refuse = refuse
        self._service = service
        self._infer_routes = infer_routes
        self._answer_error = answer_error
        self._open_paths = open_paths
        self._own_site = own_site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Nobody but a canary heeds it: no user is to hide from counts and audits by a header.
        shadow = self._service.is_canary and _header(scope, _SHADOW) is not None
        record = Record("rest", scope["path"], scope["method"], shadow=shadow)
        record.name(_header(scope, _ID) or "")
        scope[RECORD] = record

        async def send_enveloped(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                headers = [*message["headers"], (_ID, record.id.encode())]
                message["headers"] = [*headers, (b"connection", b"close")] if self._service.draining else headers
            await send(message)

        try:
            refusal = self._refuse if REFUSAL in scope else self._refusal(scope, record)
            route = refusal or self._infer_route(scope) or self.app
            await route(scope, receive, send_enveloped)
        except BaseException as err:
            record.fail(err)
            raise
        finally:
            self._service.end(record)

    def _refusal(self, scope: Scope, record: Record) -> ASGIApp | None:
        """The answer to a request that lacks a token, or is another site's; None for all that may ask."""
        if self._own_site and scope["method"] == "POST" and _header(scope, _SITE) == "cross-site":
            return self._answer_error(record, CrossSite(FOREIGN))
        if self._service.tokens is None or scope["path"] in self._open_paths:
            return None
        try:
            self._service.tokens.check(_header(scope, _AUTHORIZATION))
        except Unauthenticated as err:
            return self._answer_error(record, err)
        return None

    def _infer_route(self, scope: Scope) -> ASGIApp | None:
        """The app that answers an inference, with `path_params` in the scope; None for all other requests."""
        if scope["method"] == "POST":
            for route in self._infer_routes:
                if found := route.path_regex.match(scope["path"]):
                    scope["path_params"] = found.groupdict()
                    return route.app
        return None


def _header(scope: Scope, wanted: bytes) -> str | None:
    """A header's value, the first one where it came twice."""
    for name, value in scope["headers"]:
        if name == wanted:
            return str(value, "latin-1")
    return None
