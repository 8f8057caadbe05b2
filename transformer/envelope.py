"""What goes around every HTTP request, whatever it asks: its id, its record, and the last word of a server that stops."""

import re

from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from transformer.request_log import ID_HEADER, Record
from transformer.service import Service

RECORD = "visor.record"  # where a scope has it
_ID = ID_HEADER.encode()
_INFER = re.compile(r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?/infer")


class Envelope:
    """Around the app's routes and their errors.

    Answers carry their request's id. Those of a service that drains say `connection: close`: the client's next request goes
    to a server that stays. An inference goes straight to `infer`, where the app's layers and its router would send it too
    [0.06 ms later; 0.2 where others have had the CPU's caches].
    """

    def __init__(self, app: Starlette, service: Service, infer: ASGIApp) -> None:
        self.app = app
        self._service = service
        self._infer = infer

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
            if record.method == "POST" and (asked := _INFER.fullmatch(record.path)):
                scope["path_params"] = asked.groupdict("")
                await self._infer(scope, receive, send_enveloped)
            else:
                await self.app(scope, receive, send_enveloped)
        except BaseException as err:
            record.fail(err)
            raise
        finally:
            self._service.end(record)


def _id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == _ID:
            return str(value, "latin-1")
    return ""
